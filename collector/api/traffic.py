"""`/timeseries`: calls, errors, classes of status and latency over time."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from collector.api.base_model import Model, Time
from collector.api.problem import Problem
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


def build_traffic_routes(*, traffic: TrafficInventory, clock: Callable[[], float]) -> APIRouter:
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

    return router
