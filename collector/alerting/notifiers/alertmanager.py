"""Prometheus' Alertmanager: sends alerts by its API, version 2 (`POST /api/v2/alerts`). EDGE: HTTP.

Labels name what an alert is about and stay the same while it is open, because Alertmanager identifies alerts by them.
What changes goes into annotations. An open alert would end by itself after END_SECONDS. A closed one ends when it
closed.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlsplit

import httpx
import msgspec

from collector.alerting.alert import Alert
from collector.alerting.notifiers.delivery import Outcome
from collector.alerting.notifiers.http import make_client, post, show_target

END_SECONDS = 6 * 3_600  # Longer than any detector is silent about what goes on.


@dataclass(frozen=True, slots=True)
class AlertmanagerSettings:
    """Its address, to which the path of the API is added. Raises ValueError with one sentence."""

    url: str

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
            shown = f"{parts.scheme}://{parts.hostname or ''}"  # Never the rest: it may hold a token.
            raise ValueError(f"{shown!r} is no address of an Alertmanager; use http://HOST:9093 or https://HOST")
        if parts.username or parts.password:
            raise ValueError("it holds a credential, which settings show; let a proxy beside Alertmanager add it")


class Alertmanager:
    """A carrier."""

    name = "alertmanager"
    takes_updates = True

    def __init__(self, settings: AlertmanagerSettings, *, transport: httpx.BaseTransport | None = None) -> None:
        """`transport` replaces the network in tests."""
        self.target = show_target(settings.url)
        self._url = settings.url.rstrip("/") + "/api/v2/alerts"
        self._client = make_client(transport)

    def send(self, alert: Alert) -> Outcome:
        """One POST of one alert."""
        body = msgspec.json.encode([describe_alert(alert)])
        return post(self._client, self._url, body, {"content-type": "application/json"})

    def close(self) -> None:
        """Let the connection go."""
        self._client.close()


def describe_alert(alert: Alert) -> dict[str, object]:
    """A `postableAlert` of Alertmanager's API."""
    labels = {"alertname": "Apidae", "alert_id": alert.id, "incident_id": alert.incident_id or alert.id}
    annotations = {
        "summary": alert.title,
        "description": alert.why,
        "kind": alert.kind.value,
        "severity": alert.severity.value,
        "confidence": alert.confidence.value,
        "consumer": alert.consumer,
        "endpoint_id": alert.endpoint_id,
        "node": alert.node,
        "risk": alert.risk,
        "advice": alert.advice,
    }
    ends = alert.updated_at + END_SECONDS if alert.closed_at is None else alert.closed_at
    return {
        "labels": labels,
        "annotations": {name: value for name, value in annotations.items() if value},
        "startsAt": _show_time(alert.opened_at),
        "endsAt": _show_time(ends),
    }


def _show_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
