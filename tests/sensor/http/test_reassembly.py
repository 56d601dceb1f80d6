"""Streams by position: whatever the order, the cuts and the copies of segments, the same bytes come out."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensor.http.reassembly import (
    MAX_WAITING_BYTES,
    MAX_WAITING_SEGMENTS,
    MAX_WINDOW_BYTES,
    PATIENCE_PACKETS,
    Chunk,
    Direction,
    DirectionAssembler,
    Gap,
    Piece,
    Segment,
    TcpConnection,
    TcpFlag,
    TcpPacket,
)

MODULUS = 1 << 32


def join(pieces: list[Piece]) -> bytes:
    return b"".join(piece.data for piece in pieces if isinstance(piece, Chunk))


def check_cover(pieces: list[Piece]) -> int:
    """Pieces follow each other without hole or overlap; gives where they end."""
    position = 0
    for piece in pieces:
        assert piece.position == position
        position += len(piece.data) if isinstance(piece, Chunk) else piece.length
    return position


def check_account(stream: DirectionAssembler) -> None:
    counts = stream.counts
    assert counts.seen_bytes == counts.used_bytes + counts.duplicate_bytes + counts.stray_bytes
    assert counts.conflicting_bytes + counts.late_bytes <= counts.duplicate_bytes


@st.composite
def segmented(draw: st.DrawFn) -> tuple[bytes, int, list[tuple[int, int]]]:
    """A stream, its first sequence number, and (start, end) ranges that cover it, in any order, with overlaps."""
    data = draw(st.binary(min_size=1, max_size=200))
    initial = draw(st.sampled_from([0, 1, MODULUS - 1, MODULUS - 50, MODULUS // 2]) | st.integers(0, MODULUS - 1))
    cuts = sorted({0, len(data), *draw(st.lists(st.integers(0, len(data)), max_size=12))})
    ranges = list(itertools.pairwise(cuts))
    for _ in range(draw(st.integers(0, 6))):
        left = draw(st.integers(0, len(data) - 1))
        ranges.append((left, draw(st.integers(left + 1, len(data)))))
    return data, initial, draw(st.permutations(ranges))


@given(segmented())
def test_any_order_and_copies_give_the_same_stream(case: tuple[bytes, int, list[tuple[int, int]]]) -> None:
    data, initial, ranges = case
    stream = DirectionAssembler()
    stream.start((initial - 1) % MODULUS)
    pieces: list[Piece] = []
    for left, right in ranges:
        pieces += stream.add(Segment((initial + left) % MODULUS, data[left:right], 0))
    assert stream.waiting_bytes == 0
    pieces += stream.finish()
    assert join(pieces) == data
    assert check_cover(pieces) == len(data)
    assert stream.counts.gaps == stream.counts.conflicting_bytes == 0
    check_account(stream)


@given(segmented(), st.data())
def test_what_is_lost_is_a_gap_exactly(case: tuple[bytes, int, list[tuple[int, int]]], draw: st.DataObject) -> None:
    data, initial, ranges = case
    kept = [each for each in ranges if draw.draw(st.booleans())]
    stream = DirectionAssembler()
    stream.start((initial - 1) % MODULUS)
    pieces: list[Piece] = []
    for left, right in kept:
        pieces += stream.add(Segment((initial + left) % MODULUS, data[left:right], 0))
    stream.end((initial + len(data)) % MODULUS)
    pieces += stream.finish()
    assert check_cover(pieces) == len(data)
    seen = {at for left, right in kept for at in range(left, right)}
    for piece in pieces:
        if isinstance(piece, Gap):
            assert not seen & set(range(piece.position, piece.position + piece.length))
        else:
            assert piece.data == data[piece.position : piece.position + len(piece.data)]
    assert stream.counts.gap_bytes == len(data) - len(seen)
    check_account(stream)


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(st.integers(0, MODULUS - 1) | st.integers(0, 300), st.binary(max_size=40), st.integers(0, 5)),
        max_size=40,
    )
)
def test_hostile_segments_keep_the_contract(segments: list[tuple[int, bytes, int]]) -> None:
    stream = DirectionAssembler()
    pieces: list[Piece] = []
    for sequence, data, act in segments:
        pieces += stream.add(Segment(sequence, data, 0))
        if act == 1:
            stream.end(sequence)
        elif act == 2:
            pieces += stream.acknowledge(stream.find_position(sequence))
        elif act == 3:
            stream.start(sequence)
        assert stream.waiting_bytes <= MAX_WAITING_BYTES
    pieces += stream.finish()
    check_cover(pieces)
    check_account(stream)
    assert stream.counts.used_bytes == len(join(pieces))


def test_memory_is_bounded_and_the_bound_tells_gaps() -> None:
    stream = DirectionAssembler()
    stream.start(0)
    pieces: list[Piece] = []
    block = bytes(1_000)
    for number in range(2 * MAX_WAITING_BYTES // 1_000):
        pieces += stream.add(Segment(1_001 + number * 1_000, block, 0))  # The first thousand bytes never come.
        assert stream.waiting_bytes <= MAX_WAITING_BYTES
    assert pieces[0] == Gap(0, 1_000)
    assert stream.counts.gaps == 1
    many = DirectionAssembler()
    many.start(0)
    for number in range(MAX_WAITING_SEGMENTS + 10):
        many.add(Segment(2 + 2 * number, b"x", 0))
    assert many.counts.gaps == 10
    assert many.waiting_bytes == MAX_WAITING_SEGMENTS


def test_first_bytes_win_and_conflicts_are_counted() -> None:
    stream = DirectionAssembler()
    stream.start(99)
    assert stream.add(Segment(103, b"DEF", 0)) == []
    pieces = stream.add(Segment(100, b"abcdXf", 0))
    assert join(pieces) == b"abcDEF"
    assert stream.counts.conflicting_bytes == 3
    assert stream.add(Segment(100, b"abc", 0)) == []
    assert stream.counts.duplicate_bytes == 6
    check_account(stream)


def test_bytes_that_come_after_their_gap_are_late() -> None:
    stream = DirectionAssembler()
    stream.start(99)
    stream.add(Segment(110, b"x" * 10, 0))
    assert stream.acknowledge(20)[0] == Gap(0, 10)
    assert stream.add(Segment(100, b"y" * 15, 0)) == []
    assert (stream.counts.late_bytes, stream.counts.duplicate_bytes) == (10, 15)


def test_beyond_any_window_is_stray() -> None:
    stream = DirectionAssembler()
    stream.start(0)
    assert stream.add(Segment(2 + MAX_WINDOW_BYTES, b"x", 0)) == []
    assert stream.counts.stray_bytes == 1


# ---- connections ----

C, S = Direction.FORWARD, Direction.BACKWARD


def packet(sequence: int, data: bytes = b"", *, flags: int = TcpFlag.ACK, ack: int = 0, time_ns: int = 0) -> TcpPacket:
    return TcpPacket(sequence, ack, int(flags), data, time_ns)


def opened() -> TcpConnection:
    """SYN, SYN-ACK, ACK; the client's first byte is 101, the server's 501."""
    connection = TcpConnection()
    connection.take(C, packet(100, flags=TcpFlag.SYN))
    connection.take(S, packet(500, flags=TcpFlag.SYN | TcpFlag.ACK, ack=101))
    connection.take(C, packet(101, ack=501))
    return connection


def test_a_connection_from_syn_to_fin() -> None:
    connection = opened()
    assert connection.take(C, packet(101, b"hello", ack=501, time_ns=7)) == [(C, Chunk(0, b"hello", 7, 0))]
    assert connection.take(S, packet(501, b"bye", ack=106, flags=TcpFlag.ACK | TcpFlag.FIN)) == [
        (S, Chunk(0, b"bye", 0, 5))
    ]
    assert not connection.is_closed
    connection.take(C, packet(106, flags=TcpFlag.ACK | TcpFlag.FIN, ack=505))
    assert connection.is_closed
    assert not connection.is_joined_midstream
    assert connection.finish() == []


def test_data_may_come_with_syn() -> None:
    connection = TcpConnection()
    assert connection.take(C, packet(100, b"fast", flags=TcpFlag.SYN)) == [(C, Chunk(0, b"fast", 0, -1))]
    assert connection.take(C, packet(101, b"fast")) == []


def test_a_hole_that_was_acknowledged_becomes_a_gap_after_some_packets() -> None:
    connection = opened()
    assert connection.take(C, packet(111, b"late", ack=501)) == []
    pieces = [connection.take(S, packet(501, ack=115)) for _ in range(PATIENCE_PACKETS + 1)]
    assert pieces[-1] == [(C, Gap(0, 10)), (C, Chunk(10, b"late", 0, 0))]
    assert not any(pieces[:-1])


def test_an_answer_captured_before_its_question_is_told_after_it() -> None:
    connection = opened()
    assert connection.take(S, packet(501, b"answer", ack=109)) == []
    assert connection.take(C, packet(101, b"question", ack=501)) == [
        (C, Chunk(0, b"question", 0, 0)),
        (S, Chunk(0, b"answer", 0, 8)),
    ]


def test_an_answer_to_a_question_that_was_missed_waits_some_packets() -> None:
    connection = opened()
    pieces = [connection.take(S, packet(501 + at, b"x", ack=109)) for at in range(PATIENCE_PACKETS + 1)]
    assert pieces[-1] == [(S, Chunk(0, b"x", 0, 8))]
    assert not any(pieces[:-1])
    assert len(connection.finish()) == PATIENCE_PACKETS


@settings(max_examples=150)
@given(st.lists(st.tuples(st.booleans(), st.binary(min_size=1, max_size=9)), max_size=30), st.randoms())
def test_what_was_said_is_told_in_an_order_that_could_have_been(
    said: list[tuple[bool, bytes]], source: random.Random
) -> None:
    connection, next_, packets = opened(), [101, 501], []
    for is_server, data in said:
        end = int(is_server)
        packets.append((Direction(end), packet(next_[end], data, ack=next_[1 - end])))
        next_[end] += len(data)
    for at in range(0, len(packets), 5):
        part = packets[at : at + 5]
        source.shuffle(part)
        packets[at : at + 5] = part
    pieces = [piece for each in packets for piece in connection.take(*each)] + connection.finish()
    told = [0, 0]
    for direction, piece in pieces:
        assert isinstance(piece, Chunk)
        assert piece.acknowledged <= told[1 - direction]
        told[direction] = piece.position + len(piece.data)
    for end in (0, 1):
        whole = b"".join(data for is_server, data in said if is_server == end)
        assert join([piece for direction, piece in pieces if direction == end]) == whole


def test_joined_in_the_middle_starts_where_it_was_joined() -> None:
    connection = TcpConnection()
    assert connection.take(S, packet(MODULUS - 2, b"tail", ack=77)) == [(S, Chunk(0, b"tail", 0, 0))]
    assert connection.take(C, packet(77, b"next", ack=2)) == [(C, Chunk(0, b"next", 0, 4))]
    assert connection.is_joined_midstream


@pytest.mark.parametrize("sequence", [101, 101 + 5_000, 50, 101 - 9])
def test_what_comes_after_a_reset_is_read(sequence: int) -> None:
    connection = opened()
    assert connection.take(C, packet(sequence, flags=TcpFlag.RST)) == []
    pieces = connection.take(C, packet(101, b"next", ack=501))
    assert join([piece for _, piece in pieces]) == b"next"


def test_fin_before_its_data_waits() -> None:
    connection = opened()
    connection.take(C, packet(105, b"end", flags=TcpFlag.ACK | TcpFlag.FIN, ack=501))
    assert not connection.streams[C].is_ended
    pieces = connection.take(C, packet(101, b"stat", ack=501))
    assert join([piece for _, piece in pieces]) == b"statend"
    assert connection.streams[C].is_ended


def test_a_long_shuffled_stream_past_the_wrap() -> None:
    source = random.Random(5)
    data = source.randbytes(200_000)
    initial = MODULUS - 100_000
    connection = TcpConnection()
    connection.take(C, packet(initial - 1, flags=TcpFlag.SYN))
    segments = [(at, data[at : at + 1_000]) for at in range(0, len(data), 1_000)]
    for at in range(0, len(segments), 16):  # Reordered within 16 segments, a tenth sent twice.
        part = segments[at : at + 16]
        part += [each for each in part if source.random() < 0.1]
        source.shuffle(part)
        segments[at : at + 16] = part[:16]
        for start, piece in part[16:]:
            segments.append((start, piece))
    pieces = [piece for at, part in segments for _, piece in connection.take(C, packet((initial + at) % MODULUS, part))]
    pieces += [piece for _, piece in connection.finish()]
    assert join(pieces) == data
