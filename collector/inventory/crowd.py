"""What those have in common who made an endpoint's calls in a window: the network they came from, their workload, the
protocol they spoke, and that they took objects in order.

A thousand stolen keys look like a thousand customers one by one; together they come from somewhere. Something is shared
where a twentieth of the window's calls or more have it, of five consumers or more, and its share is three times that of
the hour before: what many always have, as a partner's network, is nobody's trait. Rows carry no client software.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from collector.inventory.counted import ConsumerSql
from collector.inventory.reader import Reader, select

BEFORE_SECONDS: Final = 3_600
SHARE_MIN: Final = 0.05
GROWTH_MIN: Final = 3.0
CONSUMERS_MIN: Final = 5
WALK_NUMBERS_MIN: Final = 5  # Calls to objects that numbers name, of one consumer;
WALK_SHARE_MIN: Final = 0.8  # of them to the number right after or before its last one.
_VALUES_MAX: Final = 20  # Of one kind that are looked at, the busiest.


class TraitKind(StrEnum):
    """What is shared."""

    NETWORK = "network"  # /24, /48.
    WORKLOAD = "workload"
    PROTOCOL = "protocol"
    ORDER = "order"  # Objects in the order of their numbers.


@dataclass(frozen=True, slots=True, kw_only=True)
class Trait:
    """One thing that many of the window's callers have in common. Shares are of calls, 0..1."""

    kind: TraitKind
    value: str  # Empty for order.
    calls: int
    consumers: int
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
    walking = {"late": row["walk_late"], "early": row["walk_early"], "consumers": row["walkers"]}
    found.append(_make(TraitKind.ORDER, "", walking, calls, before))
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
    """A sentence."""
    what = {
        TraitKind.NETWORK: f"came from network {trait.value}",
        TraitKind.WORKLOAD: f"came from workload {trait.value}",
        TraitKind.PROTOCOL: f"spoke HTTP {trait.value}",
        TraitKind.ORDER: "took objects in the order of their numbers",
    }[trait.kind]
    return (
        f"{trait.consumers:,} consumers with {trait.share:.0%} of the calls {what}, "
        f"where it was {trait.share_before:.0%} of them in the hour before."
    )


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
        share=late / max(calls, 1),
        share_before=early / max(before, 1),
    )


def _traits(who: ConsumerSql, where: str) -> str:
    """Calls by kind and value, the busiest of each kind."""
    return f"""
SELECT trait.1 AS kind, trait.2 AS value, sumIf(calls, is_late) AS late, sumIf(calls, NOT is_late) AS early,
    uniqExactIf(caller, is_late) AS consumers
FROM (
    SELECT {who.id} AS caller, r.calls AS calls, {_IS_LATE} AS is_late, arrayJoin([
        ('{TraitKind.NETWORK}', {_NETWORK}), ('{TraitKind.WORKLOAD}', toString(r.client_workload)),
        ('{TraitKind.PROTOCOL}', toString(r.protocol_version))]) AS trait
    FROM rows_minute AS r WHERE {where}
)
GROUP BY kind, value HAVING late > 0
ORDER BY late DESC, value LIMIT {_VALUES_MAX} BY kind"""


def _consumers(who: ConsumerSql, where: str) -> str:
    """One row: consumers and calls of both times, and those who walked."""
    walked = f"numbers >= {WALK_NUMBERS_MIN} AND steps >= {WALK_SHARE_MIN} * numbers"
    return f"""
SELECT sum(late) AS late_calls, sum(early) AS early_calls, countIf(late > 0) AS consumers,
    countIf(late > 0 AND early = 0) AS new_consumers, sumIf(late, early = 0) AS new_calls,
    countIf(late > 0 AND is_walker) AS walkers, sumIf(late, is_walker) AS walk_late,
    sumIf(early, was_walker) AS walk_early
FROM (
    SELECT caller, sumIf(calls, is_late) AS late, sumIf(calls, NOT is_late) AS early,
        maxIf({walked}, is_late) AS is_walker, maxIf({walked}, NOT is_late) AS was_walker
    FROM (
        SELECT {who.id} AS caller, {_IS_LATE} AS is_late, sum(r.calls) AS calls,
            sum(r.object_numeric_calls) AS numbers, sum(r.object_monotonic_steps) AS steps
        FROM rows_minute AS r WHERE {where} GROUP BY caller, is_late
    )
    GROUP BY caller
)"""
