"""`/inventory/diff` and `/inventory/tombstones`: endpoints that came, changed or are retired."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from collector.api.base_model import Model, Ratio, Time
from collector.api.parameters import YEAR_MIN, AskedDay, NoParameters
from collector.api.problem import Problem
from collector.inventory.changes import RetiredEndpoints, compare_dates
from collector.inventory.endpoints.endpoint import AuthenticationLevel
from collector.inventory.filters import Parameters
from collector.storage.records import Reader


class DiffParameters(Parameters):
    """Two dates (UTC)."""

    start: AskedDay | None = Field(
        default=None, description="The earlier date; default: the day before the later one.", examples=["2026-10-01"]
    )
    end: AskedDay | None = Field(default=None, description="The later date; default: today.")

    def find_days(self, now: float) -> tuple[date, date]:
        """Both, where `now` is the present in unix seconds. Raises Problem."""
        end = self.end or datetime.fromtimestamp(now, UTC).date()
        start = self.start or max(end, date(YEAR_MIN, 1, 2)) - timedelta(days=1)
        if start >= end:
            raise Problem(422, f"start is {start} and end {end}; give the earlier date as start.")
        return start, end


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


class ChangedExposureModel(Model):
    """Reached from elsewhere than before."""

    id: str
    service: str
    host: str
    method: str
    template: str
    before: str
    after: str
    since: Time


class AddedDataModel(Model):
    """There before, and its calls carry kinds of data that those of the week before did not."""

    id: str
    service: str
    host: str
    method: str
    template: str
    kinds: dict[str, tuple[str, ...]] = Field(
        description="By where they were found.", examples=[{"response": ["email"]}]
    )


class InventoryDiffModel(Model):
    """Which endpoints came, went, and changed."""

    start: date
    end: date
    appeared: tuple[EndpointStateModel, ...]
    gone: tuple[EndpointStateModel, ...]
    changed: tuple[ChangedEndpointModel, ...]
    exposed: tuple[ChangedExposureModel, ...] = Field(
        description="Exposure changed between the two dates; the last change of each endpoint is kept."
    )
    data: tuple[AddedDataModel, ...] = Field(description="Sensitive data that was not seen in the week before.")
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


def build_change_routes(*, reader: Reader, retired: RetiredEndpoints, clock: Callable[[], float]) -> APIRouter:
    """Routes that read changes."""
    router = APIRouter(prefix="/inventory", tags=["inventory"])

    @router.get("/diff", summary="Compare the inventory at two dates")
    def get_diff(parameters: Annotated[DiffParameters, Query()]) -> InventoryDiffModel:
        """Each by the week up to the end of that day, UTC."""
        return InventoryDiffModel.model_validate(compare_dates(reader, *parameters.find_days(clock())))

    @router.get("/tombstones", summary="List endpoints that are gone")
    def list_tombstones(_: Annotated[NoParameters, Query()]) -> TombstonePageModel:
        """Endpoints that nobody called for 30 days, with their history by day."""
        return TombstonePageModel(items=tuple(TombstoneModel.model_validate(one) for one in retired.list_retired()))

    return router
