"""Detects BOLA (OWASP API1:2023), slow and fast: consumers that read objects of others.

An object has an owner where one consumer reads it again and again and no other does. What many read again (posts,
products) has no owner. An endpoint whose objects mostly go to others than their first readers is public. The detector
counts the owners of a consumer's objects, without itself. A consumer that renews a token takes over the objects of one
owner, an enumeration those of many.

Whoever calls functions that few may call (administrators, support) reads objects of others at work. That is a notice,
and such reads make nobody an owner. Neither do reads of consumers that were reported.

Most objects have no owner on a given day, because their users do not come. A slow enumeration reads mostly such
objects, each once. So where a consumer reached two owners, objects that nobody had read count too, less those it comes
back to. The consumer must come back to few of what it reads, and go on for more than an hour, because people come back
to what is theirs. With one owner it takes more objects, spread over hours, and hardly any returns.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from collector.alerting.alert import AlertKind
from collector.detection.abuse.ceiling import Ceiling, Excess, Horizon
from collector.detection.abuse.columns import FadingSums, join, split
from collector.detection.abuse.contract import U64, Bools, Events, Finding, find
from collector.detection.abuse.rarity import Rarity
from collector.detection.framework.contract import F64, State
from collector.detection.framework.novelty import NoveltyBitmap
from collector.detection.framework.slots import Grouper, Slots, SlotTable, find_distinct, grow, list_distinct, mix
from collector.detection.framework.subject_index import Placed, Roster

# Who reads for others, as its days show, reads for more of them on some: counts as small as these vary.
PLAN = (
    Horizon(seconds=3_600, prior=4.5, floor=4.5, factor=3.0),
    Horizon(seconds=86_400, prior=4.5, floor=4.5, factor=3.0),
)
# Owners and objects that nobody had read, together, where there are two owners: fewer are a neighbour or a mistake.
WALK_PLAN = (Horizon(seconds=86_400, prior=8.5, floor=8.5, factor=3.0),)
_WALK_OWNERS = 1.5  # The first may have faded a little.
_WALK_RETURNS = 0.25  # Of what it counts, that it came back to at the most.
# One owner may be a relative, or oneself with another token: it takes more objects, over hours, and hardly ever to come
# back.
_ONE_OWNER, _ONE_OWNER_TOTAL, _ONE_OWNER_RETURNS, _ONE_OWNER_LATELY = 0.5, 10.5, 0.06, 0.35
_WALK_MOST = 240.0  # Past it a walk is an enumeration, which is told as such.
_WALK_LATELY = 0.6  # Of what it counts, in the last hour at the most: by then support shows to be let in where few are.
OBJECTS_MAX = 200_000
OWNS_MIN = 2  # Windows in which a consumer read an object that it owns.
PUBLIC_SHARE = (
    0.5  # Of an endpoint's reads, by others than the remembered readers: from there on its objects are for all.
)
_DAY_SECONDS, _HOUR_SECONDS = 86_400, 3_600
_HANDS = 2  # Readers that are remembered of an object.

Ints = NDArray[np.int64]


class OwnerDetector:
    """See the module."""

    name = "owners"

    def __init__(self, rarity: Rarity) -> None:
        self._rarity = rarity
        self._objects = SlotTable(OBJECTS_MAX)
        self._reader: U64 = np.zeros((_HANDS, 0), np.uint64)  # Key of a consumer; 0: nobody.
        self._reads: Ints = np.zeros((_HANDS, 0), np.int64)
        self._endpoint_reads = FadingSums((_DAY_SECONDS,))
        self._endpoint_strangers = FadingSums((_DAY_SECONDS,))
        self._owners = NoveltyBitmap()  # Owners whose objects a consumer read.
        self._ceiling = Ceiling(PLAN)
        self._walk = Ceiling(WALK_PLAN)
        self._by_consumer, self._capacity = Grouper(), 0  # Of consumers.
        self._paces = FadingSums((_DAY_SECONDS, _HOUR_SECONDS))  # Objects come back to, in a day; walked, in an hour.

    def take(self, events: Events, placed: Placed, roster: Roster, time: int) -> list[Finding]:
        """As the contract says."""
        self._make_room(placed, roster)
        rows, slots = self._place(events, placed, roster, time)
        if not len(rows):
            return []
        consumer = events.consumer[rows]
        may_own = ~(self._rarity.is_staff(consumer) | self._ceiling.is_told(consumer))
        read = self._read(slots, roster.consumers.table.keys[consumer], may_own)
        is_public = self._count_reads(events.endpoint[rows], may_own, read.is_stranger, placed, roster, time)
        is_foreign = (read.owner != 0) & ~is_public
        new = np.zeros(len(rows))
        new[is_foreign] = self._owners.count_novel(consumer[is_foreign], read.owner[is_foreign])
        excess = self._judge(consumer, new, np.where(is_public, 0.0, read.unread), read.is_return & ~is_public, time)
        pair_of = dict(zip(consumer.tolist(), events.pair[rows].tolist(), strict=True))
        pair_of |= dict(zip(consumer[is_foreign].tolist(), events.pair[rows[is_foreign]].tolist(), strict=True))
        return [
            finding
            for ceiling, part in zip((self._ceiling, self._walk), excess, strict=True)
            for finding in find(
                lambda _: AlertKind.BOLA,
                ceiling,
                part,
                lambda slot: roster.pairs.name(pair_of[slot]),
                events.consumer,
                events.calls,
                events.is_internal,
                is_notice=lambda slot: bool(self._rarity.is_staff(np.array([slot]))[0]),
            )
        ]

    def _make_room(self, placed: Placed, roster: Roster) -> None:
        capacity, evicted = roster.consumers.table.capacity, placed.evicted_consumers
        self._capacity = capacity
        for part in (self._ceiling, self._walk):
            part.grow(capacity, 0)
            part.forget(evicted)
        self._owners.grow(capacity)
        self._paces.grow(capacity)
        if len(evicted):
            self._owners.forget(evicted)
            self._paces.forget(evicted)

    def _judge(self, consumer: Slots, new: F64, unread: F64, is_return: Bools, time: int) -> tuple[Excess, Excess]:
        """By reads: owners that are `new` to the `consumer`, objects that nobody had read (-1: it came back to one),
        and whether it came back. Who reached many owners, and who else walks."""
        groups = self._by_consumer.group(consumer, self._capacity)
        who, owners, walked = groups.slots, groups.sum(new), groups.sum(new + unread)
        returns = groups.sum(is_return.astype(np.float64))
        returns, lately = self._paces.add(who, np.stack([returns, walked]), time)
        to_some = who[owners > 0]
        many = self._ceiling.add(to_some, owners[owners > 0], np.full(len(to_some), -1, np.int64), time)
        total = self._walk.sums_over(0, who, time) + walked
        reached = self._ceiling.sums_over(-1, who, time)
        is_walker = (reached >= _WALK_OWNERS) & (returns <= _WALK_RETURNS * total)
        has_one = (reached >= _ONE_OWNER) & (total >= _ONE_OWNER_TOTAL) & (lately <= _ONE_OWNER_LATELY * total)
        is_walker |= has_one & (returns <= _ONE_OWNER_RETURNS * total)
        is_walker &= ~self._ceiling.is_told(who) & (lately <= _WALK_LATELY * total) & (total <= _WALK_MOST)
        moved = (walked != 0).nonzero()[0]
        none = np.full(len(moved), -1, np.int64)
        return many, self._walk.add(who[moved], walked[moved], none, time, lambda some: is_walker[moved[some]])

    def expect(self, kind: AlertKind, endpoint_id: str, consumer: str, roster: Roster) -> bool:
        """As the contract says."""
        if kind is not AlertKind.BOLA:
            return False
        slot = roster.consumers.find("", consumer)
        return self._ceiling.expect(slot) and self._walk.expect(slot)

    def project(self, roster: Roster, time: int) -> None:
        """As the contract says; nobody does this by trade."""

    def dump(self) -> State:
        """State for a checkpoint."""
        hands: State = {"reader": self._reader, "reads": self._reads}
        parts = {"objects": self._objects.dump(), "hands": hands}
        parts |= {"reads": self._endpoint_reads.dump(), "strangers": self._endpoint_strangers.dump()}
        parts |= {"walk": self._walk.dump(), "paces": self._paces.dump()}
        return join({**parts, "owners": self._owners.dump(), "own": self._ceiling.dump()})

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        parts = split(state)
        self._objects.load(parts["objects"])
        self._reader = parts["hands"]["reader"].astype(np.uint64)
        self._reads = parts["hands"]["reads"].astype(np.int64)
        self._endpoint_reads.load(parts["reads"])
        self._endpoint_strangers.load(parts["strangers"])
        self._owners.load(parts["owners"])
        self._ceiling.load(parts["own"])
        if "walk" in parts:  # Older states have none.
            self._walk.load(parts["walk"])
            self._paces.load(parts["paces"])

    def _place(self, events: Events, placed: Placed, roster: Roster, time: int) -> tuple[Slots, Slots]:
        """Row and object slot of each object that was served to somebody known, one a consumer and object."""
        is_served = (events.status >= 200) & (events.status < 300) & ~events.is_writing
        is_served &= (events.consumer >= 0) & ~events.is_anonymous
        row, hashes = placed.objects.row, placed.objects.hashes
        kept = is_served[row].nonzero()[0]
        if not len(kept):
            return kept, kept
        row, hashes = row[kept], hashes[kept]
        key = mix(roster.endpoints.table.keys[events.endpoint[row]], hashes)
        # A row has an object once, several rows of a pair may have the same.
        again = placed.by_pair.list_repeated()
        if len(again):
            is_again = np.zeros(len(events.rows), np.bool_)
            is_again[again] = True
            again = is_again[row].nonzero()[0]
            _, first, _ = find_distinct(mix(events.pair[row[again]].astype(np.uint64), hashes[again]))
            kept = np.ones(len(row), np.bool_)
            kept[again] = False
            kept[again[first]] = True
            row, key = row[kept], key[kept]
        if len(key) > OBJECTS_MAX and len(list_distinct(key)) > OBJECTS_MAX:
            return row[:0], row[:0]
        touched = self._objects.touch(key, time)
        self._reader = grow(self._reader, self._objects.capacity)
        self._reads = grow(self._reads, self._objects.capacity)
        if len(touched.emptied):
            self._reader[:, touched.emptied] = 0
            self._reads[:, touched.emptied] = 0
        return row, touched.slots

    def _count_reads(
        self, endpoints: Slots, may_own: Bools, is_stranger: Bools, placed: Placed, roster: Roster, time: int
    ) -> Bools:
        """Whether the endpoint of each read is public, by the reads of those who may own."""
        for sums in (self._endpoint_reads, self._endpoint_strangers):
            sums.grow(roster.endpoints.table.capacity)
            sums.forget(placed.evicted_endpoints)
        distinct, _, inverse = find_distinct(endpoints)
        count = np.bincount(inverse, may_own, len(distinct))
        reads = self._endpoint_reads.add(distinct, count, time)[0]
        count = np.bincount(inverse, is_stranger & may_own, len(distinct))
        strangers = self._endpoint_strangers.add(distinct, count, time)[0]
        public: Bools = ((strangers > 0) & (strangers >= PUBLIC_SHARE * reads))[inverse]
        return public

    def _read(self, slots: Slots, reader: U64, may_own: Bools) -> "_Read":
        """Count that each `reader` read the object in its slot; who may not own is not remembered."""
        is_first, is_second = self._reader[0, slots] == reader, self._reader[1, slots] == reader
        owns = self._reads.take(slots, axis=1) >= OWNS_MIN
        one = owns.sum(axis=0) == 1
        hand = owns.argmax(axis=0)
        is_known = is_first | is_second
        owner = np.where(one & ~is_known, self._reader[hand, slots], np.uint64(0))
        # A reader that is not remembered takes the place of the one that read less, and begins anew.
        is_stranger = ~is_known & (self._reader[0, slots] != 0)
        weaker = np.where(self._reads[0, slots] <= self._reads[1, slots], 0, 1)
        place = np.where(is_first, 0, np.where(is_second, 1, weaker))
        is_back = is_known & (self._reads[place, slots] == 1)
        unread = np.where(is_back, -1.0, np.where(~is_known & ~self._reader[:, slots].any(axis=0) & may_own, 1.0, 0.0))
        may_enter = (is_known | (self._reads[weaker, slots] < OWNS_MIN)) & may_own
        at = place[may_enter], slots[may_enter]
        self._reads[at] = np.where(is_known[may_enter], self._reads[at], 0) + 1
        self._reader[at] = reader[may_enter]
        return _Read(owner=owner, is_stranger=is_stranger, unread=unread, is_return=is_known)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """n reads of objects."""

    owner: U64  # Of the object, where it is another than the reader, who had not read it before; else 0.
    is_stranger: Bools  # Others had read it, and this one had not.
    unread: F64  # 1: nobody had; -1: the reader comes back to such a one for the first time.
    is_return: Bools  # The reader comes back.
