"""Which way of capture is taken: packets where they can be, system calls where not, and one clear line about it."""

import logging
from pathlib import Path
from typing import Any

import pytest

from sensor.agent import attach
from sensor.agent import attach as prepared
from sensor.core.clock import Clock
from sensor.core.config import CaptureWay, SensorSettings
from sensor.core.read_tls import ReadTls
from sensor.core.state import StartError
from sensor.ebpf.loader import LoadError
from sensor.ebpf.pieces import Pieces
from sensor.http.http2.streams import AlikeCalls
from tests.sensor.scopes import MOUNT, watch_cgroup, watch_host

PACKETS, SYSCALLS = object(), object()
REFUSED = "attaching to the cgroup failed: Operation not permitted"


class Kernel:
    """What it lets be loaded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.packets: object = PACKETS
        self.syscalls: object = SYSCALLS
        self.given: dict[str, Any] = {}  # To the one that was loaded last.
        monkeypatch.setattr(attach.PacketCapture, "load", lambda **given: self._give(self.packets, given))
        monkeypatch.setattr(
            attach.SyscallCapture,
            "load",
            lambda settings, **given: self._give(self.syscalls, {**given, "settings": settings}),
        )

    def _give(self, what: object, given: dict[str, Any]) -> Any:
        self.given = given
        if isinstance(what, Exception):
            raise what
        return what


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    return Kernel(monkeypatch)


def open_capture(way: CaptureWay = CaptureWay.AUTO, mount: Path | None = MOUNT) -> object:
    settings = SensorSettings(collector="127.0.0.1:1", capture=way, read_tls=ReadTls.OFF)
    return attach.open_capture(settings, watch_host(mount), Clock(), Pieces(), AlikeCalls())


def test_packets_where_the_kernel_lets_us(kernel: Kernel, caplog: pytest.LogCaptureFixture) -> None:
    assert open_capture() is open_capture(CaptureWay.CGROUP_SKB) is PACKETS
    assert not caplog.records


def test_system_calls_without_cgroup_v2(kernel: Kernel, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert open_capture(mount=None) is SYSCALLS
    (line,) = caplog.messages
    assert "by system calls" in line and "no cgroup v2 is mounted at or below /sys/fs/cgroup" in line


def test_system_calls_where_the_hook_is_refused(kernel: Kernel, caplog: pytest.LogCaptureFixture) -> None:
    kernel.packets = LoadError(REFUSED)
    with caplog.at_level(logging.WARNING):
        assert open_capture() is SYSCALLS
    assert REFUSED in caplog.text
    assert kernel.given["fallback_reason"] == REFUSED


@pytest.mark.parametrize("packets", [PACKETS, LoadError(REFUSED)])
def test_a_scope_is_kept_by_packets_and_by_what_stands_in_for_them(
    kernel: Kernel, tmp_path: Path, packets: object
) -> None:
    kernel.packets = packets
    scope, settings = (
        watch_cgroup(tmp_path, tmp_path.parent),
        SensorSettings(collector="127.0.0.1:1", read_tls=ReadTls.OFF),
    )
    attach.open_capture(settings, scope, Clock(), Pieces(), AlikeCalls())
    if packets is PACKETS:
        assert (kernel.given["cgroup_path"], kernel.given["is_root_cgroup"]) == (tmp_path, False)
    else:
        assert kernel.given["settings"].scope_id == scope.cgroup_id
    open_capture()
    if packets is PACKETS:
        assert (kernel.given["cgroup_path"], kernel.given["is_root_cgroup"]) == (MOUNT, True)
    else:
        assert kernel.given["settings"].scope_id == 0


def test_system_calls_where_they_are_asked_for(kernel: Kernel, caplog: pytest.LogCaptureFixture) -> None:
    assert open_capture(CaptureWay.SYSCALLS) is SYSCALLS
    assert kernel.given["fallback_reason"] == ""
    assert not caplog.records


def test_packets_alone_where_they_are_asked_for(kernel: Kernel) -> None:
    kernel.packets = LoadError(REFUSED)
    with pytest.raises(LoadError, match=REFUSED):
        open_capture(CaptureWay.CGROUP_SKB)
    with pytest.raises(StartError, match="mount one, correct --cgroup-path, or set capture to auto"):
        open_capture(CaptureWay.CGROUP_SKB, mount=None)


def test_where_neither_works_the_first_reason_is_told(kernel: Kernel) -> None:
    kernel.packets, kernel.syscalls = LoadError("the module bcc is missing"), LoadError("no types")
    with pytest.raises(LoadError, match="bcc is missing"):
        open_capture()
    with pytest.raises(LoadError, match="no types"):
        open_capture(mount=None)


def test_what_tls_cannot_do_stops_nothing(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    def refuse(*_: object) -> None:
        raise LoadError("TLS cannot be read here: no types")

    monkeypatch.setattr(prepared, "load_tls", refuse)
    settings = SensorSettings(collector="127.0.0.1:1", state_dir=tmp_path, read_tls=ReadTls.FULL)
    with caplog.at_level(logging.WARNING):
        assert attach.open_capture(settings, watch_host(), Clock(), Pieces(), AlikeCalls()) is PACKETS
    assert "TLS is not read: TLS cannot be read here: no types" in caplog.text
