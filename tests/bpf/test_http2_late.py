"""HTTP/2 that the sensor did not see from its beginning, and more of it than is read: counted, and never wrong."""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from scripts.vm.images import find_images
from sensor.capture.packets.capture import PacketCapture
from sensor.core.clock import Clock
from sensor.ebpf.abi import Counter
from sensor.ebpf.compile import FRAMES_BYTES
from sensor.http.http2.frames import PREFACE
from sensor.http.http2.heads import UNKNOWN_PATH
from tests.bpf.test_http2 import BACKWARD, FORWARD, Client, collect, connect, every, play, rows, whole
from tests.bpf.wire import receive_exactly
from tests.sensor.http.hpack_encoder import Encoder
from tests.sensor.http.http2_wire import write_headers, write_settings
from tests.waiting import DEADLINE_SECONDS

pytestmark = [pytest.mark.kernel, pytest.mark.full]

BLOCKS = 211  # Of one segment.


@contextmanager
def detached(capture: PacketCapture) -> Iterator[None]:
    """What is said meanwhile is not seen."""
    capture.detach()
    try:
        yield
    finally:
        capture.attach()


@pytest.mark.parametrize("is_listened", [True, False])
def test_a_connection_older_than_the_sensor(capture: PacketCapture, is_listened: bool) -> None:
    """Paths that were put into the table before are unknown, each of them another; new ones are known."""
    client = Client()
    with connect() as (first, second, port):
        ends = first, second
        with detached(capture):
            play([(FORWARD, PREFACE + write_settings()), (BACKWARD, write_settings())], ends, whole)
            play([(FORWARD, client.ask(1, b"/old")), (BACKWARD, client.answer(1))], ends, whole)
        capture.set_listening([port] if is_listened else [])
        for stream, path in ((3, b"/old"), (5, b"/new"), (7, b"/old"), (9, b"/new")):
            play([(FORWARD, client.ask(stream, path)), (BACKWARD, client.answer(stream))], ends, whole)
        told = collect(capture, port, 4)
    capture.set_listening([])
    assert rows(told) == [("GET", "/new", 200)] * 2 + [("GET", UNKNOWN_PATH, 200)] * 2
    unknown = {one.call.request.unknown for one in told if one.call.request.head.path == UNKNOWN_PATH}  # type: ignore[union-attr]
    assert len(unknown) == 1


def test_what_was_not_seen_in_between(capture: PacketCapture) -> None:
    """The sensor pauses in the middle of a connection: nothing is lost but what was said meanwhile."""
    client = Client()
    with connect() as (first, second, port):
        ends = first, second
        play([(FORWARD, PREFACE + write_settings()), (BACKWARD, write_settings())], ends, whole)
        play([(FORWARD, client.ask(1, b"/before")), (BACKWARD, client.answer(1))], ends, whole)
        with detached(capture):
            play([(FORWARD, client.ask(3, b"/meanwhile")), (BACKWARD, client.answer(3))], ends, whole)
        for stream in range(5, 25, 2):
            play([(FORWARD, client.ask(stream, b"/after")), (BACKWARD, client.answer(stream))], ends, every(50))
        told = collect(capture, port, 11)
    found = [path for _, path, _ in rows(told)]
    assert len(found) == 11
    assert set(found) <= {"/before", "/after", UNKNOWN_PATH}
    assert found.count("/before") == 1


@pytest.fixture
def unread(home: Path) -> Iterator[PacketCapture]:
    """A capture of its own, which nobody reads."""
    capture = PacketCapture.load(
        cgroup_path=home, ring_bytes=1 << 20, is_root_cgroup=True, clock=Clock(), cache_directory=find_images()
    )
    yield capture
    capture.close()


def test_a_full_ring_is_counted_stream_by_stream(unread: PacketCapture) -> None:
    """Every request that was sent came up, was kept down for its cgroup's share, or is counted as lost."""
    fields = [(b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/" + b"f" * 400), (b":authority", b"h")]
    block = Encoder().encode(fields, unindexed=frozenset((b":path", b":authority")))
    requests = 0
    with connect() as (first, second, _), connect() as (*filling, _):
        play([(FORWARD, PREFACE + write_settings()), (BACKWARD, write_settings())], (first, second), whole)

        def ask_until(counter: Counter) -> None:
            nonlocal requests
            until = time.monotonic() + DEADLINE_SECONDS
            while not unread.counters()[counter] and time.monotonic() < until:
                data = b"".join(write_headers(1 + 2 * (requests + n), block, is_end=True) for n in range(BLOCKS))
                first.sendall(data)
                assert receive_exactly(second, len(data)) == data
                requests += BLOCKS
            assert unread.counters()[counter] > 0

        # A cgroup sends so many blocks a second once half of the ring is full, of what room others leave.
        play([(FORWARD, PREFACE + write_settings())], (filling[0], filling[1]), whole)
        fill(unread, (filling[0], filling[1]), FRAMES_BYTES // 2)
        ask_until(Counter.BLOCKS_REFUSED)
        fill(unread, (filling[0], filling[1]), FRAMES_BYTES)
        ask_until(Counter.STREAMS_LOST)
        lost = unread.counters()[Counter.STREAMS_LOST]
        assert unread.pending_bytes() > FRAMES_BYTES / 2
        assert unread.is_pressing()
        while unread.has_events():
            unread.read()
        assert not unread.is_pressing()
        found = [unread._streams._streams.find(number) for number in unread._streams._connections]
        (counts,) = [streams.counts for streams in found if streams is not None and streams.counts.requests]
        read = counts.requests  # By name or not.
    assert unread.counts()[0].dropped_total >= lost
    # Those of one packet may be in the event that was being made when the ring was full, or cut by what was lost.
    assert abs(read + lost - requests) <= BLOCKS + counts.cut_blocks, (read, lost, requests)


def test_a_call_whose_request_the_ring_had_no_room_for_is_lost_once(unread: PacketCapture) -> None:
    """Its answer comes when there is room again, and says nothing that was not counted."""
    calls, lost = Client(), 7
    with connect() as (first, second, _), connect() as (*filling, _):
        ends = first, second
        play([(FORWARD, PREFACE + write_settings()), (BACKWARD, write_settings())], ends, whole)
        play([(FORWARD, calls.ask(1, b"/before")), (BACKWARD, calls.answer(1))], ends, whole)
        play([(FORWARD, PREFACE + write_settings())], (filling[0], filling[1]), whole)
        fill(unread, (filling[0], filling[1]))
        for stream in range(3, 3 + 2 * lost, 2):
            play([(FORWARD, calls.ask(stream, b"/lost"))], ends, whole)
        assert unread.counters()[Counter.STREAMS_LOST] == lost
        told = len(unread.read())
        while unread.has_events():
            told += len(unread.read())
        for stream in range(3, 3 + 2 * lost, 2):
            play([(BACKWARD, calls.answer(stream))], ends, whole)
        play([(FORWARD, calls.ask(99, b"/after")), (BACKWARD, calls.answer(99))], ends, whole)
        first.close()
        second.close()
        time.sleep(0.1)
        told += len(unread.read())
        kernel, exchange = unread.counts()
    assert told == 2
    assert (kernel.seen, kernel.dropped_total, exchange.seen, exchange.dropped_total) == (told + lost, lost, told, 0)


def fill(capture: PacketCapture, ends: tuple[socket.socket, socket.socket], size: int = FRAMES_BYTES) -> None:
    """Fills the ring, or so much of it, with frames of a connection that makes no call and has begun."""
    settings = write_settings(*[(4, 65_535)] * 2_000)
    until = time.monotonic() + DEADLINE_SECONDS
    while capture.pending_bytes() < size - 2_000:
        assert time.monotonic() < until
        play([(FORWARD, settings)], ends, whole)
    for _ in range(8):  # What room is left is less than a small event takes.
        play([(FORWARD, write_settings())], ends, whole)
