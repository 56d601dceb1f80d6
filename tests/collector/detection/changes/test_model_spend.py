"""Spending of tokens above the days before: what is reported, and what is not."""

from pathlib import Path
from typing import Any

import pytest

from collector.alerting.alert import AlertKind, Report, Severity
from collector.detection.changes.model_spend import TOKENS_MIN, ModelSpendWatch, find_growth
from collector.storage.embedded import EmbeddedStore
from tests.collector.inventory.models.model_calls import make_use, report_uses
from tests.collector.inventory.seed import NOW

DAY = 86_400
USUAL = [900_000, 1_000_000, 800_000]
AGENT = "workload:shop/agent"


def make_rows(today: int, before: list[int], caller: str = AGENT, model: str = "gpt-4o") -> list[dict[str, object]]:
    return [
        {"caller": caller, "provider": "openai", "model": model, "days_ago": day, "tokens": tokens}
        for day, tokens in enumerate([today, *before])
    ]


def test_more_than_three_times_the_largest_day_is_found() -> None:
    (found,) = find_growth(make_rows(3_000_001, USUAL))
    assert (found.caller, found.model, found.days) == (AGENT, "gpt-4o", 3)
    assert (found.most, found.limit) == (1_000_000, 3_000_000)


@pytest.mark.parametrize(
    ("today", "before"),
    [
        (3_000_000, USUAL),  # Three times, and not more.
        (9_000_000, USUAL[:2]),  # Known for two days.
        (9_000_000, [0, *USUAL[:2], 0]),  # A day without tokens is no day.
        (TOKENS_MIN + 100, [100, 100, 100]),  # Little.
        (9_000_000, [*[100] * 6, 4_000_000]),  # A weekly job.
        (0, USUAL),
    ],
)
def test_what_is_within_the_limit_is_not_found(today: int, before: list[int]) -> None:
    assert find_growth(make_rows(today, before)) == []


def test_the_day_before_the_compared_ones_does_not_count() -> None:
    assert find_growth(make_rows(9_000_000, [100, 100, 100, 0, 0, 0, 0, 9_000_000]))


def test_a_caller_that_is_not_known_is_not_reported() -> None:
    assert find_growth(make_rows(9_000_000, USUAL, caller="")) == []


def test_what_grew_most_comes_first() -> None:
    found = find_growth([*make_rows(4_000_000, USUAL), *make_rows(9_000_000, USUAL, model="o3")])
    assert [one.model for one in found] == ["o3", "gpt-4o"]


@pytest.mark.store
def test_a_look_reports_a_caller_once_with_the_model_that_grew_most(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path)
    try:
        for days_ago in range(5):
            seen = int(NOW) - days_ago * DAY - 3_600
            times = {"first_seen_unix_seconds": seen - 600, "last_seen_unix_seconds": seen}
            factor = 20 if days_ago == 0 else 1
            spent = [
                make_use("gpt-4o", 1_000 * factor, **times),
                make_use("o3", 1_000 * 2 * factor if days_ago == 0 else 1_000, **times),
                make_use("gpt-4o", 1_000, client_workload="shop/search", **times),
            ]
            store.insert_records("schemas", report_uses(1, *spent, generation=days_ago, now=seen + 60))
        reports: list[Report] = []
        ModelSpendWatch(reader=store, clock=lambda: NOW, report=reports.extend).look()
        (report,) = reports
        assert (report.kind, report.severity, report.consumer) == (AlertKind.MODEL_SPEND, Severity.MEDIUM, AGENT)
        assert (report.namespace, report.risk) == ("shop", "LLM10:2025")
        assert report.title == "shop/agent spends 40.0 times as many tokens on o3 as on any day before"
        assert "44,000,000 tokens in the last 24 hours. Expected were at most 3,300,000" in report.why
        assert "1 other model of this caller" in report.why
    finally:
        store.close()


def test_callers_beyond_the_bound_of_a_look_are_counted() -> None:
    class Many:
        """25 callers whose tokens grew, of 40 that the statement found."""

        def query_columns(self, sql: str, parameters: object = None) -> dict[str, list[Any]]:
            if "AS states" in sql:
                return {"states": [3]}
            count = 25
            days = [(day, tokens) for day, tokens in enumerate([9_000_000, *USUAL])]
            return {
                "caller": [f"workload:shop/a{number}" for number in range(count)],
                "provider": ["openai"] * count,
                "model": ["o3"] * count,
                "days": [days] * count,
                "callers": [40] * count,
            }

    reports: list[Report] = []
    watch = ModelSpendWatch(reader=Many(), clock=lambda: NOW, report=reports.extend, tick=lambda: 0.0)
    watch.look()
    (figure,) = watch.figures()
    assert (len(reports), figure.value) == (20, 5 + 15 + 3)


def test_a_look_is_made_each_quarter_of_an_hour() -> None:
    asked: list[str] = []

    class Counted:
        def query_columns(self, sql: str, parameters: object = None) -> dict[str, list[object]]:
            asked.append(sql)
            return {}

    ticks = iter((0.0, 0.0, 1.0, 899.0, 900.0, 901.0))  # The first when it is made.
    watch = ModelSpendWatch(reader=Counted(), clock=lambda: NOW, report=list, tick=lambda: next(ticks))
    looks = []
    for _ in range(5):
        watch.look()
        looks.append(len(asked))
    assert looks == [1, 1, 1, 2, 2]  # Whether any model was ever called.
