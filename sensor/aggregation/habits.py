"""Which rows cross a trigger second after second: what was told at length need not be told each second.

A row that begins to cross leaves early for ten seconds, which is what detectors need to judge it (docs/detection.md).
From then on it leaves early when it has doubled, and otherwise with its window, until it has been below for a window's
length. So one busy consumer costs a row in ten seconds, not ten, and nothing that begins is told later.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from sensor.aggregation.rows import Keys, find_identities, find_routes
from sensor.facts import Freed

# A row is told each second for so long,
TOLD_SECONDS: Final = 10
# and begins anew after so long below the triggers.
PAUSE_SECONDS: Final = 10
_GROWTH: Final = 2
# Rows remembered; the least recent go, and are then told each second again.
HABITS_LIMIT: Final = 65_536

_Seconds = NDArray[np.int64]
_Counts = NDArray[np.int64]


class Habits:
    """Mutable state between seconds: arrays in ascending order of the rows' keys. 32 bytes a row."""

    __slots__ = ("_keys", "_last", "_peaks", "_since")

    def __init__(self) -> None:
        self._keys: Keys = np.empty(0, np.uint64)
        self._since: _Seconds = np.empty(0, np.int64)
        self._last: _Seconds = np.empty(0, np.int64)
        self._peaks: _Counts = np.empty(0, np.int64)

    def __len__(self) -> int:
        return len(self._keys)

    def find_news(self, keys: Keys, calls: _Counts, second: int) -> NDArray[np.bool_]:
        """Of rows that cross a trigger in `second`, with so many calls each: those that are to be told early. `keys`
        are distinct."""
        order = np.argsort(keys)
        keys, calls = keys[order], calls[order]
        places = np.minimum(self._keys.searchsorted(keys), max(len(self._keys) - 1, 0))
        if len(self._keys):
            is_known = (self._keys[places] == keys) & (self._last[places] >= second - PAUSE_SECONDS)
            since = np.where(is_known, self._since[places], second)
            peaks = np.where(is_known, self._peaks[places], 0)
        else:
            since, peaks = np.full(len(keys), second), np.zeros(len(keys), np.int64)
        is_growing = calls >= _GROWTH * np.maximum(peaks, 1)
        is_news = (second - since < TOLD_SECONDS) | is_growing
        # What is told each second sets the peak; later only what has grown does.
        peaks = np.where(is_news, np.maximum(peaks, calls), peaks)
        self._remember(keys, since, peaks, second)
        result = np.empty(len(keys), np.bool_)
        result[order] = is_news
        return result

    def forget(self, freed: Freed) -> None:
        """These numbers will stand for something else."""
        self._keep(
            ~(np.isin(find_routes(self._keys), freed.routes) | np.isin(find_identities(self._keys), freed.identities))
        )

    def _remember(self, keys: Keys, since: _Seconds, peaks: _Counts, second: int) -> None:
        if len(keys):
            # Both ascend: np.isin would sort them once more.
            is_told_anew = keys[np.minimum(keys.searchsorted(self._keys), len(keys) - 1)] == self._keys
            self._keep((self._last >= second - PAUSE_SECONDS) & ~is_told_anew)
        self._keys = np.concatenate([self._keys, keys])
        self._since = np.concatenate([self._since, since])
        self._peaks = np.concatenate([self._peaks, peaks])
        self._last = np.concatenate([self._last, np.full(len(keys), second)])
        if len(self._keys) > HABITS_LIMIT:
            newest = np.argsort(-self._last, kind="stable")[:HABITS_LIMIT]
            is_kept = np.zeros(len(self._keys), np.bool_)
            is_kept[newest] = True
            self._keep(is_kept)
        order = np.argsort(self._keys)
        self._keys, self._since = self._keys[order], self._since[order]
        self._peaks, self._last = self._peaks[order], self._last[order]

    def _keep(self, is_kept: NDArray[np.bool_]) -> None:
        if is_kept.all():
            return
        self._keys, self._since = self._keys[is_kept], self._since[is_kept]
        self._peaks, self._last = self._peaks[is_kept], self._last[is_kept]
