"""Where a 64-bit key's slot is, for whole columns of keys at once: open addressing with linear probing in an array.

Keys are hashes, so their lowest bits are the place to begin at. Whoever empties a slot gives it a key that nobody asks
for: its place stays taken, and a search goes on past it, until all is built anew for want of room. A slot that is taken
again has two places; both are right for its new key. 16 to 32 bytes a key, where a dict takes 120; about 0.03 us a key
in columns of thousands.
"""

import numpy as np
from numpy.typing import NDArray

_FIRST_SIZE = 2_048  # Places; a power of two.
_FILL = 4  # Places a key, at the least: chains stay short.

U64 = NDArray[np.uint64]
Slots = NDArray[np.int64]


class KeyIndex:
    """Slots by key. The keys themselves are the caller's array by slot, which it hands in."""

    def __init__(self) -> None:
        self._places: NDArray[np.int32] = np.full(_FIRST_SIZE, -1, np.int32)  # Slot; -1: free.
        self._used = 0  # Places, those of emptied slots among them.

    def find(self, keys: U64, key_of_slot: U64) -> Slots:
        """The slot of each key, which may repeat; -1 where there is none."""
        places, mask = self._places, len(self._places) - 1
        place = (keys & np.uint64(mask)).astype(np.int64)
        slots = places[place].astype(np.int64)
        open_ = ((key_of_slot[slots] != keys) & (slots >= 0)).nonzero()[0]
        while len(open_):
            place[open_] = (place[open_] + 1) & mask
            here = places[place[open_]]
            slots[open_] = here
            open_ = open_[(key_of_slot[here] != keys[open_]) & (here >= 0)]
        return slots

    def has_room(self, count: int) -> bool:
        """Whether `add` may take so many more; else the caller builds."""
        return _FILL * (self._used + count) <= len(self._places)

    def add(self, keys: U64, slots: Slots) -> None:
        """Take in distinct `keys` that it does not hold, for which there is room."""
        places, mask = self._places, len(self._places) - 1
        place = (keys & np.uint64(mask)).astype(np.int64)
        while len(slots):
            free = places[place] < 0
            places[place[free]] = slots[free]  # Of several that want a place one gets it.
            left = places[place] != slots
            place, slots = (place[left] + 1) & mask, slots[left]
        self._used += len(keys)

    def build(self, live: Slots, key_of_slot: U64) -> None:
        """Begin anew with the slots in use."""
        size = _FIRST_SIZE
        while size < 2 * _FILL * len(live):
            size *= 2
        self._places = np.full(size, -1, np.int32)
        self._used = 0
        self.add(key_of_slot[live], live)
