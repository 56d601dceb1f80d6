"""Decides what becomes of a detector's report before an alert: by level, known-good rules and verdicts of people. Pure.

- A known-good rule matches: nothing is sent, and the report is counted.
- Somebody gave the verdict `false_alarm` on an alert: the same subject raises nothing up to ALLOWED_FACTOR times what
  was seen then. If the subject fell, it raises nothing down to that part of it. More is news again, and so is the
  other direction. Of a change it allows nothing: the next one is another. Of a kind that depends on what an endpoint is
  for it allows everything of all callers of the endpoint, but what is sure.
- Somebody gave the verdict `confirmed`: for CONFIRMED_SECONDS everything of that consumer is sent at every level, one
  severity higher, whatever the budget. Of somebody who sees a part of the installation this holds in the alert's
  namespace alone.
- The report is louder than the level: it is counted only. An open alert goes on.
"""

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from collector.alerting.alert import Alert, AlertKind, Report, Severity, Verdict, VerdictReach
from collector.alerting.lifecycle import Lifecycle
from collector.alerting.silences import KnownGood
from collector.core.kinds import Sensitivity, is_sent_at

ALLOWED_FACTOR: Final = 1.5
CONFIRMED_SECONDS: Final = 7 * 86_400.0
_Reach = tuple[str, VerdictReach, str]  # A consumer, and the namespace or endpoint by its name.
_HIGHER: Final = {Severity.LOW: Severity.MEDIUM, Severity.MEDIUM: Severity.HIGH, Severity.HIGH: Severity.HIGH}


class ReportOutcome(StrEnum):
    """What became of a report."""

    SENT = "told"
    KNOWN_GOOD = "known_good"
    FALSE_ALARM = "false_alarm"
    TOO_QUIET = "too_quiet"  # The level is quieter than it.


@dataclass(frozen=True, slots=True)
class FilteredReport:
    """A report, perhaps graver than it came, and what becomes of it."""

    report: Report
    outcome: ReportOutcome
    rule_id: str = ""


class ReportFilter:
    """Rules and decisions in force. Not thread-safe."""

    def __init__(self, level: Sensitivity = Sensitivity.NORMAL) -> None:
        self.level = level
        self.rules: dict[str, KnownGood] = {}
        self.counts: Counter[ReportOutcome] = Counter()
        self._allowed: dict[tuple[str, bool], float] = {}  # By subject, and whether it is above what is usual.
        self._meant: set[tuple[AlertKind, str]] = set()  # Endpoints that do what is a kind of alert elsewhere.
        self._confirmed: dict[_Reach, float] = {}  # Until when.

    def restore(self, rules: Iterable[KnownGood], alerts: Iterable[Alert]) -> None:
        """Take up what the store knows."""
        self.rules = {rule.id: rule for rule in rules}
        self.restore_verdicts(alerts)

    def restore_verdicts(self, alerts: Iterable[Alert]) -> None:
        """Those of the store alone, oldest first."""
        self._allowed, self._meant, self._confirmed = {}, set(), {}
        for alert in alerts:
            self.note_verdict(alert)

    def note_verdict(self, alert: Alert) -> None:
        """What somebody said of an alert, or took back."""
        subject = alert.subject
        is_above = alert.observed_rate >= alert.expected_rate  # Of what is no rate both are 0.
        # Who sees a part allows a consumer nothing beyond it.
        if alert.verdict_reach is VerdictReach.EVERYWHERE or alert.is_within_endpoint:
            self._allowed.pop((subject, is_above), None)
            if alert.verdict is Verdict.FALSE_ALARM and not alert.kind.row.is_once:
                factor = ALLOWED_FACTOR if is_above else 1 / ALLOWED_FACTOR
                self._allowed[subject, is_above] = factor * alert.measure
            if alert.kind.row.is_of_design and alert.endpoint_id:
                meant = alert.kind, alert.endpoint_id
                (self._meant.add if alert.verdict is Verdict.FALSE_ALARM else self._meant.discard)(meant)
        reach = _find_reach(alert)
        if reach is None:
            return
        self._confirmed.pop(reach, None)
        if alert.verdict_reach is VerdictReach.EVERYWHERE:
            self._confirmed = {one: until for one, until in self._confirmed.items() if one[0] != alert.consumer}
        if alert.verdict is Verdict.CONFIRMED and alert.verdict_at is not None:
            self._confirmed[reach] = alert.verdict_at + CONFIRMED_SECONDS

    def erase(self, pattern: re.Pattern[str]) -> None:
        """Forget what holds of a consumer that a pattern names; in what people wrote of others it is blanked."""
        self._allowed = {one: allowed for one, allowed in self._allowed.items() if not pattern.search(one[0])}
        self._confirmed = {one: until for one, until in self._confirmed.items() if not pattern.search(one[0])}
        self.rules = {
            rule_id: replace(rule, note=pattern.sub("erased", rule.note))
            for rule_id, rule in self.rules.items()
            if not pattern.search(rule.consumer)
        }

    def apply(self, report: Report, now: float, *, is_open: bool) -> FilteredReport:
        """`is_open`: an alert of the subject is open."""
        filtered = self._apply(report, now, is_open)
        self.counts[filtered.outcome] += 1
        return filtered

    def _apply(self, report: Report, now: float, is_open: bool) -> FilteredReport:
        for rule in self.rules.values():
            if rule.holds(now) and rule.matches(report):
                return FilteredReport(report, ReportOutcome.KNOWN_GOOD, rule.id)
        allowed = self._allowed.get((report.subject, report.is_above))
        if allowed is not None and (report.measure <= allowed if report.is_above else report.measure >= allowed):
            return FilteredReport(report, ReportOutcome.FALSE_ALARM)
        if any(self._confirmed.get(reach, 0.0) > now for reach in _list_reaches(report)):
            return FilteredReport(replace(report, severity=_HIGHER[report.severity], is_sure=True), ReportOutcome.SENT)
        if (report.kind, report.endpoint_id) in self._meant and not report.is_sure:
            return FilteredReport(report, ReportOutcome.FALSE_ALARM)
        if is_open or is_sent_at(report.quietest, self.level):
            return FilteredReport(report, ReportOutcome.SENT)
        return FilteredReport(report, ReportOutcome.TOO_QUIET)


def _find_reach(alert: Alert) -> _Reach | None:
    """What a verdict on an alert is of; None where that is not known."""
    if not alert.consumer:
        return None
    match alert.verdict_reach:
        case VerdictReach.EVERYWHERE:
            return alert.consumer, alert.verdict_reach, ""
        case VerdictReach.NAMESPACE if alert.namespace:
            return alert.consumer, alert.verdict_reach, alert.namespace
        case _:
            return (alert.consumer, VerdictReach.ENDPOINT, alert.endpoint_id) if alert.endpoint_id else None


def _list_reaches(report: Report) -> tuple[_Reach, ...]:
    """What verdicts that hold for a report are of."""
    return (
        (report.consumer, VerdictReach.EVERYWHERE, ""),
        (report.consumer, VerdictReach.NAMESPACE, report.namespace),
        (report.consumer, VerdictReach.ENDPOINT, report.endpoint_id),
    )


def take_report(
    report: Report, report_filter: ReportFilter, lifecycle: Lifecycle, now: float
) -> tuple[FilteredReport, Alert | None]:
    """Filter a detector's report and pass it to the life of alerts: what became of it, and the alert as changed."""
    filtered = report_filter.apply(report, now, is_open=lifecycle.is_open(report))
    return filtered, lifecycle.take(filtered.report, now) if filtered.outcome is ReportOutcome.SENT else None
