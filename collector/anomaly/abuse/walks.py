"""Who walks: of a pair's calls to objects that numbers name, how many went to the number right after or before its last
one. The sensors count these steps; numbers do not leave them.

Counted is from the first row with a step on, for somebody who never takes one needs no count; and it fades over an
hour. Steps are evidence for an alert that something else raised, and raise none themselves: lists that people read one
after the other are in order too.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from collector.anomaly.columns import Columns
from collector.anomaly.detectors.contract import F64, State
from collector.anomaly.roster import Placed, Roster
from collector.anomaly.slots import Slots, grow

HORIZON_SECONDS: Final = 3_600
NUMBERS_MIN: Final = 20  # Calls, before anything is called a walk.
SHARE_MIN: Final = 0.8  # Of them that are steps. Ids that rows were deleted from have gaps.


class Walks:
    """By pair slot, 12 bytes each. `take` before anything is asked about a batch."""

    def __init__(self) -> None:
        self._sums: NDArray[np.float32] = np.zeros((2, 0), np.float32)  # Numbers, steps.
        self._at: NDArray[np.uint32] = np.zeros(0, np.uint32)  # When they were brought up to date, unix seconds.

    def take(self, columns: Columns, placed: Placed, roster: Roster, time: int) -> None:
        """Count the rows of a batch."""
        self._sums, self._at = (
            grow(self._sums, roster.pairs.table.capacity),
            grow(self._at, roster.pairs.table.capacity),
        )
        if len(placed.evicted_pairs):
            self._sums[:, placed.evicted_pairs] = 0
        batch = columns.batch
        numeric = columns.read(batch.object_numeric_calls)
        if not np.count_nonzero(numeric):
            return
        slots = placed.by_pair.slots
        numbers = placed.by_pair.sum(numeric.astype(np.float64))
        steps = placed.by_pair.sum(columns.read(batch.object_monotonic_steps).astype(np.float64))
        is_counted = (steps > 0) | ((numbers > 0) & (self._sums[1].take(slots) > 0))
        if np.count_nonzero(is_counted):
            slots = slots[is_counted]
            self._sums[:, slots] = self._read(slots, time) + np.stack([numbers[is_counted], steps[is_counted]])
            self._at[slots] = np.maximum(self._at.take(slots), np.uint32(time))

    def describe(self, pair: int, time: int) -> str:
        """What the pair in this slot walked lately, a clause; empty where it does not walk."""
        if pair >= len(self._at) or not self._sums[1, pair]:  # Not so long in state of before walks were counted.
            return ""
        numbers, steps = self._read(np.array([pair]), time)[:, 0].tolist()
        if numbers < NUMBERS_MIN or steps < SHARE_MIN * numbers:
            return ""
        return f"{steps:,.0f} of {numbers:,.0f} calls went to the number right after or before the last one"

    def dump(self) -> State:
        """State for a checkpoint."""
        return {"sums": self._sums, "at": self._at}

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        self._sums, self._at = state["sums"].astype(np.float32), state["at"].astype(np.uint32)

    def _read(self, slots: Slots, time: int) -> F64:
        """Both sums at `time`; what came late is as fresh as the newest."""
        age = np.maximum(time - self._at.take(slots).astype(np.int64), 0)
        faded: F64 = self._sums.take(slots, axis=1).astype(np.float64) * np.exp(-age / HORIZON_SECONDS)
        return faded
