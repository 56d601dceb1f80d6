"""/endpoints: the inventory."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query

from collector.api.endpoint_models import EndpointDetailModel, EndpointModel, EndpointPageModel
from collector.api.parameters import EndpointParameters, SpanParameters, find_endpoint
from collector.api.problem import refuse_cursor
from collector.inventory.cursor import CursorError
from collector.inventory.endpoint import EndpointDetail
from collector.inventory.endpoints import EndpointInventory, EndpointPage


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


def view_endpoint_page(page: EndpointPage) -> EndpointPageModel:
    """A page; no next page is null."""
    items = tuple(EndpointModel.model_validate(item) for item in page.items)
    return EndpointPageModel(items=items, next_cursor=page.next_cursor or None, total=page.total)


def view_endpoint_detail(detail: EndpointDetail) -> EndpointDetailModel:
    """The endpoint's own fields and its history side by side."""
    fields = dict(EndpointModel.model_validate(detail.endpoint))
    history = {name: getattr(detail, name) for name in EndpointDetailModel.model_fields if name not in fields}
    return EndpointDetailModel.model_validate({**fields, **history})
