"""Which client-side calls count: those to servers that no sensor watches.

A call seen at both ends has a server-role and a client-role row on different nodes. The server's row counts; the
client's counts only where no sensor saw that server, which nobody can know when the row is written. So it is decided at
query time: a client-role row is left out when its host was answered 2xx by a watched server on the days of the span.
The 2xx keeps a stranger who sends `Host: api.example.com` to any of our servers and is turned away from hiding the real
outbound calls to api.example.com. Hosts that name nothing (empty, and `other` past the host cap) never match.

It is read from the days' summaries, which lie by role: one row a route and day, and the few client-side ones together.
"""

from collections.abc import Mapping
from typing import Any

from collector.inventory.reader import Reader, select

ROLE_SERVER = 1  # proto Role.
ROLE_CLIENT = 2

_DAYS = "d.time >= toStartOfDay(toDateTime({start:UInt32}, 'UTC')) AND d.time < toDateTime({end:UInt32}, 'UTC')"
_CALLED = f"SELECT d.route_id FROM routes_day AS d WHERE {_DAYS} AND d.role = {ROLE_CLIENT}"
_NAMED = "s.host NOT IN ('', 'other')"


def _answered(hosts: str) -> str:
    """Of the hosts that pass `hosts` (a condition on `s.host`), those that a watched server answered 2xx."""
    routes = f"SELECT s.route_id FROM endpoint_routes AS s WHERE {_NAMED} AND {hosts}"
    return f"""SELECT DISTINCT s.host AS host FROM endpoint_routes AS s
            WHERE {_NAMED} AND {hosts} AND s.route_id IN (
                SELECT d.route_id FROM routes_day AS d
                WHERE {_DAYS} AND d.role = {ROLE_SERVER} AND d.success_calls > 0 AND d.route_id IN ({routes}))"""


_CALLED_HOSTS = f"s.host IN (SELECT c.host FROM endpoint_routes AS c WHERE c.route_id IN ({_CALLED}))"
# The routes whose client-side rows are left out, of all.
HIDDEN_ROUTES = f"""SELECT o.route_id FROM endpoint_routes AS o
        WHERE o.route_id IN ({_CALLED}) AND o.host IN ({_answered(_CALLED_HOSTS)})"""


def find_hidden(reader: Reader, mine: str, parameters: Mapping[str, Any]) -> list[int]:
    """The same of some endpoints: `mine` is a condition on `endpoint_id`. Most have no client-side rows, which costs
    one look by key; so it is asked once and handed to each statement about them. Raises StoreError."""
    routes = f"SELECT route_id FROM endpoint_routes WHERE endpoint_id {mine}"
    found = select(
        reader,
        f"""SELECT DISTINCT o.route_id AS route_id, o.host AS host FROM endpoint_routes AS o
        WHERE o.route_id IN ({_CALLED} AND d.route_id IN ({routes}))""",
        parameters,
    )
    if not found:
        return []
    hosts = sorted({row["host"] for row in found})
    answered = select(reader, _answered("s.host IN {hosts:Array(String)}"), {**parameters, "hosts": hosts})
    watched = {row["host"] for row in answered}
    return [int(row["route_id"]) for row in found if row["host"] in watched]
