"""Stand-ins for tests of the API: alerts in memory."""

from dataclasses import replace
from operator import attrgetter

from collector.alerts.alert import Alert, AlertKind, AlertState, Severity
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
