"""What the programs of bpf/tls.c remember of sessions and processes: what the sensor refuses is not told any more, and
sockets are followed only of processes whose library does not name them."""

import asyncio
import os
import ssl
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.bench_cases.searching import search_path
from scripts.vm.images import RING_BYTES, find_images
from sensor.capture.syscalls.streams import unpack_event
from sensor.ebpf import uprobes
from sensor.ebpf.abi import (
    LOOKS_SIZE,
    SYSCALL_COUNTER_PARTS,
    SYSCALL_COUNTERS_SIZE,
    ConnectionKind,
    SyscallCounter,
    SyscallEvent,
    SyscallKind,
    TlsCounter,
)
from sensor.ebpf.bpf_syscall import read_batch, read_divided_counts
from sensor.ebpf.ring import Ring
from sensor.ebpf.tracepoints import ProbeSettings
from sensor.ebpf.uprobes import ProcessAccount, TlsProgram, close_probes, load_tls
from tests.bpf.cgroups import in_cgroup
from tests.bpf.tls import client_context, make_certificate, serving_https
from tests.e2e.wire import RawClient
from tests.waiting import DEADLINE_SECONDS

pytestmark = [pytest.mark.kernel, pytest.mark.full]

LIBRARY = "/usr/lib/x86_64-linux-gnu/libssl.so.3"
EVENTS = 3  # Of a call at its server: the request, the head of the answer, and its body.


class Probed:
    """Python's own library of TLS, probed; everything in this process is both ends."""

    def __init__(self, program: TlsProgram) -> None:
        self.program = program
        self.ring = Ring(program.maps["events"], RING_BYTES)
        self.events = 0

    def read(self, port: int) -> list[SyscallEvent]:
        """Events of a port's server."""
        events = [unpack_event(record)[0] for record in self.ring.read(1 << 20)]
        self.events += len(events)
        return [event for event in events if event.local_port == port]

    def wait(self, port: int, count: int) -> list[SyscallEvent]:
        """So many: an answer may be read before its writer is seen to have written it."""
        found = self.read(port)
        deadline = time.monotonic() + DEADLINE_SECONDS
        while len(found) < count and time.monotonic() < deadline:
            time.sleep(0.01)
            found += self.read(port)
        assert len(found) == count
        return found

    def is_followed(self) -> bool:
        """Whether the kernel looks at what this process sends and receives."""
        rows = dict(read_batch(self.program.maps["callers"], 4, 1, LOOKS_SIZE))
        return rows[(os.getpid() % LOOKS_SIZE).to_bytes(4, "little")] != b"\0"


@pytest.fixture
def probed() -> Iterator[Probed]:
    """Watches the cgroup of this process alone: other programs of the host use the library too."""
    if os.geteuid() != 0:
        pytest.skip("attaching needs root")
    pytest.importorskip("bcc", reason="python3-bpfcc is not installed")
    with in_cgroup("sessions") as cgroup:
        settings = ProbeSettings(ring_bytes=RING_BYTES, scope_id=cgroup.stat().st_ino)
        program = load_tls(settings, find_images())
        sites = search_path(LIBRARY).choose(has_cookies=program.has_cookies)
        probes: list[int] = []
        try:
            program.attach()
            probes += program.open_probes(LIBRARY, [site.probe for site in sites])
            probed = Probed(program)
            yield probed
            probed.ring.close()
        finally:
            close_probes(probes)
            program.close()


def test_a_session_that_is_refused_is_not_told_any_more(probed: Probed, tmp_path: Path) -> None:
    with (
        serving_https(make_certificate(tmp_path), ssl.TLSVersion.TLSv1_3) as port,
        RawClient("127.0.0.1", port, tls=client_context()) as refused,
        RawClient("127.0.0.1", port, tls=client_context()) as other,
    ):
        refused.call("GET", "/7")
        (session,) = {event.socket for event in probed.wait(port, EVENTS)}
        probed.program.refuse(session, ConnectionKind.OTHER)
        for _ in range(3):
            refused.call("GET", "/7")
            assert not probed.read(port)
        other.call("GET", "/7")
        (told,) = {event.socket for event in probed.wait(port, EVENTS)}
        assert told != session
        probed.program.refuse(told, ConnectionKind.OTHER)
        other.call("GET", "/7")
        refused.call("GET", "/7")
        assert not probed.read(port)
    probed.read(port)
    counts = read_divided_counts(probed.program.maps["counters"], SYSCALL_COUNTERS_SIZE, SYSCALL_COUNTER_PARTS)
    assert counts[SyscallCounter.EVENTS] == probed.events > 0
    assert counts[TlsCounter.SESSIONS] == 4  # Two connections, both ends of each.


def test_calls_beyond_what_a_process_may_have_are_refused_and_counted(probed: Probed, tmp_path: Path) -> None:
    with (
        serving_https(make_certificate(tmp_path), ssl.TLSVersion.TLSv1_3) as port,
        RawClient("127.0.0.1", port, tls=client_context()) as client,
    ):
        own = os.getpid()
        for limits, is_refused in (({0: 2}, True), ({0: 2, own: 1_000_000}, False), ({own: 2}, True), ({}, False)):
            probed.program.limit_each(limits)
            before = probed.program.read_accounts().get(own, ProcessAccount(0, 0))
            for _ in range(20):
                client.call("GET", "/7")
            after = probed.program.read_accounts()[own]
            assert after.calls - before.calls == 40  # Both ends.
            assert (after.refused > before.refused) == is_refused
    requests = [event for event in probed.read(port) if event.kind == SyscallKind.READ]
    assert 40 <= len(requests) < 80


def test_sockets_are_followed_where_the_library_does_not_name_them(probed: Probed, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    with serving_https(certificate, ssl.TLSVersion.TLSv1_3) as port:
        with RawClient("127.0.0.1", port, tls=client_context()) as client:
            client.call("GET", "/7")
        assert probed.read(port)
        assert not probed.is_followed()
        asyncio.run(_call_in_memory(port))
    assert probed.is_followed()
    assert all(event.family for event in probed.read(port))


async def _call_in_memory(port: int) -> None:
    """asyncio hands bytes to a library that sees no socket."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_context())
    writer.write(b"GET /7 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
    assert (await reader.read()).startswith(b"HTTP/1.1 200")
    writer.close()


def test_a_breakpoint_that_is_stepped_over_counts_as_several(probed: Probed) -> None:
    """Ten of each, of a function that is in no library of TLS."""
    if probed.program.try_choosing(Path("/proc")):
        pytest.skip("this kernel puts probes into all processes or into none")
    path, offset = uprobes._find_place(uprobes._find_address())
    counted = []
    for cookie in (0, uprobes.STEPPED):
        probed.program.forget_accounts([os.getpid()])
        probes = probed.program.open_probes(path, [(offset, "session_shutdown", cookie)], os.getpid())
        try:
            for _ in range(10):
                uprobes._libc.wctob(0x61)
        finally:
            close_probes(probes)
        counted.append(probed.program.read_accounts()[os.getpid()].breakpoints)
    assert counted == [10, 100]
