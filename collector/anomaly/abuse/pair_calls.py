"""How many calls each pair of consumer and endpoint made lately: what several detectors weigh what they count with."""

import numpy as np

from collector.anomaly.abuse.events import Events
from collector.anomaly.abuse.fading import FadingSums
from collector.anomaly.detectors.contract import F64, State
from collector.anomaly.roster import Placed, Roster
from collector.anomaly.slots import Slots

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
