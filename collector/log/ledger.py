"""Remembers which batches came already: per (node, boot id), ranges of sequences.

A sensor sends its oldest first, so one range is normal. A gap is a batch that was refused, or that a full spool
dropped. Past the limit of ranges, the lowest gap closes, and a batch that late would count as a duplicate. A sensor
that sends its oldest first cannot cause that. Nodes, and processes of each, are bounded too: the least recent one is
dropped, and what it sends again counts twice. One node cannot push out another's.
"""

from bisect import bisect_right
from threading import Lock
from typing import Any

from collector.core.limits import Limit
from common.bounded import BoundedDict

NODE_LIMIT = 20_000
PROCESS_LIMIT = 64  # Of one node; each restart of its sensor makes one.
RANGE_LIMIT = 1_024  # Ranges of one pair.


class SequenceLedger:
    """Remembers sequences. Thread-safe: the event loop asks while the log's writing thread adds."""

    def __init__(
        self, node_limit: int = NODE_LIMIT, process_limit: int = PROCESS_LIMIT, range_limit: int = RANGE_LIMIT
    ) -> None:
        """Empty; the limits are counts."""
        # By node, then by boot id. Ranges are [first, last], ascending, never touching.
        self._nodes: BoundedDict[str, BoundedDict[str, list[list[int]]]] = BoundedDict(node_limit)
        self._node_limit = node_limit
        self._process_limit = process_limit
        self._range_limit = range_limit
        self._lock = Lock()

    def __len__(self) -> int:
        """Processes of sensors that are known."""
        return sum(map(len, self._nodes.values()))

    @property
    def limit(self) -> Limit:
        """Of nodes."""
        then = "A batch that one of the nodes past it sends twice would count twice."
        return Limit(name="ledger_nodes", used=len(self._nodes), maximum=self._node_limit, then=then)

    def is_known(self, node: str, boot_id: str, sequence: int) -> bool:
        with self._lock:
            processes = self._nodes.get(node)
            ranges = processes.get(boot_id, []) if processes is not None else []
            index = bisect_right(ranges, [sequence, 2**64]) - 1
            return index >= 0 and sequence <= ranges[index][1]

    def add(self, node: str, boot_id: str, sequence: int) -> None:
        with self._lock:
            processes = self._open(node)
            ranges = processes.use(boot_id)
            if ranges is None:
                ranges = processes[boot_id] = []
            index = bisect_right(ranges, [sequence, 2**64])
            if index and sequence <= ranges[index - 1][1]:
                return
            ranges.insert(index, [sequence, sequence])
            self._join(ranges, index)
            self._join(ranges, index - 1)
            if len(ranges) > self._range_limit:
                ranges[0:2] = [[ranges[0][0], ranges[1][1]]]

    def dump(self) -> list[list[Any]]:
        """JSON-ready state, the node, and of each the process, heard of longest ago first."""
        return [
            [node, boot_id, [list(pair) for pair in ranges]]
            for node, processes in self._nodes.items()
            for boot_id, ranges in processes.items()
        ]

    def load(self, state: list[list[Any]]) -> None:
        for node, boot_id, ranges in state:
            self._open(node)[boot_id] = [list(pair) for pair in ranges]

    def _open(self, node: str) -> BoundedDict[str, list[list[int]]]:
        processes = self._nodes.use(node)
        if processes is None:
            processes = self._nodes[node] = BoundedDict(self._process_limit)
        return processes

    @staticmethod
    def _join(ranges: list[list[int]], index: int) -> None:
        """Make one of the ranges at `index` and `index + 1` where they touch."""
        if 0 <= index < len(ranges) - 1 and ranges[index][1] + 1 == ranges[index + 1][0]:
            ranges[index : index + 2] = [[ranges[index][0], ranges[index + 1][1]]]
