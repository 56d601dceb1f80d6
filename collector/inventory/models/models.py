"""Which workloads call which models: what sensors sent in, `ModelTraffic` out.

An item of the list is what one caller asks of one model of one provider by one operation, at one destination. Calls and
tokens come from the samples of sensors (collector/inventory/models/states.py). Whether the destination is outside, and
which credentials it asks for, is known of its endpoints. Cost follows from prices that people set
(collector/inventory/models/prices.py).
"""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Final

from pydantic import AfterValidator, Field

from collector.core.budget import check_budget
from collector.inventory.endpoints.bodies import ANY_DATA, PERSONAL_DATA, BodySide, DataClass, list_kinds
from collector.inventory.endpoints.endpoint import AuthenticationLevel, Endpoint, SeenAt
from collector.inventory.endpoints.endpoints import EndpointInventory
from collector.inventory.endpoints.exposure import ExposureLevel
from collector.inventory.endpoints.filters import DATA_CHOICES, check_data
from collector.inventory.endpoints.peers import call_of, read_address_book
from collector.inventory.filters import (
    SEARCH_CHARACTERS_MAX,
    Filter,
    Order,
    Page,
    SortedQuery,
    SpanParameters,
    Text,
)
from collector.inventory.models.prices import PriceBook, PriceList
from collector.inventory.models.states import read_model_sums
from collector.inventory.models.sums import OTHER, Destination, ModelData, ModelSum, find_destination
from collector.inventory.query import Cursor, Span
from collector.storage.records import Reader
from common.consumer_order import CONSUMER_ORDER, ConsumerColumn

ENDPOINTS_MAX: Final = 2_000
NAMES_SHOWN: Final = 8  # Consumers, and models of answers, of one item: most calls first.
_ID_BYTES: Final = 8
_DIGITS: Final = 6  # Of a cost, behind the point.
_NO_HOSTS: Final = frozenset(("", "other"))  # What names no host (collector/inventory/endpoints/outbound.py).


class ModelSort(StrEnum):
    """What the list may be sorted by."""

    CALLS = "calls"
    TOKENS = "tokens"
    COST = "cost"
    ERRORS = "errors"
    LAST_SEEN = "last_seen"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTraffic:
    """What one caller asks of one model at one destination. `caller` is a workload, else an address; `held_by` names
    who had that address. `consumers` are the names under which the inventory has these calls. Counts are estimates by
    samples; tokens are of the `counted_calls`. `cost` is None where no price is known; it is of the `priced_calls`."""

    id: str
    caller: str
    held_by: tuple[str, ...] = ()
    consumers: tuple[str, ...]
    consumers_total: int
    provider: str
    operation: str
    model: str
    response_models: tuple[str, ...]
    destination: Destination
    server: str
    cluster: str
    endpoint_ids: tuple[str, ...]
    authentication: AuthenticationLevel
    exposure: ExposureLevel
    samples: int
    calls: int
    errors: int
    streamed_calls: int
    counted_calls: int
    input_tokens: int
    output_tokens: int
    cache_read_tokens: int
    cache_creation_tokens: int
    reasoning_tokens: int
    prompts_read: int
    answers_read: int
    data: tuple[ModelData, ...]
    url_key_calls: int
    cost: float | None
    priced_calls: int
    first_seen: int
    last_seen: int

    @property
    def tokens(self) -> int:
        """Of prompts and answers."""
        return self.input_tokens + self.output_tokens

    @property
    def prompt_classes(self) -> tuple[DataClass, ...]:
        """Of what was found in prompts."""
        return self._list_classes(BodySide.REQUEST)

    @property
    def answer_classes(self) -> tuple[DataClass, ...]:
        """Of what was found in answers."""
        return self._list_classes(BodySide.RESPONSE)

    def holds(self, asked: str) -> bool:
        """Whether data that a filter names was found; see `check_data`."""
        place, _, name = asked.rpartition(":")
        kinds = frozenset(list_kinds(name))
        return any(one.kind in kinds and place in ("", one.side) for one in self.data)

    def measure(self, sort: ModelSort) -> float:
        """What it is sorted by."""
        values = {
            ModelSort.CALLS: self.calls,
            ModelSort.TOKENS: self.tokens,
            ModelSort.COST: -1.0 if self.cost is None else self.cost,
            ModelSort.ERRORS: self.errors,
            ModelSort.LAST_SEEN: self.last_seen,
        }
        return float(values[sort])

    def _list_classes(self, side: BodySide) -> tuple[DataClass, ...]:
        found = {one.data_class for one in self.data if one.side is side}
        return tuple(one for one in DataClass if one in found)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelTotals:
    """Sums of all items that match. Tokens are by destination: what a gateway of ours passes on has the same ones
    again. `left_out` counts sums that were not read, of the fewest calls, `unread_states` what sensors sent beyond what
    one question reads of a node."""

    calls: int = 0
    errors: int = 0
    outside_calls: int = 0
    counted_calls: int = 0
    outside_input_tokens: int = 0
    outside_output_tokens: int = 0
    inside_input_tokens: int = 0
    inside_output_tokens: int = 0
    cost: float | None = None
    priced_calls: int = 0
    currency: str = ""
    left_out: int = 0
    unread_states: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPage(Page[ModelTraffic]):
    """A page with the sums of all that matches."""

    totals: ModelTotals = field(default_factory=ModelTotals)


class ModelQuery(SortedQuery, SpanParameters):
    """Filters, sort and page of the list, which Python filters: an item is made of several rows."""

    q: Annotated[Text, Filter(None, title="Search")] = Field(
        default="",
        max_length=SEARCH_CHARACTERS_MAX,
        description="Words that must all occur in caller, provider, model, operation or server.",
    )
    caller: Annotated[Text, Filter(None, title="Caller", is_folded=True)] = Field(
        default="",
        max_length=SEARCH_CHARACTERS_MAX,
        description="Exactly this caller, with or without its kind.",
        examples=["workload:shop/agent"],
    )
    provider: Annotated[Text, Filter(None, title="Provider", is_folded=True)] = Field(
        default="", max_length=32, description="Exactly this provider.", examples=["openai"]
    )
    model: Annotated[Text, Filter(None, title="Model", is_folded=True)] = Field(
        default="", max_length=128, description="Exactly this model, as asked for or as answered."
    )
    operation: Annotated[Text, Filter(None, title="Operation", is_folded=True)] = Field(
        default="", max_length=32, description="Kind of API.", examples=["chat", "embeddings"]
    )
    destination: Annotated[Destination | None, Filter(None, title="Destination")] = Field(
        default=None, description="Who runs the model. Default: all."
    )
    data: Annotated[Text, AfterValidator(check_data), Filter(None, title="Data", choices=DATA_CHOICES)] = Field(
        default="",
        max_length=80,
        description=f"Sensitive data found in prompts (`request:`) or answers (`response:`): `{ANY_DATA}`, "
        f"`{PERSONAL_DATA}`, a class or a kind.",
        examples=["request:personal", "request:secret"],
    )
    sort: ModelSort = ModelSort.CALLS
    order: Order | None = None

    def fits(self, one: ModelTraffic) -> bool:
        """Whether an item passes the filters."""
        text = " ".join((one.caller, *one.held_by, one.provider, one.model, one.operation, one.server)).lower()
        return (
            all(word in text for word in self.q.lower().split())
            and self.caller in ("", one.caller, one.caller.partition(":")[2])
            and self.provider in ("", one.provider)
            and self.model in ("", one.model, *one.response_models)
            and self.operation in ("", one.operation)
            and self.destination in (None, one.destination)
            and (not self.data or one.holds(self.data))
        )


@dataclass(frozen=True, slots=True)
class _ModelsRead:
    """Items of a span, and what was not read."""

    items: tuple[ModelTraffic, ...]
    left_out: int
    unread_states: int


class ModelInventory:
    """Answers from the store. Methods raise StoreError."""

    def __init__(
        self,
        *,
        reader: Reader,
        endpoints: EndpointInventory,
        read_prices: Callable[[], PriceList],
        order: Sequence[ConsumerColumn] = CONSUMER_ORDER,
    ) -> None:
        self._reader, self._endpoints, self._read_prices, self._order = reader, endpoints, read_prices, tuple(order)

    def list_models(self, query: ModelQuery, span: Span) -> ModelPage:
        """One page; raises CursorError when the cursor is not of this query."""
        after = query.read_cursor(float)
        read = self.read_all(span)
        found = [one for one in read.items if query.fits(one)]
        is_falling = query.direction is Order.DESCENDING

        def place(one: ModelTraffic) -> tuple[float, str]:
            return (-1 if is_falling else 1) * one.measure(query.sort), one.id

        found.sort(key=place)
        start = None if after is None else ((-1 if is_falling else 1) * float(after.value), after.id)
        left = [one for one in found if start is None or place(one) > start]
        shown, next_cursor = query.cut(left, lambda last: Cursor(value=last.measure(query.sort), id=last.id))
        return ModelPage(
            items=tuple(shown), next_cursor=next_cursor, total=len(found), totals=self._sum_up(found, read)
        )

    def read_all(self, span: Span) -> _ModelsRead:
        """Everything that was asked in the span."""
        read = read_model_sums(self._reader, span, self._order)
        # Of most calls. A destination that is not looked up is not known: these sums are counted as not read.
        ids = list(dict.fromkeys(one.endpoint_id for one in read.sums))[:ENDPOINTS_MAX]
        measured = self._endpoints.measure(ids, span) if ids else {}
        groups: dict[tuple[str, ...], list[ModelSum]] = defaultdict(list)
        looked_up = frozenset(ids)
        uses = [use for use in read.sums if use.endpoint_id in looked_up]
        for use in uses:
            groups[_find_key(use, measured.get(use.endpoint_id))].append(use)
        prices = PriceBook(self._read_prices())
        holders = _find_holders(self._reader, uses)
        items = (_merge(key, uses, measured, prices, holders) for key, uses in groups.items())
        return _ModelsRead(tuple(items), read.left_out + len(read.sums) - len(uses), read.unread_states)

    def _sum_up(self, items: Sequence[ModelTraffic], read: _ModelsRead) -> ModelTotals:
        costs = [one.cost for one in items if one.cost is not None]
        outside = [one for one in items if one.destination is Destination.OUTSIDE]
        inside = [one for one in items if one.destination is not Destination.OUTSIDE]
        return ModelTotals(
            calls=sum(one.calls for one in items),
            errors=sum(one.errors for one in items),
            outside_calls=sum(one.calls for one in outside),
            counted_calls=sum(one.counted_calls for one in items),
            outside_input_tokens=sum(one.input_tokens for one in outside),
            outside_output_tokens=sum(one.output_tokens for one in outside),
            inside_input_tokens=sum(one.input_tokens for one in inside),
            inside_output_tokens=sum(one.output_tokens for one in inside),
            cost=round(sum(costs), _DIGITS) if costs else None,
            priced_calls=sum(one.priced_calls for one in items),
            currency=self._read_prices().currency,
            left_out=read.left_out,
            unread_states=read.unread_states,
        )


def _find_key(use: ModelSum, endpoint: Endpoint | None) -> tuple[str, ...]:
    destination = Destination.UNKNOWN
    if endpoint is not None:
        is_watched = endpoint.seen_at is not SeenAt.CLIENT
        destination = find_destination(endpoint.exposure.level, use.host, is_watched=is_watched)
    is_named = destination is Destination.OUTSIDE and use.host not in _NO_HOSTS
    server = use.host if is_named else use.service
    return use.caller, use.provider, use.operation, use.model, destination, server, use.cluster


def _find_holders(reader: Reader, uses: Iterable[ModelSum]) -> Mapping[str, tuple[str, ...]]:
    """Who had the address of a caller that is known by one."""
    calls = {one.caller: call_of(one.caller, one.first_seen, one.last_seen) for one in uses}
    book = read_address_book(reader, calls.values())
    return {caller: tuple(dict.fromkeys(holder.label for holder in book.find(call))) for caller, call in calls.items()}


def _merge(
    key: tuple[str, ...],
    uses: Sequence[ModelSum],
    measured: Mapping[str, Endpoint],
    prices: PriceBook,
    holders: Mapping[str, tuple[str, ...]],
) -> ModelTraffic:
    check_budget()
    caller, provider, operation, model, destination, server, cluster = key
    by_consumer: dict[str, int] = defaultdict(int)
    by_endpoint: dict[str, int] = defaultdict(int)
    by_answer: dict[str, int] = defaultdict(int)
    data: dict[tuple[str, DataClass, BodySide], int] = defaultdict(int)
    costs: list[float] = []
    priced = 0
    for use in uses:
        if use.consumer:
            by_consumer[use.consumer] += use.calls
        by_endpoint[use.endpoint_id] += use.calls
        if use.response_model not in ("", OTHER):
            by_answer[use.response_model] += use.calls
        for found in use.data:
            data[found.kind, found.data_class, found.side] += found.calls
        cost = prices.compute_cost(use, Destination(destination))
        if cost is not None:
            costs.append(cost)
            priced += use.counted
    endpoint_ids = tuple(sorted(by_endpoint, key=lambda one: (-by_endpoint[one], one)))
    endpoint = next((measured[one] for one in endpoint_ids if one in measured), None)
    return ModelTraffic(
        id=hashlib.blake2b("\x1f".join(key).encode("utf-8", "surrogatepass"), digest_size=_ID_BYTES).hexdigest(),
        caller=caller,
        held_by=holders.get(caller, ()),
        consumers=tuple(sorted(by_consumer, key=lambda one: (-by_consumer[one], one))[:NAMES_SHOWN]),
        consumers_total=len(by_consumer),
        provider=provider,
        operation=operation,
        model=model,
        response_models=tuple(sorted(by_answer, key=lambda one: (-by_answer[one], one))[:NAMES_SHOWN]),
        destination=Destination(destination),
        server=server,
        cluster=cluster,
        endpoint_ids=endpoint_ids,
        authentication=AuthenticationLevel.UNKNOWN if endpoint is None else endpoint.authentication.level,
        exposure=ExposureLevel.UNKNOWN if endpoint is None else endpoint.exposure.level,
        samples=sum(one.samples for one in uses),
        calls=sum(one.calls for one in uses),
        errors=sum(one.errors for one in uses),
        streamed_calls=sum(one.streamed for one in uses),
        counted_calls=sum(one.counted for one in uses),
        input_tokens=sum(one.input_tokens for one in uses),
        output_tokens=sum(one.output_tokens for one in uses),
        cache_read_tokens=sum(one.cache_read_tokens for one in uses),
        cache_creation_tokens=sum(one.cache_creation_tokens for one in uses),
        reasoning_tokens=sum(one.reasoning_tokens for one in uses),
        prompts_read=sum(one.requests_read for one in uses),
        answers_read=sum(one.responses_read for one in uses),
        data=tuple(
            ModelData(kind=kind, data_class=data_class, side=side, calls=calls)
            for (kind, data_class, side), calls in sorted(data.items(), key=lambda one: (-one[1], one[0]))
        ),
        url_key_calls=sum(one.url_keys for one in uses),
        cost=round(sum(costs), _DIGITS) if costs else None,
        priced_calls=priced,
        first_seen=min(one.first_seen for one in uses),
        last_seen=max(one.last_seen for one in uses),
    )
