"""What an endpoint gives: calls, server time and response bytes of late, what an ordinary call of it costs, and how
much all of its consumers together took at the most in hours past.

Costs are those of consumers who were not told to take too much. The worth of what was taken is in ordinary calls, so
that an endpoint that a release made slower is no other endpoint.
"""

import numpy as np
from numpy.typing import NDArray

from collector.anomaly.abuse.fading import FadingSums
from collector.anomaly.detectors.contract import F64, State
from collector.anomaly.slots import Slots, grow

LATELY_SECONDS = 600
MEASURES = 2  # Server time and response bytes, in this order, of amounts that begin with calls.
_DAY_SECONDS, _HOUR_SECONDS = 86_400, 3_600
_FADE_AN_HOUR = 0.9 ** (1 / 24)  # Of what hours past teach.


class EndpointUsage:
    """By endpoint slot. Amounts are 3 x n: calls, microseconds, bytes."""

    def __init__(self) -> None:
        # Of late by all, of late by the ordinary, in a day by the ordinary.
        self._sums = FadingSums((LATELY_SECONDS,) * 6 + (_DAY_SECONDS,) * 3)
        self._past: F64 = np.zeros((MEASURES, 0))  # Highest worth of late, in hours past.
        self._now: F64 = np.zeros((MEASURES, 0))  # The same of this hour.
        self._first: NDArray[np.int64] = np.zeros(0, np.int64)  # When it was called first; 0: never.
        self._hour = 0

    def grow(self, capacity: int) -> None:
        """Make room for slots below `capacity`."""
        if len(self._first) < capacity:
            self._sums.grow(capacity)
            self._past, self._now = grow(self._past, capacity), grow(self._now, capacity)
            self._first = grow(self._first, capacity)

    def add(self, endpoints: Slots, every: F64, ordinary: F64, time: int) -> None:
        """What distinct `endpoints` gave to all, and to those who were not told."""
        self._turn_hour(time)
        self._first[endpoints[self._first[endpoints] == 0]] = time
        sums = self._sums.add(endpoints, np.concatenate([every, ordinary, ordinary]), time)
        self._now[:, endpoints] = np.maximum(self._now[:, endpoints], _weigh(sums))

    def take_out(self, endpoint: int, amounts: F64, time: int) -> None:
        """What somebody took of late (3) was not ordinary: it is no part of what an endpoint gives to all."""
        own = np.array([endpoint])
        out = np.concatenate([np.zeros(1 + MEASURES), -amounts, -amounts])[:, None]
        self._now[:, own] = _weigh(self._sums.add(own, out, time))

    def read(self, endpoints: Slots, time: int) -> tuple[F64, F64]:
        """What `endpoints` gave of late to all (3 x n), and the mean cost of an ordinary call (2 x n; 0: not known)."""
        sums = self._sums.read(endpoints, time)
        return sums[:3], divide(sums[7:], sums[6])

    def past(self, endpoints: Slots) -> F64:
        """The most that all together took within `LATELY_SECONDS` in hours past, in ordinary calls (2 x n)."""
        past: F64 = self._past[:, endpoints]
        return past

    def is_known(self, endpoints: Slots, time: int, seconds: int) -> NDArray[np.bool_]:
        """Whether `endpoints` have been called for so long."""
        known: NDArray[np.bool_] = self._first[endpoints] <= time - seconds
        return known

    def forget(self, endpoints: Slots) -> None:
        """Clear evicted slots."""
        if len(endpoints):
            self._sums.forget(endpoints)
            self._past[:, endpoints] = self._now[:, endpoints] = 0
            self._first[endpoints] = 0

    def dump(self) -> State:
        """State for a checkpoint."""
        own: State = {"past": self._past, "now": self._now, "first": self._first, "hour": np.array([self._hour])}
        return own | self._sums.dump()

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        self._past, self._now = state["past"].astype(np.float64), state["now"].astype(np.float64)
        self._first, self._hour = state["first"].astype(np.int64), int(state["hour"][0])
        self._sums.load(state)

    def _turn_hour(self, time: int) -> None:
        hour = time // _HOUR_SECONDS
        if hour > self._hour:
            self._past = np.maximum(self._past * _FADE_AN_HOUR ** (hour - self._hour), self._now)
            self._now = np.zeros_like(self._now)
            self._hour = hour


def _weigh(sums: F64) -> F64:
    """What the ordinary took of late, in ordinary calls, of the nine sums of n endpoints."""
    worth = divide(sums[4:6], divide(sums[7:], sums[6]))
    worth[0] = np.minimum(worth[0], sums[3])  # Server time: where every call is slow, nobody takes more.
    return worth


def divide(left: F64, right: F64) -> F64:
    """Element by element; 0 where the right side is."""
    result: F64 = np.divide(left, right, out=np.zeros(np.broadcast_shapes(left.shape, right.shape)), where=right > 0)
    return result
