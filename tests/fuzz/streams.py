"""What is fuzzed of the protocols above HTTP/1 heads: HPACK, HTTP/2, gRPC, WebSocket, compressed bodies."""

from collections.abc import Callable
from typing import Any, Final

from sensor.http.grpc import EnvelopeCounter
from sensor.http.hpack import MAX_TABLE_BYTES, HpackDecoder, HuffmanStrings
from sensor.http.http1.pairs import MAX_DECODED_BYTES, DecodedSize
from sensor.http.http2.connection import Http2Connection
from sensor.http.http2.streams import StreamCall
from sensor.http.reassembly import Chunk, Direction, Gap
from sensor.http.websocket import WebSocketCounter

_STRINGS: Final = HuffmanStrings()  # Its memory must not matter.
TIME_NS: Final = 1_000


def fuzz_hpack(data: bytes) -> None:
    """Blocks with a byte of length before each, to a fresh table or a joined one: the same as without any memory."""
    if not data:
        return
    decoders = [HpackDecoder(strings, is_complete=bool(data[0] & 1)) for strings in (_STRINGS, HuffmanStrings())]
    at = 1
    while at < len(data):
        block = data[at + 1 : at + 1 + data[at]]
        at += 1 + len(block)
        first, second = (decoder.decode(block) for decoder in decoders)
        assert (first.fields, first.error) == (second.fields, second.error)
        for decoder in decoders:
            assert 0 <= decoder.table_bytes <= MAX_TABLE_BYTES
            assert decoder.is_complete or decoder.epoch or not data[0] & 1


def _feed(connection: Http2Connection, data: bytes, step: int, calls: list[StreamCall]) -> None:
    """Parts of `data`, each with a byte of direction (and, at its top, of loss) and one of length before it."""
    positions, at = [0, 0], 0
    while at + 2 <= len(data):
        direction, length, is_lost = Direction(data[at] & 1), data[at + 1], data[at] & 0xF0 == 0xF0
        said = data[at + 2 : at + 2 + length]
        at += 2 + length
        if is_lost:
            connection.take_piece(direction, Gap(positions[direction], len(said)), calls)
        else:
            for start in range(0, len(said), step):
                part = said[start : start + step]
                connection.take_piece(direction, Chunk(positions[direction] + start, part, TIME_NS), calls)
        positions[direction] += len(said)
        assert connection.held_bytes < 1 << 21
    connection.poll(TIME_NS + 10**10, 10**9, calls)
    connection.close(TIME_NS, calls)
    assert not connection.open_streams


def fuzz_http2(data: bytes) -> None:
    """A connection from its start or from its middle, with losses: bounded, and the same calls in any cut."""
    if len(data) < 2:
        return
    is_joined, step, data = bool(data[0] & 1), data[1] % 32 + 1, data[2:]
    told, losses = list[list[StreamCall]](), 0
    for size in (1 << 16, step):
        connection, calls = Http2Connection(_STRINGS, is_joined=is_joined), list[StreamCall]()
        _feed(connection, data, size, calls)
        told.append(calls)
        losses += connection.counts.losses + connection.counts.lost_places
    # A joined connection's place is looked for in what comes at once, so there the cuts matter.
    if not losses and not is_joined:
        assert [(call.request, call.status_code) for call in told[0]] == [
            (call.request, call.status_code) for call in told[1]
        ]


def _count(make: Callable[[], Any], read: Callable[[Any], object], data: bytes) -> None:
    """Feeds all at once, and in steps: the same counts. A step of 0 bytes stands for some that were not seen."""
    if not data:
        return
    step, data = data[0] % 32 + 1, data[1:]
    whole, cut = make(), make()
    whole.feed(data)
    for at in range(0, len(data), step):
        cut.feed(data[at : at + step])
    assert read(whole) == read(cut)


def fuzz_grpc(data: bytes) -> None:
    """Messages of a body, in any cut, and with bytes that were not copied."""
    _count(EnvelopeCounter, lambda counter: (counter.messages, counter.status), data)
    counter = EnvelopeCounter()
    for at in range(0, len(data), 7):
        counter.feed(data[at : at + 5])
        counter.skip(len(data[at + 5 : at + 7]))
    assert counter.messages is None or 0 <= counter.messages <= len(data)


def fuzz_websocket(data: bytes) -> None:
    """Frames of a direction, in any cut, and with bytes that were not copied."""
    _count(WebSocketCounter, lambda counter: counter.counts, data)
    counter = WebSocketCounter()
    for at in range(0, len(data), 7):
        counter.feed(data[at : at + 5])
        counter.skip(len(data[at + 5 : at + 7]))
    assert 0 <= counter.counts.messages <= len(data)


def fuzz_decoded_size(data: bytes) -> None:
    """A compressed body, in any cut."""
    _count(DecodedSize, lambda size: size.size_bytes, data)
    size = DecodedSize()
    size.feed(data)
    assert size.size_bytes is None or 0 <= size.size_bytes <= MAX_DECODED_BYTES


TARGETS: Final[dict[str, Callable[[bytes], None]]] = {
    "hpack": fuzz_hpack,
    "http2": fuzz_http2,
    "grpc": fuzz_grpc,
    "websocket": fuzz_websocket,
    "decoded_size": fuzz_decoded_size,
}
