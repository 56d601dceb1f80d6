"""The life of alerts and incidents as a pure state machine: reports in, changed alerts out. Time is an argument.

- No alert: a report opens one while the daily budget lasts. High severity and sensors' reports open one in any case.
  Past the budget it is counted as suppressed, once an episode.
- Open: a report of its subject updates it, at most once in UPDATE_SECONDS. The newest that came sooner follows then.
  A report of the same event on another level joins as evidence, and the most specific one names the alert. Without a
  report for calm_seconds the alert closes. Where its service was not known yet, it is added within PLACE_SECONDS.
- Closed: a report within FLAP_SECONDS opens the same alert again.
- The clock goes back: times in a future that no longer exists count as now.

An incident is everything that one actor did, alert after alert, with a timeline. An actor is a consumer, or the
endpoint or node where an alert names no consumer. An alert belongs to the incident of its actor if at most
INCIDENT_SECONDS have passed since its last report. Otherwise it begins a new incident, which has its id.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from functools import partial
from itertools import islice
from math import inf
from typing import Any, Final

from collector.alerting.alert import (
    Alert,
    AlertKind,
    AlertState,
    Confidence,
    KindGroup,
    Observation,
    Place,
    Report,
    Severity,
    calm_after_count,
    calm_after_window,
)
from collector.core.kinds import PLANS, Sensitivity
from common.bounded import BoundedDict

INCIDENT_SECONDS = 86_400.0
_ACTORS_MAX = 10_000  # The one heard of longest ago is forgotten, and begins a new incident.


class Happening(StrEnum):
    """What an entry of a timeline says."""

    OPENED = "opened"  # An alert.
    JOINED = "joined"  # Another detector, or another endpoint, says something of the same actor.
    GREW = "grew"  # The same, and more of it.
    CLOSED = "closed"
    REOPENED = "reopened"
    ACKNOWLEDGED = "acknowledge"
    MUTED = "mute"
    EXPECTED = "expect"
    UNEXPECTED = "unexpect"
    UNMUTED = "unmute"
    CONFIRMED = "confirmed"
    FALSE_ALARM = "false_alarm"
    NO_VERDICT = "no_verdict"


@dataclass(frozen=True, slots=True, kw_only=True)
class IncidentEntry:
    """One entry of a timeline: a row of `incident_entries`."""

    incident_id: str
    time: float  # Unix seconds.
    alert_id: str
    happening: Happening
    kind: AlertKind
    severity: Severity
    title: str
    why: str  # Of a decision: who made it.


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """One actor's alerts together. Times are unix seconds."""

    id: str
    actor: str  # `kind:value` of a consumer, an endpoint's id or a node.
    state: AlertState  # Open while one of its alerts is, else silenced while one of them is.
    severity: Severity  # The gravest.
    title: str  # Of the newest alert.
    kinds: tuple[AlertKind, ...]
    risks: tuple[str, ...]  # OWASP ids.
    alerts: int
    opened_at: float
    updated_at: float


class Incidents:
    """Which incident an actor's next alert belongs to."""

    def __init__(self) -> None:
        self._by_actor: BoundedDict[str, tuple[str, float]] = BoundedDict(_ACTORS_MAX)

    def find(self, alert_id: str, actor: str, now: float) -> str:
        """The incident of a new alert."""
        known = self._by_actor.get(actor)
        incident_id = known[0] if known is not None and now - known[1] <= INCIDENT_SECONDS else alert_id
        self.note(incident_id, actor, now)
        return incident_id

    def note(self, incident_id: str, actor: str, now: float) -> None:
        """The actor was heard of."""
        self._by_actor.renew(actor, (incident_id, now))

    def erase(self, pattern: re.Pattern[str]) -> None:
        """Forget actors that a pattern names."""
        for actor in [actor for actor in self._by_actor if pattern.search(actor)]:
            del self._by_actor[actor]


def write_entry(alert: Alert, happening: Happening, time: float, title: str = "", why: str = "") -> IncidentEntry:
    """What happened to an alert; title and why are the alert's where none are given."""
    return IncidentEntry(
        incident_id=alert.incident_id,
        time=time,
        alert_id=alert.id,
        happening=happening,
        kind=alert.kind,
        severity=alert.severity,
        title=title or alert.title,
        why=why or alert.why,
    )


UPDATE_SECONDS = 60.0
FLAP_SECONDS = 3_600.0
_DAY_SECONDS = 86_400.0
BUDGET_SECONDS_MAX = 4 * _DAY_SECONDS  # What the quietest budget looks back.
_EVIDENCE_MAX = 5  # Named in an alert; more add nothing for a person.
_ALSO = " Also: "
_CALM_SECONDS_RESTORED = 600.0
_WINDOW_SECONDS_MAX = 3_600.0  # Of a detector.
_SUPPRESSED_MAX = 10_000
_CLOSED_MAX = 1_000
# A report of the first and an open alert of the second kind, one of a service, the other at one of its endpoints: one
# happening. Routes say so, which are stored with the alert.
_SERVICE_JOINS = frozenset(
    {
        (AlertKind.VOLUME_SERVICE, AlertKind.VOLUME_ENDPOINT),
        (AlertKind.VOLUME_SERVICE, AlertKind.VOLUME_PAIR),
        (AlertKind.VOLUME_ENDPOINT, AlertKind.VOLUME_SERVICE),
    }
)
# A call may be reported before its endpoint is in the tables; so long after an alert was opened it is looked for.
PLACE_SECONDS = 60.0
_ASKED_MAX = 20  # So many are looked for at once: each is a question to the store.
_PLACE: Final = tuple(field.name for field in fields(Place))
CHANGE_SECONDS = _DAY_SECONDS  # An alert about a change stays open, and what else changes joins it.


@dataclass(slots=True)
class _LiveAlert:
    """What an alert needs while it may still change."""

    alert: Alert
    calm_seconds: float
    last_report_at: float
    is_above: bool
    why: str  # Without evidence.
    evidence: list[str] = field(default_factory=list)
    subjects: set[str] = field(default_factory=set)
    waiting: Report | None = None  # The newest of its own that came too soon after the last update.
    is_restored: bool = False  # Then of its subjects its own is known, and not what had joined.


class Lifecycle:
    """All open alerts, and those closed so lately that they may open again. Not thread-safe."""

    def __init__(
        self,
        *,
        new_id: Callable[[], str],
        find_budget: Callable[[], float] = lambda: PLANS[Sensitivity.NORMAL].alerts_a_day,
    ) -> None:
        """`find_budget`: alerts below high severity that detectors may open a day, whole installation; below 1 it is
        one in so many days."""
        self._new_id = new_id
        self._find_budget = find_budget
        self._lives: dict[str, _LiveAlert] = {}
        self._closed: dict[str, _LiveAlert] = {}
        self._opened_at: list[float] = []  # Of the last 24 h, what counts against the budget.
        self._suppressed: BoundedDict[str, float] = BoundedDict(_SUPPRESSED_MAX)
        self._incidents = Incidents()
        self._entries: list[IncidentEntry] = []
        self.suppressed_count = 0

    @property
    def open_alerts(self) -> tuple[Alert, ...]:
        """Open alerts, oldest first."""
        return tuple(life.alert for life in self._lives.values())

    @property
    def next_close_at(self) -> float:
        """When the first of the open alerts is calm, unless it is reported again; infinite where none is open."""
        return min((life.last_report_at + life.calm_seconds for life in self._lives.values()), default=inf)

    def restore(self, alerts: Iterable[Alert]) -> None:
        """Take up what the state knows, and nothing else: open alerts and recent ones."""
        self._lives, self._closed, self._opened_at, self._entries = {}, {}, [], []
        self._incidents = Incidents()
        for alert in sorted(alerts, key=lambda alert: alert.opened_at):
            is_above = alert.observed_rate >= alert.expected_rate
            why, evidence = _split_why(alert.why)
            life = _LiveAlert(
                alert, _recall_calm(alert), alert.updated_at, is_above, why, evidence, {alert.subject}, is_restored=True
            )
            (self._lives if alert.state is AlertState.OPEN else self._closed)[alert.id] = life
            if _is_budgeted(alert.kind, alert.severity):
                self._opened_at.append(alert.opened_at)
            self._incidents.note(alert.incident_id or alert.id, alert.actor, alert.updated_at)

    def is_open(self, report: Report) -> bool:
        """Whether an alert of the report's own subject is open."""
        return any(report.subject in life.subjects for life in self._lives.values())

    def take_entries(self) -> list[IncidentEntry]:
        """What the timelines of incidents gained since this was asked last."""
        entries, self._entries = self._entries, []
        return entries

    def take(self, report: Report, now: float) -> Alert | None:
        """The alert as changed by a report; None where nothing is to be stored."""
        life = _find(self._lives.values(), report, can_join=lambda life: True)
        if life is not None:
            return self._update(life, report, now)
        life = self._find_closed(report, now)
        if life is not None:
            if report.window_end <= life.alert.window_end:
                return None  # Told again after a restart.
            return self._reopen(life, report, now)
        if self._is_over_budget(report, now):
            return None
        return self._open(report, now)

    def advance(self, now: float) -> list[Alert]:
        """Say what waited, close what has been calm for long enough; forget what closed long ago."""
        changed = []
        for life in list(self._lives.values()):
            life.last_report_at = min(life.last_report_at, now)
            if life.waiting is not None and now - life.alert.updated_at >= UPDATE_SECONDS:
                reported_at = life.last_report_at
                self._update(life, life.waiting, now)
                life.last_report_at = reported_at
                changed.append(life.alert)
            if now - life.last_report_at < life.calm_seconds:
                continue
            changed.append(self._close(life, now))
        kept = [(i, life) for i, life in self._closed.items() if now - (life.alert.closed_at or now) < FLAP_SECONDS]
        self._closed = dict(kept[-_CLOSED_MAX:])
        return changed

    def place(self, find: Callable[[str, Sequence[int]], Place], now: float) -> list[Alert]:
        """Alerts opened lately whose service was not known, where it is now. Only those are asked for."""
        placed = []
        for life in list(islice(filter(partial(_lacks_place, now=now), self._lives.values()), _ASKED_MAX)):
            alert = life.alert
            found = find(alert.endpoint_id, alert.route_ids)
            if found.service:
                life.alert = replace(alert, **asdict(found), updated_at=max(now, alert.updated_at))
                placed.append(life.alert)
        return placed

    def settle(self, kind: AlertKind, node: str, now: float) -> Alert | None:
        """Close a sensor's alert at once: it healed."""
        found = (life for life in self._lives.values() if life.alert.kind is kind and life.alert.node == node)
        life = next(found, None)
        return self._close(life, now) if life is not None else None

    def change(self, alert: Alert) -> None:
        """Take what a person changed on an alert (acknowledged, a verdict)."""
        for lives in (self._lives, self._closed):
            if alert.id in lives:
                lives[alert.id].alert = alert

    def erase(self, pattern: re.Pattern[str]) -> int:
        """Forget all that names a consumer by this pattern; how many alerts that were."""

        def names(life: _LiveAlert) -> bool:
            texts = (life.alert.consumer, life.alert.title, life.alert.why, life.why, *life.evidence, *life.subjects)
            return any(pattern.search(text) for text in texts)

        gone = [alert_id for lives in (self._lives, self._closed) for alert_id, life in lives.items() if names(life)]
        for alert_id in gone:
            self._lives.pop(alert_id, None)
            self._closed.pop(alert_id, None)
        for subject in [subject for subject in self._suppressed if pattern.search(subject)]:
            del self._suppressed[subject]
        self._entries = [one for one in self._entries if not pattern.search(f"{one.title} {one.why}")]
        self._incidents.erase(pattern)
        return len(gone)

    def _find_closed(self, report: Report, now: float) -> _LiveAlert | None:
        # What closed in a future that the clock took back says nothing of now.
        lately = [one for one in self._closed.values() if 0 <= now - (one.alert.closed_at or now) < FLAP_SECONDS]
        return _find(lately, report, can_join=lambda life: life.is_restored and bool(life.evidence))

    def _open(self, report: Report, now: float) -> Alert:
        alert_id = self._new_id()
        alert = Alert(
            id=alert_id,
            incident_id=self._incidents.find(alert_id, report.actor, now),
            state=AlertState.OPEN,
            opened_at=now,
            closed_at=None,
            **_describe(report, now),
        )
        life = _LiveAlert(alert, report.calm_seconds, now, report.is_above, report.why, [], {report.subject})
        self._lives[alert.id] = life
        if _is_budgeted(report.kind, report.severity) and not report.is_sure:
            self._opened_at.append(now)
        self._suppressed.pop(report.subject, None)
        self._note(alert, Happening.OPENED, now)
        return alert

    def _close(self, life: _LiveAlert, now: float) -> Alert:
        life.alert = replace(life.alert, state=AlertState.CLOSED, closed_at=now, updated_at=now)
        self._closed[life.alert.id] = self._lives.pop(life.alert.id)
        self._note(life.alert, Happening.CLOSED, now)
        return life.alert

    def _reopen(self, life: _LiveAlert, report: Report, now: float) -> Alert:
        self._closed.pop(life.alert.id)
        self._lives[life.alert.id] = life
        life.alert = replace(life.alert, state=AlertState.OPEN, closed_at=None, updated_at=now)
        life.last_report_at = now
        self._note(life.alert, Happening.REOPENED, now, report)
        return life.alert

    def _update(self, life: _LiveAlert, report: Report, now: float) -> Alert | None:
        life.last_report_at = now
        life.calm_seconds = max(life.calm_seconds, report.calm_seconds)
        is_new = report.subject not in life.subjects
        # That an endpoint is called more says nothing of whom an alert names.
        is_other = bool(life.alert.consumer) and not report.consumer
        severity = life.alert.severity if is_other else report.severity
        rises = severity.rank > life.alert.severity.rank
        is_own = report.subject == life.alert.subject
        is_grave = report.severity.rank >= life.alert.severity.rank  # A notice names nobody in a graver alert.
        names_it = is_new and is_grave and report.kind.row.specificity > life.alert.kind.row.specificity
        if is_new:
            life.subjects.add(report.subject)
            joining = life.alert.title if names_it else report.title
            if joining not in life.evidence:  # Else it was there before a restart.
                life.evidence = [*life.evidence, joining][:_EVIDENCE_MAX]
                self._note(life.alert, Happening.JOINED, now, report)
        if not (is_new or rises) and now - life.alert.updated_at < UPDATE_SECONDS:
            life.waiting = report if is_own else life.waiting
            return None
        life.waiting = None
        if not is_new and not report.kind.row.is_windowed:  # Those say so in every window.
            self._note(life.alert, Happening.GREW, now, report)
        severity, confidence = life.alert.severity, life.alert.confidence
        if not is_other:  # The gravest of them, and how sure that one is.
            severity, confidence = max(_grade(report), _grade(life.alert), key=lambda one: (one[0].rank, one[1].rank))
        if names_it or is_own:
            life.why = report.why
            described = _describe(report, now)
            if not report.service:  # It came before its endpoint was in the tables.
                described |= {name: getattr(life.alert, name) for name in _PLACE}
            life.alert = replace(life.alert, **described)
        why = _join_why(life.why, life.evidence)
        life.alert = replace(life.alert, severity=severity, confidence=confidence, why=why, updated_at=now)
        return life.alert

    def _is_over_budget(self, report: Report, now: float) -> bool:
        if report.is_sure or not _is_budgeted(report.kind, report.severity):
            return False
        budget = self._find_budget()
        span = _DAY_SECONDS / min(budget, 1.0) if budget > 0 else _DAY_SECONDS
        self._opened_at = [min(time, now) for time in self._opened_at if now - time < BUDGET_SECONDS_MAX]
        if sum(now - time < span for time in self._opened_at) < (max(budget, 1.0) if budget > 0 else 0):
            return False
        last = self._suppressed.get(report.subject)
        if last is None or now - last > FLAP_SECONDS:
            self.suppressed_count += 1
        self._suppressed.renew(report.subject, now)
        return True

    def _note(self, alert: Alert, happening: Happening, now: float, report: Report | None = None) -> None:
        """One entry more of the alert's incident, in the words of a report where there is one."""
        self._incidents.note(alert.incident_id, alert.actor, now)
        title, why = (report.title, report.why) if report is not None else ("", "")
        self._entries.append(write_entry(alert, happening, now, title, why))
        if report is not None and report.consumer:  # What is of a consumer's is later of its incident too.
            self._incidents.note(alert.incident_id, report.consumer, now)


def _grade(one: Observation) -> tuple[Severity, Confidence]:
    return one.severity, one.confidence


_OBSERVED: Final = tuple(field.name for field in fields(Observation))


def _lacks_place(life: _LiveAlert, now: float) -> bool:
    alert = life.alert
    is_somewhere = bool(alert.endpoint_id or alert.route_ids)
    return is_somewhere and not alert.service and now - alert.opened_at <= PLACE_SECONDS


def _describe(report: Report, now: float) -> dict[str, Any]:
    """The fields of an alert that a report gives."""
    return {name: getattr(report, name) for name in _OBSERVED} | {"updated_at": now}


def _join_why(why: str, evidence: list[str]) -> str:
    """With what joined it."""
    return f"{why}{_ALSO}{'; '.join(evidence)}." if evidence else why


def _split_why(text: str) -> tuple[str, list[str]]:
    """The inverse."""
    why, also, joined = text.rpartition(_ALSO)
    return (why, joined.removesuffix(".").split("; ")) if also else (text, [])


def _recall_calm(alert: Alert) -> float:
    """What the report said that named it; not less than _CALM_SECONDS_RESTORED, for the detectors begin to report."""
    group, seconds, calm = alert.kind.row.group, alert.window_end - alert.window_start, 0.0
    if group is KindGroup.CHANGE:
        return CHANGE_SECONDS
    if alert.kind.row.is_windowed:
        calm = calm_after_window(min(seconds, _WINDOW_SECONDS_MAX))
    elif group is KindGroup.ABUSE:
        calm = calm_after_count(seconds)
    return max(calm, _CALM_SECONDS_RESTORED)


def _is_budgeted(kind: AlertKind, severity: Severity) -> bool:
    return kind.row.is_detected and severity is not Severity.HIGH


def _find(lives: Iterable[_LiveAlert], report: Report, can_join: Callable[[_LiveAlert], bool]) -> _LiveAlert | None:
    """That of the report's subject, or else the first that is the same happening on another level."""
    related = None
    for life in lives:
        if report.subject in life.subjects:
            return life
        if related is None and can_join(life) and _is_same_happening(life, report):
            related = life
    return related


def _is_same_happening(life: _LiveAlert, report: Report) -> bool:
    """One scraper crosses the limits of its pair, of itself and of the endpoint, perhaps of several endpoints: one
    alert."""
    alert, row, other = life.alert, report.kind.row, life.alert.kind.row
    if not (row.is_detected and other.is_detected) or report.is_above != life.is_above:
        return False
    if (report.kind, alert.kind) in _SERVICE_JOINS and not set(report.route_ids).isdisjoint(alert.route_ids):
        return True
    if (report.consumer or alert.consumer) and KindGroup.HEALTH in (row.group, other.group):
        return False  # That a service fails is another happening than what one of its callers does.
    if (row.group is KindGroup.CHANGE) != (other.group is KindGroup.CHANGE):
        return False  # An alert about a change stays open for a day: what is done meanwhile would join it unnoticed.
    if report.consumer and alert.consumer:
        return report.consumer == alert.consumer
    if not (row.is_windowed or other.is_windowed) and report.consumer != alert.consumer:
        return False  # A crowd is another happening than one of its members.
    return bool(report.endpoint_id) and report.endpoint_id == alert.endpoint_id
