"""The SQL that every inventory question begins with: which rows count, and who a row's consumer is.

Server rows of the span count, and client rows unless their server is watched
(collector/inventory/endpoints/outbound.py). Every value reaches the database as a typed parameter. The texts here hold
only names of tables and columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from collector.core.kinds import (
    ConsumerKind,
    find_authentication,
    find_bit,
    find_outcome,
    is_authenticated,
    is_client_error,
    is_error,
    is_judged,
    is_not_read,
    is_success,
)
from collector.inventory.endpoints.outbound import HIDDEN_ROUTES, ROLE_SERVER
from collector.inventory.query import Rollup, Span
from common.consumer_order import CONSUMER_ORDER, ConsumerColumn

# Distinct values are exact up to here, and estimates beyond (uniqCombined64(12), and rows of over 256 objects).
EXACT_MAX = 128

# proto RowFlag.
FLAG_LOSSY = 1 << 5
FLAG_ESTIMATED = 1 << 9
FLAG_AMBIGUOUS = 1 << 10
FLAG_UNKNOWN_FIELDS = 1 << 11
FLAG_INFERRED = 1 << 12
FLAG_CLIENT_STREAMING = 1 << 13
FLAG_SERVER_STREAMING = 1 << 14
FLAG_ENCRYPTED = 1 << 15


_NAMED = """m.route_id AS route_id, m.endpoint_id AS endpoint_id, m.service AS service, m.cluster AS cluster,
        m.namespace AS namespace, m.workload AS workload, m.workload_kind AS workload_kind, m.host_name AS host_name,
        m.port AS port, m.host AS host, m.method AS method, m.url_template AS url_template"""
NAMES = f"names AS (SELECT {_NAMED} FROM endpoint_routes AS m FINAL)"  # Route -> endpoint.
NAMES_OF_ROUTES = f"""names AS (
    SELECT {_NAMED} FROM endpoint_routes AS m FINAL WHERE m.route_id IN {{routes:Array(UInt64)}})"""


IN_SPAN = "r.time >= toDateTime({start:UInt32}, 'UTC') AND r.time < toDateTime({end:UInt32}, 'UTC')"

OUTCOME = find_outcome("r")
SUCCESS = is_success("r")
CLIENT_ERROR = is_client_error("r")
ERROR = is_error("r")
UNREAD = is_not_read("r")
JUDGED = is_judged("r")  # Served, and it could be seen whether there were credentials.
AUTHENTICATED = is_authenticated("r")
AUTHENTICATION = find_authentication("r")
PROTOCOL_BIT = find_bit("r")


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

    __slots__ = ("_actors", "count", "id", "key", "known", "state")

    def __init__(self, order: Sequence[ConsumerColumn] = CONSUMER_ORDER) -> None:
        self._actors = tuple(_ACTORS[column] for column in order)
        ids = ", ".join(f"{actor.known}, {actor.id}" for actor in self._actors)
        keys = ", ".join(f"{actor.known}, {actor.key}" for actor in self._actors)
        self.known = known = " OR ".join(actor.known for actor in self._actors)
        self.id = f"multiIf({ids}, '{ConsumerKind.OTHER}:')"  # `kind:value`
        self.key = f"multiIf({keys}, 0)"  # The same as a number; two consumers may have the same.
        self.count = count_distinct(f"uniqCombined64If(12)({self.key}, {known})")  # Distinct consumers.
        self.state = f"uniqCombined64IfState(12)({self.key}, {known})"  # The same, to be merged.

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
    """The rows of calls that answer for a span, one a consumer and outcome."""
    return "rows_minute" if span.rollup is Rollup.MINUTE else "rows_hour"


def count_distinct(estimate: str, row: str = "r") -> str:
    """Distinct values of what each call has one of: an estimate, and no more than the calls. `row` is the rows'
    alias."""
    return f"least({estimate}, sum({row}.calls))"


def objects_count(rollup: Rollup, row: str = "r") -> str:
    """Distinct objects: sets or sketches merged, and never fewer than one row's own estimate (a row past 256 holds a
    sample). `row` is the rows' alias."""
    sets = f"uniqCombined64Array(12)({row}.objects)"
    union = sets if rollup is Rollup.MINUTE else f"uniqCombined64Merge(12)({row}.objects_state)"
    return count_distinct(f"greatest({union}, max({row}.objects_count))", row)


def summary_table(span: Span) -> str:
    """What all consumers together did on each route: the table that a span's lists are ranked by."""
    return {Rollup.MINUTE: "rows_minute", Rollup.HOUR: "routes_hour", Rollup.DAY: "routes_day"}[span.rollup]


def counted_rows(span: Span) -> str:
    """`FROM ... WHERE ...` of the rows that count, joined with their endpoints: aliases `r` and `n`. Needs NAMES in
    the WITH clause. Hops are among them: of a client that is known by its address only a proxy's rows may speak."""
    return f"""
    FROM {rows_table(span)} AS r
    INNER JOIN names AS n ON n.route_id = r.route_id
    WHERE {IN_SPAN} AND (r.role = {ROLE_SERVER} OR r.route_id NOT IN ({HIDDEN_ROUTES}))"""


def counted_rows_of_routes(span: Span) -> str:
    """The same of some routes, without their names: the parameters `routes` and `hidden` are of `find_routes`. Rows lie
    by route, so that only theirs are read."""
    return f"""
    FROM {rows_table(span)} AS r
    WHERE {IN_SPAN} AND r.route_id IN {{routes:Array(UInt64)}}
        AND (r.role = {ROLE_SERVER} OR r.route_id NOT IN {{hidden:Array(UInt64)}})"""


def named_rows_of_routes(span: Span) -> str:
    """The same with their endpoints, as `counted_rows`. Needs NAMES_OF_ROUTES in the WITH clause."""
    rows, conditions = counted_rows_of_routes(span).split("WHERE", 1)
    return f"{rows}INNER JOIN names AS n ON n.route_id = r.route_id\n    WHERE{conditions}"


def span_parameters(span: Span) -> dict[str, Any]:
    """The parameters that `counted_rows` needs."""
    return {"start": span.start, "end": span.end}
