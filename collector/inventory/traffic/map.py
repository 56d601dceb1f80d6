"""Who calls which service: the edges of the service map, busiest first.

A client is a workload where its sensor or the address book of Kubernetes names it. Others are classes of addresses: the
outside, partners, this host, and networks of private addresses. The calls of all edges are those of all endpoints in
the span.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import Field

from collector.inventory.endpoints.bodies import DATA_KINDS, PLACE_SIZE, BodySide, DataClass
from collector.inventory.endpoints.endpoint import bucket_value
from collector.inventory.endpoints.exposure import ExposureLevel
from collector.inventory.endpoints.hops import HopView, restrict_hops
from collector.inventory.endpoints.metrics import MICROSECONDS_TO_MILLISECONDS
from collector.inventory.endpoints.outbound import HIDDEN_ROUTES, ROLE_SERVER
from collector.inventory.endpoints.peers import has_address_book
from collector.inventory.endpoints.predicates import ERROR, IN_SPAN, rows_table, span_parameters
from collector.inventory.filters import SpanParameters, Text
from collector.inventory.partners import PartnerNetworks, is_public
from collector.inventory.query import Since, Span
from collector.storage.records import Reader, select

EDGES: Final = 60
EDGES_MAX: Final = 500
_MOST_EXPOSED: Final = tuple(ExposureLevel)  # In this order.


class ClientKind(StrEnum):
    """What a client is named by."""

    WORKLOAD = "workload"
    OUTSIDE = "outside"  # Public addresses.
    PARTNER = "partner"
    HOST = "host"  # Loopback addresses: programs of the same host.
    ADDRESSES = "addresses"  # A network of private addresses that nobody names.
    UNKNOWN = "unknown"


class MapGroup(StrEnum):
    """What one end of an edge is."""

    SERVICE = "service"
    NAMESPACE = "namespace"


class MapQuery(SpanParameters):
    """Of what, and how many edges."""

    since: Since = Field(default=Since.HOUR, description="How far back to look; beyond 48 h by the hour.")
    namespace: Text = Field(
        default="", max_length=63, description="Only edges that begin or end in this namespace of Kubernetes."
    )
    service: Text = Field(
        default="", max_length=300, description="Only edges that begin or end at this service or workload."
    )
    group: MapGroup = Field(default=MapGroup.SERVICE, description="Ends of edges are services, or namespaces.")
    hops: HopView = Field(
        default=HopView.EXCLUDE,
        description="Calls to a proxy in front of an application that has the same endpoints: beside those of the "
        "application, not at all, or alone. A call through proxies is one call.",
    )
    limit: Annotated[int, Field(ge=1, le=EDGES_MAX, description="The busiest edges; the others are counted.")] = EDGES


@dataclass(frozen=True, slots=True, kw_only=True)
class MapEdge:
    """Calls of one client to one service; of a namespace `service` is empty. `exposure` and `data_classes` are those
    of the endpoints that were called."""

    client_kind: ClientKind
    client: str
    service: str
    cluster: str
    namespace: str
    workload: str
    calls: int
    errors: int
    p95_ms: float | None
    endpoints: int
    exposure: ExposureLevel
    data_classes: tuple[DataClass, ...]

    @property
    def source(self) -> str:
        """The calling end: the name of a workload, or `kind:name`."""
        return self.client if self.client_kind is ClientKind.WORKLOAD else f"{self.client_kind}:{self.client}"

    @property
    def target(self) -> str:
        """The called end by the name that it has as a client."""
        if not self.workload:
            return self.namespace or self.service
        return f"{self.namespace}/{self.workload}" if self.namespace else self.workload


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceMap:
    """The busiest edges, and how many edges and calls there are in all."""

    edges: tuple[MapEdge, ...] = ()
    total: int = 0
    calls: int = 0

    @property
    def calls_shown(self) -> int:
        return sum(edge.calls for edge in self.edges)


_LOOPBACK = "(startsWith(r.client_address, '127.') OR r.client_address = '::1')"
# Who held an address in the span, where only one did.
_PEERS = """SELECT address, if(uniqExact(label) = 1, any(label), '') AS label
        FROM (
            SELECT address, if(namespace = '', name, concat(namespace, '/', if(workload = '', name, workload))) AS label
            FROM peer_addresses FINAL
            WHERE address != '' AND since < {end:UInt32} AND (until = 0 OR until >= {start:UInt32})
        )
        GROUP BY address"""
_NETWORK = """if(
            isIPv4String(toString(r.client_address)),
            concat(arrayStringConcat(arraySlice(splitByChar('.', toString(r.client_address)), 1, 2), '.'), '.0.0/16'),
            'IPv6')"""
_OF_SERVICE = "(service = {service:String} OR workload = {service:String})"
_IS_CALLED = f"r.route_id IN (SELECT route_id FROM endpoint_routes FINAL WHERE {_OF_SERVICE})"
# The names that the workloads of a service have as clients.
_LABELS = f"""(SELECT arrayJoin([workload, concat(namespace, '/', workload)])
        FROM endpoint_routes FINAL WHERE {_OF_SERVICE})"""


class MapInventory:
    """Reads service maps from the store."""

    def __init__(self, *, reader: Reader, partners: PartnerNetworks) -> None:
        self._reader = reader
        self._partners = partners

    def read_map(self, query: MapQuery, now: float) -> ServiceMap:
        """The edges of a span. Raises StoreError."""
        span = query.find_span(now)
        parameters = {
            **span_parameters(span),
            "namespace": query.namespace,
            "service": query.service,
            "limit": query.limit,
        }
        calling = self._find_called(span, parameters) if query.service else []
        rows = select(self._reader, self._write_statement(query, span), parameters | {"called": calling})
        if not rows:
            return ServiceMap()
        return ServiceMap(
            edges=tuple(_read_edge(row) for row in rows), total=int(rows[0]["total"]), calls=int(rows[0]["all_calls"])
        )

    def _find_called(self, span: Span, parameters: Mapping[str, Any]) -> list[int]:
        """The routes that a service's workloads called, so that all else is read of few routes."""
        held = f"r.client_address IN (SELECT address FROM ({_PEERS}) WHERE label IN {_LABELS})"
        are_known = has_address_book(self._reader)
        statement = f"""
SELECT DISTINCT r.route_id AS route_id FROM {rows_table(span)} AS r
WHERE {IN_SPAN} AND (r.client_workload IN {_LABELS}{f" OR {held}" * are_known})"""
        return [int(row["route_id"]) for row in select(self._reader, statement, parameters)]

    def read_around(
        self, service: str, label: str, asked: SpanParameters, now: float
    ) -> tuple[tuple[MapEdge, ...], tuple[MapEdge, ...]]:
        """Edges that end at a service, and those that begin at its workload, which is called `label` as a client."""
        query = MapQuery(
            service=service, since=asked.since, start=asked.start, end=asked.end, hops=HopView.INCLUDE, limit=EDGES_MAX
        )
        edges = self.read_map(query, now).edges
        return (
            tuple(edge for edge in edges if edge.service == service),
            tuple(edge for edge in edges if edge.source == label),
        )

    def _write_statement(self, query: MapQuery, span: Span) -> str:
        client = f"""multiIf(
            r.client_workload != '', ('{ClientKind.WORKLOAD}', toString(r.client_workload)),
            p.label != '', ('{ClientKind.WORKLOAD}', p.label),
            r.client_address = '', ('{ClientKind.UNKNOWN}', ''),
            {self._partners.condition}, ('{ClientKind.PARTNER}', ''),
            {is_public("r.client_address")}, ('{ClientKind.OUTSIDE}', ''),
            {_LOOPBACK}, ('{ClientKind.HOST}', ''),
            ('{ClientKind.ADDRESSES}', {_NETWORK}))"""
        ends = "n.service AS service, any(n.cluster) AS cluster, any(n.namespace) AS namespace, any(n.workload)"
        keys, shown = "client_kind, client, service", "m.client"
        if query.group is MapGroup.NAMESPACE:
            keys += ", namespace"
            service = "if(n.namespace = '', n.service, '') AS service"
            ends = f"{service}, any(n.cluster) AS cluster, n.namespace AS namespace, ''"
            shown = (
                "if(client_kind = 'workload' AND position(m.client, '/') > 0, splitByChar('/', m.client)[1], m.client)"
            )
        conditions = ["true"]
        if query.namespace:
            is_client = "client_kind = 'workload' AND startsWith(m.client, concat({namespace:String}, '/'))"
            conditions.append(f"(m.in_namespace OR ({is_client}))")
        rows = restrict_hops(self._reader, query.hops, "r.route_id", span_parameters(span))
        names = ""
        if query.service:
            held = f"r.client_address IN (SELECT address FROM ({_PEERS}) WHERE label IN {_LABELS})"
            rows += f" AND ({_IS_CALLED} OR r.client_workload IN {_LABELS} OR {held})"
            names = f" WHERE {_OF_SERVICE} OR route_id IN {{called:Array(UInt64)}}"
            rows += f" AND r.route_id IN (SELECT route_id FROM endpoint_routes FINAL{names})"
        return f"""
SELECT client_kind, {shown} AS client, m.service AS service, any(m.cluster) AS cluster, m.namespace AS namespace,
    any(m.workload) AS workload, sum(m.calls) AS calls, sum(m.errors) AS errors,
    quantileExactWeightedArrayMerge(0.95)(m.latency) AS p95_bucket, max(m.is_timed) AS is_timed,
    uniqExactMerge(m.endpoints) AS endpoints, groupUniqArrayArray(m.exposures) AS exposures,
    groupUniqArrayArray(m.data) AS data,
    count() OVER () AS total, sum(calls) OVER () AS all_calls
FROM (
    SELECT {client} AS named, named.1 AS client_kind, named.2 AS client, {ends} AS workload, sum(r.calls) AS calls,
        sumIf(r.calls, {ERROR}) AS errors, quantileExactWeightedArrayState(0.95)(r.duration.1, r.duration.2) AS latency,
        max(notEmpty(r.duration.1)) AS is_timed, uniqExactState(n.endpoint_id) AS endpoints,
        groupUniqArray(n.exposure) AS exposures, groupUniqArrayArray(r.data.1) AS data,
        max(n.namespace = {{namespace:String}}) AS in_namespace
    FROM {rows_table(span)} AS r
    INNER JOIN (
        SELECT e.*, k.exposure AS exposure FROM (SELECT * FROM endpoint_routes FINAL{names}) AS e
        LEFT JOIN (SELECT endpoint_id, exposure FROM endpoint_risks FINAL) AS k ON k.endpoint_id = e.endpoint_id
    ) AS n ON n.route_id = r.route_id
    LEFT JOIN ({_PEERS}) AS p ON p.address = r.client_address
    WHERE {IN_SPAN} AND (r.role = {ROLE_SERVER} OR r.route_id NOT IN ({HIDDEN_ROUTES})){rows}
    GROUP BY named, {keys.removeprefix("client_kind, client, ")}
) AS m
WHERE {" AND ".join(conditions)}
GROUP BY client_kind, client, service, namespace
ORDER BY calls DESC, client_kind, client, service
LIMIT {{limit:UInt32}}"""


def _read_edge(row: Mapping[str, Any]) -> MapEdge:
    exposures = {ExposureLevel(name) for name in row["exposures"] if name}
    if row["client_kind"] == ClientKind.OUTSIDE:  # Also before risks are computed.
        exposures.add(ExposureLevel.EXTERNAL)
    return MapEdge(
        client_kind=ClientKind(row["client_kind"]),
        client=row["client"],
        service=row["service"],
        cluster=row["cluster"],
        namespace=row["namespace"],
        workload=row["workload"],
        calls=int(row["calls"]),
        errors=int(row["errors"]),
        p95_ms=bucket_value(int(row["p95_bucket"])) * MICROSECONDS_TO_MILLISECONDS if row["is_timed"] else None,
        endpoints=int(row["endpoints"]),
        exposure=next((level for level in _MOST_EXPOSED if level in exposures), ExposureLevel.UNKNOWN),
        data_classes=name_classes(row["data"]),
    )


def name_classes(codes: list[int]) -> tuple[DataClass, ...]:
    """The classes of the kinds of data behind codes of the wire."""
    kinds = (int(code) % PLACE_SIZE for code in codes if 1 <= int(code) // PLACE_SIZE <= len(BodySide))
    found = {DATA_KINDS[kind][1] for kind in kinds if kind in DATA_KINDS}
    return tuple(one for one in DataClass if one in found)
