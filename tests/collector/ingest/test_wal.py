"""What the log promises: order, durability, replays with the same bounds, and nothing deleted before it was read."""

import errno
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.ingest.reader import WalReader
from collector.ingest.segment import Position, find_segments, locate_segment
from collector.ingest.sequences import SequenceLedger
from collector.ingest.wal import Append, LogFullError, Wal
from tests.collector.wire_batches import NOW, make_batch


def make_append(sequence: int, node: str = "node-a") -> Append:
    batch = make_batch(rows=2, sequence=sequence, node=node)
    return Append(
        node=node,
        boot_id="boot-1",
        sequence=sequence,
        received_unix_ns=NOW * 1_000_000_000 + sequence,
        payload=batch.SerializeToString(),
    )


OPENED: list[Wal] = []


@pytest.fixture(autouse=True)
def close_wals() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


def open_wal(directory: Path, **settings: object) -> Wal:
    OPENED.append(Wal(directory, readers=("store", "detectors"), essential="store", **settings))  # type: ignore[arg-type]
    return OPENED[-1]


def read_all(reader: WalReader) -> list[int]:
    """Sequences still to come, from the entries' times."""
    found = []
    while entries := reader.read():
        found += [entry.received_unix_ns - NOW * 1_000_000_000 for entry in entries]
    return found


def test_two_readers_get_everything_in_order_across_segments(tmp_path: Path) -> None:
    wal = open_wal(tmp_path, segment_bytes=1_000)
    readers = [WalReader(tmp_path, name) for name in ("store", "detectors")]
    for sequence in range(1, 24):
        wal.append([make_append(sequence)])
    assert len(find_segments(tmp_path)) > 3
    for reader in readers:
        assert read_all(reader) == list(range(1, 24))
        assert reader.skipped_segments == reader.damaged_segments == 0


def test_segment_goes_when_both_readers_passed_it(tmp_path: Path) -> None:
    wal = open_wal(tmp_path, segment_bytes=1_000)
    store, detectors = WalReader(tmp_path, "store"), WalReader(tmp_path, "detectors")
    for sequence in range(1, 24):
        wal.append([make_append(sequence)])
    before = find_segments(tmp_path)
    read_all(store)
    store.commit(store.position)
    assert wal.collect() == 0
    read_all(detectors)
    detectors.commit(detectors.position)
    assert wal.collect() == len(before) - 1
    assert find_segments(tmp_path) == before[-1:]
    assert wal.size_bytes == locate_segment(tmp_path, before[-1]).stat().st_size


def test_uncommitted_batches_come_again_after_a_restart(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    wal.append([make_append(sequence) for sequence in range(1, 6)])
    reader = WalReader(tmp_path, "store")
    entries = reader.read()
    reader.commit(entries[1].end)
    reader.claim(entries[3].end)
    again = WalReader(tmp_path, "store")
    assert again.cursor.claim_end == entries[3].end
    claimed = again.read(until=again.cursor.claim_end)
    assert [entry.start for entry in claimed] == [entries[2].start, entries[3].start]
    assert again.read(until=again.cursor.claim_end) == []
    assert [entry.start for entry in again.read()] == [entries[4].start]


def test_ledger_survives_restart_and_rotation(tmp_path: Path) -> None:
    wal = open_wal(tmp_path, segment_bytes=1_500)
    for sequence in range(1, 24):
        wal.append([make_append(sequence)])
    first_id = wal.id
    # No close: what kill -9 leaves.
    again = open_wal(tmp_path)
    assert again.id == first_id
    assert all(again.ledger.is_known("node-a", "boot-1", sequence) for sequence in range(1, 24))
    assert not again.ledger.is_known("node-a", "boot-1", 24)
    assert not again.ledger.is_known("node-a", "boot-2", 1)
    assert again.scanned_batches < 23


@pytest.mark.parametrize("cut", [1, 15, 16, 17, 300])
def test_torn_tail_is_left_behind(tmp_path: Path, cut: int) -> None:
    wal = open_wal(tmp_path)
    wal.append([make_append(1), make_append(2)])
    path = locate_segment(tmp_path, wal.position.segment)
    os.truncate(path, path.stat().st_size - cut)
    again = open_wal(tmp_path)
    assert again.torn_bytes > 0
    assert again.ledger.is_known("node-a", "boot-1", 1) and not again.ledger.is_known("node-a", "boot-1", 2)
    again.append([make_append(2), make_append(3)])
    reader = WalReader(tmp_path, "store")
    assert read_all(reader) == [1, 2, 3]


def test_damaged_frame_ends_its_segment_only_and_is_counted(tmp_path: Path) -> None:
    wal = open_wal(tmp_path, segment_bytes=1_500)
    for sequence in range(1, 10):
        wal.append([make_append(sequence)])
    first = locate_segment(tmp_path, find_segments(tmp_path)[0])
    content = bytearray(first.read_bytes())
    content[40] ^= 255
    first.write_bytes(content)
    reader = WalReader(tmp_path, "store")
    rest = read_all(reader)
    assert rest == list(range(rest[0], 10)) and rest[0] > 1
    assert reader.damaged_segments == 1


def test_failed_sync_leaves_nothing_in_the_log(tmp_path: Path) -> None:
    failing = True

    def sync(descriptor: int) -> None:
        if failing:
            raise OSError(errno.ENOSPC, "No space left on device")
        os.fsync(descriptor)

    wal = open_wal(tmp_path, sync=sync)
    with pytest.raises(OSError, match="No space"):
        wal.append([make_append(1)])
    assert not wal.ledger.is_known("node-a", "boot-1", 1)
    failing = False
    wal.append([make_append(2)])
    assert read_all(WalReader(tmp_path, "store")) == [2]


def test_full_log_refuses_while_the_store_is_behind(tmp_path: Path) -> None:
    wal = open_wal(tmp_path, segment_bytes=1_000, limit_bytes=6_000)
    store = WalReader(tmp_path, "store")
    WalReader(tmp_path, "detectors")
    accepted = 0
    with pytest.raises(LogFullError, match="limit is 6000"):
        for sequence in range(1, 100):
            wal.append([make_append(sequence)])
            accepted += 1
    assert read_all(store) == list(range(1, accepted + 1))
    store.commit(store.position)
    wal.append([make_append(accepted + 1)])


def test_slow_detectors_lose_the_oldest_and_count_it(tmp_path: Path) -> None:
    wal = open_wal(tmp_path, segment_bytes=1_000, limit_bytes=10_000)
    store, detectors = WalReader(tmp_path, "store"), WalReader(tmp_path, "detectors")
    for sequence in range(1, 60):
        wal.append([make_append(sequence)])
        read_all(store)
        store.commit(store.position)
    rest = read_all(detectors)
    assert rest == list(range(rest[0], 60)) and rest[0] > 1
    assert detectors.skipped_segments > 0
    assert wal.size_bytes <= 10_000


def test_reader_of_an_empty_log_waits_and_then_reads(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    reader = WalReader(tmp_path, "store")
    assert reader.read() == []
    wal.append([make_append(1)])
    assert read_all(reader) == [1]
    assert reader.position == wal.position > Position(0, 0)


def test_large_batch_is_read_whole(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    wal.append([make_append(1), make_append(2)])
    reader = WalReader(tmp_path, "store")
    assert [len(reader.read(limit_bytes=20)) for _ in range(3)] == [1, 1, 0]


@given(st.lists(st.integers(1, 60), max_size=80), st.randoms(use_true_random=False))
def test_ledger_knows_exactly_what_was_added(sequences: list[int], rng: random.Random) -> None:
    ledger = SequenceLedger()
    rng.shuffle(sequences)
    for sequence in sequences:
        ledger.add("n", "b", sequence)
    copy = SequenceLedger()
    copy.load(ledger.dump())
    for sequence in range(62):
        assert ledger.is_known("n", "b", sequence) == copy.is_known("n", "b", sequence) == (sequence in sequences)


def test_ledger_is_bounded() -> None:
    ledger = SequenceLedger(pair_limit=3, range_limit=4)
    for sequence in range(1, 100, 2):
        ledger.add("n", "b", sequence)
    assert len(ledger.dump()[0][2]) == 4
    assert ledger.is_known("n", "b", 99) and not ledger.is_known("n", "b", 98)
    for node in "abcd":
        ledger.add(node, "b", 1)
    assert len(ledger) == 3 and not ledger.is_known("n", "b", 99)
