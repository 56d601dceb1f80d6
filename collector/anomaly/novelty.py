"""Which objects a pair touches for the first time: a bitmap of keyed hashes for each pair.

512 bits a pair (64 bytes; 200,000 pairs are 12.8 MB). A hash that falls on a set bit counts as known, so the count
errs to the low side, by the bitmap's fill; past 70 % fill the bitmap begins anew, so that a consumer that goes on to
new objects stays visible.
"""

import numpy as np
from numpy.typing import NDArray

from collector.anomaly.distinct import find_distinct, list_distinct
from collector.anomaly.slots import Slots, grow

BITS = 512  # A power of two.
_WORDS = BITS // 64
_FILL_LIMIT = 0.7

U64 = NDArray[np.uint64]


class NoveltyBitmap:
    """Bits by slot: `count_novel` sets them and says how many were new."""

    def __init__(self, *, is_renewed: bool = True) -> None:
        """`is_renewed`: bitmaps that are full begin anew; else who holds this asks `list_full` and forgets them."""
        self._is_renewed = is_renewed
        self._words: U64 = np.zeros(0, np.uint64)  # slot * _WORDS + word.

    def grow(self, capacity: int) -> None:
        """Make room for slots below `capacity`."""
        self._words = grow(self._words, capacity * _WORDS)

    def count_novel(self, slots: Slots, hashes: U64) -> NDArray[np.int64]:
        """For element i, 1 where (slots[i], hashes[i]) was not seen before and is the first such here, else 0. About
        0.1 us each."""
        result = np.zeros(len(slots), np.int64)
        new = self.find_novel(slots, hashes)
        if len(new):
            result[new] = 1
            self.add(slots[new], hashes[new])
        return result

    def find_novel(self, slots: Slots, hashes: U64) -> NDArray[np.int64]:
        """Indexes of the elements that were not seen before, the first of those that are the same; takes in nothing."""
        place = _place(slots, hashes)
        bits = self._words[place >> 6] >> (place & 63).astype(np.uint64)
        new: NDArray[np.int64] = ((bits & np.uint64(1)) == 0).nonzero()[0]
        if not len(new):
            return new
        _, first, _ = find_distinct(place[new])
        distinct: NDArray[np.int64] = new[first]
        return distinct

    def add(self, slots: Slots, hashes: U64) -> Slots:
        """Take in elements that are new and distinct; gives the slots that are full now. Where bitmaps are renewed
        these begin anew."""
        place = _place(slots, hashes)
        np.bitwise_or.at(self._words, place >> 6, np.uint64(1) << (place & 63).astype(np.uint64))
        full = self.list_full(list_distinct(slots))
        if self._is_renewed and len(full):
            self.forget(full)
        return full

    def count_bits(self, slots: Slots) -> NDArray[np.int64]:
        """Bits set of each slot."""
        count: NDArray[np.int64] = np.bitwise_count(self._words.reshape(-1, _WORDS)[slots]).sum(axis=1, dtype=np.int64)
        return count

    def list_full(self, slots: Slots) -> Slots:
        """Which of distinct `slots` are so full that they hardly tell hashes apart."""
        return slots[self.count_bits(slots) > BITS * _FILL_LIMIT]

    def forget(self, slots: Slots) -> None:
        """Clear evicted slots."""
        self._words.reshape(-1, _WORDS)[slots] = 0

    def dump(self) -> dict[str, NDArray[np.generic]]:
        """State for a checkpoint."""
        return {"words": self._words}

    def load(self, state: dict[str, NDArray[np.generic]]) -> None:
        """The inverse of `dump`."""
        self._words = state["words"].astype(np.uint64)


def _place(slots: Slots, hashes: U64) -> NDArray[np.int64]:
    """The bit of each, in all words."""
    place: NDArray[np.int64] = slots * BITS + (hashes & np.uint64(BITS - 1)).astype(np.int64)
    return place
