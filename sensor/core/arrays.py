"""Array operations for grouping calls: sort integers, find runs of equal values, number 64-bit keys, hold lists per
row.

Sorting: numpy sorts integers three times as fast as it computes their order, because it sorts with vector instructions.
So `find_order` puts the index of each value into the bits that the value does not use, and sorts both.

`KeyTable` maps 64-bit keys to numbers, for a whole array of keys at once. It uses open addressing with linear probing
(Knuth, The Art of Computer Programming, vol. 3, 6.4, algorithm L). It takes 16 bytes a slot and has at least twice as
many slots as keys. A dictionary of integers takes 120 bytes a key.

`Ragged` holds lists of different lengths, one a row, as one concatenated array (CSR). They travel in this form.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Index = NDArray[np.int64]


def find_order(codes: NDArray[Any], bits: int) -> Index:
    """Places of integers below 2^bits in ascending order, equal ones in the order in which they stand."""
    places_bits = max(1, (len(codes) - 1).bit_length())
    if bits + places_bits > 64 and int(np.max(codes)).bit_length() + places_bits > 64:
        return np.argsort(codes, kind="stable")
    packed = codes.astype(np.uint64) << np.uint64(places_bits)
    packed |= np.arange(len(codes), dtype=np.uint64)
    packed.sort()
    packed &= np.uint64((1 << places_bits) - 1)
    return packed.astype(np.int64)


def number_values(values: NDArray[Any]) -> tuple[NDArray[Any], Index, Index]:
    """The different ones of integers that are not negative, ascending; the place of one of each; and for each value the
    number of its own. What np.unique tells, in a third of the time, and in none where all are one."""
    count = len(values)
    if count and (values == values[0]).all():
        return values[:1], np.zeros(1, np.int64), np.zeros(count, np.int64)
    bits = int(np.max(values, initial=0)).bit_length()
    # Low bits for which there is no room are left out of the sort; values that differ in nothing else are rare.
    spare_bits = max(0, bits + (count - 1).bit_length() - 64) if count else 0
    order = find_order(values >> values.dtype.type(spare_bits), bits - spare_bits)
    ordered = values[order]
    if spare_bits and (ordered[1:] < ordered[:-1]).any():
        distinct, firsts, inverse = np.unique(values, return_index=True, return_inverse=True)
        return distinct, firsts, inverse
    starts = find_runs(ordered)
    inverse = np.empty(count, np.int64)
    inverse[order] = number_runs(starts, count)
    return ordered[starts], order[starts], inverse


def find_runs(values: NDArray[Any]) -> Index:
    """Where each run of equal values begins."""
    is_start = np.ones(len(values), np.bool_)
    np.not_equal(values[1:], values[:-1], out=is_start[1:])
    return np.flatnonzero(is_start)


def measure_runs(starts: Index, count: int) -> Index:
    """The length of each run of `count` values."""
    lengths = np.empty(len(starts), np.int64)
    if len(starts):  # np.diff with something appended takes five times as long.
        np.subtract(starts[1:], starts[:-1], out=lengths[:-1])
        lengths[-1] = count - starts[-1]
    return lengths


def sum_runs(values: NDArray[Any], starts: Index) -> NDArray[Any]:
    """Sum of each run; none of no runs."""
    return np.add.reduceat(values, starts) if len(starts) else values[:0]


def number_runs(starts: Index, count: int) -> Index:
    """The number of its run, from 0, for each of `count` values."""
    return np.repeat(np.arange(len(starts)), measure_runs(starts, count))


def rank_runs(starts: Index, count: int) -> Index:
    """The place within its run, from 0, of each of `count` values."""
    return np.arange(count) - np.repeat(starts, measure_runs(starts, count))


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


@dataclass(frozen=True, slots=True)
class Ragged:
    """`lengths` has an element a row; `values`, and `counts` where the list is a histogram, have `lengths.sum()`."""

    lengths: NDArray[np.int32]
    values: NDArray[Any]
    counts: NDArray[Any] | None = None

    def select(self, is_taken: NDArray[np.bool_]) -> "Ragged":
        """The rows where `is_taken`."""
        # Numpy takes by places four times as fast as by booleans.
        elements = np.flatnonzero(np.repeat(is_taken, self.lengths))
        counts = None if self.counts is None else self.counts.take(elements)
        return Ragged(self.lengths.take(np.flatnonzero(is_taken)), self.values.take(elements), counts)

    def take(self, rows: Index) -> "Ragged":
        """These rows, in this order."""
        starts = (np.cumsum(self.lengths) - self.lengths)[rows]
        lengths = self.lengths[rows]
        shifts = starts - (np.cumsum(lengths) - lengths)
        elements = np.arange(int(lengths.sum())) + np.repeat(shifts, lengths)
        counts = None if self.counts is None else self.counts.take(elements)
        return Ragged(lengths, self.values.take(elements), counts)

    def get_counts(self) -> NDArray[Any]:
        """The counts of a histogram. Raises TypeError where these lists are none."""
        if self.counts is None:
            raise TypeError("these lists have no counts")
        return self.counts

    @property
    def last_places(self) -> Index:
        """The place of each row's last element; of an empty row, of the one before."""
        return np.cumsum(self.lengths) - 1

    @property
    def size_bytes(self) -> int:
        """Memory held."""
        counts_bytes = 0 if self.counts is None else self.counts.nbytes
        return self.lengths.nbytes + self.values.nbytes + counts_bytes


def join(parts: Sequence[Ragged]) -> Ragged:
    """The rows of all parts, in order; all have counts or none has. `parts` is not empty."""
    counts = [part.counts for part in parts if part.counts is not None]
    return Ragged(
        np.concatenate([part.lengths for part in parts]),
        np.concatenate([part.values for part in parts]),
        np.concatenate(counts) if counts else None,
    )
