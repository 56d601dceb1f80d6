"""The follower on a real log in a temporary directory: resume after a cut, acknowledgement before checkpoint; and one
real child."""

import errno
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from collector.alerting.alert import AlertSignal, Signal
from collector.detection.checkpoint import VERSION, CheckpointError, load_checkpoint
from collector.detection.engine import Engine
from collector.detection.follower import FEW_BYTES, Follower
from collector.detection.framework.slots import Slots
from collector.detection.memory import FileMemory
from collector.detection.messages import SignalBatch
from collector.detection.process import AWAY_ENDS, DetectorProcess, DetectorsAwayError
from collector.detection.read_boundaries import CutJournal
from collector.log.base import Append, Position
from collector.log.file_reader import FileLogReader
from collector.log.files import FileLog
from collector.log.open import LogPlace
from collector.receiver.convert import convert_bytes
from collector.storage.base import StoreError
from collector.storage.columns import RowBatch
from collector.storage.row_group import RowGroup
from tests.accuracy.volume import write_batch
from tests.collector.api.fakes import make_alert
from tests.collector.detection.states import list_arrays
from tests.collector.detection.stream import START

DEADLINE_SECONDS = 60.0


class Kept(list[AlertSignal]):
    """The signals that came, each number of a series once, as in the state."""

    def __init__(self) -> None:
        super().__init__()
        self.next: dict[str, int] = {}

    def take(self, told: SignalBatch) -> None:
        self += told.signals[max(0, self.next.get(told.series, 0) - told.first) :]  # type: ignore[arg-type]
        self.next[told.series] = told.first + len(told.signals)


def wait_for(process: DetectorProcess, is_met: Callable[[], bool]) -> None:
    """Poll until the condition holds; fails with the process's state where it does not within the deadline."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not is_met():
        assert time.monotonic() < deadline, (
            f"not met within {DEADLINE_SECONDS:.0f} s: child {process.pid}, {process.restart_count} restarts, "
            f"counts {process.counts}"
        )
        process.poll(1.0)


def kill_child(process: DetectorProcess) -> None:
    child = process._child
    assert child is not None
    child.kill()
    child.wait(DEADLINE_SECONDS)


def fill(directory: Path, windows: range) -> None:
    """A log of one endpoint called 20 times a minute, and 2,000 times in minute 40."""
    wal = FileLog(directory, readers=["detectors"])
    for w in windows:
        payload = write_batch(START + 60 * w, 2_000 if w >= 40 else 20, 60, w + 1)
        received = (START + 60 * w + 61) * 10**9
        wal.append([Append(node="n", boot_id="b", sequence=w + 1, received_unix_ns=received, payload=payload)])
    wal.close()


def follow(directory: Path, told: list[SignalBatch], engine: Engine | None = None) -> Follower:
    follower = Follower(
        reader=FileLogReader(directory, "detectors"),
        engine=engine or Engine(),
        memory=FileMemory(directory / "detectors.state"),
        report=told.append,
    )
    follower.resume()
    return follower


def locate(follower: Follower) -> Path:
    assert isinstance(follower.memory, FileMemory)
    return follower.memory.path


def test_cut_run_tells_the_same_signals_with_the_same_numbers(tmp_path: Path) -> None:
    fill(tmp_path, range(44))
    whole: list[SignalBatch] = []
    one = follow(tmp_path, whole)
    while one.step():
        pass
    assert whole
    cut: list[SignalBatch] = []
    two = follow(tmp_path, cut)
    while two.step():
        pass
    assert cut == whole
    assert not two.save()
    two.taken = two.next_signal
    assert two.save()
    later: list[SignalBatch] = []
    three = follow(tmp_path, later)
    assert not three.step()
    assert (three.position, three.next_signal, later) == (two.position, two.next_signal, [])
    assert three.engine.watermark == two.engine.watermark


class Fed(Engine):
    """An engine that remembers what was judged together: windows and rows."""

    def __init__(self) -> None:
        super().__init__()
        self.groups: list[tuple[int, int]] = []

    def feed(self, rows: RowBatch | RowGroup, received_at: int | Slots) -> list[Signal]:
        assert isinstance(rows, RowGroup)
        self.groups.append((int(rows.rows.window_start[0]), len(rows.rows)))
        return super().feed(rows, received_at)


def append(wal: FileLog, sequence: int, window: int) -> None:
    payload = write_batch(START + 60 * window, 20, 60, sequence)
    received = (START + 60 * window + 61) * 10**9
    wal.append([Append(node="n", boot_id="b", sequence=sequence, received_unix_ns=received, payload=payload)])


def test_what_was_judged_together_is_judged_together_after_a_crash(tmp_path: Path) -> None:
    wal = FileLog(tmp_path, readers=["detectors"], segment_bytes=2_000)
    reads = [3, 1, 0, 5, 2, 7, 4, 1, 6]  # Batches between two looks at the log.
    live, sequence = Fed(), 0
    one = follow(tmp_path, [], live)
    for number, count in enumerate(reads):
        for _ in range(count):
            sequence += 1
            append(wal, sequence, number // 2)
        while one.step():
            pass
        if number == 2:
            assert one.save()
            live.groups.clear()
    assert sum(rows for _, rows in live.groups) == sum(reads[3:])
    assert [rows for _, rows in live.groups if rows >= 5] == [5, 7, 6]  # Reads end at a segment's end, too.
    for _ in range(2):  # Crashed while it went on from a crash, too.
        again = Fed()
        two = follow(tmp_path, [], again)
        while two.step():
            pass
        assert again.groups == live.groups
        assert two.position == one.position
    append(wal, sequence + 1, 5)
    assert two.step() and again.groups[-1] == (START + 300, 1)
    wal.close()


class Failing(Fed):
    """An engine with a fault that the rows of one minute show, after it took half of them."""

    def feed(self, rows: RowBatch | RowGroup, received_at: int | Slots) -> list[Signal]:
        found = super().feed(rows, received_at)
        assert isinstance(rows, RowGroup)
        if (rows.rows.window_start == START + 60 * 5).any():
            raise IndexError("a fault of ours")
        return found


def test_a_batch_on_which_a_detector_fails_is_skipped_and_the_rest_is_read(tmp_path: Path) -> None:
    wal = FileLog(tmp_path, readers=["detectors"])
    one = follow(tmp_path, [], Failing())
    for sequence in range(1, 6):
        append(wal, sequence, sequence)
        with suppress(IndexError):
            one.step()
    engine = Failing()
    two = follow(tmp_path, [], engine)  # The process that is started again.
    append(wal, 6, 6)
    append(wal, 7, 7)
    while two.step():
        pass
    assert [window for window, _ in engine.groups] == [START + 60 * window for window in (1, 2, 3, 4, 6, 7)]
    assert two.refused_batches == 1
    assert two.position == wal.position
    two.taken = two.next_signal
    assert two.save()
    three = follow(tmp_path, [], Failing())
    assert not three.step()
    wal.close()


def test_where_the_log_lost_what_was_read_the_rest_is_read(tmp_path: Path) -> None:
    wal = FileLog(tmp_path, readers=[], segment_bytes=100)
    follow(tmp_path, []).save()
    for sequence in range(1, 6):
        append(wal, sequence, sequence)
        one = follow(tmp_path, [])
        while one.step():
            pass
    segments = sorted(tmp_path.glob("*.wal"))
    for path in segments[:3]:
        path.unlink()
    engine = Fed()
    two = follow(tmp_path, [], engine)
    while two.step():
        pass
    assert two.position == one.position
    assert [window for window, _ in engine.groups] == [START + 60 * window for window in (4, 5)]
    wal.close()


def test_real_child_hands_over_its_signals_and_survives_a_kill(tmp_path: Path) -> None:
    fill(tmp_path, range(44))
    expected: list[SignalBatch] = []
    follower = follow(tmp_path, expected)
    while follower.step():
        pass
    taken = Kept()
    process = DetectorProcess(
        log=LogPlace(directory=tmp_path), checkpoint_path=tmp_path / "detectors.state", take=taken.take
    )
    process.start()
    count = sum(len(told.signals) for told in expected)
    wait_for(process, lambda: len(taken) >= count)
    kill_child(process)
    wait_for(process, lambda: process.restart_count > 0)
    wait_for(process, lambda: process.pid is not None)
    process.stop()
    assert taken == [signal for told in expected for signal in told.signals]


def test_nobody_waits_for_detectors_that_do_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None was started; then each ends before it reports anything. The next one does what was asked for."""
    place = LogPlace(directory=tmp_path)
    process = DetectorProcess(log=place, checkpoint_path=tmp_path / "detectors.state", take=Kept().take)
    with pytest.raises(DetectorsAwayError, match="The detectors do not run"):
        process.erase("principal:1", 3_600.0)
    monkeypatch.setattr("collector.detection.process.RESTART_WAIT_SECONDS", 0.0)
    with monkeypatch.context() as context:
        context.setattr(sys, "executable", "/bin/false")
        wait_for(process, lambda: process.restart_count >= AWAY_ENDS)
        with pytest.raises(DetectorsAwayError):
            process.erase("principal:1", 3_600.0)
    wait_for(process, lambda: not process.is_away and not process._requests)
    process.stop()


def test_what_the_store_did_not_take_is_taken_with_the_next_poll(tmp_path: Path) -> None:
    fill(tmp_path, range(44))
    expected: list[SignalBatch] = []
    follower = follow(tmp_path, expected)
    while follower.step():
        pass
    taken = Kept()
    failures = 3

    def take(told: SignalBatch) -> None:
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise StoreError("The store is away.")
        taken.take(told)

    process = DetectorProcess(log=LogPlace(directory=tmp_path), checkpoint_path=tmp_path / "detectors.state", take=take)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while len(taken) < sum(len(told.signals) for told in expected) and time.monotonic() < deadline:
        with suppress(StoreError):
            process.poll(0.5 if failures > 0 else 0.1)
        if failures < 0 and not process._pipe.poll(2.0):  # type: ignore[union-attr]
            break  # The child has told all it had to.
    process.stop()
    assert taken == [signal for told in expected for signal in told.signals]


def test_real_child_learns_by_the_clocks_of_the_time_zone_that_is_set(tmp_path: Path) -> None:
    fill(tmp_path, range(2))
    state = tmp_path / "detectors.state"
    process = DetectorProcess(
        log=LogPlace(directory=tmp_path), checkpoint_path=state, take=Kept().take, time_zone="Asia/Tokyo"
    )
    process.start()
    wait_for(process, lambda: process.pid is not None)
    process.stop()
    assert list_arrays(state)["time_zone"].tobytes() == b"Asia/Tokyo"


def test_real_child_judges_nothing_before_it_has_the_mapping(tmp_path: Path) -> None:
    fill(tmp_path, range(2))
    state = tmp_path / "detectors.state"
    process = DetectorProcess(log=LogPlace(directory=tmp_path), checkpoint_path=state, take=Kept().take)
    process.map_routes({1: "another"})
    process.map_routes({1: "an endpoint"})
    process.start()
    kill_child(process)
    wait_for(process, lambda: process.restart_count > 0)
    process.map_routes({2: "a second"})  # What came before is sent to each child, too.
    wait_for(process, lambda: process.pid is not None)
    process.stop()
    engine = Engine()
    assert load_checkpoint(state, engine) is not None
    names = engine.subjects.endpoints.list_names(engine.subjects.endpoints.live().tolist())
    assert [name.endpoint_id for name in names if name is not None] == ["an endpoint"]


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_damaged_state_is_refused_with_its_path_and_the_fix(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "detectors.state").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"detectors.state cannot be read .* move it aside"):
        load_checkpoint(tmp_path / "detectors.state", Engine())


def test_damaged_state_is_moved_aside_and_learning_begins_anew(tmp_path: Path) -> None:
    fill(tmp_path, range(3))
    (tmp_path / "detectors.state").write_bytes(b"not a checkpoint")
    follower = follow(tmp_path, [])
    assert (tmp_path / "detectors.state.damaged").read_bytes() == b"not a checkpoint"
    assert follower.step() and follower.save()


@pytest.mark.parametrize("place", [0, 3, 15, 100, -5])
def test_state_with_one_damaged_byte_is_moved_aside_whatever_its_reader_raises(tmp_path: Path, place: int) -> None:
    fill(tmp_path, range(3))
    one = follow(tmp_path, [])
    while one.step():
        pass
    assert one.save()
    content = bytearray(locate(one).read_bytes())
    content[place] ^= 0xFF
    locate(one).write_bytes(content)
    assert follow(tmp_path, []).position == Position(0, 0)
    assert (tmp_path / "detectors.state.damaged").read_bytes() == content


def test_nothing_is_written_while_nothing_is_judged(tmp_path: Path) -> None:
    fill(tmp_path, range(3))
    one = follow(tmp_path, [])
    assert not one.has_news
    while one.step():
        pass
    assert one.has_news and one.unsaved_bytes and one.save() and not one.has_news and not one.unsaved_bytes
    one.step()
    assert not one.has_news and not follow(tmp_path, []).has_news


def test_larger_states_are_written_more_seldom(tmp_path: Path) -> None:
    one = follow(tmp_path, [])
    one.unsaved_bytes = FEW_BYTES
    pauses = []
    for one.saved_bytes in (0, 110_000, 12_000_000):
        pauses.append(one.pause_seconds)
    assert pauses == [30, 110, 300]
    assert 86_400 / 110 * 110_000 < 100e6


def test_few_batches_are_no_reason_for_a_checkpoint_but_the_first(tmp_path: Path) -> None:
    one = follow(tmp_path, [])
    one.unsaved_bytes = FEW_BYTES - 1
    assert one.pause_seconds == 30
    one.saved_bytes = 110_000
    assert one.pause_seconds == 300


def test_state_is_compressed_and_an_older_one_without_compression_is_read(tmp_path: Path) -> None:
    fill(tmp_path, range(30))
    one = follow(tmp_path, [])
    while one.step():
        pass
    assert one.save()
    arrays = list_arrays(locate(one))
    assert one.saved_bytes == locate(one).stat().st_size
    assert 100 * one.saved_bytes < sum(array.nbytes for array in arrays.values())
    with locate(one).open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    assert follow(tmp_path, []).engine.used_calls == one.engine.used_calls > 0


def test_full_disk_ends_nothing_and_leaves_no_half_written_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path, range(44))
    whole: list[SignalBatch] = []
    one = follow(tmp_path, whole)
    while one.step():
        pass
    told: list[SignalBatch] = []
    locate(one).with_suffix(".cuts").unlink()
    two = follow(tmp_path, told)

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full_disk:
        full_disk.setattr(os, "fsync", refuse)
        full_disk.setattr(CutJournal, "add", refuse)
        while two.step():
            pass
        assert two.engine.used_calls == one.engine.used_calls and told == whole
        two.taken = two.next_signal
        assert not two.save() and two.disk_errors == 2 and two.has_news
        assert not list(tmp_path.glob("*.new"))
    assert two.sentences == [
        "The disk or the log fails the detectors ([Errno 28] No space left on device); they go on without it."
    ]
    assert two.count().disk_fault == "[Errno 28] No space left on device"
    assert two.save() and not two.has_news and two.count().totals.disk_errors == 2 and not two.count().disk_fault


def test_log_that_cannot_be_read_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, range(5))
    one = follow(tmp_path, [])
    with monkeypatch.context() as bad_disk:

        def fail(*_: object) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        bad_disk.setattr(Path, "open", fail)
        assert not one.step() and not one.has_news and one.disk_errors == 1
    while one.step():
        pass
    assert one.engine.used_calls == 5 * 20


def test_state_without_one_of_its_parts_leaves_nothing_of_the_others(tmp_path: Path) -> None:
    fill(tmp_path, range(3))
    one = follow(tmp_path, [])
    while one.step():
        pass
    assert one.save()
    arrays = list_arrays(locate(one))
    arrays = {name: array for name, array in arrays.items() if not name.startswith("detectors.volume.consumers.")}
    with locate(one).open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    two = follow(tmp_path, [])
    assert two.position == Position(0, 0)
    assert (two.engine.watermark, two.engine.used_calls, len(two.engine.subjects.endpoints)) == (0, 0, 0)


def test_state_of_an_older_version_is_moved_aside_told_once_and_learnt_anew(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fill(tmp_path, range(44))
    state = tmp_path / "detectors.state"
    with state.open("wb") as file:
        np.savez(file, version=np.array([1]))
    old = state.read_bytes()
    taken = Kept()
    process = DetectorProcess(log=LogPlace(directory=tmp_path), checkpoint_path=state, take=taken.take)
    wait_for(process, lambda: bool(taken))
    process.stop()
    assert process.restart_count == 0
    assert (tmp_path / "detectors.state.v1").read_bytes() == old
    assert [record.message for record in caplog.records] == [
        f"Detectors learn anew, their state was moved to {state}.v1: version 1 is not {VERSION}."
    ]


def test_expected_level_survives_a_kill_right_after_it(tmp_path: Path) -> None:
    fill(tmp_path, range(44))
    state = tmp_path / "detectors.state"
    taken = Kept()
    process = DetectorProcess(log=LogPlace(directory=tmp_path), checkpoint_path=state, take=taken.take)
    wait_for(process, lambda: bool(taken))
    signal = taken[0]
    alert = make_alert(
        "a",
        kind=signal.kind,
        endpoint_id=signal.endpoint_id,
        consumer=signal.consumer,
        calls=signal.calls,
        window_start=signal.window_start,
        window_end=signal.window_start + signal.window_seconds,
    )
    process.expect(alert)
    wait_for(process, lambda: not process._requests)
    kill_child(process)
    follower = follow(tmp_path, [])  # Reads what the killed child had written.
    twin = Engine()
    for entry in FileLogReader(tmp_path, "twin").read():
        batch = convert_bytes(entry.payload, entry.received_unix_ns / 10**9)
        assert isinstance(batch, RowBatch)
        twin.feed(batch, entry.received_unix_ns // 10**9)
    twin.expect(signal.kind, signal.endpoint_id, signal.consumer, signal.calls / signal.window_seconds)
    process.poll(1.0)
    process.stop()
    left, right = ({n: a for n, a in one.dump().items() if ".detector." in n} for one in (follower.engine, twin))
    assert left and all(np.array_equal(left[name], right[name]) for name in left)


def test_mapping_larger_than_the_pipe_does_not_block_the_parent(tmp_path: Path) -> None:
    fill(tmp_path, range(44))
    taken = Kept()
    process = DetectorProcess(
        log=LogPlace(directory=tmp_path), checkpoint_path=tmp_path / "detectors.state", take=taken.take
    )
    process.start()
    mapping = {route: f"endpoint-{route:032x}" for route in range(50_000)}  # 2.5 MB; a pipe holds about 200 KiB.
    for _ in range(20):
        process.map_routes(mapping)
    wait_for(process, lambda: bool(taken))
    process.stop()
    assert process.restart_count == 0
