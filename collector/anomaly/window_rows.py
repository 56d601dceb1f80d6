"""Rows of a batch by window, found once for each length and shared by the watches.

A row longer than the window (merged while a sensor was away) says nothing about one; it counts for the longer windows.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from collector.anomaly.columns import Columns
from collector.anomaly.detectors.contract import F64
from collector.anomaly.slots import Slots
from collector.anomaly.watch import Watch
from collector.anomaly.windows import C128, join_amounts


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """Rows of one window."""

    window: int
    rows: Slots
    calls: C128  # For windows that count no novel objects;
    both: C128  # for those that do.


class WindowRows:
    """See the module. `novel` as `Placed` has it."""

    def __init__(self, columns: Columns, novel: F64) -> None:
        self._columns = columns
        self._calls: C128 = columns.calls.astype(np.complex128)
        # A window is cleared where it has calls.
        self._both = join_amounts(columns.calls, np.where(columns.calls > 0, novel, 0.0))
        self._parts: dict[tuple[int, int], list[_Part]] = {}

    def add(self, watch: Watch, slots: Slots, known: Slots) -> Iterator[tuple[int, Slots, Slots]]:
        """Add the rows `known`, which are those with a slot, to a watch's windows; yields each window touched with its
        rows' indexes and slots, oldest first."""
        for number, part in enumerate(self._split(watch.windows.window_seconds, known)):
            if not number:
                watch.windows.begin(part.window)
            if watch.windows.accepts(part.window):
                own = slots if len(part.rows) == len(slots) else slots[part.rows]
                amounts = part.calls if watch.is_dense else part.both
                watch.windows.add(part.window, own, amounts, self._columns.times.start[part.rows])
                yield part.window, part.rows, own

    def _split(self, seconds: int, known: Slots) -> list[_Part]:
        key = seconds, len(known)
        if key not in self._parts:
            parts = self._columns.times.split(known, seconds)
            self._parts[key] = [self._choose(window, rows) for window, rows in parts]
        return self._parts[key]

    def _choose(self, window: int, rows: Slots) -> _Part:
        calls, both = self._calls, self._both
        if len(rows) < len(calls):
            calls, both = calls[rows], both[rows]
        return _Part(window=window, rows=rows, calls=calls, both=both)
