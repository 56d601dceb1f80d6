"""A sensor that waits for the one before it."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from sensor.agent.lock import LockError, NodeLock, describe_waiting, take_node
from sensor.core.state import SensorState
from tests.sensor.scopes import watch_host


@pytest.fixture
def locks(tmp_path: Path) -> Iterator[tuple[NodeLock, NodeLock]]:
    """Two sensors of one node."""
    name = f"apidae-test-{uuid4().hex}"
    first, second = (
        NodeLock(
            tmp_path,
            watch_host(),
            version="1",
            now=lambda: "now",
            state_directory=tmp_path / "state",
            abstract_name=name,
        )
        for _ in range(2)
    )
    yield first, second
    for lock in (first, second):
        lock.release()


class Story:
    """What happened, in order; the other sensor stops to capture after some sleeps, and ends as many later."""

    def __init__(self, other: NodeLock | None = None, *, after: int = 3) -> None:
        self.told: list[str] = []
        self.now = 0.0
        self._other, self._after, self._end = other, after, 2 * after
        self._sleeps = 0

    def prepare(self) -> None:
        self.told.append("prepared")

    @contextmanager
    def report_ready(self) -> Iterator[None]:
        self.told.append("ready")
        yield
        self.told.append("took over")

    def begin(self, prepared: None) -> None:
        self.told.append("began")

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self._sleeps += 1
        if self._other is None:
            return
        if self._sleeps == self._after:
            self.told.append("other has detached")
            self._other.release_scope()
        if self._sleeps == self._end:
            self.told.append("other has ended")
            self._other.release()

    def clock(self) -> float:
        return self.now

    def take(self, lock: NodeLock, wait_seconds: float) -> None:
        take_node(
            lock,
            wait_seconds=wait_seconds,
            prepare=self.prepare,
            report_ready=self.report_ready,
            begin=self.begin,
            sleep=self.sleep,
            clock=self.clock,
        )


def test_a_free_node_is_taken_at_once(locks: tuple[NodeLock, NodeLock]) -> None:
    story = Story()
    story.take(locks[0], 60)
    assert story.told == []


def test_the_next_sensor_captures_before_the_first_has_ended(locks: tuple[NodeLock, NodeLock]) -> None:
    first, second = locks
    first.acquire()
    story = Story(first)
    story.take(second, 60)
    assert story.told == ["prepared", "ready", "other has detached", "began", "other has ended", "took over"]
    with pytest.raises(LockError):
        first.acquire()


def test_a_sensor_that_does_not_end_is_not_waited_for_for_ever(locks: tuple[NodeLock, NodeLock]) -> None:
    first, second = locks
    first.acquire()
    first.release_scope()
    story = Story()
    with pytest.raises(LockError, match=f"pid {os.getpid()}.*with --state-dir"):
        story.take(second, 10)
    assert story.told == ["prepared", "ready", "began"]
    assert 10 <= story.now < 11


def test_a_sensor_that_gave_up_its_scope_knows_whether_another_has_it(locks: tuple[NodeLock, NodeLock]) -> None:
    first, second = locks
    first.acquire()
    first.release_scope()
    assert not first.is_followed()
    second.acquire_scope()
    assert first.is_followed()
    with pytest.raises(LockError, match="with --state-dir"):
        second.acquire_state()
    first.release()
    second.acquire_state()


def test_without_patience_it_is_refused_as_ever(locks: tuple[NodeLock, NodeLock]) -> None:
    first, second = locks
    first.acquire()
    story = Story()
    with pytest.raises(LockError, match="Another sensor already runs"):
        story.take(second, 0)
    assert story.told == []


def test_patience_ends(locks: tuple[NodeLock, NodeLock]) -> None:
    first, second = locks
    first.acquire()
    story = Story()
    with pytest.raises(LockError, match=f"pid {os.getpid()}"):
        story.take(second, 10)
    assert 10 <= story.now < 11


def test_sigterm_ends_the_wait(locks: tuple[NodeLock, NodeLock]) -> None:
    first, second = locks
    first.acquire()
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        take_node(
            second,
            wait_seconds=60,
            prepare=lambda: None,
            sleep=lambda seconds: os.kill(os.getpid(), signal.SIGTERM),
        )
    assert ended.value.code == 0
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_sensor_that_waits_says_so() -> None:
    report = describe_waiting(lambda: 7)
    assert (report.time_unix_ns, report.state) == (7, SensorState.PAUSED)
    assert "waits for the sensor before it" in report.reason
