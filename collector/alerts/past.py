"""What detectors said lately, and how many alerts a day each level would have made of it: the same life of alerts, on
the same reports, for each level. Pure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from typing import Final

from collector.alerts.alert import AlertKind, Severity
from collector.alerts.lifecycle import Lifecycle
from collector.alerts.report import Report
from collector.alerts.sieve import Judged, Outcome
from collector.sensitivity import LEVELS, PLANS, Sensitivity, is_told

DAY_SECONDS: Final = 86_400.0
_LOOK_SECONDS: Final = 1.0  # Alerts are looked at that often, about.
# What rules and verdicts took out would be taken out at every level.
_COUNTED: Final = frozenset({Outcome.TOLD, Outcome.TOO_QUIET})


@dataclass(frozen=True, slots=True, kw_only=True)
class PastReport:
    """A row of `detector_reports`: a report without its words. Times are unix seconds."""

    time: float
    kind: AlertKind
    severity: Severity
    quietest: Sensitivity
    endpoint_id: str
    consumer: str
    is_above: bool
    window_end: float
    calm_seconds: float
    measure: float
    outcome: Outcome
    rule_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Preview:
    """What one level would have told."""

    level: Sensitivity
    budget_a_day: float  # Of alerts below high severity.
    alerts_a_day: float
    high_a_day: float  # Of those, of high severity: no budget holds them back.
    suppressed_a_day: float  # Past the budget.


def keep_report(judged: Judged, now: float) -> PastReport:
    """The row of a report."""
    report = judged.report
    return PastReport(
        time=now,
        kind=report.kind,
        severity=report.severity,
        quietest=report.quietest,
        endpoint_id=report.endpoint_id,
        consumer=report.consumer,
        is_above=report.is_above,
        window_end=report.window_end,
        calm_seconds=report.calm_seconds,
        measure=report.measure,
        outcome=judged.outcome,
        rule_id=judged.rule_id,
    )


def preview_levels(past: Sequence[PastReport], span_seconds: float) -> tuple[Preview, ...]:
    """Of each level, over reports in order of time from `span_seconds`."""
    return tuple(_preview(level, past, max(span_seconds, 1.0) / DAY_SECONDS) for level in LEVELS)


def _preview(level: Sensitivity, past: Sequence[PastReport], days: float) -> Preview:
    numbers = count()
    plan = PLANS[level]
    lifecycle = Lifecycle(new_id=lambda: str(next(numbers)), find_budget=lambda: plan.alerts_a_day)
    gravest: dict[str, Severity] = {}
    for row in past:
        if row.outcome not in _COUNTED:
            continue
        while lifecycle.next_close_at <= row.time - _LOOK_SECONDS:  # As time went by, not when somebody spoke again.
            lifecycle.advance(lifecycle.next_close_at + _LOOK_SECONDS)
        report = _rebuild(row)
        if not is_told(row.quietest, level) and not lifecycle.is_open(report):
            continue
        alert = lifecycle.take(report, row.time)
        if alert is not None:
            gravest[alert.id] = alert.severity
        lifecycle.take_entries()
    return Preview(
        level=level,
        budget_a_day=plan.alerts_a_day,
        alerts_a_day=len(gravest) / days,
        high_a_day=sum(severity is Severity.HIGH for severity in gravest.values()) / days,
        suppressed_a_day=lifecycle.suppressed_count / days,
    )


def _rebuild(row: PastReport) -> Report:
    return Report(
        kind=row.kind,
        severity=row.severity,
        title="",
        why="",
        calm_seconds=row.calm_seconds,
        window_start=row.window_end,
        window_end=row.window_end,
        is_above=row.is_above,
        endpoint_id=row.endpoint_id,
        consumer=row.consumer,
        measure=row.measure,
        quietest=row.quietest,
    )
