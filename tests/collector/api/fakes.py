"""Stand-ins for tests of the API: alerts in memory."""

from dataclasses import replace
from operator import attrgetter

from collector.alerts.alert import Alert, AlertKind, AlertState, Severity
from collector.alerts.incident import Happening, Incident, IncidentEntry, write_entry
from collector.api.alerts import AlertPlace
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


class MemoryAlerts:
    """An AlertRepository over a dictionary."""

    def __init__(self, *alerts: Alert) -> None:
        self.alerts = {alert.id: alert for alert in alerts}

    def list_alerts(
        self, *, state: AlertState | None, kind: AlertKind | None, limit: int, after: AlertPlace | None
    ) -> list[Alert]:
        found = sorted(self.alerts.values(), key=attrgetter("opened_at", "id"), reverse=True)
        return [
            alert
            for alert in found
            if (state is None or alert.state is state)
            and (kind is None or alert.kind is kind)
            and (after is None or (alert.opened_at, alert.id) < (after.opened_at, after.id))
        ][:limit]

    def get_alert(self, alert_id: str) -> Alert | None:
        return self.alerts.get(alert_id)

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

    def list_incident_alerts(self, incident_id: str) -> list[Alert]:
        return [alert for alert in self.alerts.values() if alert.incident_id == incident_id]

    def list_entries(self, incident_id: str) -> list[IncidentEntry]:
        return [write_entry(alert, Happening.OPENED, NOW) for alert in self.list_incident_alerts(incident_id)]

    def _change(self, alert_id: str, **columns: object) -> Alert | None:
        if alert_id in self.alerts:
            self.alerts[alert_id] = replace(self.alerts[alert_id], **columns)  # type: ignore[arg-type]
        return self.alerts.get(alert_id)

    def acknowledge(self, alert_id: str, *, by: str) -> Alert | None:
        return self._change(alert_id, acknowledged_by=by, acknowledged_at=NOW)

    def mute(self, alert_id: str, *, by: str, until: float) -> Alert | None:
        return self._change(alert_id, muted_until=until)

    def mark_expected(self, alert_id: str, *, by: str, is_expected: bool) -> Alert | None:
        return self._change(alert_id, is_expected=is_expected)
