"""From the domain to the API's models, where they differ by more than an attribute's name."""

from collector.api.consumer_models import (
    CallerModel,
    ConsumerDetailModel,
    ConsumerEndpointModel,
    ConsumerModel,
    ConsumerPageModel,
)
from collector.api.coverage_models import PortModel, PortPageModel
from collector.api.endpoint_models import EndpointDetailModel, EndpointModel, EndpointPageModel
from collector.inventory.consumer import Consumer, ConsumerDetail
from collector.inventory.consumers import ConsumerPage
from collector.inventory.coverage_reader import PortPage
from collector.inventory.endpoint import EndpointDetail
from collector.inventory.endpoints import EndpointPage


def view_endpoint_page(page: EndpointPage) -> EndpointPageModel:
    """A page; no next page is null."""
    items = tuple(EndpointModel.model_validate(item) for item in page.items)
    return EndpointPageModel(items=items, next_cursor=page.next_cursor or None, total=page.total)


def view_endpoint_detail(detail: EndpointDetail) -> EndpointDetailModel:
    """The endpoint's own fields and its history side by side."""
    fields = dict(EndpointModel.model_validate(detail.endpoint))
    history = {name: getattr(detail, name) for name in EndpointDetailModel.model_fields if name not in fields}
    return EndpointDetailModel.model_validate({**fields, **history})


def view_consumer(consumer: Consumer) -> ConsumerModel:
    """The consumer with its name in three fields."""
    return ConsumerModel.model_validate(_flatten(consumer))


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


def view_port_page(page: PortPage) -> PortPageModel:
    """A page; no next page is null."""
    items = tuple(PortModel.model_validate(item) for item in page.items)
    return PortPageModel(items=items, next_cursor=page.next_cursor or None, total=page.total)


def _flatten(consumer: Consumer) -> dict[str, object]:
    """Attributes by name, `name` taken apart."""
    fields = {name: getattr(consumer, name) for name in Consumer.__dataclass_fields__ if name != "name"}
    return {**fields, "id": consumer.name.id, "kind": consumer.name.kind, "value": consumer.name.value}
