"""Group commit: one write for many, the same batch once, and a disk that refuses."""

import asyncio
import errno
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from collector.log.base import Append
from collector.log.files import FileLog
from collector.log.ledger import SequenceLedger
from collector.receiver import commit
from collector.receiver.commit import CommitOutcome, Committed, GroupCommit, Submission
from collector.receiver.convert import BatchFront, RouteCache, read_front
from tests.collector.wire_batches import NOW, make_batch


class MemoryLog:
    """Stands for the log."""

    def __init__(self) -> None:
        self.ledger = SequenceLedger()
        self.is_known = self.ledger.is_known
        self.writes: list[list[int]] = []
        self.error: OSError | None = None

    def append(self, appends: Sequence[Append]) -> None:
        if self.error:
            raise self.error
        self.writes.append([append.sequence for append in appends])
        for append in appends:
            self.ledger.add(append.node, append.boot_id, append.sequence)


def make(sequence: int, node: str = "n", status: int = 200) -> Submission:
    """With ten bytes for the log, whatever it is."""
    batch = make_batch(rows=1, sequence=sequence)
    batch.rows.status_code[0] = status
    front = read_front(batch, NOW, RouteCache(9))
    assert isinstance(front, BatchFront)
    append = Append(node=node, boot_id="b", sequence=sequence, received_unix_ns=1, payload=b"x" * 10)
    return Submission(append=append, front=front)


def test_what_is_wrong_is_refused_and_keeps_no_other_out() -> None:
    async def work(group: GroupCommit) -> list[Committed]:
        return list(await asyncio.gather(*(group.submit(make(n, status=9_999 if n == 2 else 200)) for n in (1, 2, 3))))

    wal, _, results = run(work)
    assert wal.writes == [[1, 3]]
    durable, refused = CommitOutcome.DURABLE, CommitOutcome.REFUSED
    assert [result.outcome for result in results] == [durable, refused, durable]
    assert results[1].reason == "rows.status_code[0] is 9999; it must stay below 1000."


def run(work: Callable[[GroupCommit], Any]) -> tuple[MemoryLog, list[OSError], Any]:
    wal, errors = MemoryLog(), list[OSError]()

    async def main() -> Any:
        group = GroupCommit(wal, on_error=errors.append, interval_seconds=0)  # type: ignore[arg-type]
        writing = asyncio.create_task(group.run())
        result = await work(group)
        group.stop()
        await writing
        return result

    return wal, errors, asyncio.run(main())


def test_batches_of_one_interval_share_a_write_and_copies_count_once() -> None:
    async def work(group: GroupCommit) -> list[Committed]:
        first = await asyncio.gather(*(group.submit(make(n)) for n in (1, 2, 2, 3)))
        return [*first, await group.submit(make(2))]

    wal, _, results = run(work)
    assert wal.writes == [[1, 2, 3]]
    assert [result.outcome for result in results] == [CommitOutcome.DURABLE] * 4 + [CommitOutcome.DUPLICATE]


def test_nearly_full_disk_means_come_again_and_nothing_is_written(tmp_path: Path) -> None:
    shortage = ["The volume has 3 MB free."]
    wal = FileLog(tmp_path, readers=("store",), find_shortage=lambda: shortage[0])

    async def main() -> list[Committed]:
        group = GroupCommit(wal, on_error=lambda error: None, interval_seconds=0)
        writing = asyncio.create_task(group.run())
        refused = await group.submit(make(1))
        assert wal.measure_bytes() == 0 and not wal.is_known("n", "b", 1)
        shortage[0] = ""
        taken = await group.submit(make(1))
        group.stop()
        await writing
        return [refused, taken]

    with closing(wal):
        refused, taken = asyncio.run(main())
    assert refused == Committed(CommitOutcome.RETRY, "The collector cannot write its log (The volume has 3 MB free).")
    assert taken.outcome is CommitOutcome.DURABLE


def test_disk_that_refuses_means_come_again() -> None:
    async def work(group: GroupCommit) -> list[Committed]:
        group._log.error = OSError(errno.ENOSPC, "No space left on device")  # type: ignore[attr-defined]
        refused = await group.submit(make(1))
        group._log.error = None  # type: ignore[attr-defined]
        return [refused, await group.submit(make(1))]

    wal, errors, (refused, accepted) = run(work)
    assert refused.outcome is CommitOutcome.RETRY and "No space left" in refused.reason
    assert accepted.outcome is CommitOutcome.DURABLE and wal.writes == [[1]] and len(errors) == 1


def test_waiting_bytes_are_bounded(monkeypatch: Any) -> None:
    monkeypatch.setattr(commit, "PENDING_LIMIT_BYTES", 25)

    async def work(group: GroupCommit) -> list[Committed]:
        return list(await asyncio.gather(*(group.submit(make(n)) for n in (1, 2, 3))))

    wal, _, results = run(work)
    assert [result.outcome for result in results] == [CommitOutcome.DURABLE, CommitOutcome.DURABLE, CommitOutcome.RETRY]
    assert wal.writes == [[1, 2]]


def test_stop_writes_what_waits_and_takes_no_more() -> None:
    async def work(group: GroupCommit) -> list[Committed]:
        waiting = group.submit(make(1))
        group.stop()
        late = group.submit(make(2))
        return [await waiting, await late]

    wal, _, results = run(work)
    assert [result.outcome for result in results] == [CommitOutcome.DURABLE, CommitOutcome.RETRY]
    assert wal.writes == [[1]]


def test_one_node_fills_no_room_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commit, "PENDING_OF_NODE_LIMIT_BYTES", 35)

    async def work(group: GroupCommit) -> list[Committed]:
        other = make(1, "other")
        waiting = [group.submit(one) for one in (*(make(n) for n in range(1, 6)), other)]
        first = await asyncio.gather(*waiting)
        return [*first, await group.submit(make(6))]

    _, _, results = run(work)
    durable, retry = CommitOutcome.DURABLE, CommitOutcome.RETRY
    assert [result.outcome for result in results] == [durable] * 3 + [retry] * 2 + [durable] * 2
