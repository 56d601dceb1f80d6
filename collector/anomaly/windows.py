"""Open windows of one length: sums by slot until a window may close. Early rows and the rows that follow add up here.

Windows lie on unix time. A window closes when the newest window start seen (the watermark) is `LATENESS_SECONDS` past
its end: rows come up to about 15 s late. What comes later still is counted as late and changes nothing.
"""

import numpy as np
from numpy.typing import NDArray

from collector.anomaly.slots import Slots, grow

LATENESS_SECONDS = 20
_RING = 8  # Windows open at once: those within lateness of 10 s windows, and room for a clock ahead of the others.

F64 = NDArray[np.float64]


class OpenWindows:
    """Sums of calls and of novel objects, `_RING` windows by slot. A window is named by start // length."""

    def __init__(self, window_seconds: int) -> None:
        self.window_seconds = window_seconds
        self.calls: F64 = np.zeros((_RING, 0))
        self.novel: F64 = np.zeros((_RING, 0))
        self._has_rows = [False] * _RING
        self.next_window = -1  # The oldest that is open; -1 before the first row.
        self.newest = -1
        self.first = -1  # The installation's first.

    def grow(self, capacity: int) -> None:
        """Make room for slots below `capacity`."""
        if self.calls.shape[1] < capacity:
            self.calls = grow(self.calls, capacity)
            self.novel = grow(self.novel, capacity)

    def begin(self, window: int) -> None:
        """Fix the oldest open window at the first row."""
        if self.next_window < 0:
            self.next_window = window
            self.newest = window
            self.first = window

    def accept(self, windows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which rows' windows are open: neither closed nor further ahead than the ring is long."""
        return (windows >= self.next_window) & (windows < self.next_window + _RING)

    def add(self, window: int, slots: Slots, calls: F64, novel: F64) -> None:
        """Add rows to one open window; slots may repeat."""
        row = window % _RING
        np.add.at(self.calls[row], slots, calls)
        np.add.at(self.novel[row], slots, novel)
        self._has_rows[row] = True
        self.newest = max(self.newest, window)

    def read(self, window: int, slots: Slots) -> tuple[F64, F64]:
        """Calls and novel objects so far."""
        row = window % _RING
        return self.calls[row, slots], self.novel[row, slots]

    def touched(self, window: int) -> Slots:
        """Slots with calls in an open window, ascending."""
        return np.flatnonzero(self.calls[window % _RING])

    def is_empty(self, window: int) -> bool:
        """Whether an open window got no row."""
        return not self._has_rows[window % _RING]

    def due(self, watermark: int) -> list[int]:
        """Windows that may close when the newest row starts at `watermark`, oldest first."""
        if self.next_window < 0:
            return []
        last = (watermark - LATENESS_SECONDS) // self.window_seconds
        return list(range(self.next_window, min(last, self.next_window + _RING)))

    def skip(self, watermark: int) -> int:
        """Jump over windows that nothing was seen in for longer than the ring is long; returns how many."""
        last = (watermark - LATENESS_SECONDS) // self.window_seconds
        skipped = max(0, last - self.next_window) if self.next_window >= 0 else 0
        self.next_window += skipped
        return skipped

    def close(self, window: int) -> None:
        """Clear a window; it is the oldest open one."""
        row = window % _RING
        if self._has_rows[row]:
            self.calls[row] = 0
            self.novel[row] = 0
            self._has_rows[row] = False
        self.next_window = window + 1

    def forget(self, slots: Slots) -> None:
        """Clear evicted slots."""
        self.calls[:, slots] = 0
        self.novel[:, slots] = 0

    def dump(self) -> dict[str, NDArray[np.generic]]:
        """State for a checkpoint."""
        return {"calls": self.calls, "novel": self.novel, "at": np.array([self.next_window, self.newest, self.first])}

    def load(self, state: dict[str, NDArray[np.generic]]) -> None:
        """The inverse of `dump`."""
        self.calls = state["calls"].astype(np.float64)
        self.novel = state["novel"].astype(np.float64)
        self._has_rows = (self.calls.any(axis=1) | self.novel.any(axis=1)).tolist()
        self.next_window, self.newest, self.first = (int(value) for value in state["at"])
