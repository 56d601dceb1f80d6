"""Streams as calls: how they interleave, end and are counted, with gRPC and WebSocket over them."""

import itertools

from sensor.http.grpc import RpcProtocol, StreamingKind
from sensor.http.http1.head import RequestHead, parse_request_head
from sensor.http.http2.frames import PREFACE, Frame, FrameKind
from sensor.http.http2.streams import MAX_EARLY
from tests.sensor.http.hpack_encoder import Encoder
from tests.sensor.http.http2_talk import CLIENT, SECOND, SERVER, Ends, Transcript, get_head
from tests.sensor.http.http2_wire import (
    write_data,
    write_frame,
    write_goaway,
    write_headers,
    write_reset,
    write_settings,
)


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
    assert ends.seen.connection.counts.late_blocks == 1


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
    ends.seen.connection.open_upgraded(head, ends.seen.calls, started_ns=SECOND, request_bytes=80)
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
    ends.seen.connection.take_piece(CLIENT, elided, ends.seen.calls)
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
