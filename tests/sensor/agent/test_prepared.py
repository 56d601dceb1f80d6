"""What a sensor has ready while it waits, and when it begins with it."""

import logging
from pathlib import Path
from typing import Any, cast

import pytest

from sensor.agent import attach
from sensor.agent import attach as prepared
from sensor.agent.attach import Prepared, find_lineage, prepare_capture
from sensor.capture.packets.capture import Capture
from sensor.core.clock import Clock
from sensor.core.config import CaptureWay, SensorSettings
from sensor.coverage.gaps import Gaps
from sensor.ebpf.handover import Estate
from sensor.ebpf.loader import LoadError
from sensor.ebpf.pieces import Pieces
from sensor.http.http2.alike import AlikeCalls
from tests.sensor.scopes import MOUNT, watch_host

REFUSED = "attaching to the cgroup failed: Operation not permitted"
NOW = 1_795_629_600_000_000_000


class FakeProgram:
    """One that was loaded beforehand."""

    def __init__(self) -> None:
        self.moves: list[str] = []
        self.is_refused = False

    def attach(self) -> None:
        if self.is_refused:
            raise LoadError(REFUSED)
        self.moves.append("attach")

    def detach(self) -> None:
        self.moves.append("detach")


class FakeClaim:
    """What the sensor before gave or said."""

    def __init__(self) -> None:
        self.estate: Estate | None = None
        self.is_free = False

    def poll(self) -> None: ...

    def close(self) -> None: ...


class Waiting:
    """A sensor that waits."""

    def __init__(self, *, may_begin: bool = True, left: Estate | None = None) -> None:
        self.program, self.claim = FakeProgram(), FakeClaim()
        self.prepared = Prepared(
            cast(Any, self.program),
            cast(Any, self.claim),
            may_begin=may_begin,
            take_left=lambda: left,
            unix_ns=lambda: NOW,
        )


def make_estate() -> Estate:
    return Estate(descriptors={}, state=b"state")


def test_it_begins_as_soon_as_the_one_before_has_detached() -> None:
    waiting = Waiting()
    waiting.prepared.poll()
    assert waiting.prepared.attached_unix_ns is None
    waiting.claim.is_free = True
    waiting.prepared.poll()
    waiting.prepared.poll()
    assert waiting.prepared.attached_unix_ns == NOW
    waiting.prepared.begin()
    assert waiting.program.moves == ["attach"]
    assert waiting.prepared.take_estate() is None


def test_it_lets_go_where_another_got_the_node() -> None:
    waiting = Waiting()
    for waiting.claim.is_free in (True, False, False):
        waiting.prepared.poll()
    assert waiting.program.moves == ["attach", "detach"]
    assert waiting.prepared.attached_unix_ns is None


def test_after_one_that_was_killed_it_begins_with_the_node() -> None:
    waiting = Waiting()
    waiting.prepared.poll()
    waiting.prepared.begin()
    assert (waiting.program.moves, waiting.prepared.attached_unix_ns) == (["attach"], NOW)


@pytest.mark.parametrize("is_left", [True, False])
def test_what_was_given_or_left_goes_on_and_nothing_begins_beside_it(is_left: bool) -> None:
    estate = make_estate()
    waiting = Waiting(left=estate if is_left else None)
    waiting.claim.estate = None if is_left else estate
    waiting.prepared.poll()
    waiting.prepared.begin()
    assert waiting.program.moves == [] and waiting.prepared.attached_unix_ns is None
    assert waiting.prepared.take_estate() is estate
    assert waiting.prepared.take_estate() is None


def test_without_a_key_nothing_is_captured_before_the_collector_was_there(tmp_path: Path) -> None:
    waiting = Waiting(may_begin=False)
    waiting.claim.is_free = True
    waiting.prepared.poll()
    waiting.prepared.begin()
    assert waiting.program.moves == []


def test_what_cannot_be_attached_is_told_once_and_left_to_the_start(caplog: pytest.LogCaptureFixture) -> None:
    waiting = Waiting()
    waiting.program.is_refused = waiting.claim.is_free = True
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            waiting.prepared.poll()
        waiting.prepared.begin()
    assert caplog.text.count(REFUSED) == 1
    assert waiting.prepared.attached_unix_ns is None


def test_the_gap_ends_when_it_was_attached_and_is_told_to_the_millisecond(tmp_path: Path) -> None:
    times = iter([NOW - 7_000_000, NOW + 900_000_000])
    gaps = Gaps(tmp_path / "captured-until", unix_ns=lambda: next(times), boot_unix_ns=0)
    gaps.go_on()
    gaps.note_attached(NOW)
    assert gaps.is_attached
    gaps.begin()
    assert (gaps.count, gaps.total_ns, gaps.is_attached) == (1, 7_000_000, False)


def test_what_was_prepared_is_what_captures(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = object()
    given: dict[str, Any] = {}
    monkeypatch.setattr(prepared, "load_program", lambda *_, **__: loaded)
    monkeypatch.setattr(Capture, "load", lambda **arguments: given.update(arguments))
    settings = SensorSettings(collector="127.0.0.1:1")
    waiting = prepare_capture(settings, watch_host())
    assert waiting.program is loaded
    attach.open_capture(settings, watch_host(), Clock(), Pieces(), AlikeCalls(), waiting)
    assert given["program"] is loaded


@pytest.mark.parametrize(("way", "mount"), [(CaptureWay.SYSCALLS, MOUNT), (CaptureWay.AUTO, None)])
def test_nothing_is_prepared_for_system_calls(way: CaptureWay, mount: Path | None) -> None:
    settings = SensorSettings(collector="127.0.0.1:1", capture=way)
    assert prepare_capture(settings, watch_host(mount)).program is None
    assert find_lineage(settings, watch_host(mount)) is None


def test_who_enforces_takes_nothing_over_from_who_does_not(tmp_path: Path) -> None:
    kinds = [SensorSettings(collector="127.0.0.1:1", is_enforcing=one) for one in (False, True, False)]
    first, other, same = (find_lineage(settings, watch_host(tmp_path)) for settings in kinds)
    assert first == same != other


def test_what_cannot_be_prepared_is_told_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise LoadError(REFUSED)

    monkeypatch.setattr(prepared, "load_program", refuse)
    with caplog.at_level(logging.WARNING):
        assert prepare_capture(SensorSettings(collector="127.0.0.1:1"), watch_host()).program is None
    assert REFUSED in caplog.text
