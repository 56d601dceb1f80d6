"""Group commit: the batches of all streams that arrive within an interval share one check, one write and one fsync.

The columns of all of them are checked as one, for that costs a tenth of checking each (collector/receiver/convert.py).
`submit` gives a future that resolves once the batch is durable, was durable before, cannot be now, or is refused. A
batch that is sent again while its first copy is being written waits for the same write, so it is stored once.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import Enum

from apidae.v1 import stream_pb2

from collector.log.base import Append, Log
from collector.receiver.convert import BatchFront, convert_fronts, count_unknown_values
from collector.storage.columns import RowBatch

INTERVAL_SECONDS = 0.1
# Waiting for the disk, all streams together; past it sensors are told to come again.
PENDING_LIMIT_BYTES = 32 * 1024 * 1024
# Of these, of one node: twice what a sensor has in flight. The rest is for others.
PENDING_OF_NODE_LIMIT_BYTES = 16 * 1024 * 1024
ROUTES_REMEMBERED = 100_000


class CommitOutcome(Enum):
    """By the wire's status of an acknowledgement."""

    DURABLE = stream_pb2.ACK_STATUS_ACCEPTED
    DUPLICATE = stream_pb2.ACK_STATUS_DUPLICATE
    RETRY = stream_pb2.ACK_STATUS_RETRY
    REFUSED = stream_pb2.ACK_STATUS_REFUSED


@dataclass(frozen=True, slots=True)
class Committed:
    """An outcome and, for RETRY and REFUSED, one sentence why."""

    outcome: CommitOutcome
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A batch for the log, with what is still to be checked of it."""

    append: Append
    front: BatchFront


class GroupCommit:
    """Owns the log's writing side inside one event loop."""

    def __init__(
        self,
        log: Log,
        *,
        on_error: Callable[[OSError], None],
        on_new_routes: Callable[[], None] = lambda: None,
        interval_seconds: float = INTERVAL_SECONDS,
    ) -> None:
        """`on_error` is called when the disk refuses, `on_new_routes` after a batch with a route that none had since
        the start."""
        self._log = log
        self._on_error = on_error
        self._on_new_routes = on_new_routes
        self._routes: set[int] = set()  # Of the batches that were written.
        self._interval = interval_seconds
        self._queue: list[Submission] = []
        self._futures: dict[tuple[str, str, int], asyncio.Future[Committed]] = {}
        self._pending_bytes = 0
        self._pending_of_node: Counter[str] = Counter()
        self._wake = asyncio.Event()
        self._is_stopping = False
        self.unknown_values = 0  # Of enums in the batches that were written.

    def submit(self, submission: Submission) -> asyncio.Future[Committed]:
        append = submission.append
        key = (append.node, append.boot_id, append.sequence)
        loop = asyncio.get_running_loop()
        first = self._futures.get(key)
        if first is not None:
            return first
        future: asyncio.Future[Committed] = loop.create_future()
        if self._log.is_known(*key):
            future.set_result(Committed(CommitOutcome.DUPLICATE))
            return future
        size = len(append.payload)
        is_full = self._pending_bytes + size > PENDING_LIMIT_BYTES
        if is_full or self._pending_of_node[append.node] + size > PENDING_OF_NODE_LIMIT_BYTES or self._is_stopping:
            future.set_result(Committed(CommitOutcome.RETRY, "The collector is behind with its disk; send again."))
            return future
        self._futures[key] = future
        self._queue.append(submission)
        self._pending_bytes += size
        self._pending_of_node[append.node] += size
        self._wake.set()
        return future

    async def run(self) -> None:
        """Write until `stop`; then write what is left. In a thread of its own, so that no job delays an
        acknowledgement."""
        with ThreadPoolExecutor(1, thread_name_prefix="log") as thread:
            while not (self._is_stopping and not self._queue):
                await self._wake.wait()
                if not self._is_stopping:
                    await asyncio.sleep(self._interval)
                self._wake.clear()
                await self._flush(thread)

    def stop(self) -> None:
        """Let `run` end after a last write; later batches are told to come again."""
        self._is_stopping = True
        self._wake.set()

    async def _flush(self, thread: ThreadPoolExecutor) -> None:
        queue, self._queue = self._queue, []
        if not queue:
            return
        results = await asyncio.get_running_loop().run_in_executor(thread, self._write, queue)
        for submission, result in zip(queue, results, strict=True):
            append = submission.append
            self._pending_bytes -= len(append.payload)
            self._pending_of_node[append.node] -= len(append.payload)
            if not self._pending_of_node[append.node]:
                del self._pending_of_node[append.node]
            future = self._futures.pop((append.node, append.boot_id, append.sequence))
            if not future.done():
                future.set_result(result)

    def _write(self, queue: Sequence[Submission]) -> list[Committed]:
        """Check all, write those that are right, and say what became of each. Any thread."""
        checked = convert_fronts([submission.front for submission in queue])
        appends = [submission.append for place, submission in enumerate(queue) if place not in checked.refusals]
        written = Committed(CommitOutcome.DURABLE)
        try:
            if appends:
                self._log.append(appends)
        except OSError as error:
            self._on_error(error)
            why = (error.strerror or str(error)).rstrip(".")
            written = Committed(CommitOutcome.RETRY, f"The collector cannot write its log ({why}).")
        else:
            if checked.group is not None:
                self._take_written(checked.group.rows)
        refused = {place: Committed(CommitOutcome.REFUSED, why.reason) for place, why in checked.refusals.items()}
        return [refused.get(place, written) for place in range(len(queue))]

    def _take_written(self, rows: RowBatch) -> None:
        self.unknown_values += count_unknown_values(rows)
        routes = {route.route_id for route in rows.routes}
        if not routes <= self._routes:
            self._routes = self._routes | routes if len(self._routes) < ROUTES_REMEMBERED else routes
            self._on_new_routes()
