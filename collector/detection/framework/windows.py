"""Open windows of one length: sums by slot until a window may close. Early rows and the rows that follow add up here.

Windows lie on unix time. A window closes when the newest window start seen (the watermark) is `LATENESS_SECONDS` past
its end, because rows arrive about 15 s late at most. Later rows are counted as late and change nothing.
"""

import numpy as np
from numpy.typing import NDArray

from collector.detection.framework.slots import Slots, grow, list_distinct

LATENESS_SECONDS = 20
ROW_SECONDS = 10  # What a sensor's row is about.
DUE_MAX = 8  # Windows without a row that are closed one by one; what is longer ago is jumped over.

_FEW = 16  # Where fewer than one slot in so many has rows, they are remembered.

F64 = NDArray[np.float64]
C128 = NDArray[np.complex128]


def split_windows(windows: Slots, rows: Slots) -> list[tuple[int, Slots]]:
    """Which of `rows`, of which each lies in one of `windows`, lie in which, oldest window first."""
    if not len(rows):
        return []
    first = windows[0]
    if np.count_nonzero(windows != first) == 0:  # Most batches are of one: a sort takes longer than all the rest.
        return [(int(first), rows)]
    return [(window, rows[windows == window]) for window in list_distinct(windows).tolist()]


class RowTimes:
    """When n rows begin and how long they are: which window each lies in."""

    def __init__(self, start: Slots, length: Slots) -> None:
        """Both in seconds; not empty."""
        self.start, self.length = start, length
        self._longest = int(np.max(length))
        first = int(start[0])
        self._only = first if np.count_nonzero(start != first) == 0 else None  # Most batches are of one window.

    def split(self, rows: Slots, seconds: int) -> list[tuple[int, Slots]]:
        """Which of `rows` lie in which window of so many `seconds`, oldest first; a row that is longer says nothing
        about one."""
        if self._longest > seconds:
            rows = rows[self.length[rows] <= seconds]
        if self._only is None:
            return split_windows(self.start[rows] // seconds, rows)
        return [(self._only // seconds, rows)] if len(rows) else []


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

    @property
    def is_many(self) -> bool:
        """Whether they are not remembered."""
        return self._parts is None

    def list_slots(self, calls: F64) -> Slots:
        """Those with calls, distinct and ascending."""
        if self._parts is None:
            return calls.nonzero()[0]
        if not self._parts:
            return np.zeros(0, np.int64)
        slots = list_distinct(np.concatenate(self._parts))
        called: Slots = slots[calls[slots] != 0]
        return called


def join_amounts(calls: F64, novel: F64) -> C128:
    """Calls and novel objects as windows add them up."""
    amounts = np.empty(calls.shape, np.complex128)
    amounts.real, amounts.imag = calls, novel
    return amounts


class OpenWindows:
    """Sums of calls and of novel objects, a ring of windows by slot. A window is named by start // length."""

    def __init__(self, window_seconds: int, *, is_timed: bool = False) -> None:
        """`is_timed`: it is remembered when each slot's calls in a window began."""
        self.window_seconds = window_seconds
        self._is_timed = is_timed and window_seconds > ROW_SECONDS  # Of shorter ones rows do not say when.
        # Open at once: those that the newest row and the latest one may be in, and what lies between them.
        self._ring = LATENESS_SECONDS // window_seconds + 2
        # Calls and novel objects of a slot as one complex number: each place in memory is fetched anew, and both are
        # added at once.
        self._sums: C128 = np.zeros((self._ring, 0), np.complex128)
        self._begun: NDArray[np.uint16] = np.zeros((self._ring if self._is_timed else 0, 0), np.uint16)  # Seconds.
        self._touched: list[Touched] = [Touched() for _ in range(self._ring)]
        self.next_window = -1  # The oldest that is open; -1 before the first row.
        self.newest = -1
        self.first = -1  # The installation's first.

    def grow(self, capacity: int) -> None:
        """Make room for slots below `capacity`."""
        self._sums = grow(self._sums, capacity)
        self._begun = grow(self._begun, capacity)

    @property
    def calls(self) -> F64:
        """Of each window of the ring, by slot."""
        return self._sums.real

    @property
    def novel(self) -> F64:
        """The same of novel objects."""
        return self._sums.imag

    def begin(self, window: int) -> None:
        """Fix the oldest open window at the first row."""
        if self.next_window < 0:
            self.next_window = window
            self.newest = window
            self.first = window

    def accepts(self, window: int) -> bool:
        """Whether a window is open: neither closed nor further ahead than the ring is long."""
        return self.next_window <= window < self.next_window + self._ring

    def add(self, window: int, slots: Slots, amounts: C128, starts: Slots | None = None) -> None:
        """Add rows, calls and novel objects by `join_amounts`, to one open window; slots may repeat. `starts`: when
        each row begins, unix seconds."""
        row = window % self._ring
        if self._is_timed and starts is not None:
            self._time(row, slots, starts - window * self.window_seconds)
        np.add.at(self._sums[row], slots, amounts)
        self._touched[row].add(slots, self._sums.shape[1])
        self.newest = max(self.newest, window)

    def _time(self, row: int, slots: Slots, offsets: Slots) -> None:
        """Note when the calls begin of slots that had none; of the rows of one slot the earliest counts."""
        fresh = (self._sums[row].take(slots).real == 0).nonzero()[0]
        if len(fresh):
            begun = self._begun[row]
            begun[slots[fresh]] = np.iinfo(np.uint16).max
            np.minimum.at(begun, slots[fresh], offsets[fresh].astype(np.uint16))

    def read_begun(self, window: int, slots: Slots) -> Slots:
        """When their calls in a window began, in unix seconds; at its start where that is not remembered."""
        start = window * self.window_seconds
        if not self._is_timed:
            return np.full(len(slots), start, np.int64)
        begun: Slots = start + self._begun[window % self._ring].take(slots).astype(np.int64)
        return begun

    def read(self, window: int, slots: Slots) -> tuple[F64, F64]:
        """Calls and novel objects so far."""
        sums = self._sums[window % self._ring].take(slots)
        return sums.real.copy(), sums.imag.copy()

    def read_calls(self, window: int, slots: Slots) -> F64:
        """Calls alone."""
        calls: F64 = self._sums[window % self._ring].take(slots).real
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

    def leave(self, window: int) -> None:
        """Give up what is open, unjudged; the next window is this one."""
        self._sums[:] = 0
        self._touched = [Touched() for _ in range(self._ring)]
        self.next_window = window

    def close(self, window: int) -> None:
        """Clear a window; it is the oldest open one."""
        row = window % self._ring
        if not self._touched[row].is_empty:
            if self._touched[row].is_many:
                self._sums[row] = 0
            else:
                self._sums[row, self._touched[row].list_slots(self.calls[row])] = 0
            self._touched[row] = Touched()
        self.next_window = window + 1

    def forget(self, slots: Slots) -> None:
        """Clear evicted slots."""
        self._sums[:, slots] = 0

    def dump(self) -> dict[str, NDArray[np.generic]]:
        """State for a checkpoint."""
        calls, novel = np.ascontiguousarray(self.calls), np.ascontiguousarray(self.novel)
        at = np.array([self.next_window, self.newest, self.first])
        return {"calls": calls, "novel": novel, "begun": self._begun, "at": at}

    def load(self, state: dict[str, NDArray[np.generic]]) -> None:
        """The inverse of `dump`."""
        self.next_window, self.newest, self.first = (int(value) for value in state["at"])
        self._sums = join_amounts(*(self._turn(state[name].astype(np.float64)) for name in ("calls", "novel")))
        begun = np.zeros((len(self._begun), self._sums.shape[1]), np.uint16)
        is_known = "begun" in state and state["begun"].shape == begun.shape
        self._begun = state["begun"].astype(np.uint16) if is_known else begun
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
