"""What sensors sent about calls of model APIs: rows of the store in, `ModelSum`s out.

A state is what one process of a sensor knows of one route in about an hour (collector/receiver/models.py writes it).
States of all processes and hours of the span add up.

A call that is seen at both ends is in two states. As everywhere in the inventory, the client's side counts only where
no watched server answered (collector/inventory/endpoints/outbound.py). Of calls to a provider's host the client's side
always counts, and what a proxy of ours gets for that host is the same call again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from collector.core.budget import check_budget
from collector.core.moments import DAY_SECONDS
from collector.inventory.endpoints.bodies import DATA_KINDS, PLACE_SIZE, BodySide
from collector.inventory.endpoints.outbound import ROLE_CLIENT, ROLE_SERVER, find_hidden
from collector.inventory.endpoints.predicates import span_parameters
from collector.inventory.models.sums import OTHER, ModelData, ModelSum
from collector.inventory.query import Span
from collector.storage.records import Reader, read_record, select
from common.consumer_order import CONSUMER_ORDER, ConsumerColumn
from common.model_hosts import find_host_provider

SUMS_MAX: Final = 20_000  # Sums that one question reads, those of most calls.
DAILY_MAX: Final = 20_000  # Callers and models past a limit, those of most tokens.
# Of the states of one node that one question reads, the newest: some 50,000 sums. States beyond are counted.
NODE_BYTES_MAX: Final = 32 << 20
_PART: Final = 250  # SchemaPart of the wire.
_COUNTS: Final = (
    *("samples", "calls", "errors", "streamed", "counted", "input_tokens", "output_tokens", "cache_read_tokens"),
    *("cache_creation_tokens", "reasoning_tokens", "requests_read", "responses_read", "url_keys"),
)
_NAMES: Final = ("caller", "consumer", "provider", "operation", "request_model", "response_model")
_USE: Final = ", ".join(
    (
        "principal String, credential String, client_address String, client_workload String, role UInt8",
        "provider String, operation String, request_model String, response_model String",
        *(f"{name} UInt64" for name in _COUNTS),
        "data Tuple(Array(UInt16), Array(UInt64)), first_seen UInt32, last_seen UInt32",
    )
)
# A program names itself by its workload, whatever credential it sends; of others the address is known.
_CALLER: Final = tuple(reversed(ConsumerColumn))
# A sensor's clock may be ahead: it saw nothing later than the collector got it.
_LAST: Final = "least(one.last_seen, toUnixTimestamp(s.time))"


# A sensor may send any number of states, each of a megabyte.
_SIZES: Final = f"""(
        SELECT route_id, node, boot_id, generation, sum(length(operations)) OVER (
            PARTITION BY node ORDER BY time DESC, route_id, boot_id, generation ROWS UNBOUNDED PRECEDING) AS bytes
        FROM schemas FINAL PREWHERE part = {_PART} WHERE time >= toDateTime({{start:UInt32}}, 'UTC'))"""
_READ: Final = f"""(s.route_id, s.node, s.boot_id, s.generation) IN (
    SELECT route_id, node, boot_id, generation FROM {_SIZES} WHERE bytes <= {NODE_BYTES_MAX})"""
_UNREAD: Final = f"SELECT count() AS states FROM {_SIZES} WHERE bytes > {NODE_BYTES_MAX}"
# A call that is seen at both ends is in both roles: on all days alike, for each has a caller of its own.
_DAILY: Final = f"""
SELECT caller, provider, model, groupArray((days_ago, tokens)) AS days, count() OVER () AS callers FROM (
    SELECT coalesce({", ".join(f"nullIf(one.{column}, '')" for column in _CALLER)}, '') AS caller,
        one.provider AS provider,
        if(one.request_model IN ('', '{OTHER}'), one.response_model, one.request_model) AS model,
        intDiv({{end:UInt32}} - 1 - {_LAST}, {DAY_SECONDS}) AS days_ago,
        sum(one.input_tokens + one.output_tokens) AS tokens
    FROM schemas AS s FINAL
    ARRAY JOIN JSONExtract(s.operations, 'Array(Tuple({_USE}))') AS one
    PREWHERE s.part = {_PART}
    WHERE s.time >= toDateTime({{start:UInt32}}, 'UTC') AND {_LAST} >= {{start:UInt32}} AND {_LAST} < {{end:UInt32}}
        AND {_READ}
    GROUP BY caller, provider, model, days_ago)
GROUP BY caller, provider, model
HAVING maxIf(tokens, days_ago = 0) > greatest({{least:UInt64}}, maxIf(tokens, days_ago > 0))
ORDER BY maxIf(tokens, days_ago = 0) DESC, caller, provider, model
LIMIT {DAILY_MAX}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSums:
    """Sums of a span, most calls first. `left_out` counts those beyond SUMS_MAX, `unread_states` the states beyond
    NODE_BYTES_MAX; of some endpoints alone these are not counted."""

    sums: tuple[ModelSum, ...] = ()
    left_out: int = 0
    unread_states: int = 0


def read_model_sums(
    reader: Reader,
    span: Span,
    order: Sequence[ConsumerColumn] = CONSUMER_ORDER,
    endpoint_ids: Sequence[str] | None = None,
) -> ModelSums:
    """Who asked which models in the span; of some endpoints, where `endpoint_ids` names them. Raises StoreError."""
    if not _has_states(reader):
        return ModelSums()
    rows = list(select(reader, _write_statement(order, endpoint_ids is not None), _bind(span, endpoint_ids)))
    unread = 0 if endpoint_ids is not None else _count_unread(reader, span.start)
    if not rows:
        return ModelSums(unread_states=unread)
    routes = sorted({int(row["route_id"]) for row in rows})
    places = {int(row["route_id"]): row for row in select(reader, _PLACES, {"routes": routes})}
    called = sorted({int(row["route_id"]) for row in rows if row["role"] == ROLE_CLIENT})
    hidden = frozenset(find_hidden(reader, called, span_parameters(span)))
    of_providers = {places[one]["host"] for one in called if one in places and find_host_provider(places[one]["host"])}
    sums = [
        _read_sum(row, place)
        for row in rows
        if (place := places.get(int(row["route_id"])))
        and (int(row["route_id"]) not in hidden if row["role"] == ROLE_CLIENT else place["host"] not in of_providers)
    ]
    return ModelSums(sums=tuple(sums), left_out=int(rows[0]["sums"]) - len(rows), unread_states=unread)


def read_sums_of(reader: Reader, ids: Sequence[str], span: Span) -> dict[str, tuple[ModelSum, ...]]:
    """Who asked which models in the span, by endpoint, of those of `ids` that are of a model API. Raises StoreError."""
    found: dict[str, list[ModelSum]] = {}
    for one in read_model_sums(reader, span, endpoint_ids=ids).sums if ids else ():
        found.setdefault(one.endpoint_id, []).append(one)
    return {name: tuple(sums) for name, sums in found.items()}


def _write_statement(order: Sequence[ConsumerColumn], is_of_endpoints: bool) -> str:
    consumer = ", ".join(f"nullIf(one.{column}, '')" for column in order)
    caller = ", ".join(f"nullIf(one.{column}, '')" for column in _CALLER)
    narrowed = (
        " AND s.route_id IN (SELECT route_id FROM endpoint_routes FINAL WHERE endpoint_id IN {ids:Array(String)})"
        if is_of_endpoints
        else ""
    )
    sums = ", ".join(f"sum(one.{name}) AS {name}" for name in _COUNTS)
    return f"""
SELECT s.route_id AS route_id, one.role AS role, coalesce({caller}, '') AS caller, coalesce({consumer}, '') AS consumer,
    one.provider AS provider, one.operation AS operation, one.request_model AS request_model,
    one.response_model AS response_model, {sums}, sumMap(one.data.1, one.data.2) AS data,
    min(least(one.first_seen, toUnixTimestamp(s.time))) AS first_seen, max({_LAST}) AS last_seen,
    count() OVER () AS sums
FROM schemas AS s FINAL
ARRAY JOIN JSONExtract(s.operations, 'Array(Tuple({_USE}))') AS one
PREWHERE s.part = {_PART}{narrowed}
WHERE s.time >= toDateTime({{start:UInt32}}, 'UTC') AND one.role IN ({ROLE_SERVER}, {ROLE_CLIENT})
    AND {_LAST} >= {{start:UInt32}} AND {_LAST} < {{end:UInt32}} AND {_READ}
GROUP BY route_id, role, {", ".join(_NAMES)}
ORDER BY calls DESC, route_id, role, {", ".join(_NAMES)}
LIMIT {SUMS_MAX}"""


def _count_unread(reader: Reader, start: int) -> int:
    """States since `start` that are beyond NODE_BYTES_MAX."""
    return next((int(row["states"]) for row in select(reader, _UNREAD, {"start": start})), 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class DailyTokens:
    """`rows`: tokens by caller, provider, model and days ago, most tokens of the last day first. `left_out` counts
    callers and models beyond DAILY_MAX, `unread_states` the states beyond NODE_BYTES_MAX."""

    rows: tuple[dict[str, Any], ...] = ()
    left_out: int = 0
    unread_states: int = 0


def read_daily_tokens(reader: Reader, end: int, days: int, least: int) -> DailyTokens:
    """Tokens of prompts and answers by caller, provider, model and how many times 24 hours before `end` (unix seconds)
    they were, over `days` and the last one. Only of those with more tokens in the last 24 hours than `least`, and than
    on each day before. Raises StoreError."""
    if not _has_states(reader):
        return DailyTokens()
    start = end - (days + 1) * DAY_SECONDS
    found = list(select(reader, _DAILY, {"start": start, "end": end, "least": least}))
    rows = (
        {**{name: row[name] for name in ("caller", "provider", "model")}, "days_ago": int(day), "tokens": int(tokens)}
        for row in found
        for day, tokens in row["days"]
    )
    return DailyTokens(
        rows=tuple(rows),
        left_out=int(found[0]["callers"]) - len(found) if found else 0,
        unread_states=_count_unread(reader, start),
    )


def _has_states(reader: Reader) -> bool:
    """Whether any model was ever called. Most installations call none, and the engine takes 30 ms to resolve the
    statements that read states."""
    return bool(select(reader, f"SELECT 1 AS has FROM schemas WHERE part = {_PART} LIMIT 1"))


def _bind(span: Span, endpoint_ids: Sequence[str] | None) -> dict[str, Any]:
    ids = {} if endpoint_ids is None else {"ids": list(endpoint_ids)}
    return {**span_parameters(span), **ids}


_PLACES: Final = """
SELECT route_id, endpoint_id, cluster, service, host, url_template AS path
FROM endpoint_routes FINAL WHERE route_id IN {routes:Array(UInt64)}"""


def _read_sum(row: Mapping[str, Any], place: Mapping[str, Any]) -> ModelSum:
    check_budget()
    return read_record(ModelSum, {**row, **place}, data=tuple(_read_data(row)))


def _read_data(row: Mapping[str, Any]) -> list[ModelData]:
    """Kinds that the collector knows, found in bodies."""
    places = {1: BodySide.REQUEST, 2: BodySide.RESPONSE}
    found = []
    for code, calls in zip(*row["data"], strict=True):
        place, number = divmod(int(code), PLACE_SIZE)
        if place in places and number in DATA_KINDS:
            kind, data_class = DATA_KINDS[number]
            found.append(ModelData(kind=kind, data_class=data_class, side=places[place], calls=int(calls)))
    return found
