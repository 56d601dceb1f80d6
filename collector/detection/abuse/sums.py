"""Sums that fade, by slot, and compact rows for measures that few subjects have.

`FadingSums` has sums over several horizons: S(t) is the sum of amount * exp(-(t - time) / horizon). A burst shorter
than the horizon counts whole, and a steady rate r gives r * horizon. No windows have to be kept. Amounts may be
negative, a sum is never negative.
"""

import math
from collections.abc import Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from collector.detection.framework.distinct import find_distinct
from collector.detection.framework.state import F64, DetectorState, Slots, array, column, grow

_FIRST_CAPACITY = 64


class CompactRows(DetectorState):
    """Rows by slot, 4 bytes a slot. Whoever holds arrays by row clears those that `release` gives."""

    has_own_size = True
    _row_of = column(np.int32)  # Plus 1; 0: none.
    slot_of = array(np.int32)  # By row; -1: free.

    def __init__(self) -> None:
        super().__init__()
        self.slot_of = np.full(_FIRST_CAPACITY, -1, np.int32)
        self._count = 0  # Rows below it were in use at some time; those released are in `_free`.
        self._free: list[int] = []

    @property
    def capacity(self) -> int:
        """Length that arrays by row need."""
        return len(self.slot_of)

    def find(self, slots: Slots) -> Slots:
        """The row of each; -1 where it has none."""
        rows = self._row_of.take(slots).astype(np.int64)
        rows -= 1
        return rows

    def take(self, slots: Slots) -> Slots:
        """Rows of distinct slots, each of which has one then."""
        rows = self.find(slots)
        missing = (rows < 0).nonzero()[0]
        if len(missing):
            new = self._make(len(missing))
            rows[missing] = new
            self._row_of[slots[missing]] = new + 1
            self.slot_of[new] = slots[missing]
        return rows

    def release(self, slots: Slots) -> Slots:
        """Take the rows of distinct slots away; gives them."""
        rows = self.find(slots)
        rows = rows[rows >= 0]
        self._row_of[slots] = 0
        self.slot_of[rows] = -1
        self._free += rows.tolist()
        return rows

    def load(self, saved: Mapping[str, NDArray[np.generic]], path: str = "") -> None:
        super().load(saved, path)
        self._count = self.capacity
        self._free = (self.slot_of < 0).nonzero()[0].tolist()

    def _make(self, count: int) -> Slots:
        reused = [self._free.pop() for _ in range(min(count, len(self._free)))]
        fresh = count - len(reused)
        needed = self._count + fresh
        if needed > self.capacity:
            self.slot_of = grow(self.slot_of, max(needed, self.capacity + self.capacity // 2), -1)
        rows = np.array([*reused, *range(self._count, needed)], np.int64)
        self._count = needed
        return rows


_TABLE_SECONDS = 1_024  # Most slots of a batch were called within them: what is left after each is looked up.
_MANY, _FEW = 256, 4  # With fewer slots, or more than one in so many called longer ago, a table saves nothing.


class FadingSums(DetectorState):
    """By slot, for H horizons. All that is known of a slot lies side by side: slots are many and looked up in no order,
    so that each place in memory is fetched anew."""

    # Sums, and when they were brought up to date, unix seconds.
    _rows = column(np.float64, "width", is_slot_first=True)

    def __init__(self, *horizons_seconds: int) -> None:
        super().__init__(width=len(horizons_seconds) + 1)
        self._horizons = (*horizons_seconds, math.inf)  # And of the time, which does not fade.
        self._seconds: F64 = np.array(self._horizons)

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
        """Times do not go back."""
        self._rows[slots, :-1] = 0

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


def sum_by_slot(slots: Slots, amounts: F64) -> tuple[Slots, F64]:
    """Distinct slots (those of -1 left out) and the sum of each one's amounts, 0 too."""
    known = slots >= 0
    distinct, _, inverse = find_distinct(slots[known])
    return distinct, np.bincount(inverse, amounts[known], len(distinct)).astype(np.float64, copy=False)
