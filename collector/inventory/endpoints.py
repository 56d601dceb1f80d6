"""Endpoints out of the store: reads a question, gives a page of the inventory or one endpoint with its history.

A page takes two statements. The first ranks every endpoint and gives the ids of the page
(collector/inventory/ranking.py), or later pages are cut from a ranking that is kept (collector/inventory/rankings.py).
The second measures: histograms, consumers and content types of those ids alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from collector.inventory.counted import ConsumerSql, counted_rows_of_routes, span_parameters
from collector.inventory.cursor import Cursor, read_cursor, write_cursor
from collector.inventory.endpoint import Endpoint, EndpointConsumer, EndpointDetail, EndpointRoute, SeriesPoint
from collector.inventory.exposures import ExposureInventory
from collector.inventory.histogram import compute_percentiles
from collector.inventory.measured import (
    MICROSECONDS_TO_MILLISECONDS,
    find_called,
    read_endpoint,
    read_observed,
    read_service,
)
from collector.inventory.measures import (
    measures,
    routes_behind,
    series_points,
    status_codes,
    top_consumers,
)
from collector.inventory.operations import OperationSamples, derive, find_operations, find_operations_of, has_operations
from collector.inventory.outbound import Routes, find_routes
from collector.inventory.partners import NO_PARTNERS, PartnerNetworks
from collector.inventory.peers import call_of, read_address_book
from collector.inventory.question import EndpointQuestion, OperationView
from collector.inventory.ranking import SORTS
from collector.inventory.rankings import RankedEndpoint, Rankings
from collector.inventory.reader import Reader, select
from collector.inventory.risk_scores import RiskScores
from collector.inventory.route_ids import find_present_id
from collector.inventory.shape import describe_shape
from collector.inventory.span import Span, series_span, series_step
from collector.inventory.spec_status import NO_SPEC, read_specs
from collector.inventory.workloads import read_workloads
from collector.outcomes import name_status_code


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
        self._rankings = Rankings(reader, who)
        self._exposures = ExposureInventory(reader=reader)

    def list_endpoints(self, question: EndpointQuestion) -> EndpointPage:
        """One page; raises CursorError when the cursor is not of this question."""
        value_type = SORTS[question.sort].value_type
        after = read_cursor(question.cursor, question.fingerprint, value_type) if question.cursor else None
        known = has_operations(self._reader)
        is_asked = question.operations is OperationView.ONLY or bool(question.operation)
        if is_asked and (not known or question.operations is OperationView.EXCLUDE):
            return EndpointPage(items=(), next_cursor="", total=0)
        page = self._rankings.read_page(question, after, has_operations=known)
        next_cursor = ""
        if page.has_more:
            last = Cursor(value=page.items[-1].value, id=page.items[-1].id)
            next_cursor = write_cursor(last, question.fingerprint)
        by_id = self._measure_ranked(question.span, page.items)
        # A minute row may expire between the two statements; then the endpoint has left the span.
        items = tuple(by_id[one.id] for one in page.items if one.id in by_id)
        return EndpointPage(items=items, next_cursor=next_cursor, total=page.total)

    def measure(self, ids: list[str], span: Span) -> dict[str, Endpoint]:
        """Every figure of some endpoints by id, operations among them, without those that had no counted call in the
        span."""
        routes = self._find_routes(span, ids)
        measured = self._measure(span, routes)
        others = [name for name in ids if name not in routes.named]
        known = find_operations(self._reader, others) if others else {}
        return measured | self._measure_operations(span, known, measured)

    def list_operations(self, endpoint: Endpoint, span: Span) -> tuple[Endpoint, ...]:
        """The operations that share an endpoint's path, most called first. Raises StoreError."""
        if endpoint.operation is not None or not has_operations(self._reader):
            return ()
        known = find_operations_of(self._reader, [endpoint.id])
        found = self._measure_operations(span, known, {endpoint.id: endpoint})
        return tuple(found[name] for name in known if name in found)

    def get_endpoint(self, endpoint_id: str, span: Span) -> EndpointDetail | None:
        """One endpoint with its history, or None when it had no counted call in the span. An id that the endpoint had
        before, and that of one of its routes, are good too; the answer has the present one. Of an operation there is no
        history: which calls of its endpoint were its own is not known."""
        routes = self._find_routes(span, [endpoint_id])
        if not routes.named:
            known = find_operations(self._reader, [endpoint_id])
            if known:
                return self._show_operation(known, span)
            endpoint_id = find_present_id(self._reader, endpoint_id)
            routes = self._find_routes(span, [endpoint_id])
        endpoint = self._measure(span, routes).get(endpoint_id)
        return None if endpoint is None else self._show(endpoint, routes, span)

    def _show(self, endpoint: Endpoint, routes: Routes, span: Span) -> EndpointDetail:
        parameters = {**span_parameters(span), **routes.parameters}
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
                name_status_code(int(row["status_code"])): int(row["total"])
                for row in select(self._reader, status_codes(counted), parameters)
            },
            routes=tuple(_read_route(row) for row in select(self._reader, routes_behind(counted), parameters)),
        )

    def _show_operation(self, known: Mapping[str, OperationSamples], span: Span) -> EndpointDetail | None:
        parents = [one.operation.parent_id for one in known.values()]
        routes = self._find_routes(span, parents)
        found = list(self._measure_operations(span, known, self._measure(span, routes)).values())
        if not found:
            return None
        parameters = {**span_parameters(span), **routes.parameters}
        behind = select(self._reader, routes_behind(counted_rows_of_routes(span)), parameters)
        return EndpointDetail(
            endpoint=found[0],
            series_step_seconds=series_step(series_span(span)),
            series=(),
            top_consumers=(),
            status_codes={},
            routes=tuple(_read_route(row) for row in behind),
        )

    def _name_consumers(self, consumers: list[EndpointConsumer], cluster: str) -> tuple[EndpointConsumer, ...]:
        """With who held the addresses among them."""
        calls = [call_of(one.id, one.first_seen, one.last_seen, cluster) for one in consumers]
        book = read_address_book(self._reader, calls)
        return tuple(replace(one, holders=book.find(call)) for one, call in zip(consumers, calls, strict=True))

    def _find_routes(self, span: Span, ids: list[str]) -> Routes:
        """The routes behind these endpoints."""
        return find_routes(self._reader, ids, span_parameters(span))

    def _measure_ranked(self, span: Span, shown: Sequence[RankedEndpoint]) -> dict[str, Endpoint]:
        """Every figure of a page's endpoints; of operations by their parents."""
        ids = list(dict.fromkeys(one.parent_id or one.id for one in shown))
        measured = self._measure(span, self._find_routes(span, ids))
        asked = [one.id for one in shown if one.parent_id]
        known = find_operations(self._reader, asked) if asked else {}
        return measured | self._measure_operations(span, known, measured)

    def _measure_operations(
        self, span: Span, known: Mapping[str, OperationSamples], measured: Mapping[str, Endpoint]
    ) -> dict[str, Endpoint]:
        """Operations as endpoints, by their ids; their parents are measured here where they are not in `measured`."""
        missing = {one.operation.parent_id for one in known.values()} - measured.keys()
        parents = {**measured, **self._measure(span, self._find_routes(span, sorted(missing)))}
        risks = self._risks.read(known)
        found: dict[str, Endpoint] = {}
        for name, one in known.items():
            parent = parents.get(one.operation.parent_id)
            endpoint = None if parent is None else derive(parent, one, span)
            if endpoint is not None:
                found[name] = replace(endpoint, risk=risks.get(name))
        return found

    def _measure(self, span: Span, routes: Routes) -> dict[str, Endpoint]:
        """Every figure of the endpoints of some routes, by their ids."""
        if not routes.named:
            return {}
        asked = {**span_parameters(span), **routes.parameters}
        found = select(self._reader, measures(span, self._who, self._partners), asked)
        ids = list(routes.named)
        rows = [_name(row, routes.named[ids[int(row["owner"]) - 1]]) for row in found if int(row["owner"])]
        services = {row["id"]: read_service(row) for row in rows}
        known = self._exposures.read_known(services.values())
        calls = {row["id"]: find_called(services[row["id"]], row) for row in rows if not row["at_server"]}
        book = read_address_book(self._reader, calls.values())
        deployed = read_workloads(self._reader, services.values())
        specs = read_specs(self._reader, services)
        risks = self._risks.read(services)
        holders = {name: book.find(call) for name, call in calls.items()}
        measured = {
            row["id"]: read_endpoint(
                row,
                span,
                services[row["id"]],
                known.judge(
                    services[row["id"]],
                    read_observed(row, holders.get(row["id"], ())),
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


def _name(row: Mapping[str, Any], named: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A row of figures with the names of its endpoint, which all of its routes have alike."""
    first_seen = min((int(one["first_seen"]) for one in named if one["first_seen"]), default=0)
    return {**named[0], **row, "id": named[0]["endpoint_id"], "first_seen": first_seen}


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
        not_read=int(row["not_read"]),
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
