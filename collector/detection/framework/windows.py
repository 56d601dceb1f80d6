"""Open windows of one length: sums by slot until a window may close. Early rows and the rows that follow add up here.

Windows lie on unix time. A window closes when the newest window start seen (the watermark) is `LATENESS_SECONDS` past
its end, because rows arrive about 15 s late at most. Later rows are counted as late and change nothing.
"""

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from collector.detection.framework.distinct import list_distinct
from collector.detection.framework.rows import C128, Events
from collector.detection.framework.state import F64, DetectorState, Slots, column, number

LATENESS_SECONDS = 20
ROW_SECONDS = 10  # What a sensor's row is about.
DUE_MAX = 8  # Windows without a row that are closed one by one; what is longer ago is jumped over.

_FEW = 16  # Where fewer than one slot in so many has rows, they are remembered.


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


class OpenWindows(DetectorState):
    """Sums of calls and of novel objects, a ring of windows by slot. A window is named by start // length."""

    # Calls and novel objects of a slot as one complex number: each place in memory is fetched anew, and both are added
    # at once.
    _sums = column(np.complex128, "ring")
    _begun = column(np.uint16, "timed")  # Seconds.
    next_window = number(-1)  # The oldest that is open; -1 before the first row.
    newest = number(-1)
    first = number(-1)  # The installation's first.

    def __init__(self, window_seconds: int, *, is_timed: bool = False) -> None:
        """`is_timed`: it is remembered when each slot's calls in a window began."""
        self.window_seconds = window_seconds
        self._is_timed = is_timed and window_seconds > ROW_SECONDS  # Of shorter ones rows do not say when.
        # Open at once: those that the newest row and the latest one may be in, and what lies between them.
        self._ring = LATENESS_SECONDS // window_seconds + 2
        super().__init__(ring=self._ring, timed=self._ring if self._is_timed else 0)
        self._touched: list[Touched] = [Touched() for _ in range(self._ring)]

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

    def add_events(
        self, events: Events, slots: Slots, known: Slots, *, is_novel: bool
    ) -> Iterator[tuple[int, Slots, Slots]]:
        """Add the rows `known`, which are those with a slot; yields each window touched with its rows and their slots,
        oldest first. `is_novel`: novel objects are added too."""
        parts = events.by_window.split(self.window_seconds, known)
        if parts:
            self.begin(parts[0].window)
        for part in parts:
            if self.accepts(part.window):
                own = slots if len(part.rows) == len(slots) else slots[part.rows]
                self.add(part.window, own, part.both if is_novel else part.calls, events.times.start[part.rows])
                yield part.window, part.rows, own

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

    def skip(self, watermark: int) -> None:
        """Jump over windows in which nothing was seen for longer than the ring is long."""
        if self.next_window >= 0:
            self.next_window = max(self.next_window, (watermark - LATENESS_SECONDS) // self.window_seconds)

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

    def load(self, saved: Mapping[str, NDArray[np.generic]], path: str = "") -> None:
        super().load(saved, path)
        for row, touched in enumerate(self._touched):
            slots = self._sums[row].nonzero()[0]
            if len(slots):
                touched.add(slots, self.size)
