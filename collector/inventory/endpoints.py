"""Endpoints out of the store: reads a question, gives a page of the inventory or one endpoint with its history.

A page takes two statements. The first ranks every endpoint and gives the ids of the page
(collector/inventory/ranking.py). The second measures: histograms, consumers and content types of those ids alone.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_address
from string import hexdigits
from typing import Any

from collector.inventory.authentication import count_by_kind, count_weaknesses
from collector.inventory.bodies import read_bodies
from collector.inventory.counted import (
    FLAG_INFERRED,
    FLAG_LOSSY,
    FLAG_UNKNOWN_FIELDS,
    ConsumerSql,
    counted_rows_of_routes,
    span_parameters,
)
from collector.inventory.cursor import Cursor, read_cursor, write_cursor
from collector.inventory.endpoint import (
    Authentication,
    Endpoint,
    EndpointConsumer,
    EndpointDetail,
    EndpointRoute,
    SeenAt,
    SeriesPoint,
    StatusMix,
    decide_tier,
)
from collector.inventory.exposure import Exposure, Observed
from collector.inventory.exposures import ExposureInventory
from collector.inventory.histogram import compute_percentiles
from collector.inventory.measures import (
    measures,
    routes_behind,
    series_points,
    status_codes,
    top_consumers,
)
from collector.inventory.outbound import find_routes
from collector.inventory.partners import NO_PARTNERS, PartnerNetworks
from collector.inventory.peers import Call, Holder, call_of, read_address_book
from collector.inventory.question import EndpointQuestion
from collector.inventory.ranking import SORTS, rank
from collector.inventory.reader import Reader, select
from collector.inventory.risk_scores import RiskScore, RiskScores
from collector.inventory.rpc import read_messages, read_rpc, read_streams
from collector.inventory.shape import describe_shape
from collector.inventory.span import Span, series_span, series_step
from collector.inventory.spec_status import NO_SPEC, read_specs
from collector.inventory.workloads import ContainerImage, Workload, read_workloads
from collector.protocols import name_protocols
from collector.rows import Service

MICROSECONDS_TO_MILLISECONDS = 0.001
ROUTE_ID_LENGTH = 16  # In hexadecimal.
# An alias goes before a route's id: both are 64 bits, and a chance equality is a matter of centuries.
_PRESENT_ID = """
SELECT endpoint_id FROM endpoint_routes FINAL
WHERE route_id = coalesce(
    (SELECT toNullable(route_id) FROM endpoint_aliases FINAL WHERE endpoint_id = {id:String} LIMIT 1), {route:UInt64})
LIMIT 1"""
RATE_SECONDS_MIN = 60  # One row: a rate over less would be guessed from a handful of calls.


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointPage:
    """One page, where the next one starts (empty on the last), and how many endpoints match in all."""

    items: tuple[Endpoint, ...]
    next_cursor: str
    total: int


class EndpointInventory:
    """Answers questions about endpoints from the store."""

    def __init__(self, *, reader: Reader, who: ConsumerSql, partners: PartnerNetworks = NO_PARTNERS) -> None:
        self._reader = reader
        self._partners = partners
        self._risks = RiskScores(reader)
        self._who = who
        self._exposures = ExposureInventory(reader=reader)

    def list_endpoints(self, question: EndpointQuestion) -> EndpointPage:
        """One page; raises CursorError when the cursor is not of this question."""
        value_type = SORTS[question.sort].value_type
        after = read_cursor(question.cursor, question.fingerprint, value_type) if question.cursor else None
        statement, parameters = rank(question, after, self._who)
        ranked = select(self._reader, statement, parameters)
        shown = ranked[: question.limit]
        next_cursor = ""
        if len(ranked) > question.limit:
            last = Cursor(value=shown[-1]["sort_value"], id=shown[-1]["id"])
            next_cursor = write_cursor(last, question.fingerprint)
        parameters = self._find_routes(question.span, [row["id"] for row in shown])
        by_id = self._measure(question.span, parameters) if shown else {}
        # A minute row may expire between the two statements; then the endpoint has left the span.
        items = tuple(by_id[row["id"]] for row in shown if row["id"] in by_id)
        return EndpointPage(items=items, next_cursor=next_cursor, total=int(ranked[0]["total"]) if ranked else 0)

    def measure(self, ids: list[str], span: Span) -> dict[str, Endpoint]:
        """Every figure of some endpoints by id, without those that had no counted call in the span."""
        return self._measure(span, self._find_routes(span, ids))

    def get_endpoint(self, endpoint_id: str, span: Span) -> EndpointDetail | None:
        """One endpoint with its history, or None when it had no counted call in the span. An id that the endpoint had
        before, and that of one of its routes, are good too; the answer has the present one."""
        parameters = self._find_routes(span, [endpoint_id])
        if not parameters["routes"]:
            endpoint_id = self._find_present_id(endpoint_id)
            parameters = self._find_routes(span, [endpoint_id])
        endpoint = self._measure(span, parameters).get(endpoint_id)
        if endpoint is None:
            return None
        fine = series_span(span)
        step = series_step(fine)
        counted = counted_rows_of_routes(span)
        points = series_points(counted_rows_of_routes(fine), self._who)
        consumers = top_consumers(counted, span, self._who)
        return EndpointDetail(
            endpoint=endpoint,
            series_step_seconds=step,
            series=tuple(_read_point(row) for row in select(self._reader, points, {**parameters, "step": step})),
            top_consumers=self._name_consumers(
                [_read_consumer(row) for row in select(self._reader, consumers, parameters)],
                endpoint.service.cluster,
            ),
            status_codes={
                str(row["status_code"] or "aborted"): int(row["total"])
                for row in select(self._reader, status_codes(counted), parameters)
            },
            routes=tuple(_read_route(row) for row in select(self._reader, routes_behind(counted), parameters)),
        )

    def _name_consumers(self, consumers: list[EndpointConsumer], cluster: str) -> tuple[EndpointConsumer, ...]:
        """With who held the addresses among them."""
        calls = [call_of(one.id, one.first_seen, one.last_seen, cluster) for one in consumers]
        book = read_address_book(self._reader, calls)
        return tuple(replace(one, holders=book.find(call)) for one, call in zip(consumers, calls, strict=True))

    def _find_present_id(self, endpoint_id: str) -> str:
        """The endpoint to which the route went that was last known under this id; empty where none was."""
        is_hash = len(endpoint_id) == ROUTE_ID_LENGTH and set(endpoint_id) <= set(hexdigits)
        parameters = {"id": endpoint_id, "route": int(endpoint_id, 16) if is_hash else 0}
        found = select(self._reader, _PRESENT_ID, parameters)
        return str(found[0]["endpoint_id"]) if found else ""

    def _find_routes(self, span: Span, ids: list[str]) -> dict[str, Any]:
        """The parameters of the statements about these endpoints."""
        parameters = span_parameters(span)
        found = find_routes(self._reader, ids, parameters)
        return {**parameters, "routes": found.all, "hidden": found.hidden}

    def _measure(self, span: Span, parameters: Mapping[str, Any]) -> dict[str, Endpoint]:
        """Every figure of the endpoints of some routes, by their ids."""
        rows = select(self._reader, measures(span, self._who, self._partners), parameters)
        services = {row["id"]: _read_service(row) for row in rows}
        known = self._exposures.read_known(services.values())
        calls = {row["id"]: _find_called(services[row["id"]], row) for row in rows if not row["at_server"]}
        book = read_address_book(self._reader, calls.values())
        deployed = read_workloads(self._reader, services.values())
        specs = read_specs(self._reader, services)
        risks = self._risks.read(services)
        holders = {name: book.find(call) for name, call in calls.items()}
        measured = {
            row["id"]: _read_endpoint(
                row,
                span,
                services[row["id"]],
                known.judge(
                    services[row["id"]],
                    _read_observed(row, holders.get(row["id"], ())),
                    row["url_template"],
                    row["method"],
                ),
                holders.get(row["id"], ()),
                deployed.workload(services[row["id"]]),
                deployed.image(services[row["id"]]),
                risks.get(row["id"]),
            )
            for row in rows
        }
        return {name: replace(endpoint, spec=specs.get(name, NO_SPEC)) for name, endpoint in measured.items()}


def _read_service(row: Mapping[str, Any]) -> Service:
    return Service(
        cluster=row["cluster"],
        namespace=row["namespace"],
        workload=row["workload"],
        workload_kind=int(row["workload_kind"]),
        host_name=row["host_name"],
        port=int(row["port"]),
    )


def _find_called(service: Service, row: Mapping[str, Any]) -> Call:
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


def _read_observed(row: Mapping[str, Any], holders: tuple[Holder, ...]) -> Observed:
    return Observed(
        calls=int(row["addressed_calls"]),
        public_calls=int(row["public_calls"]),
        public_address=row["public_address"],
        partner_calls=int(row["partner_calls"]),
        is_outbound=not row["at_server"] and not holders and _is_global(row["workload"]),
    )


def _read_endpoint(
    row: Mapping[str, Any],
    span: Span,
    service: Service,
    exposure: Exposure,
    called: tuple[Holder, ...],
    workload: Workload | None,
    image: ContainerImage,
    risk: RiskScore | None,
) -> Endpoint:
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
    judged, flags = int(row["judged"]), int(row["flags"])
    protocols = name_protocols(int(row["protocols"]))
    return Endpoint(
        id=row["id"],
        service=service,
        host=row["host"],
        method=row["method"],
        template=row["url_template"],
        calls=int(row["calls"]),
        calls_per_second=int(row["calls"]) / _watched_seconds(int(row["first_seen"]), span),
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
        time_to_first_byte_ms=int(row["time_to_first_byte_sum_us"]) / int(row["calls"]) * MICROSECONDS_TO_MILLISECONDS,
        request_bytes=int(row["request_bytes"]),
        response_bytes=int(row["response_bytes"]),
        response_size_bytes=compute_percentiles(*row["response_size"]),
        authentication=Authentication(
            coverage=int(row["authenticated"]) / judged if judged else None,
            kinds=count_by_kind(dict(zip(bits, calls_by_bits, strict=True))),
            unseen_calls=status.success - judged,
            weaknesses=count_weaknesses(dict(zip(bits, calls_by_bits, strict=True))),
        ),
        consumers=int(row["consumers"]),
        tier=decide_tier(status),
        seen_at=_decide_seen_at(bool(row["at_server"]), bool(row["at_client"])),
        is_proxied=bool(row["is_proxied"]),
        is_lossy=bool(flags & FLAG_LOSSY),
        has_unknown_fields=bool(flags & FLAG_UNKNOWN_FIELDS),
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
        limited_calls=int(row["limited"]),
        risk=risk,
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
