"""Finds endpoints that hardly anybody calls, and staff: consumers that are let in there, such as administrators and
support.

Pairs of consumer and endpoint are counted. Nothing is rare before there are some consumers, because with three of them
everything is. Where most call from outside, consumers who only ever call from inside are staff too: support reads data
of others at work.

`PairCalls` counts the recent calls of each pair, which several detectors use as a weight.
"""

import numpy as np
from numpy.typing import NDArray

from collector.detection.abuse.columns import FadingSums
from collector.detection.abuse.contract import Bools, Events
from collector.detection.framework.contract import F64, State
from collector.detection.framework.slots import Slots, grow
from collector.detection.framework.subject_index import Placed, Roster

CONSUMERS_MIN = 20
RARE_SHARE = 0.03  # Of all consumers.
RARE_MIN = 6  # So many consumers are few in any case.
_REFRESH_SECONDS = 30


class Rarity:
    """See the module. `take` before anything is asked about a batch."""

    def __init__(self) -> None:
        self._is_rare: Bools = np.zeros(0, np.bool_)  # By endpoint slot.
        self._is_staff: NDArray[np.bool_] = np.zeros(0, np.bool_)  # By consumer slot.
        self._is_external: Bools = np.zeros(0, np.bool_)  # By consumer slot: has called from outside.
        self._is_public = False  # Most consumers have.
        self._refreshed_at = 0
        self._peers: Slots | None = None

    def take(self, events: Events, placed: Placed, roster: Roster, time: int) -> None:
        """Learn who is let in where few are."""
        self._peers = None
        self._is_staff = grow(self._is_staff, roster.consumers.table.capacity)
        self._is_staff[placed.evicted_consumers] = False
        self._is_external = grow(self._is_external, roster.consumers.table.capacity)
        self._is_external[placed.evicted_consumers] = False
        self._is_external[events.consumer[(events.consumer >= 0) & ~events.is_internal]] = True
        endpoints = roster.endpoints.table
        if time >= self._refreshed_at + _REFRESH_SECONDS or len(self._is_rare) < endpoints.capacity:
            self._refreshed_at = time
            pairs = roster.pair_endpoint[roster.pairs.table.live()]
            count = np.bincount(pairs[pairs >= 0], minlength=endpoints.capacity)
            consumers = len(roster.consumers.table)
            self._is_public = 2 * int(self._is_external[roster.consumers.table.live()].sum()) > consumers
            self._is_rare = (count <= max(RARE_MIN, RARE_SHARE * consumers)) & (consumers >= CONSUMERS_MIN)
        let_in = (events.consumer >= 0) & ~events.is_anonymous & (events.status >= 200) & (events.status < 300)
        self._is_staff[events.consumer[let_in & self._is_rare[events.endpoint]]] = True

    @property
    def is_public(self) -> bool:
        """Whether most consumers have called from outside."""
        return self._is_public

    def is_rare(self, endpoints: Slots) -> Bools:
        """Whether few call `endpoints`."""
        rare: Bools = self._is_rare[endpoints]
        return rare

    def is_staff(self, consumers: Slots) -> Bools:
        """Whether `consumers` were let in where few are, or call from inside where most do not."""
        staff: Bools = self._is_staff[consumers] | self.is_inside(consumers)
        return staff

    def is_inside(self, consumers: Slots) -> Bools:
        """Whether `consumers` only ever call from inside where most call from outside."""
        inside: Bools = self._is_public & ~self._is_external[consumers]
        return inside

    def list_peers(self, roster: Roster) -> Slots:
        """Pairs that say what is common at an endpoint: a job that calls from inside is no peer of people outside. Of a
        batch they are found once."""
        if self._peers is not None:
            return self._peers
        pairs = roster.pairs.table.live()
        consumers = roster.pair_consumer[pairs]
        self._peers = pairs[(consumers >= 0) & ~self.is_inside(consumers)]
        return self._peers

    def is_external(self, consumer: int) -> bool:
        """Whether the consumer in this slot (-1: none) has called from outside."""
        return 0 <= consumer < len(self._is_external) and bool(self._is_external[consumer])

    def dump(self) -> State:
        """State for a checkpoint."""
        clock = np.array([self._refreshed_at, self._is_public])
        return {"staff": self._is_staff, "external": self._is_external, "rare": self._is_rare, "clock": clock}

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        self._is_staff = state["staff"].astype(np.bool_)
        self._is_external, self._is_rare = state["external"].astype(np.bool_), state["rare"].astype(np.bool_)
        self._refreshed_at, public = (int(value) for value in state["clock"])
        self._is_public = bool(public)


HORIZONS = (60, 600, 3_600, 86_400, 604_800)  # Seconds.


class PairCalls:
    """Fading sums by pair slot. `take` before anything is asked about a batch."""

    def __init__(self) -> None:
        self._sums = FadingSums(HORIZONS)
        self.made: F64 = np.zeros(0)  # Calls of the batch's pairs, in the order of `placed.by_pair`;
        self.touched: F64 = np.zeros((len(HORIZONS), 0))  # their sums.

    def take(self, events: Events, placed: Placed, roster: Roster, time: int) -> None:
        """Count the rows of a batch."""
        self._sums.grow(roster.pairs.table.capacity)
        self._sums.forget(placed.evicted_pairs)
        self.made = placed.by_pair.sum(events.calls)
        self.touched = self._sums.add(placed.by_pair.slots, self.made, time)

    def read(self, pairs: Slots, time: int) -> F64:
        """Sums of `pairs` at `time`, a row a horizon."""
        return self._sums.read(pairs, time)

    def read_one(self, which: int, pairs: Slots, time: int) -> F64:
        """The same over one of HORIZONS, by its index."""
        return self._sums.read_one(which, pairs, time)

    def dump(self) -> State:
        """State for a checkpoint."""
        return self._sums.dump()

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        self._sums.load(state)
