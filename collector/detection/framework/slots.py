"""Tables from 64-bit keys to slots: small integers that index the detectors' columns. Bounded, least recently seen
first out. `Subjects` have names too.

`KeyIndex` finds the slots of whole columns of keys: open addressing with linear probing in an array. Keys are hashes,
so their lowest bits are the first place. A slot that is emptied gets an unused key. Its place stays taken, and searches
go on past it, until the index is rebuilt for room. A slot that is reused has two places, and both are right for its new
key. It takes 16 to 32 bytes a key, where a dict takes 120, and about 0.03 us a key in columns of thousands.
"""

import secrets
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass
from sys import intern
from typing import Protocol

import msgspec
import numpy as np
from numpy.typing import NDArray

from collector.detection.framework.distinct import find_distinct, list_distinct
from collector.detection.framework.state import U64, Arrays, DetectorState, Slots, array, number, record

_FIRST_SIZE = 2_048  # Places; a power of two.
_FILL = 4  # Places a key, at the least: chains stay short.


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


class Follower(Protocol):
    """What is kept by slot of a table."""

    def grow(self, size: int) -> None:
        """Make room for slots below `size`."""

    def forget(self, slots: Slots) -> None:
        """Clear evicted slots."""


class SlotTable(DetectorState):
    """Slots of up to `limit` keys. `touch` is the only way in; what follows the table grows and forgets with it."""

    evicted_count = number(0)
    keys = array(np.uint64)
    seen_at = array(np.int64)  # -1: the slot is free.
    _free_slots = array(np.int64)

    def __init__(self, limit: int, first_capacity: int = _FIRST_CAPACITY) -> None:
        """`limit`: keys held at once; `first_capacity`: before it grows."""
        super().__init__()
        self.limit = limit
        self._index = KeyIndex()
        self._count = 0
        self._free: list[int] = []
        self._growing: list[Callable[[int], None]] = []
        self._forgetting: list[Callable[[Slots], None]] = []
        self._set_rows(_make_rows(min(first_capacity, limit)))

    def follow(self, *followers: Follower) -> None:
        """Let these grow and forget with the table from now on."""
        for follower in followers:
            self.follow_size(follower.grow)
            self.on_forget(follower.forget)

    def follow_size(self, grow: Callable[[int], None]) -> None:
        """The same of what only grows."""
        self._growing.append(grow)
        grow(self.capacity)

    def on_forget(self, forget: Callable[[Slots], None]) -> None:
        """Call this with slots that are evicted."""
        self._forgetting.append(forget)

    def _set_rows(self, rows: NDArray[np.int64]) -> None:
        """Both of a slot side by side: who looks a key up notes that it was seen."""
        self._rows = rows
        self.keys, self.seen_at = rows.view(np.uint64)[:, 0], rows[:, 1]
        for grow in self._growing:
            grow(len(rows))

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

    def find_key(self, key: int) -> int:
        """The slot of a key; -1 where it has none."""
        return int(self.find_keys(np.array([key], np.uint64))[0])

    def find_keys(self, keys: U64) -> Slots:
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
        for forget in self._forgetting if len(slots) else ():
            forget(slots)

    def dump(self, path: str = "") -> Arrays:
        self._free_slots = np.array(self._free, np.int64)
        return super().dump(path)

    def load(self, saved: Mapping[str, NDArray[np.generic]], path: str = "") -> None:
        """What follows the table grows."""
        super().load(saved, path)
        rows = _make_rows(len(self.keys))
        rows.view(np.uint64)[:, 0], rows[:, 1] = self.keys, self.seen_at
        self._set_rows(rows)
        live = self.live()
        self._count = len(live)
        self._index.build(live, self.keys)
        self._free = self._free_slots.tolist()

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


ERASED = "erased:"  # A consumer without a name.


class SubjectName(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a signal says of its subject."""

    endpoint_id: str = ""
    label: str = ""  # Of the endpoint, `GET /items/{id}`.
    route_ids: tuple[int, ...] = ()
    consumer: str = ""


class Subjects(SlotTable):
    """A slot table with names."""

    _stored_names = record(dict[int, SubjectName])

    def __init__(self, limit: int) -> None:
        super().__init__(limit)
        self._names: list[SubjectName | None] = []  # By slot.

    def touch_named(self, keys: U64, time: int, name: Callable[[int], SubjectName]) -> Slots:
        """Slots of `keys`, which may repeat; `name(i)` names key i, asked only for new ones."""
        return self.take(keys, time, lambda first: map(name, first)).slots

    def take(self, keys: U64, time: int, list_names: Callable[[list[int]], Iterable[SubjectName]]) -> Touched:
        """The same, with what is new; `list_names` names some keys, by their indexes, all new ones at once."""
        touched = self.touch(keys, time)
        if len(touched.new):
            names = self._names
            names += [None] * (self.capacity - len(names))
            for slot, name in zip(touched.new.tolist(), list_names(touched.first.tolist()), strict=True):
                names[slot] = name
        return touched

    def name(self, slot: int) -> SubjectName:
        """The name behind a slot in use."""
        name = self._names[slot]
        if name is None:
            raise KeyError(f"slot {slot} is free; only slots in use have names")
        return name

    def list_names(self, slots: Iterable[int]) -> list[SubjectName | None]:
        """The names behind slots, as far as they have one."""
        names = self._names
        return [names[slot] for slot in slots]

    def find(self, endpoint_id: str, consumer: str) -> int:
        """The slot of a name; -1 where there is none. Looks at every name: for what a person asks."""
        for slot, name in enumerate(self._names):
            if name is not None and name.endpoint_id == endpoint_id and name.consumer == consumer:
                return slot
        return -1

    def find_all(self, names: Set[tuple[str, str]]) -> dict[tuple[str, str], int]:
        """The slots of names (endpoint, consumer), in one look at every name."""
        found = {}
        for slot, name in enumerate(self._names):
            if name is not None and (name.endpoint_id, name.consumer) in names:
                found[name.endpoint_id, name.consumer] = slot
        return found

    def rename(self, slot: int, name: SubjectName) -> None:
        """A subject grew (an endpoint got another route), or is called otherwise."""
        self._names[slot] = name

    def erase(self, consumer: str) -> int:
        """What is known of a consumer stays, under no name and under keys that nobody can guess; gives how many
        slots."""
        slots = [slot for slot, name in enumerate(self._names) if name is not None and name.consumer == consumer]
        for slot in slots:
            self._names[slot] = msgspec.structs.replace(self.name(slot), consumer=ERASED)
        if slots:
            self.rekey(np.array(slots), np.array([secrets.randbits(64) | 1 for _ in slots], np.uint64))
        return len(slots)

    def release(self, slots: Slots) -> None:
        """Give up slots in use, which are distinct."""
        super().release(slots)
        for slot in slots.tolist():
            self._names[slot] = None

    def dump(self, path: str = "") -> Arrays:
        self._stored_names = {slot: name for slot, name in enumerate(self._names) if name is not None}
        dumped = super().dump(path)
        self._stored_names = {}
        return dumped

    def load(self, saved: Mapping[str, NDArray[np.generic]], path: str = "") -> None:
        """See DetectorState. Names that tables share are kept once."""
        super().load(saved, path)
        self._names = [None] * self.capacity
        for slot, name in self._stored_names.items():
            self._names[slot] = SubjectName(
                endpoint_id=intern(name.endpoint_id),
                label=intern(name.label),
                route_ids=name.route_ids,
                consumer=intern(name.consumer),
            )
        self._stored_names = {}
