"""Which client software each consumer calls with, and whose is new to it: kept are the last four of a consumer, and
when it took up the newest.

Names of software are 16-bit hashes here. The first that is known of a consumer is not taken up: sensors may just have
begun to tell it. Who comes back to one of the four takes up nothing.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from collector.anomaly.abuse.events import Events
from collector.anomaly.actors import hash_text
from collector.anomaly.detectors.contract import State
from collector.anomaly.roster import Placed, Roster
from collector.anomaly.slots import Slots, grow

FRESH_SECONDS = 3_600  # After it was taken up a software is new to its consumer.
CODE_BITS = 16
_LANE = np.uint64(2**CODE_BITS - 1)
_SHIFT = np.uint64(CODE_BITS)
_ONES, _HIGHS = np.uint64(0x0001_0001_0001_0001), np.uint64(0x8000_8000_8000_8000)

U64 = NDArray[np.uint64]
U32 = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Fresh:
    """Rows of a batch whose software is new to their consumer, n of them."""

    rows: Slots  # Of those that count.
    codes: Slots  # Of their software.


_NOTHING = Fresh(rows=np.zeros(0, np.int64), codes=np.zeros(0, np.int64))


class Adoption:
    """By consumer slot, 12 bytes each from the first row with software on. `take` takes some .03 us a row."""

    def __init__(self) -> None:
        self._known: U64 = np.zeros(0, np.uint64)  # Four codes, the newest lowest; 0: none.
        self._adopted: U32 = np.zeros(0, np.uint32)  # When the newest was taken up, unix seconds; 0: it was not.

    def take(self, events: Events, placed: Placed, roster: Roster, time: int) -> Fresh:
        """Learn the software of a batch; gives the rows of those who took theirs up lately."""
        if len(placed.evicted_consumers):
            gone = placed.evicted_consumers[placed.evicted_consumers < len(self._known)]
            self._known[gone], self._adopted[gone] = 0, 0
        software = events.columns.read(events.batch.client_software)
        if not np.count_nonzero(software):
            return _NOTHING
        capacity = roster.consumers.table.capacity
        self._known, self._adopted = grow(self._known, capacity), grow(self._adopted, capacity)
        codes, consumer = _encode(events.batch.strings, software), events.consumer
        known = self._known.take(consumer)
        # A lane that is 0 borrows: one of the four is the row's.
        lanes = known ^ codes * _ONES
        is_known = ((lanes - _ONES) & ~lanes & _HIGHS) != 0
        if np.count_nonzero(is_known) < len(is_known):
            new = (~is_known & (codes > 0) & (consumer >= 0)).nonzero()[0]
            self._adopt(consumer[new], codes[new], time)
            known = self._known.take(consumer)
        is_fresh = self._adopted.take(consumer) > max(time - FRESH_SECONDS, 0)
        if not np.count_nonzero(is_fresh):
            return _NOTHING
        rows = (is_fresh & ((known & _LANE) == codes) & (consumer >= 0)).nonzero()[0]
        return Fresh(rows=rows, codes=codes[rows].astype(np.int64))

    def _adopt(self, consumers: Slots, codes: U64, time: int) -> None:
        """Of a consumer who comes twice the last counts."""
        known = self._known.take(consumers)
        self._adopted[consumers] = np.where(known > 0, time, 0)
        self._known[consumers] = known << _SHIFT | codes

    def dump(self) -> State:
        """State for a checkpoint."""
        return {"known": self._known, "adopted": self._adopted}

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        self._known, self._adopted = state["known"].astype(np.uint64), state["adopted"].astype(np.uint32)


def _encode(strings: tuple[str, ...], software: U32) -> U64:
    """The code of each row's software; 0: it is not known."""
    codes = np.zeros(len(strings), np.uint64)
    for index in np.bincount(software).nonzero()[0].tolist():
        codes[index] = _hash(strings[index])
    return codes.take(software)


@lru_cache(maxsize=4_096)
def _hash(name: str) -> int:
    return max(hash_text(name) & int(_LANE), 1) if name else 0
