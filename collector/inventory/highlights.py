"""What the overview shows of all endpoints, read from narrow tables: highest risks and new endpoints.

The list of endpoints answers the same questions with every figure (`sort=risk`, `first_seen_since`). With 100,000
endpoints it reads their calls, which is too much for a page that is loaded all the time.
"""

from dataclasses import dataclass
from typing import Final

from collector.storage.records import Reader, read_record, select

_RISKY: Final = """
SELECT endpoint_id AS id, method, host, url_template AS template, service, score, level, open_findings, exposure
FROM endpoint_risks FINAL
WHERE score > 0
ORDER BY score DESC, id
LIMIT {limit:UInt32}"""
# Endpoints all of whose routes are new. Names are looked up of the listed ones alone.
_NEW: Final = """
SELECT f.id AS id, f.route_id AS route_id, k.score AS score, k.level AS level, k.open_findings AS open_findings,
    k.exposure AS exposure, count() OVER () AS total
FROM (
    SELECT n.endpoint_id AS id, any(n.route_id) AS route_id
    FROM (SELECT route_id, endpoint_id FROM endpoint_routes FINAL) AS n
    GROUP BY n.endpoint_id
    HAVING NOT max(n.route_id IN (SELECT route_id FROM routes WHERE first_seen < toDateTime({since:UInt32}, 'UTC')))
) AS f
LEFT JOIN (SELECT endpoint_id, score, level, open_findings, exposure FROM endpoint_risks FINAL) AS k
    ON k.endpoint_id = f.id
ORDER BY score DESC, id
LIMIT {limit:UInt32}"""
_NAMES: Final = """
SELECT route_id, method, host, url_template AS template, service FROM endpoint_routes FINAL
WHERE route_id IN {routes:Array(UInt64)}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class HighlightedEndpoint:
    """Names of an endpoint and its risk; of one that was not assessed yet `level` is empty."""

    id: str
    method: str
    host: str
    template: str
    service: str
    score: int
    level: str
    open_findings: int
    exposure: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEndpoints:
    """Those that were first called in a time: the riskiest, and how many there are."""

    items: tuple[HighlightedEndpoint, ...]
    total: int


def list_riskiest(reader: Reader, limit: int) -> tuple[HighlightedEndpoint, ...]:
    """As last assessed. Raises StoreError."""
    return tuple(read_record(HighlightedEndpoint, row) for row in select(reader, _RISKY, {"limit": limit}))


def list_new(reader: Reader, since: int, limit: int) -> NewEndpoints:
    """First called at this time or later, in unix seconds. Raises StoreError."""
    rows = select(reader, _NEW, {"since": since, "limit": limit})
    routes = [int(row["route_id"]) for row in rows]
    names = {int(row["route_id"]): row for row in select(reader, _NAMES, {"routes": routes})} if rows else {}
    return NewEndpoints(
        items=tuple(
            read_record(HighlightedEndpoint, {**row, **names[route]})
            for row, route in zip(rows, routes, strict=True)
            if route in names
        ),
        total=int(rows[0]["total"]) if rows else 0,
    )
