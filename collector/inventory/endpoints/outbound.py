"""Decides which client-side calls count: those to servers that no sensor watches.

A call seen at both ends has a server row and a client row on different nodes. The server's row counts. The client's
counts only where no sensor saw that server, which nobody can know when the row is written. So the decision is made at
query time: a client row is excluded if a watched server answered 2xx for its host on the days of the span.

Without the 2xx, a stranger could hide real outbound calls to api.example.com. A request with `Host: api.example.com` to
any watched server would do. A server that answers all hosts would still do it for providers of models
(common/model_hosts.py), to which prompts go: no server of ours is one, so calls to their hosts always count, also where
a proxy of ours that is watched passes them on. Hosts that name nothing (empty, and `other` past the host cap) never
match. Calls to a loopback address went to one port of their own node, so only a watched server with that port hides
them.

It reads the days' summaries: one row a route, role and day.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from string import hexdigits
from typing import Any

from collector.storage.records import Reader, select
from common.model_hosts import PROVIDER_HOSTS, find_host_provider

ROLE_SERVER = 1  # proto Role.
ROLE_CLIENT = 2

# The day in which a span ends is one of them, also where that is its first second: sums kept up to midnight are asked
# about the minutes after it.
WITHIN_DAYS = """d.time >= toStartOfDay(toDateTime({start:UInt32}, 'UTC'))
    AND d.time <= toStartOfDay(toDateTime({end:UInt32}, 'UTC'))"""

# Never hidden. Of clients' routes, which are few.
_IS_PROVIDER = f"match(s.host, '{PROVIDER_HOSTS.replace(chr(92), chr(92) * 2)}')"
# Of a route that was called: its workload is then the server's address.
_IS_LOOPBACK = "startsWith(s.workload, '127.') OR s.workload = '::1'"
# The routes whose client-side rows are excluded, of all. A client's and a server's route have host and port in common;
# port 0 is any. Routes that clients called are few, and so are the names that servers answered.
HIDDEN_ROUTES = f"""
        SELECT s.route_id AS route_id FROM routes AS s
        WHERE s.route_id IN (
                SELECT d.route_id FROM routes_day AS d WHERE {WITHIN_DAYS} AND d.role = {ROLE_CLIENT})
            AND s.host NOT IN ('', 'other') AND NOT {_IS_PROVIDER}
            AND (s.host, if({_IS_LOOPBACK}, s.port, 0)) IN (
                SELECT a.host, arrayJoin([0, a.port]) FROM routes AS a
                WHERE a.route_id IN (
                    SELECT d.route_id FROM routes_day AS d
                    WHERE {WITHIN_DAYS} AND d.role = {ROLE_SERVER} AND d.success_calls > 0)
                GROUP BY a.host, a.port)"""

_UNWATCHED = f"""
SELECT DISTINCT s.host AS host, if({_IS_LOOPBACK}, s.port, 0) AS port FROM routes AS s
WHERE s.host NOT IN ('', 'other') AND s.route_id NOT IN ({HIDDEN_ROUTES}) AND s.route_id IN (
    SELECT d.route_id FROM routes_day AS d WHERE {WITHIN_DAYS} AND d.role = {ROLE_CLIENT})"""
# The routes of some endpoints with their names.
_NAMED = """
SELECT route_id, endpoint_id, cluster, namespace, workload, workload_kind, host_name, port, host, method, url_template
FROM endpoint_routes FINAL WHERE endpoint_id IN {ids:Array(String)}"""
# Of these routes, when each was first seen within retention, and whether a sensor saw it called at the client's side,
# so that it may be hidden. Asked by their ids, which are keys, and not with the names, which are looked through.
_SEEN = f"""
SELECT s.route_id AS route_id, toUnixTimestamp(min(s.first_seen)) AS first_seen, any(s.host) AS called_host,
    max({_IS_LOOPBACK}) AS is_loopback, s.route_id IN (
        SELECT d.route_id FROM routes_day AS d
        WHERE {WITHIN_DAYS} AND d.role = {ROLE_CLIENT} AND d.route_id IN {{routes:Array(UInt64)}}
    ) AS is_called
FROM routes AS s WHERE s.route_id IN {{routes:Array(UInt64)}} GROUP BY s.route_id"""
# Of the hosts asked for, those that a watched server answered, and at which ports.
_ANSWERED = f"""
SELECT DISTINCT s.host AS host, s.port AS port FROM routes AS s
WHERE s.host NOT IN ('', 'other') AND s.host IN {{hosts:Array(String)}} AND s.route_id IN (
    SELECT d.route_id FROM routes_day AS d
    WHERE {WITHIN_DAYS} AND d.role = {ROLE_SERVER} AND d.success_calls > 0
        AND d.route_id IN (SELECT route_id FROM routes WHERE host IN {{hosts:Array(String)}}))"""


def list_unwatched(reader: Reader, parameters: Mapping[str, Any]) -> frozenset[tuple[str, int]]:
    """Hosts whose client-side calls count, each with its port, or 0 for any. Raises StoreError."""
    return frozenset((row["host"], int(row["port"])) for row in select(reader, _UNWATCHED, parameters))


def find_answered(
    reader: Reader, names: Iterable[tuple[str, int]], parameters: Mapping[str, Any]
) -> frozenset[tuple[str, int]]:
    """Of the hosts of these names, those that a watched server answered and that are no provider's, with its ports and
    0. Raises StoreError."""
    hosts = sorted({host for host, _ in names if not find_host_provider(host)})
    rows = select(reader, _ANSWERED, {**parameters, "hosts": hosts}) if hosts else ()
    return frozenset((row["host"], port) for row in rows for port in (int(row["port"]), 0))


# Of routes that clients called, what hides them.
_CALLED = f"""
SELECT s.route_id AS route_id, any(s.host) AS host, any(if({_IS_LOOPBACK}, s.port, 0)) AS port
FROM routes AS s WHERE s.route_id IN {{routes:Array(UInt64)}} GROUP BY s.route_id"""


def find_hidden(reader: Reader, called: list[int], parameters: Mapping[str, Any]) -> list[int]:
    """Those of some routes that clients called whose client-side rows are excluded. Raises StoreError."""
    if not called:
        return []
    rows = select(reader, _CALLED, {"routes": called})
    names = {int(row["route_id"]): (row["host"], int(row["port"])) for row in rows}
    answered = find_answered(reader, names.values(), parameters)
    return [route for route, name in names.items() if name in answered]


# Of a row, the number of its endpoint in `Routes.parameters`.
OWNER = "transform(r.route_id, {routes:Array(UInt64)}, {owners:Array(UInt32)}, toUInt32(0))"


@dataclass(frozen=True, slots=True, kw_only=True)
class Routes:
    """The routes of some endpoints with their names as rows of `endpoint_routes`, by endpoint, and those of them whose
    client-side rows are left out."""

    named: Mapping[str, list[dict[str, Any]]]
    hidden: list[int]

    @property
    def parameters(self) -> dict[str, Any]:
        """Of the statements about these endpoints; `owners`: of each route the number of its endpoint, from 1."""
        pairs = [(int(row["route_id"]), number) for number, rows in enumerate(self.named.values(), 1) for row in rows]
        routes, owners = [route for route, _ in pairs], [owner for _, owner in pairs]
        return {"routes": routes, "owners": owners, "hidden": self.hidden}


def find_routes(reader: Reader, ids: list[str], parameters: Mapping[str, Any]) -> Routes:
    """Asked once before the statements about these endpoints, which then find everything by key. `parameters` are the
    span's. Raises StoreError."""
    named: dict[str, list[dict[str, Any]]] = {}
    names: dict[int, tuple[str, int]] = {}
    rows = select(reader, _NAMED, {"ids": ids}) if ids else []
    asked = {**parameters, "routes": [int(row["route_id"]) for row in rows]}
    seen = {int(row["route_id"]): row for row in select(reader, _SEEN, asked)} if rows else {}
    for row in rows:
        route = int(row["route_id"])
        one = seen.get(route)
        named.setdefault(row["endpoint_id"], []).append({**row, "first_seen": one["first_seen"] if one else 0})
        if one and one["is_called"]:
            names[route] = one["called_host"], int(row["port"]) if one["is_loopback"] else 0
    if not names:  # Most endpoints are seen at their server only.
        return Routes(named=named, hidden=[])
    answered = find_answered(reader, names.values(), parameters)
    return Routes(named=named, hidden=[route for route, name in names.items() if name in answered])


ROUTE_ID_LENGTH = 16  # In hexadecimal.
# An alias goes before a route's id: both are 64 bits, and a chance equality is a matter of centuries.
_PRESENT_ID = """
SELECT endpoint_id FROM endpoint_routes FINAL
WHERE route_id = coalesce(
    (SELECT toNullable(route_id) FROM endpoint_aliases FINAL WHERE endpoint_id = {id:String} LIMIT 1), {route:UInt64})
LIMIT 1"""
_OWN_ROUTES = "SELECT route_id FROM endpoint_routes FINAL WHERE endpoint_id = {id:String} ORDER BY route_id"

# Of the service that an endpoint's routes are of, as detectors know it.
_SERVICE_ROUTES = """
SELECT route_id FROM endpoint_routes FINAL
WHERE (cluster, service) IN (
    SELECT cluster, service FROM endpoint_routes FINAL WHERE route_id IN {routes:Array(UInt64)})
ORDER BY route_id"""


def find_present_id(reader: Reader, endpoint_id: str) -> str:
    """The endpoint to which the route went that was last known under this id; empty where none was. Raises
    StoreError."""
    is_hash = len(endpoint_id) == ROUTE_ID_LENGTH and set(endpoint_id) <= set(hexdigits)
    parameters = {"id": endpoint_id, "route": int(endpoint_id, 16) if is_hash else 0}
    found = select(reader, _PRESENT_ID, parameters)
    return str(found[0]["endpoint_id"]) if found else ""


def find_route_ids(reader: Reader, endpoint_id: str) -> list[int]:
    """The routes; none where no endpoint was ever known by this id. Raises StoreError."""
    found = select(reader, _OWN_ROUTES, {"id": endpoint_id})
    if not found:
        present = find_present_id(reader, endpoint_id)
        found = select(reader, _OWN_ROUTES, {"id": present}) if present else []
    return [int(row["route_id"]) for row in found]


def find_service_route_ids(reader: Reader, endpoint_id: str) -> list[int]:
    """The routes of all endpoints of an endpoint's service; none where the endpoint is not known. Raises StoreError."""
    routes = find_route_ids(reader, endpoint_id)
    return [int(row["route_id"]) for row in select(reader, _SERVICE_ROUTES, {"routes": routes})] if routes else []
