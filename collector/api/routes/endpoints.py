"""/endpoints: the inventory."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query

from collector.api.endpoint_models import EndpointDetailModel, EndpointPageModel
from collector.api.parameters import EndpointParameters, SpanParameters
from collector.api.problem import Problem, show
from collector.api.views import view_endpoint_detail, view_endpoint_page
from collector.inventory.cursor import CursorError
from collector.inventory.endpoint import EndpointDetail
from collector.inventory.endpoints import EndpointInventory
from collector.inventory.span import span_since


def build_endpoint_routes(*, endpoints: EndpointInventory, clock: Callable[[], float]) -> APIRouter:
    """Routes that read the inventory of endpoints."""
    router = APIRouter(prefix="/endpoints", tags=["inventory"])

    @router.get("", summary="List endpoints")
    def list_endpoints(parameters: Annotated[EndpointParameters, Query()]) -> EndpointPageModel:
        """Every endpoint called within the span. A call seen at both ends counts once: at its server, if a sensor
        watches it."""
        try:
            return view_endpoint_page(endpoints.list_endpoints(parameters.question(clock())))
        except CursorError as error:
            raise refuse_cursor(parameters.cursor, error) from error

    @router.get("/{endpoint_id}", summary="Show one endpoint")
    def get_endpoint(endpoint_id: str, parameters: Annotated[SpanParameters, Query()]) -> EndpointDetailModel:
        """One endpoint with its time series, busiest consumers, status codes and the routes behind it."""
        return view_endpoint_detail(find_endpoint(endpoints, endpoint_id, parameters, clock()))

    return router


def find_endpoint(
    endpoints: EndpointInventory, endpoint_id: str, parameters: SpanParameters, now: float
) -> EndpointDetail:
    """The endpoint, or the refusal of an id that no call had."""
    detail = endpoints.get_endpoint(endpoint_id, span_since(parameters.since, now))
    if detail is None:
        raise Problem(
            404,
            f"No call to an endpoint {show(endpoint_id)} in the last {parameters.since}; "
            "look it up in /api/v1/endpoints or ask with a longer since.",
        )
    return detail


def refuse_cursor(cursor: str, error: CursorError) -> Problem:
    """The refusal of a cursor that is not of this question."""
    return Problem(422, f"The parameter 'cursor' is {show(cursor)}, but {error}; start again without it.")
