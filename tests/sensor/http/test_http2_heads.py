"""Heads of HTTP/2 calls: what a header block says, in how many frames it comes, and what breaks it."""

import pytest

from sensor.http.http1.head import Malformed, RequestHead, parse_request_head
from sensor.http.http2.connection import MAX_BLOCK_BYTES
from sensor.http.http2.frames import Frame, FrameFlag, FrameKind
from sensor.http.http2.heads import UNKNOWN_PATH
from sensor.http.http2.streams import StreamCall
from sensor.http.reassembly import Direction
from tests.sensor.http.http2_talk import CLIENT, SERVER, Ends, get_head
from tests.sensor.http.http2_wire import (
    write_frame,
    write_headers,
    write_ping,
)


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


def test_fields_in_which_payloads_travel_are_kept_for_who_looks_for_them():
    fields = [
        (b"user-agent", b"env --version"),
        (b"referer", b"x"),
        (b"accept", b"*/*"),
        (b"x-a", b"b"),
        (b"date", b"c"),
    ]
    ends = Ends()
    ends.ask(1, extra=fields)
    ends.reply(1, is_end=True)
    head = get_head(ends.seen.only())
    assert [field for field in head.free_fields if field in fields] == [fields[0], fields[1], fields[3]]
    assert [header.name for header in head.headers] == [b"x-a"]


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
    assert ends.seen.connection.held_bytes < 2_000
    ends.ask(3)
    assert [get_head(call).path for call in ends.seen.close()] == [UNKNOWN_PATH, "/a"]


@pytest.mark.parametrize("has_trailers", [False, True])
def test_a_call_whose_blocks_stayed_down_is_told_without_its_name(has_trailers: bool):
    """As the kernel sends them up where the ring is half full: their headers alone."""
    ends = Ends()
    ends.ask(1, b"/before")
    ends.reply(1, is_end=True)
    calls: list[StreamCall] = []

    def say(direction: Direction, flags: int) -> None:
        frame = Frame(0, 49, 7, FrameKind.HEADERS, flags, 3, None, 40)
        ends.seen.connection._take_frame(direction, frame, calls)

    end, whole = int(FrameFlag.END_STREAM), int(FrameFlag.END_HEADERS)
    say(CLIENT, whole | end)
    say(SERVER, whole | (0 if has_trailers else end))
    if has_trailers:
        say(SERVER, whole | end)
    told = [(get_head(call).path, call.status_code, call.is_lossy, call.is_aborted, call.is_final) for call in calls]
    assert told == [(UNKNOWN_PATH, 0, True, False, True)]
