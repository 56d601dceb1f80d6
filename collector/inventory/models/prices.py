"""Prices of models that people set, and the cost of tokens by them. Without prices no cost is known.

The prices are one row of the state, as a file gives them (`apidae set model-prices FILE`). The first entry whose
pattern fits the name in the answer or the one in the request holds. Calls to a gateway of ours have no cost but by an
entry for their provider: what it sends on to a provider outside is priced there.
"""

import re
from collections.abc import Callable, Sequence
from fnmatch import translate
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Connection, select

from collector.inventory.filters import Text
from collector.inventory.models.sums import OTHER, Destination, ModelSum
from collector.storage.state.cache import StateCache
from collector.storage.state.store import StateStore, lock_table, upsert
from collector.storage.state.tables.inventory import MODEL_PRICES
from collector.trust.audit import add_entries, make_entry

PRICES_MAX: Final = 300  # Each model is compared with each: 20,000 of one list in 2 s.
TOKENS_OF_PRICE: Final = 1_000_000
_ROW: Final = 1
_Price = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]


class ModelPrice(BaseModel):
    """What one million tokens of some models cost."""

    model_config = ConfigDict(frozen=True, extra="forbid", from_attributes=True)

    model: Text = Field(
        min_length=1, max_length=128, description="Pattern of the model's name: `*` is any text.", examples=["acme-1*"]
    )
    provider: Text = Field(default="", max_length=32, description="Of this provider only; empty: of each.")
    input: _Price = Field(description="One million tokens of prompts.", examples=[1.0])
    output: _Price = Field(description="One million tokens of answers, with those of reasoning.", examples=[4.0])
    cache_read: _Price | None = Field(default=None, description="One million tokens out of a cache; null: as `input`.")
    cache_creation: _Price | None = Field(
        default=None, description="One million tokens written to a cache; null: as `input`."
    )
    source: Text = Field(default="", max_length=500, description="Where the price was read.")
    date: Text = Field(default="", max_length=40, description="When it was read.", examples=["2026-11-30"])

    def compute_cost(self, use: ModelSum) -> float:
        """Of the tokens that were counted."""
        plain = max(0, use.input_tokens - use.cache_read_tokens - use.cache_creation_tokens)
        cached = self.input if self.cache_read is None else self.cache_read
        created = self.input if self.cache_creation is None else self.cache_creation
        total = plain * self.input + use.cache_read_tokens * cached + use.cache_creation_tokens * created
        return (total + use.output_tokens * self.output) / TOKENS_OF_PRICE


class PriceList(BaseModel):
    """As a file has it."""

    model_config = ConfigDict(frozen=True, extra="forbid", from_attributes=True)

    currency: Text = Field(default="", max_length=8, description="What the prices are in.", examples=["USD"])
    prices: tuple[ModelPrice, ...] = Field(default=(), max_length=PRICES_MAX, description="The first that fits holds.")
    changed_by: Text = Field(default="", exclude=True)
    changed_at: float = Field(default=0.0, exclude=True)


class PriceBook:
    """Prices as they are looked up for many uses: each name is compared once. Not thread-safe."""

    def __init__(self, prices: PriceList) -> None:
        self.currency = prices.currency
        self._prices = [(re.compile(translate(one.model.lower())).match, one) for one in prices.prices]
        self._known: dict[tuple[bool, str, str, str], ModelPrice | None] = {}

    def compute_cost(self, use: ModelSum, destination: Destination) -> float | None:
        """None where no price is known, or no tokens were counted."""
        if not use.counted or not self._prices:
            return None
        key = destination is Destination.INSIDE, use.provider, use.response_model, use.request_model
        if key not in self._known:
            is_inside, provider, *names = key
            self._known[key] = self._find_price(provider, names, is_inside=is_inside)
        price = self._known[key]
        return None if price is None else price.compute_cost(use)

    def _find_price(self, provider: str, names: Sequence[str], *, is_inside: bool) -> ModelPrice | None:
        """The first that fits one of the names."""
        known = [name.lower() for name in names if name not in ("", OTHER)] or [name.lower() for name in names if name]
        providers = (provider,) if is_inside else ("", provider)
        fits = (
            price for match, price in self._prices if price.provider in providers and any(match(name) for name in known)
        )
        return next(fits, None)


class ModelPrices:
    """Thread-safe. Methods raise StoreError."""

    def __init__(self, *, state: StateStore, clock: Callable[[], float]) -> None:
        self._state = state
        self._clock = clock
        self._list = StateCache(state, (MODEL_PRICES.name,), _read_list)

    def read(self) -> PriceList:
        """Those that hold; an empty list where none were set."""
        return self._list.recall()

    def put(self, prices: PriceList, *, by: str) -> PriceList:
        """Set all prices in place of those before; an empty list takes them away."""
        now = self._clock()
        changed = prices.model_copy(update={"changed_by": by, "changed_at": now})
        with self._state.write() as connection:
            lock_table(connection, MODEL_PRICES)
            before = _read_list(connection)
            row = {**prices.model_dump(mode="json"), "id": _ROW, "changed_by": by, "changed_at": now}
            upsert(connection, MODEL_PRICES, [row])
            entry = make_entry(
                now, by, "model-prices.set", "prices of models", before=_describe(before), after=_describe(changed)
            )
            add_entries(connection, [entry])
        self._list.look()
        return changed


def _describe(prices: PriceList) -> dict[str, object]:
    """For the audit log."""
    entries = [f"{one.provider or 'any'} {one.model}: {one.input:g} in, {one.output:g} out" for one in prices.prices]
    return {"currency": prices.currency, "prices": entries}


def _read_list(connection: Connection) -> PriceList:
    row = connection.execute(select(MODEL_PRICES)).first()
    if row is None:
        return PriceList()
    return PriceList.model_validate(
        {
            "currency": row.currency,
            "prices": row.prices,
            "changed_by": row.changed_by,
            "changed_at": row.changed_at,
        }
    )
