"""A lost place in HTTP/2 frames is found again, never wrongly, and the search is bounded."""

import itertools
import random

import pytest

from sensor.http.http2.frames import PREFACE, Frame, FrameKind, Lost, is_plausible
from sensor.http.http2.reader import _CANDIDATE, MAX_CHAINS, MAX_KEPT_BYTES, MAX_STREAM, BoundarySearch, ReaderState
from sensor.http.reassembly import Chunk
from tests.sensor.http.http2_wire import (
    write_data,
    write_headers,
    write_ping,
    write_settings,
    write_window_update,
)
from tests.sensor.http.test_http2_reader import make_reader, read
from tests.work import count_lines


# What payloads hold: none of it may pass for frames.
def make_payload(chance: random.Random, size: int) -> bytes:
    kind = chance.randrange(6)
    if kind == 0:
        return chance.randbytes(size)
    if kind == 1:
        return bytes(size)
    if kind == 2:
        return (b'{"id": %d, "name": "something", "tags": [1, 2, 3]}' % chance.randrange(10**9) * size)[:size]
    if kind == 3:
        return b"".join(chance.randrange(200).to_bytes(4) for _ in range(size // 4))
    if kind == 4:
        return b"".join(chance.randrange(5).to_bytes(2, "little") for _ in range(size // 2))
    return (b"\0\0\0\0\x0c\x0a\x05hello\x10\x01" * size)[:size]  # gRPC messages.


def make_stream(chance: random.Random, count: int) -> tuple[bytes, list[int]]:
    """Frames as a connection has them, and where each starts."""
    wire, starts, stream = bytearray(), [], 1
    for _ in range(count):
        starts.append(len(wire))
        kind = chance.randrange(8)
        if kind < 3:
            stream += 2
            wire += write_headers(stream, chance.randbytes(chance.randrange(1, 120)), is_end=kind == 0)
        elif kind < 6:
            wire += write_data(stream, make_payload(chance, chance.randrange(4_000)), is_end=kind == 5)
        else:
            wire += write_window_update(0) if kind == 6 else write_ping()
    return bytes(wire), starts


@pytest.mark.parametrize("seed", range(20))
def test_lost_place_is_found_again_and_never_wrongly(seed):
    chance = random.Random(seed)
    found = 0
    for _ in range(12):
        wire, starts = make_stream(chance, 40)
        cut = chance.randrange(len(wire) // 2)
        reader = make_reader(is_joined=True, is_client=None)
        reader.max_stream = 51
        segments = range(cut, len(wire), chance.choice([100, 1_448, 9_000]))
        events = read(reader, wire[cut:], [place - cut for place in segments], position=cut)
        positions = [event.position for event in events if isinstance(event, Frame) and event.kind != FrameKind.DATA]
        assert set(positions) <= set(starts)
        assert not any(isinstance(event, Lost) for event in events)
        found += reader.state is not ReaderState.LOST
        after = [start for start in starts if start >= cut]
        # All from the first whole frame on is read: the chain's own frames are kept.
        if reader.state is not ReaderState.LOST:
            first = min(event.position for event in events if isinstance(event, Frame))
            assert first in after[:4]
            assert reader.counts.skipped_bytes == first - cut
    assert found >= 11


def test_single_frames_in_segments_of_their_own_are_found():
    """A client that sends one request at a time, joined in the middle."""
    reader = make_reader(is_joined=True, is_client=None)
    wire = [write_headers(stream, b"block%d" % stream, is_end=True) for stream in (101, 103)]
    events, position = [], 5_000
    for data in wire:
        reader.read_piece(Chunk(position, data, 1), events)
        position += len(data)
    assert [event.stream for event in events if isinstance(event, Frame)] == [101, 103]


def test_random_bytes_are_hardly_ever_plausible():
    chance = random.Random(9113)
    data = chance.randbytes(500_000)
    places = range(len(data) - 9)
    assert sum(is_plausible(data[at : at + 9], 1 << 31) for at in places) <= 20
    assert not any(is_plausible(data[at : at + 9], 100_000) for at in places)


@pytest.mark.parametrize(
    "filler", [b"\0", b"\0\0\0\0\0\0\0\0\1", b"a", b"\0\0\1\1\4\0\0\0\1", b"\xff\0\0\0\1", b"\0\1"]
)
def test_search_is_bounded(filler):
    search, data = BoundarySearch(0, 0), filler * (60_000 // len(filler))

    def add() -> None:
        for _ in range(10):
            if search.add_segment(data) is not None:
                break
            assert len(search.kept) <= MAX_KEPT_BYTES
            assert len(search._chains) <= MAX_CHAINS

    lines = count_lines(add)
    assert lines < 25_000_000, lines  # Some 26 a byte, of 0.6 MB: each chain looks at each byte once.


def test_search_looks_at_every_plausible_header():
    for kind, flags, stream, length in itertools.product(
        range(12), range(256), (0, 1, 255, 0x7FFFFFFF), (0, 4, 5, 6, 8, 12, 100, 70_000)
    ):
        header = length.to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4)
        if is_plausible(header, MAX_STREAM):
            assert _CANDIDATE.match(header), header


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (write_headers(9, b"block", is_end=True), True),
        (write_headers(9, b"block") + write_data(9, b"body", is_end=True), True),
        (write_settings((3, 100)) + write_window_update(0), True),
        (write_ping(), True),
        (b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\n\r\n", False),
        (PREFACE, False),
        (bytes.fromhex("1603010200010001fc0303") + b"x" * 500, False),
        (bytes.fromhex("1703030020") + b"x" * 32, False),
        (b"*1\r\n$4\r\nPING\r\n", False),
        (bytes(64), False),
        (b"x" + write_ping(), False),
        (b"", False),
    ],
)
def test_what_looks_like_frames(data, expected):
    assert (BoundarySearch(0, 0).add_segment(data) == 0) is expected
