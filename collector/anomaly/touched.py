"""How many objects a pair touches for the first time, estimated without bias, for few objects and for many.

Every pair has the bitmap of `novelty`: 512 bits. A hash that falls on a bit that another hash set is taken for known,
so each new one found counts 1 / (1 - fill). A pair that fills its bitmap moves to a wide one of two generations of
32,768 bits: where the younger is half full it becomes the older, and an empty one takes its place; what is touched
again is kept. So a partner with 25,000 customers, asked for again and again, shows the few that are new. There are
`WIDE_MAX` wide bitmaps of 8 KB; where all are taken, the bitmap of a pair that fills begins anew, as it does when it
moves.
"""

import numpy as np
from numpy.typing import NDArray

from collector.anomaly.distinct import find_distinct, list_distinct
from collector.anomaly.novelty import BITS, FULL_BITS, NoveltyBitmap
from collector.anomaly.slots import Slots, grow

WIDE_BITS = 32_768  # A generation.
WIDE_MAX = 2_048  # 16 MB in all.
_GENERATION_FILL = 0.5
_WORDS = WIDE_BITS // 64
_LEAST_SHARE = 0.1  # Of hashes that are told apart, at the least: bounds what one new hash counts.

U64 = NDArray[np.uint64]
F64 = NDArray[np.float64]


class TouchedObjects:
    """By slot of a pair: which objects it touched."""

    def __init__(self) -> None:
        self._narrow = NoveltyBitmap()
        self._wide_of: NDArray[np.int16] = np.zeros(0, np.int16)  # Wide bitmap of a slot, plus 1; 0: none.
        self._slot_of: NDArray[np.int64] = np.zeros(0, np.int64)  # The inverse; -1: free.
        self._words: U64 = np.zeros((2, 0), np.uint64)  # Younger and older generation; wide * _WORDS + word.
        self._counts: NDArray[np.int64] = np.zeros((2, 0), np.int64)  # Bits set, by wide bitmap.

    def grow(self, capacity: int) -> None:
        """Make room for slots below `capacity`."""
        self._narrow.grow(capacity)
        self._wide_of = grow(self._wide_of, capacity)

    def count_novel(self, slots: Slots, hashes: U64) -> F64:
        """For element i, 0 where (slots[i], hashes[i]) was seen before or earlier here, else how many new ones it
        stands for (1 and a little more)."""
        result = np.zeros(len(slots))
        if not len(self._slot_of):  # Nobody ever filled a bitmap.
            self._count_narrow(slots, hashes, result, None)
            return result
        wide = self._wide_of[slots]
        is_wide = wide > 0
        if not np.count_nonzero(is_wide):
            self._count_narrow(slots, hashes, result, None)
            return result
        rows = (~is_wide).nonzero()[0]
        self._count_narrow(slots[rows], hashes[rows], result, rows)
        rows = is_wide.nonzero()[0]
        result[rows] = self._count_wide(wide[rows].astype(np.int64) - 1, hashes[rows])
        return result

    def forget(self, slots: Slots) -> None:
        """Clear evicted slots."""
        self._narrow.forget(slots)
        wide = self._wide_of[slots]
        wide = wide[wide > 0] - 1
        self._words.reshape(2, -1, _WORDS)[:, wide] = 0
        self._counts[:, wide] = 0
        self._slot_of[wide] = -1
        self._wide_of[slots] = 0

    def dump(self) -> dict[str, NDArray[np.generic]]:
        """State for a checkpoint."""
        own: dict[str, NDArray[np.generic]] = {"wide_of": self._wide_of, "slot_of": self._slot_of}
        return {**own, "wide": self._words, "counts": self._counts, **self._narrow.dump()}

    def load(self, state: dict[str, NDArray[np.generic]]) -> None:
        """The inverse of `dump`."""
        self._narrow.load(state)
        self._wide_of, self._slot_of = state["wide_of"].astype(np.int16), state["slot_of"].astype(np.int64)
        self._words, self._counts = state["wide"].astype(np.uint64), state["counts"].astype(np.int64)

    def _widen(self, slot: int) -> None:
        """Give a slot a wide bitmap while there are some."""
        free = (self._slot_of < 0).nonzero()[0]
        if not len(free):
            old = len(self._slot_of)
            if old >= WIDE_MAX:
                return
            new = min(max(16, 2 * old), WIDE_MAX)
            self._slot_of = grow(self._slot_of, new, -1)
            self._words, self._counts = grow(self._words, new * _WORDS), grow(self._counts, new)
            free = np.arange(old, new)
        self._slot_of[free[0]] = slot
        self._wide_of[slot] = int(free[0]) + 1

    def _count_narrow(self, slots: Slots, hashes: U64, result: F64, rows: Slots | None) -> None:
        """Of the elements `rows` of the result, or all."""
        new, place = self._narrow.find_novel(slots, hashes)
        if not len(new):
            return
        own, added, filled = self._narrow.add_novel(slots[new], place)
        result[new if rows is None else rows[new]] = np.repeat(1 / np.maximum(1 - filled / BITS, _LEAST_SHARE), added)
        for slot in own[filled + added > FULL_BITS].tolist():
            self._narrow.forget(np.array([slot]))
            self._widen(slot)

    def _count_wide(self, wide: Slots, hashes: U64) -> F64:
        result = np.zeros(len(wide))
        place = wide * WIDE_BITS + (hashes % np.uint64(WIDE_BITS)).astype(np.int64)
        distinct, first, _ = find_distinct(place)
        word, bit = distinct // 64, np.uint64(1) << (distinct % 64).astype(np.uint64)
        is_in_younger = (self._words[0, word] & bit) != 0
        is_new = ~is_in_younger & ((self._words[1, word] & bit) == 0)
        own = wide[first]
        share = np.prod(1 - self._counts[:, own] / WIDE_BITS, axis=0)
        result[first] = is_new / np.maximum(share, _LEAST_SHARE)
        entered = ~is_in_younger
        np.bitwise_or.at(self._words[0], word[entered], bit[entered])
        np.add.at(self._counts[0], own[entered], 1)
        for index in list_distinct(own[self._counts[0, own] >= WIDE_BITS * _GENERATION_FILL]).tolist():
            words = self._words.reshape(2, -1, _WORDS)
            words[1, index], words[0, index] = words[0, index], 0
            self._counts[1, index], self._counts[0, index] = self._counts[0, index], 0
        return result
