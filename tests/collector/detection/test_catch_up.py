"""Nodes that send a backlog at different speeds: all of it is evaluated, in the order of time, also over a crash."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from apidae.v1 import data_pb2

from collector.alerting.alert import Signal
from collector.detection import catch_up as module
from collector.detection.catch_up import (
    CATCH_UP_SECONDS_MAX,
    GATHER_SECONDS,
    LIVE_SECONDS,
    SILENT_SECONDS,
    CatchUp,
    Place,
    Sent,
)
from collector.detection.engine import Engine
from collector.detection.follower import Follower
from collector.detection.framework.slots import Slots
from collector.detection.framework.windows import LATENESS_SECONDS
from collector.detection.memory import FileMemory
from collector.detection.messages import SignalBatch
from collector.log.base import Append, Entry, Position
from collector.log.file_reader import FileLogReader
from collector.log.files import FileLog
from collector.storage.columns import RowBatch
from collector.storage.row_group import RowGroup
from tests.accuracy.volume import write_batch

STEP = 10  # A window.
NODES = tuple(f"n{number}" for number in range(10))
AWAY = 1_700_000_000  # When the collector went,
BACK = AWAY + 6 * 3_600  # and when it came back.


class Log:
    """Batches that come, and what passes."""

    def __init__(self, catch_up: CatchUp | None = None) -> None:
        self.catch_up = catch_up or CatchUp()
        self.passed: list[int] = []
        self.watermark = AWAY
        self._offset = 0

    def put(self, node: str, newest: int, received_at: int, nodes: Sequence[str] = NODES) -> None:
        start, self._offset = self._offset, self._offset + 1
        entry = Entry(start=Position(1, start), end=Position(1, start + 1), number=1, received_unix_ns=0, payload=b"")
        if self.catch_up.take([Sent(node, newest, received_at, entry)], self.watermark, lambda: nodes):
            self._pass(newest)

    def take(self) -> list[Place]:
        taken = list(self.catch_up.take_due())
        for place in taken:
            self._pass(place.newest)
        return taken

    def _pass(self, newest: int) -> None:
        self.passed.append(newest)
        self.watermark = max(self.watermark, newest)

    def count_late(self) -> int:
        late, watermark = 0, 0
        for newest in self.passed:
            late += newest + LATENESS_SECONDS < watermark
            watermark = max(watermark, newest)
        return late


def send_backlog(log: Log, speeds: Sequence[int]) -> None:
    """Each node sends its backlog and what comes meanwhile, so many windows a second; the first dials 20 s before the
    last."""
    sent = dict.fromkeys(NODES, AWAY)
    now = BACK
    while min(sent.values()) < now - STEP or log.catch_up.is_active:
        now += 1
        for place, (node, speed) in enumerate(zip(NODES, speeds, strict=True)):
            for _ in range(speed if now > BACK + 2 * place else 0):
                if sent[node] < now - STEP:
                    sent[node] += STEP
                    log.put(node, sent[node], now)
        log.take()
        assert now < BACK + 3_600


def test_six_hours_of_ten_nodes_at_different_speeds_are_evaluated_in_full() -> None:
    log = Log()
    send_backlog(log, range(5, 15))
    windows = 6 * 360
    assert len(log.passed) > 10 * windows and log.count_late() == 0
    assert all(count == 10 for newest, count in Counter(log.passed).items() if newest <= BACK)
    assert not log.catch_up.waiting_count


def test_without_a_backlog_nothing_waits() -> None:
    log = Log()
    for now in range(BACK, BACK + 600):
        log.put("n0", now - LIVE_SECONDS, now)
        log.put("n1", AWAY - 3_600, now)  # Its backlog is late whatever the others do.
    assert not log.catch_up.is_active and len(log.passed) == 1_200


def test_earlier_nodes_are_waited_for_until_they_could_have_dialled() -> None:
    log = Log()
    log.put("n0", AWAY + STEP, BACK, nodes=("n0", "n1"))
    assert not log.take()
    log.put("n1", AWAY + STEP, BACK + 1)
    assert [place.newest for place in log.take()] == [AWAY + STEP] * 2
    other = Log()
    other.put("n0", AWAY + STEP, BACK, nodes=("n0", "gone"))
    other.put("n0", AWAY + 2 * STEP, BACK + GATHER_SECONDS - 1)
    assert not other.take()
    other.put("n0", AWAY + 3 * STEP, BACK + GATHER_SECONDS)
    assert len(other.take()) == 3


def test_a_node_that_fell_silent_is_not_waited_for() -> None:
    log = Log()
    for node in ("n0", "n1"):
        log.put(node, AWAY + STEP, BACK, nodes=("n0", "n1"))
    log.put("n0", BACK + SILENT_SECONDS, BACK + SILENT_SECONDS)
    assert len(log.take()) == 2 and log.catch_up.waiting_count == 1
    log.put("n0", BACK + SILENT_SECONDS, BACK + SILENT_SECONDS + 1)
    assert len(log.take()) == 2 and not log.catch_up.is_active


def test_nobody_waits_longer_than_a_catch_up_lasts() -> None:
    log = Log()
    for second in range(CATCH_UP_SECONDS_MAX + 2):  # The first falls behind further and further.
        log.put("n0", AWAY + second // 2, BACK + second, nodes=("n0", "n1"))
        log.put("n1", BACK + second, BACK + second)
        log.take()
    assert not log.catch_up.is_active and log.catch_up.waiting_count == 0
    log.put("n0", AWAY + 2_000, BACK + CATCH_UP_SECONDS_MAX + 2)
    assert log.count_late() == 1  # What is late is passed on, and the engine counts it.


def test_more_than_the_most_that_may_wait_passes_in_the_order_of_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAITING_MAX", 3)
    log = Log()
    for newest in (40, 10, 30, 20, 50):
        log.put(f"n{newest}", AWAY + newest, BACK, nodes=("gone",))
    assert [place.newest - AWAY for place in log.take()] == [10, 20]


def test_what_waits_is_saved_with_the_state() -> None:
    one = Log()
    one.put("n0", AWAY + STEP, BACK, nodes=("n0", "n1"))
    one.put("n0", AWAY + 2 * STEP, BACK + 1)
    two = Log(CatchUp())
    assert one.catch_up.first == Position(1, 0) and not two.catch_up.dump("a.")
    two.catch_up.load(one.catch_up.dump("a."), "a.")
    assert two.catch_up.waiting_count == 2
    for log in (one, two):
        log._offset = 2
        log.put("n1", AWAY + STEP, BACK + 2)
    assert one.take() == two.take() != []


# By the detectors' own process, of a log on disk


def fill(directory: Path, minutes: int) -> int:
    """A log in which three nodes called 20 times a minute; then the collector was away, and they send all since, each
    faster than the next. Gives the calls."""
    wal = FileLog(directory, readers=["detectors"], segment_bytes=2_000)
    sequence = 0

    def append(node: str, minute: int, received_at: int) -> None:
        nonlocal sequence
        sequence += 1
        batch = data_pb2.Batch.FromString(write_batch(AWAY + 60 * minute, 20, 60, sequence))
        batch.node = node
        wal.append(
            [
                Append(
                    node=node,
                    boot_id="b",
                    sequence=sequence,
                    received_unix_ns=received_at * 10**9,
                    payload=batch.SerializeToString(),
                )
            ]
        )

    for node in NODES[:3]:
        append(node, 0, AWAY + 61)
    back = AWAY + 60 * minutes
    sent = dict.fromkeys(NODES[:3], 0)
    for second in range(minutes):
        for speed, node in zip((1, 3, 6), NODES[:3], strict=True):
            for _ in range(speed):
                if sent[node] < minutes:
                    sent[node] += 1
                    append(node, sent[node], back + second)
    wal.close()
    return 20 * sequence


class Fed(Engine):
    """An engine that remembers which rows it got."""

    def __init__(self) -> None:
        super().__init__()
        self.groups: list[list[int]] = []

    def feed(self, batch: RowBatch | RowGroup, received_at: int | Slots) -> list[Signal]:
        rows = batch.rows if isinstance(batch, RowGroup) else batch
        self.groups.append(rows.window_start.tolist())
        return super().feed(batch, received_at)


class Clock:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def follow(directory: Path, engine: Engine) -> tuple[Follower, Clock]:
    told: list[SignalBatch] = []
    follower = Follower(
        reader=FileLogReader(directory, "detectors"),
        engine=engine,
        memory=FileMemory(directory / "detectors.state"),
        report=told.append,
        monotonic=(clock := Clock()),
    )
    follower.resume()
    return follower, clock


def run(follower: Follower, clock: Clock) -> None:
    """Until nothing comes, for as long as somebody might be waited for."""
    while follower.step():
        pass
    clock.seconds += SILENT_SECONDS
    follower.step()


def test_detectors_evaluate_a_backlog_in_full(tmp_path: Path) -> None:
    calls = fill(tmp_path, 100)  # For rows are late once the window of their hour has closed.
    engine = Engine()
    run(*follow(tmp_path, engine))
    assert (engine.used_calls, engine.dropped_calls["late"]) == (calls, 0)


def test_a_backlog_that_nobody_waits_for_is_late_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BACKLOG_SECONDS", 1_000_000)
    calls = fill(tmp_path, 100)  # For rows are late once the window of their hour has closed.
    engine = Engine()
    run(*follow(tmp_path, engine))
    assert engine.dropped_calls["late"] == calls - engine.used_calls > calls / 10


@pytest.mark.parametrize("saved_at", [1, 3, 6])
def test_a_crash_while_nodes_catch_up_changes_nothing(tmp_path: Path, saved_at: int) -> None:
    calls = fill(tmp_path, 40)
    live = Fed()
    one, clock = follow(tmp_path, live)
    for number in range(1, 100):
        if not one.step():
            break
        if number == saved_at:
            assert one.save()
            live.groups.clear()
    clock.seconds += SILENT_SECONDS
    one.step()
    assert number > saved_at and live.used_calls == calls and one.has_news
    again = Fed()
    two, _ = follow(tmp_path, again)  # The process that was killed, and started again.
    while two.step():
        pass
    assert again.groups == live.groups and again.used_calls == calls
    assert two.save() and not two.has_news and two.count().totals.batches_lost == 0
    three, _ = follow(tmp_path, Engine())
    assert not three.step() and three.engine.used_calls == calls
