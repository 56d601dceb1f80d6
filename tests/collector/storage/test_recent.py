"""Answers of a large store are given again for some seconds."""

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

import pytest

from collector.core.scope import Scope, use_scope
from collector.storage import recent as module
from collector.storage.recent import RecentAnswers, find_tables

ROUTES = "SELECT route_id FROM endpoint_routes FINAL WHERE route_id IN (SELECT route_id FROM routes_hour)"


class CountingStore:
    """Answers with how often it was asked."""

    def __init__(self) -> None:
        self.asked = 0
        self.rows = 1
        self.writes: Counter[str] = Counter()

    def query_columns(self, sql: str, parameters: Mapping[str, Any] | None = None) -> dict[str, list[Any]]:
        self.asked += 1
        return {"asked": [self.asked] * self.rows}

    def count_writes(self, tables: Collection[str]) -> int:
        return sum(self.writes[table] for table in tables)


class Desk:
    """A reader with a clock of its own."""

    def __init__(self, *, is_large: bool = True) -> None:
        self.store = CountingStore()
        self.now = 0.0
        self.answers = RecentAnswers(self.store, lambda: is_large, lambda: self.now)  # type: ignore[arg-type]

    def ask(self, sql: str = ROUTES, **parameters: object) -> int:
        return int(self.answers.query_columns(sql, parameters)["asked"][0])


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_a_statement_is_asked_once_in_some_seconds(desk: Desk) -> None:
    assert desk.ask() == desk.ask() == 1
    desk.now = module.KEPT_SECONDS
    assert desk.ask() == 2


def test_other_parameters_are_another_question(desk: Desk) -> None:
    assert [desk.ask(ids=["a"]), desk.ask(ids=["b"]), desk.ask(ids=["a"])] == [1, 2, 1]


def test_another_scope_is_another_question(desk: Desk) -> None:
    desk.ask()
    with use_scope(Scope(namespaces=("shop",))):
        assert desk.ask() == 2
    assert desk.ask() == 1


def test_a_write_to_what_is_named_counts_at_once(desk: Desk) -> None:
    desk.ask()
    desk.store.writes["alerts"] += 1
    assert desk.ask() == 1
    desk.store.writes["endpoint_routes"] += 1
    assert desk.ask() == 2


def test_rows_of_calls_may_be_some_seconds_late(desk: Desk) -> None:
    desk.ask()
    desk.store.writes["rows_minute"] += 1
    assert desk.ask() == 1


def test_what_a_view_fills_changes_with_its_source() -> None:
    assert find_tables("SELECT * FROM operation_samples") == ("operation_samples", "schemas")
    assert find_tables("SELECT * FROM routes_day, rows_hour, route_sums_7") == ()


def test_a_small_store_is_always_asked() -> None:
    desk = Desk(is_large=False)
    assert [desk.ask(), desk.ask()] == [1, 2]


def test_long_answers_are_not_kept(desk: Desk) -> None:
    desk.store.rows = module.ROWS_MAX + 1
    assert [desk.ask(), desk.ask()] == [1, 2]


def test_the_oldest_answer_goes_first(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ANSWERS_MAX", 2)
    assert [desk.ask(one=one) for one in (1, 2, 1, 3)] == [1, 2, 1, 3]
    assert [desk.ask(one=1), desk.ask(one=2)] == [1, 4]


def test_nothing_is_given_again_after_rows_were_deleted(desk: Desk) -> None:
    desk.ask()
    desk.answers.forget()
    assert desk.ask() == 2
