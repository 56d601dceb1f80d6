"""Numbers of 64-bit keys that were met lately, found for a whole array at once.

Two places for each key, by bits of its hash. The first stays with who came first, the second goes to who came last;
what is in neither has to be asked for elsewhere. So the callers of a busy second cost two reads of an array a call, and
no sorting.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.int64]

_MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)
_NOBODY: Final = ~np.uint64(0)


class RecentNumbers:
    """A cache: it may forget anything at any time. 33 bytes for each of `2 ** bits` places, taken as they are used. Not
    thread-safe."""

    __slots__ = ("_bits", "_count", "_is_used", "_keys", "_mask", "_numbers")

    def __init__(self, bits: int) -> None:
        self._bits = bits
        self._mask = np.uint64((1 << bits) - 1)
        self.clear()

    def clear(self) -> None:
        """Forget all."""
        shape = 2, 1 << self._bits
        self._keys: Any = np.zeros(shape, np.uint64)
        self._numbers: Any = np.zeros(shape, np.int64)
        self._is_used = np.zeros(shape[1], np.bool_)
        self._count = 0
        # A place that was never used has key 0, which belongs into this one: here is another, which does not.
        self._keys[:, 0] = _NOBODY

    def find(self, keys: Keys) -> tuple[Numbers, npt.NDArray[np.int64]]:
        """The number of each key, and the places in `keys` of those that are not known, whose numbers mean nothing."""
        first, second = self._place(keys)
        numbers: Numbers = self._numbers[0].take(first)
        missing = np.flatnonzero(self._keys[0].take(first) != keys)
        if len(missing):
            second = second[missing]
            numbers[missing] = self._numbers[1].take(second)
            missing = missing[self._keys[1].take(second) != keys[missing]]
        return numbers, missing

    def put(self, keys: Keys, numbers: Numbers) -> None:
        """Know these, which are distinct, unless there are too many of one place. Forgets all others where as many were
        put as there are places: most of them may be gone."""
        self._count += len(keys)
        if self._count > 1 << self._bits:
            self.clear()
            self._count = len(keys)
        first, second = self._place(keys)
        free = np.flatnonzero(~self._is_used[first])
        # Of several that ask for one place, numpy writes the last, of both arrays.
        self._keys[0][first[free]], self._numbers[0][first[free]] = keys[free], numbers[free]
        self._is_used[first[free]] = True
        rest = np.flatnonzero(self._keys[0].take(first) != keys)
        self._keys[1][second[rest]], self._numbers[1][second[rest]] = keys[rest], numbers[rest]

    def _place(self, keys: Keys) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        hashes = keys * _MULTIPLIER
        first = hashes >> np.uint64(64 - self._bits)
        second = hashes >> np.uint64(64 - 2 * self._bits) & self._mask
        return first.astype(np.int64), second.astype(np.int64)
