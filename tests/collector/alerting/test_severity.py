"""Severity and confidence are two fields, and confidence bounds severity wherever an alert comes from."""

import itertools
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from collector.alerting.alert import (
    SEVERITY_MAX,
    AlertKind,
    AlertSignal,
    Basis,
    Confidence,
    Direction,
    Report,
    Severity,
    Verdict,
)
from collector.alerting.filter import ReportFilter
from collector.alerting.lifecycle import Lifecycle
from collector.alerting.wording import report_signal
from collector.core.kinds import Sensitivity

NOW = 1_700_000_000.0


def observe(
    severity: Severity = Severity.HIGH,
    confidence: Confidence = Confidence.LOW,
    kind: AlertKind = AlertKind.VOLUME_PAIR,
    consumer: str = "address:10.0.0.9",
    at: float = NOW,
) -> Report:
    return Report(
        kind=kind, severity=severity, title="It calls", why="Much.", endpoint_id="e", consumer=consumer,
        window_start=at - 10, window_end=at, confidence=confidence, calm_seconds=600,
    )  # fmt: skip


def open_alerts(*, budget: float = 10.0) -> Lifecycle:
    ids = itertools.count(1)
    return Lifecycle(new_id=lambda: f"a{next(ids)}", find_budget=lambda: budget)


def notice(novel_objects: int = 600) -> AlertSignal:
    """A scraper in the first hour of an installation."""
    return AlertSignal(
        kind=AlertKind.VOLUME_PAIR, endpoint_id="e", endpoint_label="GET /things/{id}", route_ids=(1,), calls=600,
        loss_ratio=0.0, direction=Direction.ABOVE, consumer="address:10.0.0.9", window_start=int(NOW) - 60,
        window_seconds=60, expected_rate=0.1, threshold_rate=1.0, score=0.9, excess=2.0, basis=Basis.PRIOR,
        novel_objects=novel_objects, peers=0, is_notice=True,
    )  # fmt: skip


@pytest.mark.parametrize("confidence", Confidence)
@pytest.mark.parametrize("severity", Severity)
def test_confidence_bounds_severity(severity: Severity, confidence: Confidence) -> None:
    made = observe(severity, confidence)
    assert made.severity.rank == min(severity.rank, SEVERITY_MAX[confidence].rank)
    assert (made.severity is Severity.HIGH) == (severity is Severity.HIGH and confidence is not Confidence.LOW)


@pytest.mark.parametrize("novel_objects", [0, 600])
def test_a_volume_notice_is_never_high_and_says_why(novel_objects: int) -> None:
    report = report_signal(notice(novel_objects))
    assert report.severity is not Severity.HIGH and report.confidence is Confidence.LOW
    assert "Confidence is low" in report.why and "notice" not in report.why


@pytest.mark.parametrize(
    ("changes", "quietest"),
    [
        ({"window_seconds": 10}, Sensitivity.NORMAL),
        ({"window_seconds": 10, "endpoint_label": "PUT /things/{id}"}, Sensitivity.PARANOID),
        ({"window_seconds": 10, "kind": AlertKind.VOLUME_CONSUMER, "endpoint_label": ""}, Sensitivity.PARANOID),
        ({"window_seconds": 10, "novel_objects": 0}, Sensitivity.PARANOID),
        ({"window_seconds": 300, "kind": AlertKind.VOLUME_CONSUMER, "endpoint_label": ""}, Sensitivity.NORMAL),
        ({"window_seconds": 10, "endpoint_label": "PUT /things/{id}", "is_notice": False}, Sensitivity.QUIET),
    ],
)
def test_a_script_of_seconds_is_a_notice_at_paranoid_only_unless_it_reads_records(
    changes: dict[str, Any], quietest: Sensitivity
) -> None:
    report = report_signal(msgspec.structs.replace(notice(), **changes))
    assert report.quietest is quietest
    assert report.is_sure is (quietest is not Sensitivity.PARANOID)


def test_a_scraper_of_the_first_hour_is_reported_whatever_the_budget() -> None:
    lifecycle = open_alerts(budget=0)
    alert = lifecycle.take(report_signal(notice()), NOW)
    assert alert is not None and (alert.severity, alert.confidence) == (Severity.MEDIUM, Confidence.LOW)
    assert lifecycle.take(report_signal(notice(0)), NOW + 61) is not None  # The same alert goes on.


def test_such_an_alert_takes_nothing_of_the_budget() -> None:
    lifecycle = open_alerts(budget=1)
    assert lifecycle.take(report_signal(notice()), NOW) is not None
    assert lifecycle.take(observe(Severity.MEDIUM, consumer="address:10.0.0.8"), NOW) is not None
    assert lifecycle.take(observe(Severity.MEDIUM, consumer="address:10.0.0.7"), NOW) is None


def test_a_person_who_confirms_an_attack_does_not_make_a_guess_high() -> None:
    report_filter, lifecycle = ReportFilter(), open_alerts()
    alert = lifecycle.take(observe(), NOW)
    assert alert is not None
    report_filter.note_verdict(replace(alert, verdict=Verdict.CONFIRMED, verdict_at=NOW))
    filtered = report_filter.apply(replace(observe(), quietest=Sensitivity.PARANOID), NOW + 1, is_open=False)
    assert filtered.report.is_sure and filtered.report.severity is Severity.MEDIUM


def test_a_sure_report_raises_both_fields_of_an_open_notice() -> None:
    lifecycle = open_alerts()
    lifecycle.take(observe(), NOW)
    alert = lifecycle.take(observe(confidence=Confidence.HIGH, at=NOW + 60), NOW + 61)
    assert alert is not None and (alert.severity, alert.confidence) == (Severity.HIGH, Confidence.HIGH)


def test_a_graver_report_that_joins_brings_its_confidence() -> None:
    lifecycle = open_alerts()
    lifecycle.take(observe(), NOW)  # Of a pair, which is more specific than the consumer's.
    sure = observe(confidence=Confidence.MEDIUM, kind=AlertKind.VOLUME_CONSUMER)
    alert = lifecycle.take(sure, NOW + 61)
    assert alert is not None and alert.kind is AlertKind.VOLUME_PAIR
    assert (alert.severity, alert.confidence) == (Severity.HIGH, Confidence.MEDIUM)


def test_a_later_notice_lowers_neither_field() -> None:
    lifecycle = open_alerts()
    lifecycle.take(observe(confidence=Confidence.HIGH), NOW)
    alert = lifecycle.take(observe(at=NOW + 60), NOW + 61)
    assert alert is not None and (alert.severity, alert.confidence) == (Severity.HIGH, Confidence.HIGH)
