"""/consumers: who calls."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query

from collector.api.consumer_models import ConsumerDetailModel, ConsumerPageModel
from collector.api.parameters import ConsumerParameters, SpanParameters
from collector.api.problem import Problem, show
from collector.api.routes.endpoints import refuse_cursor
from collector.api.views import view_consumer_detail, view_consumer_page
from collector.inventory.consumer import ConsumerError, parse_consumer
from collector.inventory.consumers import ConsumerInventory
from collector.inventory.cursor import CursorError
from collector.inventory.span import span_since


def build_consumer_routes(*, consumers: ConsumerInventory, clock: Callable[[], float]) -> APIRouter:
    """Routes that read the inventory of consumers."""
    router = APIRouter(prefix="/consumers", tags=["inventory"])

    @router.get("", summary="List consumers")
    def list_consumers(parameters: Annotated[ConsumerParameters, Query()]) -> ConsumerPageModel:
        """Everyone who called within the span: named by principal, else credential, else client address, else client
        workload, unless the setting `consumer_order` says otherwise."""
        try:
            return view_consumer_page(consumers.list_consumers(parameters.question(clock())))
        except CursorError as error:
            raise refuse_cursor(parameters.cursor, error) from error

    @router.get("/{consumer_id:path}", summary="Show one consumer")
    def get_consumer(consumer_id: str, parameters: Annotated[SpanParameters, Query()]) -> ConsumerDetailModel:
        """One consumer, the endpoints it touched, and where it came from. A workload's name may hold slashes."""
        try:
            name = parse_consumer(consumer_id)
        except ConsumerError as error:
            raise Problem(422, f"{str(error)[0].upper()}{str(error)[1:]}.") from error
        detail = consumers.get_consumer(name, span_since(parameters.since, clock()))
        if detail is None:
            raise Problem(
                404,
                f"No call by a consumer {show(consumer_id)} in the last {parameters.since}; "
                "look it up in /api/v1/consumers or ask with a longer since.",
            )
        return view_consumer_detail(detail)

    return router
