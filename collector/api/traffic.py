"""`/timeseries`: calls, errors, classes of status and latency over time. `/map`: who calls which service.
`/services`: what the endpoints of one workload and port add up to.
"""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from collector.api.base_model import Model, Ratio, Time
from collector.api.problem import Problem, show
from collector.inventory.endpoints.bodies import DataClass
from collector.inventory.endpoints.exposure import ExposureLevel
from collector.inventory.filters import SpanParameters
from collector.inventory.services.services import ServiceInventory, ServiceQuery
from collector.inventory.traffic.map import ClientKind, MapInventory, MapQuery
from collector.inventory.traffic.series import SeriesQuery, TrafficInventory


class TrafficPointModel(Model):
    """One step. The four classes add up to `calls`."""

    time: Time
    calls: int
    success: int = Field(description="2xx.")
    client_error: int = Field(description="4xx.")
    errors: int = Field(description="5xx, and calls that ended before a response head.")
    other: int = Field(description="1xx, 3xx, and calls of which nobody saw how they ended.")
    p95_ms: float | None = Field(description="95th percentile of the time to the last byte; null where none was timed.")


class TrafficSeriesModel(Model):
    """Every step, those without calls too. It starts with the first call where that is later than what was asked."""

    start: Time
    end: Time
    step_seconds: int
    points: tuple[TrafficPointModel, ...]


class MapEdgeModel(Model):
    """Calls of one client to one service."""

    client_kind: ClientKind = Field(description="What the client is named by.")
    client: str = Field(
        description="A workload (`namespace/workload`, or its name on a host), or a network of addresses; else empty.",
        examples=["shop/checkout"],
    )
    service: str = Field(description="Empty of a namespace.", examples=["shop/orders:8080"])
    cluster: str
    namespace: str
    workload: str
    calls: int
    errors: int = Field(description="5xx, and calls that ended before a response head.")
    p95_ms: float | None = Field(description="95th percentile of the time to the last byte; null where none was timed.")
    endpoints: int = Field(description="That were called.")
    exposure: ExposureLevel = Field(description="The widest of these endpoints.")
    data_classes: tuple[DataClass, ...] = Field(description="Found in the calls that were read.")


class ServiceMapModel(Model):
    """The busiest edges first. The calls of all edges are those of all endpoints in the span."""

    edges: tuple[MapEdgeModel, ...]
    total: int = Field(description="Edges in all.")
    calls: int = Field(description="Calls of all edges.")
    calls_shown: int = Field(description="Calls of the edges in this answer.")


class ServiceSummaryModel(Model):
    """One service in the span."""

    service: str = Field(examples=["shop/orders:8080"])
    cluster: str
    namespace: str
    workload: str
    port: int
    endpoints: int = Field(description="That were called.")
    calls: int
    calls_per_second: float
    errors: int = Field(description="5xx, and calls that ended before a response head.")
    error_ratio: Ratio
    p95_ms: float | None = Field(description="95th percentile of the time to the last byte; null where none was timed.")
    risk: int | None = Field(description="Of its riskiest endpoint; null where none was computed yet.")
    findings: int = Field(description="Open ones.")
    exposure: ExposureLevel = Field(description="The widest of its endpoints.")
    last_seen: Time


class ServiceListModel(Model):
    """One page of services."""

    items: tuple[ServiceSummaryModel, ...]
    next_cursor: str | None
    total: int


class ServiceDetailModel(ServiceSummaryModel):
    """One service with who calls it and what it calls."""

    callers: tuple[MapEdgeModel, ...]
    callees: tuple[MapEdgeModel, ...]


def build_service_routes(
    *, services: ServiceInventory, service_map: MapInventory, clock: Callable[[], float]
) -> APIRouter:
    """Routes that read services; what ends in the name of one comes last."""
    router = APIRouter(tags=["inventory"])

    @router.get("/services", summary="List services")
    def list_services(query: Annotated[ServiceQuery, Query()]) -> ServiceListModel:
        """Every service whose endpoints were called within the span."""
        return ServiceListModel.model_validate(services.list_services(query, query.find_span(clock())))

    @router.get("/services/{service:path}", summary="Show one service")
    def get_service(service: str, parameters: Annotated[SpanParameters, Query()]) -> ServiceDetailModel:
        """A service as listed, or by the name of its workload, with who calls it and what it calls."""
        found = services.get_service(service, parameters.find_span(clock()))
        if found is None:
            raise Problem(
                404,
                f"No call to a service {show(service)} {parameters.word_span()}; look it up in /api/v1/services or ask "
                "for a longer time.",
            )
        callers, callees = service_map.read_around(found.service, found.label, parameters, clock())
        return ServiceDetailModel.model_validate(
            {
                **{name: getattr(found, name) for name in ServiceSummaryModel.model_fields},
                "callers": [MapEdgeModel.model_validate(edge) for edge in callers],
                "callees": [MapEdgeModel.model_validate(edge) for edge in callees],
            }
        )

    return router


def build_traffic_routes(
    *, traffic: TrafficInventory, service_map: MapInventory, clock: Callable[[], float]
) -> APIRouter:
    """Routes that read calls over time."""
    router = APIRouter(tags=["inventory"])

    @router.get("/timeseries", summary="Show calls over time")
    def get_timeseries(query: Annotated[SeriesQuery, Query()]) -> TrafficSeriesModel:
        """Of everything, or of a service, namespace, endpoint or consumer. A call seen at both ends counts once."""
        return TrafficSeriesModel.model_validate(traffic.read_series(query, clock()))

    @router.get("/map", summary="Show who calls which service")
    def get_map(query: Annotated[MapQuery, Query()]) -> ServiceMapModel:
        """Edges from workloads, the outside, partners and networks of addresses to services, or between namespaces."""
        return ServiceMapModel.model_validate(service_map.read_map(query, clock()))

    return router
