"""The statements of the coverage: the last report of each node, a page of its ports, and what each hour added."""

from collections.abc import Mapping
from typing import Any

from collector.inventory.coverage.coverage import (
    PROTOCOL_NUMBERS,
    READINGS,
    ROLE_NUMBERS,
    CoverageRole,
    PortProtocol,
    PortQuestion,
    PortSort,
    Reading,
    build_statement,
)
from collector.inventory.endpoints.question import Order
from collector.inventory.query import Cursor

NODES_MAX = 10_000  # The paper design's installation.
# An hour's increase is the difference to the hour before of the same sensor's run, which may have been away meanwhile.
HISTORY_BASE_SECONDS = 2 * 86_400

_KEY = "node, cluster, namespace, workload, workload_kind, host_name, port, role, protocol, address"
PORT_ID = f"lower(hex(sipHash64({_KEY})))"
_COUNTS = ("connections", "bytes", "joined_late", "calls", "lost_calls", "estimated_calls")


def _numbers(names: Mapping[int, Any], *wanted: Any) -> str:
    return ", ".join(str(number) for number, name in names.items() if name in wanted)


_LISTENING = f"role = {_numbers(ROLE_NUMBERS, CoverageRole.LISTENING)}"
_OUTBOUND = f"role = {_numbers(ROLE_NUMBERS, CoverageRole.OUTBOUND)}"


def _protocols_of(reading: Reading) -> str:
    return _numbers(PROTOCOL_NUMBERS, *(protocol for protocol, found in READINGS.items() if found is reading))


_READ = f"protocol IN ({_protocols_of(Reading.READ)})"
_UNREADABLE = f"protocol IN ({_protocols_of(Reading.UNREADABLE)})"
_UNSEEN = f"protocol IN ({_protocols_of(Reading.UNSEEN)})"
# A report has every port, at one time: an older row is of one that was called since, or changed its service.
_LAST = "(node, time) IN (SELECT node, max(time) FROM coverage_rows GROUP BY node)"
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


def count_ports(question: PortQuestion) -> tuple[str, dict[str, Any]]:
    """How many match, on all pages."""
    conditions, parameters = _filter(question)
    return f"SELECT count() AS total FROM coverage_rows FINAL WHERE {' AND '.join(conditions)}", parameters


def page_ports(question: PortQuestion, after: Cursor | None) -> tuple[str, dict[str, Any]]:
    """The rows of a page and one more."""
    conditions, parameters = _filter(question)
    is_descending = question.order is Order.DESCENDING
    place = "1"
    if after is not None:
        kind = "Float64" if SORT_TYPES[question.sort] is float else "String"
        place = f"(sort_value, id) {'<' if is_descending else '>'} ({{after_value:{kind}}}, {{after_id:String}})"
        parameters |= {"after_value": after.value, "after_id": after.id}
    direction = "DESC" if is_descending else "ASC"
    statement = f"""
SELECT * FROM (
    SELECT {PORT_ID} AS id, {_KEY}, is_http_like, {", ".join(_COUNTS)}, reason, handshakes,
        toUnixTimestamp(time) AS updated_at, {_SORTS[question.sort]} AS sort_value
    FROM coverage_rows FINAL WHERE {" AND ".join(conditions)}
) WHERE {place}
ORDER BY sort_value {direction}, id {direction}
LIMIT {question.limit + 1}"""
    return statement, parameters


def _filter(question: PortQuestion) -> tuple[list[str], dict[str, Any]]:
    conditions, parameters = [_LAST], dict[str, Any]()
    for number, word in enumerate(question.words):
        conditions.append(f"positionCaseInsensitiveUTF8({_SEARCHED}, {{word{number}:String}}) > 0")
        parameters[f"word{number}"] = word
    if question.node:
        conditions.append("node = {node:String}")
        parameters["node"] = question.node
    if question.service:
        conditions.append("(workload = {service:String} OR concat(workload, ':', toString(port)) = {service:String})")
        parameters["service"] = question.service
    if question.protocol is not None:
        conditions.append(_is_protocol(question.protocol))
    if question.reading is not None:
        conditions.append(f"protocol IN ({_protocols_of(question.reading)})")
    if question.role is not None:
        conditions.append(f"role IN ({_numbers(ROLE_NUMBERS, question.role) or 'NULL'})")
    if question.is_http_like is not None:
        conditions.append("is_http_like" if question.is_http_like else "NOT is_http_like")
    return conditions, parameters


def _is_protocol(protocol: PortProtocol) -> str:
    if protocol is PortProtocol.UNKNOWN:
        return f"protocol NOT IN ({', '.join(map(str, PROTOCOL_NUMBERS))})"
    return f"protocol IN ({_numbers(PROTOCOL_NUMBERS, protocol)})"


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
    """What each step added to listening ports. Parameters: start, end, base (unix seconds), step (s), and node."""
    of_node = "AND h.node = {node:String}" if node else ""
    return f"""
SELECT toUnixTimestamp(toStartOfInterval(time, INTERVAL {{step:UInt32}} SECOND)) AS point,
    sumIf(more_connections, is_http_like) AS share_connections, sumIf(more_bytes, is_http_like) AS share_bytes,
    sumIf(more_connections, is_http_like AND {_READ}) AS read_connections,
    sumIf(more_bytes, is_http_like AND {_READ}) AS read_bytes,
    sum(more_calls) AS calls, sum(more_estimated_calls) AS estimated_calls,
    sum(more_joined_late) AS joined_late, sum(more_lost_calls) AS lost_calls
FROM (
    SELECT time, protocol, is_http_like, {_GROWTH}
    FROM (
        SELECT h.time AS time, {", ".join(f"h.{name} AS {name}" for name in _RUN.split(", "))},
            max(h.is_http_like) AS is_http_like, {_GREATEST}
        FROM coverage_hours AS h
        WHERE h.time >= fromUnixTimestamp({{base:UInt32}}) AND h.time < fromUnixTimestamp({{end:UInt32}})
            AND h.{_LISTENING} {of_node}
        GROUP BY time, {_RUN}
    )
    WINDOW run AS (PARTITION BY {_RUN} ORDER BY time ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
)
WHERE time >= fromUnixTimestamp({{start:UInt32}})
GROUP BY point
ORDER BY point"""
