"""Distinct values, groups and keys of short columns of integers.

`find_distinct` and its kin replace np.unique. A batch of a small installation has a hundred rows. There np.unique takes
five times as long as its work, because of its general cases, 40 times a batch.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

_Scalar = TypeVar("_Scalar", bound=np.generic)


def find_distinct(
    values: NDArray[_Scalar],
) -> tuple[NDArray[_Scalar], NDArray[np.int64], NDArray[np.int64]]:
    """As np.unique with index and inverse: values ascending, where each comes first, and its place for each element."""
    count = len(values)
    if not count:
        none = np.zeros(0, np.int64)
        return values, none, none
    order = values.argsort()  # Not stable, which takes a tenth of the time.
    ordered = values[order]
    is_first = np.empty(count, np.bool_)
    is_first[0] = True
    np.not_equal(ordered[1:], ordered[:-1], out=is_first[1:])
    inverse = np.empty(count, np.int64)
    inverse[order] = is_first.cumsum() - 1
    starts = is_first.nonzero()[0]
    return ordered[starts], np.minimum.reduceat(order, starts), inverse


def sort_small(values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The n `values`, which may repeat, ascending, and the place of each, as a stable argsort gives it. Of 0 to
    2^(63 - b) - 1, b the bits of n: value and place are one number, sorted in a third of the time of an argsort."""
    place_bits = len(values).bit_length()
    keys = (values << place_bits) | np.arange(len(values))
    keys.sort()
    return keys >> place_bits, keys & ((1 << place_bits) - 1)


def find_first(values: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """As np.unique with index: values ascending, and where each comes first. Of at least one that `sort_small`
    takes."""
    ordered, places = sort_small(values)
    is_first = np.empty(len(values), np.bool_)
    is_first[0] = True
    np.not_equal(ordered[1:], ordered[:-1], out=is_first[1:])
    if np.count_nonzero(is_first) == len(values):
        return ordered, places
    return ordered[is_first], places[is_first]


def list_distinct(values: NDArray[_Scalar]) -> NDArray[_Scalar]:
    """As np.unique: values ascending."""
    if len(values) < 2:
        return values
    ordered = values.copy()
    ordered.sort()
    is_first = np.empty(len(values), np.bool_)
    is_first[0] = True
    np.not_equal(ordered[1:], ordered[:-1], out=is_first[1:])
    return ordered[is_first]


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """n rows by what they belong to: found once a batch, for all who sum by it."""

    rows: NDArray[np.int64]  # Indexes of those that belong to something.
    slots: NDArray[np.int64]  # What they belong to, distinct and ascending.
    inverse: NDArray[np.int64]  # Index into `slots` of each of `rows`.

    def sum(self, amounts: NDArray[np.float64]) -> NDArray[np.float64]:
        """Of the n amounts those of each slot, 0 too."""
        own = amounts if len(amounts) == len(self.rows) else amounts[self.rows]
        return np.bincount(self.inverse, own, len(self.slots)).astype(np.float64, copy=False)

    def list_repeated(self) -> NDArray[np.int64]:
        """Rows that share what they belong to with another one."""
        if len(self.rows) == len(self.slots):
            return self.rows[:0]
        return self.rows[np.bincount(self.inverse)[self.inverse] > 1]


class Grouper:
    """Groups rows by slots of one table, again and again: a place for each slot saves sorting the rows with it."""

    def __init__(self) -> None:
        self._place: NDArray[np.int32] = np.zeros(0, np.int32)  # By slot: scratch.

    def group(self, slots: NDArray[np.int64], capacity: int, among: NDArray[np.int64] | None = None) -> Groups:
        """Rows by slot, below `capacity`; those of -1 belong to nothing. `among`: fewer that all of them are among,
        and each of which has a row."""
        if len(self._place) < capacity:
            self._place = np.zeros(capacity, np.int32)
        rows = (slots >= 0).nonzero()[0]
        own = slots if len(rows) == len(slots) else slots[rows]
        distinct = list_distinct(own if among is None else among)
        self._place[distinct] = np.arange(len(distinct))
        return Groups(rows=rows, slots=distinct, inverse=self._place.take(own).astype(np.int64))


def is_any_of(values: NDArray[np.int64], few: tuple[int, ...]) -> NDArray[np.bool_]:
    """As np.isin for few values of short columns, in a tenth of its time."""
    is_any = np.zeros(len(values), np.bool_)
    for one in few if len(values) else ():
        is_any |= values == one
    return is_any


def mix(left: NDArray[np.uint64], right: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """One 64-bit key of two (the finalizer of SplitMix64); order matters. Never 0."""
    word = left * np.uint64(0x9E3779B97F4A7C15)
    word += right
    word ^= word >> np.uint64(30)
    word *= np.uint64(0xBF58476D1CE4E5B9)
    word ^= word >> np.uint64(27)
    word *= np.uint64(0x94D049BB133111EB)
    word ^= word >> np.uint64(31)
    key: NDArray[np.uint64] = np.maximum(word, np.uint64(1))
    return key
