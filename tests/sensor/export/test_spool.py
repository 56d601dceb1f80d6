"""The disk ring: nothing leaves it uncounted, whatever the disk and the process do."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensor.export import spool as spool_module
from sensor.export.spool import RECORD_OVERHEAD_BYTES, BatchKey, Spool, SpoolError

BOOT, LATER_BOOT = "a" * 32, "b" * 32


def open_spool(directory: Path, boot_id: str = BOOT, limit_bytes: int = 1024 * 1024) -> Spool:
    return Spool(directory, boot_id=boot_id, limit_bytes=limit_bytes)


def fill(spool: Spool, sequences: range, size_bytes: int = 100) -> None:
    for sequence in sequences:
        spool.append(
            sequence=sequence, payload=make_payload(sequence, size_bytes), calls=sequence, now_unix_ns=sequence
        )


def make_payload(sequence: int, size_bytes: int = 100) -> bytes:
    return sequence.to_bytes(4, "big") * (size_bytes // 4)


def list_waiting(spool: Spool) -> list[tuple[str, int]]:
    """Keys in the order of sending; also checks that each can be read back whole."""
    for entry in spool.waiting():
        payload = spool.read(entry.ordinal)
        assert payload is not None
        assert payload[:4] == entry.key.sequence.to_bytes(4, "big")
        assert len(payload) == entry.payload_bytes
    return [(entry.key.boot_id, entry.key.sequence) for entry in spool.waiting()]


def test_what_waits_is_read_back_in_order(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    fill(spool, range(1, 4))
    assert list_waiting(spool) == [(BOOT, 1), (BOOT, 2), (BOOT, 3)]
    assert spool.waiting_bytes == 300
    assert spool.oldest_unix_ns == 1
    assert spool.acknowledge(BatchKey(boot_id=BOOT, sequence=1))
    assert not spool.acknowledge(BatchKey(boot_id=BOOT, sequence=1))
    assert not spool.acknowledge(BatchKey(boot_id=LATER_BOOT, sequence=2))
    assert list_waiting(spool) == [(BOOT, 2), (BOOT, 3)]
    assert spool.oldest_unix_ns == 2
    assert (spool.count().seen, spool.count().used) == (1, 1)


def test_a_restart_sends_the_old_first_and_not_what_was_acknowledged(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    fill(spool, range(1, 5))
    spool.acknowledge(BatchKey(boot_id=BOOT, sequence=2))
    # No close: as after kill -9.
    later = open_spool(tmp_path, LATER_BOOT)
    fill(later, range(1, 3))
    assert list_waiting(later) == [(BOOT, 1), (BOOT, 3), (BOOT, 4), (LATER_BOOT, 1), (LATER_BOOT, 2)]
    for boot_id, sequence in list_waiting(later):
        assert later.acknowledge(BatchKey(boot_id=boot_id, sequence=sequence))
    later.close()
    assert list(tmp_path.iterdir()) == []
    assert open_spool(tmp_path).waiting() == []


def test_acknowledgements_of_a_later_process_survive_it(tmp_path: Path) -> None:
    fill(open_spool(tmp_path), range(1, 4))
    open_spool(tmp_path, LATER_BOOT).acknowledge(BatchKey(boot_id=BOOT, sequence=1))
    assert list_waiting(open_spool(tmp_path, "c" * 32)) == [(BOOT, 2), (BOOT, 3)]


def test_a_full_ring_drops_the_oldest_and_counts_their_calls(tmp_path: Path) -> None:
    spool = open_spool(tmp_path, limit_bytes=16_000)
    fill(spool, range(1, 401))
    assert spool.disk_bytes <= 16_000
    waiting = [sequence for _, sequence in list_waiting(spool)]
    assert waiting == list(range(waiting[0], 401))
    count = spool.count()
    assert count.dropped == (("spool_full", sum(range(1, waiting[0]))),)
    assert count.seen == count.dropped_total
    assert 16_000 - 2_000 <= len(waiting) * (100 + RECORD_OVERHEAD_BYTES) <= 16_000


def test_a_smaller_limit_after_a_restart_holds(tmp_path: Path) -> None:
    fill(open_spool(tmp_path, limit_bytes=64_000), range(1, 301))
    spool = open_spool(tmp_path, limit_bytes=16_000)
    assert spool.disk_bytes <= 16_000
    assert list_waiting(spool)[-1] == (BOOT, 300)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2_000), st.binary(max_size=30))
def test_a_torn_tail_is_tolerated(tmp_path_factory: pytest.TempPathFactory, cut: int, junk: bytes) -> None:
    directory = tmp_path_factory.mktemp("spool")
    fill(open_spool(directory), range(1, 9))
    (path,) = directory.iterdir()
    content = path.read_bytes()
    path.write_bytes(content[:cut] + junk)
    spool = open_spool(directory, LATER_BOOT)
    record_bytes = 100 + RECORD_OVERHEAD_BYTES
    whole = min(cut, len(content)) // record_bytes
    assert [sequence for _, sequence in list_waiting(spool)][:whole] == list(range(1, whole + 1))
    # More than what was cut off can only come back where the junk is what was cut.
    assert len(spool.waiting()) in {whole, whole + 1}
    fill(spool, range(1, 3))
    assert list_waiting(spool)[-2:] == [(LATER_BOOT, 1), (LATER_BOOT, 2)]


def test_rotten_bytes_end_their_segment_and_are_counted(tmp_path: Path) -> None:
    fill(open_spool(tmp_path), range(1, 5))
    (path,) = tmp_path.iterdir()
    content = bytearray(path.read_bytes())
    content[2 * (100 + RECORD_OVERHEAD_BYTES) + 60] ^= 1
    path.write_bytes(content)
    spool = open_spool(tmp_path, LATER_BOOT)
    assert list_waiting(spool) == [(BOOT, 1), (BOOT, 2)]
    assert spool.counts.torn_bytes == 2 * (100 + RECORD_OVERHEAD_BYTES)


def test_a_disk_that_refuses_leaves_batches_in_memory_up_to_a_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = open_spool(tmp_path)
    monkeypatch.setattr(spool_module, "MEMORY_BYTES_LIMIT", 250)

    def refuse(descriptor: int, content: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", refuse)
        fill(spool, range(1, 4))
    fill(spool, range(4, 5))
    assert list_waiting(spool) == [(BOOT, 1), (BOOT, 2), (BOOT, 4)]
    assert spool.count().dropped == (("disk_error", 3),)
    assert spool.counts.disk_errors == 3
    for sequence in (1, 2, 4):
        assert spool.acknowledge(BatchKey(boot_id=BOOT, sequence=sequence))
    assert (spool.count().used, spool.count().seen) == (7, 10)


def test_a_half_written_record_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = open_spool(tmp_path)
    fill(spool, range(1, 2))
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, content: write(descriptor, content[:50]))
        fill(spool, range(2, 3))
    fill(spool, range(3, 4))
    assert list_waiting(open_spool(tmp_path, LATER_BOOT)) == [(BOOT, 1), (BOOT, 3)]


def test_a_payload_that_vanished_is_dropped_and_counted(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    fill(spool, range(5, 6))
    (path,) = tmp_path.iterdir()
    path.unlink()
    (entry,) = spool.waiting()
    assert spool.read(entry.ordinal) is None
    assert spool.read(entry.ordinal) is None
    assert spool.count().dropped == (("unreadable", 5),)


def test_a_directory_that_cannot_be_used_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(
        SpoolError, match=r"the spool directory .*file/spool cannot be used \(Not a directory\).*--state-dir"
    ):
        open_spool(tmp_path / "file" / "spool")


moves = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.integers(1, 900)),
        st.tuples(st.sampled_from(["acknowledge", "refuse", "read"]), st.integers(0, 40)),
        st.tuples(st.just("restart"), st.just(0)),
    ),
    max_size=60,
)


@settings(max_examples=60, deadline=None)
@given(moves)
def test_every_call_is_used_dropped_or_waiting(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    directory = tmp_path_factory.mktemp("spool")
    boot, sequence, appended, settled = 0, 0, 0, 0
    spool = open_spool(directory, f"{boot:032x}", limit_bytes=8_000)
    for step, number in steps:
        waiting = spool.waiting()
        if step == "append":
            sequence += 1
            spool.append(sequence=sequence, payload=b"x" * number, calls=number, now_unix_ns=sequence)
            appended += number
        elif step == "restart":
            settled += spool.count().seen
            boot, sequence = boot + 1, 0
            spool = open_spool(directory, f"{boot:032x}", limit_bytes=8_000)
        elif waiting:
            entry = waiting[number % len(waiting)]
            if step == "read":
                assert spool.read(entry.ordinal) == b"x" * entry.calls
            else:
                assert getattr(spool, step)(entry.key)
        assert spool.disk_bytes <= 8_000
        assert spool.waiting_bytes == sum(entry.payload_bytes for entry in spool.waiting())
    held = sum(entry.calls for entry in spool.waiting())
    assert appended == settled + spool.count().seen + held
