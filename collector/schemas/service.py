"""The endpoints of one service, as far as its documents describe them: the name of a service in, `Described` out."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from collector.inventory.reader import Reader, select
from collector.outcomes import find_outcome, is_authenticated, is_judged

ENDPOINTS_MAX = 2_000  # Of one document; the most called.

# Of the last 90 days. Endpoints that were never answered 2xx or 3xx are what scanners guessed.
_ENDPOINTS = f"""
SELECT n.endpoint_id AS id, any(n.service) AS service, any(n.host) AS host, any(n.method) AS method,
    any(n.url_template) AS template, sum(h.calls) AS calls, toUnixTimestamp(max(h.last_seen)) AS last_seen,
    sumMap([h.status_code], [h.calls]) AS statuses,
    groupBitOrIf(h.authentication, {is_judged("h")}) AS authentication,
    sumIf(h.calls, {is_authenticated("h")}) AS authenticated, sumIf(h.calls, {is_judged("h")}) AS judged
FROM rows_hour AS h
INNER JOIN (SELECT * FROM endpoint_routes FINAL WHERE {{condition}}) AS n ON n.route_id = h.route_id
GROUP BY n.endpoint_id
HAVING sumIf(h.calls, {find_outcome("h")} BETWEEN 101 AND 399) > 0
ORDER BY calls DESC, id
LIMIT {ENDPOINTS_MAX}"""
_OF_SERVICE = "service = {service:String} OR workload = {service:String}"
_SERVICES = """
SELECT service, any(cluster) AS cluster, any(namespace) AS namespace, any(workload) AS workload, any(port) AS port,
    uniqExact(endpoint_id) AS endpoints
FROM endpoint_routes FINAL GROUP BY service ORDER BY service LIMIT 10000"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Described:
    """One endpoint. `statuses`: calls by code; `authentication`: bits of the kinds that 2xx calls carried."""

    id: str
    service: str
    host: str
    method: str
    template: str
    calls: int
    last_seen: int
    statuses: Mapping[int, int]
    authentication: int
    authenticated_share: float | None


def list_services(reader: Reader) -> list[dict[str, Any]]:
    """All services that have endpoints. Raises StoreError."""
    return select(reader, _SERVICES)


def list_described(reader: Reader, service: str) -> tuple[Described, ...]:
    """The endpoints of a service, as listed or by the name of its workload. Raises StoreError."""
    rows = select(reader, _ENDPOINTS.format(condition=_OF_SERVICE), {"service": service})
    return tuple(_read(row) for row in rows)


def list_some(reader: Reader, ids: list[str]) -> tuple[Described, ...]:
    """The same of some endpoints. Raises StoreError."""
    if not ids:
        return ()
    statement = _ENDPOINTS.format(condition="endpoint_id IN {ids:Array(String)}")
    return tuple(_read(row) for row in select(reader, statement, {"ids": ids}))


def _read(row: Mapping[str, Any]) -> Described:
    codes, calls = row["statuses"]
    statuses: dict[int, int] = defaultdict(int)
    for code, count in zip(codes, calls, strict=True):
        if int(code):
            statuses[int(code)] += int(count)
    judged = int(row["judged"])
    return Described(
        id=row["id"],
        service=row["service"],
        host=row["host"],
        method=row["method"],
        template=row["template"],
        calls=int(row["calls"]),
        last_seen=int(row["last_seen"]),
        statuses=dict(statuses),
        authentication=int(row["authentication"]),
        authenticated_share=int(row["authenticated"]) / judged if judged else None,
    )
