"""Frames and bytes of one direction back in order: any order, copies, holes, bounds."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensor.capture.http2 import flow
from sensor.capture.http2.flow import PATIENCE_NS, PieceOrder
from sensor.http.http2.frames import Frame, unpack_header
from sensor.http.http2.reader import FrameReader
from sensor.http.reassembly import Chunk, Gap
from tests.sensor.http.http2_wire import write_data, write_headers, write_ping

SECOND = 1_000_000_000


def make_pieces(wires: list[bytes], raw: set[int], size: int) -> list[Chunk | Frame]:
    """Each frame whole, or, where it is `raw`, as bytes of so many at once."""
    pieces: list[Chunk | Frame] = []
    position = 1_000
    for number, wire in enumerate(wires):
        if number in raw:
            pieces += [Chunk(position + at, wire[at : at + size], SECOND) for at in range(0, len(wire), size)]
        else:
            length, kind, flags, stream = unpack_header(wire, 0)
            payload = None if kind == 0 else wire[9:]
            pieces.append(Frame(position, 9 + length, SECOND, kind, flags, stream, payload, length if kind == 0 else 0))
        position += len(wire)
    return pieces


WIRES = st.lists(
    st.one_of(
        st.builds(write_headers, st.sampled_from([1, 3]), st.binary(min_size=1, max_size=40)),
        st.builds(write_data, st.sampled_from([1, 3]), st.binary(max_size=40)),
        st.just(write_ping()),
    ),
    min_size=1,
    max_size=12,
)


def read_frames(pieces: list[Chunk | Gap | Frame]) -> tuple[list[tuple[int, int, int]], int]:
    """(kind, stream, position) of the frames, DATA once each; and losses."""
    reader, events = FrameReader(is_client=False, is_joined=False), []
    for piece in pieces:
        reader.read_piece(piece, events)
    frames = [(event.kind, event.stream, event.position) for event in events if isinstance(event, Frame) and event.kind]
    return frames, reader.counts.lost_places


@settings(max_examples=300, deadline=None)
@given(WIRES, st.sets(st.integers(0, 11)), st.integers(1, 30), st.randoms(use_true_random=False), st.booleans())
def test_any_order_is_the_same(wires, raw, size, chance, has_copies):
    pieces = make_pieces(wires, raw, size)
    shuffled = pieces + (chance.sample(pieces, len(pieces) // 2) if has_copies else [])
    chance.shuffle(shuffled)
    order, out = PieceOrder(1_000), []
    for piece in shuffled:
        out += order.add_piece(piece)
    assert out == pieces
    assert (order.holes, order.waiting_bytes) == ([], 0)
    assert read_frames(out) == (read_frames(list(pieces))[0], 0)


@settings(max_examples=300, deadline=None)
@given(
    WIRES,
    st.sets(st.integers(0, 11)),
    st.integers(1, 30),
    st.sets(st.integers(0, 40)),
    st.randoms(use_true_random=False),
)
def test_what_is_missing_is_a_gap_exactly(wires, raw, size, missing, chance):
    pieces = make_pieces(wires, raw, size)
    kept = [piece for number, piece in enumerate(pieces) if number not in missing]
    end = 1_000 + sum(map(len, wires))
    shuffled = list(kept)
    chance.shuffle(shuffled)
    order, out = PieceOrder(1_000), []
    for piece in shuffled:
        out += order.add_piece(piece)
        holes = order.holes
        assert all(length > 0 for _, length in holes)
    out += order.finish()
    position = 1_000
    for piece in out:
        assert piece.position == position
        position += (
            piece.length
            if isinstance(piece, Gap)
            else len(piece.data)
            if isinstance(piece, Chunk)
            else piece.wire_bytes
        )
    assert position <= end
    assert [piece for piece in out if not isinstance(piece, Gap)] == kept


def test_holes_are_listed_and_given_up_in_time():
    order = PieceOrder(0)
    assert order.add_piece(Chunk(0, b"ab", SECOND)) == [Chunk(0, b"ab", SECOND)]
    assert order.add_piece(Chunk(5, b"f", SECOND)) == order.add_piece(Chunk(9, b"j", 2 * SECOND)) == []
    assert order.holes == [(2, 3), (6, 3)]
    assert order.poll(SECOND + PATIENCE_NS - 1) == []
    assert order.poll(SECOND + PATIENCE_NS) == [Gap(2, 3), Chunk(5, b"f", SECOND)]
    assert order.poll(SECOND + PATIENCE_NS + 1) == []
    assert order.add_piece(Chunk(6, b"ghi", 5 * SECOND)) == [Chunk(6, b"ghi", 5 * SECOND), Chunk(9, b"j", 2 * SECOND)]
    assert order.add_piece(Chunk(3, b"de", 6 * SECOND)) == []


def test_overlapping_bytes_are_cut_and_frames_had_in_part_are_left_out():
    order = PieceOrder(0)
    assert order.add_piece(Chunk(4, b"efgh", 1)) == []
    assert order.add_piece(Frame(6, 20, 1, 1, 4, 1, b"x", 0)) == []
    assert order.add_piece(Chunk(0, b"abcdef", 1)) == [Chunk(0, b"abcdef", 1), Chunk(6, b"gh", 1)]


@pytest.mark.parametrize("bound", ["MAX_WAITING_BYTES", "MAX_WAITING_PIECES"])
def test_what_waits_is_bounded(monkeypatch, bound):
    monkeypatch.setattr(flow, bound, 50)
    order, out = PieceOrder(0), []
    for number in range(1, 200):
        out += order.add_piece(Chunk(number * 20, b"x" * 10, number))
        assert order.waiting_bytes <= 510
        assert len(order.holes) <= 51
    assert [piece for piece in out if isinstance(piece, Gap)][:2] == [Gap(0, 20), Gap(30, 10)]
