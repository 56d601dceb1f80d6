"""/inventory/diff and /inventory/tombstones: what came and went."""

from typing import Annotated

from fastapi import APIRouter, Query

from collector.api.change_models import DiffParameters, InventoryDiffModel, TombstoneModel, TombstonePageModel
from collector.api.parameters import NoParameters
from collector.api.problem import Problem
from collector.inventory.changes import compare_dates
from collector.inventory.reader import Reader
from collector.inventory.tombstones import Graveyard


def build_change_routes(*, reader: Reader, graveyard: Graveyard) -> APIRouter:
    """Routes that read changes."""
    router = APIRouter(prefix="/inventory", tags=["inventory"])

    @router.get("/diff", summary="Compare the inventory at two dates")
    def get_diff(parameters: Annotated[DiffParameters, Query()]) -> InventoryDiffModel:
        """Each by the week up to the end of that day, UTC."""
        if parameters.start >= parameters.end:
            raise Problem(422, f"start is {parameters.start} and end {parameters.end}; give the earlier date as start.")
        return InventoryDiffModel.model_validate(compare_dates(reader, parameters.start, parameters.end))

    @router.get("/tombstones", summary="List endpoints that are gone")
    def list_tombstones(_: Annotated[NoParameters, Query()]) -> TombstonePageModel:
        """Endpoints that nobody called for 30 days, with their history by day."""
        return TombstonePageModel(
            items=tuple(TombstoneModel.model_validate(one) for one in graveyard.list_tombstones())
        )

    return router
