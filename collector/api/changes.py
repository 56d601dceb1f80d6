"""`/inventory/diff` and `/inventory/tombstones`: endpoints that came, changed or are retired."""

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from collector.api.base_model import Model, Ratio, Time
from collector.api.parameters import AskedDay, NoParameters
from collector.api.problem import Problem
from collector.inventory.changes import RetiredEndpoints, compare_dates
from collector.inventory.endpoints.endpoint import AuthenticationLevel
from collector.inventory.filters import Parameters
from collector.storage.base import Store


class DiffParameters(Parameters):
    """Two dates (UTC)."""

    start: AskedDay = Field(description="The earlier date.", examples=["2026-10-01"])
    end: AskedDay = Field(description="The later date.")


class NamedOperationModel(Model):
    """A GraphQL operation, JSON-RPC method, MCP tool, SOAP or other action."""

    parent_id: str = Field(description="The endpoint whose path it shares.")
    protocol: str
    kind: str
    name: str


class EndpointStateModel(Model):
    """An endpoint in the week up to a date."""

    id: str
    service: str
    host: str
    method: str
    template: str
    calls: int
    authentication: AuthenticationLevel
    first_seen: Time
    last_seen: Time
    operation: NamedOperationModel | None = Field(description="Where it is one; then `calls` is an estimate.")


class ChangedEndpointModel(Model):
    """There at both dates, with other credentials."""

    before: EndpointStateModel
    after: EndpointStateModel


class InventoryDiffModel(Model):
    """Which endpoints came, went, and changed."""

    start: date
    end: date
    appeared: tuple[EndpointStateModel, ...]
    gone: tuple[EndpointStateModel, ...]
    changed: tuple[ChangedEndpointModel, ...]
    is_cut: bool = Field(description="A list had more than is shown.")


class TombstoneModel(Model):
    """An endpoint that nobody called for 30 days."""

    id: str
    service: str
    host: str
    method: str
    template: str
    calls: int
    authentication_coverage: Ratio | None
    first_seen: Time
    last_seen: Time
    days: dict[int, int] = Field(description="Calls by start of day, unix seconds.")
    operation: NamedOperationModel | None = Field(description="Where it was one; then calls are estimates.")


class TombstonePageModel(Model):
    """Those that went last first."""

    items: tuple[TombstoneModel, ...]


def build_change_routes(*, store: Store, retired: RetiredEndpoints) -> APIRouter:
    """Routes that read changes."""
    router = APIRouter(prefix="/inventory", tags=["inventory"])

    @router.get("/diff", summary="Compare the inventory at two dates")
    def get_diff(parameters: Annotated[DiffParameters, Query()]) -> InventoryDiffModel:
        """Each by the week up to the end of that day, UTC."""
        if parameters.start >= parameters.end:
            raise Problem(422, f"start is {parameters.start} and end {parameters.end}; give the earlier date as start.")
        return InventoryDiffModel.model_validate(compare_dates(store, parameters.start, parameters.end))

    @router.get("/tombstones", summary="List endpoints that are gone")
    def list_tombstones(_: Annotated[NoParameters, Query()]) -> TombstonePageModel:
        """Endpoints that nobody called for 30 days, with their history by day."""
        return TombstonePageModel(items=tuple(TombstoneModel.model_validate(one) for one in retired.list_retired()))

    return router
