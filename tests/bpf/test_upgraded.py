"""What the kernel counts of a WebSocket after its 101: bytes, and messages as the reader in Python counts them, however
the frames are cut into segments."""

import random
import socket
import time

import pytest

from sensor.capture.packets.capture import PacketCapture
from sensor.core.calls import Exchange
from sensor.ebpf.abi import Counter
from sensor.http.websocket import WebSocketCounter
from tests.bpf.recognised import drain
from tests.bpf.test_http2 import Cut, anywhere, connect, every, whole
from tests.bpf.wire import receive_exactly
from tests.waiting import DEADLINE_SECONDS

pytestmark = pytest.mark.kernel

ASKED = b"GET /chat HTTP/1.1\r\nHost: live.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
ANSWERED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
CLOSE = 0x88


def frame(first: int, payload: bytes, *, is_masked: bool) -> bytes:
    mark, size = 0x80 if is_masked else 0, len(payload)
    if size < 126:
        head = bytes([first, mark | size])
    elif size < 1 << 16:
        head = bytes([first, mark | 126]) + size.to_bytes(2)
    else:
        head = bytes([first, mark | 127]) + size.to_bytes(8)
    return head + (b"mask" if is_masked else b"") + payload


def converse(seed: int, sizes: tuple[int, ...], *, is_masked: bool) -> bytes:
    """Text and binary messages, some of two frames, pings between them, and the end."""
    chance, said = random.Random(seed), b""
    for size in sizes:
        kind = chance.choice([0x81, 0x82, 0xC1, 0x89, 0x01])
        said += frame(kind, b"p" * (size if kind != 0x89 else min(size, 125)), is_masked=is_masked)
        if kind == 0x01:
            said += frame(0x80, b"end", is_masked=is_masked)
    return said + frame(CLOSE, b"", is_masked=is_masked)


def count(data: bytes) -> int:
    counter = WebSocketCounter()
    counter.feed(data)
    assert counter.messages is not None
    return counter.messages


def take(capture: PacketCapture, port: int, wanted: int) -> list[Exchange]:
    found: list[Exchange] = []
    deadline = time.monotonic() + DEADLINE_SECONDS
    while time.monotonic() < deadline and len(found) < wanted:
        found += [one for one in capture.read() if isinstance(one, Exchange) and one.ends.local_port == port]
        time.sleep(0.01)
    return found


def play(
    capture: PacketCapture, sent: bytes, received: bytes, cut: Cut, *, is_reset: bool = False, behind: bytes = b""
) -> list[Exchange]:
    """Both directions in turn; `behind`: what follows the 101 in its own segment."""
    drain(capture)
    with connect() as (client, server, port):
        client.sendall(ASKED)
        receive_exactly(server, len(ASKED))
        server.sendall(ANSWERED + behind)
        receive_exactly(client, len(ANSWERED) + len(behind))
        for data, sender, receiver in ((sent, client, server), (received, server, client)):
            for part in cut(data):
                sender.sendall(part)
                receive_exactly(receiver, len(part))
        if is_reset:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        client.close()
        server.close()
        return take(capture, port, 2)


SIZES = (5, 0, 125, 126, 1, 300, 1_200, 40, 7, 2)


@pytest.mark.parametrize("is_reset", [False, True])
@pytest.mark.parametrize(
    ("cut", "sizes"),
    [
        (whole, (*SIZES, 66_000, 9) * 3),
        (every(1), SIZES),
        (every(7), SIZES),
        (anywhere(1), SIZES),
        (anywhere(2), SIZES),
    ],
)
def test_bytes_and_messages_of_both_directions(
    capture: PacketCapture, cut: Cut, sizes: tuple[int, ...], is_reset: bool
) -> None:
    sent, received = converse(3, sizes, is_masked=True), converse(4, sizes, is_masked=False)
    began, ended = play(capture, sent, received, cut, is_reset=is_reset)
    assert (began.figures.calls, began.figures.is_final, began.figures.status_code, began.figures.response_bytes) == (
        1,
        False,
        101,
        0,
    )
    assert (ended.figures.calls, ended.figures.is_final, ended.figures.is_aborted) == (0, True, False)
    assert ended.figures.request_bytes == len(ASKED) + len(sent)
    assert ended.figures.response_bytes == len(ANSWERED) + len(received)
    assert (ended.request_messages, ended.response_messages) == (count(sent), count(received))
    assert ended.figures.duration_ns > 0


def test_frames_behind_the_101_count(capture: PacketCapture) -> None:
    behind = frame(0x81, b"hello", is_masked=False) * 3
    _, ended = play(capture, frame(0x82, b"x" * 10, is_masked=True), b"", whole, behind=behind)
    assert ended.figures.response_bytes == len(ANSWERED) + len(behind)
    assert (ended.request_messages, ended.response_messages) == (1, 3)


def test_what_is_no_websocket_has_bytes_only(capture: PacketCapture) -> None:
    sent, received = b"\x7f not a frame at all" * 20, b"\xff" * 400
    _, ended = play(capture, sent, received, whole)
    assert (ended.figures.request_bytes, ended.figures.response_bytes) == (
        len(ASKED) + len(sent),
        len(ANSWERED) + len(received),
    )
    assert (ended.request_messages, ended.response_messages) == (None, None)


def test_a_call_is_counted_once(capture: PacketCapture) -> None:
    before = capture.counters()[Counter.CALLS]
    play(capture, frame(0x81, b"hi", is_masked=True), b"", whole)
    assert capture.counters()[Counter.CALLS] - before >= 1
    assert capture.counters()[Counter.UPGRADES_UNTOLD] == 0
