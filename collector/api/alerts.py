"""The alerts as the API and the page need them; `collector.alerts` keeps them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from collector.alerts.alert import Alert, AlertKind, AlertState
from collector.alerts.incident import Incident, IncidentEntry


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertPlace:
    """The last alert shown: the next page holds what was opened before it (ids break ties)."""

    opened_at: float
    id: str


class AlertRepository(Protocol):
    """Reads alerts and records what people decide about them. Writers give the alert as it is after, or None when
    there is none."""

    def list_alerts(
        self, *, state: AlertState | None, kind: AlertKind | None, limit: int, after: AlertPlace | None
    ) -> Sequence[Alert]:
        """At most `limit` alerts by (opened_at, id) descending."""
        ...

    def get_alert(self, alert_id: str) -> Alert | None:
        """One alert."""
        ...

    def list_incidents(self, *, state: AlertState | None, limit: int, after: AlertPlace | None) -> Sequence[Incident]:
        """At most `limit` incidents by (opened_at, id) descending."""
        ...

    def get_incident(self, incident_id: str) -> Incident | None:
        """One incident."""
        ...

    def list_incident_alerts(self, incident_id: str) -> Sequence[Alert]:
        """Its alerts, newest first."""
        ...

    def list_entries(self, incident_id: str) -> Sequence[IncidentEntry]:
        """Its timeline, oldest first."""
        ...

    def acknowledge(self, alert_id: str, *, by: str) -> Alert | None:
        """Someone looks into it."""
        ...

    def mute(self, alert_id: str, *, by: str, until: float, reason: str) -> Alert | None:
        """Silent about its subject until a time in unix seconds."""
        ...

    def mark_expected(self, alert_id: str, *, by: str, reason: str) -> Alert | None:
        """Silent about its subject until that is undone: this is how it should be."""
        ...

    def unsilence(self, alert_id: str, *, by: str) -> Alert | None:
        """Undo either. Raises ConflictError where nothing is silenced, or by a known-good rule."""
        ...
