"""`/timeseries`: calls, errors, classes of status and latency over time. `/map`: who calls which service."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from collector.api.base_model import Model, Time
from collector.api.problem import Problem
from collector.inventory.endpoints.bodies import DataClass
from collector.inventory.endpoints.exposure import ExposureLevel
from collector.inventory.traffic.map import ClientKind, MapInventory, MapQuery
from collector.inventory.traffic.series import SeriesError, SeriesQuery, TrafficInventory


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


def build_traffic_routes(
    *, traffic: TrafficInventory, service_map: MapInventory, clock: Callable[[], float]
) -> APIRouter:
    """Routes that read calls over time."""
    router = APIRouter(tags=["inventory"])

    @router.get("/timeseries", summary="Show calls over time")
    def get_timeseries(query: Annotated[SeriesQuery, Query()]) -> TrafficSeriesModel:
        """Of everything, or of a service, namespace, endpoint or consumer. A call seen at both ends counts once."""
        try:
            series = traffic.read_series(query, clock())
        except SeriesError as error:
            raise Problem(422, str(error)) from None
        return TrafficSeriesModel.model_validate(series)

    @router.get("/map", summary="Show who calls which service")
    def get_map(query: Annotated[MapQuery, Query()]) -> ServiceMapModel:
        """Edges from workloads, the outside, partners and networks of addresses to services, or between namespaces."""
        return ServiceMapModel.model_validate(service_map.read_map(query, clock()))

    return router
