"""What the kernel hands up of real HTTP/2 connections becomes calls: all of them, each with its path, status and bytes,
however the bytes are cut into segments."""

import random
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from sensor.capture.packets.capture import PacketCapture
from sensor.capture.syscalls.capture import SyscallCapture
from sensor.ebpf.abi import Counter
from sensor.http.http2.exchange import StreamExchange
from sensor.http.http2.frames import PREFACE
from sensor.http.http2.heads import StreamRequest
from sensor.http.reassembly import Direction
from tests.bpf.recognised import drain
from tests.bpf.wire import receive_exactly
from tests.sensor.http.hpack_encoder import Encoder
from tests.sensor.http.http2_conversation import Truth, converse
from tests.sensor.http.http2_wire import (
    write_data,
    write_goaway,
    write_headers,
    write_ping,
    write_reset,
    write_settings,
    write_window_update,
)
from tests.waiting import DEADLINE_SECONDS

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
        with socket.create_connection((host, port), timeout=60) as client:
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


def collect(capture: PacketCapture | SyscallCapture, port: int, count: int) -> list[StreamExchange]:
    """The calls of a port once `count` are there, and a moment longer: none may come after."""
    found: list[StreamExchange] = []
    deadline = time.monotonic() + DEADLINE_SECONDS
    is_last = False
    while not is_last:
        is_last = len(found) >= count or time.monotonic() > deadline
        time.sleep(0.05 if is_last else 0.01)
        read = capture.read()
        found += [one for one in read if isinstance(one, StreamExchange) and one.exchange.ends.local_port == port]
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
def counted(capture: PacketCapture) -> Iterator[None]:
    """Nothing may be lost meanwhile."""
    drain(capture)
    before = capture.counters()
    yield
    after = capture.counters()
    assert {name: after[name] - before[name] for name in COUNTED} == dict.fromkeys(COUNTED, 0)


@pytest.mark.usefixtures("counted")
@pytest.mark.parametrize(
    "cut", [whole, every(1), every(7), every(9), every(100), anywhere(1), anywhere(2), anywhere(3)]
)
def test_a_conversation_however_it_is_cut(capture: PacketCapture, host: str, cut: Cut) -> None:
    conversation = converse(11, 60)
    with connect(host) as (client, server, port):
        play(conversation.sent, (client, server), cut)
        told = collect(capture, port, len(conversation.ended))
    assert rows(told) == expected(conversation.ended)
    assert not [one for one in told if one.call.is_lossy]
    forward = sum(len(data) for direction, data in conversation.sent if direction is Direction.FORWARD)
    assert 0 < sum(one.call.request_bytes for one in told) < forward


class Client:
    """Writes requests of one connection, and answers to them."""

    def __init__(self) -> None:
        self.request, self.response = Encoder(), Encoder()

    def ask(self, stream: int, path: bytes, *, is_end: bool = True, **options: int) -> bytes:
        fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", path), (b":authority", b"h")]
        return write_headers(stream, self.request.encode(fields), is_end=is_end, **options)

    def answer(self, stream: int, body: int = 20, status: bytes = b"200") -> bytes:
        block = self.response.encode([(b":status", status), (b"content-type", b"application/json")])
        return write_headers(stream, block) + write_data(stream, b"b" * body, is_end=True)


FORWARD, BACKWARD = Direction.FORWARD, Direction.BACKWARD


@pytest.mark.usefixtures("counted")
def test_many_frames_in_one_segment(capture: PacketCapture) -> None:
    """More than the kernel follows of one packet: the rest goes up as it is."""
    client = Client()
    opening = PREFACE + write_settings()
    asked = b"".join(client.ask(1 + 2 * number, b"/m/%d" % number) + write_ping() * 8 for number in range(211))
    answered = b"".join(client.answer(1 + 2 * number) for number in range(211))
    said = [(FORWARD, opening), (BACKWARD, write_settings()), (FORWARD, asked), (BACKWARD, answered)]
    with connect() as (first, second, port):
        play(said, (first, second), whole)
        told = collect(capture, port, 211)
    assert rows(told) == sorted(("GET", f"/m/{number}", 200) for number in range(211))
    assert not [one for one in told if one.call.is_lossy]


@pytest.mark.usefixtures("counted")
def test_each_packet_is_reported_when_it_comes(capture: PacketCapture) -> None:
    """The kernel takes a packet in runs of so many steps, and a packet may end just where a run does."""
    client, longest = Client(), 30
    with connect() as (first, second, port):
        play([(FORWARD, PREFACE + write_settings()), (BACKWARD, write_settings())], (first, second), whole)
        for number in range(2 * longest):
            stream, pings, body = (
                1 + 2 * number,
                write_ping() * (number // 2),
                b"b" * (number % 2),
            )  # Two steps, or one.
            head = write_headers(stream, client.response.encode([(b":status", b"200")]))
            play([(FORWARD, client.ask(stream, b"/%d" % number))], (first, second), whole)
            play([(BACKWARD, head + pings + write_data(stream, body, is_end=True))], (first, second), whole)
            assert len(collect(capture, port, 1)) == 1, number


@pytest.mark.usefixtures("counted")
@pytest.mark.parametrize("size", [100, 1_000, 1_024, 5_000, 40_000])
@pytest.mark.parametrize("cut", [whole, every(1_000)])
def test_long_heads_and_continuations(capture: PacketCapture, size: int, cut: Cut) -> None:
    client = Client()
    paths = [b"/" + b"%d" % number + b"p" * size for number in range(5)]
    said = [(FORWARD, PREFACE + write_settings()), (BACKWARD, write_settings())]
    for number, path in enumerate(paths):
        stream = 1 + 2 * number
        said.append((FORWARD, client.ask(stream, path, fragments=1 + number, padding=number or None)))
        said.append((BACKWARD, client.answer(stream)))
    with connect() as (first, second, port):
        play(said, (first, second), cut)
        told = collect(capture, port, len(paths))
    assert rows(told) == sorted(("GET", path.decode(), 200) for path in paths)


@pytest.mark.usefixtures("counted")
@pytest.mark.parametrize("cut", [whole, every(1_400), every(16_393)])
def test_bodies_are_counted_and_not_copied(capture: PacketCapture, cut: Cut) -> None:
    client = Client()
    sizes = [0, 1, 16_384, 70_000, 300_000]
    said = [(FORWARD, PREFACE + write_settings()), (BACKWARD, write_settings())]
    expected_bytes = {}
    for number, size in enumerate(sizes):
        stream = 1 + 2 * number
        said.append((FORWARD, client.ask(stream, b"/body/%d" % number)))
        parts = [write_data(stream, b"d" * min(16_384, size - at)) for at in range(0, size, 16_384)]
        head = write_headers(stream, client.response.encode([(b":status", b"200")]))
        answer = head + b"".join(parts) + write_data(stream, b"", is_end=True)
        expected_bytes[f"/body/{number}"] = len(answer)
        said.append((BACKWARD, answer))
    before = capture.counters()[Counter.FRAMES]
    with connect() as (first, second, port):
        play(said, (first, second), cut)
        told = collect(capture, port, len(sizes))
    found = {one.call.request.head.path: one.exchange.figures.response_bytes for one in told}  # type: ignore[union-attr]
    assert found == expected_bytes
    assert capture.counters()[Counter.FRAMES] - before < 60  # Segments of 1,400 bytes were some 280.


@pytest.mark.parametrize("how", ["reset", "goaway", "close", "abort"])
def test_calls_that_are_not_answered(capture: PacketCapture, how: str) -> None:
    client = Client()
    said = [(FORWARD, PREFACE + write_settings()), (BACKWARD, write_settings())]
    said += [(FORWARD, client.ask(1, b"/whole")), (BACKWARD, client.answer(1)), (FORWARD, client.ask(3, b"/cut"))]
    said.append((BACKWARD, write_headers(3, client.response.encode([(b":status", b"200")])) + write_data(3, b"x" * 9)))
    if how == "reset":
        said += [(FORWARD, write_reset(3)), (BACKWARD, write_settings())]
    elif how == "goaway":
        said.append((BACKWARD, write_goaway(1)))
    with connect() as (first, second, port):
        play(said, (first, second), whole)
        if how == "close":
            second.close()
        elif how == "abort":
            first.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            first.close()
        told = collect(capture, port, 2)
    assert rows(told) == [("GET", "/cut", 200), ("GET", "/whole", 200)]
    assert {one.call.request.head.path: one.exchange.figures.is_aborted for one in told} == {  # type: ignore[union-attr]
        "/whole": False,
        "/cut": True,
    }


@pytest.mark.usefixtures("counted")
def test_first_data_on_the_listening_socket(capture: PacketCapture) -> None:
    """With a deferred accept the preface and the first request come before there is a connection."""
    client = Client()
    opening = PREFACE + write_settings() + client.ask(1, b"/deferred/1")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5)
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), timeout=60) as first:
            first.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            first.sendall(opening)
            second, _ = listener.accept()
            with second:
                assert receive_exactly(second, len(opening)) == opening
                said = [(BACKWARD, write_settings() + client.answer(1))]
                for stream in (3, 5, 7):
                    said += [(FORWARD, client.ask(stream, b"/deferred/%d" % stream))]
                    said += [(BACKWARD, write_window_update(0) + client.answer(stream))]
                play(said, (first, second), whole)
                told = collect(capture, port, 4)
    assert rows(told) == [("GET", f"/deferred/{stream}", 200) for stream in (1, 3, 5, 7)]
    assert not [one for one in told if one.call.is_lossy]


def test_the_server_may_speak_first(capture: PacketCapture) -> None:
    client = Client()
    said = [(BACKWARD, write_settings() + write_window_update(0)), (FORWARD, PREFACE + write_settings())]
    said += [(FORWARD, client.ask(1, b"/late")), (BACKWARD, client.answer(1))]
    said += [(FORWARD, client.ask(3, b"/late")), (BACKWARD, client.answer(3))]
    with connect() as (first, second, port):
        play(said, (first, second), whole)
        told = collect(capture, port, 2)
    assert rows(told) == [("GET", "/late", 200)] * 2
    assert not [one for one in told if one.call.is_lossy or one.call.has_unknown_fields]


@pytest.mark.parametrize(
    "first_bytes", [b"P", b"PR", b"PRI", b"PRI * HTTP/1.1\r\nHost: h\r\n\r\n", b"PUT /a HTTP/1.1\r\n"]
)
def test_what_only_begins_like_a_preface_is_not_http2(capture: PacketCapture, first_bytes: bytes) -> None:
    with connect() as (first, second, port):
        play([(FORWARD, first_bytes), (FORWARD, b"x" * 40)], (first, second), whole)
        assert collect(capture, port, 0) == []
