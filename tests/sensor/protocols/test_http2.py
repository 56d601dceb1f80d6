"""HTTP/2 connections as calls: real ends' conversations, joins, losses, and the corners of the protocol."""

import functools
import itertools
import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensor.protocols.grpc import RpcProtocol, StreamingKind
from sensor.protocols.hpack.field import Placeholder
from sensor.protocols.hpack.huffman import HuffmanStrings
from sensor.protocols.http1 import Malformed, RequestHead, parse_request_head
from sensor.protocols.http2 import DOUBTFUL_SILENCE_NS, MAX_BLOCK_BYTES, MAX_EARLY, MAX_STREAMS, Http2Connection
from sensor.protocols.http2_calls import StreamCall
from sensor.protocols.http2_frames import PASSED_OVER, PREFACE, Frame, FrameKind, unpack_header
from sensor.protocols.http2_heads import UNKNOWN_METHOD, UNKNOWN_PATH, StreamRequest
from sensor.protocols.http2_order import PieceOrder
from sensor.reassembly.connection import Direction
from sensor.reassembly.stream import Chunk, Gap
from tests.sensor.protocols.hpack_encoder import Encoder, Pair
from tests.sensor.protocols.http2_conversation import AUTHORITY, Conversation, Truth, converse
from tests.sensor.protocols.http2_wire import (
    write_data,
    write_frame,
    write_goaway,
    write_headers,
    write_ping,
    write_reset,
    write_settings,
    write_window_update,
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
            self.connection.take(direction, chunk, self.calls)
        return self

    def lose(self, direction: Direction, length: int) -> "Transcript":
        self.connection.take(direction, Gap(self.positions[direction], length), self.calls)
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


@pytest.mark.parametrize(("seed", "table_bytes"), list(itertools.product(range(5), (4_096, 0, 256, 65_536))))
def test_conversations_are_told_exactly(seed, table_bytes):
    conversation = converse(seed, 120, table_bytes=table_bytes)
    transcript = Transcript(client=None if seed % 2 else CLIENT)
    replay(transcript, conversation, random.Random(seed) if seed % 3 else None)
    calls = transcript.close()
    assert transcript.connection.counts.losses == transcript.connection.counts.broken_blocks == 0
    assert sorted(call.stream for call in calls) == sorted(truth.stream for truth in conversation.ended)
    by_stream = {truth.stream: truth for truth in conversation.ended}
    for call in calls:
        check_call(call, by_stream[call.stream])
        assert not call.is_lossy and call.is_final and call.calls == 1
        assert call.started_ns <= (call.answered_ns or call.ended_ns) <= call.ended_ns
    assert len(calls) > 20


def test_byte_by_byte_is_the_same():
    conversation = converse(3, 60)
    whole, bytewise = Transcript(), Transcript()
    replay(whole, conversation)
    for direction, data in conversation.sent:
        bytewise.say(direction, data, cuts=tuple(range(len(data))))

    def flatten(call: StreamCall) -> tuple[object, ...]:
        head = get_head(call)
        values = [getattr(call, name) for name in call.__struct_fields__ if name != "request"]
        return (*values, head.method, head.path, head.query, [(header.name, header.value) for header in head.headers])

    assert [flatten(call) for call in whole.close()] == [flatten(call) for call in bytewise.close()]


def walk(data: bytes, position: int, time_ns: int) -> list[Frame]:
    """What the kernel tells of a segment of whole frames: all but DATA whole, DATA counted, one for a run of them."""
    frames: list[Frame] = []
    at = len(PREFACE) if data.startswith(PREFACE) else 0
    while at < len(data):
        length, kind, flags, stream = unpack_header(data, at)
        size = 9 + length
        last = frames[-1] if frames else None
        if kind in (FrameKind.WINDOW_UPDATE, FrameKind.PING):
            kind, flags, stream, payload, body = PASSED_OVER, 0, 0, None, 0
        elif kind != FrameKind.DATA:
            payload, body = data[at + 9 : at + size], 0
        else:
            payload, body = None, length
            is_run = last is not None and last.kind == kind and last.stream == stream and not last.flags & 1
            if is_run and last is not None and last.position + last.wire_bytes == position + at:
                frames.pop()
                at, size, body = at - last.wire_bytes, size + last.wire_bytes, body + last.payload_bytes
        frames.append(Frame(position + at, size, time_ns, kind, flags, stream, payload, body))
        at += size
    return frames


@pytest.mark.parametrize("seed", range(8))
def test_what_the_kernel_cuts_and_hands_up_tells_the_same(seed):
    """Frames whole, DATA counted, some segments as bytes and those out of order."""
    conversation, chance = converse(300 + seed, 120), random.Random(seed)
    whole = Transcript()
    replay(whole, conversation)
    kernel = Transcript()
    orders = [PieceOrder(), PieceOrder()]
    late: list[tuple[Direction, Chunk]] = []
    for direction, data in conversation.sent:
        kernel.time_ns += 1_000_000
        position = kernel.positions[direction]
        kernel.positions[direction] += len(data)
        pieces: list[Chunk | Frame] = list(walk(data, position, kernel.time_ns))
        if chance.random() < 0.2 or position == 0:
            cut = chance.randrange(len(data)) if len(data) > 1 else 0
            pieces = [Chunk(position, data[:cut], kernel.time_ns), Chunk(position + cut, data[cut:], kernel.time_ns)]
            if cut and position and chance.random() < 0.5:
                late.append((direction, pieces.pop(0)))
        if chance.random() < 0.5:
            pieces += [piece for way, piece in late if way == direction]
            late = [(way, piece) for way, piece in late if way != direction]
        for piece in pieces:
            for ready in orders[direction].add(piece):
                kernel.connection.take(direction, ready, kernel.calls)
    for direction, piece in late:
        for ready in orders[direction].add(piece):
            kernel.connection.take(direction, ready, kernel.calls)
    assert sum(order.counts.late for order in orders) >= 1
    assert kernel.connection.counts.losses == 0
    by_stream = {call.stream: call for call in whole.close()}
    assert len(kernel.close()) == len(by_stream)
    for call in kernel.calls:
        expected = by_stream[call.stream]
        assert (get_head(call).path, call.grpc_status) == (get_head(expected).path, expected.grpc_status)
        if expected.is_aborted:  # The reset of one side may be read before what the other had said.
            assert call.status_code in (expected.status_code, 0)
            assert call.response_bytes <= expected.response_bytes and call.request_bytes <= expected.request_bytes
        else:
            assert (call.status_code, call.response_bytes) == (expected.status_code, expected.response_bytes)
            assert call.request_bytes == expected.request_bytes
            assert call.request_messages in (expected.request_messages, None)
            assert call.response_messages in (expected.response_messages, None)
        assert (call.is_aborted, call.is_lossy, call.calls) == (expected.is_aborted, False, 1)


@pytest.mark.parametrize("seed", range(5))
def test_joined_in_the_middle_nothing_is_wrong(seed):
    conversation = converse(100 + seed, 160)
    by_stream = {truth.stream: truth for truth in conversation.ended}
    for cut in range(3, len(conversation.sent) - 10, 11):
        transcript = Transcript(is_joined=True, client=None)
        transcript.positions = [1 << 40, 77]
        for direction, data in conversation.sent[cut:]:
            transcript.say(direction, data)
        for call in transcript.close():
            check_call(call, by_stream[call.stream])
        # Whatever the client began after the join is told; once its direction was found and known.
        assert transcript.connection.counts.broken_blocks == 0
        assert len(transcript.calls) >= 0.6 * transcript.connection.counts.requests
        assert transcript.connection.counts.requests == transcript.connection.counts.told


@pytest.mark.parametrize("seed", range(6))
def test_losses_are_counted_and_nothing_is_wrong(seed):
    conversation = converse(200 + seed, 250)
    by_stream = {truth.stream: truth for truth in conversation.ended}
    chance = random.Random(seed)
    transcript = Transcript()
    lost = 0
    for place, (direction, data) in enumerate(conversation.sent):
        if place > 4 and chance.random() < 0.04:
            first = chance.randrange(len(data))
            last = chance.randrange(first, len(data)) + 1
            transcript.say(direction, data[:first]).lose(direction, last - first).say(direction, data[last:])
            lost += 1
        else:
            transcript.say(direction, data)
    readers = transcript.connection.readers
    assert sum(reader.counts.gap_bytes > 0 for reader in readers) >= 1
    assert sum(reader.counts.bridged_gaps + reader.counts.losses for reader in readers) >= lost / 3
    for call in transcript.close():
        truth = by_stream[call.stream]
        head = get_head(call)
        assert head.path in (truth.path, UNKNOWN_PATH)
        assert head.method in (truth.method, UNKNOWN_METHOD)
        assert call.status_code in (truth.status, 0)
        assert call.grpc_status in (truth.grpc_status, None)
        assert head.get(b"authorization") in (truth.token, b"")
        if not (call.is_lossy or call.has_unknown_fields):
            assert (head.path, call.status_code, call.is_aborted) == (truth.path, truth.status, truth.is_aborted)
    assert transcript.connection.counts.told > 30


def test_heads_are_those_of_http1():
    fields = [
        (b"content-type", b"Application/JSON; charset=utf-8"), (b"authorization", b"Bearer abc"),
        (b"x-api-key", b"k" * 20),
        (b"accept", b"*/*"), (b"cookie", b"session=1"), (b"cookie", b"theme=dark"), (b"x-forwarded-for", b"192.0.2.1"),
    ]  # fmt: skip
    ends = Ends()
    ends.ask(1, b"/a/b?c=d&e=f#g", extra=fields)
    ends.reply(1, is_end=True)
    lines = b"".join(name + b": " + value + b"\r\n" for name, value in fields)
    expected = parse_request_head(b"GET /a/b?c=d&e=f#g HTTP/1.1\r\nHost: h.test\r\n" + lines + b"\r\n", False)
    assert isinstance(expected, RequestHead)
    head = get_head(ends.seen.only())
    # HTTP/1 keeps what follows a fragment's sign out of the query only where the sign stands before it, as here.
    assert (head.method, head.path, head.query, head.host, head.content_type) == (
        expected.method,
        expected.path,
        expected.query,
        expected.host,
        expected.content_type,
    )
    assert [(h.name, h.value) for h in head.headers] == [(h.name, h.value) for h in expected.headers]


def test_equal_blocks_are_one_head():
    ends = Ends()
    for stream in (1, 3, 5):
        ends.ask(stream)
        ends.reply(stream, is_end=True)
    _, second, third = ends.seen.calls
    assert get_head(second) is get_head(third)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ([(b":path", b"/"), (b":scheme", b"http")], "method"),
        ([(b":method", b"GET")], "target"),
        ([(b":method", b"G T"), (b":path", b"/")], "method"),
        ([(b":method", b"GET"), (b":path", b"http://h/")], "target"),
    ],
)
def test_malformed_requests_are_told_as_such(fields, reason):
    ends = Ends()
    ends.seen.say(CLIENT, write_headers(1, ends.request.encode(fields), is_end=True))
    ends.reply(1, b"400", is_end=True)
    assert ends.seen.only().request == Malformed(reason)


def test_connect_and_asterisk():
    ends = Ends()
    ends.seen.say(CLIENT, write_headers(1, ends.request.encode([(b":method", b"CONNECT"), (b":authority", b"h:1")])))
    ends.seen.say(
        CLIENT, write_headers(3, ends.request.encode([(b":method", b"OPTIONS"), (b":path", b"*"), (b"host", b"i:2")]))
    )
    first, second = (get_head(call) for call in ends.seen.close())
    assert (first.method, first.path, first.host) == ("CONNECT", "", "h:1")
    assert (second.method, second.path, second.host) == ("OPTIONS", "*", "i:2")


@pytest.mark.parametrize("fragments", [2, 3, 7])
@pytest.mark.parametrize("padding", [None, 0, 200])
def test_continuation_padding_and_priority(fragments, padding):
    ends = Ends()
    for stream in (1, 3):
        ends.ask(
            stream, b"/long", fragments=fragments, padding=padding, priority=b"\x80\0\0\0\x10", extra=[(b"x-a", b"1")]
        )
        ends.reply(stream, b"404", (b"x-b", b"2"), fragments=fragments, is_end=True)
    for call in ends.seen.calls:
        assert (get_head(call).path, get_head(call).get(b"x-a"), call.status_code) == ("/long", b"1", 404)
        assert not call.is_aborted
    assert len(ends.seen.calls) == 2


def test_frame_between_continuations_loses_the_table_and_says_so():
    ends = Ends()
    ends.ask(1, extra=[(b"x-a", b"1")])
    block = ends.request.encode([(b":method", b"GET"), (b":path", b"/b"), (b"x-lost", b"1"), (b"x-a", b"1")])
    whole = write_headers(3, block, fragments=2)
    split = 9 + len(block) - len(block) // 2
    ends.seen.say(CLIENT, whole[:split] + write_ping() + whole[split:])
    assert (ends.seen.connection.counts.cut_blocks, ends.seen.connection.counts.losses) == (2, 1)
    ends.ask(5, b"/c", extra=[(b"x-lost", b"1")])
    call = ends.seen.close()[-1]
    assert (get_head(call).path, call.has_unknown_fields) == ("/c", True)
    assert all(call.stream != 3 for call in ends.seen.calls)


def test_block_that_is_too_long_is_not_decoded():
    ends = Ends()
    part = b"\0" * 16_000
    flood = write_frame(FrameKind.HEADERS, 0, 1, part)
    flood += write_frame(FrameKind.CONTINUATION, 0, 1, part) * (MAX_BLOCK_BYTES // len(part) + 20)
    ends.seen.say(CLIENT, flood)
    assert ends.seen.connection.counts.long_blocks == 1
    assert ends.seen.connection.held_bytes < 1_000
    ends.ask(3)
    assert len(ends.seen.close()) == 1


def test_interim_responses_trailers_and_bytes():
    ends = Ends()
    ends.ask(1, is_end=False)
    ends.seen.say(CLIENT, write_data(1, b"x" * 100, padding=10) + write_data(1, b"y" * 50, is_end=True))
    ends.reply(1, b"100")
    ends.reply(1, b"103", (b"link", b"</x>"))
    sent = ends.seen.positions[1]
    ends.reply(1, b"206", (b"content-type", b"text/plain; charset=utf-8"))
    ends.seen.say(SERVER, write_data(1, b"z" * 1_000))
    ends.seen.say(SERVER, write_headers(1, ends.response.encode([(b"x-checksum", b"1")]), is_end=True))
    call = ends.seen.only()
    assert (call.status_code, call.response_content_type, call.is_aborted) == (206, "text/plain", False)
    assert call.request_bytes >= 9 + 9 + 1 + 100 + 10 + 9 + 50
    assert call.response_bytes > ends.seen.positions[1] - sent - 1
    assert call.started_ns < call.answered_ns < call.ended_ns
    assert (call.ended_ns - call.answered_ns) == 2_000_000


def test_interleaved_streams_end_in_their_own_order():
    ends = Ends()
    for stream in (1, 3, 5):
        ends.ask(stream, b"/%d" % stream)
    for stream in (5, 1, 3):
        ends.reply(stream, b"20%d" % (stream % 3))
    for stream in (3, 5, 1):
        ends.seen.say(SERVER, write_data(stream, b"part") + write_data(stream, b"", is_end=True))
    assert [(call.stream, get_head(call).path) for call in ends.seen.calls] == [(3, "/3"), (5, "/5"), (1, "/1")]


def test_several_frames_in_one_segment():
    ends = Ends()
    blocks = [
        ends.request.encode([(b":method", b"GET"), (b":path", b"/%d" % n), (b":authority", b"h")]) for n in range(40)
    ]
    ends.seen.say(CLIENT, b"".join(write_headers(2 * n + 1, block, is_end=True) for n, block in enumerate(blocks)))
    assert [get_head(call).path for call in ends.seen.close()] == [f"/{n}" for n in range(40)]


def test_resets_and_goaway_end_calls_as_aborted():
    ends = Ends()
    for stream in (1, 3, 5, 7):
        ends.ask(stream)
    ends.reply(1)
    ends.seen.say(CLIENT, write_reset(1)).say(SERVER, write_reset(3))
    ends.seen.say(SERVER, write_goaway(0x7FFFFFFF))
    assert len(ends.seen.calls) == 2
    ends.seen.say(SERVER, write_goaway(5))
    ends.reply(5, is_end=True)
    assert [(call.stream, call.is_aborted, call.status_code) for call in ends.seen.calls] == [
        (1, True, 200),
        (3, True, 0),
        (7, True, 0),
        (5, False, 200),
    ]


def test_response_that_is_read_before_its_request():
    """The directions are read apart: one of them may have to wait for a hole."""
    ends = Ends()
    requests = [
        write_headers(stream, ends.request.encode([(b":method", b"GET"), (b":path", b"/%d" % stream)]), is_end=True)
        for stream in (1, 3, 5, 7)
    ]
    ends.reply(1, b"201", is_end=True)
    ends.reply(3, b"202")
    ends.seen.say(SERVER, write_reset(5))
    assert ends.seen.calls == []
    for request in requests:
        ends.seen.say(CLIENT, request)
    ends.seen.say(SERVER, write_data(3, b"body", is_end=True))
    assert [(call.stream, call.status_code, call.is_aborted, get_head(call).path) for call in ends.seen.calls] == [
        (1, 201, False, "/1"),
        (5, 0, True, "/5"),
        (3, 202, False, "/3"),
    ]
    assert ends.seen.connection.open_streams == 1


def test_rest_of_a_request_is_waited_for_so_long():
    """A server may answer before it has read all; usually it resets the stream then (RFC 9113, section 8.1)."""
    ends = Ends()
    for stream in (1, 3, 5):
        ends.ask(stream, is_end=False)
        ends.reply(stream, b"413", is_end=True)
    assert ends.seen.calls == []
    ends.seen.say(SERVER, write_reset(1, 0))
    ends.seen.say(CLIENT, write_data(3, b"rest", is_end=True))
    ends.seen.connection.poll(ends.seen.time_ns + SECOND, SECOND, ends.seen.calls)
    assert [
        (call.stream, call.status_code, call.is_aborted, call.calls, call.is_final) for call in ends.seen.calls
    ] == [(stream, 413, False, 1, True) for stream in (1, 3, 5)]
    assert [call.ended_ns for call in ends.seen.calls] == [call.answered_ns for call in ends.seen.calls]


def test_responses_without_requests_are_bounded_and_counted():
    ends = Ends(is_joined=True)
    for number in range(MAX_EARLY + 44):
        ends.reply(2 * number + 1, is_end=True)
    counts = ends.seen.connection.counts
    assert counts.orphan_responses == 44
    ends.ask(2 * MAX_EARLY + 1)
    assert counts.orphan_responses == MAX_EARLY
    assert ends.seen.only().status_code == 200
    ends.seen.close()
    assert (counts.orphan_responses, counts.told) == (MAX_EARLY + 43, 1)


def test_reset_after_the_end_changes_nothing():
    ends = Ends()
    ends.ask(1)
    ends.reply(1, is_end=True).say(SERVER, write_reset(1, 0))
    ends.seen.say(CLIENT, write_headers(1, ends.request.encode([(b"x-late", b"1")]), is_end=True))
    assert ends.seen.only().is_aborted is False
    assert ends.seen.connection.counts.late_requests == 1


def test_pushed_streams_are_decoded_and_not_told():
    ends = Ends()
    ends.ask(1)
    promise = ends.response.encode([(b":method", b"GET"), (b":path", b"/pushed"), (b"x-pushed", b"1")])
    ends.seen.say(SERVER, write_frame(FrameKind.PUSH_PROMISE, 4, 1, b"\0\0\0\2" + promise))
    ends.seen.say(SERVER, write_headers(2, ends.response.encode([(b":status", b"200"), (b"x-pushed", b"1")])))
    ends.seen.say(SERVER, write_data(2, b"body", is_end=True))
    ends.reply(1, b"200", (b"x-pushed", b"1"), (b"content-type", b"text/html"), is_end=True)
    call = ends.seen.only()
    assert (call.stream, call.status_code, call.response_content_type) == (1, 200, "text/html")
    assert ends.seen.connection.counts.pushed_blocks == 2


def test_upgraded_connection_begins_with_its_request():
    ends = Ends.__new__(Ends)
    ends.request, ends.response, ends.seen = Encoder(), Encoder(), Transcript()
    head = parse_request_head(
        b"GET /first HTTP/1.1\r\nHost: h\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n", False
    )
    assert isinstance(head, RequestHead)
    ends.seen.connection.open_upgraded(head, started_ns=SECOND, request_bytes=80)
    ends.seen.say(SERVER, write_settings()).say(CLIENT, PREFACE + write_settings())
    ends.reply(1, is_end=True)
    ends.ask(3, b"/second")
    ends.reply(3, b"404", is_end=True)
    first, second = ends.seen.calls
    assert (get_head(first).path, first.status_code, first.request_bytes) == ("/first", 200, 80)
    assert (get_head(second).path, second.status_code) == ("/second", 404)


def test_table_size_changes_and_larger_frames():
    ends = Ends()
    ends.ask(1, extra=[(b"x-a", b"1" * 50)])
    ends.seen.say(SERVER, write_settings((1, 100), (5, 100_000)))
    fields = [
        (b":method", b"GET"),
        (b":path", b"/b"),
        (b"x-a", b"1" * 50),
        (b"x-b", b"2" * 50),
        (b"x-c", b"c" * 60_000),
    ]
    block = ends.request.resize(0) + ends.request.resize(100) + ends.request.encode(fields)
    ends.seen.say(CLIENT, write_headers(3, block, is_end=True))
    ends.ask(5, b"/c", extra=fields[3:4])
    heads = [get_head(call) for call in ends.seen.close()]
    assert [head.get(b"x-b") for head in heads] == [b"", b"2" * 50, b"2" * 50]
    assert heads[1].get(b"x-c") == b"c" * 60_000
    assert ends.seen.connection.counts.losses == 0


def test_grpc_streams_and_statuses():
    ends = Ends()
    grpc = [(b"content-type", b"application/grpc")]
    message = b"\0\0\0\0\x03abc"
    for stream, (asked, answered) in enumerate(itertools.product((1, 3), (1, 3))):
        number = 2 * stream + 1
        ends.ask(number, b"/p.S/M", is_end=False, extra=grpc)
        ends.seen.say(CLIENT, write_data(number, message * asked, is_end=True), cuts=(12, 14, 15))
        ends.reply(number, b"200", *grpc)
        ends.seen.say(SERVER, write_data(number, message * answered), cuts=(10, 11, 21))
        ends.seen.say(
            SERVER, write_headers(number, ends.response.encode([(b"grpc-status", b"%d" % stream)]), is_end=True)
        )
    assert [
        (call.streaming, call.grpc_status, call.request_messages, call.response_messages) for call in ends.seen.calls
    ] == [
        (StreamingKind.UNARY, 0, 1, 1),
        (StreamingKind.SERVER, 1, 1, 3),
        (StreamingKind.CLIENT, 2, 3, 1),
        (StreamingKind.BIDIRECTIONAL, 3, 3, 3),
    ]


def test_grpc_web_has_its_status_in_the_body():
    ends = Ends()
    ends.ask(1, b"/p.S/M", extra=[(b"content-type", b"application/grpc-web+proto")])
    ends.reply(1, b"200", (b"content-type", b"application/grpc-web+proto"))
    body = b"\0\0\0\0\1a\x80\0\0\0\x10grpc-status: 5\r\n"
    ends.seen.say(SERVER, write_data(1, body, is_end=True), cuts=(20, 25))
    call = ends.seen.only()
    assert call.rpc is not None and call.rpc.protocol is RpcProtocol.GRPC_WEB
    assert (call.grpc_status, call.response_messages) == (5, 1)


def test_messages_that_were_not_copied_cannot_be_counted():
    ends = Ends()
    ends.ask(1, b"/p.S/M", is_end=False, extra=[(b"content-type", b"application/grpc")])
    position = ends.seen.positions[0]
    elided = Frame(position, 3_027, SECOND, FrameKind.DATA, 1, 1, None, 3_000)
    ends.seen.connection.take(CLIENT, elided, ends.seen.calls)
    ends.reply(1, is_end=True)
    call = ends.seen.only()
    assert (call.request_messages, call.response_messages, call.streaming) == (None, 0, StreamingKind.UNKNOWN)
    assert call.request_bytes > 3_027
    assert not call.is_lossy


def test_websocket_over_a_stream_is_counted():
    ends = Ends()
    fields = [
        (b":method", b"CONNECT"), (b":protocol", b"websocket"), (b":scheme", b"https"), (b":path", b"/chat"),
        (b":authority", b"h"),
    ]  # fmt: skip
    ends.seen.say(CLIENT, write_headers(1, ends.request.encode(fields)))
    ends.reply(1)
    ends.seen.say(CLIENT, write_data(1, b"\x81\x85maskhello" * 2)).say(
        SERVER, write_data(1, b"\x81\x02hi", is_end=True)
    )
    (call,) = ends.seen.close()
    assert (get_head(call).path, call.request_messages, call.response_messages) == ("/chat", 2, 1)


def test_long_response_is_told_early_and_once():
    ends = Ends()
    ends.ask(1)
    ends.reply(1, b"200", (b"content-type", b"text/event-stream"))
    connection, calls = ends.seen.connection, ends.seen.calls
    connection.poll(ends.seen.time_ns + SECOND - 1, SECOND, calls)
    assert not calls
    for _ in range(2):
        connection.poll(ends.seen.time_ns + SECOND, SECOND, calls)
    ends.seen.say(SERVER, write_data(1, b"data: x\n\n", is_end=True))
    early, late = calls
    assert (early.calls, early.is_final, early.ended_ns, early.response_bytes) == (1, False, 0, 0)
    assert (late.calls, late.is_final, late.response_content_type) == (0, True, "text/event-stream")
    assert late.response_bytes > 18
    assert connection.counts.told == 1


def test_unknown_endpoints_are_told_apart_and_never_merged():
    """A client that indexes every field, as gRPC C-core does: after the join its indices never change."""
    ends = Ends(is_joined=True, client=None)
    paths = [b"/p.S/A", b"/p.S/B"]
    warm = [[(b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"h")] for path in paths]
    for fields in warm:
        ends.request.encode(fields)
    ends.response.encode([(b":status", b"200"), (b"content-type", b"application/grpc")])
    ends.response.encode([(b"grpc-status", b"0")])
    for turn in range(6):
        stream = 1_001 + 2 * turn
        ends.seen.say(CLIENT, write_headers(stream, ends.request.encode(warm[turn % 2]), is_end=True))
        ends.reply(stream, b"200", (b"content-type", b"application/grpc"))
        ends.seen.say(SERVER, write_headers(stream, ends.response.encode([(b"grpc-status", b"0")]), is_end=True))
    assert len(ends.seen.calls) == 6
    keys = []
    for call in ends.seen.calls:
        assert isinstance(call.request, StreamRequest)
        assert (call.request.head.path, call.request.head.method, call.status_code) == (UNKNOWN_PATH, "POST", 200)
        assert call.has_unknown_fields and not call.is_lossy and not call.is_inferred
        keys.append(call.request.unknown)
        assert all(isinstance(name, Placeholder) for name, _ in call.request.unknown)
    assert keys[0] != keys[1]
    assert keys == keys[:2] * 3
    ends.ask(2_001, b"/new")
    assert get_head(ends.seen.close()[-1]).path == "/new"


def test_names_that_follow_from_their_place_are_inferred_and_say_so():
    ends = Ends(is_joined=True, client=None)
    ends.request.table.extend([(b":path", b"/old"), (b":method", b"PURGE")])
    ends.response.table.append((b":status", b"299"))
    # An encoder that takes the name from the dynamic table.
    path = b"\x40"[:0] + bytes([0x0F, 62 - 15]) + b"\x04/new"
    ends.seen.say(CLIENT, write_headers(101, path + b"\x82\x86", is_end=True))
    status = bytes([0x0F, 62 - 15]) + b"\x03503"
    ends.seen.say(SERVER, write_headers(101, status, is_end=True))
    call = ends.seen.only()
    assert (get_head(call).path, get_head(call).method, call.status_code) == ("/new", "GET", 503)
    assert call.is_inferred and call.has_unknown_fields and not call.is_lossy


def test_loss_forgets_the_table_of_its_direction_only():
    ends = Ends()
    ends.ask(1, extra=[(b"x-key", b"k")])
    ends.reply(1, b"299", (b"x-trace", b"t"), is_end=True)
    skipped = ends.request.encode([(b":method", b"GET"), (b":path", b"/lost"), (b":authority", b"h.test")])
    ends.seen.lose(CLIENT, len(write_headers(3, skipped)))
    ends.ask(5, extra=[(b"x-key", b"k"), (b"x-new", b"n")])
    ends.ask(7, extra=[(b"x-key", b"k"), (b"x-new", b"n")])
    ends.reply(5, b"299", (b"x-trace", b"t"), is_end=True)
    ends.reply(7, b"299", (b"x-trace", b"t"), is_end=True)
    _, first, second = ends.seen.calls
    assert (first.status_code, second.status_code) == (299, 299)
    assert get_head(first).get(b"x-key") == get_head(second).get(b"x-key") == b""
    assert get_head(second).get(b"x-new") == b"n"
    assert first.has_unknown_fields and second.has_unknown_fields
    assert ends.seen.connection.counts.losses == 1


def test_streams_left_in_doubt_by_a_loss_are_given_up_when_silent():
    ends = Ends()
    ends.ask(1)
    ends.seen.lose(SERVER, 1_000)
    connection, calls = ends.seen.connection, ends.seen.calls
    connection.poll(ends.seen.time_ns + DOUBTFUL_SILENCE_NS - 5_000_000, SECOND, calls)
    assert not calls
    connection.poll(ends.seen.time_ns + DOUBTFUL_SILENCE_NS, SECOND, calls)
    assert (ends.seen.only().is_aborted, ends.seen.only().is_lossy, connection.counts.given_up) == (True, True, 1)


def test_streams_are_bounded_and_the_oldest_is_told():
    ends = Ends()
    for number in range(MAX_STREAMS + 3):
        ends.ask(2 * number + 1)
    assert ends.seen.connection.open_streams == MAX_STREAMS
    assert [(call.stream, call.is_aborted, call.is_lossy) for call in ends.seen.calls] == [
        (stream, True, True) for stream in (1, 3, 5)
    ]


@functools.cache
def converse_once(seed: int) -> Conversation:
    return converse(seed, 40, is_finished=False)


@pytest.mark.parametrize("client", [None, CLIENT])
def test_side_that_is_known_stays_so_whatever_the_other_says(client):
    """A preface of the server's would have its blocks read as requests, and those of the client as responses."""
    ends = Ends(is_joined=True, client=client)
    fields = [(b":method", b"GET"), (b":path", b"/")]
    ends.seen.say(CLIENT, write_headers(101, ends.request.encode(fields), is_end=True))
    ends.seen.say(CLIENT, write_headers(103, ends.request.encode(fields), is_end=True))
    ends.seen.say(SERVER, PREFACE + write_settings())
    ends.seen.say(CLIENT, write_headers(105, ends.request.encode(fields), is_end=True))
    ends.reply(105, is_end=True)
    assert ends.seen.connection.client is CLIENT
    assert [call.stream for call in ends.seen.calls] == [105]
    assert len(ends.seen.close()) == 3


@pytest.mark.parametrize(
    ("direction", "frame"),
    [
        (CLIENT, write_headers(9_001, b"\xff\xff", is_end=True)),  # A block that is broken.
        (CLIENT, write_window_update(0, 0)),  # A frame that is none.
        (CLIENT, write_frame(FrameKind.CONTINUATION, 4, 1, b"\x82")),
        (SERVER, write_goaway(0x7FFFFFFF)),
        (SERVER, write_reset(9_001)),
        (SERVER, write_headers(9_001, b"\x88")),
        (SERVER, write_frame(FrameKind.PUSH_PROMISE, 4, 1, b"\0\0\0\2\x88")),
    ],
)
def test_no_frame_costs_much_however_many_streams_are_open(direction, frame):
    ends = Ends()
    for number in range(3_000):
        ends.ask(2 * number + 1)
    data = frame * (30_000 // len(frame))
    started = time.process_time()
    ends.seen.say(direction, data)
    assert (
        time.process_time() - started < 3
    )  # ~0.05 s where nothing else runs; seconds if streams were walked each time.
    assert len(ends.seen.close()) == 3_000


def test_no_text_of_a_message_is_in_a_repr():
    ends = Ends(is_joined=True, client=None)
    ends.request.table.append((b"x-old", b"1"))
    ends.ask(101, b"/secret", extra=[(b"authorization", b"secret"), (b"x-old", b"secret")])
    ends.seen.say(CLIENT, write_headers(103, ends.request.encode([(b"x-a", b"secret")]), fragments=2)[:-3])
    call = ends.seen.close()[0]
    assert isinstance(call.request, StreamRequest)
    connection = ends.seen.connection
    block = connection._decoders[0].decode(b"\x40\x01a\x06secret")
    told = [call, call.request, call.request.head, block, *connection._parts, *call.request.head.headers]
    told.append(Chunk(0, b"secret", 1))
    told.append(Frame(0, 9, 1, 1, 4, 1, b"secret", 0))
    assert "secret" not in repr(told)


MUTATIONS = st.lists(
    st.tuples(st.integers(0, 200), st.integers(0, 5_000), st.sampled_from(["flip", "drop", "repeat", "gap"])),
    max_size=8,
)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 9), MUTATIONS, st.booleans(), st.sampled_from([None, CLIENT, SERVER]))
def test_hostile_bytes_never_raise_and_every_request_is_told(seed, mutations, is_joined, client):
    sent = converse_once(seed).sent
    pieces: list[tuple[Direction, bytes, bool]] = [(direction, data, True) for direction, data in sent]
    for place, at, kind in mutations:
        place %= len(pieces)
        direction, data, _ = pieces[place]
        if kind == "flip":
            at %= len(data)
            data = data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :]
        elif kind == "repeat":
            data += data
        elif kind == "drop":
            data = data[: max(at % len(data), 1)]
        pieces[place] = (direction, data, kind != "gap")
    transcript = Transcript(is_joined=is_joined, client=client)
    for direction, data, is_seen in pieces:
        if is_seen:
            transcript.say(direction, data)
        else:
            transcript.lose(direction, len(data))
    transcript.connection.poll(transcript.time_ns + 10 * SECOND, SECOND, transcript.calls)
    transcript.close()
    counts = transcript.connection.counts
    assert sum(call.calls for call in transcript.calls) == counts.told == counts.requests
    assert transcript.connection.open_streams == 0


KERNEL_FRAMES = st.tuples(
    st.sampled_from(list(Direction)),
    st.integers(0, 12),
    st.sampled_from([0, 1, 4, 5, 8, 0x0C, 0x24, 0x2D, 0xFF]),
    st.integers(0, 9),
    st.none() | st.binary(max_size=30) | st.sampled_from([b"\x82\x84\x86", b"\x88", b"\xff\xff"]),
    st.integers(0, 5),
)


@settings(max_examples=500, deadline=None)
@given(st.lists(KERNEL_FRAMES, max_size=30), st.booleans(), st.sampled_from([None, CLIENT]))
def test_frames_that_the_kernel_cut_never_raise(frames, is_joined, client):
    """They come from the wire unchecked."""
    transcript = Transcript(is_joined=is_joined, client=client)
    for direction, kind, flags, stream, payload, missing in frames:
        size = 9 + len(payload if payload is not None else b"x" * 20)
        position = transcript.positions[direction] + missing * (missing > 3)
        frame = Frame(position, size, SECOND, kind, flags, stream, payload, size - 9)
        transcript.positions[direction] = position + size
        transcript.connection.take(direction, frame, transcript.calls)
    transcript.close()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=200)), max_size=20), st.booleans())
def test_noise_never_raises(pieces, is_joined):
    transcript = Transcript(is_joined=is_joined, client=None)
    for is_client, data in pieces:
        if data:
            transcript.say(CLIENT if is_client else SERVER, data)
    transcript.close()
