"""Detects unrestricted resource consumption (OWASP API4:2023): a consumer that takes most of what an endpoint gives.

It counts the cost of a consumer's calls in server time and in response bytes. Each is in the endpoint's mean call, and
a call is worth ten at most. It reports a consumer where all of these hold:

- Half of what the endpoint gave within ten minutes went to this consumer.
- That is twice what all of its consumers together took at any time before.
- It is more than its peers take, and than it took on past days (`ceiling.py`).
- It is past the installation's bar. Bursts of honest callers are heavy-tailed, and of a thousand endpoints one stands
  out each day.

Endpoints with few callers and new endpoints are left to the volume detectors. Where a server is in trouble all calls
are slow, and nobody took more. So server time is compared with what calls of others take at the same time. Without such
calls, a call is worth one.

`EndpointUsage` has costs of consumers that were not reported. Amounts are in mean calls, so a release that makes an
endpoint slower changes nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from collector.alerting.alert import AlertKind, Basis
from collector.core.kinds import Sensitivity
from collector.detection.abuse.ceiling import Ceiling, Horizon
from collector.detection.abuse.detector import AbuseDetector, Finding, Rarity
from collector.detection.abuse.pair_history import HORIZONS, PairCalls
from collector.detection.abuse.sums import CompactRows, FadingSums
from collector.detection.framework.installation import InstallationBar
from collector.detection.framework.loss import Losses
from collector.detection.framework.rows import Events
from collector.detection.framework.state import F64, Bools, DetectorState, Slots, column, number
from collector.detection.framework.subject_index import CROWD_MIN, SubjectIndex

LATELY_SECONDS = 600
MEASURES = 2  # Server time and response bytes, in this order, of amounts that begin with calls.
_DAY_SECONDS, _HOUR_SECONDS = 86_400, 3_600
_FADE_AN_HOUR = 0.9 ** (1 / 24)  # Of what hours past teach.


class EndpointUsage(DetectorState):
    """By endpoint slot. Amounts are 3 x n: calls, microseconds, bytes."""

    slot_parts = ("_sums",)
    _past = column(np.float64, MEASURES)  # Highest worth of late, in hours past.
    _now = column(np.float64, MEASURES)  # The same of this hour.
    _first = column(np.int64)  # When it was called first; 0: never.
    _hour = number(0)

    def __init__(self) -> None:
        super().__init__()
        # Of late by all, of late by the ordinary, in a day by the ordinary.
        self._sums = FadingSums(*(LATELY_SECONDS,) * 6, *(_DAY_SECONDS,) * 3)

    def add(self, endpoints: Slots, every: F64, ordinary: F64, time: int) -> None:
        """What distinct `endpoints` gave to all, and to those who were not reported."""
        self._turn_hour(time)
        self._first[endpoints[self._first[endpoints] == 0]] = time
        sums = self._sums.add(endpoints, np.concatenate([every, ordinary, ordinary]), time)
        self._now[:, endpoints] = np.maximum(self._now[:, endpoints], _measure_worth(sums))

    def take_out(self, endpoint: int, amounts: F64, time: int) -> None:
        """What somebody took of late (3) was not ordinary: it is no part of what an endpoint gives to all."""
        own = np.array([endpoint])
        out = np.concatenate([np.zeros(1 + MEASURES), -amounts, -amounts])[:, None]
        self._now[:, own] = _measure_worth(self._sums.add(own, out, time))

    def read(self, endpoints: Slots, time: int) -> tuple[F64, F64]:
        """What `endpoints` gave of late to all (3 x n), and the mean cost of an ordinary call (2 x n; 0: not known)."""
        sums = self._sums.read(endpoints, time)
        return sums[:3], divide(sums[7:], sums[6])

    def past(self, endpoints: Slots) -> F64:
        """The most that all together took within `LATELY_SECONDS` in hours past, in ordinary calls (2 x n)."""
        past: F64 = self._past[:, endpoints]
        return past

    def is_known(self, endpoints: Slots, time: int, seconds: int) -> Bools:
        """Whether `endpoints` have been called for so long."""
        known: Bools = self._first[endpoints] <= time - seconds
        return known

    def _turn_hour(self, time: int) -> None:
        hour = time // _HOUR_SECONDS
        if hour > self._hour:
            self._past = np.maximum(self._past * _FADE_AN_HOUR ** (hour - self._hour), self._now)
            self._now = np.zeros_like(self._now)
            self._hour = hour


def _measure_worth(sums: F64) -> F64:
    """What the ordinary took of late, in ordinary calls, of the nine sums of n endpoints."""
    worth = divide(sums[4:6], divide(sums[7:], sums[6]))
    worth[0] = np.minimum(worth[0], sums[3])  # Server time: where every call is slow, nobody takes more.
    return worth


def divide(left: F64, right: F64) -> F64:
    """Element by element; 0 where the right side is."""
    result: F64 = np.divide(left, right, out=np.zeros(np.broadcast_shapes(left.shape, right.shape)), where=right > 0)
    return result


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


class ResourceConsumptionDetector(AbuseDetector):
    """Cost in mean calls by pair, against a ceiling, a share, the past of all, and the installation's bar."""

    name = "abuse.resource_consumption"
    kinds = frozenset({AlertKind.RESOURCE_CONSUMPTION})
    parts = ("_usage", "_ceiling", "_rows", "_own", "_bar")

    def __init__(self, subjects: SubjectIndex, losses: Losses, rarity: Rarity, calls: PairCalls) -> None:
        super().__init__(subjects, losses, rarity)
        self._calls = calls
        self._usage = EndpointUsage()
        self._ceiling = Ceiling(PLAN, subjects.pairs, groups=subjects.endpoints, is_trade=True)
        self._rows = CompactRows()  # Of pairs that were busy once.
        self._own = FadingSums(*(LATELY_SECONDS,) * (1 + MEASURES))  # By row: calls, microseconds, bytes.
        self._own.has_own_size = True
        self._bar = InstallationBar(allowance=_ALLOWANCE)
        subjects.endpoints.follow(self._usage)
        subjects.pairs.follow_size(self._rows.grow)
        subjects.pairs.on_forget(lambda pairs: self._own.forget(self._rows.release(pairs)))

    def find(self, events: Events) -> list[Finding]:
        self._bar.start(events.time)
        cost = (events.calls, events.microseconds, events.response_bytes)
        by_pair, endpoints = events.by_pair, self._subjects.pair_endpoint
        own = np.stack([self._calls.made, *(by_pair.sum(part) for part in cost[1:])])
        busy = (self._calls.touched[_LATELY] >= BUSY_CALLS).nonzero()[0]
        pairs, own, calls = by_pair.slots[busy], own[:, busy], self._calls.touched[_LATELY, busy]
        reported = self._count_endpoints(events, cost, pairs, own)
        if not len(pairs):
            return []
        self._ceiling.refresh(events.time, self._rarity.list_peers, endpoints)
        return self._judge(pairs, own, calls, reported, events)

    @property
    def held_back_count(self) -> int:
        return self._bar.held_back_count

    def _count_endpoints(self, events: Events, cost: Sequence[F64], busy: Slots, own: F64) -> Slots:
        """What endpoints gave; what went to those who are reported already (`own`, of `busy` pairs) is not normal.
        Gives the indexes of those."""
        by_endpoint = events.by_endpoint
        every = np.stack([by_endpoint.sum(part) for part in cost])
        ordinary = every
        reported = self._ceiling.is_reported(busy).nonzero()[0]
        if len(reported):
            place = np.searchsorted(by_endpoint.slots, self._subjects.pair_endpoint[busy[reported]])
            ordinary = every.copy()
            for part, amounts in zip(ordinary, own[:, reported], strict=True):
                np.subtract.at(part, place, amounts)
        self._usage.add(by_endpoint.slots, every, ordinary, events.time)
        return reported

    def _judge(self, pairs: Slots, own: F64, calls: F64, reported: Slots, events: Events) -> list[Finding]:
        """`own` (3 x n) is what busy `pairs` took now, of whom each made so many `calls` of late; those at the indexes
        `reported` were reported already."""
        endpoints, time = self._subjects.pair_endpoint[pairs], events.time
        lately = self._count_own(pairs, own, calls, time)
        given, ordinary = self._usage.read(endpoints, time)
        amounts = own[0] * _weigh(lately, given, ordinary)
        consumers = self._subjects.count_consumers(time)

        def may_report(some: Slots) -> Bools:
            is_judged = self._usage.is_known(endpoints[some], time, KNOWN_SECONDS)
            is_judged &= consumers[endpoints[some]] >= CROWD_MIN
            may: Bools = is_judged & (divide(lately[1:, some], given[1:, some]) >= SHARE_MIN)
            may &= self._ceiling.sums(pairs[some], time) >= PAST_FACTOR * self._usage.past(endpoints[some])
            return may

        excess = self._ceiling.add(pairs, amounts, time, endpoints, may_report)
        found = []
        for index, (slot, which) in enumerate(zip(excess.slots.tolist(), excess.horizon.tolist(), strict=True)):
            place = int((pairs == slot).argmax())
            past = float(self._usage.past(endpoints[place : place + 1])[which, 0])
            if place not in reported:
                self._usage.take_out(int(endpoints[place]), lately[:, place], time)
            most = max(float(excess.ceilings[index]), PAST_FACTOR * past)
            level = self._admit(slot, float(excess.sums[index]) / most, time)
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
                    subject=self._subjects.pairs.name(slot),
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

    def _admit(self, slot: int, ratio: float, time: int) -> Sensitivity | None:
        """The quietest level that reports a pair this many times over what it may take."""
        table = self._subjects.pairs
        return self._bar.admit(int(table.keys[slot]), 1 + math.log(ratio, _SCORE_BASE), time, len(table))


def _weigh(lately: F64, given: F64, ordinary: F64) -> F64:
    """Ordinary calls that a call of n busy pairs is worth, 2 x n: `lately` they took and their endpoints gave to all
    (3 x n), where an `ordinary` call costs so much (2 x n)."""
    cost = divide(lately[1:], lately[0])
    others = np.maximum(given - lately, 0.0)
    is_known = others[0] >= OTHERS_MIN
    now = np.where(is_known, divide(others[1], others[0]), cost[0])
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
