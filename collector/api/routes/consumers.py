"""/consumers: who calls."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query

from collector.api.consumer_models import (
    CallerModel,
    ConsumerDetailModel,
    ConsumerEndpointModel,
    ConsumerModel,
    ConsumerPageModel,
)
from collector.api.parameters import ConsumerParameters, SpanParameters
from collector.api.problem import Problem, refuse_cursor, show
from collector.inventory.consumer import Consumer, ConsumerDetail, ConsumerError, parse_consumer
from collector.inventory.consumers import ConsumerInventory, ConsumerPage
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


def view_consumer_page(page: ConsumerPage) -> ConsumerPageModel:
    """A page; no next page is null."""
    items = tuple(view_consumer(item) for item in page.items)
    return ConsumerPageModel(items=items, next_cursor=page.next_cursor or None, total=page.total)


def view_consumer_detail(detail: ConsumerDetail) -> ConsumerDetailModel:
    """The consumer's own fields, what it touched and where it came from."""
    return ConsumerDetailModel.model_validate(
        {
            **_flatten(detail.consumer),
            "touched": tuple(ConsumerEndpointModel.model_validate(item) for item in detail.endpoints),
            "calls_by_address": detail.addresses,
            "calls_by_workload": detail.workloads,
            "calls_by_software": detail.softwares,
            "callers": tuple(CallerModel.model_validate(caller) for caller in detail.callers),
        }
    )


def view_consumer(consumer: Consumer) -> ConsumerModel:
    """The consumer with its name in three fields."""
    return ConsumerModel.model_validate(_flatten(consumer))


def _flatten(consumer: Consumer) -> dict[str, object]:
    """Attributes by name, `name` taken apart."""
    fields = {name: getattr(consumer, name) for name in Consumer.__dataclass_fields__ if name != "name"}
    return {**fields, "id": consumer.name.id, "kind": consumer.name.kind, "value": consumer.name.value}
