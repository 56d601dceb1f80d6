"""What `apidae top` shows, read from the collector's HTTP API: gives one frozen `Snapshot` a poll.

The API is read as a stranger would: a field that is missing or of another form is shown as unknown, never an error.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

import httpx

ENDPOINTS_MAX = 200  # One page of the API: the busiest, or those that the filter finds.
ALERTS_MAX = 200
SEARCH_CHARACTERS_MAX = 200  # Of the API.
ERRORS = ("4xx", "5xx", "aborted")
SEVERITIES = ("critical", "high", "medium", "low")


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
    risk: int | None
    risk_level: str
    exposure: str
    data: tuple[str, ...]
    last_seen: str

    @property
    def error_share(self) -> float:
        """Of the calls that were read, those that failed or were refused."""
        total = sum(calls for _, calls in self.statuses)
        return sum(calls for name, calls in self.statuses if name in ERRORS) / total if total else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AlertLine:
    """One alert as the terminal shows it."""

    id: str
    kind: str
    state: str
    severity: str
    title: str
    why: str
    advice: str
    endpoint_id: str
    opened_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The inventory at one moment. `error` is set, and the rest empty, when the collector did not answer."""

    endpoints: tuple[EndpointLine, ...] = ()
    total: int = 0  # Endpoints that match, shown or not.
    alerts: tuple[AlertLine, ...] = ()
    error: str = ""

    @property
    def open_alerts(self) -> tuple[AlertLine, ...]:
        """Alerts that have not closed, the gravest first and of those the newest."""
        found = (alert for alert in self.alerts if alert.state == "open")
        return tuple(sorted(found, key=lambda alert: (_rank_severity(alert.severity), -alert.opened_at)))


class Getter(Protocol):
    """The one thing needed of an HTTP client."""

    def get(self, url: str, *, params: Mapping[str, Any]) -> httpx.Response:
        """As httpx.Client.get."""
        ...


def read_snapshot(client: Getter, search: str = "") -> Snapshot:
    """Endpoints and alerts now; of the endpoints those that match the words of `search`."""
    try:
        asked = {"q": search[:SEARCH_CHARACTERS_MAX]} if search else {}
        answer = _get(client, "/api/v1/endpoints", limit=ENDPOINTS_MAX, **asked)
        endpoints = _list_items(answer)
        alerts = _list_items(_get(client, "/api/v1/alerts", state="open", limit=ALERTS_MAX))
    except httpx.HTTPStatusError as error:
        return Snapshot(error=_explain(error.response))
    except (httpx.HTTPError, ValueError) as error:
        return Snapshot(error=f"{type(error).__name__}: {error}"[:200])
    return Snapshot(
        total=int(_number(answer.get("total")) or len(endpoints)),
        endpoints=tuple(_read_endpoint(item) for item in endpoints),
        alerts=tuple(_read_alert(item) for item in alerts),
    )


def _get(client: Getter, path: str, **params: Any) -> Mapping[str, Any]:
    response = client.get(path, params=params)
    response.raise_for_status()
    return _mapping(response.json())


def _list_items(answer: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    items = answer.get("items")
    return [item for item in items if isinstance(item, Mapping)] if isinstance(items, list) else []


def _explain(response: httpx.Response) -> str:
    """The sentence of a refusal."""
    try:
        detail = str(_mapping(response.json()).get("detail", ""))
    except ValueError:
        detail = ""
    return f"{response.status_code} {detail}"[:200]


def _rank_severity(severity: str) -> int:
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)


def _read_endpoint(item: Mapping[str, Any]) -> EndpointLine:
    authentication = _mapping(item.get("authentication"))
    kinds = _mapping(authentication.get("kinds"))
    statuses = _mapping(item.get("status"))
    risk, data = _mapping(item.get("risk")), _mapping(item.get("bodies")).get("data_classes")
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
        risk=None if risk.get("score") is None else int(_number(risk.get("score")) or 0),
        risk_level=str(risk.get("level", "")),
        exposure=str(_mapping(item.get("exposure")).get("level", "")),
        data=tuple(str(one) for one in data) if isinstance(data, list) else (),
        last_seen=str(item.get("last_seen", "")),
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
        severity=str(item.get("severity", "")),
        title=str(item.get("title", "")),
        why=str(item.get("why", "")),
        advice=str(item.get("advice", "")),
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
