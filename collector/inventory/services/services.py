"""Reads services from the store: calls, errors, latency, risk and exposure of all their endpoints together."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import Field, ValidationError

from collector.core.rates import compute_rate
from collector.inventory.endpoints.endpoint import bucket_value
from collector.inventory.endpoints.exposure import ExposureLevel
from collector.inventory.endpoints.hops import HOP_ROUTES, HopView
from collector.inventory.endpoints.list_query import sum_routes
from collector.inventory.endpoints.metrics import MICROSECONDS_TO_MILLISECONDS
from collector.inventory.endpoints.outbound import HIDDEN_ROUTES, ROLE_SERVER
from collector.inventory.endpoints.predicates import ConsumerSql, span_parameters
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


_HOPS: Final = {
    HopView.INCLUDE: "",
    HopView.EXCLUDE: f" AND a.route_id NOT IN ({HOP_ROUTES})",
    HopView.ONLY: f" AND a.route_id IN ({HOP_ROUTES})",
}
_FIRST: Final = """
SELECT n.service AS service, toUnixTimestamp(min(r.first_seen)) AS first FROM routes AS r
INNER JOIN (SELECT route_id, service FROM endpoint_routes FINAL WHERE service IN {services:Array(String)}) AS n
    ON n.route_id = r.route_id
GROUP BY service"""
_SUMMED: Final = {"calls", "error", "last_seen", "latency"}


class ServiceInventory:
    """Answers questions about services from the store."""

    def __init__(self, *, reader: Reader, who: ConsumerSql) -> None:
        self._reader = reader
        self._who = who

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
        statement = f"""
WITH names AS (
    SELECT n.*, k.score AS score, k.open_findings AS findings, k.exposure AS exposure, k.is_known AS is_assessed
    FROM (SELECT * FROM endpoint_routes FINAL) AS n
    LEFT JOIN (SELECT endpoint_id, score, open_findings, exposure, 1 AS is_known FROM endpoint_risks FINAL) AS k
        ON k.endpoint_id = n.endpoint_id
    WHERE {" AND ".join(names) or "true"}
)
SELECT * FROM (
    SELECT s.*, {_SORTS[query.sort]} AS sort_value, count() OVER () AS total
    FROM (
        SELECT e.service AS service, any(e.cluster) AS cluster, any(e.namespace) AS namespace,
            any(e.workload) AS workload, any(e.port) AS port, count() AS endpoints, sum(e.calls) AS calls,
            sum(e.errors) AS errors, quantileExactWeightedArrayMerge(0.95)(e.latency) AS p95_bucket,
            max(e.last_seen) AS last_seen, max(e.score) AS risk,
            max(e.is_assessed) AS assessed, sum(e.findings) AS findings, groupUniqArray(e.exposure) AS exposures
        FROM (
            SELECT n.endpoint_id AS endpoint_id, any(n.service) AS service, any(n.cluster) AS cluster,
                any(n.namespace) AS namespace, any(n.workload) AS workload, any(n.port) AS port,
                max(n.score) AS score, max(n.findings) AS findings, max(n.is_assessed) AS is_assessed,
                any(n.exposure) AS exposure, sum(a.calls) AS calls, sum(a.error) AS errors,
                toUnixTimestamp(max(a.last_seen)) AS last_seen,
                quantileExactWeightedArrayMergeState(0.95)(a.latency) AS latency
            FROM ({sum_routes(span, _SUMMED, bool(names), self._who)}) AS a
            INNER JOIN names AS n ON n.route_id = a.route_id
            WHERE (a.role = {ROLE_SERVER} OR a.route_id NOT IN ({HIDDEN_ROUTES})){_HOPS[query.hops]}
            GROUP BY n.endpoint_id
        ) AS e
        GROUP BY e.service
    ) AS s
    WHERE {outer}
)
{page}"""
        rows = select(self._reader, statement, {**parameters, **span_parameters(span)})
        shown, next_cursor = query.cut(rows, lambda last: Cursor(value=last["sort_value"], id=last["service"]))
        names = [row["service"] for row in shown]
        first = {row["service"]: int(row["first"]) for row in select(self._reader, _FIRST, {"services": names})}
        return Page(
            items=tuple(_read(row, span, first.get(row["service"], 0)) for row in shown),
            next_cursor=next_cursor,
            total=int(rows[0]["total"]) if rows else 0,
        )

    def get_service(self, name: str, span: Span) -> ServiceSummary | None:
        """A service as listed, or the busiest of a workload; None when it had no call in the span."""
        try:
            query = ServiceQuery(service=name, hops=HopView.INCLUDE)
        except ValidationError:  # No service has such a name.
            return None
        found = self.list_services(query, span).items
        return next((one for one in found if one.service == name), found[0] if found else None)


def _read(row: Mapping[str, Any], span: Span, first_seen: int) -> ServiceSummary:
    calls, errors = int(row["calls"]), int(row["errors"])
    exposures = {ExposureLevel(name) for name in row["exposures"] if name}
    bucket = int(row["p95_bucket"])
    return ServiceSummary(
        service=row["service"],
        cluster=row["cluster"],
        namespace=row["namespace"],
        workload=row["workload"],
        port=int(row["port"]),
        endpoints=int(row["endpoints"]),
        calls=calls,
        calls_per_second=compute_rate(calls, span.count_seconds(first_seen)),
        errors=errors,
        error_ratio=errors / calls if calls else 0.0,
        p95_ms=bucket_value(bucket) * MICROSECONDS_TO_MILLISECONDS if bucket else None,
        risk=int(row["risk"]) if row["assessed"] else None,
        findings=int(row["findings"]),
        exposure=next((level for level in ExposureLevel if level in exposures), ExposureLevel.UNKNOWN),
        last_seen=int(row["last_seen"]),
    )
