"""Which client-side calls count: those to servers that no sensor watches.

A call seen at both ends has a server-role and a client-role row on different nodes. The server's row counts; the
client's counts only where no sensor saw that server, which nobody can know when the row is written. So it is decided at
query time: a client-role row is left out when its host was answered 2xx by a watched server on the days of the span.
The 2xx keeps a stranger who sends `Host: api.example.com` to any of our servers and is turned away from hiding the real
outbound calls to api.example.com. Hosts that name nothing (empty, and `other` past the host cap) never match.

It is read from the days' summaries: one row a route, role and day.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from collector.inventory.reader import Reader, select

ROLE_SERVER = 1  # proto Role.
ROLE_CLIENT = 2

_DAYS = "d.time >= toStartOfDay(toDateTime({start:UInt32}, 'UTC')) AND d.time < toDateTime({end:UInt32}, 'UTC')"

# The routes whose client-side rows are left out, of all: those of each host that has a served route.
HIDDEN_ROUTES = f"""
        SELECT arrayJoin(groupArrayIf(a.route_id, a.role = {ROLE_CLIENT})) AS route_id
        FROM (
            SELECT d.route_id AS route_id, d.role AS role, max(d.success_calls > 0) AS is_answered
            FROM routes_day AS d WHERE {_DAYS} GROUP BY d.role, d.route_id
        ) AS a
        INNER JOIN (SELECT route_id, host FROM endpoint_routes FINAL) AS s ON s.route_id = a.route_id
        WHERE s.host NOT IN ('', 'other')
        GROUP BY s.host
        HAVING max(a.role = {ROLE_SERVER} AND a.is_answered)"""

_CALLED = f"""
SELECT DISTINCT d.route_id AS route_id FROM routes_day AS d
WHERE {_DAYS} AND d.role = {ROLE_CLIENT} AND d.route_id IN {{routes:Array(UInt64)}}"""
# Of the hosts asked for, those that a watched server answered.
_ANSWERED = f"""
SELECT DISTINCT s.host AS host FROM endpoint_routes AS s
WHERE s.host NOT IN ('', 'other') AND s.host IN {{hosts:Array(String)}} AND s.route_id IN (
    SELECT d.route_id FROM routes_day AS d
    WHERE {_DAYS} AND d.role = {ROLE_SERVER} AND d.success_calls > 0
        AND d.route_id IN (SELECT route_id FROM endpoint_routes WHERE host IN {{hosts:Array(String)}}))"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Routes:
    """The routes of some endpoints, and those of them whose client-side rows are left out."""

    all: list[int]
    hidden: list[int]


def find_routes(reader: Reader, ids: list[str], parameters: Mapping[str, Any]) -> Routes:
    """Asked once before the statements about these endpoints, which then find everything by key. `parameters` are the
    span's. Raises StoreError."""
    found = select(
        reader,
        "SELECT route_id, host FROM endpoint_routes FINAL WHERE endpoint_id IN {ids:Array(String)}",
        {"ids": ids},
    )
    hosts = {int(row["route_id"]): row["host"] for row in found}
    called = [int(row["route_id"]) for row in select(reader, _CALLED, {**parameters, "routes": list(hosts)})]
    if not called:  # Most endpoints are seen at their server only.
        return Routes(all=list(hosts), hidden=[])
    asked = sorted({hosts[route] for route in called})
    answered = {row["host"] for row in select(reader, _ANSWERED, {**parameters, "hosts": asked})}
    return Routes(all=list(hosts), hidden=[route for route in called if hosts[route] in answered])
