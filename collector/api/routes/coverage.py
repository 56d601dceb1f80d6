"""/coverage: how much is read, what is not and why, and how it went."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query

from collector.api.coverage_models import CoverageHistoryModel, CoverageModel, PortModel, PortPageModel
from collector.api.parameters import CoverageHistoryParameters, NoParameters, PortParameters
from collector.api.problem import refuse_cursor
from collector.inventory.coverage_reader import CoverageInventory, PortPage
from collector.inventory.cursor import CursorError
from collector.inventory.span import span_since


def build_coverage_routes(*, coverage: CoverageInventory, clock: Callable[[], float]) -> APIRouter:
    """Routes that read the coverage."""
    router = APIRouter(prefix="/coverage", tags=["coverage"])

    @router.get("", summary="Show coverage")
    def get_coverage(_: Annotated[NoParameters, Query()]) -> CoverageModel:
        """The share of connections and bytes like HTTP that is read, of all nodes together and of each, and every loss
        with what may be done."""
        return CoverageModel.model_validate(coverage.read_coverage())

    @router.get("/ports", summary="List ports")
    def list_ports(parameters: Annotated[PortParameters, Query()]) -> PortPageModel:
        """Every listening port by protocol, hosts that are called encrypted, and what no sensor can see, with why."""
        try:
            return view_port_page(coverage.list_ports(parameters.question()))
        except CursorError as error:
            raise refuse_cursor(parameters.cursor, error) from error

    @router.get("/history", summary="Show coverage over time")
    def get_history(parameters: Annotated[CoverageHistoryParameters, Query()]) -> CoverageHistoryModel:
        """What each hour, or each of some hours, added: what is like HTTP, and what of it was read."""
        found = coverage.read_history(span_since(parameters.since, clock()), parameters.node)
        return CoverageHistoryModel.model_validate(found)

    return router


def view_port_page(page: PortPage) -> PortPageModel:
    """A page; no next page is null."""
    items = tuple(PortModel.model_validate(item) for item in page.items)
    return PortPageModel(items=items, next_cursor=page.next_cursor or None, total=page.total)
