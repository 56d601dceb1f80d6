"""HTTP/2 in doubt: what is not known after a loss is said, everything is bounded, and no bytes raise."""

import functools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensor.http.hpack import Placeholder
from sensor.http.http2.frames import PREFACE, Frame, FrameKind
from sensor.http.http2.heads import UNKNOWN_PATH, StreamRequest
from sensor.http.http2.streams import DOUBTFUL_SILENCE_NS, MAX_STREAMS
from sensor.http.reassembly import Chunk, Direction
from tests.sensor.http.http2_conversation import Conversation, converse
from tests.sensor.http.http2_talk import (
    CLIENT,
    SECOND,
    SERVER,
    Ends,
    Transcript,
    get_head,
)
from tests.sensor.http.http2_wire import (
    write_frame,
    write_goaway,
    write_headers,
    write_reset,
    write_settings,
    write_window_update,
)
from tests.work import count_lines


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
    lines = count_lines(lambda: ends.seen.say(direction, data))
    assert lines < 1_000_000, lines  # 10 million if streams were walked each time.
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
        transcript.connection.take_piece(direction, frame, transcript.calls)
    transcript.close()


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=200)), max_size=20), st.booleans())
def test_noise_never_raises(pieces, is_joined):
    transcript = Transcript(is_joined=is_joined, client=None)
    for is_client, data in pieces:
        if data:
            transcript.say(CLIENT if is_client else SERVER, data)
    transcript.close()
