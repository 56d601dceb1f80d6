"""What subjects do day after day, far above what is ordinary: nightly exports that began after the installation did.

A ceiling learns of a day at most twice itself, so that an attack does not make itself ordinary; what a subject does a
thousand times above it each night would be news for weeks. What it reached on two days running is known: both were
told. Sums over a day and longer go on rising while that goes on, by a known share. Few subjects are ever so high, and
only those have a row here.
"""

import numpy as np
from numpy.typing import NDArray

from collector.anomaly.abuse.compact import CompactRows
from collector.anomaly.detectors.contract import F64, State
from collector.anomaly.slots import Slots, grow

F32 = NDArray[np.float32]

_DAY_SECONDS = 86_400


class RepeatedDays:
    """Highest sums of today and of yesterday, by slot of a ceiling's rows, for H horizons."""

    def __init__(self, horizons_seconds: tuple[int, ...]) -> None:
        """Horizons ascend."""
        # What goes on day after day fills a sum over a day and longer to so many times what one day brings.
        is_long = np.array(horizons_seconds) >= _DAY_SECONDS
        self._source = np.where(is_long, int(np.argmax(is_long)), np.arange(len(horizons_seconds)))
        self._rise: F64 = np.where(is_long, 1 / (1 - np.exp(-_DAY_SECONDS / np.array(horizons_seconds))), 1.0)[:, None]
        self._rows = CompactRows()
        self._today: F32 = np.zeros((len(horizons_seconds), 0), np.float32)
        self._yesterday: F32 = np.zeros((len(horizons_seconds), 0), np.float32)

    def grow(self, capacity: int) -> None:
        """Make room for slots below `capacity`."""
        self._rows.grow(capacity)

    def add(self, slots: Slots, sums: F64, taught: F64) -> None:
        """Keep `sums` (H x n) of distinct slots where they are above what the day teaches."""
        over = (sums > taught).any(axis=0).nonzero()[0]
        if not len(over):
            return
        rows = self._rows.take(slots[over])
        self._today, self._yesterday = (
            grow(self._today, self._rows.capacity),
            grow(self._yesterday, self._rows.capacity),
        )
        self._today[:, rows] = np.maximum(self._today[:, rows], sums[:, over])

    def turn_day(self) -> tuple[Slots, F64]:
        """A day ended: slots, and the sums that each comes to if it goes on as on this day and the one before
        (H x n)."""
        rows = self._list_rows()
        slots = self._rows.slot_of[rows].astype(np.int64)
        reached = np.minimum(self._today[:, rows], self._yesterday[:, rows])
        self._yesterday, self._today = self._today, np.zeros_like(self._today)
        self.forget(slots[~self._yesterday[:, rows].any(axis=0)])
        is_repeated = reached.any(axis=0)
        return slots[is_repeated], self._rise * reached[self._source][:, is_repeated]

    def forget(self, slots: Slots) -> None:
        """Clear slots."""
        rows = self._rows.release(slots)
        self._today[:, rows] = 0
        self._yesterday[:, rows] = 0

    def dump(self) -> State:
        """State for a checkpoint."""
        return {"today": self._today, "yesterday": self._yesterday, **self._rows.dump()}

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        self._rows.load(state)
        self._today, self._yesterday = state["today"].astype(np.float32), state["yesterday"].astype(np.float32)

    def _list_rows(self) -> Slots:
        return (self._rows.slot_of[: self._today.shape[1]] >= 0).nonzero()[0]
