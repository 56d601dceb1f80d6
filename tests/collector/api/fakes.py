"""Stand-ins for tests of the API: alerts in memory."""

from collections import Counter
from dataclasses import replace
from operator import attrgetter
from typing import Unpack

from collector.alerting.alert import Alert, AlertKind, AlertState, Severity
from collector.alerting.lifecycle import Happening, Incident, IncidentEntry, write_entry
from collector.alerting.repository import AlertFilters, AlertPlace
from collector.alerting.service import AlertService
from collector.alerting.silences import ShownAlert, Silence, SilenceKind, show_alert
from collector.core.errors import ConflictError
from tests.collector.inventory.seed import NOW


def make_alert(alert_id: str, **columns: object) -> Alert:
    """An open alert about the first endpoint."""
    alert = Alert(
        id=alert_id,
        kind=AlertKind.VOLUME_PAIR,
        state=AlertState.OPEN,
        severity=Severity.HIGH,
        title="address:10.0.0.9 calls GET /orders/{orderId} 40 times as often as it did",
        why="10.4 calls a second over 60 s against 0.26 expected.",
        endpoint_id="ep0001",
        route_ids=(1,),
        consumer="address:10.0.0.9",
        node="",
        opened_at=NOW - 60,
        updated_at=NOW - 5,
        closed_at=None,
        window_start=NOW - 65,
        window_end=NOW - 5,
        observed_rate=10.4,
        expected_rate=0.26,
        threshold_rate=2.0,
        score=0.97,
        calls=624,
        loss_ratio=0.0,
    )
    return replace(alert, **columns)  # type: ignore[arg-type]


_COMPARED = ("state", "kind", "severity", "confidence", "service", "namespace", "consumer")


class MemoryAlerts(AlertService):
    """An alert service over a dictionary."""

    def __init__(self, *alerts: Alert) -> None:
        self.alerts = {alert.id: alert for alert in alerts}
        self.silences: dict[str, Silence] = {}

    def list_alerts(
        self, *, limit: int, after: AlertPlace | None = None, **asked: Unpack[AlertFilters]
    ) -> list[ShownAlert]:
        found = sorted(map(self._show, self.alerts.values()), key=attrgetter("opened_at", "id"), reverse=True)
        return [
            alert
            for alert in found
            if all(getattr(alert, name) == asked.get(name) for name in _COMPARED if asked.get(name))
            and (after is None or (alert.opened_at, alert.id) < (after.opened_at, after.id))
        ][:limit]

    def count_alerts(self, **asked: Unpack[AlertFilters]) -> dict[tuple[AlertState, Severity], int]:
        return Counter((alert.state, alert.severity) for alert in self.list_alerts(limit=1_000, **asked))

    def count_open(self) -> dict[Severity, int]:
        return Counter(alert.severity for alert in self.list_alerts(limit=1_000, state=AlertState.OPEN))

    def _show(self, alert: Alert) -> ShownAlert:
        return show_alert(alert, self.silences.get(alert.id))

    def get_alert(self, alert_id: str) -> ShownAlert | None:
        alert = self.alerts.get(alert_id)
        return self._show(alert) if alert is not None else None

    def list_incidents(self, *, state: AlertState | None, limit: int, after: AlertPlace | None) -> list[Incident]:
        ids = sorted({alert.incident_id for alert in self.alerts.values()} - {""}, reverse=True)
        found = [incident for incident in map(self.get_incident, ids) if incident is not None]
        kept = [incident for incident in found if state is None or incident.state is state]
        return [incident for incident in kept if after is None or incident.id < after.id][:limit]

    def get_incident(self, incident_id: str) -> Incident | None:
        own = self.list_incident_alerts(incident_id)
        if not own:
            return None
        return Incident(
            id=incident_id,
            actor=own[0].consumer,
            state=own[0].state,
            severity=own[0].severity,
            title=own[0].title,
            kinds=(own[0].kind,),
            risks=(own[0].risk,),
            alerts=len(own),
            opened_at=own[0].opened_at,
            updated_at=own[0].updated_at,
        )

    def list_incident_alerts(self, incident_id: str) -> list[ShownAlert]:
        return [self._show(alert) for alert in self.alerts.values() if alert.incident_id == incident_id]

    def list_entries(self, incident_id: str) -> list[IncidentEntry]:
        return [write_entry(alert, Happening.OPENED, NOW) for alert in self.list_incident_alerts(incident_id)]

    def acknowledge(self, alert_id: str, *, by: str) -> ShownAlert | None:
        if alert_id in self.alerts:
            alert = replace(self.alerts[alert_id], acknowledged_by=by, acknowledged_at=NOW)
            self.alerts[alert_id] = alert
        return self.get_alert(alert_id)

    def _silence(
        self, alert_id: str, kind: SilenceKind, by: str, until: float | None, reason: str
    ) -> ShownAlert | None:
        if alert_id in self.alerts:
            self.silences[alert_id] = Silence(kind=kind, by=by, at=NOW, reason=reason, until=until, alert_id=alert_id)
        return self.get_alert(alert_id)

    def mute(self, alert_id: str, *, by: str, until: float, reason: str = "") -> ShownAlert | None:
        return self._silence(alert_id, SilenceKind.MUTED, by, until, reason)

    def mark_expected(self, alert_id: str, *, by: str, reason: str = "") -> ShownAlert | None:
        return self._silence(alert_id, SilenceKind.EXPECTED, by, None, reason)

    def unsilence(self, alert_id: str, *, by: str) -> ShownAlert | None:
        if alert_id in self.alerts and self.silences.pop(alert_id, None) is None:
            raise ConflictError(f"Alert {alert_id} is not silenced; there is nothing to undo.")
        return self.get_alert(alert_id)
