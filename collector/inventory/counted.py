"""Which rows count, said once: the SQL that every inventory question starts from.

A call seen at both ends has a server-role and a client-role row on different nodes. The server's row counts; the
client's counts only where no sensor saw that server, which nobody can know when the row is written. So it is decided at
query time: a client-role row is left out when its host was answered 2xx by a watched server in the same span. The 2xx
keeps a stranger who sends `Host: api.example.com` to any of our servers and is turned away from hiding the real
outbound calls to api.example.com. Hosts that name nothing (empty, and `other` past the host cap) never match.

Every value reaches the database as a typed parameter; the texts here hold only names of our own tables and columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from collector.inventory.consumer import ConsumerKind
from collector.inventory.span import Span
from collector.rows import CONSUMER_ORDER, ConsumerColumn

ROLE_SERVER = 1  # proto Role.
ROLE_CLIENT = 2
HOP_PROXY = 2  # proto Hop.
FLAG_LOSSY = 1 << 5  # proto RowFlag.


_NAMED = """m.route_id AS route_id, m.endpoint_id AS endpoint_id, m.service AS service, m.cluster AS cluster,
        m.namespace AS namespace, m.workload AS workload, m.workload_kind AS workload_kind, m.host_name AS host_name,
        m.port AS port, m.host AS host, m.method AS method, m.url_template AS url_template"""
NAMES = f"names AS (SELECT {_NAMED} FROM endpoint_routes AS m FINAL)"  # Route -> endpoint.
# The same with the time the route was first seen within retention, which costs a pass over all routes.
DATED_NAMES = f"""names AS (
        SELECT {_NAMED}, f.first_seen AS first_seen
        FROM endpoint_routes AS m FINAL
        LEFT JOIN (SELECT route_id, toUnixTimestamp(min(first_seen)) AS first_seen FROM routes GROUP BY route_id) AS f
            ON f.route_id = m.route_id
    )"""


def names_of(condition: str) -> str:
    """DATED_NAMES of some endpoints only: `condition` is on `endpoint_id`. Joins a handful of routes, not all."""
    mine = f"SELECT route_id FROM endpoint_routes FINAL WHERE endpoint_id {condition}"
    return f"""names AS (
        SELECT {_NAMED}, f.first_seen AS first_seen
        FROM (SELECT * FROM endpoint_routes FINAL WHERE endpoint_id {condition}) AS m
        LEFT JOIN (SELECT route_id, toUnixTimestamp(min(first_seen)) AS first_seen FROM routes
            WHERE route_id IN ({mine}) GROUP BY route_id) AS f ON f.route_id = m.route_id
    )"""


IN_SPAN = "r.time >= toDateTime({start:UInt32}, 'UTC') AND r.time < toDateTime({end:UInt32}, 'UTC')"

SUCCESS = "r.status_code BETWEEN 200 AND 299"
CLIENT_ERROR = "r.status_code BETWEEN 400 AND 499"
ERROR = "(r.status_code >= 500 OR r.status_code = 0)"


@dataclass(frozen=True, slots=True, kw_only=True)
class _ActorSql:
    """One actor column: whether a row has it, its part of the consumer's id, and the same as a number."""

    kind: ConsumerKind
    known: str
    id: str
    key: str
    equals: str  # The row's value is the one asked for.


def _hashed(kind: ConsumerKind) -> _ActorSql:
    column = f"r.{kind}"
    return _ActorSql(
        kind=kind,
        known=f"{column} != 0",
        id=f"concat('{kind}:', leftPad(lower(hex({column})), 16, '0'))",
        key=column,
        equals=f"{column} = {{hash:UInt64}}",
    )


def _named(kind: ConsumerKind) -> _ActorSql:
    column = f"r.client_{kind}"
    return _ActorSql(
        kind=kind,
        known=f"{column} != ''",
        id=f"concat('{kind}:', {column})",
        key=f"cityHash64('{kind}', {column})",
        equals=f"{column} = {{text:String}}",
    )


_ACTORS: dict[ConsumerColumn, _ActorSql] = {
    ConsumerColumn.PRINCIPAL: _hashed(ConsumerKind.PRINCIPAL),
    ConsumerColumn.CREDENTIAL: _hashed(ConsumerKind.CREDENTIAL),
    ConsumerColumn.CLIENT_ADDRESS: _named(ConsumerKind.ADDRESS),
    ConsumerColumn.CLIENT_WORKLOAD: _named(ConsumerKind.WORKLOAD),
}


class ConsumerSql:
    """Who a row's consumer is: the first actor column of `order` that is known. A row past an endpoint's cap has none
    and is nobody."""

    __slots__ = ("_actors", "count", "id")

    def __init__(self, order: Sequence[ConsumerColumn] = CONSUMER_ORDER) -> None:
        self._actors = tuple(_ACTORS[column] for column in order)
        ids = ", ".join(f"{actor.known}, {actor.id}" for actor in self._actors)
        keys = ", ".join(f"{actor.known}, {actor.key}" for actor in self._actors)
        known = " OR ".join(actor.known for actor in self._actors)
        self.id = f"multiIf({ids}, '{ConsumerKind.OTHER}:')"  # `kind:value`
        self.count = f"uniqCombined64If(12)(multiIf({keys}, 0), {known})"  # Distinct consumers.

    def is_named(self, kind: ConsumerKind) -> str:
        """The condition on the rows of one consumer: its value ({hash:UInt64} or {text:String}), and nothing that would
        come first. A kind that the order leaves out names nobody."""
        conditions: list[str] = []
        for actor in self._actors:
            if actor.kind is kind:
                return " AND ".join([*conditions, actor.known, actor.equals])
            conditions.append(f"NOT ({actor.known})")
        return " AND ".join(conditions) if kind is ConsumerKind.OTHER else "false"


def rows_table(span: Span) -> str:
    """The roll-up that answers for a span."""
    return "rows_hour" if span.is_hourly else "rows_minute"


def objects_count(span: Span) -> str:
    """Distinct objects: exact sets or sketches merged, and never fewer than one row's own estimate (a row past 256
    holds a sample)."""
    union = "uniqCombined64Merge(12)(r.objects_state)" if span.is_hourly else "uniqCombined64Array(12)(r.objects)"
    return f"greatest({union}, max(r.objects_count))"


def counted_rows(span: Span) -> str:
    """`FROM ... WHERE ...` of the rows that count, joined with their endpoints: aliases `r` and `n`. Needs NAMES in
    the WITH clause."""
    table = rows_table(span)
    return f"""
    FROM {table} AS r
    INNER JOIN names AS n ON n.route_id = r.route_id
    WHERE {IN_SPAN} AND (r.role = {ROLE_SERVER} OR r.route_id NOT IN (
        SELECT o.route_id FROM endpoint_routes AS o WHERE o.host IN (
            SELECT s.host FROM endpoint_routes AS s
            WHERE s.host NOT IN ('', 'other') AND s.route_id IN (
                SELECT r.route_id FROM {table} AS r WHERE {IN_SPAN} AND r.role = {ROLE_SERVER} AND {SUCCESS}))))"""


def of_endpoints(condition: str) -> str:
    """`AND ...` for the rows of endpoints: `condition` is on `endpoint_id`. It names routes, which rows are sorted by,
    so that only theirs are read."""
    return f" AND r.route_id IN (SELECT route_id FROM endpoint_routes FINAL WHERE endpoint_id {condition})"


def span_parameters(span: Span) -> dict[str, Any]:
    """The parameters that `counted_rows` needs."""
    return {"start": span.start, "end": span.end}
