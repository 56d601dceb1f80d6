"""Both sides of HTTP/2 connections as the tests write them, and what must come of them."""

import itertools
import random

from sensor.http.grpc import RpcProtocol, StreamingKind
from sensor.http.hpack import HuffmanStrings
from sensor.http.http1.head import RequestHead
from sensor.http.http2.connection import Http2Connection
from sensor.http.http2.frames import PREFACE
from sensor.http.http2.heads import UNKNOWN_METHOD, UNKNOWN_PATH, StreamRequest
from sensor.http.http2.streams import StreamCall
from sensor.http.reassembly import Chunk, Direction, Gap
from tests.sensor.http.hpack_encoder import Encoder, Pair
from tests.sensor.http.http2_conversation import AUTHORITY, Conversation, Truth
from tests.sensor.http.http2_wire import (
    write_headers,
    write_settings,
)

STRINGS = HuffmanStrings()
CLIENT, SERVER = Direction.FORWARD, Direction.BACKWARD
SECOND = 1_000_000_000


class Transcript:
    """A connection and what it told; each thing said comes a millisecond after the one before."""

    def __init__(self, *, is_joined: bool = False, client: Direction | None = CLIENT) -> None:
        self.connection = Http2Connection(STRINGS, is_joined=is_joined, client=client)
        self.calls: list[StreamCall] = []
        self.time_ns = SECOND
        self.positions = [0, 0]

    def say(self, direction: Direction, data: bytes, *, cuts: tuple[int, ...] = ()) -> "Transcript":
        self.time_ns += 1_000_000
        for start, end in itertools.pairwise(sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})):
            chunk = Chunk(self.positions[direction], data[start:end], self.time_ns)
            self.positions[direction] += end - start
            self.connection.take_piece(direction, chunk, self.calls)
        return self

    def lose(self, direction: Direction, length: int) -> "Transcript":
        self.connection.take_piece(direction, Gap(self.positions[direction], length), self.calls)
        self.positions[direction] += length
        return self

    def close(self) -> list[StreamCall]:
        self.connection.close(self.time_ns, self.calls)
        return self.calls

    def only(self) -> StreamCall:
        (call,) = self.calls
        return call


class Ends:
    """A client and a server that write by hand, with their tables."""

    def __init__(self, *, is_joined: bool = False, client: Direction | None = CLIENT) -> None:
        self.request, self.response = Encoder(), Encoder()
        self.seen = Transcript(is_joined=is_joined, client=client)
        if not is_joined:
            self.seen.say(CLIENT, PREFACE + write_settings()).say(SERVER, write_settings())

    def ask(self, stream: int, path: bytes = b"/a", **options) -> Transcript:
        fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", path), (b":authority", b"h.test")]
        options.setdefault("is_end", True)
        extra = options.pop("extra", [])
        return self.seen.say(CLIENT, write_headers(stream, self.request.encode(fields + extra), **options))

    def reply(self, stream: int, status: bytes = b"200", *extra: Pair, **options) -> Transcript:
        block = self.response.encode([(b":status", status), *extra])
        return self.seen.say(SERVER, write_headers(stream, block, **options))


def get_head(call: StreamCall) -> RequestHead:
    assert isinstance(call.request, StreamRequest)
    return call.request.head


def check_call(call: StreamCall, truth: Truth) -> None:
    """Nothing that is known may be wrong."""
    head = get_head(call)
    assert head.version == "2"
    assert head.path in (truth.path, UNKNOWN_PATH)
    assert head.method in (truth.method, UNKNOWN_METHOD)
    assert head.host in (AUTHORITY.decode(), "")
    assert head.get(b"authorization") in (truth.token, b"")
    assert call.status_code in (truth.status, 0)
    assert call.grpc_status in (truth.grpc_status, None)
    assert call.is_aborted == truth.is_aborted
    if not (call.is_lossy or call.has_unknown_fields):
        assert (head.path, head.method, call.status_code) == (truth.path, truth.method, truth.status)
        assert call.grpc_status == truth.grpc_status
        assert head.get(b"authorization") == truth.token
        if truth.is_grpc:
            assert call.rpc is not None and call.rpc.protocol is RpcProtocol.GRPC
            assert call.rpc.service + "/" + call.rpc.method == truth.path[1:]
            assert (call.request_messages, call.response_messages) == (truth.request_messages, truth.response_messages)
        else:
            assert (call.rpc, call.request_messages, call.streaming) == (None, None, StreamingKind.UNKNOWN)


def replay(transcript: Transcript, conversation: Conversation, chance: random.Random | None = None) -> None:
    for direction, data in conversation.sent:
        cuts = tuple(chance.randrange(len(data)) for _ in range(3)) if chance is not None else ()
        transcript.say(direction, data, cuts=cuts)
