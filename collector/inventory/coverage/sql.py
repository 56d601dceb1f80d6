"""The statements of the coverage: the last report of each node, the list of its ports, and what each hour added."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from collector.inventory.coverage.coverage import (
    PROTOCOL_NUMBERS,
    READINGS,
    ROLE_NUMBERS,
    CoverageRole,
    PortProtocol,
    Reading,
    build_statement,
)
from collector.inventory.filters import (
    SEARCH_CHARACTERS_MAX,
    Condition,
    Filter,
    Order,
    SortedQuery,
    Text,
    match_words,
)
from collector.inventory.query import Cursor

NODES_MAX = 10_000  # The paper design's installation.
# An hour's increase is the difference to the hour before of the same sensor's run, which may have been away meanwhile.
HISTORY_BASE_SECONDS = 2 * 86_400

_KEY = "node, cluster, namespace, workload, workload_kind, host_name, port, role, protocol, address"
PORT_ID = f"lower(hex(sipHash64({_KEY})))"
_COUNTS = ("connections", "bytes", "joined_late", "calls", "lost_calls", "estimated_calls", "uncaptured_ms")


def _numbers(names: Mapping[int, Any], *wanted: Any) -> str:
    return ", ".join(str(number) for number, name in names.items() if name in wanted)


_LISTENING = f"role = {_numbers(ROLE_NUMBERS, CoverageRole.LISTENING)}"
_OUTBOUND = f"role = {_numbers(ROLE_NUMBERS, CoverageRole.OUTBOUND)}"


def _protocols_of(reading: Reading) -> str:
    return _numbers(PROTOCOL_NUMBERS, *(protocol for protocol, found in READINGS.items() if found is reading))


_READ = f"protocol IN ({_protocols_of(Reading.READ)})"
_UNREADABLE = f"protocol IN ({_protocols_of(Reading.UNREADABLE)})"
_UNSEEN = f"protocol IN ({_protocols_of(Reading.UNSEEN)})"
# A whole report has every port: a row of an older one is of a port that was called since, or changed its service.
_LAST = "(node, report_time) IN (SELECT node, max(report_time) FROM coverage_rows GROUP BY node)"
BLIND_SPOTS = build_statement(_LAST)
_HTTP = f"is_http_like AND {_LISTENING}"
_PORT = "tuple(address, port, workload)"

NODES = f"""
SELECT node,
    sumIf(connections, {_HTTP}) AS share_connections, sumIf(bytes, {_HTTP}) AS share_bytes,
    sumIf(connections, {_HTTP} AND {_READ}) AS read_connections, sumIf(bytes, {_HTTP} AND {_READ}) AS read_bytes,
    uniqExactIf({_PORT}, {_LISTENING}) AS ports,
    uniqExactIf({_PORT}, {_LISTENING} AND {_READ}) AS read_ports,
    uniqExactIf({_PORT}, {_LISTENING} AND {_UNREADABLE}) AS unreadable_ports,
    countIf({_UNSEEN}) AS unseen_ports,
    uniqExactIf(tuple(address, port), {_OUTBOUND}) AS outbound_hosts,
    sumIf(c.calls, {_LISTENING}) AS calls, sumIf(c.estimated_calls, {_LISTENING}) AS estimated_calls,
    sumIf(c.joined_late, {_LISTENING}) AS joined_late, sumIf(c.lost_calls, {_LISTENING}) AS lost_calls,
    toUnixTimestamp(max(time)) AS updated_at
FROM coverage_rows AS c FINAL
WHERE {_LAST}
GROUP BY node
ORDER BY node
LIMIT {NODES_MAX}"""


class PortSort(StrEnum):
    """What ports may be sorted by."""

    BYTES = "bytes"
    CONNECTIONS = "connections"
    CALLS = "calls"
    ESTIMATED_CALLS = "estimated_calls"
    JOINED_LATE = "joined_late"
    LOST_CALLS = "lost_calls"
    PORT = "port"
    SERVICE = "service"
    NODE = "node"


# Sort values are never NULL or NaN: a keyset must be able to pass them.
_SORTS: Mapping[PortSort, str] = {
    **{sort: f"toFloat64({sort.value})" for sort in PortSort},
    PortSort.SERVICE: "concat(workload, ':', leftPad(toString(port), 5, '0'))",
    PortSort.NODE: "concat(node, ' ', workload, ':', leftPad(toString(port), 5, '0'))",
}
SORT_TYPES: Mapping[PortSort, type[float] | type[str]] = {
    **dict.fromkeys(PortSort, float),
    PortSort.SERVICE: str,
    PortSort.NODE: str,
}
_SEARCHED = (
    "concat(node, ' ', namespace, '/', workload, ':', toString(port), ' ', address, ' ', reason, ' ', handshakes)"
)


def _is_protocol(protocol: PortProtocol) -> Condition:
    if protocol is PortProtocol.UNKNOWN:
        return Condition(sql=f"protocol NOT IN ({', '.join(map(str, PROTOCOL_NUMBERS))})")
    return Condition(sql=f"protocol IN ({_numbers(PROTOCOL_NUMBERS, protocol)})")


def _is_reading(reading: Reading) -> Condition:
    return Condition(sql=f"protocol IN ({_protocols_of(reading)})")


def _is_role(role: CoverageRole) -> Condition:
    return Condition(sql=f"role IN ({_numbers(ROLE_NUMBERS, role) or 'NULL'})")


def _is_http_like(is_wanted: bool) -> Condition:
    return Condition(sql="is_http_like" if is_wanted else "NOT is_http_like")


class PortQuery(SortedQuery):
    """Filters, sort and page of the list of ports."""

    ASCENDING = frozenset({PortSort.PORT, PortSort.SERVICE, PortSort.NODE})

    q: Annotated[Text, Filter(match_words(_SEARCHED), title="Search")] = Field(
        default="",
        max_length=SEARCH_CHARACTERS_MAX,
        description="Words that must all occur in node, service, port, address, reason or what handshakes said.",
    )
    node: Annotated[Text, Filter("node = {node:String}")] = Field(
        default="", max_length=300, description="Exactly this node."
    )
    service: Annotated[
        Text, Filter("(workload = {service:String} OR concat(workload, ':', toString(port)) = {service:String})")
    ] = Field(default="", max_length=300, description="A workload, or `workload:port`.")
    reading: Annotated[Reading | None, Filter(_is_reading, title="Reading")] = Field(
        default=None, description="Whether its calls are in the inventory."
    )
    protocol: Annotated[PortProtocol | None, Filter(_is_protocol, title="Protocol")] = Field(
        default=None, description="What was seen on the port."
    )
    role: Annotated[CoverageRole | None, Filter(_is_role, title="Role")] = Field(
        default=None, description="Which end of its connections a row is about."
    )
    http_like: Annotated[bool | None, Filter(_is_http_like)] = Field(
        default=None, description="Whether it counts to the share that is read."
    )
    sort: PortSort = PortSort.BYTES
    order: Order | None = Field(default=None, description="Default: names and ports A to Z, all else most first.")


def count_ports(query: PortQuery) -> tuple[str, dict[str, Any]]:
    """How many match, on all pages."""
    where, parameters = _filter(query)
    return f"SELECT count() AS total FROM coverage_rows FINAL WHERE {where}", parameters


def page_ports(query: PortQuery, after: Cursor | None) -> tuple[str, dict[str, Any]]:
    """The rows of a page and one more."""
    where, parameters = _filter(query)
    page, placed = query.page(after, SORT_TYPES[query.sort])
    statement = f"""
SELECT * FROM (
    SELECT {PORT_ID} AS id, {_KEY}, is_http_like, {", ".join(_COUNTS)}, reason, handshakes,
        toUnixTimestamp(time) AS updated_at, {_SORTS[query.sort]} AS sort_value
    FROM coverage_rows FINAL WHERE {where}
) {page}"""
    return statement, parameters | placed


def _filter(query: PortQuery) -> tuple[str, dict[str, Any]]:
    conditions, parameters = [_LAST], dict[str, Any]()
    for one in query.build_conditions():
        conditions.append(one.sql)
        parameters |= one.parameters
    return " AND ".join(conditions), parameters


# Since when the rows of a page are reported, as far back as hours are kept.
FIRST_SEEN = f"""
SELECT {PORT_ID} AS id, toUnixTimestamp(min(first_time)) AS first_seen
FROM coverage_hours
WHERE node IN {{nodes:Array(String)}} AND id IN {{ids:Array(String)}}
GROUP BY id"""

_RUN = f"node, boot_id, {_KEY.removeprefix('node, ')}"
_GROWTH = ", ".join(
    f"greatest(0, toInt64({name}) - toInt64(lagInFrame({name}) OVER run)) AS more_{name}" for name in _COUNTS
)
_GREATEST = ", ".join(f"max(h.{name}) AS {name}" for name in _COUNTS)


def history(node: str) -> str:
    """What each step added to listening ports, and the time without capture. Parameters: start, end, base (unix
    seconds), step (s), and node."""
    growth = _build_growth("AND h.node = {node:String}" if node else "")
    return f"""
SELECT toUnixTimestamp(toStartOfInterval(time, INTERVAL {{step:UInt32}} SECOND)) AS point,
    sumIf(more_connections, is_http_like) AS share_connections, sumIf(more_bytes, is_http_like) AS share_bytes,
    sumIf(more_connections, is_http_like AND {_READ}) AS read_connections,
    sumIf(more_bytes, is_http_like AND {_READ}) AS read_bytes,
    sumIf(more_calls, {_LISTENING}) AS calls, sumIf(more_estimated_calls, {_LISTENING}) AS estimated_calls,
    sumIf(more_joined_late, {_LISTENING}) AS joined_late, sumIf(more_lost_calls, {_LISTENING}) AS lost_calls,
    sum(more_uncaptured_ms) / 1000 AS uncaptured_seconds
{growth}
GROUP BY point
ORDER BY point"""


def _build_growth(condition: str) -> str:
    """What each hour from `start` to `end` added to each row."""
    return f"""FROM (
    SELECT time, cluster, namespace, role, protocol, is_http_like, {_GROWTH}
    FROM (
        SELECT h.time AS time, {", ".join(f"h.{name} AS {name}" for name in _RUN.split(", "))},
            max(h.is_http_like) AS is_http_like, {_GREATEST}
        FROM coverage_hours AS h
        WHERE h.time >= fromUnixTimestamp({{base:UInt32}}) AND h.time < fromUnixTimestamp({{end:UInt32}})
            AND (h.{_LISTENING} OR h.uncaptured_ms > 0) {condition}
        GROUP BY time, {_RUN}
    )
    WINDOW run AS (PARTITION BY {_RUN} ORDER BY time ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
)
WHERE time >= fromUnixTimestamp({{start:UInt32}})"""


# What the hours from `start` to `end` added to listening ports, by namespace. `base`: from when on rows are compared.
RECENT = f"""
SELECT cluster, namespace, sumIf(more_connections, is_http_like) AS share_connections,
    sumIf(more_connections, is_http_like AND {_READ}) AS read_connections
{_build_growth("")} AND {_LISTENING}
GROUP BY cluster, namespace"""
