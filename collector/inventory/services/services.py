"""Reads services from the store: calls, errors, latency, risk and exposure of all their endpoints together."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import Field, ValidationError

from collector.core.rates import compute_rate
from collector.inventory.endpoints.endpoint import bucket_value
from collector.inventory.endpoints.exposure import ExposureLevel
from collector.inventory.endpoints.hops import HopView, restrict_hops
from collector.inventory.endpoints.list_query import choose_source, find_p95, sum_routes
from collector.inventory.endpoints.metrics import MICROSECONDS_TO_MILLISECONDS
from collector.inventory.endpoints.outbound import HIDDEN_ROUTES, ROLE_SERVER
from collector.inventory.endpoints.predicates import IN_SPAN, ConsumerSql, span_parameters
from collector.inventory.endpoints.route_sums import RouteSums
from collector.inventory.filters import (
    SEARCH_CHARACTERS_MAX,
    Filter,
    Order,
    Page,
    SortedQuery,
    SpanParameters,
    Text,
    match_words,
)
from collector.inventory.query import Cursor, Span
from collector.storage.records import Reader, select


class ServiceSort(StrEnum):
    """What services may be sorted by."""

    SERVICE = "service"
    ENDPOINTS = "endpoints"
    CALLS = "calls"
    ERRORS = "errors"
    P95 = "p95"
    RISK = "risk"
    FINDINGS = "findings"
    LAST_SEEN = "last_seen"


class ServiceQuery(SortedQuery, SpanParameters):
    """Filters, sort and page of the list of services."""

    ASCENDING = frozenset({ServiceSort.SERVICE})

    q: Annotated[
        Text, Filter(match_words("concat(n.service, ' ', n.namespace, '/', n.workload, ' ', n.host)"), title="Search")
    ] = Field(
        default="",
        max_length=SEARCH_CHARACTERS_MAX,
        description="Words that must all occur in service, namespace, workload or host.",
        examples=["orders"],
    )
    service: Annotated[Text, Filter("(n.service = {service:String} OR n.workload = {service:String})")] = Field(
        default="", max_length=300, description="A service as listed, or the name of a workload."
    )
    namespace: Annotated[Text, Filter("n.namespace = {namespace:String}", title="Namespace")] = Field(
        default="", max_length=63, description="Exactly this namespace of Kubernetes."
    )
    exposure: Annotated[
        ExposureLevel | None,
        Filter("has(s.exposures, {exposure:String})", columns=("exposures",), title="Reachable from"),
    ] = Field(default=None, description="From where some of its endpoints were reached: `external` is from outside.")
    risk_min: Annotated[
        int | None, Filter("s.risk >= {risk_min:UInt8}", columns=("risk",), title="Risk from", is_folded=True)
    ] = Field(default=None, ge=0, le=100, description="A risk of at least this score, of its riskiest endpoint.")
    hops: HopView = Field(
        default=HopView.EXCLUDE,
        description="Endpoints of a proxy in front of an application that has the same ones: beside them, not at all, "
        "or alone.",
    )
    sort: ServiceSort = ServiceSort.CALLS
    order: Order | None = Field(default=None, description="Default: names A to Z, all else most first.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceSummary:
    """One service in a span. `risk` is that of its riskiest endpoint, None where none was computed yet. Times are unix
    seconds."""

    service: str
    cluster: str
    namespace: str
    workload: str
    port: int
    endpoints: int
    calls: int
    calls_per_second: float
    errors: int
    error_ratio: float
    p95_ms: float | None
    risk: int | None
    findings: int
    exposure: ExposureLevel
    last_seen: int

    @property
    def names(self) -> tuple[str, str]:
        """What people call it."""
        return self.service, self.workload

    @property
    def label(self) -> str:
        """The workload by the name that it has as a client."""
        return f"{self.namespace}/{self.workload}" if self.namespace else self.workload


_SORTS: Final[Mapping[ServiceSort, str]] = {
    ServiceSort.SERVICE: "s.service",
    ServiceSort.P95: "toFloat64(s.p95_bucket)",
    **{
        sort: f"toFloat64(s.{sort})"
        for sort in (
            ServiceSort.ENDPOINTS,
            ServiceSort.CALLS,
            ServiceSort.ERRORS,
            ServiceSort.RISK,
            ServiceSort.FINDINGS,
            ServiceSort.LAST_SEEN,
        )
    },
}


# Of the services of a page: whose they are, and when they were first called.
_NAMED: Final = """
SELECT n.service AS service, any(n.cluster) AS cluster, any(n.namespace) AS namespace, any(n.workload) AS workload,
    any(n.port) AS port, toUnixTimestamp(min(r.first_seen)) AS first
FROM (SELECT route_id, service, cluster, namespace, workload, port FROM endpoint_routes FINAL
    WHERE service IN {services:Array(String)}) AS n
LEFT JOIN (SELECT route_id, first_seen FROM routes WHERE route_id IN (
    SELECT route_id FROM endpoint_routes FINAL WHERE service IN {services:Array(String)})) AS r
    ON r.route_id = n.route_id
GROUP BY service"""
# Endpoints are grouped and joined by a number: their ids are hashes of 64 bits too.
_NUMBER: Final = "cityHash64({}.endpoint_id)"
_SUMMED: Final = {"calls", "error", "last_seen"}


class ServiceInventory:
    """Answers questions about services from the store."""

    def __init__(self, *, reader: Reader, who: ConsumerSql, sums: RouteSums | None = None) -> None:
        self._reader = reader
        self._who = who
        self._sums = sums

    def list_services(self, query: ServiceQuery, span: Span) -> Page[ServiceSummary]:
        """One page; raises CursorError when the cursor is not of this query."""
        value_type = str if query.sort is ServiceSort.SERVICE else float
        after = query.read_cursor(value_type)
        page, parameters = query.page(after, value_type, key="service")
        conditions = query.build_conditions()
        for one in conditions:
            parameters |= one.parameters
        names = [one.sql for one in conditions if not one.columns]
        outer = " AND ".join(["s.calls > 0", *(one.sql for one in conditions if one.columns)])
        asked = {**parameters, **span_parameters(span)}
        counted = f"(a.role = {ROLE_SERVER} OR a.route_id NOT IN ({HIDDEN_ROUTES}))" + restrict_hops(
            self._reader, query.hops, "a.route_id", asked
        )
        kept = self._sums.find_source(span) if self._sums is not None else None
        # Of kept sums histograms are merged fast, else of those on the page alone, unless the list is sorted by them.
        has_latency = query.sort is ServiceSort.P95 or kept is not None
        summed = _SUMMED | ({"latency"} if has_latency else set())
        source = choose_source(span, summed, kept)
        latency = p95_bucket = ""
        if has_latency and source.is_kept:
            latency = "groupArrayArray(a.latency) AS latency,"
            p95_bucket = f"{find_p95('groupArrayArray(e.latency)')} AS p95_bucket,"
        elif has_latency:
            latency = "quantileExactWeightedArrayMergeState(0.95)(a.latency) AS latency,"
            p95_bucket = "quantileExactWeightedArrayMerge(0.95)(e.latency) AS p95_bucket,"
        statement = f"""
WITH names AS (
    SELECT n.route_id AS route_id, {_NUMBER.format("n")} AS endpoint, n.service AS service
    FROM (SELECT * FROM endpoint_routes FINAL) AS n
    WHERE {" AND ".join(names) or "true"}
)
SELECT * FROM (
    SELECT s.*, {_SORTS[query.sort]} AS sort_value, count() OVER () AS total
    FROM (
        SELECT e.service AS service, count() AS endpoints, sum(e.calls) AS calls, sum(e.errors) AS errors, {p95_bucket}
            max(e.last_seen) AS last_seen, max(k.score) AS risk, max(k.is_known) AS assessed,
            sum(k.open_findings) AS findings, groupUniqArray(k.exposure) AS exposures
        FROM (
            SELECT n.endpoint AS endpoint, any(n.service) AS service, sum(a.calls) AS calls,
                sum(a.error) AS errors, {latency} toUnixTimestamp(max(a.last_seen)) AS last_seen
            FROM ({sum_routes(source, summed, bool(names), self._who)}) AS a
            INNER JOIN names AS n ON n.route_id = a.route_id
            WHERE {counted}
            GROUP BY n.endpoint
        ) AS e
        LEFT JOIN (SELECT {_NUMBER.format("o")} AS endpoint, score, open_findings, toString(exposure) AS exposure,
                1 AS is_known
            FROM endpoint_risks AS o FINAL) AS k ON k.endpoint = e.endpoint
        GROUP BY e.service
    ) AS s
    WHERE {outer}
)
{page}"""
        rows = select(self._reader, statement, asked)
        shown, next_cursor = query.cut(rows, lambda last: Cursor(value=last["sort_value"], id=last["service"]))
        shown_names = {"services": [row["service"] for row in shown]}
        named = {row["service"]: row for row in select(self._reader, _NAMED, shown_names)} if shown else {}
        buckets = {row["service"]: int(row["p95_bucket"]) for row in shown if has_latency}
        if shown and not has_latency:
            buckets = self._measure_latency(span, counted, {**asked, **shown_names})
        return Page(
            items=tuple(
                _read({**named[row["service"]], **row}, span, buckets.get(row["service"], 0))
                for row in shown
                if row["service"] in named  # Its last route may have moved between the statements.
            ),
            next_cursor=next_cursor,
            total=int(rows[0]["total"]) if rows else 0,
        )

    def _measure_latency(self, span: Span, counted: str, asked: Mapping[str, Any]) -> dict[str, int]:
        """The bucket of the histogram at the 95th percentile, by service. A service has many routes, so each histogram
        goes straight into that of its service."""
        statement = f"""
WITH names AS (
    SELECT route_id, service FROM endpoint_routes FINAL WHERE service IN {{services:Array(String)}}
)
SELECT n.service AS service, quantileExactWeightedArray(0.95)(a.duration.1, a.duration.2) AS p95_bucket
FROM (SELECT role, route_id, duration FROM {choose_source(span, set(), None).rows} AS r
    WHERE {IN_SPAN} AND r.route_id IN (SELECT route_id FROM names)) AS a
INNER JOIN names AS n ON n.route_id = a.route_id
WHERE {counted}
GROUP BY n.service"""
        return {row["service"]: int(row["p95_bucket"]) for row in select(self._reader, statement, asked)}

    def get_service(self, name: str, span: Span) -> ServiceSummary | None:
        """A service as listed, or the busiest of a workload; None when it had no call in the span."""
        try:
            query = ServiceQuery(service=name, hops=HopView.INCLUDE)
        except ValidationError:  # No service has such a name.
            return None
        found = self.list_services(query, span).items
        return next((one for one in found if one.service == name), found[0] if found else None)


def _read(row: Mapping[str, Any], span: Span, bucket: int) -> ServiceSummary:
    calls, errors = int(row["calls"]), int(row["errors"])
    exposures = {ExposureLevel(name) for name in row["exposures"] if name}
    return ServiceSummary(
        service=row["service"],
        cluster=row["cluster"],
        namespace=row["namespace"],
        workload=row["workload"],
        port=int(row["port"]),
        endpoints=int(row["endpoints"]),
        calls=calls,
        calls_per_second=compute_rate(calls, span.count_seconds(int(row["first"]))),
        errors=errors,
        error_ratio=errors / calls if calls else 0.0,
        p95_ms=bucket_value(bucket) * MICROSECONDS_TO_MILLISECONDS if bucket else None,
        risk=int(row["risk"]) if row["assessed"] else None,
        findings=int(row["findings"]),
        exposure=next((level for level in ExposureLevel if level in exposures), ExposureLevel.UNKNOWN),
        last_seen=int(row["last_seen"]),
    )
