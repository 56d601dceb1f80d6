"""What windows of an endpoint hold besides calls: measures by slot, in a ring that opens and closes with the windows of
the endpoint's calls (collector/anomaly/windows.py)."""

from enum import IntEnum

import numpy as np

from collector.anomaly.detectors.contract import F64, State
from collector.anomaly.slots import Slots, grow
from collector.anomaly.windows import LATENESS_SECONDS

CALLER_BOUND = 2.0**32  # Above any slot of a consumer.


class Measure(IntEnum):
    """Row of the sums."""

    SERVER_ERRORS = 0
    CLIENT_ERRORS = 1
    SERVER_LARGEST = 2  # Errors of the row that has most.
    CLIENT_LARGEST = 3
    SERVER_HIGHEST = 4  # Who got them: 1 + the highest slot of a consumer, 0 where none is known;
    CLIENT_HIGHEST = 5
    SERVER_LOWEST = 6  # and CALLER_BOUND less the lowest.
    CLIENT_LOWEST = 7
    TIMED_CALLS = 8  # That succeeded.
    LOG_TIME = 9  # Sum over those of the logarithm of their row's mean duration in microseconds.
    UNREAD_CALLS = 10  # Of which nobody saw how they ended.


class HealthSums:
    """Of windows of one length."""

    def __init__(self, window_seconds: int) -> None:
        self.window_seconds = window_seconds
        self._ring = LATENESS_SECONDS // window_seconds + 2  # As long as the calls'.
        self._sums: F64 = np.zeros((len(Measure), self._ring, 0))

    def grow(self, capacity: int) -> None:
        """Make room for slots below `capacity`."""
        self._sums = grow(self._sums, capacity)

    def add(self, measure: Measure, window: int, slots: Slots, amounts: F64) -> None:
        """Add to an open window; slots may repeat."""
        np.add.at(self._sums[measure, window % self._ring], slots, amounts)

    def add_errors(self, measure: Measure, window: int, slots: Slots, errors: F64, consumers: Slots) -> None:
        """Add errors (SERVER_ERRORS or CLIENT_ERRORS) and who got them; consumers that are not known (-1) say
        nothing."""
        sums = self._sums[:, window % self._ring]
        np.add.at(sums[measure], slots, errors)
        np.maximum.at(sums[measure + 2], slots, errors)
        is_known = consumers >= 0
        own, callers = slots[is_known], consumers[is_known].astype(np.float64)
        np.maximum.at(sums[measure + 4], own, callers + 1)
        np.maximum.at(sums[measure + 6], own, CALLER_BOUND - callers)

    def read(self, window: int, slots: Slots) -> F64:
        """All measures of `slots` in an open window, measures x n."""
        sums: F64 = self._sums[:, window % self._ring].take(slots, axis=1)
        return sums

    def close(self, window: int, slots: Slots) -> None:
        """Clear the oldest open window; `slots` had calls in it."""
        self._sums[:, window % self._ring, slots] = 0

    def leave(self) -> None:
        """Give up what is open."""
        self._sums[:] = 0

    def forget(self, slots: Slots) -> None:
        """Clear evicted slots."""
        self._sums[:, :, slots] = 0

    def dump(self) -> State:
        """State for a checkpoint."""
        return {"sums": self._sums}

    def load(self, state: State) -> None:
        """The inverse of `dump`; a state of before has fewer measures."""
        sums = state["sums"].astype(np.float64)
        self._sums = np.concatenate([sums, np.zeros((len(Measure) - len(sums), *sums.shape[1:]))])
