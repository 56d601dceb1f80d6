"""An endpoint of what was measured of it: rows of figures with names in, `Endpoint`s out; pure."""

from collections.abc import Mapping
from ipaddress import ip_address
from typing import Any

from collector.inventory.authentication import count_by_kind, count_weaknesses
from collector.inventory.bodies import read_bodies
from collector.inventory.counted import FLAG_AMBIGUOUS, FLAG_ESTIMATED, FLAG_INFERRED, FLAG_LOSSY, FLAG_UNKNOWN_FIELDS
from collector.inventory.endpoint import Authentication, Endpoint, SeenAt, StatusMix, decide_tier
from collector.inventory.exposure import Exposure, Observed
from collector.inventory.histogram import compute_percentiles
from collector.inventory.peers import Call, Holder
from collector.inventory.risk_scores import RiskScore
from collector.inventory.rpc import read_messages, read_rpc, read_streams
from collector.inventory.span import Span
from collector.inventory.workloads import ContainerImage, Workload
from collector.outcomes import NOT_READ
from collector.protocols import name_protocols
from collector.rates import compute_rate
from collector.rows import Service

MICROSECONDS_TO_MILLISECONDS = 0.001


def read_service(row: Mapping[str, Any]) -> Service:
    """Of a row of `endpoint_routes`."""
    return Service(
        cluster=row["cluster"],
        namespace=row["namespace"],
        workload=row["workload"],
        workload_kind=int(row["workload_kind"]),
        host_name=row["host_name"],
        port=int(row["port"]),
    )


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
    workload: Workload | None,
    image: ContainerImage,
    risk: RiskScore | None,
) -> Endpoint:
    """An Endpoint of one row of `measures` with the names of its routes."""
    outcomes = {int(code): int(calls) for code, calls in zip(*row["outcomes"], strict=True)}
    status = _mix_status(outcomes)
    latency = compute_percentiles(*row["duration"])
    calls_by_bits = {int(bits): int(calls) for bits, calls in zip(*row["authentication"], strict=True)}
    judged, flags = sum(calls_by_bits.values()), int(row["flags"])
    authenticated = sum(calls for bits, calls in calls_by_bits.items() if bits)
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
        attacks=int(row["attacks"]),
        attacks_confirmed=int(row["attacks_confirmed"]),
        latency_ms=None if latency is None else latency.scaled(MICROSECONDS_TO_MILLISECONDS),
        latency_max_ms=int(row["duration_max_us"]) * MICROSECONDS_TO_MILLISECONDS,
        time_to_first_byte_ms=int(row["time_to_first_byte_sum_us"]) / status.answered * MICROSECONDS_TO_MILLISECONDS
        if status.answered
        else None,
        request_bytes=int(row["request_bytes"]),
        response_bytes=int(row["response_bytes"]),
        response_size_bytes=compute_percentiles(*row["response_size"]),
        authentication=Authentication(
            coverage=authenticated / judged if judged else None,
            kinds=count_by_kind(calls_by_bits),
            unseen_calls=status.success - judged,
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
        integer_object_calls=int(row["numeric_calls"]),
        monotonic_steps=int(row["monotonic_steps"]),
        limited_calls=outcomes.get(429, 0),
        risk=risk,
    )


def _mix_status(outcomes: Mapping[int, int]) -> StatusMix:
    """Calls by class of how they ended."""
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
