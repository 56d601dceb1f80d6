"""Endpoints out of the store: reads a question, gives a page of the inventory or one endpoint with its history.

A page takes two statements. The first ranks: it aggregates only what the filters and the sort need, over every
endpoint, and gives the
ids of the page. The second measures: histograms, consumers and content types of those ids alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from collector.inventory.authentication import NUMBERS, count_by_kind
from collector.inventory.counted import (
    CLIENT_ERROR,
    DATED_NAMES,
    ERROR,
    FLAG_LOSSY,
    HOP_PROXY,
    NAMES,
    ROLE_CLIENT,
    ROLE_SERVER,
    SUCCESS,
    ConsumerSql,
    counted_rows,
    names_of,
    objects_count,
    of_endpoints,
    span_parameters,
)
from collector.inventory.cursor import Cursor, read_cursor, write_cursor
from collector.inventory.endpoint import (
    FULL_COVERAGE,
    Authentication,
    AuthenticationLevel,
    Endpoint,
    EndpointConsumer,
    EndpointDetail,
    EndpointRoute,
    SeenAt,
    SeriesPoint,
    StatusMix,
    decide_tier,
)
from collector.inventory.histogram import compute_percentiles
from collector.inventory.question import EndpointQuestion, EndpointSort, Order
from collector.inventory.reader import Reader, select
from collector.inventory.shape import describe_shape
from collector.inventory.span import Span, series_step
from collector.rows import Service

TOP_CONSUMERS = 20
ROUTES_MAX = 100
CONTENT_TYPES_MAX = 8
MICROSECONDS_TO_MILLISECONDS = 0.001
RATE_SECONDS_MIN = 60  # One row: a rate over less would be guessed from a handful of calls.

_COVERAGE = f"sumIf(r.calls, {SUCCESS} AND r.authentication != 0) / sumIf(r.calls, {SUCCESS})"


@dataclass(frozen=True, slots=True, kw_only=True)
class _SortKey:
    """One sort: its aggregate, and the type of its values. No value may be NULL or NaN: a keyset must be able to
    pass it."""

    expression: str
    value_type: type[float] | type[str]


_P95_BUCKET = """if(empty((sumMap(r.duration) AS latency).1), -1., toFloat64(
        latency.1[arrayFirstIndex(seen -> seen >= 0.95 * arraySum(latency.2), arrayCumSum(latency.2))]))"""

_SORTS: dict[EndpointSort, _SortKey] = {
    EndpointSort.CALLS: _SortKey(expression="toFloat64(sum(r.calls))", value_type=float),
    EndpointSort.LAST_SEEN: _SortKey(expression="toFloat64(toUnixTimestamp(max(r.last_seen)))", value_type=float),
    EndpointSort.FIRST_SEEN: _SortKey(expression="toFloat64(min(n.first_seen))", value_type=float),
    EndpointSort.TEMPLATE: _SortKey(
        expression="max(concat(n.url_template, ' ', n.method, ' ', n.host))", value_type=str
    ),
    EndpointSort.P95: _SortKey(expression=_P95_BUCKET, value_type=float),
    EndpointSort.ERRORS: _SortKey(expression=f"toFloat64(sumIf(r.calls, {ERROR}))", value_type=float),
    # Without a 2xx call there is nothing to judge: after everything that can be.
    EndpointSort.AUTHENTICATION: _SortKey(
        expression=f"if(sumIf(r.calls, {SUCCESS}) = 0, 2., {_COVERAGE})",
        value_type=float,
    ),
}


def _find_sort(sort: EndpointSort, who: ConsumerSql) -> _SortKey:
    if sort is EndpointSort.CONSUMERS:
        return _SortKey(expression=f"toFloat64({who.count})", value_type=float)
    return _SORTS[sort]


_TIERS = f"""multiIf(sumIf(r.calls, {SUCCESS}) > 0, 'confirmed',
        sum(r.calls) > 0 AND sumIf(r.calls, {CLIENT_ERROR}) = sum(r.calls), 'probed', 'unconfirmed')"""

_LEVELS: dict[str, str] = {
    AuthenticationLevel.NONE: f"sumIf(r.calls, {SUCCESS}) > 0 AND {_COVERAGE} = 0",
    AuthenticationLevel.PARTIAL: f"{_COVERAGE} > 0 AND {_COVERAGE} < {FULL_COVERAGE}",
    AuthenticationLevel.FULL: f"sumIf(r.calls, {SUCCESS}) > 0 AND {_COVERAGE} >= {FULL_COVERAGE}",
    AuthenticationLevel.UNKNOWN: f"sumIf(r.calls, {SUCCESS}) = 0",
}

_SEARCHED = "concat(n.method, ' ', n.host, n.url_template, ' ', n.service, ' ', n.namespace, '/', n.workload)"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointPage:
    """One page, where the next one starts (empty on the last), and how many endpoints match in all."""

    items: tuple[Endpoint, ...]
    next_cursor: str
    total: int


class EndpointInventory:
    """Answers questions about endpoints from the store."""

    def __init__(self, *, reader: Reader, who: ConsumerSql) -> None:
        self._reader = reader
        self._who = who

    def list_endpoints(self, question: EndpointQuestion) -> EndpointPage:
        """One page; raises CursorError when the cursor is not of this question."""
        sort = _find_sort(question.sort, self._who)
        after = read_cursor(question.cursor, question.fingerprint, sort.value_type) if question.cursor else None
        statement, parameters = _rank(question, sort, after)
        ranked = select(self._reader, statement, parameters)
        shown = ranked[: question.limit]
        next_cursor = ""
        if len(ranked) > question.limit:
            last = Cursor(value=shown[-1]["sort_value"], id=shown[-1]["id"])
            next_cursor = write_cursor(last, question.fingerprint)
        by_id = self._measure(question.span, [row["id"] for row in shown])
        # A minute row may expire between the two statements; then the endpoint has left the span.
        items = tuple(by_id[row["id"]] for row in shown if row["id"] in by_id)
        return EndpointPage(items=items, next_cursor=next_cursor, total=int(ranked[0]["total"]) if ranked else 0)

    def get_endpoint(self, endpoint_id: str, span: Span) -> EndpointDetail | None:
        """One endpoint with its history, or None when it had no counted call in the span."""
        endpoint = self._measure(span, [endpoint_id]).get(endpoint_id)
        if endpoint is None:
            return None
        step = series_step(span)
        parameters = {**span_parameters(span), "id": endpoint_id, "step": step}
        counted = counted_rows(span) + of_endpoints("= {id:String}")
        return EndpointDetail(
            endpoint=endpoint,
            series_step_seconds=step,
            series=tuple(_read_point(row) for row in select(self._reader, _series(counted, self._who), parameters)),
            top_consumers=tuple(
                _read_consumer(row)
                for row in select(self._reader, _top_consumers(counted, span, self._who), parameters)
            ),
            status_codes={
                str(row["status_code"] or "aborted"): int(row["total"])
                for row in select(self._reader, _status_codes(counted), parameters)
            },
            routes=tuple(_read_route(row) for row in select(self._reader, _routes(counted), parameters)),
        )

    def _measure(self, span: Span, ids: list[str]) -> dict[str, Endpoint]:
        """Every figure of the endpoints with these ids."""
        if not ids:
            return {}
        rows = select(self._reader, _measures(span, self._who), {**span_parameters(span), "ids": ids})
        return {row["id"]: _read_endpoint(row, span) for row in rows}


def _rank(question: EndpointQuestion, sort: _SortKey, after: Cursor | None) -> tuple[str, dict[str, Any]]:
    """The statement that gives id, sort_value and total of one page and one row more, with its parameters."""
    parameters = span_parameters(question.span)
    wheres, havings = [], []
    for number, word in enumerate(question.words):
        wheres.append(f"positionCaseInsensitiveUTF8({_SEARCHED}, {{word{number}:String}}) > 0")
        parameters[f"word{number}"] = word
    for name, value, condition in (
        ("method", question.method, "n.method = {method:String}"),
        ("service", question.service, "(n.service = {service:String} OR n.workload = {service:String})"),
        ("host", question.host, "n.host = {host:String}"),
    ):
        if value:
            wheres.append(condition)
            parameters[name] = value
    if question.tier is not None:
        havings.append(f"{_TIERS} = {{tier:String}}")
        parameters["tier"] = question.tier.value
    if question.authentication in _LEVELS:
        havings.append(_LEVELS[question.authentication])
    elif question.authentication:
        havings.append(f"bitAnd(groupBitOrIf(r.authentication, {SUCCESS}), {{bits:UInt32}}) != 0")
        parameters["bits"] = 1 << NUMBERS[question.authentication]
    parameters["rows"] = question.limit + 1
    keyset = ""
    if after is not None:
        comparison = ">" if question.order is Order.ASCENDING else "<"
        column_type = "Float64" if sort.value_type is float else "String"
        keyset = f"WHERE (sort_value, id) {comparison} ({{after_value:{column_type}}}, {{after_id:String}})"
        parameters |= {"after_value": after.value, "after_id": after.id}
    direction = "ASC" if question.order is Order.ASCENDING else "DESC"
    statement = f"""
WITH {DATED_NAMES if question.sort is EndpointSort.FIRST_SEEN else NAMES}
SELECT id, sort_value, total
FROM (
    SELECT id, sort_value, count() OVER () AS total
    FROM (
        SELECT n.endpoint_id AS id, {sort.expression} AS sort_value
        {counted_rows(question.span)}{"".join(f" AND {where}" for where in wheres)}
        GROUP BY n.endpoint_id
        HAVING sum(r.calls) > 0{"".join(f" AND {having}" for having in havings)}
    )
)
{keyset}
ORDER BY sort_value {direction}, id {direction}
LIMIT {{rows:UInt32}}"""
    return statement, parameters


def _measures(span: Span, who: ConsumerSql) -> str:
    """All figures of the endpoints in {ids}."""
    return f"""
WITH {names_of("IN {ids:Array(String)}")}
SELECT
    n.endpoint_id AS id,
    max(n.cluster) AS cluster, max(n.namespace) AS namespace, max(n.workload) AS workload, max(n.workload_kind) AS
    workload_kind,
    max(n.host_name) AS host_name, max(n.port) AS port, max(n.host) AS host, max(n.method) AS method,
    max(n.url_template) AS url_template, min(n.first_seen) AS first_seen,
    toUnixTimestamp(max(r.last_seen)) AS last_seen,
    sum(r.calls) AS calls,
    sumIf(r.calls, r.status_code BETWEEN 100 AND 199) AS informational,
    sumIf(r.calls, {SUCCESS}) AS success,
    sumIf(r.calls, r.status_code BETWEEN 300 AND 399) AS redirection,
    sumIf(r.calls, {CLIENT_ERROR}) AS client_error,
    sumIf(r.calls, r.status_code >= 500) AS server_error,
    sumIf(r.calls, r.status_code = 0) AS aborted,
    sumIf(r.calls, {SUCCESS} AND r.authentication != 0) AS authenticated,
    sumMapIf([r.authentication], [r.calls], {SUCCESS}) AS authentication,
    sumMap(r.duration) AS duration,
    max(r.duration_max_us) AS duration_max_us,
    sum(r.request_bytes) AS request_bytes,
    sum(r.response_bytes) AS response_bytes,
    sumMap(r.response_size) AS response_size,
    {who.count} AS consumers,
    groupBitOr(r.flags) AS flags,
    max(r.hop = {HOP_PROXY}) AS is_proxied,
    max(r.role = {ROLE_SERVER}) AS at_server,
    max(r.role = {ROLE_CLIENT}) AS at_client,
    groupUniqArray({CONTENT_TYPES_MAX})(r.protocol_version) AS protocol_versions,
    groupUniqArray({CONTENT_TYPES_MAX})(r.request_content_type) AS request_content_types,
    groupUniqArray({CONTENT_TYPES_MAX})(r.response_content_type) AS response_content_types
{counted_rows(span)}{of_endpoints("IN {ids:Array(String)}")}
GROUP BY n.endpoint_id
HAVING sum(r.calls) > 0"""


def _series(counted: str, who: ConsumerSql) -> str:
    """One row a step, ascending; steps without calls are absent."""
    return f"""
WITH {names_of("= {id:String}")}
SELECT intDiv(toUnixTimestamp(r.time), {{step:UInt32}}) * {{step:UInt32}} AS point, sum(r.calls) AS calls,
sumIf(r.calls, {ERROR}) AS errors,
    sumMap(r.duration) AS duration, sum(r.request_bytes) AS request_bytes, sum(r.response_bytes) AS response_bytes,
    {who.count} AS consumers
{counted}
GROUP BY point
ORDER BY point"""


def _top_consumers(counted: str, span: Span, who: ConsumerSql) -> str:
    """The busiest consumers of one endpoint."""
    return f"""
WITH {names_of("= {id:String}")}
SELECT {who.id} AS consumer, sum(r.calls) AS calls, sumIf(r.calls, {ERROR}) AS errors, {objects_count(span)} AS
objects,
    toUnixTimestamp(min(r.first_seen)) AS first_seen, toUnixTimestamp(max(r.last_seen)) AS last_seen
{counted}
GROUP BY consumer
ORDER BY calls DESC, consumer
LIMIT {TOP_CONSUMERS}"""


def _status_codes(counted: str) -> str:
    """Calls by status code, most first."""
    return f"""
WITH {names_of("= {id:String}")}
SELECT r.status_code AS status_code, sum(r.calls) AS total
{counted}
GROUP BY status_code
ORDER BY total DESC, status_code"""


def _routes(counted: str) -> str:
    """The routes behind one endpoint, busiest first."""
    return f"""
WITH {names_of("= {id:String}")}
SELECT t.route_id AS route_id, t.method AS method, t.host AS host, t.segment_kind AS segment_kind, t.segment_text AS
segment_text,
    t.segment_length AS segment_length, t.has_trailing_slash AS has_trailing_slash, c.total AS calls
FROM (SELECT r.route_id AS route_id, sum(r.calls) AS total {counted} GROUP BY r.route_id) AS c
INNER JOIN (SELECT * FROM routes LIMIT 1 BY route_id) AS t ON t.route_id = c.route_id
ORDER BY calls DESC, route_id
LIMIT {ROUTES_MAX}"""


def _read_endpoint(row: Mapping[str, Any], span: Span) -> Endpoint:
    """An Endpoint of one row of `_measures`."""
    status = StatusMix(
        informational=int(row["informational"]),
        success=int(row["success"]),
        redirection=int(row["redirection"]),
        client_error=int(row["client_error"]),
        server_error=int(row["server_error"]),
        aborted=int(row["aborted"]),
    )
    latency = compute_percentiles(*row["duration"])
    bits, calls_by_bits = row["authentication"]
    return Endpoint(
        id=row["id"],
        service=Service(
            cluster=row["cluster"],
            namespace=row["namespace"],
            workload=row["workload"],
            workload_kind=int(row["workload_kind"]),
            host_name=row["host_name"],
            port=int(row["port"]),
        ),
        host=row["host"],
        method=row["method"],
        template=row["url_template"],
        calls=int(row["calls"]),
        calls_per_second=int(row["calls"]) / _watched_seconds(int(row["first_seen"]), span),
        first_seen=int(row["first_seen"]),
        last_seen=int(row["last_seen"]),
        status=status,
        latency_ms=None if latency is None else latency.scaled(MICROSECONDS_TO_MILLISECONDS),
        latency_max_ms=int(row["duration_max_us"]) * MICROSECONDS_TO_MILLISECONDS,
        request_bytes=int(row["request_bytes"]),
        response_bytes=int(row["response_bytes"]),
        response_size_bytes=compute_percentiles(*row["response_size"]),
        authentication=Authentication(
            coverage=int(row["authenticated"]) / status.success if status.success else None,
            kinds=count_by_kind(dict(zip(bits, calls_by_bits, strict=True))),
        ),
        consumers=int(row["consumers"]),
        tier=decide_tier(status),
        seen_at=_decide_seen_at(bool(row["at_server"]), bool(row["at_client"])),
        is_proxied=bool(row["is_proxied"]),
        is_lossy=bool(int(row["flags"]) & FLAG_LOSSY),
        protocol_versions=_read_names(row["protocol_versions"]),
        request_content_types=_read_names(row["request_content_types"]),
        response_content_types=_read_names(row["response_content_types"]),
    )


def _watched_seconds(first_seen: int, span: Span) -> int:
    """The part of the span that the endpoint is known for: a rate over hours before its first call would be too low."""
    return max(RATE_SECONDS_MIN, span.end - max(span.start, first_seen))


def _decide_seen_at(at_server: bool, at_client: bool) -> SeenAt:
    if at_server and at_client:
        return SeenAt.BOTH
    return SeenAt.CLIENT if at_client else SeenAt.SERVER


def _read_names(names: list[str]) -> tuple[str, ...]:
    """Known names in alphabetical order."""
    return tuple(sorted(name for name in names if name))


def _read_point(row: Mapping[str, Any]) -> SeriesPoint:
    latency = compute_percentiles(*row["duration"])
    return SeriesPoint(
        time=int(row["point"]),
        calls=int(row["calls"]),
        errors=int(row["errors"]),
        p95_ms=None if latency is None else latency.p95 * MICROSECONDS_TO_MILLISECONDS,
        request_bytes=int(row["request_bytes"]),
        response_bytes=int(row["response_bytes"]),
        consumers=int(row["consumers"]),
    )


def _read_consumer(row: Mapping[str, Any]) -> EndpointConsumer:
    return EndpointConsumer(
        id=row["consumer"],
        calls=int(row["calls"]),
        errors=int(row["errors"]),
        objects=int(row["objects"]),
        first_seen=int(row["first_seen"]),
        last_seen=int(row["last_seen"]),
    )


def _read_route(row: Mapping[str, Any]) -> EndpointRoute:
    shape = describe_shape(
        row["segment_kind"], row["segment_text"], row["segment_length"], bool(row["has_trailing_slash"])
    )
    return EndpointRoute(
        id=f"{int(row['route_id']):016x}",
        method=row["method"],
        host=row["host"],
        shape=shape,
        calls=int(row["calls"]),
    )
