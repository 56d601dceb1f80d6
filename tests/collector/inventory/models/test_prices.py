"""Which price holds for what a caller asked."""

from typing import Any

import pytest

from collector.inventory.models.prices import ModelPrice, PriceBook, PriceList
from collector.inventory.models.sums import OTHER, Destination, ModelSum

OUTSIDE, INSIDE = Destination.OUTSIDE, Destination.INSIDE
_COUNTS = (
    *("samples", "errors", "streamed", "output_tokens", "cache_read_tokens", "cache_creation_tokens"),
    *("reasoning_tokens", "requests_read", "responses_read", "url_keys", "first_seen", "last_seen"),
)


def make_use(request_model: str, response_model: str, provider: str = "openai") -> ModelSum:
    """One million tokens of prompts."""
    texts: dict[str, Any] = dict.fromkeys(
        ("endpoint_id", "cluster", "service", "host", "path", "caller", "consumer"), ""
    )
    counts: dict[str, Any] = dict.fromkeys(_COUNTS, 0)
    return ModelSum(
        **texts,
        **counts,
        route_id=1,
        role=2,
        provider=provider,
        operation="chat",
        request_model=request_model,
        response_model=response_model,
        calls=1,
        counted=1,
        input_tokens=1_000_000,
        data=(),
    )


def find_cost(use: ModelSum, destination: Destination, *prices: tuple[str, str, float]) -> float | None:
    entries = [ModelPrice(model=model, provider=provider, input=price, output=0) for model, provider, price in prices]
    return PriceBook(PriceList(prices=tuple(entries))).compute_cost(use, destination)


@pytest.mark.parametrize("response_model", [OTHER, "", "alias-of-ours"])
def test_a_catch_all_does_not_hold_before_the_entry_of_the_model(response_model: str) -> None:
    use = make_use("gpt-4o", response_model)
    assert find_cost(use, OUTSIDE, ("gpt-4o*", "", 2.5), ("*", "", 0.1)) == 2.5


def test_the_name_in_the_answer_counts_too() -> None:
    assert find_cost(make_use("best", "gpt-4o-2024-08-06"), OUTSIDE, ("gpt-4o-*", "", 2.5)) == 2.5


def test_a_model_whose_name_stays_on_its_node_has_the_price_of_all() -> None:
    assert find_cost(make_use(OTHER, OTHER), OUTSIDE, ("gpt-*", "", 2.5), ("*", "", 0.1)) == 0.1


def test_calls_to_a_gateway_of_ours_cost_nothing_but_by_their_provider() -> None:
    use = make_use("gpt-4o", "gpt-4o", provider="vllm")
    assert find_cost(use, INSIDE, ("*", "", 0.1)) is None
    assert find_cost(use, INSIDE, ("*", "openai", 0.1), ("*", "vllm", 0.2)) == 0.2
    assert find_cost(use, OUTSIDE, ("*", "", 0.1)) == 0.1
