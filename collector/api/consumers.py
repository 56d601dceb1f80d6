"""/consumers: who calls, what they touched, and where they came from."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from collector.api.base_model import HolderModel, Model, ObjectsModel, Time, with_figures
from collector.api.problem import Problem, show
from collector.core.kinds import ConsumerKind
from collector.inventory.consumers.consumer import Consumer, ConsumerDetail, parse_consumer
from collector.inventory.consumers.consumers import ConsumerInventory, ConsumerQuery
from collector.inventory.filters import SpanParameters
from collector.storage.columns import UsedBy


@with_figures(UsedBy.CONSUMERS)
class ConsumerModel(ObjectsModel):
    """One consumer over all endpoints."""

    id: str = Field(description="`kind:value`.", examples=["address:192.0.2.7"])
    kind: ConsumerKind
    value: str = Field(description="Keyed hash of a principal or credential; else the address or workload itself.")
    principal_kind: str = Field(
        description="Where a principal's name came from; empty for other kinds.", examples=["jwt_subject"]
    )
    key_id: int = Field(
        description="Installation key that a principal or credential was hashed under; 0 for other kinds. After a "
        "rotation of the key the same caller is another consumer."
    )
    endpoints: int
    calls: int
    calls_per_second: float = Field(description="Over the span, or since the first call where that is later.")
    errors: int
    denied: int = Field(description="Answered 401 or 403.")
    addresses: int = Field(description="Distinct client addresses it came from.")
    first_seen: Time
    last_seen: Time
    holders: tuple[HolderModel, ...] = Field(
        description="Who held an address while it called; one unless it was given away meanwhile."
    )


class CallerModel(Model):
    """Calls from one Pod, node or Service; `holder` null: from addresses that several held at the time, or nobody."""

    holder: HolderModel | None
    addresses: tuple[str, ...]
    calls: int


class ConsumerPageModel(Model):
    """One page of consumers."""

    items: tuple[ConsumerModel, ...]
    next_cursor: str | None
    total: int


class ConsumerEndpointModel(ObjectsModel):
    """One endpoint that a consumer touched."""

    endpoint_id: str
    method: str
    host: str
    template: str
    calls: int
    errors: int
    first_seen: Time
    last_seen: Time


class ConsumerDetailModel(ConsumerModel):
    """One consumer with what it touched and where it came from."""

    touched: tuple[ConsumerEndpointModel, ...]
    calls_by_address: dict[str, int]
    calls_by_workload: dict[str, int]
    calls_by_software: dict[str, int] = Field(
        description="By client software: a keyed hash of the shape of its heads, after its name where it is well "
        "known. Of minutes, which are kept for 48 h; empty for longer times."
    )
    callers: tuple[CallerModel, ...] = Field(description="Who called by what Kubernetes knows; empty without it.")


def build_consumer_routes(*, consumers: ConsumerInventory, clock: Callable[[], float]) -> APIRouter:
    """Routes that read the inventory of consumers."""
    router = APIRouter(prefix="/consumers", tags=["inventory"])

    @router.get("", summary="List consumers")
    def list_consumers(query: Annotated[ConsumerQuery, Query()]) -> ConsumerPageModel:
        """Everyone who called within the span: named by principal, else credential, else client address, else client
        workload, unless the setting `consumer_order` says otherwise."""
        page = consumers.list_consumers(query, query.find_span(clock()))
        items = tuple(ConsumerModel.model_validate(_flatten(item)) for item in page.items)
        return ConsumerPageModel(items=items, next_cursor=page.next_cursor, total=page.total)

    @router.get("/{consumer_id:path}", summary="Show one consumer")
    def get_consumer(consumer_id: str, parameters: Annotated[SpanParameters, Query()]) -> ConsumerDetailModel:
        """One consumer, the endpoints it touched, and where it came from. A workload's name may hold slashes."""
        detail = consumers.get_consumer(parse_consumer(consumer_id), parameters.find_span(clock()))
        if detail is None:
            raise Problem(
                404,
                f"No call by a consumer {show(consumer_id)} {parameters.word_span()}; "
                "look it up in /api/v1/consumers or ask for a longer span.",
            )
        return view_consumer_detail(detail)

    return router


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


def _flatten(consumer: Consumer) -> dict[str, object]:
    """Attributes by name, `name` taken apart."""
    fields = {name: getattr(consumer, name) for name in Consumer.__dataclass_fields__ if name != "name"}
    return {**fields, "id": consumer.name.id, "kind": consumer.name.kind, "value": consumer.name.value}
