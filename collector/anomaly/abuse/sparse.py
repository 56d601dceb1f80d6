"""Figures that only a few of many rows have, by row: a row without any takes no memory."""

import numpy as np
from numpy.typing import NDArray

from collector.anomaly.slots import Slots, grow

F32 = NDArray[np.float32]

_FIRST_CAPACITY = 16


class SparseColumns:
    """H figures a row; all are 0 where nothing was put."""

    def __init__(self, height: int) -> None:
        self._height = height
        self._clear()

    def take(self, rows: Slots) -> F32:
        """Of `rows`, H x n."""
        if not self._place_of:
            return np.zeros((self._height, len(rows)), np.float32)
        find = self._place_of.get
        figures: F32 = self._figures.take([find(row, 0) for row in rows.tolist()], axis=1)
        return figures

    def put(self, rows: Slots, figures: F32) -> None:
        """Set those of distinct `rows`, H x n."""
        is_some = figures.any(axis=0)
        self.forget(rows[~is_some])
        some = is_some.nonzero()[0]
        if len(some):
            places = self._make_places(rows[some].tolist())
            self._figures[:, places] = figures[:, some]

    def forget(self, rows: Slots) -> None:
        """Clear those of `rows`."""
        if not self._place_of:
            return
        for row in rows.tolist():
            if (place := self._place_of.pop(row, None)) is not None:
                self._free.append(place)

    def dump(self, count: int) -> F32:
        """Of all `count` rows, H x count."""
        dense = np.zeros((self._height, count), np.float32)
        dense[:, list(self._place_of)] = self._figures[:, list(self._place_of.values())]
        return dense

    def load(self, dense: F32) -> None:
        """The inverse of `dump`."""
        self._clear()
        rows = dense.any(axis=0).nonzero()[0]
        self.put(rows, dense[:, rows])

    def _clear(self) -> None:
        self._place_of: dict[int, int] = {}  # Column of a row.
        self._figures: F32 = np.zeros((self._height, 1), np.float32)  # The first is that of rows without any.
        self._free: list[int] = []

    def _make_places(self, rows: list[int]) -> list[int]:
        """The column of each, which it has then."""
        places = []
        for row in rows:
            place = self._place_of.get(row)
            if place is None:
                if not self._free:
                    self._widen()
                place = self._place_of[row] = self._free.pop()
            places.append(place)
        return places

    def _widen(self) -> None:
        known = self._figures.shape[1]
        self._figures = grow(self._figures, known + max(known // 2, _FIRST_CAPACITY))
        self._free = list(range(self._figures.shape[1] - 1, known - 1, -1))
