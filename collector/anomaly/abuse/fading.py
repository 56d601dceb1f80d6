"""Sums that fade: how much of something a subject did lately, over several horizons at once.

S(t) is the sum of amount * exp(-(t - time) / horizon): a burst shorter than the horizon counts whole, a steady rate r
comes to r * horizon, and nothing has to be kept by window. Amounts may be negative; a sum is not.
"""

import numpy as np
from numpy.typing import NDArray

from collector.anomaly.detectors.contract import F64, State
from collector.anomaly.slots import Slots, grow


class FadingSums:
    """By slot, for H horizons."""

    def __init__(self, horizons_seconds: tuple[int, ...]) -> None:
        self._horizons: F64 = np.array(horizons_seconds, np.float64)[:, None]
        self._sums: F64 = np.zeros((len(horizons_seconds), 0))
        self._at: NDArray[np.int64] = np.zeros(0, np.int64)  # When the sums were brought up to date, unix seconds.

    def grow(self, capacity: int) -> None:
        """Make room for slots below `capacity`."""
        if len(self._at) < capacity:
            self._sums, self._at = grow(self._sums, capacity), grow(self._at, capacity)

    def add(self, slots: Slots, amounts: F64, time: int) -> F64:
        """Add `amounts` (n, or H x n) to distinct `slots`; gives their sums now, H x n. About 0.1 us a slot and
        horizon."""
        sums: F64 = np.maximum(self.read(slots, time) + amounts, 0.0)
        self._sums[:, slots] = sums
        self._at[slots] = np.maximum(self._at.take(slots), time)
        return sums

    def read(self, slots: Slots, time: int) -> F64:
        """Sums of `slots` at `time`, H x n; what came late is as fresh as the newest."""
        age = np.maximum(time - self._at.take(slots), 0)
        faded: F64 = self._sums.take(slots, axis=1)
        if np.count_nonzero(age):
            faded *= np.exp(-age / self._horizons)
        return faded

    def read_one(self, which: int, slots: Slots, time: int) -> F64:
        """The same of one horizon, by its index."""
        age = np.maximum(time - self._at.take(slots), 0)
        faded: F64 = self._sums[which].take(slots)
        if np.count_nonzero(age):
            faded *= np.exp(-age / self._horizons[which])
        return faded

    def forget(self, slots: Slots) -> None:
        """Clear evicted slots."""
        if len(slots):
            self._sums[:, slots] = 0

    def dump(self) -> State:
        """State for a checkpoint."""
        return {"sums": self._sums, "at": self._at}

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        self._sums, self._at = state["sums"].astype(np.float64), state["at"].astype(np.int64)
