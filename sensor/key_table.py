"""Numbers of 64-bit keys in two arrays, found and added for a whole array of keys at once.

Open addressing with linear probing (Knuth, The Art of Computer Programming, vol. 3, 6.4, algorithm L): 16 bytes a
place, and of places twice as many as keys at least, where a dictionary of as many integers takes 120 bytes a key.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
Numbers = NDArray[np.int64]

_FIRST_BITS: Final = 8
# While it is small it has eight times as many places as keys: nearly all keys then are where they are looked for.
_SPARSE_BITS: Final = 16
_MULTIPLIER: Final = 0x9E3779B97F4A7C15
_MASK: Final = (1 << 64) - 1
_NONE: Final = -1


class KeyTable:
    """Keys to numbers that are not negative. Not thread-safe."""

    __slots__ = ("_bits", "_count", "_keys", "_numbers")

    def __init__(self) -> None:
        self.clear()

    def __len__(self) -> int:
        return self._count

    def clear(self) -> None:
        """Forget all."""
        self._count = 0
        self._allocate(_FIRST_BITS)

    def find(self, keys: Keys) -> tuple[Numbers, NDArray[np.int64]]:
        """The number of each key, and the places in `keys` of those that are not known, whose numbers mean nothing.
        Cost: some 20 ns a key."""
        places = self._place(keys)
        numbers: Numbers = self._numbers.take(places)
        # Of those whose place another has, the next place is looked at.
        going = np.flatnonzero((self._keys.take(places) != keys) & (numbers != _NONE))
        places, keys = places[going], keys[going]
        while len(going):
            places = places + 1 & len(self._keys) - 1
            found = self._numbers.take(places)
            numbers[going] = found
            is_going = (self._keys.take(places) != keys) & (found != _NONE)
            going, places, keys = going[is_going], places[is_going], keys[is_going]
        return numbers, np.flatnonzero(numbers == _NONE)

    def find_one(self, key: int) -> int | None:
        """The number of a key."""
        place = (key * _MULTIPLIER & _MASK) >> 64 - self._bits
        while (number := self._numbers.item(place)) != _NONE:
            if self._keys.item(place) == key:
                return int(number)
            place = place + 1 & len(self._keys) - 1
        return None

    def put(self, keys: Keys, numbers: Numbers) -> None:
        """Know these, which are distinct, and none of which is known."""
        self._count += len(keys)
        bits = _find_bits(self._count)
        if bits > self._bits:
            is_used = self._numbers != _NONE
            keys, numbers = np.append(self._keys[is_used], keys), np.append(self._numbers[is_used], numbers)
            self._allocate(bits)
        places = self._place(keys)
        while len(keys):
            is_free = self._numbers.take(places) == _NONE
            # Of several that ask for one place, numpy writes the last, of both arrays.
            self._keys[places[is_free]], self._numbers[places[is_free]] = keys[is_free], numbers[is_free]
            is_going = self._keys.take(places) != keys
            places, keys, numbers = places[is_going], keys[is_going], numbers[is_going]
            places = places + 1 & len(self._keys) - 1

    def put_one(self, key: int, number: int) -> None:
        """Know a key, or another number of one that is known."""
        place = (key * _MULTIPLIER & _MASK) >> 64 - self._bits
        while self._numbers.item(place) != _NONE:
            if self._keys.item(place) == key:
                self._numbers[place] = number
                return
            place = place + 1 & len(self._keys) - 1
        if _find_bits(self._count + 1) > self._bits:
            self.put(np.array([key], np.uint64), np.array([number], np.int64))
            return
        self._count += 1
        self._keys[place], self._numbers[place] = key, number

    def _allocate(self, bits: int) -> None:
        self._bits = bits
        self._keys: Any = np.zeros(1 << bits, np.uint64)
        self._numbers: Any = np.full(1 << bits, _NONE, np.int64)

    def _place(self, keys: Keys) -> NDArray[np.int64]:
        return (keys * np.uint64(_MULTIPLIER) >> np.uint64(64 - self._bits)).astype(np.int64)


def _find_bits(count: int) -> int:
    """Of the number of places for so many keys."""
    return max((2 * count).bit_length(), min((8 * count).bit_length(), _SPARSE_BITS))


def mix(key: Keys, part: NDArray[Any]) -> Keys:
    """One more part of a combined key."""
    mixed = (key ^ part.astype(np.uint64)) * np.uint64(_MULTIPLIER)
    return mixed ^ mixed >> np.uint64(32)


def mix_one(key: int, part: int) -> int:
    """The same of one."""
    mixed = (key ^ part) * _MULTIPLIER & _MASK
    return mixed ^ mixed >> 32
