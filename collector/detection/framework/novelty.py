"""Counts objects that a pair touches for the first time: a bitmap of keyed hashes for each pair.

A pair has 512 bits (64 bytes), so 200,000 pairs take 12.8 MB. A hash that falls on a set bit counts as known, so the
count is too low by the bitmap's fill. Past 70 % fill the bitmap begins again, so that a consumer that goes on to new
objects stays visible.
"""

import numpy as np
from numpy.typing import NDArray

from collector.detection.framework.distinct import find_first
from collector.detection.framework.state import U64, Bools, DetectorState, Slots, column

BITS = 512  # A power of two.
_WORDS = BITS // 64
_EVEN_BYTES, _SUM_OF_LANES = np.uint64(0x00FF00FF00FF00FF), np.uint64(0x0001000100010001)
FULL_BITS = 0.7 * BITS  # Past it a bitmap hardly tells hashes apart.


class NoveltyBitmap(DetectorState):
    """Bits by slot: `count_novel` sets them and says how many were new."""

    _words = column(np.uint64, _WORDS, is_slot_first=True)

    def count_novel(self, slots: Slots, hashes: U64) -> NDArray[np.int64]:
        """For element i, 1 where (slots[i], hashes[i]) was not seen before and is the first such here, else 0. About
        0.1 us each."""
        result = np.zeros(len(slots), np.int64)
        new, place = self.find_novel(slots, hashes)
        if len(new):
            result[new] = 1
            own, added, filled = self.add_novel(slots[new], place)
            full = own[filled + added > FULL_BITS]
            if len(full):
                self.forget(full)
        return result

    def take_out(self, slots: Slots, value: int) -> Bools:
        """Whether (slots[i], value) was seen before, of distinct slots; from now on it was not, as far as hashes on the
        same bit go."""
        bit = value & (BITS - 1)
        words, mask = self._words[:, bit >> 6], np.uint64(1 << (bit & 63))
        is_known: Bools = (words[slots] & mask) != 0
        words[slots[is_known]] &= ~mask
        return is_known

    def find_novel(self, slots: Slots, hashes: U64) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Indexes of the elements that were not seen before, the first of those that are the same, by slot, and the
        bit of each; takes in nothing."""
        place = slots * BITS + (hashes & np.uint64(BITS - 1)).astype(np.int64)
        bits = self._words.reshape(-1).take(place >> 6) >> (place & 63).astype(np.uint64)
        new: NDArray[np.int64] = ((bits & np.uint64(1)) == 0).nonzero()[0]
        if not len(new):
            return new, new
        distinct, first = find_first(place.take(new))
        return new.take(first), distinct

    def add_novel(self, slots: Slots, place: NDArray[np.int64]) -> tuple[Slots, NDArray[np.int64], NDArray[np.int64]]:
        """Take in what `find_novel` found; gives the distinct slots, how many bits each gained, and how many it had."""
        is_first = np.ones(len(slots), np.bool_)
        np.not_equal(slots[1:], slots[:-1], out=is_first[1:])
        starts = is_first.nonzero()[0]
        own, added = slots[starts], np.diff(starts, append=len(slots))
        filled = self.count_bits(own)
        np.bitwise_or.at(self._words.reshape(-1), place >> 6, np.uint64(1) << (place & 63).astype(np.uint64))
        return own, added, filled

    def count_bits(self, slots: Slots) -> NDArray[np.int64]:
        """Bits set of each slot."""
        # Eight counts of up to 64 in a word: summed as four of 16 bits, a sum of short rows takes ten times as long.
        counts = np.bitwise_count(self._words.take(slots, axis=0)).view(np.uint64).ravel()
        lanes = (counts & _EVEN_BYTES) + ((counts >> np.uint64(8)) & _EVEN_BYTES)
        sums: NDArray[np.int64] = ((lanes * _SUM_OF_LANES) >> np.uint64(48)).astype(np.int64)
        return sums
