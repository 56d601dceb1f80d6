"""What runs on a simulated node: services, routes, consumers, and the calls of each window of 10 s.

A node has `pairs` of a consumer and a route, some of which call far more than others, and a few calls of consumers that
it meets for the first time. So some rows leave at once and the others at the end of their window, as on a real node.
Nodes of one group run the same 10 services, as the replicas of a Deployment do. 20 groups have 200 services together.
Objects are a consumer's own and few, so that no detector has a reason to raise an alert.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from common.keyed_hash import compute_route_id
from sensor.aggregate.dictionary import ActorFacts, Facts
from sensor.core.calls import (
    NO_NUMBER,
    AuthenticationKind,
    CallFlag,
    Calls,
    Hop,
    PrincipalKind,
    Role,
    Route,
    Segment,
    SegmentKind,
    Service,
    WorkloadKind,
    make_calls,
)
from sensor.coverage.row import CoverageRole, PortCoverage, PortProtocol
from sensor.describe.schemas.book import Schema, SchemaPart
from sensor.describe.schemas.tree import Field
from sensor.enrich.kubernetes.pod import WorkloadFacts

WINDOW_SECONDS: Final = 10
GROUPS: Final = 20
CONSUMERS: Final = 20_000
CLUSTER: Final = "bench"
_OBJECTS_OF_PAIR: Final = 3
_METHODS: Final = ("GET", "GET", "POST", "PUT")
_STATUSES: Final = (200,) * 37 + (404, 404, 500)
_SCHEMA_FIELDS: Final = 8
# Of paths: names that no rule takes for values, so that each route stays an endpoint of its own.
_NOUNS_TEXT: Final = (
    "accounts addresses alerts articles assets audits banners baskets bills bookings branches brands campaigns cards "
    "carriers categories claims comments contacts contracts coupons customers deliveries devices discounts documents "
    "events feedback forecasts gifts groups holidays images invoices items journeys labels ledgers loans messages "
    "notes offers orders partners payments photos plans products profiles quotes"
)
_NOUNS: Final = _NOUNS_TEXT.split()
_SECOND_NS: Final = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTemplate:
    """A kind of node. Figures of calls are of one window of 10 s."""

    name: str
    services: int
    routes: int  # Of each service.
    calls: int
    pairs: int  # Of a consumer and a route, which share the calls.
    newcomers: int  # Calls of consumers whom the node has not met.


TEMPLATES: Final = {
    template.name: template
    for template in (
        NodeTemplate(name="small", services=10, routes=20, calls=147, pairs=52, newcomers=3),
        NodeTemplate(name="node", services=10, routes=20, calls=1_186, pairs=310, newcomers=10),
        NodeTemplate(name="busy", services=10, routes=20, calls=8_884, pairs=3_300, newcomers=3),
        NodeTemplate(name="gateway", services=1, routes=50, calls=8_899, pairs=3_300, newcomers=2),
        NodeTemplate(name="light", services=2, routes=10, calls=117, pairs=41, newcomers=1),
    )
}


class NodeGroup:
    """Nodes of one template that run the same services. `draw_window` gives other calls each time."""

    def __init__(self, template: NodeTemplate, number: int) -> None:
        self.template = template
        first = number % GROUPS * 10
        self.services = [_make_service(first + place) for place in range(template.services)]
        self.routes = [_make_route(service, place) for service in self.services for place in range(template.routes)]
        self._source = np.random.default_rng((number, template.calls))
        self.drawn: set[int] = set()  # Places of the routes of the last window.
        self.called: set[int] = set()  # Of those that are sent.
        weights = 1 / np.arange(2, template.pairs + 2) ** 0.6
        self._weights = weights / weights.sum()
        self._pair_routes = self._source.integers(0, len(self.routes), template.pairs)
        self._pair_consumers = self._source.integers(0, CONSUMERS, template.pairs)

    def draw_window(self, facts: Facts) -> Calls:
        """The calls of one window, in order of time from 0."""
        template, source = self.template, self._source
        count = template.calls
        pairs = source.choice(template.pairs, count, p=self._weights)
        routes, consumers = self._pair_routes[pairs], self._pair_consumers[pairs]
        self.drawn = set(routes.tolist())
        new = source.choice(count, min(count, template.newcomers), replace=False)
        consumers[new] = source.integers(0, CONSUMERS, len(new))
        calls = make_calls(count)
        calls["time_unix_ns"] = np.sort(source.integers(0, WINDOW_SECONDS * _SECOND_NS, count))
        numbers = {route: facts.route(self.routes[route]) for route in np.unique(routes).tolist()}
        actors = {consumer: facts.actor(make_actor(consumer)) for consumer in np.unique(consumers).tolist()}
        calls["route"] = [numbers[route] for route in routes.tolist()]
        calls["actor"] = [actors[consumer] for consumer in consumers.tolist()]
        own = consumers * 1_000 + routes % 1_000
        calls["object"] = own * 10 + source.integers(1, 1 + _OBJECTS_OF_PAIR, count)
        calls["number"] = NO_NUMBER
        calls["status"] = source.choice(_STATUSES, count)
        calls["response_type"] = facts.media_type("application/json")
        calls["role"], calls["hop"] = Role.SERVER, Hop.ENDPOINT
        calls["flags"], calls["calls"] = CallFlag.FINAL.value, 1
        calls["request_bytes"] = source.integers(200, 900, count)
        calls["response_bytes"] = source.lognormal(7, 1, count)
        calls["ttfb_us"] = source.lognormal(7, 1, count)
        calls["duration_us"] = calls["ttfb_us"] + np.uint64(50)
        return calls

    def list_ports(self, calls: int) -> list[PortCoverage]:
        """The report of coverage after so many calls of the node: one listening port of each service."""
        share = calls // len(self.services)
        return [
            PortCoverage(
                service=service,
                protocol=PortProtocol.HTTP,
                connections=10 + share // 20,
                bytes=share * 1_500,
                address="0.0.0.0",
                reason="",
                role=CoverageRole.LISTENING,
                is_http_like=True,
                calls=share,
            )
            for service in self.services
        ]

    def list_workloads(self) -> list[WorkloadFacts]:
        """One Pod of each service."""
        return [
            WorkloadFacts(
                cluster=service.cluster,
                namespace=service.namespace,
                workload=service.workload,
                kind="Deployment",
                labels=(("app.kubernetes.io/name", service.workload),),
                zone="zone-a",
                pods=1,
            )
            for service in self.services
        ]

    def list_schemas(self, version: int) -> list[Schema]:
        """What the response of each route looks like that has calls: the collector takes no other."""
        fields = tuple(
            Field(path=f"field_{place}", present=20, objects=0, types=(("string", 20),))
            for place in range(_SCHEMA_FIELDS)
        )
        return [
            Schema(
                route_id=route.route_id,
                part=SchemaPart.RESPONSE_BODY,
                status_class=2,
                media_type="application/json",
                generation=1,
                version=version,
                samples=20,
                left_out=0,
                fields=fields,
            )
            for route in (self.routes[place] for place in sorted(self.called))
        ]


def _make_service(number: int) -> Service:
    return Service(
        cluster=CLUSTER,
        namespace=f"team{number % 20}",
        workload=f"svc{number}",
        workload_kind=WorkloadKind.KUBERNETES,
        host_name="",
        port=8080,
    )


def _make_route(service: Service, place: int) -> Route:
    segments = (
        Segment(SegmentKind.LITERAL, text="api"),
        Segment(SegmentKind.LITERAL, text=_NOUNS[place]),
        Segment(SegmentKind.INTEGER),
    )
    host, method = f"{service.workload}.bench.example", _METHODS[place % len(_METHODS)]
    route_id = compute_route_id(service, host, method, segments, False)
    return Route(
        route_id=route_id, service=service, host=host, method=method, segments=segments, has_trailing_slash=False
    )


def find_address(number: int) -> str:
    """Of a consumer."""
    return f"10.{number // 62_500 % 250}.{number // 250 % 250}.{number % 250}"


def make_actor(number: int) -> ActorFacts:
    """One consumer."""
    address = find_address(number)
    name = (number + 1) * 0x9E3779B97F4A7C15 % 2**64
    return ActorFacts(
        name, PrincipalKind.TOKEN, name, False, address, "", AuthenticationKind.BEARER_OPAQUE, "1.1", "application/json"
    )
