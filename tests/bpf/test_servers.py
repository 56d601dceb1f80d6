"""23 calls of real servers, straight from each way of capture: what a kernel that is new to us has to show."""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.vm.images import RING_BYTES, find_images
from sensor.capture.packets.capture import PacketCapture
from sensor.capture.syscalls.capture import SyscallCapture
from sensor.core.calls import Exchange
from sensor.core.clock import Clock
from sensor.ebpf.tracepoints import ProbeSettings
from tests.bpf.test_http2 import Cut, anywhere, collect, connect, every, expected, play, rows, whole
from tests.e2e.application import Server, Servers
from tests.e2e.traffic import MIX, send_mix
from tests.e2e.wire import RawClient
from tests.sensor.http.http2_conversation import converse
from tests.waiting import DEADLINE_SECONDS

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module", params=["cgroup_skb", "syscalls"])
def way(request: pytest.FixtureRequest, home: Path) -> Iterator[PacketCapture | SyscallCapture]:
    """One way of capture, loaded and attached."""
    capture: PacketCapture | SyscallCapture
    if request.param == "syscalls":
        capture = SyscallCapture.load(
            ProbeSettings(ring_bytes=RING_BYTES), clock=Clock(), cache_directory=find_images()
        )
    else:
        capture = PacketCapture.load(
            cgroup_path=home,
            ring_bytes=RING_BYTES,
            is_root_cgroup=True,
            clock=Clock(),
            cache_directory=find_images(),
        )
    yield capture
    capture.close()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """Started by the tests; all end with the module."""
    running = Servers(tmp_path_factory.mktemp("servers"))
    yield running
    running.stop()


def wait_for(capture: PacketCapture | SyscallCapture, server: Server, count: int) -> list[Exchange]:
    """The exchanges of a server, once `count` are there (and a moment longer: none may come after)."""
    found: list[Exchange] = []
    deadline = time.monotonic() + DEADLINE_SECONDS
    is_last = False
    while not is_last:
        is_last = len(found) >= count or time.monotonic() > deadline
        time.sleep(0.1)
        found += [each for each in capture.read() if isinstance(each, Exchange) and each.ends.local_port == server.port]
    return found


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
@pytest.mark.parametrize("kind", ["nginx", pytest.param("python", marks=pytest.mark.full)])
def test_23_requests_are_23_calls(
    way: PacketCapture | SyscallCapture, servers: Servers, kind: str, address: str
) -> None:
    server = servers.start(kind, address)
    with RawClient(address, server.port) as client:
        send_mix(client)
    found = wait_for(way, server, len(MIX))
    assert Counter(
        (each.figures.status_code, each.figures.request_bytes, each.figures.response_bytes) for each in found
    ) == Counter((each.status, each.request_bytes, each.response_bytes) for each in client.calls)
    assert [each.call for each in found] == list(range(len(MIX)))
    assert not any(each.figures.is_lossy or each.figures.is_aborted for each in found)


@pytest.mark.parametrize("cut", [whole, every(100), anywhere(1)])
@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_calls_of_http2(way: PacketCapture | SyscallCapture, address: str, cut: Cut) -> None:
    conversation = converse(11, 60)
    way.read()
    with connect(address) as (client, server, port):
        play(conversation.sent, (client, server), cut)
        told = collect(way, port, len(conversation.ended))
    assert rows(told) == expected(conversation.ended)
    assert not any(one.call.is_lossy or one.call.has_unknown_fields for one in told)
