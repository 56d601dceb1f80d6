"""Slots to rows: arrays of a measure that few subjects have anything of are by row, which only those have."""

import numpy as np
from numpy.typing import NDArray

from collector.anomaly.detectors.contract import State
from collector.anomaly.slots import Slots, grow

_FIRST_CAPACITY = 64


class CompactRows:
    """Rows by slot, 4 bytes a slot. Whoever holds arrays by row clears those that `release` gives."""

    def __init__(self) -> None:
        self._row_of: NDArray[np.int32] = np.zeros(0, np.int32)  # Plus 1; 0: none.
        self.slot_of: NDArray[np.int32] = np.full(_FIRST_CAPACITY, -1, np.int32)  # By row; -1: free.
        self._count = 0  # Rows below it were in use at some time; those released are in `_free`.
        self._free: list[int] = []

    @property
    def slot_capacity(self) -> int:
        """There is room for slots below it."""
        return len(self._row_of)

    @property
    def capacity(self) -> int:
        """Length that arrays by row need."""
        return len(self.slot_of)

    def grow(self, slots: int) -> None:
        """Make room for slots below `slots`."""
        self._row_of = grow(self._row_of, slots)

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

    def dump(self) -> State:
        """State for a checkpoint."""
        return {"slot_of": self.slot_of, "slots": np.array([self.slot_capacity])}

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        self.slot_of = state["slot_of"].astype(np.int32)
        rows = (self.slot_of >= 0).nonzero()[0]
        self._row_of = np.zeros(int(state["slots"][0]), np.int32)
        self._row_of[self.slot_of[rows]] = rows + 1
        self._count = len(self.slot_of)
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
