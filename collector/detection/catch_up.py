"""Puts the batches of a backlog in the order of time, so that detectors evaluate all of it. Pure and deterministic.

After an outage of the collector each sensor sends what waits on its node, from the oldest on, at a speed of its own.
Detectors go by one time, that of the newest row, and a row that begins LATENESS_SECONDS before it is late. So while
sensors catch up, the batches of those that are ahead wait for the last one. They wait in the log: here are their
places.

A catch-up begins with a batch that came BACKLOG_SECONDS after its newest row and is not late yet. Sensors dial again
one after the other. So nothing passes until all nodes of the time before were heard, or GATHER_SECONDS have passed.
Then a batch passes as soon as no node that is behind has an older one to send. A node is behind until it sends what is
LIVE_SECONDS old at most, or nothing for SILENT_SECONDS. The catch-up ends when no node is behind, and after
CATCH_UP_SECONDS_MAX at the latest. Who is behind then is late, and that is counted.

Without a backlog nothing waits. Time is when batches were received, in unix seconds.
"""

import heapq
from array import array as packed
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from collector.detection.framework.state import Arrays, DetectorState, array, number, record
from collector.detection.framework.windows import LATENESS_SECONDS
from collector.log.base import Entry, Position

BACKLOG_SECONDS: Final = 90  # Sensors send a row after 15 s at most.
LIVE_SECONDS: Final = 15
GATHER_SECONDS: Final = 45  # Sensors dial each 30 s at least.
SILENT_SECONDS: Final = 30
CATCH_UP_SECONDS_MAX: Final = 1_800
WAITING_MAX: Final = 500_000  # Batches; 20 MB.


class Place(NamedTuple):
    """Of a batch in the log, and when its newest row begins."""

    newest: int
    start: Position
    end: Position


class Sent(NamedTuple):
    """One batch that was read."""

    node: str
    newest: int  # Start of its newest row, unix seconds; 0: it has none.
    received_at: int
    entry: Entry


class _Node(msgspec.Struct):
    newest: int  # Start of the newest row that it sent.
    received_at: int  # Of its last batch.
    is_behind: bool


_FIELDS: Final = 4  # Of a place: newest, segment, start, end.


class _Queue:
    """Places of one node in the order of the log, packed."""

    def __init__(self) -> None:
        self._values = packed("q")
        self._first = 0

    def __len__(self) -> int:
        return len(self._values) // _FIELDS - self._first

    def put(self, newest: int, segment: int, start: int, end: int) -> None:
        self._values.extend((newest, segment, start, end))

    @property
    def head(self) -> Place:
        newest, segment, start, end = self._values[self._first * _FIELDS :][:_FIELDS]
        return Place(newest, Position(segment, start), Position(segment, end))

    def pop(self) -> Place:
        head = self.head
        self._first += 1
        if 2 * self._first > len(self._values) // _FIELDS:
            del self._values[: self._first * _FIELDS]
            self._first = 0
        return head

    def list_values(self) -> packed[int]:
        return self._values[self._first * _FIELDS :]


class CatchUp(DetectorState):
    """Who catches up, and what waits for them."""

    _began_at = number(0)  # 0: nobody catches up.
    _now = number(0)
    _passed = number(0)  # Start of the newest row that passed.
    _nodes = record(dict[str, _Node])  # Heard since it began.
    _missing = record(set[str])  # Not heard yet.
    _lengths = record(dict[str, int])  # Of the queues, when it is saved,
    _places = array(np.int64)  # and what is in them.

    def __init__(self) -> None:
        super().__init__()
        self._queues: dict[str, _Queue] = {}
        self.waiting_count = 0

    @property
    def is_active(self) -> bool:
        return bool(self._began_at)

    @property
    def first(self) -> Position | None:
        """Start of the first batch in the log that waits."""
        return min((queue.head.start for queue in self._queues.values() if queue), default=None)

    def take(self, sent: Sequence[Sent], watermark: int, list_nodes: Callable[[], Iterable[str]]) -> int:
        """How many of the next batches, in the order of the log, pass as they came; the others wait. `watermark`: start
        of the newest row that passed. `list_nodes`: who sent rows shortly before."""
        if not self.is_active and all(one.received_at - one.newest <= BACKLOG_SECONDS for one in sent):
            return len(sent)
        passing = 0
        for one in sent:
            if not self.is_active and self._begins(one, watermark):
                self._began_at = self._now = one.received_at
                self._passed = watermark
                self._missing = set(list_nodes())
            if self.is_active:
                self._put(one)
            else:
                passing += 1
                watermark = max(watermark, min(one.newest, one.received_at))
        return passing

    def _begins(self, sent: Sent, watermark: int) -> bool:
        is_backlog = sent.newest > 0 and sent.received_at - sent.newest > BACKLOG_SECONDS
        return is_backlog and sent.newest + LATENESS_SECONDS >= watermark

    def _put(self, sent: Sent) -> None:
        newest = min(sent.newest, sent.received_at)
        self._now = max(self._now, sent.received_at)
        if newest:
            node = self._nodes.setdefault(sent.node, _Node(newest, sent.received_at, is_behind=True))
            node.newest, node.received_at = max(node.newest, newest), sent.received_at
            node.is_behind = sent.received_at - newest > LIVE_SECONDS
        self._missing.discard(sent.node)
        place = sent.entry
        queue = self._queues.setdefault(sent.node, _Queue())
        queue.put(newest, place.start.segment, place.start.offset, place.end.offset)
        self.waiting_count += 1

    def take_due(self) -> Iterator[Place]:
        """What need not wait any more, by time; where nobody is behind the catch-up ends."""
        limit = self._find_limit()
        heads = [(queue.head.newest, node) for node, queue in self._queues.items() if queue]
        heapq.heapify(heads)
        while heads and (limit is None or heads[0][0] <= limit or self.waiting_count > WAITING_MAX):
            newest, node = heads[0]
            queue = self._queues[node]
            self._passed = max(self._passed, newest)
            self.waiting_count -= 1
            place = queue.pop()
            if queue:
                heapq.heapreplace(heads, (queue.head.newest, node))
            else:
                heapq.heappop(heads)
            yield place
        if limit is None:
            self._began_at = 0
            self._nodes, self._missing, self._queues = {}, set(), {}

    def end(self) -> Iterator[Place]:
        """Nothing came for so long that nobody is waited for."""
        self._nodes, self._missing = {}, set()
        return self.take_due()

    def _find_limit(self) -> int | None:
        """Start of the newest row that may pass; None: all may."""
        lasted = self._now - self._began_at
        if lasted > CATCH_UP_SECONDS_MAX:
            return None
        if self._missing and lasted < GATHER_SECONDS:
            return self._passed
        # A node with a longer backlog than the others' is late whatever they do.
        behind = [
            node.newest
            for node in self._nodes.values()
            if node.is_behind
            and self._now - node.received_at <= SILENT_SECONDS
            and node.newest + LATENESS_SECONDS >= self._passed
        ]
        return max(self._passed, min(behind)) if behind else None

    def dump(self, path: str = "") -> Arrays:
        """Nothing where nobody catches up."""
        if not self.is_active:
            return {}
        self._lengths = {node: len(queue) for node, queue in self._queues.items() if queue}
        parts = [np.frombuffer(self._queues[node].list_values(), np.int64) for node in self._lengths]
        self._places = np.concatenate(parts) if parts else np.zeros(0, np.int64)
        return super().dump(path)

    def load(self, saved: Mapping[str, NDArray[np.generic]], path: str = "") -> None:
        if not any(name.startswith(path) for name in saved):
            return
        super().load(saved, path)
        places = iter(self._places.reshape(-1, _FIELDS).tolist())
        for node, length in self._lengths.items():
            queue = self._queues[node] = _Queue()
            for _ in range(length):
                queue.put(*next(places))
        self.waiting_count = sum(self._lengths.values())
        self._lengths, self._places = {}, np.zeros(0, np.int64)
