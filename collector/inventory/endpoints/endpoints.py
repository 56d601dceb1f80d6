"""Reads endpoints from the store: a question in, a page of the inventory or one endpoint with its history out.

A page takes two statements. The first ranks every endpoint and gives the ids of the page, or a later page is cut from a
ranking that is kept (collector/inventory/endpoints/list_query.py). The second measures those ids alone: histograms,
consumers and content types.

An endpoint is also found under an id that it had before, and under the id of one of its routes. `describe_shape` writes
a route's path as `/orders/{integer}`. Unlike a template, it hides nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from collector.core.errors import UnknownError
from collector.core.kinds import name_status_code
from collector.core.rows import Service
from collector.inventory.endpoints.endpoint import (
    Endpoint,
    EndpointConsumer,
    EndpointDetail,
    EndpointRoute,
    SeriesPoint,
    compute_percentiles,
    read_risks,
)
from collector.inventory.endpoints.exposure_list import ExposureInventory
from collector.inventory.endpoints.figure_sums import FigureSql, FigureSums
from collector.inventory.endpoints.filters import EndpointQuery, OperationView
from collector.inventory.endpoints.list_query import SORTS, RankedEndpoint, Rankings
from collector.inventory.endpoints.metrics import (
    MICROSECONDS_TO_MILLISECONDS,
    find_called,
    measures,
    read_endpoint,
    read_observed,
    routes_behind,
    series_points,
    status_codes,
    top_consumers,
)
from collector.inventory.endpoints.operations import (
    OperationSamples,
    derive,
    find_operations,
    find_operations_of,
    has_operations,
)
from collector.inventory.endpoints.outbound import Routes, find_present_id, find_routes
from collector.inventory.endpoints.peers import call_of, read_address_book, read_workloads
from collector.inventory.endpoints.predicates import ConsumerSql, counted_rows_of_routes, span_parameters
from collector.inventory.endpoints.route_sums import RouteSums
from collector.inventory.endpoints.spec_status import NO_SPEC, read_specs
from collector.inventory.filters import Page, SpanParameters
from collector.inventory.partners import NO_PARTNERS, PartnerNetworks
from collector.inventory.query import Cursor, Span, series_span, series_step
from collector.storage.records import Reader, read_record, select

LITERAL = 1  # proto SegmentKind.
WORD = 2
SHAPES: dict[int, str] = {
    2: "word",
    3: "integer",
    4: "uuid",
    5: "hex",
    6: "ulid",
    7: "date",
    8: "email",
    9: "token",
    10: "parameter",
}


def describe_shape(kinds: Sequence[int], texts: Sequence[str], lengths: Sequence[int], has_trailing_slash: bool) -> str:
    """One segment after the other; a word that was not revealed shows its length only: `{word:7}`."""
    parts = []
    for kind, text, length in zip(kinds, texts, lengths, strict=True):
        if kind == LITERAL or (kind == WORD and text):
            parts.append(text)
        elif kind == WORD:
            parts.append(f"{{word:{length}}}")
        else:
            parts.append(f"{{{SHAPES.get(kind, f'kind_{kind}')}}}")
    path = "/" + "/".join(parts)
    return path + "/" if has_trailing_slash and parts else path


class EndpointInventory:
    def __init__(
        self,
        *,
        reader: Reader,
        who: ConsumerSql,
        partners: PartnerNetworks = NO_PARTNERS,
        sums: RouteSums | None = None,
        figure_sums: FigureSums | None = None,
    ) -> None:
        self._reader = reader
        self._who = who
        self._figures = FigureSql(who, partners)
        self._figure_sums = figure_sums
        self._rankings = Rankings(reader, who, sums, figure_sums)
        self._exposures = ExposureInventory(reader=reader)

    def list_endpoints(self, query: EndpointQuery, span: Span) -> Page[Endpoint]:
        """One page; raises CursorError when the cursor is not of this query."""
        after = query.read_cursor(SORTS[query.sort].value_type)
        known = has_operations(self._reader)
        is_asked = query.operations is OperationView.ONLY or bool(query.operation)
        if is_asked and (not known or query.operations is OperationView.EXCLUDE):
            return Page()
        ranked = self._rankings.read_page(query, span, after, has_operations=known)
        shown, next_cursor = query.cut(ranked.items, lambda last: Cursor(value=last.value, id=last.id))
        by_id = self._measure_ranked(span, shown)
        # A minute row may expire between the two statements; then the endpoint has left the span.
        items = tuple(by_id[one.id] for one in shown if one.id in by_id)
        return Page(items=items, next_cursor=next_cursor, total=ranked.total)

    def rank_endpoints(self, query: EndpointQuery, span: Span) -> tuple[str, ...]:
        """Ids of the first page, in order; of operations those of their endpoints. Raises StoreError."""
        known = has_operations(self._reader)
        ranked = self._rankings.read_page(query, span, None, has_operations=known)
        return tuple(dict.fromkeys(one.parent_id or one.id for one in ranked.items[: query.limit]))

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

    def find_endpoint(self, endpoint_id: str, asked: SpanParameters, now: float) -> EndpointDetail:
        """The same of a span before `now`, in unix seconds. Raises UnknownError."""
        detail = self.get_endpoint(endpoint_id, asked.find_span(now))
        if detail is None:
            raise UnknownError(
                f"No call to an endpoint {endpoint_id[:80]!r} {asked.word_span()}; "
                "look it up in /api/v1/endpoints or ask for a longer span."
            )
        return detail

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
                [
                    read_record(EndpointConsumer, row, id=row["consumer"])
                    for row in select(self._reader, consumers, parameters)
                ],
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
        risks = read_risks(self._reader, known)
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
        kept = self._figure_sums.find(span) if self._figure_sums is not None else None
        found = select(self._reader, measures(span, self._figures, kept), asked)
        ids = list(routes.named)
        rows = [_name(row, routes.named[ids[int(row["owner"]) - 1]]) for row in found if int(row["owner"])]
        services = {row["id"]: read_record(Service, row) for row in rows}
        known = self._exposures.read_known(services.values())
        calls = {row["id"]: find_called(services[row["id"]], row) for row in rows if not row["at_server"]}
        book = read_address_book(self._reader, calls.values())
        deployed = read_workloads(self._reader, services.values())
        specs = read_specs(self._reader, services)
        risks = read_risks(self._reader, services)
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
    p95_ms = None if latency is None else latency.p95 * MICROSECONDS_TO_MILLISECONDS
    return read_record(SeriesPoint, row, time=row["point"], p95_ms=p95_ms)


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
