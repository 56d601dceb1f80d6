"""/views: filters of a list saved under a name, for everybody."""

from collections.abc import Mapping
from typing import Annotated, Final

from fastapi import APIRouter, Query
from fastapi.exceptions import RequestValidationError
from pydantic import AfterValidator, Field, ValidationError

from collector.api.base_model import Model, OptionalTime
from collector.api.lists import AlertQuery, IncidentQuery
from collector.api.parameters import ActionBody, name_actor
from collector.api.problem import Problem, show
from collector.inventory.consumers.consumers import ConsumerQuery
from collector.inventory.coverage.sql import PortQuery
from collector.inventory.endpoints.exposure_list import ExposureQuery
from collector.inventory.endpoints.filters import EndpointQuery
from collector.inventory.filters import Filter, ListQuery, Text
from collector.inventory.query import Cursor
from collector.inventory.services.services import ServiceQuery
from collector.inventory.views import NAME_CHARACTERS_MAX, QUERY_CHARACTERS_MAX, SavedView, ViewTable, read_query
from collector.risk.finding_query import FindingQuery

# By the list's name: what a view's query must be good for.
VIEWED_LISTS: Final[Mapping[str, type[ListQuery]]] = {
    "endpoints": EndpointQuery,
    "services": ServiceQuery,
    "consumers": ConsumerQuery,
    "findings": FindingQuery,
    "alerts": AlertQuery,
    "incidents": IncidentQuery,
    "exposure": ExposureQuery,
    "coverage": PortQuery,
}


def _check_list(value: str) -> str:
    if value and value not in VIEWED_LISTS:
        raise ValueError(f"use one of {', '.join(VIEWED_LISTS)}")
    return value


class ViewQuery(ListQuery):
    """Filters and page of the list of views."""

    list: Annotated[Text, AfterValidator(_check_list), Filter(None, choices=tuple(VIEWED_LISTS))] = Field(
        default="", max_length=40, description="Views of this list only.", examples=["endpoints"]
    )


class ViewBody(ActionBody):
    """Filters to save."""

    list: Annotated[Text, AfterValidator(_check_list)] = Field(
        min_length=1, max_length=40, description="Which list.", examples=["endpoints"]
    )
    name: Text = Field(min_length=1, max_length=NAME_CHARACTERS_MAX, examples=["Payments, open to anybody"])
    query: Text = Field(
        max_length=QUERY_CHARACTERS_MAX,
        description="The list's parameters as in its URL; `cursor` and `limit` are not kept.",
        examples=["service=payments&auth=none&sort=risk"],
    )


class ViewModel(Model):
    """One view."""

    id: str
    list: str
    name: str
    query: str
    path: str = Field(description="Of the page that shows it.", examples=["/endpoints?auth=none&sort=risk"])
    by: str = Field(description="Who saved it last; `apidae`: it comes with the product.")
    time: OptionalTime
    is_built_in: bool


class ViewPageModel(Model):
    """One page of views: the built-in ones first, then by name."""

    items: tuple[ViewModel, ...]
    next_cursor: str | None
    total: int


def save_view(table: ViewTable, list_name: str, name: str, query: str, *, by: str) -> SavedView:
    """Save a query that the list takes. Raises ValidationError and ConflictError."""
    kind = VIEWED_LISTS[list_name]
    asked = {name: value for name, value in read_query(query).items() if value}
    kind.model_validate(asked)
    return table.save(list_name, name, asked, by=by)


def build_view_routes(*, views: ViewTable) -> APIRouter:
    """Routes of views."""
    router = APIRouter(tags=["views"])

    @router.get("/views", summary="List views")
    def list_views(query: Annotated[ViewQuery, Query()]) -> ViewPageModel:
        """Filters that were saved under a name, and those that come with the product."""
        found = views.list_views(query.list)
        after = query.read_cursor(str)
        start = next((place for place, one in enumerate(found, 1) if after is not None and one.id == after.id), 0)
        shown, next_cursor = query.cut(found[start:], lambda last: Cursor(value=last.name, id=last.id))
        return ViewPageModel(
            items=tuple(ViewModel.model_validate(one) for one in shown), next_cursor=next_cursor, total=len(found)
        )

    @router.post("/views", summary="Save a view")
    def create_view(body: ViewBody) -> ViewModel:
        """Saves the filters of a list under a name, for everybody; a view of that name is replaced."""
        try:
            saved = save_view(views, body.list, body.name, body.query, by=body.by)
        except ValidationError as error:
            raise RequestValidationError(
                [{**detail, "loc": ("query", *detail["loc"])} for detail in error.errors()]
            ) from error
        return ViewModel.model_validate(saved)

    @router.delete("/views/{view_id}", summary="Delete a view")
    def delete_view(view_id: str) -> ViewModel:
        """Deletes a view for everybody."""
        gone = views.delete(view_id, by=name_actor())
        if gone is None:
            raise Problem(404, f"There is no view {show(view_id)}; look it up in /api/v1/views.")
        return ViewModel.model_validate(gone)

    return router
