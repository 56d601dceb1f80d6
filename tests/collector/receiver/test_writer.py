"""With a store that fails, the same range comes again under the same token, and everything is counted."""

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from collector.core.rows import Route
from collector.log.base import Append
from collector.log.files import FileLog
from collector.log.segment import locate_segment
from collector.receiver import writer as writers
from collector.receiver.writer import (
    FULL_BYTES,
    HURRIED_SECONDS,
    UNWATCHED_SECONDS,
    WATCHED_SECONDS,
    StoreWriter,
    run_writer,
)
from collector.storage.base import StoreError
from collector.storage.row_group import RowGroup
from tests.collector.wire_batches import NOW, make_batch


class TokenStore:
    """Keeps inserts by token as the engine does; fails when told to, before or after it has the rows."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str], int] = {}
        self.routes: list[int] = []
        self.fail_before = 0
        self.fail_after = 0

    def query(self, sql: str, parameters: Any = None) -> list[tuple[Any, ...]]:
        return [(route,) for route in self.routes]

    def query_columns(self, sql: str, parameters: Any = None) -> dict[str, list[Any]]:
        raise NotImplementedError

    def execute(self, sql: str, parameters: Any = None) -> None:
        raise NotImplementedError

    def insert_records(self, table: str, records: Sequence[Any]) -> None:
        raise NotImplementedError

    def insert_arrow(self, table: str, rows: Any, token: str = "") -> None:
        if table == "routes":
            self.routes += rows["route_id"].to_pylist()
            return
        if self.fail_before:
            self.fail_before -= 1
            raise StoreError("The store is away.")
        self.rows.setdefault((table, token), sum(rows["calls"].to_pylist()))
        if self.fail_after:
            self.fail_after -= 1
            raise StoreError("The store is away.")

    def close(self) -> None:
        raise NotImplementedError

    def count(self, table: str) -> int:
        return sum(calls for (name, _), calls in self.rows.items() if name == table)


@pytest.fixture
def wal(tmp_path: Path) -> Iterator[FileLog]:
    opened = FileLog(tmp_path, readers=("store",))
    yield opened
    opened.close()


def fill(wal: FileLog, *sequences: int) -> None:
    wal.append(
        [
            Append(
                node="node-a",
                boot_id="boot-1",
                sequence=sequence,
                received_unix_ns=NOW * 1_000_000_000,
                payload=make_batch(sequence=sequence).SerializeToString(),
            )
            for sequence in sequences
        ]
    )


def make_writer(
    wal: FileLog,
    store: TokenStore,
    directory: Path,
    mapped: list[Route] | None = None,
    find_shortage: Callable[[], str] = lambda: "",
    complete: Callable[[Any], int] = lambda _: 0,
    on_stored: Callable[[RowGroup], None] = lambda _: None,
) -> StoreWriter:
    return StoreWriter(
        reader=wal.open_reader("store"),
        store=store,
        log_id=wal.id,
        map_endpoints=(mapped if mapped is not None else []).extend,
        find_shortage=find_shortage,
        complete=complete,
        on_stored=on_stored,
    )


@pytest.mark.parametrize("moment", ["fail_before", "fail_after"])
@pytest.mark.parametrize("is_restarted", [False, True])
def test_failed_range_counts_once(wal: FileLog, tmp_path: Path, moment: str, is_restarted: bool) -> None:
    store, stored = TokenStore(), list[RowGroup]()
    writer = make_writer(wal, store, tmp_path, on_stored=stored.append)
    writer.learn_routes()
    fill(wal, 1, 2)
    setattr(store, moment, 1)
    with pytest.raises(StoreError):
        writer.drain()
    # What came meanwhile must not slip into the claimed range: its token would then hide it.
    fill(wal, 3)
    if is_restarted:
        writer = make_writer(wal, store, tmp_path, on_stored=stored.append)
        writer.learn_routes()
    assert stored == []
    assert writer.drain() == 2 + 1
    assert store.count("rows_minute") == 3 * 6
    assert writer.drain() == 0
    assert sum(int(group.rows.calls.sum()) for group in stored) == 3 * 6


def test_nothing_is_inserted_while_the_disk_has_less_than_its_reserve(wal: FileLog, tmp_path: Path) -> None:
    store, shortage = TokenStore(), [""]
    writer = make_writer(wal, store, tmp_path, find_shortage=lambda: shortage[0])
    writer.learn_routes()
    fill(wal, 1)
    store.fail_after = 1
    with pytest.raises(StoreError):
        writer.drain()
    shortage[0] = "The volume has 3 MB free."
    fill(wal, 2)
    before = dict(store.rows), list(store.routes)
    assert writer.drain() == 0 and (store.rows, store.routes) == before
    assert writer.measure_lag(NOW + 7) == 7
    shortage[0] = ""
    assert writer.drain() == 2
    assert store.count("rows_minute") == 2 * 6
    assert writer.measure_lag(NOW + 7) == 0


def test_only_a_range_that_comes_again_is_looked_for_in_every_table(wal: FileLog, tmp_path: Path) -> None:
    store, completed = TokenStore(), list[int]()
    writer = make_writer(wal, store, tmp_path, complete=lambda rows: completed.append(rows.num_rows) or 2)
    writer.learn_routes()
    fill(wal, 1)
    assert writer.drain() == 1 and completed == []
    fill(wal, 2)
    store.fail_after = 1
    with pytest.raises(StoreError):
        writer.drain()
    fill(wal, 3)
    assert writer.drain() == 2
    assert completed == [3] and writer.counts.inserts_completed == 2


def test_a_range_keeps_its_token_where_its_last_batch_is_damaged_before_it_comes_again(
    wal: FileLog, tmp_path: Path
) -> None:
    store = TokenStore()
    writer = make_writer(wal, store, tmp_path)
    writer.learn_routes()
    fill(wal, 1, 2)
    store.fail_after = 1
    with pytest.raises(StoreError):
        writer.drain()
    path = locate_segment(tmp_path, wal.position.segment)
    content = bytearray(path.read_bytes())
    content[-1] ^= 4
    path.write_bytes(content)
    assert writer.drain() == 1
    assert store.count("rows_minute") == 2 * 6  # As they were inserted the first time.


def test_damaged_batch_is_missing_from_the_tables_and_nothing_else_is(wal: FileLog, tmp_path: Path) -> None:
    fill(wal, *range(1, 301))
    path = locate_segment(tmp_path, wal.position.segment)
    content = bytearray(path.read_bytes())
    content[len(content) // 10] ^= 4
    path.write_bytes(content)
    store = TokenStore()
    writer = make_writer(wal, store, tmp_path)
    writer.learn_routes()
    assert writer.drain() == 299
    assert store.count("rows_minute") == 299 * 6
    counts = writer.log_counts
    assert (counts.lost_batches, counts.recovered_batches) == (1, 300 - 31)
    assert 0 < counts.damaged_bytes <= len(content) // 300 + 1


def test_new_routes_are_stored_and_named_once(wal: FileLog, tmp_path: Path) -> None:
    store, mapped = TokenStore(), list[Route]()
    writer = make_writer(wal, store, tmp_path, mapped)
    writer.learn_routes()
    fill(wal, 1, 2)
    writer.drain()
    fill(wal, 3)
    writer.drain()
    assert store.routes == [11, 12] == [route.route_id for route in mapped]
    again = make_writer(wal, store, tmp_path, mapped)
    again.learn_routes()
    fill(wal, 4)
    again.drain()
    assert len(mapped) == 2


def test_what_cannot_be_read_back_is_counted(wal: FileLog, tmp_path: Path) -> None:
    store = TokenStore()
    writer = make_writer(wal, store, tmp_path)
    writer.learn_routes()
    fill(wal, 1)
    bad = Append(node="n", boot_id="b", sequence=1, received_unix_ns=NOW * 10**9, payload=b"\xff")
    wal.append([bad])
    assert writer.drain() == 2
    counts = writer.counts
    assert (counts.batches_seen, counts.batches_stored, counts.batches_refused, counts.rows_stored) == (2, 1, 1, 3)
    assert counts.batches_read_alone == 2


def test_thread_goes_on_after_errors_and_drains_at_the_stop(
    wal: FileLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writers, "LOOK_SECONDS", 0.001)
    monkeypatch.setattr(writers, "WATCHED_SECONDS", 0.0)
    store = TokenStore()
    writer = make_writer(wal, store, tmp_path)
    writer.learn_routes()
    fill(wal, 1)
    store.fail_after = 1
    stopping, failed = threading.Event(), threading.Event()
    errors: list[Exception] = []

    def on_error(error: Exception) -> None:
        errors.append(error)
        failed.set()

    thread = threading.Thread(
        target=run_writer,
        args=(writer,),
        kwargs={"is_stopping": stopping, "on_error": on_error},
    )
    thread.start()
    assert failed.wait(60)
    fill(wal, 2)
    stopping.set()
    thread.join(60)
    assert len(errors) == 1
    assert store.count("rows_minute") == 12


def test_the_fewer_rows_there_are_the_longer_they_wait_while_nobody_looks(wal: FileLog, tmp_path: Path) -> None:
    writer = make_writer(wal, TokenStore(), tmp_path)
    writer.learn_routes()
    assert writer.measure_waiting() == 0 or writer.drain() == 0
    fill(wal, 1)
    waiting = writer.measure_waiting()
    assert 0 < waiting == wal.position.offset < FULL_BYTES
    assert writer.find_wait(waiting, is_watched=False) == UNWATCHED_SECONDS
    assert writer.find_wait(waiting, is_watched=True) == WATCHED_SECONDS
    assert writer.find_wait(FULL_BYTES, is_watched=False) == HURRIED_SECONDS
    writer.hurry()  # As for an alert.
    assert writer.find_wait(waiting, is_watched=False) == HURRIED_SECONDS
    assert writer.drain() == 1 and writer.measure_waiting() == 0
    assert writer.find_wait(waiting, is_watched=False) == UNWATCHED_SECONDS


def test_rows_wait_while_nobody_looks_and_are_stored_for_an_alert_and_at_the_stop(
    wal: FileLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, seconds in (("LOOK_SECONDS", 0.001), ("UNWATCHED_SECONDS", 3_600.0), ("HURRIED_SECONDS", 0.0)):
        monkeypatch.setattr(writers, name, seconds)
    store = TokenStore()
    writer = make_writer(wal, store, tmp_path)
    writer.learn_routes()
    writer.drain()
    stopping, drained = threading.Event(), threading.Event()
    arguments = {"is_stopping": stopping, "on_error": pytest.fail, "on_drained": drained.set}
    thread = threading.Thread(target=run_writer, args=(writer,), kwargs=arguments | {"is_watched": lambda: False})
    thread.start()
    fill(wal, 1)
    assert store.count("rows_minute") == 0 and not drained.is_set()
    writer.hurry()
    assert drained.wait(60)
    assert store.count("rows_minute") == 6
    fill(wal, 2)
    stopping.set()
    thread.join(60)
    assert store.count("rows_minute") == 12


def test_where_another_process_goes_on_nothing_is_begun_after_the_stop(wal: FileLog, tmp_path: Path) -> None:
    store, stopping = TokenStore(), threading.Event()
    writer = make_writer(wal, store, tmp_path)
    writer.learn_routes()
    fill(wal, 1)
    stopping.set()
    run_writer(writer, stopping, on_error=pytest.fail, hands_over=True)
    assert store.count("rows_minute") == 0 and writer.measure_waiting()
    run_writer(writer, stopping, on_error=pytest.fail)
    assert store.count("rows_minute") == 6


def test_a_batch_that_no_table_can_hold_keeps_no_other_out(
    wal: FileLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = writers.build_rows

    def build_most(group: RowGroup) -> Any:
        if any(head.sequence == 3 for head in group.heads):
            raise OverflowError("a number too large")
        return build(group)

    monkeypatch.setattr(writers, "build_rows", build_most)
    fill(wal, *range(1, 8))
    store = TokenStore()
    writer = make_writer(wal, store, tmp_path)
    writer.learn_routes()
    assert writer.drain() == 7
    assert store.count("rows_minute") == 6 * 6 and store.routes
    assert (writer.counts.batches_stored, writer.counts.batches_refused) == (6, 1)


def test_kinds_below_zero_are_stored(wal: FileLog, tmp_path: Path) -> None:
    """The wire's enums have 32 bits and a sign; the tables' have a byte."""
    batch = make_batch()
    batch.services[0].workload_kind = -1
    batch.routes[0].segments[0].kind = -(2**31)
    payload = batch.SerializeToString()
    entry = Append(node="n", boot_id="b", sequence=1, received_unix_ns=NOW * 1_000_000_000, payload=payload)
    wal.append([entry])
    store = TokenStore()
    writer = make_writer(wal, store, tmp_path)
    writer.learn_routes()
    assert writer.drain() == 1
    assert (len(store.routes), store.count("rows_minute")) == (2, 6)


def test_a_backlog_does_not_keep_a_process_that_ends(
    wal: FileLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim that is under way is stored; the rest is there at the next start."""
    monkeypatch.setattr("collector.receiver.writer.CLAIM_BYTES", 1)
    store = TokenStore()
    writer = make_writer(wal, store, tmp_path)
    writer.learn_routes()
    fill(wal, 1, 2, 3)
    answers = iter([False, True])
    assert writer.drain(lambda: next(answers)) == 1
    again = make_writer(wal, store, tmp_path)
    again.learn_routes()
    assert again.drain() == 2
    assert store.count("rows_minute") == 3 * 6
