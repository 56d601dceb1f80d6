"""Frames out of bytes: third-party cases, any cut, gaps."""

import itertools
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensor.http.http2.frames import (
    MAX_FRAME_BYTES,
    PREFACE,
    ErrorCode,
    Frame,
    FrameEvent,
    FrameFlag,
    FrameKind,
    Lost,
    Prefaced,
    read_fragment,
    read_goaway,
    read_promised_stream,
    read_settings,
)
from sensor.http.http2.reader import MAX_PAYLOAD_BYTES, FrameReader, ReaderState
from sensor.http.reassembly import Chunk, Gap
from tests.sensor.http.http2_wire import (
    write_data,
    write_frame,
    write_goaway,
    write_headers,
    write_ping,
    write_reset,
    write_settings,
    write_window_update,
)

EVALUATION = os.environ.get("APIDAE_EVAL_DIR")


def read(reader: FrameReader, data: bytes, cuts: list[int] | None = None, position: int = 0) -> list[FrameEvent]:
    """Events of `data`, cut at these places."""
    events: list[FrameEvent] = []
    places = sorted({0, len(data), *(cuts or [])})
    for start, end in itertools.pairwise(places):
        reader.read_piece(Chunk(position + start, data[start:end], 1_000 + end), events)
    return events


def make_reader(*, is_joined: bool = False, is_client: bool | None = False) -> FrameReader:
    return FrameReader(is_client=is_client, is_joined=is_joined)


def tell(frame: Frame) -> dict[str, object]:
    """The parts of a frame that are read, under the names of the cases."""
    payload = frame.payload
    assert payload is not None
    kind = frame.kind
    if kind == FrameKind.DATA:
        return {"data": payload.decode()}
    if kind in (FrameKind.HEADERS, FrameKind.CONTINUATION):
        return {"header_block_fragment": read_fragment(kind, frame.flags, payload).decode()}
    if kind == FrameKind.PUSH_PROMISE:
        return {
            "header_block_fragment": read_fragment(kind, frame.flags, payload).decode(),
            "promised_stream_id": read_promised_stream(frame.flags, payload),
        }
    if kind == FrameKind.SETTINGS:
        return {"settings": [list(pair) for pair in read_settings(payload)]}
    if kind == FrameKind.GOAWAY:
        last, code = read_goaway(payload)
        return {"last_stream_id": last, "error_code": code, "additional_debug_data": payload[8:].decode()}
    if kind == FrameKind.RST_STREAM:
        return {"error_code": int.from_bytes(payload)}
    if kind == FrameKind.WINDOW_UPDATE:
        return {"window_size_increment": int.from_bytes(payload)}
    return {}  # PING and PRIORITY: nothing of them is read.


@pytest.mark.skipif(EVALUATION is None, reason="APIDAE_EVAL_DIR names no evaluation data")
@pytest.mark.parametrize("is_bytewise", [False, True])
def test_third_party_frames(is_bytewise):
    text = (Path(str(EVALUATION)) / "protocol" / "http2_frames.jsonl").read_text("utf-8")
    cases = [json.loads(line) for line in text.split("\n") if line]
    assert len(cases) > 30
    for case in cases:
        wire = bytes.fromhex(case["wire"])
        events = read(make_reader(), wire, list(range(len(wire))) if is_bytewise else [])
        if case["error"] is not None:
            (lost,) = [event for event in events if isinstance(event, Lost)]
            assert lost.error in case["error"], case["case"]
            continue
        expected = case["frame"]
        frames = [event for event in events if isinstance(event, Frame)]
        assert len(frames) == len(events)
        last = frames[-1]
        assert (last.kind, last.flags, last.stream) == (
            expected["type"],
            expected["flags"],
            expected["stream_identifier"],
        ), case["case"]
        assert sum(frame.wire_bytes for frame in frames) == 9 + expected["length"]
        told = tell(last)
        if last.kind == FrameKind.DATA:
            told = {"data": "".join(str(tell(frame)["data"]) for frame in frames)}
        parts = expected["frame_payload"]
        assert told == {name: parts[name] for name in told}, case["case"]


ERRORS = [
    (write_frame(FrameKind.DATA, FrameFlag.PADDED, 1, b"\x05abc"), ErrorCode.PROTOCOL_ERROR),
    (write_frame(FrameKind.DATA, FrameFlag.PADDED, 1, b""), ErrorCode.FRAME_SIZE_ERROR),
    (write_frame(FrameKind.DATA, 0, 0, b"a"), ErrorCode.PROTOCOL_ERROR),
    (write_frame(FrameKind.DATA, 0, 1, b"a" * 16_385), ErrorCode.FRAME_SIZE_ERROR),
    (write_frame(FrameKind.HEADERS, FrameFlag.PRIORITY, 1, b"abcd"), ErrorCode.FRAME_SIZE_ERROR),
    (write_frame(FrameKind.HEADERS, FrameFlag.PADDED, 1, b"\x03ab"), ErrorCode.PROTOCOL_ERROR),
    (write_frame(FrameKind.SETTINGS, 0, 1), ErrorCode.PROTOCOL_ERROR),
    (write_frame(FrameKind.SETTINGS, 1, 0, b"\0" * 6), ErrorCode.FRAME_SIZE_ERROR),
    (write_frame(FrameKind.RST_STREAM, 0, 1, b"\0" * 5), ErrorCode.FRAME_SIZE_ERROR),
    (write_frame(FrameKind.PUSH_PROMISE, 4, 1, b"\0\0\0\3"), ErrorCode.PROTOCOL_ERROR),
    (write_window_update(0, 0), ErrorCode.PROTOCOL_ERROR),
]


@pytest.mark.parametrize(("wire", "error"), ERRORS)
def test_frames_that_are_none(wire, error):
    for cuts in ([], list(range(len(wire)))):
        reader = make_reader()
        losses = [event for event in read(reader, wire, cuts) if isinstance(event, Lost)]
        assert [lost.error for lost in losses] == [error]
        assert reader.counts.faults == 1


def test_padding_priority_and_extensions():
    wire = b"".join(
        (
            write_headers(1, b"block", padding=9, priority=b"\0\0\0\0\x10"),
            write_data(1, b"body", padding=3),
            write_data(1, b"", padding=0, is_end=True),
            write_frame(0xC, 0xFF, 0, b"origin"),
        )
    )
    events = read(make_reader(), wire)
    assert all(isinstance(event, Frame) for event in events)
    headers, data, end, origin = (event for event in events if isinstance(event, Frame))
    assert read_fragment(headers.kind, headers.flags, headers.payload or b"") == b"block"
    assert (data.payload, data.payload_bytes, data.wire_bytes) == (b"body", 4, 9 + 1 + 4 + 3)
    assert (end.payload, end.payload_bytes, end.flags & FrameFlag.END_STREAM) == (b"", 0, FrameFlag.END_STREAM)
    assert (origin.kind, origin.payload) == (0xC, None)


def test_frame_that_is_too_long_to_keep_is_told_without_its_payload():
    reader = make_reader(is_joined=True)
    wire = write_headers(1, b"a") + write_headers(3, b"b") + write_headers(5, b"c")
    events = read(reader, wire + write_headers(7, b"x" * (MAX_PAYLOAD_BYTES + 1)) + write_ping(), [len(wire), 300_000])
    long, ping = events[-2:]
    assert isinstance(long, Frame) and (long.stream, long.payload) == (7, None)
    assert isinstance(ping, Frame) and ping.kind == FrameKind.PING
    assert reader.held_bytes == 0


@pytest.mark.parametrize("size", [1, 2, 5, 23, 24, 25, 100])
def test_preface(size):
    wire = PREFACE + write_settings((1, 4_096)) + write_headers(1, b"a")
    reader = make_reader(is_client=None, is_joined=True)
    events = read(reader, wire, list(range(0, len(wire), size)))
    assert isinstance(events[0], Prefaced)
    assert [event.kind for event in events if isinstance(event, Frame)] == [FrameKind.SETTINGS, FrameKind.HEADERS]


def test_client_without_preface_is_lost_and_a_server_has_none():
    assert isinstance(read(make_reader(is_client=True), b"GET / HTTP/1.1\r\n")[0], Lost)
    (frame,) = read(make_reader(is_client=False), write_settings())
    assert isinstance(frame, Frame)


FRAMES = st.one_of(
    st.builds(
        write_data,
        st.sampled_from([1, 3, 5, 999]),
        st.binary(max_size=300),
        is_end=st.booleans(),
        padding=st.none() | st.integers(0, 255),
    ),
    st.builds(
        write_headers,
        st.sampled_from([1, 3, 5, 999]),
        st.binary(min_size=1, max_size=300),
        is_end=st.booleans(),
        padding=st.none() | st.integers(0, 255),
        fragments=st.integers(1, 4),
    ),
    st.builds(write_settings, st.tuples(st.integers(1, 9), st.integers(0, 1 << 20))),
    st.builds(write_reset, st.sampled_from([1, 3])),
    st.builds(write_goaway, st.sampled_from([1, 3])),
    st.builds(write_ping),
    st.builds(write_window_update, st.sampled_from([0, 1, 3])),
    st.builds(write_frame, st.integers(10, 255), st.integers(0, 255), st.integers(0, 9), st.binary(max_size=40)),
)
FRAME_LISTS = st.lists(FRAMES, min_size=1, max_size=12)


@settings(max_examples=300, deadline=None)
@given(FRAME_LISTS, st.lists(st.integers(0, 4_000), max_size=30))
def test_cuts_change_nothing(wires, cuts):
    wire = b"".join(wires)
    whole = read(make_reader(), wire)
    cut = read(make_reader(), wire, [place for place in cuts if place < len(wire)])

    def flatten(events):
        control = [
            (event.position, event.wire_bytes, event.kind, event.flags, event.stream, event.payload)
            for event in events
            if isinstance(event, Frame) and event.kind != FrameKind.DATA
        ]
        data: dict[int, bytes] = {}
        for event in events:
            assert isinstance(event, Frame)
            if event.kind == FrameKind.DATA:
                data[event.stream] = (
                    data.get(event.stream, b"")
                    + (event.payload or b"")
                    + bytes([event.flags & FrameFlag.END_STREAM]) * bool(event.flags & FrameFlag.END_STREAM)
                )
        return control, data, sum(event.wire_bytes for event in events)

    assert flatten(whole) == flatten(cut)
    assert sum(event.wire_bytes for event in whole if isinstance(event, Frame)) == len(wire)
    bytewise = make_reader()
    assert flatten(read(bytewise, wire, list(range(len(wire))))) == flatten(whole)
    assert (bytewise.state, bytewise.held_bytes) == (ReaderState.HEADER, 0)


def test_gap_inside_data_is_bridged():
    wire = write_headers(1, b"a") + write_data(1, b"x" * 1_000, is_end=True) + write_ping()
    start = len(write_headers(1, b"a")) + 9
    for first, last in [(start, start + 1_000), (start + 10, start + 20), (start + 1, len(wire) - 17)]:
        reader, events = make_reader(), []
        reader.read_piece(Chunk(0, wire[:first], 1), events)
        reader.read_piece(Gap(first, last - first), events)
        reader.read_piece(Chunk(last, wire[last:], 2), events)
        kinds = [event.kind for event in events if isinstance(event, Frame)]
        assert (kinds[0], kinds[-1], len(kinds), len(events)) == (
            FrameKind.HEADERS,
            FrameKind.PING,
            len(events),
            len(kinds),
        )
        parts = [event for event in events if isinstance(event, Frame) and event.kind == FrameKind.DATA]
        assert sum(part.payload_bytes for part in parts) == 1_000
        assert [bool(part.flags & FrameFlag.END_STREAM) for part in parts] == [False] * (len(parts) - 1) + [True]
        assert sum(part.payload_bytes for part in parts if part.payload is None) == last - first
        assert (reader.counts.gap_bytes, reader.counts.lost_places) == (last - first, 0)


def test_gap_over_the_end_of_data_ends_it_and_loses_the_place():
    wire = write_data(1, b"x" * 100, is_end=True) + write_ping()
    reader, events = make_reader(), []
    reader.read_piece(Chunk(0, wire[:50], 1), events)
    reader.read_piece(Gap(50, 70), events)
    last = [event for event in events if isinstance(event, Frame)][-1]
    assert last.flags & FrameFlag.END_STREAM
    assert isinstance(events[-1], Lost)


def test_frames_of_the_kernel_and_bytes_together():
    """The walker tells frames whole, passes over DATA, and hands bytes up where it cannot go on."""
    first, data, second = write_headers(1, b"block"), write_data(1, b"x" * 500), write_headers(3, b"more")
    reader, events = make_reader(is_joined=True), []
    position = 7_000
    reader.read_piece(Frame(position, len(first), 1, 1, 4, 1, b"block", 0), events)
    position += len(first)
    reader.read_piece(Frame(position, len(data) * 2, 2, 0, 0, 1, None, 1_000), events)
    position += len(data) * 2
    reader.read_piece(Chunk(position, second + first[:3], 3), events)
    reader.read_piece(Frame(position + len(second) + len(first), len(second), 4, 1, 4, 5, b"more", 0), events)
    reader.read_piece(Frame(position, len(second), 4, 1, 4, 5, b"again", 0), events)
    assert [event.stream for event in events if isinstance(event, Frame)] == [1, 1, 3, 5]
    assert [type(event) for event in events].count(Lost) == 1  # The rest of a frame that never came.


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=60) | FRAMES, max_size=20), st.booleans(), st.sampled_from([None, True, False]))
def test_hostile_bytes_never_raise(pieces, is_joined, is_client):
    reader = make_reader(is_joined=is_joined, is_client=is_client)
    position, events = 0, []
    for number, data in enumerate(pieces):
        if number % 5 == 4:
            reader.read_piece(Gap(position, len(data)), events)
        else:
            reader.read_piece(Chunk(position, data, number), events)
        position += len(data)
        assert reader.held_bytes <= MAX_FRAME_BYTES
    covered = sorted((event.position, event.wire_bytes) for event in events if isinstance(event, Frame))
    for (start, size), (following, _) in itertools.pairwise(covered):
        assert start + size <= following  # No byte is told twice.
