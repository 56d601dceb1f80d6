"""What a sensor has ready while it waits, and when it begins with it."""

import logging
from pathlib import Path
from typing import Any, cast

import pytest

from sensor.agent import attach
from sensor.agent import attach as prepared
from sensor.agent.attach import Prepared, prepare_capture
from sensor.capture.packets.capture import PacketCapture
from sensor.core.clock import Clock
from sensor.core.config import CaptureWay, SensorSettings
from sensor.core.read_tls import ReadTls
from sensor.coverage.gaps import Gaps
from sensor.ebpf.loader import LoadError
from sensor.ebpf.pieces import Pieces
from sensor.http.http2.streams import AlikeCalls
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


class Waiting:
    """A sensor that waits."""

    def __init__(self, *, may_begin: bool = True) -> None:
        self.program = FakeProgram()
        self.prepared = Prepared(cast(Any, self.program), may_begin=may_begin, unix_ns=lambda: NOW)


def test_it_begins_as_soon_as_the_scope_is_its_own() -> None:
    waiting = Waiting()
    assert waiting.prepared.attached_unix_ns is None
    waiting.prepared.begin()
    assert (waiting.program.moves, waiting.prepared.attached_unix_ns) == (["attach"], NOW)


def test_without_a_key_nothing_is_captured_before_the_collector_was_there() -> None:
    waiting = Waiting(may_begin=False)
    waiting.prepared.begin()
    assert waiting.program.moves == []


def test_what_cannot_be_attached_is_logged_and_left_to_the_start(caplog: pytest.LogCaptureFixture) -> None:
    waiting = Waiting()
    waiting.program.is_refused = True
    with caplog.at_level(logging.WARNING):
        waiting.prepared.begin()
    assert caplog.text.count(REFUSED) == 1
    assert waiting.prepared.attached_unix_ns is None


def test_the_gap_ends_when_it_was_attached_and_is_told_to_the_millisecond(tmp_path: Path) -> None:
    times = iter([NOW - 7_000_000, NOW + 900_000_000])
    gaps = Gaps(tmp_path / "captured-until", unix_ns=lambda: next(times), boot_unix_ns=0)
    gaps.begin()
    gaps.note_attached(NOW)
    assert gaps.is_attached
    gaps.begin()
    assert (gaps.count, gaps.total_ns, gaps.is_attached) == (1, 7_000_000, False)


def test_what_was_prepared_is_what_captures(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = object()
    given: dict[str, Any] = {}
    monkeypatch.setattr(prepared, "load_program", lambda *_, **__: loaded)
    monkeypatch.setattr(PacketCapture, "load", lambda **arguments: given.update(arguments))
    settings = SensorSettings(collector="127.0.0.1:1", read_tls=ReadTls.OFF)
    waiting = prepare_capture(settings, watch_host())
    assert waiting.program is loaded
    attach.open_capture(settings, watch_host(), Clock(), Pieces(), AlikeCalls(), waiting)
    assert given["program"] is loaded


@pytest.mark.parametrize(("way", "mount"), [(CaptureWay.SYSCALLS, MOUNT), (CaptureWay.AUTO, None)])
def test_nothing_is_prepared_for_system_calls(way: CaptureWay, mount: Path | None) -> None:
    settings = SensorSettings(collector="127.0.0.1:1", read_tls=ReadTls.OFF, capture=way)
    assert prepare_capture(settings, watch_host(mount)).program is None


def test_what_cannot_be_prepared_is_told_and_tried_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise LoadError(REFUSED)

    monkeypatch.setattr(prepared, "load_program", refuse)
    with caplog.at_level(logging.WARNING):
        assert (
            prepare_capture(SensorSettings(collector="127.0.0.1:1", read_tls=ReadTls.OFF), watch_host()).program is None
        )
    assert REFUSED in caplog.text
