"""Which waiting events end a quiet rest (sensor.agent.wakeup): by packets many; by system calls and of TLS any, which
have no records."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from sensor.capture.packets import capture
from sensor.capture.packets.capture import FRAMES_BYTES, MATCHED_PART, PRESSING_PART, RECORDS_BYTES, PacketCapture
from sensor.capture.syscalls import capture as syscall_capture
from sensor.capture.syscalls.capture import SyscallCapture
from sensor.capture.tls.capture import PRESSING_BYTES, RING_BYTES, TlsCapture
from sensor.capture.tls.choice import TlsChoices
from sensor.core.clock import Clock
from sensor.core.read_tls import ReadTls
from sensor.ebpf.abi import STREAM_RECORDS_BYTES
from sensor.ebpf.loader import LoadedProgram
from sensor.ebpf.tracepoints import TracepointProgram
from sensor.ebpf.uprobes import TlsProgram
from tests.sensor.ebpf.rings import FakeRing
from tests.sensor.sensor_fakes import FakeCapture

EVENTS_BYTES = 1 << 20


class Bell:
    """Rings of these tests are files, which epoll does not take."""

    def __init__(self, events_fds: object, records_fd: object = None) -> None: ...


class Rings:
    """The kernel's end of rings by name."""

    def __init__(self, stack: ExitStack, **sizes: int) -> None:
        self._rings = {name: FakeRing(size) for name, size in sizes.items()}
        for ring in self._rings.values():
            stack.callback(ring.close)

    @property
    def maps(self) -> dict[str, int]:
        return {name: ring.fd for name, ring in self._rings.items()}

    def fill(self, name: str, count_bytes: int) -> None:
        self._rings[name].move(count_bytes)


def make_rings(stack: ExitStack) -> Rings:
    sizes = {"records": RECORDS_BYTES, "stream_records": STREAM_RECORDS_BYTES}
    return Rings(stack, events=EVENTS_BYTES, frames=FRAMES_BYTES, **sizes)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.mark.parametrize(("name", "size"), [("events", EVENTS_BYTES), ("frames", FRAMES_BYTES)])
def test_by_packets_many_events_of_either_ring_press(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch, name: str, size: int
) -> None:
    monkeypatch.setattr(capture, "Bell", Bell)
    rings = make_rings(stack)
    program = LoadedProgram(programs={}, maps=rings.maps, cgroup=-1)
    watched = PacketCapture(program=program, ring_bytes=EVENTS_BYTES, clock=Clock())
    assert (watched.has_events(), watched.is_pressing()) == (False, False)
    rings.fill(name, size // PRESSING_PART)
    assert (watched.has_events(), watched.is_pressing()) == (True, False)
    rings.fill(name, 8)
    assert watched.is_pressing()


def test_records_press_where_they_keep_the_kernel_from_matching(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(capture, "Bell", Bell)
    rings = make_rings(stack)
    program = LoadedProgram(programs={}, maps=rings.maps, cgroup=-1)
    watched = PacketCapture(program=program, ring_bytes=EVENTS_BYTES, clock=Clock())
    rings.fill("records", RECORDS_BYTES)
    rings.fill("stream_records", STREAM_RECORDS_BYTES // MATCHED_PART)
    assert (watched.has_records(), watched.has_events(), watched.is_pressing()) == (True, False, False)
    assert watched.pending_bytes() == RECORDS_BYTES + STREAM_RECORDS_BYTES // MATCHED_PART
    rings.fill("stream_records", 8)
    assert (watched.has_events(), watched.is_pressing()) == (False, True)


def test_by_system_calls_it_always_presses(stack: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(syscall_capture, "Bell", Bell)
    rings = Rings(stack, events=EVENTS_BYTES)
    program = TracepointProgram(programs={}, maps=rings.maps)
    watched = SyscallCapture(program=program, ring_bytes=EVENTS_BYTES, clock=Clock())
    assert (watched.has_events(), watched.is_pressing()) == (False, True)
    rings.fill("events", 8)
    assert (watched.has_events(), watched.is_pressing()) == (True, True)


@pytest.mark.parametrize("is_below_pressing", [False, True])
def test_many_events_of_tls_press_and_what_is_below_goes_on_to(
    stack: ExitStack, monkeypatch: pytest.MonkeyPatch, is_below_pressing: bool
) -> None:
    below, rings = FakeCapture(), Rings(stack, events=RING_BYTES)
    monkeypatch.setattr(below, "is_pressing", lambda: is_below_pressing)
    program = TlsProgram(programs={}, maps=rings.maps)
    monkeypatch.setattr("sensor.capture.tls.capture.UPROBES", ())
    watched = TlsCapture(
        below=below,
        program=program,
        clock=Clock(),
        proc="/proc",
        min_age_seconds=0,
        choices=TlsChoices(ReadTls.FULL, calls_per_second=1, calls_burst=1),
        calls_per_second=1,
    )
    assert (watched.has_events(), watched.is_pressing()) == (False, is_below_pressing)
    rings.fill("events", PRESSING_BYTES)
    assert (watched.has_events(), watched.is_pressing()) == (True, is_below_pressing)
    rings.fill("events", 8)
    assert watched.is_pressing()
