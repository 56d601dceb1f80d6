"""Figures that only a few of many rows have, by row: a row without any takes no memory."""

import numpy as np
from numpy.typing import NDArray

from collector.anomaly.slots import Slots

F32 = NDArray[np.float32]


class SparseColumns:
    """H figures a row; all are 0 where nothing was put."""

    def __init__(self, height: int) -> None:
        self._height = height
        self._columns: dict[int, F32] = {}

    def take(self, rows: Slots) -> F32:
        """Of `rows`, H x n."""
        taken = np.zeros((self._height, len(rows)), np.float32)
        if self._columns:
            for place, row in enumerate(rows.tolist()):
                if (column := self._columns.get(row)) is not None:
                    taken[:, place] = column
        return taken

    def put(self, rows: Slots, figures: F32) -> None:
        """Set those of distinct `rows`, H x n."""
        has_any = figures.any(axis=0).tolist()
        for place, row in enumerate(rows.tolist()):
            if has_any[place]:
                self._columns[row] = figures[:, place].astype(np.float32)
            else:
                self._columns.pop(row, None)

    def forget(self, rows: Slots) -> None:
        """Clear those of `rows`."""
        if self._columns:
            for row in rows.tolist():
                self._columns.pop(row, None)

    def dump(self, count: int) -> F32:
        """Of all `count` rows, H x count."""
        dense = np.zeros((self._height, count), np.float32)
        for row, column in self._columns.items():
            dense[:, row] = column
        return dense

    def load(self, dense: F32) -> None:
        """The inverse of `dump`."""
        self._columns = {}
        rows = dense.any(axis=0).nonzero()[0]
        self.put(rows, dense[:, rows])
