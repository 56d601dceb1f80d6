"""Which batches came already: per (node, boot id) the ranges of sequences that were added.

A sensor sends its oldest first, so one range a pair is the rule; a gap is a batch that was refused or that its full
spool dropped. Ranges are bounded: past the limit the lowest gap closes, and a batch that came that late would be
taken for a duplicate, which a sensor that sends its oldest first cannot cause. Pairs are bounded too: the one heard
of longest ago goes, and what it sends again counts twice.
"""

from bisect import bisect_right
from collections import OrderedDict
from threading import Lock
from typing import Any

PAIR_LIMIT = 100_000  # Sensor processes; each restart makes one. About 30 MB.
RANGE_LIMIT = 1_024  # Ranges of one pair.


class SequenceLedger:
    """Remembers sequences. Thread-safe: the event loop asks while the log's writing thread adds."""

    def __init__(self, pair_limit: int = PAIR_LIMIT, range_limit: int = RANGE_LIMIT) -> None:
        """Empty; the limits are counts."""
        # Ranges are [first, last], ascending, never touching.
        self._pairs: OrderedDict[tuple[str, str], list[list[int]]] = OrderedDict()
        self._pair_limit = pair_limit
        self._range_limit = range_limit
        self._lock = Lock()

    def __len__(self) -> int:
        return len(self._pairs)

    def is_known(self, node: str, boot_id: str, sequence: int) -> bool:
        """Whether this batch was added before."""
        with self._lock:
            ranges = self._pairs.get((node, boot_id), [])
            index = bisect_right(ranges, [sequence, 2**64]) - 1
            return index >= 0 and sequence <= ranges[index][1]

    def add(self, node: str, boot_id: str, sequence: int) -> None:
        """Remember a batch."""
        with self._lock:
            self._add(node, boot_id, sequence)

    def _add(self, node: str, boot_id: str, sequence: int) -> None:
        ranges = self._pairs.setdefault((node, boot_id), [])
        self._pairs.move_to_end((node, boot_id))
        while len(self._pairs) > self._pair_limit:
            self._pairs.popitem(last=False)
        index = bisect_right(ranges, [sequence, 2**64])
        if index and sequence <= ranges[index - 1][1]:
            return
        ranges.insert(index, [sequence, sequence])
        self._join(ranges, index)
        self._join(ranges, index - 1)
        if len(ranges) > self._range_limit:
            ranges[0:2] = [[ranges[0][0], ranges[1][1]]]

    def dump(self) -> list[list[Any]]:
        """JSON-ready state, the pair heard of longest ago first."""
        return [[node, boot_id, [list(pair) for pair in ranges]] for (node, boot_id), ranges in self._pairs.items()]

    def load(self, state: list[list[Any]]) -> None:
        """Take over what `dump` gave."""
        for node, boot_id, ranges in state:
            self._pairs[(node, boot_id)] = [list(pair) for pair in ranges]

    @staticmethod
    def _join(ranges: list[list[int]], index: int) -> None:
        """Make one of the ranges at `index` and `index + 1` where they touch."""
        if 0 <= index < len(ranges) - 1 and ranges[index][1] + 1 == ranges[index + 1][0]:
            ranges[index : index + 2] = [[ranges[index][0], ranges[index + 1][1]]]
