"""Sums that fade: how much of something a subject did lately, over several horizons at once.

S(t) is the sum of amount * exp(-(t - time) / horizon): a burst shorter than the horizon counts whole, a steady rate r
comes to r * horizon, and nothing has to be kept by window. Amounts may be negative; a sum is not.
"""

import math
from functools import lru_cache

import numpy as np

from collector.anomaly.detectors.contract import F64, State
from collector.anomaly.slots import Slots, grow_rows

_TABLE_SECONDS = 1_024  # Most slots of a batch were called within them: what is left after each is looked up.
_MANY, _FEW = 256, 4  # With fewer slots, or more than one in so many called longer ago, a table saves nothing.


class FadingSums:
    """By slot, for H horizons. All that is known of a slot lies side by side: slots are many and looked up in no order,
    so that each place in memory is fetched anew."""

    def __init__(self, horizons_seconds: tuple[int, ...]) -> None:
        self._horizons = (*horizons_seconds, math.inf)  # And of the time, which does not fade.
        self._seconds: F64 = np.array(self._horizons)
        # Sums, and when they were brought up to date, unix seconds.
        self._rows: F64 = np.zeros((0, len(horizons_seconds) + 1))

    def grow(self, capacity: int) -> None:
        """Make room for slots below `capacity`."""
        self._rows = grow_rows(self._rows, capacity)

    def add(self, slots: Slots, amounts: F64, time: int) -> F64:
        """Add `amounts` (n, or H x n) to distinct `slots`; gives their sums now, H x n. About 0.1 us a slot and
        horizon."""
        known = self._read(slots, time)
        sums = known[:-1]
        sums += amounts
        np.maximum(sums, 0.0, out=sums)
        np.maximum(known[-1], time, out=known[-1])
        self._rows[slots] = known.T
        return sums

    def read(self, slots: Slots, time: int) -> F64:
        """Sums of `slots` at `time`, H x n; what came late is as fresh as the newest."""
        return self._read(slots, time)[:-1]

    def read_one(self, which: int, slots: Slots, time: int) -> F64:
        """The same of one horizon, by its index; -1 is the last."""
        count, flat = len(self._horizons) - 1, self._rows.reshape(-1)
        begin = slots * (count + 1)
        faded: F64 = flat.take(begin + which % count)
        age = np.maximum(time - flat.take(begin + count), 0)
        if np.count_nonzero(age):
            faded *= self._fade(age, slice(which % count, which % count + 1))[:, 0]
        return faded

    def forget(self, slots: Slots) -> None:
        """Clear evicted slots."""
        if len(slots):
            self._rows[slots, :-1] = 0

    def dump(self) -> State:
        """State for a checkpoint: H x slots, and times."""
        return {"sums": np.ascontiguousarray(self._rows[:, :-1].T), "at": self._rows[:, -1].astype(np.int64)}

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        sums, at = state["sums"].astype(np.float64), state["at"].astype(np.float64)
        self._rows = np.concatenate([sums.T, at[:, None]], axis=1)

    def _read(self, slots: Slots, time: int) -> F64:
        """Faded sums, and the time of each as it was, (H + 1) x n."""
        known = self._rows.take(slots, axis=0)
        age = np.maximum(time - known[:, -1], 0)
        if np.count_nonzero(age):
            known *= self._fade(age, slice(None))
        return np.ascontiguousarray(known.T)

    def _fade(self, age: F64, columns: slice) -> F64:
        """What is left after so many seconds, which are whole and not negative, n x columns: horizons, and the time."""
        if len(age) < _MANY:
            return np.exp(-age / self._seconds[columns, None]).T
        is_old = age >= _TABLE_SECONDS
        old_count = np.count_nonzero(is_old)
        if _FEW * old_count > len(age):
            return np.exp(-age / self._seconds[columns, None]).T
        left: F64 = _tabulate(self._horizons)[:, columns].take(age.astype(np.int64), axis=0, mode="clip")
        if old_count:
            left[is_old] = np.exp(-age[is_old, None] / self._seconds[columns])
        return left


@lru_cache(maxsize=32)  # More than there are plans.
def _tabulate(horizons: tuple[float, ...]) -> F64:
    """What is left after each second, seconds x horizons."""
    left: F64 = np.exp(-np.arange(_TABLE_SECONDS, dtype=np.float64)[:, None] / np.array(horizons))
    return left
