"""Who reads objects of others: broken object level authorization (OWASP API1:2023), slow and fast.

An object has an owner where one consumer reads it again and again and no other does. Counted are the owners, of a
consumer's objects, that are not itself: who renews a token takes over the objects of one, who walks through an API
reads those of many. What many read again (posts, products) has no owner, and an endpoint whose objects mostly go to
others than their first readers is public. Whoever is let into functions that few are (administrators, support) reads
others' objects for a living: that is a notice.
"""

import numpy as np
from numpy.typing import NDArray

from collector.alerts.alert import AlertKind
from collector.anomaly.abuse.ceiling import Ceiling, Horizon
from collector.anomaly.abuse.contract import Finding
from collector.anomaly.abuse.events import U64, Bools, Events
from collector.anomaly.abuse.fading import FadingSums
from collector.anomaly.abuse.rarity import Rarity
from collector.anomaly.abuse.state import join, split
from collector.anomaly.abuse.sums import find, sum_by_slot
from collector.anomaly.detectors.contract import State
from collector.anomaly.distinct import find_distinct, list_distinct
from collector.anomaly.novelty import NoveltyBitmap
from collector.anomaly.roster import Placed, Roster
from collector.anomaly.slots import Slots, SlotTable, grow, mix

# Who reads for others, as its days show, reads for more of them on some: counts as small as these vary.
PLAN = (
    Horizon(seconds=3_600, prior=4.5, floor=4.5, factor=3.0),
    Horizon(seconds=86_400, prior=4.5, floor=4.5, factor=3.0),
)
OBJECTS_MAX = 200_000
OWNS_MIN = 2  # Windows in which a consumer read an object that it owns.
PUBLIC_SHARE = (
    0.5  # Of an endpoint's reads, by others than the remembered readers: from there on its objects are for all.
)
_DAY_SECONDS = 86_400
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

    def take(self, events: Events, placed: Placed, roster: Roster, time: int) -> list[Finding]:
        """As the contract says."""
        consumers = roster.consumers.table
        self._ceiling.grow(consumers.capacity, 0)
        self._owners.grow(consumers.capacity)
        self._ceiling.forget(placed.evicted_consumers)
        if len(placed.evicted_consumers):
            self._owners.forget(placed.evicted_consumers)
        rows, slots = self._place(events, placed, roster, time)
        if not len(rows):
            return []
        consumer = events.consumer[rows]
        owner, is_stranger = self._read(slots, consumers.keys[consumer])
        is_public = self._count_reads(events.endpoint[rows], is_stranger, placed, roster, time)
        is_foreign = (owner != 0) & ~is_public
        new = self._owners.count_novel(consumer[is_foreign], owner[is_foreign])
        who, amounts = sum_by_slot(consumer[is_foreign], new.astype(np.float64))
        who, amounts = who[amounts > 0], amounts[amounts > 0]
        excess = self._ceiling.add(who, amounts, np.full(len(who), -1, np.int64), time)
        pair_of = dict(zip(consumer[is_foreign].tolist(), events.pair[rows[is_foreign]].tolist(), strict=True))
        return find(
            lambda _: AlertKind.OBJECT_PROBING,
            self._ceiling,
            excess,
            lambda slot: roster.pairs.name(pair_of[slot]),
            events.consumer,
            events.calls,
            events.is_internal,
            is_notice=lambda slot: bool(self._rarity.is_staff(np.array([slot]))[0]),
        )

    def expect(self, kind: AlertKind, endpoint_id: str, consumer: str, roster: Roster) -> bool:
        """As the contract says."""
        return kind is AlertKind.OBJECT_PROBING and self._ceiling.expect(roster.consumers.find("", consumer))

    def project(self, roster: Roster, time: int) -> None:
        """As the contract says; nobody does this by trade."""

    def dump(self) -> State:
        """State for a checkpoint."""
        hands: State = {"reader": self._reader, "reads": self._reads}
        parts = {"objects": self._objects.dump(), "hands": hands}
        parts |= {"reads": self._endpoint_reads.dump(), "strangers": self._endpoint_strangers.dump()}
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
        _, first, _ = find_distinct(mix(roster.consumers.table.keys[events.consumer[row]], key))
        if len(first) < len(row):
            first.sort()
            row, key = row[first], key[first]
        if len(key) > OBJECTS_MAX and len(list_distinct(key)) > OBJECTS_MAX:
            return row[:0], row[:0]
        touched = self._objects.touch(key, time)
        self._reader = grow(self._reader, self._objects.capacity)
        self._reads = grow(self._reads, self._objects.capacity)
        if len(touched.emptied):
            self._reader[:, touched.emptied] = 0
            self._reads[:, touched.emptied] = 0
        return row, touched.slots

    def _count_reads(self, endpoints: Slots, is_stranger: Bools, placed: Placed, roster: Roster, time: int) -> Bools:
        """Whether the endpoint of each read is public."""
        for sums in (self._endpoint_reads, self._endpoint_strangers):
            sums.grow(roster.endpoints.table.capacity)
            sums.forget(placed.evicted_endpoints)
        distinct, _, inverse = find_distinct(endpoints)
        count = np.bincount(inverse, minlength=len(distinct)).astype(np.float64)
        reads = self._endpoint_reads.add(distinct, count, time)[0]
        count = np.bincount(inverse, is_stranger, len(distinct))
        strangers = self._endpoint_strangers.add(distinct, count, time)[0]
        public: Bools = (strangers >= PUBLIC_SHARE * reads)[inverse]
        return public

    def _read(self, slots: Slots, reader: U64) -> tuple[U64, Bools]:
        """Count that each `reader` read the object in its slot. Gives its owner where that is another and the reader
        had not read it before, else 0; and whether others had read it, and this one had not."""
        is_first, is_second = self._reader[0, slots] == reader, self._reader[1, slots] == reader
        owns = self._reads.take(slots, axis=1) >= OWNS_MIN
        one = owns.sum(axis=0) == 1
        hand = owns.argmax(axis=0)
        owner = np.where(one & ~is_first & ~is_second, self._reader[hand, slots], np.uint64(0))
        # A reader that is not remembered takes the place of the one that read less, and begins anew.
        is_stranger = ~(is_first | is_second) & (self._reader[0, slots] != 0)
        weaker = np.where(self._reads[0, slots] <= self._reads[1, slots], 0, 1)
        place = np.where(is_first, 0, np.where(is_second, 1, weaker))
        is_known = is_first | is_second
        may_enter = is_known | (self._reads[weaker, slots] < OWNS_MIN)
        at = place[may_enter], slots[may_enter]
        self._reads[at] = np.where(is_known[may_enter], self._reads[at], 0) + 1
        self._reader[at] = reader[may_enter]
        return owner, is_stranger
