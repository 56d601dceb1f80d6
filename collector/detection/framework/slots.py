"""Tables from 64-bit keys to slots: small integers that index the detectors' arrays. Bounded, least recently seen first
out.

`KeyIndex` finds the slots of whole columns of keys: open addressing with linear probing in an array. Keys are hashes,
so their lowest bits are the first place. A slot that is emptied gets an unused key. Its place stays taken, and searches
go on past it, until the index is rebuilt for room. A slot that is reused has two places, and both are right for its new
key. It takes 16 to 32 bytes a key, where a dict takes 120, and about 0.03 us a key in columns of thousands.

`find_distinct` and its kin replace np.unique for short columns. A batch of a small installation has a hundred rows.
There np.unique takes five times as long as its work, because of its general cases, 40 times a batch.
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


_FIRST_CAPACITY = 1_024
_NONE: Slots = np.zeros(0, np.int64)
_SLOT_BITS = 28  # Beside a time in seconds of 35,
_NEVER = 2**35 - 1  # of which this is the last.
_EVICTED_SHARE = 0.05  # Of the limit at a time, so that a full table does not sort at every batch.


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """What `touch` found for n keys."""

    slots: Slots  # n.
    new: Slots  # Of keys that had none, ascending by key.
    first: Slots  # Where each of those comes first among the n.
    emptied: Slots  # To make room.


class SlotTable:
    """Slots of up to `limit` keys. `touch` is the only way in; whoever holds arrays by slot clears what `touch`
    evicted."""

    def __init__(self, limit: int, first_capacity: int = _FIRST_CAPACITY) -> None:
        """`limit`: keys held at once; `first_capacity`: before it grows."""
        self.limit = limit
        self.evicted_count = 0
        self._index = KeyIndex()
        self._count = 0
        self._free: list[int] = []
        self._set_rows(_make_rows(min(first_capacity, limit)))

    def _set_rows(self, rows: NDArray[np.int64]) -> None:
        """Both of a slot side by side: who looks a key up notes that it was seen."""
        self._rows = rows
        self.keys: U64 = rows.view(np.uint64)[:, 0]
        self.seen_at: NDArray[np.int64] = rows[:, 1]  # -1: the slot is free.

    def __len__(self) -> int:
        return self._count

    @property
    def capacity(self) -> int:
        """Length that arrays by slot need."""
        return len(self.keys)

    def touch(self, keys: U64, time: int) -> Touched:
        """Slots of `keys`, which may repeat; new ones get theirs in ascending order of the keys. About 0.05 us a known
        key.

        Raises ValueError when there are more keys than the limit: the caller cuts its batches.
        """
        slots = self._index.find(keys, self.keys)
        missing = (slots < 0).nonzero()[0]
        if not len(missing):
            self.seen_at[slots] = time
            return Touched(slots=slots, new=_NONE, first=_NONE, emptied=_NONE)
        if len(keys) > self.limit and (count := len(list_distinct(keys))) > self.limit:
            raise ValueError(f"{count} keys do not fit a table of {self.limit}; raise the limit or cut the batch")
        own = slots[slots >= 0]
        distinct, first, inverse = find_distinct(keys[missing])
        emptied = self._make_room(len(distinct), own)
        self.seen_at[own] = time
        new = self._take(len(distinct))
        slots[missing] = new[inverse]
        self.keys[new] = distinct
        self.seen_at[new] = time
        self._count += len(new)
        if self._index.has_room(len(new)):
            self._index.add(distinct, new)
        else:
            self._index.build(self.live(), self.keys)
        return Touched(slots=slots, new=new, first=missing[first], emptied=emptied)

    def live(self) -> Slots:
        """Slots in use, ascending."""
        return (self.seen_at >= 0).nonzero()[0]

    def find(self, key: int) -> int:
        """The slot of a key; -1 where it has none."""
        return int(self.find_all(np.array([key], np.uint64))[0])

    def find_all(self, keys: U64) -> Slots:
        """The same of many."""
        return self._index.find(keys, self.keys)

    def rekey(self, slots: Slots, keys: U64) -> None:
        """Give slots in use other keys, which no slot has."""
        self.keys[slots] = keys
        self._index.build(self.live(), self.keys)

    def release(self, slots: Slots) -> None:
        """Give up slots in use, which are distinct."""
        self.seen_at[slots] = -1
        self.keys[slots] = ~self.keys[slots]  # A key that nobody asks for, as the index wants it.
        self._count -= len(slots)
        self._free.extend(slots[::-1].tolist())

    def dump(self) -> dict[str, NDArray[np.generic]]:
        """State for a checkpoint."""
        return {
            "keys": self.keys.copy(),
            "seen_at": self.seen_at.copy(),
            "evicted": np.array([self.evicted_count]),
            "free": np.array(self._free, np.int64),
        }

    def load(self, state: dict[str, NDArray[np.generic]]) -> None:
        """The inverse of `dump`."""
        rows = _make_rows(len(state["keys"]))
        self._set_rows(rows)
        self.keys[:], self.seen_at[:] = state["keys"], state["seen_at"]
        self.evicted_count = int(state["evicted"][0])
        live = self.live()
        self._count = len(live)
        self._index.build(live, self.keys)
        self._free = state["free"].tolist()

    def _make_room(self, wanted: int, own: Slots) -> Slots:
        """For so many keys more; those in the slots `own` are of this very batch and stay, whoever else was seen as
        lately."""
        excess = len(self) + wanted - self.limit
        if excess <= 0:
            return _NONE
        self.seen_at[own] = _NEVER
        live = self.live()
        others = int(np.count_nonzero(self.seen_at[live] != _NEVER))
        count = min(max(excess, int(self.limit * _EVICTED_SHARE)), others)
        # Of those seen at the same time the lowest slots go: time and slot as one number are sorted in a fraction of
        # the time of a stable argsort.
        ages = (self.seen_at[live] << _SLOT_BITS) | live
        ages.partition(count - 1)
        oldest = np.sort(ages[:count]) & ((1 << _SLOT_BITS) - 1)
        self.release(oldest)
        self.evicted_count += len(oldest)
        return oldest

    def _take(self, count: int) -> Slots:
        if not self._free and len(self) == 0:
            self._free = list(range(self.capacity - 1, -1, -1))
        while len(self._free) < count:
            old = self.capacity
            new = min(self.limit, old + max(old // 2, 1))
            rows = _make_rows(new)
            rows[:old] = self._rows
            self._set_rows(rows)
            self._free[:0] = range(new - 1, old - 1, -1)
        taken = np.array(self._free[len(self._free) - count :], np.int64)[::-1]
        del self._free[len(self._free) - count :]
        return taken


def _make_rows(capacity: int) -> NDArray[np.int64]:
    """Free slots."""
    rows = np.zeros((capacity, 2), np.int64)
    rows[:, 1] = -1
    return rows


def grow(array: NDArray[_Scalar], length: int, fill: float = 0) -> NDArray[_Scalar]:
    """`array` with its last axis lengthened to `length`, new places holding `fill`."""
    if array.shape[-1] >= length:
        return array
    shape = (*array.shape[:-1], length)
    # Zeros that nothing was written to take no memory yet.
    longer = np.full(shape, fill, array.dtype) if fill else np.zeros(shape, array.dtype)
    longer[..., : array.shape[-1]] = array
    return longer


def grow_rows(array: NDArray[_Scalar], length: int) -> NDArray[_Scalar]:
    """`array` with its first axis lengthened to `length`, new places holding 0."""
    if len(array) >= length:
        return array
    longer = np.zeros((length, *array.shape[1:]), array.dtype)
    longer[: len(array)] = array
    return longer


def mix(left: U64, right: U64) -> U64:
    """One 64-bit key of two (the finalizer of SplitMix64); order matters. Never 0."""
    word = left * np.uint64(0x9E3779B97F4A7C15)
    word += right
    word ^= word >> np.uint64(30)
    word *= np.uint64(0xBF58476D1CE4E5B9)
    word ^= word >> np.uint64(27)
    word *= np.uint64(0x94D049BB133111EB)
    word ^= word >> np.uint64(31)
    key: U64 = np.maximum(word, np.uint64(1))
    return key
