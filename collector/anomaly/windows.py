"""Open windows of one length: sums by slot until a window may close. Early rows and the rows that follow add up here.

Windows lie on unix time. A window closes when the newest window start seen (the watermark) is `LATENESS_SECONDS` past
its end: rows come up to about 15 s late. What comes later still is counted as late and changes nothing.
"""

import numpy as np
from numpy.typing import NDArray

from collector.anomaly.distinct import list_distinct
from collector.anomaly.slots import Slots, grow

LATENESS_SECONDS = 20
DUE_MAX = 8  # Windows without a row that are closed one by one; what is longer ago is jumped over.

_FEW = 16  # Where fewer than one slot in so many has rows, they are remembered.

F64 = NDArray[np.float64]


def split_windows(windows: Slots, rows: Slots) -> list[tuple[int, Slots]]:
    """Which of `rows`, of which each lies in one of `windows`, lie in which, oldest window first."""
    if not len(rows):
        return []
    first = windows[0]
    if np.count_nonzero(windows != first) == 0:  # Most batches are of one: a sort takes longer than all the rest.
        return [(int(first), rows)]
    return [(window, rows[windows == window]) for window in list_distinct(windows).tolist()]


class Touched:
    """Slots that got rows in one window, while they are few: then nobody looks through all slots for them."""

    def __init__(self) -> None:
        self.is_empty = True
        self._parts: list[Slots] | None = []
        self._count = 0

    def add(self, slots: Slots, capacity: int) -> None:
        """Take in slots, which may repeat, of `capacity` that there are."""
        self.is_empty = False
        self._count += len(slots)
        if self._count > capacity // _FEW:
            self._parts = None
        elif self._parts is not None:
            self._parts.append(slots)

    def list_slots(self, calls: F64) -> Slots:
        """Those with calls, distinct and ascending."""
        if self._parts is None:
            return calls.nonzero()[0]
        if not self._parts:
            return np.zeros(0, np.int64)
        slots = list_distinct(np.concatenate(self._parts))
        called: Slots = slots[calls.take(slots) != 0]
        return called


class OpenWindows:
    """Sums of calls and of novel objects, a ring of windows by slot. A window is named by start // length."""

    def __init__(self, window_seconds: int) -> None:
        self.window_seconds = window_seconds
        # Open at once: those that the newest row and the latest one may be in, and what lies between them.
        self._ring = LATENESS_SECONDS // window_seconds + 2
        self.calls: F64 = np.zeros((self._ring, 0))
        self.novel: F64 = np.zeros((self._ring, 0))
        self._touched: list[Touched] = [Touched() for _ in range(self._ring)]
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

    def accepts(self, window: int) -> bool:
        """Whether a window is open: neither closed nor further ahead than the ring is long."""
        return self.next_window <= window < self.next_window + self._ring

    def add(self, window: int, slots: Slots, calls: F64, novel: F64, *, is_novel: bool = True) -> None:
        """Add rows to one open window; slots may repeat. `is_novel`: novel objects count too."""
        row = window % self._ring
        np.add.at(self.calls[row], slots, calls)
        if is_novel:
            np.add.at(self.novel[row], slots, novel)
        self._touched[row].add(slots, self.calls.shape[1])
        self.newest = max(self.newest, window)

    def read(self, window: int, slots: Slots) -> tuple[F64, F64]:
        """Calls and novel objects so far."""
        row = window % self._ring
        return self.calls[row].take(slots), self.novel[row].take(slots)

    def read_calls(self, window: int, slots: Slots) -> F64:
        """Calls alone."""
        calls: F64 = self.calls[window % self._ring].take(slots)
        return calls

    def touched(self, window: int) -> Slots:
        """Slots with calls in an open window, ascending."""
        row = window % self._ring
        return self._touched[row].list_slots(self.calls[row])

    def is_empty(self, window: int) -> bool:
        """Whether an open window got no row."""
        return self._touched[window % self._ring].is_empty

    def due(self, watermark: int) -> list[int]:
        """Windows that may close when the newest row starts at `watermark`, oldest first."""
        if self.next_window < 0:
            return []
        last = (watermark - LATENESS_SECONDS) // self.window_seconds
        return list(range(self.next_window, min(last, self.next_window + DUE_MAX)))

    def skip(self, watermark: int) -> int:
        """Jump over windows that nothing was seen in for longer than the ring is long; returns how many."""
        last = (watermark - LATENESS_SECONDS) // self.window_seconds
        skipped = max(0, last - self.next_window) if self.next_window >= 0 else 0
        self.next_window += skipped
        return skipped

    def close(self, window: int) -> None:
        """Clear a window; it is the oldest open one."""
        row = window % self._ring
        if not self._touched[row].is_empty:
            slots = self._touched[row].list_slots(self.calls[row])
            self.calls[row, slots] = 0
            self.novel[row, slots] = 0
            self._touched[row] = Touched()
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
        self.next_window, self.newest, self.first = (int(value) for value in state["at"])
        self.calls, self.novel = (self._turn(state[name].astype(np.float64)) for name in ("calls", "novel"))
        for row, touched in enumerate(self._touched):
            slots = ((self.calls[row] != 0) | (self.novel[row] != 0)).nonzero()[0]
            if len(slots):
                touched.add(slots, self.calls.shape[1])

    def _turn(self, sums: F64) -> F64:
        """Sums of a ring of another length as those of this one."""
        if len(sums) == self._ring:
            return sums
        own = np.zeros((self._ring, sums.shape[1]))
        for window in range(self.next_window, self.next_window + min(self._ring, len(sums))):
            own[window % self._ring] = sums[window % len(sums)]
        return own
