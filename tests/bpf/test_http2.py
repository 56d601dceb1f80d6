"""What the kernel hands up of real HTTP/2 connections becomes calls: all of them, each with its path, status and bytes,
however the bytes are cut into segments."""

import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from sensor.kernel.abi import Counter
from sensor.kernel.capture import Capture
from sensor.protocols.http2_heads import StreamRequest
from sensor.reassembly.connection import Direction
from sensor.streams.exchange import StreamExchange
from tests.bpf.conftest import WAIT_SECONDS
from tests.bpf.wire import receive_exactly
from tests.sensor.protocols.http2_conversation import Truth, converse

pytestmark = pytest.mark.kernel

Cut = Callable[[bytes], list[bytes]]
Row = tuple[str, str, int]
COUNTED = (Counter.FRAMES_LOST, Counter.STREAMS_LOST, Counter.RAW_REFUSED)


@pytest.fixture(scope="module", params=["127.0.0.1", "::1"])
def host(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@contextmanager
def connect(host: str = "127.0.0.1") -> Iterator[tuple[socket.socket, socket.socket, int]]:
    """(client, server, port) of one connection; both ends are the test's."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listener:
        port = listener.getsockname()[1]
        with socket.create_connection((host, port), timeout=10) as client:
            server, _ = listener.accept()
            with server:
                for end in (client, server):
                    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                yield client, server, port


def whole(data: bytes) -> list[bytes]:
    return [data]


def every(size: int) -> Cut:
    return lambda data: [data[at : at + size] for at in range(0, len(data), size)]


def anywhere(seed: int) -> Cut:
    chance = random.Random(seed)

    def cut(data: bytes) -> list[bytes]:
        places = sorted(chance.sample(range(1, len(data)), min(chance.randrange(6), len(data) - 1)))
        return [data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True)]

    return cut


def play(said: list[tuple[Direction, bytes]], ends: tuple[socket.socket, socket.socket], cut: Cut) -> None:
    """Sends what each end said, each part as a segment of its own."""
    client, server = ends
    for direction, data in said:
        sender, receiver = (client, server) if direction is Direction.FORWARD else (server, client)
        for part in cut(data):
            sender.sendall(part)
            assert receive_exactly(receiver, len(part)) == part


def collect(capture: Capture, port: int, count: int) -> list[StreamExchange]:
    """The calls of a port once `count` are there, and a moment longer: none may come after."""
    found: list[StreamExchange] = []
    deadline = time.monotonic() + WAIT_SECONDS
    is_last = False
    while not is_last:
        is_last = len(found) >= count or time.monotonic() > deadline
        time.sleep(0.05 if is_last else 0.01)
        read = capture.read()
        found += [one for one in read if isinstance(one, StreamExchange) and one.exchange.local_port == port]
    return found


def rows(told: list[StreamExchange]) -> list[Row]:
    return sorted(
        (call.request.head.method, call.request.head.path, call.status_code)
        for call in (one.call for one in told)
        if isinstance(call.request, StreamRequest)
    )


def expected(ended: list[Truth]) -> list[Row]:
    return sorted((truth.method, truth.path.partition("?")[0], truth.status) for truth in ended)


@pytest.fixture
def counted(capture: Capture) -> Iterator[None]:
    """Nothing may be lost meanwhile."""
    capture.read()
    before = capture.counters()
    yield
    after = capture.counters()
    assert {name: after[name] - before[name] for name in COUNTED} == dict.fromkeys(COUNTED, 0)


@pytest.mark.usefixtures("counted")
@pytest.mark.parametrize(
    "cut", [whole, every(1), every(7), every(9), every(100), anywhere(1), anywhere(2), anywhere(3)]
)
def test_a_conversation_however_it_is_cut(capture: Capture, host: str, cut: Cut) -> None:
    conversation = converse(11, 60)
    with connect(host) as (client, server, port):
        play(conversation.sent, (client, server), cut)
        told = collect(capture, port, len(conversation.ended))
    assert rows(told) == expected(conversation.ended)
    assert not [one for one in told if one.call.is_lossy]
    forward = sum(len(data) for direction, data in conversation.sent if direction is Direction.FORWARD)
    assert 0 < sum(one.call.request_bytes for one in told) < forward
