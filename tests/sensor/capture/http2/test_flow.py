"""A direction as the kernel tells it: positions over wrapping sequence numbers, frames cut by events, plain bytes
around holes, and what the ring lost."""

import struct

import pytest

from sensor.capture.http2.flow import DATA_COPIED, MESSAGE, PATIENCE_NS, UNCOPIED, FrameFlow
from sensor.http.http2.frames import PASSED_OVER, Frame, FrameEvent, FrameFlag, FrameKind, Lost
from sensor.http.http2.reader import FrameReader
from sensor.http.reassembly import Chunk, Gap
from tests.sensor.http.http2_wire import write_data, write_frame, write_headers

HEADERS = write_headers(1, b"\x82" * 20)
DATA = write_data(1, b"x" * 50, is_end=True)


def elide(data: bytes) -> bytes:
    """A DATA frame as its event has it."""
    return data[:9]


def shapes(pieces):
    """(class, position, bytes covered, kind) of each."""
    found = []
    for piece in pieces:
        match piece:
            case Frame():
                found.append(("frame", piece.position, piece.wire_bytes, piece.kind))
            case Chunk():
                found.append(("bytes", piece.position, len(piece.data), 0))
            case Gap():
                found.append(("gap", piece.position, piece.length, 0))
    return found


def test_frames_stand_where_they_were() -> None:
    flow = FrameFlow()
    pieces = flow.take_frames(100, len(HEADERS) + len(DATA) + 13, 0, HEADERS + elide(DATA), 7)
    start = pieces[0].position
    assert shapes(pieces) == [
        ("frame", start, len(HEADERS), FrameKind.HEADERS),
        ("frame", start + len(HEADERS), len(DATA), FrameKind.DATA),
        ("frame", start + len(HEADERS) + len(DATA), 13, PASSED_OVER),
    ]
    headers, data, _ = pieces
    assert isinstance(headers, Frame) and headers.payload == b"\x82" * 20
    assert isinstance(data, Frame) and (data.payload, data.payload_bytes, data.flags) == (None, 50, 1)


def test_sequence_numbers_wrap() -> None:
    flow = FrameFlow()
    first = flow.take_frames(0xFFFFFFF0, 0x20, 0, b"", 1)
    second = flow.take_frames(0x10, len(HEADERS), 0, HEADERS, 2)
    assert second[0].position == first[0].position + 0x20


def test_a_frame_over_several_events_is_one() -> None:
    block = bytes(range(0x80, 0x100)) * 20
    frame = write_headers(3, block)
    flow, at = FrameFlow(), 500
    pieces = []
    for part in (frame[:1000], frame[1000:2000], frame[2000:]):
        left = 0 if at == 500 else len(frame) - (at - 500)
        pieces += flow.take_frames(at, len(part), left, part, 1)
        at += len(part)
    assert [piece.payload for piece in pieces if isinstance(piece, Frame)] == [block]
    assert shapes(pieces)[0][2] == len(frame)


def test_what_the_ring_had_no_room_for_is_a_gap_at_once() -> None:
    flow = FrameFlow()
    start = flow.take_frames(0, len(HEADERS), 0, HEADERS, 1)[0].position
    lost = 333
    pieces = flow.take_frames(len(HEADERS) + lost, len(HEADERS), 0, HEADERS, 2)
    assert shapes(pieces) == [
        ("gap", start + len(HEADERS), lost, 0),
        ("frame", start + len(HEADERS) + lost, len(HEADERS), FrameKind.HEADERS),
    ]
    assert flow.lost_bytes == lost
    assert not flow.is_waiting


def test_an_event_that_begins_inside_a_lost_frame_leaves_its_rest_out() -> None:
    flow = FrameFlow()
    flow.take_frames(0, len(HEADERS), 0, HEADERS, 1)
    rest = b"\x99" * 40
    pieces = flow.take_frames(1_000, len(rest) + len(HEADERS), len(rest), rest + HEADERS, 2)
    assert [kind for kind, *_ in shapes(pieces)] == ["gap", "gap", "frame"]
    assert isinstance(pieces[-1], Frame) and pieces[-1].payload == b"\x82" * 20


def test_bytes_fill_the_hole_that_frames_wait_for() -> None:
    flow = FrameFlow()
    size = len(HEADERS)
    start = flow.take_frames(0, size, 0, HEADERS, 1)[0].position
    assert flow.take_bytes(2 * size, HEADERS, 2) == []
    assert flow.is_waiting
    assert flow.take_frames(3 * size, size, 0, HEADERS, 3) == []
    pieces = flow.take_bytes(size, HEADERS, 4)
    assert [(kind, at) for kind, at, *_ in shapes(pieces)] == [
        ("bytes", start + size),
        ("bytes", start + 2 * size),
        ("frame", start + 3 * size),
    ]
    assert not flow.is_waiting


def test_a_frame_that_does_not_go_on_is_read_plainly() -> None:
    flow = FrameFlow()
    start = flow.take_frames(0, 15, 0, HEADERS[:15], 1)
    assert start == []
    pieces = flow.take_bytes(15, HEADERS[15:], 2)
    assert b"".join(piece.data for piece in pieces if isinstance(piece, Chunk)) == HEADERS


def test_a_frame_cut_short_covers_only_what_was_seen() -> None:
    """The kernel cuts a DATA frame at a hole: its rest has a header of its own, in place of its last nine bytes."""
    seen = 30
    header = struct.pack(">I", seen)[1:] + bytes([0, 0, 0, 0, 0, 1])
    flow = FrameFlow()
    (piece,) = flow.take_frames(0, seen, 0, header, 1)
    assert isinstance(piece, Frame)
    assert (piece.wire_bytes, piece.payload_bytes) == (seen, seen)


def test_a_payload_that_was_not_copied_is_none() -> None:
    header = write_frame(FrameKind.HEADERS, 4, 5, b"")[:3] + bytes([FrameKind.HEADERS | UNCOPIED, 4, 0, 0, 0, 5])
    flow = FrameFlow()
    (piece,) = flow.take_frames(0, 9, 0, header, 1)
    assert isinstance(piece, Frame)
    assert (piece.kind, piece.payload) == (FrameKind.HEADERS, None)


def test_finishing_gives_what_is_held_and_what_waits() -> None:
    flow = FrameFlow()
    flow.take_frames(0, 15, 0, HEADERS[:15], 1)
    assert shapes(flow.finish())[0][2] == 15
    flow = FrameFlow()
    flow.take_bytes(0, HEADERS, 1)
    flow.take_bytes(1_000, HEADERS, 1)
    assert [kind for kind, *_ in shapes(flow.finish())] == ["gap", "bytes"]


def mark(data: bytes, kind: int) -> bytes:
    """A DATA frame under another kind."""
    return data[:3] + bytes([kind]) + data[4:]


def test_data_that_was_copied_comes_without_its_padding_whatever_events_cut_it() -> None:
    data = mark(write_data(1, b"x" * 50, is_end=True, padding=7), DATA_COPIED)
    for at in range(9, len(data)):
        flow = FrameFlow()
        pieces = flow.take_frames(100, at, 0, data[:at], 7) + flow.take_frames(
            100 + at, len(data) - at, 0, data[at:], 8
        )
        (frame,) = [piece for piece in pieces if isinstance(piece, Frame)]
        assert (frame.kind, frame.payload, frame.payload_bytes, frame.flags & 1) == (FrameKind.DATA, b"x" * 50, 50, 1)
        assert (frame.wire_bytes, frame.is_sampled, frame.is_message) == (len(data), True, False)


def test_padding_that_is_longer_than_its_frame_leaves_nothing() -> None:
    data = mark(write_frame(FrameKind.DATA, 8, 1, b"\xff" + b"x" * 10), DATA_COPIED)
    (frame,) = FrameFlow().take_frames(100, len(data), 0, data, 7)
    assert isinstance(frame, Frame) and frame.payload == b""


def test_data_that_is_a_message_says_so() -> None:
    (frame,) = FrameFlow().take_frames(100, len(DATA), 0, elide(mark(DATA, MESSAGE)), 7)
    assert isinstance(frame, Frame)
    assert (frame.kind, frame.payload, frame.payload_bytes, frame.is_message) == (FrameKind.DATA, None, 50, True)


@pytest.mark.parametrize("kind", [DATA_COPIED, FrameKind.HEADERS])
@pytest.mark.parametrize("parts", [(20, 59), (20, 30, 59), (9, 12, 40, 59)])
def test_a_late_segment_within_a_frame_that_goes_on_costs_nothing(kind: int, parts: tuple[int, ...]) -> None:
    """The kernel follows a frame over several events while bytes of an older hole come: no hole is made of it."""
    data = write_frame(kind, FrameFlag.END_STREAM, 1, b"x" * 50)
    flow, early = FrameFlow(), write_frame(FrameKind.PING, 0, 0, bytes(8))
    pieces = flow.take_bytes(1_000 - len(early), early[:5], 1)  # The rest of it is late.
    at = 0
    for end in parts:
        left = len(data) - at if at else 0
        pieces += flow.take_frames(1_000 + at, end - at, left, data[at:end], 2)
        if not at:
            pieces += flow.take_bytes(1_000 - len(early) + 5, early[5:], 3)
        at = end
    pieces += flow.take_frames(1_000 + len(data), len(HEADERS), 0, HEADERS, 4) + flow.poll(1 << 40)
    assert not [piece for piece in pieces if isinstance(piece, Gap)]
    reader = FrameReader(is_client=None, is_joined=False)
    events: list[FrameEvent] = []
    for piece in pieces:
        reader.read_piece(piece, events)
    found = [event for event in events if isinstance(event, Frame)]
    assert not [event for event in events if isinstance(event, Lost)]
    original = FrameKind.DATA if kind == DATA_COPIED else kind
    assert sum(one.wire_bytes for one in found if (one.kind, one.stream) == (original, 1)) >= len(data)
    assert found[-1].kind == FrameKind.HEADERS and found[-1].payload == b"\x82" * 20


def test_what_is_held_behind_a_hole_does_not_wait_for_ever() -> None:
    flow = FrameFlow()
    flow.take_bytes(980, b"\0\0\x08\6\0", 1)  # The rest of it never comes.
    flow.take_frames(1_000, 20, 0, HEADERS[:20], 2)
    assert flow.is_waiting
    pieces = flow.poll(3) + flow.poll(3 + PATIENCE_NS)
    assert [type(piece) for piece in pieces] == [Gap, Chunk]
    assert not flow.is_waiting


def test_what_is_known_to_be_missing_at_the_beginning_is_waited_for() -> None:
    """The first segment was lost on the way: an event without bytes says where the direction begins."""
    flow = FrameFlow()
    pieces = flow.take_bytes(100, b"", 1)
    pieces += flow.take_bytes(100 + len(HEADERS), write_frame(4, 1, 0, b""), 2)
    pieces += flow.take_frames(100 + len(HEADERS) + 9, len(DATA), 0, elide(DATA), 3)
    assert flow.is_waiting
    assert not [piece for piece in pieces if isinstance(piece, Gap)]
    pieces += flow.take_bytes(100, HEADERS, 4)
    assert not flow.is_waiting
    start = (1 << 32) + 100
    assert [shape for shape in shapes(pieces) if shape[2]] == [
        ("bytes", start, len(HEADERS), 0),
        ("bytes", start + len(HEADERS), 9, 0),
        ("frame", start + len(HEADERS) + 9, len(DATA), FrameKind.DATA),
    ]


@pytest.mark.parametrize("told", ["fbff", "fbfb", "fbfbf", "fbbff", "fbfbb"])
def test_a_packet_that_another_processor_copied_early_leaves_no_hole(told: str) -> None:
    """The kernel copies a packet while another CPU still follows the one before it, so its bytes come first."""
    flow, size, places = FrameFlow(), len(HEADERS), [0, 2, 1, 3, 4]
    if told == "fbbff":
        places = [0, 2, 3, 1, 4]
    pieces = []
    for kind, place in zip(told, places, strict=False):
        take = flow.take_bytes if kind == "b" else lambda at, data, now: flow.take_frames(at, size, 0, data, now)
        pieces += take(1_000 + place * size, HEADERS, place)
    starts = [piece.position - pieces[0].position for piece in pieces]
    assert starts == [place * size for place in range(len(told))]
    assert not any(isinstance(piece, Gap) for piece in pieces)
    assert not flow.is_waiting and flow.lost_bytes == 0
