"""What every kind of log promises: order, durability, ranges that come again as they were, and each batch once."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from collector.log import cursors, shared
from collector.log.base import (
    DETECTORS,
    READERS,
    STORE,
    Append,
    Entry,
    Log,
    LogCounts,
    LogError,
    LogFullError,
    LogReader,
)
from collector.log.files import FileLog
from collector.log.kafka import KafkaLog
from collector.log.postgresql import SCHEMA, PostgresqlLog
from collector.storage.state.store import StateStore
from tests.collector.wire_batches import NOW, make_batch

PAYLOAD_BYTES = 900


def make_append(sequence: int, node: str = "node-a", boot_id: str = "boot-1") -> Append:
    """Its time is its sequence."""
    batch = make_batch(rows=1, sequence=sequence, node=node)
    batch.boot_id = boot_id
    batch.strings.append("x" * PAYLOAD_BYTES)
    return Append(
        node=node,
        boot_id=boot_id,
        sequence=sequence,
        received_unix_ns=NOW * 1_000_000_000 + sequence,
        payload=batch.SerializeToString(),
    )


def list_sequences(entries: Sequence[Entry]) -> list[int]:
    return [entry.received_unix_ns - NOW * 1_000_000_000 for entry in entries]


def read_all(reader: LogReader, limit_bytes: int = 4_000) -> list[int]:
    found = []
    while entries := reader.read(limit_bytes, until=reader.find_end()):
        found += list_sequences(entries)
    return found


@dataclass(slots=True)
class Opened:
    """Opens logs of one kind, over the same batches. Brokers have bounds of their own."""

    kind: str
    directory: Path
    url: str
    state: StateStore
    stack: ExitStack = field(default_factory=ExitStack)

    def open(self, **bounds: Any) -> Log:
        log: Log
        if self.kind == "files":
            log = FileLog(self.directory, **bounds)
        elif self.kind == "postgresql":
            log = PostgresqlLog(self.url, self.state, **bounds)
        else:
            log = KafkaLog(self.url, self.state)
        self.stack.callback(log.close)
        return log


SHARED = ("postgresql", "kafka")


@pytest.fixture(params=["files", *SHARED])
def kind(
    request: pytest.FixtureRequest, tmp_path: Path, sqlite_state: StateStore, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Opened]:
    monkeypatch.setattr(shared, "LEDGER_BYTES", 5_000)
    url = ""
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql_url")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
    elif request.param == "kafka":
        url = request.getfixturevalue("kafka_url")
    opened = Opened(request.param, tmp_path, url, sqlite_state)
    with opened.stack:
        yield opened


that_delete = pytest.mark.parametrize("kind", ["files", "postgresql"], indirect=True)
for_several_collectors = pytest.mark.parametrize("kind", SHARED, indirect=True)


def test_both_readers_get_every_batch_in_its_order(kind: Opened) -> None:
    log = kind.open(segment_bytes=3_000)
    readers = [log.open_reader(name) for name in READERS]
    for first in range(1, 30, 3):
        log.append([make_append(sequence) for sequence in range(first, first + 3)])
    assert [read_all(reader) for reader in readers] == [list(range(1, 31))] * 2
    assert all(reader.counts == LogCounts() for reader in readers)
    assert readers[0].position == readers[0].find_end()


def test_a_new_reader_begins_at_the_oldest_batch(kind: Opened) -> None:
    log = kind.open()
    log.append([make_append(1), make_append(2)])
    assert read_all(log.open_reader(STORE)) == [1, 2]


def test_a_claimed_range_comes_again_after_a_crash_as_it_was(kind: Opened) -> None:
    log = kind.open(segment_bytes=3_000)
    log.append([make_append(sequence) for sequence in range(1, 4)])
    reader = log.open_reader(STORE)
    first = reader.read()
    reader.commit(first[1].end)
    for sequence in (4, 5, 2, 6):  # The second was known.
        log.append([make_append(sequence)])
    claimed = reader.read(until=reader.find_end())
    reader.claim(claimed[1].end)
    again = kind.open().open_reader(STORE)
    assert again.cursor == reader.cursor
    assert (again.cursor.position, again.cursor.claim_end) == (first[1].end, claimed[1].end)
    entries = [*again.read(until=again.cursor.claim_end)]
    while more := again.read(until=again.cursor.claim_end):
        entries += more
    assert [entry.end for entry in entries] == [entry.end for entry in [*first[2:], *claimed[:2]]][: len(entries)]
    assert again.position == again.cursor.claim_end
    again.rewind()
    assert read_all(again) == [3, 4, 5, 6]


def test_what_is_read_again_is_the_same_and_counts_once(kind: Opened) -> None:
    log = kind.open()
    log.append([make_append(sequence) for sequence in range(1, 8)])
    reader = log.open_reader(STORE)
    middle = reader.read(1)[0].end if kind.kind == "files" else reader.read()[2].end
    reader.rewind(middle)
    rest = read_all(reader)
    reader.rewind()
    whole = read_all(reader)
    assert whole == list(range(1, 8)) and whole[-len(rest) :] == rest
    reader.rewind()
    entry = reader.read()[0]
    assert reader.read_again(entry.start, entry.end) == entry


def test_a_batch_that_is_sent_again_is_read_once(kind: Opened) -> None:
    log = kind.open()
    log.append([make_append(1), make_append(2)])
    assert log.is_known("node-a", "boot-1", 2)
    assert not log.is_known("node-a", "boot-2", 2) and not log.is_known("node-b", "boot-1", 2)
    log.append([make_append(2), make_append(3)])
    reader = log.open_reader(STORE)
    assert read_all(reader) == [1, 2, 3]
    reader.commit(reader.position)
    log.append([make_append(3), make_append(3, boot_id="boot-2"), make_append(3, node="node-b")])
    assert read_all(reader) == [3, 3]


@that_delete
def test_segments_go_when_both_readers_have_passed_them(kind: Opened) -> None:
    log = kind.open(segment_bytes=3_000)
    store, detectors = log.open_reader(STORE), log.open_reader(DETECTORS)
    for sequence in range(1, 31):
        log.append([make_append(sequence)])
    before = log.measure_bytes()
    assert read_all(store) == list(range(1, 31))
    store.commit(store.position)
    assert log.trim() == 0 and log.measure_bytes() == before
    read_all(detectors)
    detectors.commit(detectors.position)
    assert log.trim() >= 5
    assert log.measure_bytes() < 8_000
    log.append([make_append(31)])
    assert read_all(store) == [31] == read_all(detectors)


@that_delete
def test_past_half_of_its_limit_the_lesser_reader_loses_the_oldest_and_counts_them(kind: Opened) -> None:
    log = kind.open(segment_bytes=3_000, limit_bytes=12_000)
    store, detectors = log.open_reader(STORE), log.open_reader(DETECTORS)
    log.append([make_append(1)])
    found = read_all(store)
    assert read_all(detectors) == [1]
    for sequence in range(2, 41):
        log.append([make_append(sequence)])
        found += read_all(store)
        store.commit(store.position)
    assert found == list(range(1, 41))
    left = read_all(detectors)
    assert left == list(range(left[0], 41)) and left[0] > 20
    assert detectors.counts.skipped_batches == left[0] - 2


@that_delete
def test_a_full_log_takes_nothing_until_there_is_room(kind: Opened) -> None:
    log = kind.open(segment_bytes=3_000, limit_bytes=12_000)
    store, detectors = log.open_reader(STORE), log.open_reader(DETECTORS)
    taken = 0
    with pytest.raises(LogFullError, match="its limit is 12000"):
        while True:
            log.append([make_append(taken + 1)])
            taken += 1
    assert 8 <= taken <= 16
    assert not log.is_known("node-a", "boot-1", taken + 1)
    for reader in (store, detectors):
        assert read_all(reader) == list(range(1, taken + 1))
        reader.commit(reader.position)
    log.append([make_append(taken + 1)])
    assert read_all(store) == [taken + 1]


def test_what_waits_is_measured_from_the_last_commit(kind: Opened) -> None:
    log = kind.open()
    reader = log.open_reader(STORE)
    assert reader.measure_waiting() == 0
    log.append([make_append(1), make_append(2)])
    assert reader.measure_waiting() >= 2 * PAYLOAD_BYTES
    read_all(reader)
    reader.commit(reader.position)
    assert reader.measure_waiting() == 0


@that_delete
def test_erasing_blanks_batches_and_keeps_their_places(kind: Opened) -> None:
    log = kind.open(segment_bytes=3_000)
    reader = log.open_reader(STORE)
    for sequence in range(1, 8):
        log.append([make_append(sequence, node="node-b" if sequence % 2 else "node-a")])
    old = b"x" * PAYLOAD_BYTES
    places = [(entry.start, entry.end) for entry in reader.read(100_000)]
    assert log.erase(old, b"-" * len(old)) == 7
    reader.rewind()
    entries = []
    while found := reader.read(100_000):
        entries += found
    assert list_sequences(entries) == list(range(1, 8))
    assert [(entry.start, entry.end) for entry in entries][: len(places)] == places
    assert not any(old in entry.payload for entry in entries)
    again = reader.read_again(entries[-1].start, entries[-1].end)
    assert again is not None and old not in again.payload
    assert log.erase(old, b"-" * len(old)) == 0


def test_an_id_is_of_one_log(kind: Opened) -> None:
    assert kind.open().id == kind.open().id != ""


@for_several_collectors
def test_a_batch_that_came_to_two_collectors_is_read_once(kind: Opened) -> None:
    one, other = kind.open(), kind.open()
    reader = one.open_reader(STORE)
    one.append([make_append(1), make_append(2)])
    other.append([make_append(2), make_append(3)])
    assert read_all(reader) == [1, 2, 3]
    assert reader.counts.duplicate_batches == 1
    reader.rewind()
    assert read_all(reader) == [1, 2, 3]
    reader.commit(reader.position)
    other.append([make_append(1), make_append(4)])
    assert read_all(reader) == [4]
    assert reader.counts.duplicate_batches == 2


@for_several_collectors
def test_who_follows_another_reader_moves_no_cursor_and_reads_each_batch_once(kind: Opened) -> None:
    one, two = kind.open(), kind.open()
    leader, follower = one.open_reader(DETECTORS), one.open_reader(DETECTORS)
    one.append([make_append(sequence) for sequence in range(1, 5)])
    assert read_all(follower) == [1, 2, 3, 4]
    follower.settle(follower.position)
    two.append([make_append(sequence) for sequence in (2, 5)])
    assert read_all(follower) == [5]
    follower.rewind()
    assert read_all(follower) == [5]
    assert one.open_reader(DETECTORS).cursor == leader.cursor


@for_several_collectors
def test_an_erasure_waits_until_the_tables_have_what_was_read_before(
    kind: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, other = kind.open(), kind.open()
    reader = other.open_reader(STORE)
    log.append([make_append(1)])
    monkeypatch.setattr(cursors, "STORED_SECONDS", 0.0)
    with pytest.raises(LogError, match="erase again later"):
        log.await_stored()
    read_all(reader)
    reader.commit(reader.position)
    log.await_stored()


@for_several_collectors
def test_a_successor_knows_what_came_before_its_start(kind: Opened) -> None:
    """From the saved ledger, from what came after it, and for a claimed range as it was."""
    one, other = kind.open(segment_bytes=3_000), kind.open(segment_bytes=3_000)
    reader, found = one.open_reader(STORE), []
    lesser = one.open_reader(DETECTORS)
    for sequence in range(1, 21):
        one.append([make_append(sequence)])
        found += read_all(reader)
        reader.commit(reader.position)
        read_all(lesser)
        lesser.commit(lesser.position)
    assert one.trim() > 0 or kind.kind == "kafka"  # The first of them are in the ledger alone.
    for sequence in (1, 9, 19, 20, 21):
        other.append([make_append(sequence)])
    successor = other.open_reader(STORE)
    assert found == list(range(1, 21)) and read_all(successor) == [21]
    assert successor.counts.duplicate_batches == 4


@pytest.mark.parametrize("kind", ["postgresql"], indirect=True)
def test_nothing_is_trimmed_that_a_ledger_needs(kind: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "LEDGER_BYTES", 1_000_000)
    log = kind.open(segment_bytes=3_000)
    readers = [log.open_reader(name) for name in READERS]
    for sequence in range(1, 21):
        log.append([make_append(sequence)])
    for reader in readers:
        read_all(reader)
        reader.commit(reader.position)
    assert log.trim() == 0
