"""The statements that measure endpoints (every figure of some, the history of one), and `Endpoint`s made of their rows.

Rows of calls lie by route, so only the rows of these endpoints are read. `read_rpc`, `read_messages` and `read_streams`
read what an endpoint is besides HTTP.
"""

from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Final

from collector.core.kinds import NOT_READ, RPC_PROTOCOLS, Protocol, is_judged, name_protocols, name_status
from collector.core.rates import compute_rate
from collector.core.rows import Service
from collector.inventory.endpoints.bodies import read_bodies
from collector.inventory.endpoints.endpoint import (
    Authentication,
    Endpoint,
    Messages,
    RiskScore,
    Rpc,
    SeenAt,
    StatusMix,
    Streaming,
    Streams,
    compute_percentiles,
    decide_tier,
)
from collector.inventory.endpoints.exposure import Exposure, Observed
from collector.inventory.endpoints.figure_sums import ADDED, FigureSql
from collector.inventory.endpoints.operations import compute_coverage, count_by_kind, count_weaknesses
from collector.inventory.endpoints.outbound import OWNER, ROLE_CLIENT, ROLE_SERVER
from collector.inventory.endpoints.peers import Call, ContainerImage, DeployedWorkload, Holder
from collector.inventory.endpoints.predicates import (
    AUTHENTICATION,
    ERROR,
    FLAG_AMBIGUOUS,
    FLAG_CLIENT_STREAMING,
    FLAG_ESTIMATED,
    FLAG_INFERRED,
    FLAG_LOSSY,
    FLAG_SERVER_STREAMING,
    FLAG_UNKNOWN_FIELDS,
    UNREAD,
    ConsumerSql,
    count_distinct,
    objects_count,
)
from collector.inventory.kept_sums import KeptSums
from collector.inventory.query import Span
from collector.storage.columns import UsedBy, read_figures

TOP_CONSUMERS = 20
ROUTES_MAX = 100
CARRIERS_MAX = 20
_JUDGED: Final = is_judged("r", "r.outcome")


def measures(span: Span, figures: FigureSql, kept: KeptSums | None) -> str:
    """All figures of the endpoints of some routes, by `owner`: its place among them
    (collector/inventory/endpoints/outbound.py). `kept` are sums that the span begins with.
    The engine needs as long to read the statement as the rows of a page, so what follows from another column is left to
    collector/inventory/endpoints/metrics.py: calls by class of status, and those with credentials."""
    rows, consumers = figures.read(span, kept)
    return f"""
SELECT
    {OWNER} AS owner,
    {ADDED},
    sumMap([toUInt16(r.outcome)], [r.calls]) AS outcomes,
    sumMapIf([{AUTHENTICATION}], [r.calls], {_JUDGED}) AS authentication,
    sumMapIf([r.carriers], [r.calls], {_JUDGED} AND r.carriers != '') AS carriers,
    sumMapIf([r.rpc_status], [r.calls + r.ended_later], r.rpc_status != 0) AS rpc_statuses,
    {count_distinct(consumers)} AS consumers,
    max(r.role = {ROLE_SERVER}) AS at_server,
    max(r.role = {ROLE_CLIENT}) AS at_client
FROM ({rows}) AS r
GROUP BY owner
HAVING sum(r.calls) > 0"""


def series_points(counted: str, who: ConsumerSql) -> str:
    """One row a step, ascending; steps without calls are absent."""
    return f"""
SELECT intDiv(toUnixTimestamp(r.time), {{step:UInt32}}) * {{step:UInt32}} AS point, sum(r.calls) AS calls,
sumIf(r.calls, {ERROR}) AS errors,
    sumMap(r.duration) AS duration, sum(r.request_bytes) AS request_bytes, sum(r.response_bytes) AS response_bytes,
    {who.count} AS consumers
{counted}
GROUP BY point
ORDER BY point"""


def top_consumers(counted: str, span: Span, who: ConsumerSql) -> str:
    """The busiest consumers of one endpoint."""
    return f"""
SELECT {who.id} AS consumer, sum(r.calls) AS calls, sumIf(r.calls, {ERROR}) AS errors,
    sumIf(r.calls, {UNREAD}) AS not_read, {objects_count(span.rollup)} AS objects,
    toUnixTimestamp(min(r.first_seen)) AS first_seen, toUnixTimestamp(max(r.last_seen)) AS last_seen
{counted}
GROUP BY consumer
ORDER BY calls DESC, consumer
LIMIT {TOP_CONSUMERS}"""


def status_codes(counted: str) -> str:
    return f"""
SELECT r.status_code AS status_code, sum(r.calls) AS total
{counted}
GROUP BY status_code
ORDER BY total DESC, status_code"""


def routes_behind(counted: str) -> str:
    """The routes behind one endpoint, busiest first."""
    return f"""
SELECT t.route_id AS route_id, t.method AS method, t.host AS host, t.segment_kind AS segment_kind, t.segment_text AS
segment_text,
    t.segment_length AS segment_length, t.has_trailing_slash AS has_trailing_slash, c.total AS calls
FROM (SELECT r.route_id AS route_id, sum(r.calls) AS total {counted} GROUP BY r.route_id) AS c
INNER JOIN (SELECT * FROM routes WHERE route_id IN {{routes:Array(UInt64)}} LIMIT 1 BY route_id) AS t
    ON t.route_id = c.route_id
ORDER BY calls DESC, route_id
LIMIT {ROUTES_MAX}"""


_MICROSECONDS: Final = 1_000_000
_STREAMING: Final = {
    (False, False): Streaming.UNARY,
    (True, False): Streaming.CLIENT,
    (False, True): Streaming.SERVER,
    (True, True): Streaming.BIDIRECTIONAL,
}


def read_rpc(row: Mapping[str, Any], protocols: tuple[Protocol, ...]) -> Rpc | None:
    """The method that an endpoint is, by its protocols and the last two segments of its template."""
    spoken = RPC_PROTOCOLS.intersection(protocols)
    if not spoken:
        return None
    segments = str(row["url_template"]).split("/")
    service, method = segments[-2:] if len(segments) > 2 else ("", "")
    codes, calls = row["rpc_statuses"]
    flags = int(row["flags"])
    streaming = _STREAMING[bool(flags & FLAG_CLIENT_STREAMING), bool(flags & FLAG_SERVER_STREAMING)]
    return Rpc(
        system_name="connectrpc" if spoken == {Protocol.CONNECT} else "grpc",
        service=service,
        method=f"{service}/{method}" if service else "",
        streaming=streaming if row["counted_messages_calls"] else Streaming.UNKNOWN,
        status_codes={name_status(int(code)): int(total) for code, total in zip(codes, calls, strict=True)},
    )


def read_messages(row: Mapping[str, Any]) -> Messages | None:
    """Of the calls whose messages are known, if there are any."""
    counted = int(row["counted_messages_calls"])
    if not counted:
        return None
    return Messages(calls=counted, request=int(row["request_messages"]), response=int(row["response_messages"]))


def read_streams(row: Mapping[str, Any]) -> Streams | None:
    """Of the streams that ended, if there are any."""
    ended = int(row["streams"])
    if not ended:
        return None
    return Streams(calls=ended, open_seconds=int(row["stream_duration_sum_us"]) / ended / _MICROSECONDS)


MICROSECONDS_TO_MILLISECONDS = 0.001


def find_called(service: Service, row: Mapping[str, Any]) -> Call:
    """What was called, of an endpoint seen at its clients only: its service is named by its address."""
    return Call(
        address=service.workload,
        port=service.port,
        cluster=service.cluster,
        start=int(row["first_seen"]),
        end=int(row["last_seen"]),
    )


def _is_global(address: str) -> bool:
    try:
        return ip_address(address).is_global
    except ValueError:
        return False


def read_observed(row: Mapping[str, Any], holders: tuple[Holder, ...]) -> Observed:
    """From where it was called."""
    return Observed(
        calls=int(row["addressed_calls"]),
        public_calls=int(row["public_calls"]),
        public_address=row["public_address"],
        partner_calls=int(row["partner_calls"]),
        is_outbound=not row["at_server"] and not holders and _is_global(row["workload"]),
    )


def read_endpoint(
    row: Mapping[str, Any],
    span: Span,
    service: Service,
    exposure: Exposure,
    called: tuple[Holder, ...],
    workload: DeployedWorkload | None,
    image: ContainerImage,
    risk: RiskScore | None,
) -> Endpoint:
    """An Endpoint of one row of `measures` with the names of its routes."""
    outcomes = {int(code): int(calls) for code, calls in zip(*row["outcomes"], strict=True)}
    status = _mix_status(outcomes)
    latency = compute_percentiles(*row["duration"])
    calls_by_bits = {int(bits): int(calls) for bits, calls in zip(*row["authentication"], strict=True)}
    judged, flags = sum(calls_by_bits.values()), int(row["flags"])
    protocols = name_protocols(int(row["protocols"]))
    return Endpoint(
        id=row["id"],
        service=service,
        host=row["host"],
        method=row["method"],
        template=row["url_template"],
        calls=int(row["calls"]),
        calls_per_second=compute_rate(int(row["calls"]), span.count_seconds(int(row["first_seen"]))),
        first_seen=int(row["first_seen"]),
        last_seen=int(row["last_seen"]),
        status=status,
        protocols=protocols,
        rpc=read_rpc(row, protocols),
        streams=read_streams(row),
        messages=read_messages(row),
        bodies=read_bodies(row),
        figures=read_figures(row, UsedBy.ENDPOINTS),
        latency_ms=None if latency is None else latency.scaled(MICROSECONDS_TO_MILLISECONDS),
        latency_max_ms=int(row["duration_max_us"]) * MICROSECONDS_TO_MILLISECONDS,
        time_to_first_byte_ms=int(row["time_to_first_byte_sum_us"]) / status.answered * MICROSECONDS_TO_MILLISECONDS
        if status.answered
        else None,
        response_size_bytes=compute_percentiles(*row["response_size"]),
        authentication=Authentication(
            coverage=compute_coverage(calls_by_bits),
            kinds=count_by_kind(calls_by_bits),
            unseen_calls=status.success - judged,
            carriers=_count_carriers(row["carriers"]),
            weaknesses=count_weaknesses(calls_by_bits),
        ),
        consumers=int(row["consumers"]),
        tier=decide_tier(status),
        seen_at=_decide_seen_at(bool(row["at_server"]), bool(row["at_client"])),
        is_proxied=bool(row["is_proxied"]),
        is_lossy=bool(flags & FLAG_LOSSY),
        has_estimates=bool(flags & FLAG_ESTIMATED),
        has_unknown_fields=bool(flags & FLAG_UNKNOWN_FIELDS),
        has_ambiguous_requests=bool(flags & FLAG_AMBIGUOUS),
        is_inferred=bool(flags & FLAG_INFERRED),
        protocol_versions=_read_names(row["protocol_versions"]),
        request_content_types=_read_names(row["request_content_types"]),
        response_content_types=_read_names(row["response_content_types"]),
        exposure=exposure,
        called=called,
        kubernetes=workload,
        container_image_name=image.name,
        container_image_tags=image.tags,
        container_image_repo_digests=image.repo_digests,
        integer_object_calls=int(row["object_numeric_calls"]),
        monotonic_steps=int(row["object_monotonic_steps"]),
        limited_calls=outcomes.get(429, 0),
        risk=risk,
    )


def _count_carriers(counted: tuple[Sequence[str], Sequence[int]]) -> dict[str, int]:
    """Calls by carriers, most first."""
    known = sorted(zip(*counted, strict=True), key=lambda one: (-int(one[1]), one[0]))
    return {carriers: int(calls) for carriers, calls in known[:CARRIERS_MAX]}


def _mix_status(outcomes: Mapping[int, int]) -> StatusMix:
    by_class: dict[int, int] = {}
    for code, calls in outcomes.items():
        if code == NOT_READ:
            continue
        place = min(code // 100, 5)
        by_class[place] = by_class.get(place, 0) + calls
    return StatusMix(
        informational=by_class.get(1, 0),
        success=by_class.get(2, 0),
        redirection=by_class.get(3, 0),
        client_error=by_class.get(4, 0),
        server_error=by_class.get(5, 0),
        aborted=by_class.get(0, 0),
        not_read=outcomes.get(NOT_READ, 0),
    )


def _decide_seen_at(at_server: bool, at_client: bool) -> SeenAt:
    if at_server and at_client:
        return SeenAt.BOTH
    return SeenAt.CLIENT if at_client else SeenAt.SERVER


def _read_names(names: list[str]) -> tuple[str, ...]:
    """Known names in alphabetical order."""
    return tuple(sorted(name for name in names if name))
