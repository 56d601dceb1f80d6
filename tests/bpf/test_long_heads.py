"""Long request heads and odd request lines: each way of capture reads the same of them, and it names who calls what."""

import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from scripts.vm.images import RING_BYTES, find_images
from sensor.capture.packets.capture import PacketCapture
from sensor.capture.syscalls.capture import SyscallCapture
from sensor.core.calls import Exchange
from sensor.core.clock import Clock
from sensor.coverage.unread import UnreadCount, UnreadReason
from sensor.ebpf.tracepoints import ProbeSettings
from sensor.http.http1.head import HEAD_BYTES_KEPT, RequestHead, parse_request_head
from tests.bpf.cgroups import in_cgroup
from tests.bpf.recognised import Watch, drain
from tests.bpf.test_capture import answering
from tests.bpf.wire import receive_exactly, response, serving, talk
from tests.waiting import DEADLINE_SECONDS

pytestmark = pytest.mark.kernel

IDENTITY = b"Host: shop\r\nAuthorization: Bearer abc\r\nCookie: sid=1\r\n\r\n"
ATTACK = b"&q=1%20UNION%20SELECT%201"
LONG = {
    "query": b"GET /search?p=" + b"x" * 8_200 + ATTACK + b" HTTP/1.1\r\n",
    "query to the limit": b"GET /search?p=" + b"x" * 32_000 + ATTACK + b" HTTP/1.1\r\n",
    "fields": b"GET /search?p=" + ATTACK + b" HTTP/1.1\r\n" + b"X-Pad: %s\r\n" % (b"p" * 880) * 12,
    "fields of nginx": b"GET /search?p=" + ATTACK + b" HTTP/1.1\r\n" + b"X-Pad: %s\r\n" % (b"p" * 8_000) * 4,
    "short fields": b"GET /search?p=" + ATTACK + b" HTTP/1.1\r\n" + b"A: b\r\n" * 3_000,
    "fields of Go": b"GET /search?p=" + ATTACK + b" HTTP/1.1\r\n" + b"X-Pad: %s\r\n" % (b"p" * 4_000) * 50,
    "two spaces": b"GET  /search?p=" + ATTACK + b"  HTTP/1.1\r\n",
    "tabs": b"GET\t/search?p=" + ATTACK + b"\x0bHTTP/1.1\r\n",
}
PIECE = 4_096


@pytest.fixture(scope="module")
def syscalls() -> Iterator[SyscallCapture]:
    capture = SyscallCapture.load(ProbeSettings(ring_bytes=RING_BYTES), clock=Clock(), cache_directory=find_images())
    yield capture
    capture.close()


def check(capture: PacketCapture | SyscallCapture, head: bytes, parts: tuple[bytes, ...]) -> None:
    """One call of this head, which comes in parts and is read in pieces as servers read."""
    answer = response(200)

    def serve(connection: socket.socket) -> None:
        for at in range(0, len(head), PIECE):
            receive_exactly(connection, min(PIECE, len(head) - at))
        connection.sendall(answer)

    capture.read()
    with serving(serve) as port:
        talk(port, parts, len(answer))
        found: list[Exchange] = []
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not found and time.monotonic() < deadline:
            found += [one for one in capture.read() if isinstance(one, Exchange) and one.ends.local_port == port]
            time.sleep(0.01)
    (exchange,) = found
    assert (exchange.figures.status_code, exchange.figures.request_bytes) == (200, len(head))
    read = parse_request_head(exchange.request_head, exchange.is_request_head_truncated)
    assert isinstance(read, RequestHead)
    assert (read.method, read.path, read.host) == ("GET", "/search", "shop")
    assert (read.get(b"authorization"), read.get(b"cookie")) == (b"Bearer abc", b"sid=1")
    assert ATTACK.decode() in read.query
    is_long = len(head) > HEAD_BYTES_KEPT + len(IDENTITY)
    counted = {end.reason for end in capture.unread() if end.port == port}
    assert counted == ({UnreadReason.HEAD} if is_long else set()) and exchange.is_request_head_truncated == is_long


@pytest.mark.parametrize("name", LONG)
def test_by_packets(capture: PacketCapture, name: str) -> None:
    drain(capture)
    head = LONG[name] + IDENTITY
    check(capture, head, (head,))
    beginning = [head[at : at + 1_400] for at in range(0, min(len(head), 28_000), 1_400)]
    check(capture, head, (*beginning, head[28_000:]))


@pytest.mark.parametrize("name", LONG)
def test_by_system_calls(syscalls: SyscallCapture, name: str) -> None:
    head = LONG[name] + IDENTITY
    check(syscalls, head, (head,))


def test_beyond_its_budget_a_head_keeps_its_beginning(watch: Watch) -> None:
    """Its first packets are paid for, and the others are not: the call is read by what was copied."""
    head = b"GET /long HTTP/1.1\r\nHost: shop\r\n" + b"X-Pad: %s\r\n" % (b"p" * 1_000) * 60 + b"\r\n"
    answer = response(200)
    with in_cgroup("longhead"):  # Whose budget nobody has spent.
        served = serving(answering([len(head)], (answer,)))
        port = served.__enter__()
    with contextlib.ExitStack() as stack:
        stack.push(served.__exit__)
        watch.teacher.set(heads_per_second=1, heads_burst=20)
        talk(port, tuple(head[at : at + 2_000] for at in range(0, len(head), 2_000)), len(answer))
        records, exchanges = watch.collect_all(port, 1)
    assert len(records) == 0
    (exchange,) = exchanges
    assert head.startswith(exchange.request_head) and 8_000 < len(exchange.request_head) < 30_000
    assert exchange.is_request_head_truncated and exchange.figures.request_bytes == len(head)
    unread = {end.reason: count for end, count in watch.capture.unread().items() if end.port == port}
    assert unread == {UnreadReason.HEAD: UnreadCount(1, len(head) - len(exchange.request_head))}
