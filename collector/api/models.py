"""`/models`: which workloads call which models, what is sent to them, and what that costs."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from collector.api.base_model import Model, OptionalTime, Time
from collector.api.parameters import ActionBody, Items, NoParameters
from collector.inventory.endpoints.bodies import BodySide, DataClass
from collector.inventory.endpoints.endpoint import AuthenticationLevel
from collector.inventory.endpoints.exposure import ExposureLevel
from collector.inventory.filters import Text
from collector.inventory.models.models import ModelInventory, ModelQuery
from collector.inventory.models.prices import PRICES_MAX, ModelPrice, ModelPrices, PriceList
from collector.inventory.models.sums import Destination


class ModelDataModel(Model):
    """Sensitive data in prompts or answers."""

    kind: str = Field(examples=["email"])
    data_class: DataClass
    side: BodySide = Field(description="`request`: in prompts; `response`: in answers.")
    calls: int


class ModelTrafficModel(Model):
    """What one caller asks of one model at one destination. Counts are estimates by samples."""

    id: str
    caller: str = Field(description="A workload, else an address.", examples=["workload:shop/agent"])
    held_by: tuple[str, ...] = Field(description="Who had the address of the caller.")
    consumers: tuple[str, ...] = Field(description="The consumers that these calls have in the inventory.")
    consumers_total: int
    provider: str = Field(description="As OpenTelemetry's gen_ai.provider.name; `_OTHER`: not known.")
    operation: str = Field(description="Kind of API, as gen_ai.operation.name.", examples=["chat"])
    model: str = Field(description="As asked for, else as answered; `_OTHER`: a name that stays on its node.")
    response_models: tuple[str, ...] = Field(description="As answers name it, most calls first.")
    destination: Destination
    server: str = Field(description="A host outside, or a service.", examples=["ml/vllm:8000"])
    cluster: str
    endpoint_ids: tuple[str, ...] = Field(description="Most called first.")
    authentication: AuthenticationLevel
    exposure: ExposureLevel
    samples: int = Field(description="Calls that were read.")
    calls: int
    errors: int
    streamed_calls: int
    counted_calls: int = Field(description="Calls whose tokens are known.")
    input_tokens: int = Field(description="Of prompts, with those of the cache.")
    output_tokens: int = Field(description="Of answers, with those of reasoning.")
    tokens: int
    cache_read_tokens: int
    cache_creation_tokens: int
    reasoning_tokens: int
    prompts_read: int
    answers_read: int
    data: tuple[ModelDataModel, ...]
    prompt_classes: tuple[DataClass, ...]
    answer_classes: tuple[DataClass, ...]
    url_key_calls: int = Field(description="Calls with a key of a provider in the URL.")
    cost: float | None = Field(description="By the prices that were set; null where none fits.")
    priced_calls: int
    first_seen: Time
    last_seen: Time


class ModelTotalsModel(Model):
    """Sums of all that matches."""

    calls: int
    errors: int
    outside_calls: int
    counted_calls: int
    outside_input_tokens: int
    outside_output_tokens: int
    inside_input_tokens: int = Field(
        description="Of servers of yours. What a gateway passes on to a provider is in the outside tokens again."
    )
    inside_output_tokens: int
    cost: float | None
    priced_calls: int
    currency: str
    left_out: int = Field(description="Sums of the fewest calls that were not read.")
    unread_states: int = Field(description="Reports of sensors that were not read: one node sent too many.")


class ModelPageModel(Model):
    """One page of calls to models."""

    items: tuple[ModelTrafficModel, ...]
    next_cursor: str | None
    total: int
    totals: ModelTotalsModel


class ModelPricesModel(Model):
    """Prices by which costs are computed."""

    currency: str
    prices: tuple[ModelPrice, ...]
    changed_by: str
    changed_at: OptionalTime


class ModelPricesBody(ActionBody):
    """All prices, in place of those before."""

    currency: Text = Field(default="", max_length=8, examples=["USD"])
    prices: Items[ModelPrice] = Field(
        max_length=PRICES_MAX, description="The first that fits a model holds; none: no cost is shown."
    )


def build_model_routes(*, models: ModelInventory, prices: ModelPrices, clock: Callable[[], float]) -> APIRouter:
    """Routes that read calls to models, and those of prices."""
    router = APIRouter(prefix="/models", tags=["inventory"])

    @router.get("", summary="List calls to models")
    def list_models(query: Annotated[ModelQuery, Query()]) -> ModelPageModel:
        """Calls to language models and other models in the span, by caller, provider, model, operation and
        destination."""
        return ModelPageModel.model_validate(models.list_models(query, query.find_span(clock())))

    @router.get("/prices", summary="Show prices of models")
    def get_model_prices(_: Annotated[NoParameters, Query()]) -> ModelPricesModel:
        """The prices that were set. Without any no cost is shown."""
        return ModelPricesModel.model_validate(prices.read())

    @router.post("/prices", summary="Set prices of models")
    def set_model_prices(body: ModelPricesBody) -> ModelPricesModel:
        """Sets all prices in place of those before. Costs of earlier calls follow the new ones, too."""
        return ModelPricesModel.model_validate(
            prices.put(PriceList(currency=body.currency, prices=body.prices), by=body.by)
        )

    return router
