"""Titles of alerts: each says who did what, at which service and host, in plain words, whatever its kind."""

import re
from collections.abc import Iterator

import pytest

from collector.alerting.alert import (
    AbuseSignal,
    AlertKind,
    AlertSignal,
    Basis,
    Direction,
    HealthMeasure,
    HealthSignal,
    KindGroup,
    Place,
    Report,
    Signal,
    Subject,
)
from collector.alerting.wording import report_signal

SHOP = Place(service="shop/orders:8080", namespace="shop", host="shop.example")
CALLER = "address:192.0.2.7"
AT = 1_700_000_000
COMMON = {"endpoint_id": "e1", "endpoint_label": "GET /orders/{order_id}", "route_ids": (1,), "loss_ratio": 0.0}
COUNTED = [kind for kind in AlertKind if kind.row.group is KindGroup.ABUSE]
VOLUMES = [kind for kind in AlertKind if kind.row.group is KindGroup.VOLUME]


def make_volume(kind: AlertKind, **changes: object) -> AlertSignal:
    is_of_caller = kind.row.subject in (Subject.PAIR, Subject.CONSUMER)
    place = {"endpoint_id": "", "endpoint_label": ""} if kind.row.subject is Subject.CONSUMER else {}
    fields = {
        **COMMON, "kind": kind, "direction": Direction.ABOVE, "consumer": CALLER if is_of_caller else "",
        "calls": 1_320, "window_start": AT, "window_seconds": 300, "expected_rate": 0.5, "threshold_rate": 2.0,
        "score": 0.9, "excess": 1.0, "basis": Basis.PEERS, "novel_objects": 0, "peers": 5, **place, **changes,
    }  # fmt: skip
    return AlertSignal(**fields)  # type: ignore[arg-type]


def list_signals() -> Iterator[Signal]:
    for kind in VOLUMES:
        for basis in Basis:
            for direction in Direction:
                yield make_volume(kind, basis=basis, direction=direction)
    for measure in HealthMeasure:
        for count in (1, 3):
            kind = AlertKind.LATENCY if measure is HealthMeasure.LATENCY else AlertKind.ERRORS
            yield HealthSignal(
                **COMMON, kind=kind, measure=measure, service="shop/orders:8080", endpoints=count, calls=1_320,
                window_start=AT, window_seconds=300, observed=0.5, expected=0.1, threshold=0.2, score=0.9,
            )  # type: ignore[arg-type]  # fmt: skip
    for kind in COUNTED:
        for is_notice in (False, True):
            yield AbuseSignal(
                **COMMON, kind=kind, calls=1_320, consumer=CALLER, time=AT, seconds=600, count=1_234, ceiling=100,
                basis=Basis.PRIOR, is_notice=is_notice, sources=(), is_estimate=True, detail="sql",
            )  # type: ignore[arg-type]  # fmt: skip


REPORTS: list[Report] = [report_signal(signal, SHOP) for signal in list_signals()]
# Rates and spans of a window, severity, confidence, braces that were not filled in, and a full stop.
_GRADES = r"\bhigh\b|\bmedium\b|\blow\b|confiden|notice|severity|\bwindow\b"
NOT_PLAIN = re.compile(rf"calls/(s|min|h)|\b\d+ (s|min|h)\b|{_GRADES}|[{{}}]{{2}}|\.\Z")


@pytest.mark.parametrize("report", REPORTS, ids=lambda one: f"{one.kind}-{one.title[:60]}")
def test_a_title_names_who_and_where_in_plain_words(report: Report) -> None:
    if report.consumer:
        assert report.title.startswith(CALLER)
    named = report.kind.row.title
    has_place = report.endpoint_id and (report.kind not in COUNTED or "{where}" in named)
    if has_place:
        assert "shop/orders:8080" in report.title
    if has_place and "GET" in report.title:
        assert "GET shop.example/orders/{order_id} of shop/orders:8080" in report.title
    assert not NOT_PLAIN.search(report.title), report.title
    assert len(report.title) <= 180 and "  " not in report.title
    assert (report.service, report.namespace, report.host) == ("shop/orders:8080", "shop", "shop.example")


def test_a_count_that_is_an_estimate_says_so_in_every_title() -> None:
    counted = [one for one in REPORTS if one.kind in COUNTED and "{count}" in one.kind.row.title]
    assert counted and all("≈ 1,234" in one.title for one in counted)


def test_who_reads_one_object_after_the_other_is_described_without_a_rate() -> None:
    walk = make_volume(AlertKind.VOLUME_PAIR, novel_objects=1_320, walk="1,318 of 1,319 steps to the next number")
    assert report_signal(walk, SHOP).title == (
        f"{CALLER} reads one object after the other in order at "
        "GET shop.example/orders/{order_id} of shop/orders:8080"
    )
    posted = make_volume(AlertKind.VOLUME_PAIR, novel_objects=1_320, endpoint_label="POST /orders/{order_id}")
    assert " goes through one object after the other at POST " in report_signal(posted).title
