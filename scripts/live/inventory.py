"""What the live view shows, read from the collector's HTTP API: gives one frozen `Snapshot` a poll.

The API is read as a stranger would: a field that is missing or of another form is shown as unknown, never an error.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import httpx

ENDPOINTS_MAX = 200  # One page of the API; the terminal shows fewer, the web page all.
ALERTS_MAX = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointLine:
    """One endpoint as the terminal shows it."""

    id: str
    service: str
    host: str
    method: str
    template: str
    calls: int
    is_estimated: bool  # Some of the calls.
    statuses: tuple[tuple[str, int], ...]  # (`2xx`, calls), only those that occurred, of the calls that were read.
    p95_ms: float | None
    coverage: float | None  # Share of 2xx calls with credentials; None where there was no 2xx.
    authentication_kinds: tuple[str, ...]
    consumers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertLine:
    """One alert as the terminal shows it."""

    id: str
    kind: str
    state: str
    title: str
    why: str
    endpoint_id: str
    opened_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The inventory at one moment. `error` is set, and the rest empty, when the collector did not answer."""

    endpoints: tuple[EndpointLine, ...] = ()
    alerts: tuple[AlertLine, ...] = ()
    error: str = ""

    @property
    def open_alerts(self) -> tuple[AlertLine, ...]:
        """Alerts that have not closed, newest first."""
        return tuple(
            sorted((alert for alert in self.alerts if alert.state == "open"), key=lambda alert: -alert.opened_at)
        )


class Getter(Protocol):
    """The one thing needed of an HTTP client."""

    def get(self, url: str, *, params: Mapping[str, Any]) -> httpx.Response:
        """As httpx.Client.get."""
        ...


def read_snapshot(client: Getter) -> Snapshot:
    """Endpoints and alerts now."""
    try:
        endpoints = _get_items(client, "/api/v1/endpoints", limit=ENDPOINTS_MAX)
        alerts = _get_items(client, "/api/v1/alerts", limit=ALERTS_MAX)
    except (httpx.HTTPError, ValueError) as error:
        return Snapshot(error=f"{type(error).__name__}: {error}"[:200])
    return Snapshot(
        endpoints=tuple(_read_endpoint(item) for item in endpoints),
        alerts=tuple(_read_alert(item) for item in alerts),
    )


def _get_items(client: Getter, path: str, **params: Any) -> list[Mapping[str, Any]]:
    response = client.get(path, params=params)
    response.raise_for_status()
    items = response.json()["items"]
    return [item for item in items if isinstance(item, Mapping)]


def _read_endpoint(item: Mapping[str, Any]) -> EndpointLine:
    authentication = _mapping(item.get("authentication"))
    kinds = _mapping(authentication.get("kinds"))
    statuses = _mapping(item.get("status"))
    return EndpointLine(
        id=str(item.get("id", "")),
        service=_read_service(item.get("service")),
        host=str(item.get("host", "")),
        method=str(item.get("method", "?")),
        template=str(item.get("template", "?")),
        calls=int(item.get("calls", 0)),
        is_estimated=bool(item.get("is_estimated", False)),
        statuses=tuple((name, int(calls)) for name, calls in statuses.items() if calls and name != "not_read"),
        p95_ms=_number(_mapping(item.get("latency_ms")).get("p95")),
        coverage=_number(authentication.get("coverage")),
        authentication_kinds=tuple(kind for kind in kinds if kind != "none"),
        consumers=int(item.get("consumers", 0)),
    )


def _read_service(value: Any) -> str:
    """`name:port`, from the API's object or from that text."""
    if not isinstance(value, Mapping):
        return str(value or "unknown")
    port = int(value.get("port") or 0)
    name = str(value.get("name") or value.get("workload") or value.get("host_name") or "unknown")
    return name if name.endswith(f":{port}") else f"{name}:{port}"


def _read_alert(item: Mapping[str, Any]) -> AlertLine:
    return AlertLine(
        id=str(item.get("id", "")),
        kind=str(item.get("kind", "")),
        state=str(item.get("state", "open")),
        title=str(item.get("title", "")),
        why=str(item.get("why", "")),
        endpoint_id=str(item.get("endpoint_id", "")),
        opened_at=_time(item.get("opened_at")),
    )


def _time(value: Any) -> float:
    """Unix seconds of an RFC 3339 time; 0 where it is none."""
    try:
        return datetime.fromisoformat(str(value)).timestamp()
    except ValueError:
        return 0.0


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
