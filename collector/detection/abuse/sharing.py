"""Finds groups of consumers that share objects: colleagues of one tenant, a family, one person with two devices.

Two consumers share where each of them read what the other had read before, several objects in all, and these are a part
of what either came to after others. So an attacker shares with nobody: its victims do not come to what it took. Neither
does a partner that reads what all have, because each of them is a small part of that. Who shares with one of a group is
of the group.
"""

import numpy as np
from numpy.typing import NDArray

from collector.detection.framework.distinct import mix
from collector.detection.framework.slots import SlotTable
from collector.detection.framework.state import U64, Bools, DetectorState, Slots, column

PAIRS_MAX = 100_000  # Of consumers, 6 MB; who shared least recently is forgotten.
# Objects that both read, of a pair that shares. An owner comes by chance to one that an attacker read before it.
SHARED_MIN = 5
SHARED_PART = 0.04  # The same, of all objects that each came to after others.
MEMBERS_MAX = 500  # Of a group. What more share is public.
MERGES_MAX = 64  # Of one batch, each takes a look at all consumers; others are found at their next object.


class _Pairs(DetectorState):
    """By pair of consumers."""

    came = column(np.int32, 2)  # Objects of the other that the one with the lower key came to, and the reverse.


class SharingGroups(DetectorState):
    """By consumer slot: its group, and how many objects it came to after others."""

    parts = ("_table", "_pairs")
    _group = column(np.uint64)  # 0: it is alone.
    _came_count = column(np.int64)

    def __init__(self, consumers: SlotTable) -> None:
        super().__init__()
        self._consumers = consumers
        self._table, self._pairs = SlotTable(PAIRS_MAX), _Pairs()
        self._table.follow(self._pairs)
        consumers.follow(self)

    def find(self, keys: U64) -> U64:
        """The group of each consumer by its key: its own key where it is alone, and 0 for 0."""
        groups = keys.copy()
        slots = self._consumers.find_keys(keys)
        known = (slots >= 0).nonzero()[0]
        own = self._group.take(slots[known])
        grouped = known[own > 0]
        groups[grouped] = own[own > 0]
        return groups

    def is_member(self, slots: Slots) -> Bools:
        """Whether these consumers are of a group."""
        is_member: Bools = self._group.take(slots) > 0
        return is_member

    def list_members(self, slots: Slots, group: int) -> Bools:
        """Whether each of these consumers is of one group."""
        is_member: Bools = self._group.take(slots) == np.uint64(group)
        return is_member

    def share(self, slots: Slots, earlier: U64, time: int) -> list[tuple[int, int]]:
        """Count that the consumers in n `slots` read objects that were new to them, which others had read `earlier`
        (keys, 2 x n; 0: nobody). Gives the groups that became one: the old one, and the one it is in now."""
        np.add.at(self._came_count, slots, 1)
        reader = np.tile(self._consumers.keys[slots], 2)
        other = earlier.ravel()
        kept = ((other != 0) & (other != reader)).nonzero()[0]
        reader, other = reader[kept], other[kept]
        if not len(reader) or len(reader) > PAIRS_MAX:
            return []
        pairs = self._table.touch(mix(np.minimum(reader, other), np.maximum(reader, other)), time).slots
        np.add.at(self._pairs.came, ((reader > other).astype(np.int64), pairs), 1)
        own, theirs = self._consumers.find_keys(reader), self._consumers.find_keys(other)
        came, least = self._pairs.came.take(pairs, axis=1), np.maximum(self._came_count[own], self._came_count[theirs])
        shares = (
            (theirs >= 0) & (came.min(axis=0) > 0) & (came.sum(axis=0) >= np.maximum(SHARED_MIN, SHARED_PART * least))
        )
        groups, their_groups = self.find(reader), self.find(other)
        shares &= groups != their_groups
        merged: list[tuple[int, int]] = []
        for place in shares.nonzero()[0][:MERGES_MAX].tolist():
            merged += self._merge(int(own[place]), int(theirs[place]))
        return merged

    def _merge(self, one: int, other: int) -> list[tuple[int, int]]:
        """Two consumers are of one group from now on, with all of theirs."""
        new, old = self.find(self._consumers.keys[[one, other]]).tolist()
        members = self._find_members(new, one), self._find_members(old, other)
        if new == old or sum(map(len, members)) > MEMBERS_MAX:
            return []
        self._group[np.concatenate(members)] = new
        return [(old, new)]

    def _find_members(self, group: int, slot: int) -> NDArray[np.int64]:
        members: NDArray[np.int64] = (self._group == np.uint64(group)).nonzero()[0]
        return members if len(members) else np.array([slot])
