"""What the log promises: order, durability, replays with the same bounds, and nothing deleted before it was read."""

import errno
import json
import os
import random
import shutil
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.log.base import Append, LogCounts, LogFullError, Position
from collector.log.file_reader import FileLogReader
from collector.log.files import FileLog
from collector.log.ledger import SequenceLedger
from collector.log.segment import HEAD_BYTES, MAGIC, decode_frames, encode_frame, find_segments, locate_segment
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


OPENED: list[FileLog] = []


@pytest.fixture(autouse=True)
def close_wals() -> Iterator[None]:
    yield
    while OPENED:
        OPENED.pop().close()


def open_wal(directory: Path, **settings: object) -> FileLog:
    OPENED.append(FileLog(directory, readers=("store", "detectors"), **settings))  # type: ignore[arg-type]
    return OPENED[-1]


def read_all(reader: FileLogReader, limit_bytes: int = 100_000) -> list[int]:
    """Sequences still to come, from the entries' times."""
    found = []
    while entries := reader.read(limit_bytes):
        found += [entry.received_unix_ns - NOW * 1_000_000_000 for entry in entries]
    return found


def test_two_readers_get_everything_in_order_across_segments(tmp_path: Path) -> None:
    wal = open_wal(tmp_path, segment_bytes=1_000)
    readers = [FileLogReader(tmp_path, name) for name in ("store", "detectors")]
    for sequence in range(1, 24):
        wal.append([make_append(sequence)])
    assert len(find_segments(tmp_path)) > 3
    for reader in readers:
        assert read_all(reader) == list(range(1, 24))
        assert reader.counts == LogCounts()


def test_segment_goes_when_both_readers_passed_it(tmp_path: Path) -> None:
    wal = open_wal(tmp_path, segment_bytes=1_000)
    store, detectors = FileLogReader(tmp_path, "store"), FileLogReader(tmp_path, "detectors")
    for sequence in range(1, 24):
        wal.append([make_append(sequence)])
    before = find_segments(tmp_path)
    read_all(store)
    store.commit(store.position)
    assert wal.trim() == 0
    read_all(detectors)
    detectors.commit(detectors.position)
    assert wal.trim() == len(before) - 1
    assert find_segments(tmp_path) == before[-1:]
    assert wal.measure_bytes() == locate_segment(tmp_path, before[-1]).stat().st_size


def test_uncommitted_batches_come_again_after_a_restart(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    wal.append([make_append(sequence) for sequence in range(1, 6)])
    reader = FileLogReader(tmp_path, "store")
    entries = reader.read()
    reader.commit(entries[1].end)
    reader.claim(entries[3].end)
    again = FileLogReader(tmp_path, "store")
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
    newest = locate_segment(tmp_path, find_segments(tmp_path)[-1])
    assert 0 < newest.stat().st_size < wal.measure_bytes()
    again = open_wal(tmp_path)
    assert again.id == first_id
    assert all(again.is_known("node-a", "boot-1", sequence) for sequence in range(1, 24))
    assert not again.is_known("node-a", "boot-1", 24)
    assert not again.is_known("node-a", "boot-2", 1)


@pytest.mark.parametrize("cut", [1, 15, 16, 17, 300])
def test_torn_tail_is_left_behind(tmp_path: Path, cut: int) -> None:
    wal = open_wal(tmp_path)
    wal.append([make_append(1), make_append(2)])
    path = locate_segment(tmp_path, wal.position.segment)
    os.truncate(path, path.stat().st_size - cut)
    again = open_wal(tmp_path)
    assert again.is_known("node-a", "boot-1", 1) and not again.is_known("node-a", "boot-1", 2)
    again.append([make_append(2), make_append(3)])
    reader = FileLogReader(tmp_path, "store")
    assert read_all(reader) == [1, 2, 3]
    assert reader.counts == LogCounts()


BATCHES = 300


@pytest.fixture(scope="module")
def full_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of 300 batches in several segments, closed."""
    directory = tmp_path_factory.mktemp("log")
    wal = FileLog(directory, readers=("store",), segment_bytes=40_000)
    for sequence in range(1, BATCHES + 1):
        wal.append([make_append(sequence)])
    wal.close()
    return directory


def find_owner(directory: Path, segment: int, offset: int) -> int:
    """The sequence of the batch whose frame has this byte."""
    content = locate_segment(directory, segment).read_bytes()
    for entry in decode_frames(content, Position(segment, 0), is_complete=True).entries:
        if entry.start.offset <= offset < entry.end.offset:
            return entry.received_unix_ns - NOW * 1_000_000_000
    raise LookupError(offset)


@settings(deadline=None, max_examples=120)
@given(share=st.floats(0, 1, exclude_max=True), in_head=st.booleans(), bits=st.integers(1, 255))
def test_any_damaged_byte_costs_the_batch_that_it_is_in(full_log: Path, share: float, in_head: bool, bits: int) -> None:
    numbers = [number for number in find_segments(full_log) if locate_segment(full_log, number).stat().st_size]
    segment = numbers[int(share * len(numbers))]
    content = bytearray(locate_segment(full_log, segment).read_bytes())
    offset = int(share * len(numbers) % 1 * len(content))
    owner = find_owner(full_log, segment, offset)
    if in_head:
        entries = decode_frames(bytes(content), Position(segment, 0), is_complete=True).entries
        start = next(one.start.offset for one in entries if one.start.offset <= offset < one.end.offset)
        offset = start + (offset - start) % HEAD_BYTES
    content[offset] ^= bits
    with TemporaryDirectory() as name:
        damaged = Path(name)
        for path in full_log.iterdir():
            shutil.copy(path, damaged)
        locate_segment(damaged, segment).write_bytes(content)
        # The start of a collector: the newest segment is complete from then on.
        with closing(FileLog(damaged, readers=("store",))) as wal:
            assert not wal.is_known("node-a", "boot-1", BATCHES + 1)
            reader = FileLogReader(damaged, "store")
            found = read_all(reader, limit_bytes=3_000)
            assert found == [sequence for sequence in range(1, BATCHES + 1) if sequence != owner]
            assert reader.counts.lost_batches == 1
            assert 0 < reader.counts.damaged_bytes <= len(make_append(owner).payload) + HEAD_BYTES
            wal.append([make_append(BATCHES + 1)])
            assert read_all(reader) == [BATCHES + 1]
            assert reader.counts.lost_batches == 1


def test_bytes_that_held_several_batches_are_counted_by_the_numbers(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    wal.append([make_append(sequence) for sequence in range(1, 10)])
    path = locate_segment(tmp_path, wal.position.segment)
    content = path.read_bytes()
    entries = decode_frames(content, Position(wal.position.segment, 0), is_complete=True).entries
    start, end = entries[2].start.offset + 5, entries[4].start.offset + 5
    path.write_bytes(content[:start] + bytes(end - start) + content[end:])
    reader = FileLogReader(tmp_path, "store")
    assert read_all(reader) == [1, 2, 6, 7, 8, 9]
    counts = reader.counts
    assert (counts.lost_batches, counts.recovered_batches) == (3, 4)
    assert counts.damaged_bytes == entries[4].end.offset - entries[2].start.offset
    # What is read again is counted once, and who begins behind the damage counts none.
    reader.rewind()
    assert read_all(reader) == [1, 2, 6, 7, 8, 9] and reader.counts == counts
    reader.commit(reader.position)
    again = FileLogReader(tmp_path, "store")
    wal.append([make_append(10)])
    assert read_all(again) == [10] and again.counts == LogCounts()


def test_file_that_lost_its_end_is_counted_by_the_numbers(tmp_path: Path) -> None:
    wal = open_wal(tmp_path, segment_bytes=1_500)
    for sequence in range(1, 10):
        wal.append([make_append(sequence)])
    first = locate_segment(tmp_path, find_segments(tmp_path)[0])
    os.truncate(first, first.stat().st_size - 700)
    reader = FileLogReader(tmp_path, "store")
    found = read_all(reader)
    assert reader.counts.lost_batches == 9 - len(found) > 0


def test_batch_inside_a_damaged_batch_is_not_taken_for_one(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    wal.append([make_append(1)])
    segment, offset = wal.position.segment, wal.position.offset
    forged = encode_frame(b"forged", number=2, received_unix_ns=1, position=Position(segment, 7))
    wal.append([replace(make_append(2), payload=b"x" * 100 + MAGIC * 50 + forged + b"x" * 100), make_append(3)])
    path = locate_segment(tmp_path, segment)
    content = bytearray(path.read_bytes())
    content[offset + 6] ^= 1
    path.write_bytes(content)
    assert read_all(FileLogReader(tmp_path, "store")) == [1, 3]


@given(
    parts=st.lists(
        st.one_of(st.binary(max_size=60), st.just(MAGIC), st.just(b"\0" * 40), st.just(b"frame")), max_size=12
    ),
    is_complete=st.booleans(),
)
def test_whatever_lies_in_a_file_is_frames_or_damage_or_undecided(parts: list[bytes], is_complete: bool) -> None:
    start, content, frames = Position(7, 100), bytearray(), 0
    for part in parts:
        if part == b"frame":
            position = Position(7, 100 + len(content))
            content += encode_frame(b"payload", number=frames + 1, received_unix_ns=1, position=position)
            frames += 1
        else:
            content += part
    decoded = decode_frames(bytes(content), start, is_complete=is_complete)
    at = start
    for one in decoded.parts:
        assert one.start == at and one.end > at
        at = one.end
    assert decoded.end == at <= Position(7, 100 + len(content))
    assert [entry.number for entry in decoded.entries] == list(range(1, frames + 1))
    rest = content[at.offset - 100 :]
    if is_complete:  # What is left a crash can have left.
        assert len(rest) < HEAD_BYTES or not any(rest)


def test_segments_of_another_format_go_once_the_store_has_them(tmp_path: Path) -> None:
    old = tmp_path / "0000000000000004.wal"

    def write_old_log(position: list[int]) -> None:
        (tmp_path / "id").write_text("0123456789abcdef")
        (tmp_path / "sequences.json").write_text('{"before_segment": 4, "pairs": [["node-a", "boot-1", [[1, 5]]]]}')
        old.write_bytes(b"x" * 40)
        (tmp_path / "store.cursor").write_text(json.dumps({"position": position, "claim_end": None}))

    write_old_log([4, 20])
    with pytest.raises(ValueError, match="holds batches that are not in the tables; start that build once more"):
        open_wal(tmp_path)
    write_old_log([4, 40])
    wal = open_wal(tmp_path)
    assert not old.exists() and wal.position.segment > 4
    assert wal.is_known("node-a", "boot-1", 5)
    wal.append([make_append(6)])
    reader = FileLogReader(tmp_path, "store")
    assert read_all(reader) == [6] and reader.counts == LogCounts()


def test_failed_sync_leaves_nothing_in_the_log(tmp_path: Path) -> None:
    failing = True

    def sync(descriptor: int) -> None:
        if failing:
            raise OSError(errno.ENOSPC, "No space left on device")
        os.fsync(descriptor)

    wal = open_wal(tmp_path, sync=sync)
    with pytest.raises(OSError, match="No space"):
        wal.append([make_append(1)])
    assert not wal.is_known("node-a", "boot-1", 1)
    failing = False
    failed_at = wal.position
    wal.append([make_append(2)])
    assert wal.position.segment == failed_at.segment + 1  # No position is used twice.
    assert read_all(FileLogReader(tmp_path, "store")) == [2]


def test_full_log_refuses_while_the_store_is_behind(tmp_path: Path) -> None:
    wal = open_wal(tmp_path, segment_bytes=1_000, limit_bytes=6_000)
    store = FileLogReader(tmp_path, "store")
    FileLogReader(tmp_path, "detectors")
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
    store, detectors = FileLogReader(tmp_path, "store"), FileLogReader(tmp_path, "detectors")
    wal.append([make_append(1)])
    assert read_all(detectors) == [1]
    for sequence in range(2, 60):
        wal.append([make_append(sequence)])
        read_all(store)
        store.commit(store.position)
    rest = read_all(detectors)
    assert rest == list(range(rest[0], 60)) and rest[0] > 2
    assert detectors.counts == LogCounts(skipped_batches=rest[0] - 2)
    assert wal.measure_bytes() <= 10_000


def test_reader_of_an_empty_log_waits_and_then_reads(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    reader = FileLogReader(tmp_path, "store")
    assert reader.read() == []
    wal.append([make_append(1)])
    assert read_all(reader) == [1]
    assert reader.position == wal.position > Position(0, 0)


def test_large_batch_is_read_whole(tmp_path: Path) -> None:
    wal = open_wal(tmp_path)
    wal.append([make_append(1), make_append(2)])
    reader = FileLogReader(tmp_path, "store")
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
    ledger = SequenceLedger(node_limit=3, process_limit=2, range_limit=4)
    for sequence in range(1, 100, 2):
        ledger.add("n", "b", sequence)
    assert len(ledger.dump()[0][2]) == 4
    assert ledger.is_known("n", "b", 99) and not ledger.is_known("n", "b", 98)
    for process in "cde":
        ledger.add("n", process, 1)
    ledger.add("m", "b", 1)
    assert len(ledger) == 3 and not ledger.is_known("n", "b", 99) and ledger.is_known("n", "d", 1)
    for node in "abc":
        ledger.add(node, "b", 1)
    assert len(ledger) == 3 and not ledger.is_known("n", "e", 1)
