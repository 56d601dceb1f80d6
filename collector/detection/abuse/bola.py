"""Detects BOLA (OWASP API1:2023), slow and fast: consumers that read objects of others.

An object has an owner where one consumer reads it again and again and no other does. What many read again (posts,
products) has no owner. An endpoint whose objects mostly go to others than their first readers is public. The detector
counts the owners of a consumer's objects, without itself. A consumer that renews a token takes over the objects of one
owner, an enumeration those of many.

Colleagues share what their firm has. Where groups share an endpoint's objects (sharing.py), what one of a group has is
the group's: a group is one owner, and its members read nothing of others there. Nor is an object that nobody had read a
sign of anything, because it may be the group's. What was counted of two owners before they showed to be one group is
taken back.

Whoever calls functions that few may call (administrators, support) reads objects of others at work. That is a notice,
and such reads make nobody an owner. Neither do reads of consumers that were reported.

Most objects have no owner on a given day, because their users do not come. A slow enumeration reads mostly such
objects, each once. So where a consumer reached two owners, objects that nobody had read count too, less those it comes
back to. The consumer must come back to few of what it reads, and go on for more than an hour, because people come back
to what is theirs. With one owner it takes more objects, spread over hours, and hardly any returns.
"""

from dataclasses import dataclass

import numpy as np

from collector.alerting.alert import AlertKind
from collector.detection.abuse.ceiling import Ceiling, Excess, Horizon
from collector.detection.abuse.detector import AbuseDetector, Finding, Rarity, make_findings
from collector.detection.abuse.sharing import SharingGroups
from collector.detection.abuse.sums import FadingSums
from collector.detection.framework.distinct import Grouper, find_distinct, list_distinct, mix
from collector.detection.framework.loss import Losses
from collector.detection.framework.novelty import NoveltyBitmap
from collector.detection.framework.rows import Events
from collector.detection.framework.slots import SlotTable
from collector.detection.framework.state import F64, U64, Bools, DetectorState, Slots, column
from collector.detection.framework.subject_index import SubjectIndex

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
_WALK_MOST = 240.0  # Past it a walk is an enumeration, which is reported as such.
_WALK_LATELY = 0.6  # Of what it counts, in the last hour at the most: by then support shows to be let in where few are.
OBJECTS_MAX = 200_000
OWNS_MIN = 2  # Windows in which a consumer read an object that it owns.
PUBLIC_SHARE = (
    0.5  # Of an endpoint's reads, by others than the remembered readers: from there on its objects are for all.
)
SHARING_SHARE = 0.05  # The same, by others of the readers' groups: from there on objects are those of groups.
_DAY_SECONDS, _HOUR_SECONDS = 86_400, 3_600
_HANDS = 2  # Readers that are remembered of an object.


class _Readers(DetectorState):
    """By object."""

    key = column(np.uint64, _HANDS)  # Of a consumer; 0: nobody.
    reads = column(np.int64, _HANDS)


class BolaDetector(AbuseDetector):
    """Owners of the objects that a consumer read, and objects that nobody had read, each against a ceiling."""

    name = "abuse.bola"
    kinds = frozenset({AlertKind.BOLA})
    parts = (
        *("_objects", "_readers", "_endpoint_reads", "_endpoint_strangers"),
        *("_owners", "_sharing", "_endpoint_shared", "_ceiling", "_walk", "_paces"),
    )

    def __init__(self, subjects: SubjectIndex, losses: Losses, rarity: Rarity) -> None:
        super().__init__(subjects, losses, rarity)
        self._objects, self._readers = SlotTable(OBJECTS_MAX), _Readers()
        self._objects.follow(self._readers)
        self._endpoint_reads, self._endpoint_strangers = FadingSums(_DAY_SECONDS), FadingSums(_DAY_SECONDS)
        subjects.endpoints.follow(self._endpoint_reads, self._endpoint_strangers)
        self._endpoint_shared = FadingSums(_DAY_SECONDS)
        subjects.endpoints.follow(self._endpoint_shared)
        self._owners = NoveltyBitmap()  # Owners whose objects a consumer read, by their groups.
        self._paces = FadingSums(_DAY_SECONDS, _HOUR_SECONDS)  # Objects come back to, in a day; walked, in an hour.
        subjects.consumers.follow(self._owners, self._paces)
        self._sharing = SharingGroups(subjects.consumers)
        self._ceiling = Ceiling(PLAN, subjects.consumers, has_peers=False)
        self._walk = Ceiling(WALK_PLAN, subjects.consumers, has_peers=False)
        self._by_consumer = Grouper()

    def find(self, events: Events) -> list[Finding]:
        rows, slots = self._place(events)
        if not len(rows):
            return []
        consumer, time = events.consumer[rows], events.time
        may_own = ~(self._rarity.is_staff(consumer) | self._ceiling.is_reported(consumer))
        reader, endpoint = self._subjects.consumers.keys[consumer], events.endpoint[rows]
        self._share(consumer, endpoint, slots, may_own, time)
        is_sharing = self._is_sharing(endpoint, time)
        read = self._read(slots, reader, may_own, is_sharing)
        is_public = self._count_reads(endpoint, may_own, read, time)
        is_foreign = (read.owner != 0) & ~is_public
        new = np.zeros(len(rows))
        new[is_foreign] = self._owners.count_novel(consumer[is_foreign], read.owner[is_foreign])
        unread = np.where(is_public | is_sharing, 0.0, read.unread)
        excess = self._judge(consumer, new, unread, read.is_return & ~is_public, time)
        pair_of = dict(zip(consumer.tolist(), events.pair[rows].tolist(), strict=True))
        pair_of |= dict(zip(consumer[is_foreign].tolist(), events.pair[rows[is_foreign]].tolist(), strict=True))
        return [
            finding
            for part in excess
            for finding in make_findings(
                AlertKind.BOLA,
                part,
                lambda slot: self._subjects.pairs.name(pair_of[slot]),
                events,
                events.consumer,
                is_notice=lambda slot: bool(self._rarity.is_staff(np.array([slot]))[0]),
            )
        ]

    def _judge(self, consumer: Slots, new: F64, unread: F64, is_return: Bools, time: int) -> tuple[Excess, Excess]:
        """By reads: owners that are `new` to the `consumer`, objects that nobody had read (-1: it came back to one),
        and whether it came back. Who reached many owners, and who else walks."""
        groups = self._by_consumer.group(consumer, self._subjects.consumers.capacity)
        who, owners, walked = groups.slots, groups.sum(new), groups.sum(new + unread)
        returns = groups.sum(is_return.astype(np.float64))
        returns, lately = self._paces.add(who, np.stack([returns, walked]), time)
        to_some = who[owners > 0]
        many = self._ceiling.add(to_some, owners[owners > 0], time)
        total = self._walk.sums_over(0, who, time) + walked
        reached = self._ceiling.sums_over(-1, who, time)
        is_walker = (reached >= _WALK_OWNERS) & (returns <= _WALK_RETURNS * total)
        has_one = (reached >= _ONE_OWNER) & (total >= _ONE_OWNER_TOTAL) & (lately <= _ONE_OWNER_LATELY * total)
        is_walker |= has_one & (returns <= _ONE_OWNER_RETURNS * total)
        is_walker &= ~self._sharing.is_member(who)
        is_walker &= ~self._ceiling.is_reported(who) & (lately <= _WALK_LATELY * total) & (total <= _WALK_MOST)
        moved = (walked != 0).nonzero()[0]
        walkers = self._walk.add(who[moved], walked[moved], time, may_report=lambda some: is_walker[moved[some]])
        return many, walkers

    def _place(self, events: Events) -> tuple[Slots, Slots]:
        """Row and object slot of each object that was served to somebody known, one a consumer and object."""
        is_served = events.is_success & ~events.is_writing
        is_served &= (events.consumer >= 0) & ~events.is_anonymous
        row, hashes = events.objects.row, events.objects.hashes
        kept = is_served[row].nonzero()[0]
        if not len(kept):
            return kept, kept
        row, hashes = row[kept], hashes[kept]
        key = mix(self._subjects.endpoints.keys[events.endpoint[row]], hashes)
        # A row has an object once, several rows of a pair may have the same.
        again = events.by_pair.list_repeated()
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
        return row, self._objects.touch(key, events.time).slots

    def _share(self, consumer: Slots, endpoint: Slots, slots: Slots, may_own: Bools, time: int) -> None:
        """Find groups by what others had read before these; what was counted of two owners who are one is taken
        back."""
        keys = self._readers.key.take(slots, axis=1)
        is_new = may_own & (keys[0] != 0) & ~(keys == self._subjects.consumers.keys[consumer]).any(axis=0)
        is_new &= ~self._is_public(endpoint, time)
        for old, new in self._sharing.share(consumer[is_new], keys[:, is_new], time):
            live = self._subjects.consumers.live()
            reached = np.stack([self._owners.take_out(live, group) for group in (old, new)]).sum(axis=0)
            is_other = (reached > 0) & ~self._sharing.list_members(live, new)
            self._owners.count_novel(live[is_other], np.full(np.count_nonzero(is_other), new, np.uint64))
            excess = reached - is_other
            some = live[excess > 0]
            for ceiling in (self._ceiling, self._walk):
                ceiling.add(some, -excess[excess > 0].astype(np.float64), time)

    def _is_public(self, endpoint: Slots, time: int) -> Bools:
        """Whether most reads of each endpoint were by others than those who had read the object, and share nothing."""
        strangers = self._endpoint_strangers.read_one(0, endpoint, time)
        return (strangers > 0) & (strangers >= PUBLIC_SHARE * self._endpoint_reads.read_one(0, endpoint, time))

    def _is_sharing(self, endpoint: Slots, time: int) -> Bools:
        """Whether groups share the objects of each endpoint."""
        shared = self._endpoint_shared.read_one(0, endpoint, time)
        others = shared + self._endpoint_strangers.read_one(0, endpoint, time)
        return (shared > 0) & (shared >= SHARING_SHARE * others)

    def _count_reads(self, endpoints: Slots, may_own: Bools, read: "_Read", time: int) -> Bools:
        """Whether the endpoint of each read is public, by the reads of those who may own."""
        distinct, _, inverse = find_distinct(endpoints)
        for sums, is_counted in (
            (self._endpoint_reads, may_own),
            (self._endpoint_strangers, read.is_stranger & may_own),
            (self._endpoint_shared, read.is_shared & may_own),
        ):
            sums.add(distinct, np.bincount(inverse, is_counted, len(distinct)).astype(np.float64), time)
        return self._is_public(endpoints, time)

    def _read(self, slots: Slots, reader: U64, may_own: Bools, is_sharing: Bools) -> "_Read":
        """Count that each `reader` read the object in its slot; who may not own is not remembered. `is_sharing`: what
        one of a group has is the group's."""
        is_first, is_second = self._readers.key[0, slots] == reader, self._readers.key[1, slots] == reader
        keys = self._readers.key.take(slots, axis=1)
        owns = self._readers.reads.take(slots, axis=1) >= OWNS_MIN
        is_known = is_first | is_second
        groups, own = self._sharing.find(keys.ravel()).reshape(keys.shape), self._sharing.find(reader)
        is_mate = ~is_known & (groups == own).any(axis=0)
        is_owned = owns.sum(axis=0) == 1
        is_of_group = is_sharing & (keys[1] != 0) & (groups[0] == groups[1])
        owner = np.where(is_owned, np.where(is_sharing, groups, keys)[owns.argmax(axis=0), np.arange(len(slots))], 0)
        owner = np.where(is_of_group, groups[0], owner)
        owner[is_known | (is_sharing & is_mate)] = 0
        # A reader that is not remembered takes the place of the one that read less, and begins anew.
        is_stranger = ~is_known & (keys[0] != 0) & ~is_mate
        weaker = np.where(self._readers.reads[0, slots] <= self._readers.reads[1, slots], 0, 1)
        place = np.where(is_first, 0, np.where(is_second, 1, weaker))
        is_back = is_known & (self._readers.reads[place, slots] == 1)
        unread = np.where(
            is_back, -1.0, np.where(~is_known & ~self._readers.key[:, slots].any(axis=0) & may_own, 1.0, 0.0)
        )
        may_enter = (is_known | (self._readers.reads[weaker, slots] < OWNS_MIN)) & may_own
        at = place[may_enter], slots[may_enter]
        self._readers.reads[at] = np.where(is_known[may_enter], self._readers.reads[at], 0) + 1
        self._readers.key[at] = reader[may_enter]
        return _Read(owner=owner, is_stranger=is_stranger, is_shared=is_mate, unread=unread, is_return=is_known)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """n reads of objects."""

    owner: U64  # Of the object, where it is another than the reader, who had not read it before; else 0.
    is_stranger: Bools  # Others had read it, and this one had not.
    is_shared: Bools  # One of its group had, and this one had not.
    unread: F64  # 1: nobody had; -1: the reader comes back to such a one for the first time.
    is_return: Bools  # The reader comes back.
