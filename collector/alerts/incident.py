"""The incident: all that one actor did, alert after alert, with a timeline.

An actor is a consumer; where an alert names none, the endpoint or the node. An alert belongs to the incident of its
actor while not more than INCIDENT_SECONDS have passed since its last report, else it begins a new one, which has its
id.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from collector.alerts.alert import Alert, AlertKind, AlertState, Severity

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
        self._by_actor: dict[str, tuple[str, float]] = {}

    def find(self, alert_id: str, actor: str, now: float) -> str:
        """The incident of a new alert."""
        known = self._by_actor.get(actor)
        incident_id = known[0] if known is not None and now - known[1] <= INCIDENT_SECONDS else alert_id
        self.note(incident_id, actor, now)
        return incident_id

    def note(self, incident_id: str, actor: str, now: float) -> None:
        """The actor was heard of."""
        self._by_actor.pop(actor, None)
        self._by_actor[actor] = (incident_id, now)
        if len(self._by_actor) > _ACTORS_MAX:
            del self._by_actor[next(iter(self._by_actor))]

    def erase(self, pattern: re.Pattern[str]) -> None:
        """Forget actors that a pattern names."""
        self._by_actor = {actor: known for actor, known in self._by_actor.items() if not pattern.search(actor)}


def name_actor(endpoint_id: str, consumer: str, node: str) -> str:
    """Who an alert is about."""
    return consumer or endpoint_id or node


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
