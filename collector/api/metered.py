"""/metrics/endpoints: which endpoints have metrics of their own."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.exceptions import RequestValidationError
from pydantic import Field, ValidationError

from collector.api.base_model import Model, OptionalTime, ServiceModel
from collector.api.parameters import ActionBody, Items, NoParameters
from collector.api.problem import Problem
from collector.inventory.consumers.consumer import CONSUMER_VALUE_CHARACTERS_MAX
from collector.inventory.filters import Text
from collector.inventory.traffic.metered import ENDPOINTS_MAX, MeteredEndpoints
from collector.inventory.views import QUERY_CHARACTERS_MAX

_Id = Annotated[Text, Field(min_length=1, max_length=CONSUMER_VALUE_CHARACTERS_MAX)]


class MeteredEndpointModel(Model):
    """An endpoint with metrics of its own."""

    id: str
    service: ServiceModel
    host: str
    method: str
    template: str
    is_chosen: bool = Field(description="By its id; else it matches the rule.")


class MeteredModel(Model):
    """Which endpoints have metrics, and why."""

    items: tuple[MeteredEndpointModel, ...]
    query: str = Field(description="The rule, a query of the list of endpoints; empty: there is none.")
    changed_by: str
    changed_at: OptionalTime
    maximum: int = Field(description="Of endpoints; first those that were chosen by id.")


class MeteredBody(ActionBody):
    """What to change."""

    add: Items[_Id] = Field(default=(), max_length=ENDPOINTS_MAX, description="Ids of endpoints to choose.")
    remove: Items[_Id] = Field(default=(), max_length=ENDPOINTS_MAX, description="Ids to take out.")
    query: Text | None = Field(
        default=None,
        max_length=QUERY_CHARACTERS_MAX,
        description="The rule as in the URL of the list of endpoints; empty takes it away, null leaves it.",
        examples=["risk_min=70&sort=risk"],
    )


def build_metered_routes(*, metered: MeteredEndpoints) -> APIRouter:
    """Routes that show and change the choice."""
    router = APIRouter(prefix="/metrics/endpoints", tags=["operation"])

    @router.get("", summary="List endpoints with metrics")
    def list_metered(_: Annotated[NoParameters, Query()]) -> MeteredModel:
        """Those that were chosen, and those that match the rule now."""
        return _view(metered)

    @router.post("", summary="Choose endpoints for metrics")
    def choose_metered(body: MeteredBody) -> MeteredModel:
        """Chooses endpoints by id, takes others out, and sets the rule. Metrics follow within 10 s."""
        try:
            metered.change(add=body.add, remove=body.remove, query=body.query, by=body.by)
        except ValidationError as error:
            raise RequestValidationError(
                [{**detail, "loc": ("query", *detail["loc"])} for detail in error.errors()]
            ) from error
        except ValueError as error:
            raise Problem(422, f"{str(error)[:1].upper()}{str(error)[1:]}.") from None
        return _view(metered)

    return router


def _view(metered: MeteredEndpoints) -> MeteredModel:
    choice = metered.read()
    return MeteredModel(
        items=tuple(map(MeteredEndpointModel.model_validate, metered.resolve().items)),
        query=choice.query,
        changed_by=choice.changed_by,
        changed_at=choice.changed_at,
        maximum=ENDPOINTS_MAX,
    )
