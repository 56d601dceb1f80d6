"""Which endpoints are functions that hardly anybody calls, and who calls them with success: administrators, support.

Counted by the pairs that the roster holds. Nothing is rare before there are some consumers: where there are three,
everything is.
"""

import numpy as np
from numpy.typing import NDArray

from collector.anomaly.abuse.events import Bools, Events
from collector.anomaly.detectors.contract import State
from collector.anomaly.roster import Placed, Roster
from collector.anomaly.slots import Slots, grow

CONSUMERS_MIN = 20
RARE_SHARE = 0.03  # Of all consumers.
RARE_MIN = 6  # So many consumers are few in any case.
_REFRESH_SECONDS = 30


class Rarity:
    """See the module. `take` before anything is asked about a batch."""

    def __init__(self) -> None:
        self._is_rare: Bools = np.zeros(0, np.bool_)  # By endpoint slot.
        self._is_staff: NDArray[np.bool_] = np.zeros(0, np.bool_)  # By consumer slot.
        self._refreshed_at = 0

    def take(self, events: Events, placed: Placed, roster: Roster, time: int) -> None:
        """Learn who is let in where few are."""
        self._is_staff = grow(self._is_staff, roster.consumers.table.capacity)
        self._is_staff[placed.evicted_consumers] = False
        endpoints = roster.endpoints.table
        if time >= self._refreshed_at + _REFRESH_SECONDS or len(self._is_rare) < endpoints.capacity:
            self._refreshed_at = time
            pairs = roster.pair_endpoint[roster.pairs.table.live()]
            count = np.bincount(pairs[pairs >= 0], minlength=endpoints.capacity)
            consumers = len(roster.consumers.table)
            self._is_rare = (count <= max(RARE_MIN, RARE_SHARE * consumers)) & (consumers >= CONSUMERS_MIN)
        let_in = (events.consumer >= 0) & ~events.is_anonymous & (events.status >= 200) & (events.status < 300)
        self._is_staff[events.consumer[let_in & self._is_rare[events.endpoint]]] = True

    def is_rare(self, endpoints: Slots) -> Bools:
        """Whether few call `endpoints`."""
        rare: Bools = self._is_rare[endpoints]
        return rare

    def is_staff(self, consumers: Slots) -> Bools:
        """Whether `consumers` were let in where few are."""
        staff: Bools = self._is_staff[consumers]
        return staff

    def dump(self) -> State:
        """State for a checkpoint."""
        return {"staff": self._is_staff}

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        self._is_staff = state["staff"].astype(np.bool_)
