"""Finds what the callers of an endpoint in a window have in common: network, workload, protocol, software, order or
pace.

A thousand stolen keys look like a thousand customers one by one, but together they have one origin. A trait is shared
if a twentieth of the window's calls or more have it, from five consumers or more. Its share must be three times that of
the hour before, so a partner's usual network is not a trait.

Calls are evenly spaced if a caller's calls per minute, without its first and last minute, vary little. The limit is
EVEN_MAX of what independent calls would vary (variance over mean, 1 for a Poisson process). Programs that wait between
calls are below it, people and pages are not. The pace is a new caller's calls a minute from its first to its last, to
the nearest half power of two.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from collector.inventory.endpoints.predicates import ConsumerSql
from collector.storage.records import Reader, select

BEFORE_SECONDS: Final = 3_600
SHARE_MIN: Final = 0.05
GROWTH_MIN: Final = 3.0
CONSUMERS_MIN: Final = 5
WALK_NUMBERS_MIN: Final = 5  # Calls to objects that numbers name, of one consumer;
WALK_SHARE_MIN: Final = 0.8  # of them to the number right after or before its last one.
EVEN_MAX: Final = 0.4
EVEN_MINUTES_MIN: Final = 4  # Between a caller's first and last one,
EVEN_CALLS_MIN: Final = 5  # and calls in them; of a pace, calls in all,
PACE_MINUTES_MIN: Final = 3  # and minutes from the first to the last one.
_VALUES_MAX: Final = 20  # Of one kind that are looked at, the busiest.


class TraitKind(StrEnum):
    NETWORK = "network"  # /24, /48.
    WORKLOAD = "workload"
    PROTOCOL = "protocol"
    ORDER = "order"  # Objects in the order of their numbers.
    SOFTWARE = "software"  # A keyed hash of the shape of its heads, after its name where it is well known.
    EVEN = "even"  # Calls at even distances.
    PACE = "pace"  # Calls a minute.


@dataclass(frozen=True, slots=True, kw_only=True)
class Trait:
    """One thing that many of the window's callers have in common. Shares are of calls, 0..1."""

    kind: TraitKind
    value: str  # Empty for order and even distances.
    calls: int
    consumers: int
    new_consumers: int  # Of them, without a call in the hour before.
    share: float
    share_before: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Crowd:
    """Who called an endpoint in a window, against the hour before it."""

    calls: int
    calls_before: int
    consumers: int
    new_consumers: int  # Without a call in the hour before.
    new_calls: int  # Theirs.
    traits: tuple[Trait, ...]  # The most shared first.


_NETWORK = """multiIf(
    isIPv4String(r.client_address), concat(toString(tupleElement(IPv4CIDRToRange(
        toIPv4OrDefault(r.client_address), 24), 1)), '/24'),
    isIPv6String(r.client_address), concat(toString(tupleElement(IPv6CIDRToRange(
        toIPv6OrDefault(r.client_address), 48), 1)), '/48'), '')"""
_IS_LATE = "r.time >= toDateTime({split:UInt32}, 'UTC')"


def read_crowd(reader: Reader, who: ConsumerSql, where: str, parameters: Mapping[str, Any]) -> Crowd:
    """The callers behind the minute rows `where`, those from `split` (of the parameters, unix seconds) on against those
    before. Raises StoreError."""
    row = select(reader, _consumers(who, where), parameters)[0]
    calls, before = int(row["late_calls"] or 0), int(row["early_calls"] or 0)
    found = [
        _make(TraitKind(one["kind"]), one["value"], one, calls, before)
        for one in select(reader, _traits(who, where), parameters)
        if one["value"]
    ]
    for kind in (TraitKind.ORDER, TraitKind.EVEN):
        own = {name: row[f"{kind.value}_{name}"] for name in ("late", "early", "consumers", "new_consumers")}
        found.append(_make(kind, "", own, calls, before))
    shared = [trait for trait in found if before and _is_shared(trait)]
    return Crowd(
        calls=calls,
        calls_before=before,
        consumers=int(row["consumers"]),
        new_consumers=int(row["new_consumers"]),
        new_calls=int(row["new_calls"] or 0),
        traits=tuple(sorted(shared, key=lambda trait: (-trait.share, trait.kind, trait.value))),
    )


def describe_trait(trait: Trait) -> str:
    what = {
        TraitKind.NETWORK: f"came from network {trait.value}",
        TraitKind.WORKLOAD: f"came from workload {trait.value}",
        TraitKind.PROTOCOL: f"spoke HTTP {trait.value}",
        TraitKind.ORDER: "took objects in the order of their numbers",
        TraitKind.SOFTWARE: f"came from client software {trait.value}",
        TraitKind.EVEN: "came at even distances",
        TraitKind.PACE: _describe_pace(trait),
    }[trait.kind]
    new = ", all new" if trait.new_consumers == trait.consumers else f", {trait.new_consumers:,} of them new"
    who = f"{trait.consumers:,} consumers{new if trait.new_consumers else ''}"
    return (
        f"{who}, with {trait.share:.0%} of the calls {what}, "
        f"where it was {trait.share_before:.0%} of them in the hour before."
    )


def _describe_pace(trait: Trait) -> str:
    return f"called about {float(trait.value):.2g} times a minute each" if trait.kind is TraitKind.PACE else ""


def _is_shared(trait: Trait) -> bool:
    grown = trait.share >= GROWTH_MIN * trait.share_before
    return trait.share >= SHARE_MIN and grown and trait.consumers >= CONSUMERS_MIN


def _make(kind: TraitKind, value: str, row: Mapping[str, Any], calls: int, before: int) -> Trait:
    late, early = int(row["late"] or 0), int(row["early"] or 0)
    return Trait(
        kind=kind,
        value=value,
        calls=late,
        consumers=int(row["consumers"]),
        new_consumers=int(row["new_consumers"]),
        share=late / max(calls, 1),
        share_before=early / max(before, 1),
    )


def _traits(who: ConsumerSql, where: str) -> str:
    """Calls by kind and value, the busiest of each kind."""
    return f"""
WITH regulars AS (SELECT DISTINCT {who.id} AS regular FROM rows_minute AS r WHERE {where} AND NOT {_IS_LATE})
SELECT trait.1 AS kind, trait.2 AS value, sumIf(calls, is_late) AS late, sumIf(calls, NOT is_late) AS early,
    uniqExactIf(caller, is_late) AS consumers, uniqExactIf(caller, is_late AND is_new) AS new_consumers
FROM (
    SELECT {who.id} AS caller, toInt64(r.calls) AS calls, {_IS_LATE} AS is_late,
        caller NOT IN (SELECT regular FROM regulars) AS is_new,
        arrayJoin([
            ('{TraitKind.NETWORK}', {_NETWORK}), ('{TraitKind.WORKLOAD}', toString(r.client_workload)),
            ('{TraitKind.PROTOCOL}', toString(r.protocol_version)),
            ('{TraitKind.SOFTWARE}', toString(r.client_software))]) AS trait
    FROM rows_minute AS r WHERE {where}
    UNION ALL
    SELECT caller, calls, is_late, caller NOT IN (SELECT regular FROM regulars) AS is_new,
        ('{TraitKind.PACE}', toString(exp2(round(2 * log2(pace)) / 2))) AS trait
    FROM ({_by_caller(who, where)})
    WHERE calls >= {EVEN_CALLS_MIN} AND minutes >= {PACE_MINUTES_MIN} AND (is_new OR NOT is_late)
)
GROUP BY kind, value HAVING late > 0
ORDER BY late DESC, value LIMIT {_VALUES_MAX} BY kind"""


def _by_caller(who: ConsumerSql, where: str) -> str:
    """A row for each caller and each of both times."""
    return f"""
SELECT caller, is_late, sum(own) AS calls, sum(numbers) AS numbers, sum(steps) AS steps,
    intDiv(toUInt32(max(minute)) - toUInt32(min(minute)), 60) + 1 AS minutes, calls / minutes AS pace,
    minutes - 2 AS inner_minutes, calls - argMin(own, minute) - argMax(own, minute) AS inner_calls,
    sum(own * own) - pow(argMin(own, minute), 2) - pow(argMax(own, minute), 2) AS squares
FROM (
    SELECT {who.id} AS caller, {_IS_LATE} AS is_late, r.time AS minute, toInt64(sum(r.calls)) AS own,
        sum(r.object_numeric_calls) AS numbers, sum(r.object_monotonic_steps) AS steps
    FROM rows_minute AS r WHERE {where} GROUP BY caller, is_late, minute
)
GROUP BY caller, is_late"""


def _consumers(who: ConsumerSql, where: str) -> str:
    """One row: consumers and calls of both times, and those who walked, and who called at even distances."""
    conditions = {
        TraitKind.ORDER: f"numbers >= {WALK_NUMBERS_MIN} AND steps >= {WALK_SHARE_MIN} * numbers",
        TraitKind.EVEN: (
            f"inner_minutes >= {EVEN_MINUTES_MIN} AND inner_calls >= {EVEN_CALLS_MIN} AND "
            f"(squares - inner_calls * inner_calls / inner_minutes) / (inner_minutes - 1) "
            f"<= {EVEN_MAX} * inner_calls / inner_minutes"
        ),
    }
    outer = ", ".join(
        f"sumIf(late, is_{kind}) AS {kind}_late, sumIf(early, was_{kind}) AS {kind}_early, "
        f"countIf(late > 0 AND is_{kind}) AS {kind}_consumers, "
        f"countIf(late > 0 AND early = 0 AND is_{kind}) AS {kind}_new_consumers"
        for kind in conditions
    )
    inner = ", ".join(
        f"maxIf({condition}, is_late) AS is_{kind}, maxIf({condition}, NOT is_late) AS was_{kind}"
        for kind, condition in conditions.items()
    )
    return f"""
SELECT sum(late) AS late_calls, sum(early) AS early_calls, countIf(late > 0) AS consumers,
    countIf(late > 0 AND early = 0) AS new_consumers, sumIf(late, early = 0) AS new_calls, {outer}
FROM (
    SELECT caller, sumIf(calls, is_late) AS late, sumIf(calls, NOT is_late) AS early, {inner}
    FROM ({_by_caller(who, where)})
    GROUP BY caller
)"""
