"""Who takes most of what an endpoint gives: unrestricted resource consumption (OWASP API4:2023).

Counted is what a consumer's calls of an endpoint cost, in server time and in response bytes, each in ordinary calls of
that endpoint; a call is worth ten at the most. It is too much where all of these hold: half of what the endpoint gave
within ten minutes went to this one; that is twice what all of its consumers together took at any time before; more than
its peers take and than it took itself on past days (`ceiling.py`); and past the installation's bar, for the bursts of
honest callers are heavy-tailed, and a thousand endpoints have one that stands out each day. Endpoints that few call, or
that are new, say nothing: the volume detectors judge those.

Where a server is in trouble everybody's calls take long, and nobody took more for it: server time is held against what
the calls of others take at the same time, and where there are none a call is worth one.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from collector.alerts.alert import AlertKind
from collector.alerts.signal import Basis
from collector.anomaly.abuse.ceiling import Ceiling, Horizon
from collector.anomaly.abuse.compact import CompactRows
from collector.anomaly.abuse.contract import Finding
from collector.anomaly.abuse.events import Bools, Events
from collector.anomaly.abuse.fading import FadingSums
from collector.anomaly.abuse.pair_calls import HORIZONS, PairCalls
from collector.anomaly.abuse.rarity import Rarity
from collector.anomaly.abuse.state import join, split
from collector.anomaly.abuse.usage import LATELY_SECONDS, MEASURES, EndpointUsage, divide
from collector.anomaly.detectors.contract import F64, State
from collector.anomaly.installation import InstallationBar
from collector.anomaly.roster import CROWD_MIN, Placed, Roster
from collector.anomaly.slots import Slots
from collector.sensitivity import Sensitivity

PLAN = (Horizon(seconds=LATELY_SECONDS, prior=300, floor=300),) * MEASURES
BUSY_CALLS = 30.0  # Of late: who makes fewer takes too little to be looked at.
WORTH_MAX = 10.0  # Ordinary calls, of a call.
SHARE_MIN = 0.5  # Of what the endpoint gave of late.
PAST_FACTOR = 2.0  # Times what all consumers together took at the most.
OTHERS_MIN = 10.0  # Calls of others of late, that say how long a call takes now.
KNOWN_SECONDS = 4 * 3_600  # An endpoint that was called for less long has no past.
_ALLOWANCE = 5.0  # The bar's: there is one such detector, and several of volume.
_SCORE_BASE = 4.0  # So many times as much is a score of 1 more: honest bursts are half of that over it, on average.
_LATELY = HORIZONS.index(LATELY_SECONDS)


class ConsumptionDetector:
    """See the module."""

    name = "consumption"

    def __init__(self, rarity: Rarity, calls: PairCalls) -> None:
        self._rarity = rarity
        self._calls = calls
        self._usage = EndpointUsage()
        self._ceiling = Ceiling(PLAN, is_trade=True)
        self._rows = CompactRows()  # Of pairs that were busy once.
        self._own = FadingSums((LATELY_SECONDS,) * (1 + MEASURES))  # By row: calls, microseconds, bytes.
        self._bar = InstallationBar(allowance=_ALLOWANCE)

    def take(self, events: Events, placed: Placed, roster: Roster, time: int) -> list[Finding]:
        """As the contract says."""
        self._make_room(placed, roster)
        self._bar.start(time)
        cost = (events.calls, events.columns.microseconds, events.columns.response_bytes)
        by_pair = placed.by_pair
        own = np.stack([self._calls.made, *(by_pair.sum(part) for part in cost[1:])])
        busy = (self._calls.touched[_LATELY] >= BUSY_CALLS).nonzero()[0]
        pairs, own, calls = by_pair.slots[busy], own[:, busy], self._calls.touched[_LATELY, busy]
        told = self._count_endpoints(placed, roster, cost, pairs, own, time)
        if not len(pairs):
            return []
        self._ceiling.refresh(lambda: self._rarity.list_peers(roster), roster.pair_endpoint, time)
        return self._judge(pairs, own, calls, told, events, roster, time)

    def expect(self, kind: AlertKind, endpoint_id: str, consumer: str, roster: Roster) -> bool:
        """As the contract says."""
        return kind is AlertKind.RESOURCE_CONSUMPTION and self._ceiling.expect(roster.pairs.find(endpoint_id, consumer))

    def project(self, roster: Roster, time: int) -> None:
        """As the contract says; an endpoint that is so young is not judged."""

    def dump(self) -> State:
        """State for a checkpoint."""
        parts = {"usage": self._usage.dump(), "ceiling": self._ceiling.dump(), "rows": self._rows.dump()}
        return join({**parts, "own": self._own.dump(), "bar": self._bar.dump()})

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        parts = split(state)
        self._usage.load(parts["usage"])
        self._ceiling.load(parts["ceiling"])
        self._rows.load(parts["rows"])
        self._own.load(parts["own"])
        self._bar.load(parts["bar"])

    @property
    def held_back_count(self) -> int:
        """Crossings under the installation's bar."""
        return self._bar.held_back_count

    def _make_room(self, placed: Placed, roster: Roster) -> None:
        pairs, endpoints = roster.pairs.table.capacity, roster.endpoints.table.capacity
        self._ceiling.grow(pairs, endpoints)
        self._ceiling.forget(placed.evicted_pairs)
        self._rows.grow(pairs)
        if len(placed.evicted_pairs):
            self._own.forget(self._rows.release(placed.evicted_pairs))
        self._usage.grow(endpoints)
        self._usage.forget(placed.evicted_endpoints)

    def _count_endpoints(
        self, placed: Placed, roster: Roster, cost: Sequence[F64], busy: Slots, own: F64, time: int
    ) -> Slots:
        """What endpoints gave; what went to those who are told already (`own`, of `busy` pairs) is not ordinary. Gives
        the indexes of those."""
        by_endpoint = placed.by_endpoint
        every = np.stack([by_endpoint.sum(part) for part in cost])
        ordinary = every
        told = self._ceiling.is_told(busy).nonzero()[0]
        if len(told):
            place = np.searchsorted(by_endpoint.slots, roster.pair_endpoint[busy[told]])
            ordinary = every.copy()
            for part, amounts in zip(ordinary, own[:, told], strict=True):
                np.subtract.at(part, place, amounts)
        self._usage.add(by_endpoint.slots, every, ordinary, time)
        return told

    def _judge(
        self, pairs: Slots, own: F64, calls: F64, told: Slots, events: Events, roster: Roster, time: int
    ) -> list[Finding]:
        """`own` (3 x n) is what busy `pairs` took now, of whom each made so many `calls` of late; those at the indexes
        `told` were told already."""
        endpoints = roster.pair_endpoint[pairs]
        lately = self._count_own(pairs, own, calls, time)
        given, ordinary = self._usage.read(endpoints, time)
        amounts = own[0] * _weigh(lately, given, ordinary)
        consumers = roster.count_consumers(time)

        def may_tell(some: Slots) -> Bools:
            is_judged = self._usage.is_known(endpoints[some], time, KNOWN_SECONDS)
            is_judged &= consumers[endpoints[some]] >= CROWD_MIN
            may: Bools = is_judged & (divide(lately[1:, some], given[1:, some]) >= SHARE_MIN)
            may &= self._ceiling.sums(pairs[some], time) >= PAST_FACTOR * self._usage.past(endpoints[some])
            return may

        excess = self._ceiling.add(pairs, amounts, endpoints, time, may_tell)
        found = []
        for index, (slot, which) in enumerate(zip(excess.slots.tolist(), excess.horizon.tolist(), strict=True)):
            place = int((pairs == slot).argmax())
            past = float(self._usage.past(endpoints[place : place + 1])[which, 0])
            if place not in told:
                self._usage.take_out(int(endpoints[place]), lately[:, place], time)
            most = max(float(excess.ceilings[index]), PAST_FACTOR * past)
            level = self._admit(slot, float(excess.sums[index]) / most, roster, time)
            if level is None:
                continue
            taken = _Taken(
                which=which,
                amount=float(lately[1 + which, place]),
                share=float(divide(lately[1 + which, place], given[1 + which, place])),
                before=past * float(ordinary[which, place]),
            )
            found.append(
                Finding(
                    kind=AlertKind.RESOURCE_CONSUMPTION,
                    subject=roster.pairs.name(slot),
                    count=float(excess.sums[index]),
                    ceiling=most,
                    seconds=LATELY_SECONDS,
                    basis=excess.basis[index] if most == excess.ceilings[index] else Basis.ENDPOINT,
                    calls=float(lately[0, place]),
                    is_internal=bool(events.is_internal[events.pair == slot].all()),
                    is_notice=False,
                    detail=taken.describe(),
                    quietest=level,
                )
            )
        return found

    def _count_own(self, pairs: Slots, own: F64, calls: F64, time: int) -> F64:
        """What busy `pairs` took of late (3 x n)."""
        rows = self._rows.take(pairs)
        self._own.grow(self._rows.capacity)
        lately = self._own.add(rows, own, time)
        lately *= divide(calls, lately[0])  # What they took before they were busy was not kept.
        return lately

    def _admit(self, slot: int, ratio: float, roster: Roster, time: int) -> Sensitivity | None:
        """The quietest level that tells of a pair this many times over what it may take."""
        table = roster.pairs.table
        return self._bar.admit(int(table.keys[slot]), 1 + math.log(ratio, _SCORE_BASE), time, len(table))


def _weigh(lately: F64, given: F64, ordinary: F64) -> F64:
    """Ordinary calls that a call of n busy pairs is worth, 2 x n: `lately` they took and their endpoints gave to all
    (3 x n), where an `ordinary` call costs so much (2 x n)."""
    cost = divide(lately[1:], lately[0])
    others = np.maximum(given - lately, 0.0)
    is_told = others[0] >= OTHERS_MIN
    now = np.where(is_told, divide(others[1], others[0]), cost[0])
    base = np.stack([np.maximum(ordinary[0], now), ordinary[1]])
    weight: F64 = np.minimum(divide(cost, base), WORTH_MAX)
    return weight


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    """Observed and expected of one of the two measures: microseconds or bytes."""

    which: int
    amount: float
    share: float  # Of what the endpoint gave.
    before: float  # To all together at the most.

    def describe(self) -> str:
        """In words."""
        name, write = (("server time", _write_seconds), ("response bytes", _write_bytes))[self.which]
        taken = f"{write(self.amount)}, {self.share:.0%} of what the endpoint gave"
        return f"{name}: {taken}; to all together {write(self.before)} at the most before"


def _write_seconds(microseconds: float) -> str:
    return f"{microseconds / 1e6:,.1f} s"


def _write_bytes(count: float) -> str:
    return f"{count / 1e6:,.1f} MB"
