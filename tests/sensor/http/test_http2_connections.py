"""All connections of a sensor: bounded whatever comes, calls told under their connection's number."""

import gc
import tracemalloc

import pytest

from sensor.http.hpack import MAX_TABLE_BYTES
from sensor.http.http2 import connections as http2_connections
from sensor.http.http2.connections import Http2Connections
from sensor.http.http2.frames import PREFACE, Frame, FrameKind
from sensor.http.http2.heads import StreamRequest
from sensor.http.reassembly import Chunk, Direction
from tests.sensor.http.hpack_encoder import Encoder
from tests.sensor.http.http2_wire import write_headers, write_settings

SECOND = 1_000_000_000


class Client:
    """One client that writes requests."""

    def __init__(self, connections: Http2Connections, number: int, *, is_joined: bool = False) -> None:
        self.connections, self.number = connections, number
        self.encoder = Encoder()
        self.position = 0
        self.stream = -1
        if not is_joined:
            connections.open(number, is_joined=False, client=Direction.FORWARD)
            self.send(PREFACE + write_settings())

    def send(self, data: bytes):
        chunk = Chunk(self.position, data, SECOND)
        self.position += len(data)
        return self.connections.take_piece(self.number, Direction.FORWARD, chunk)

    def ask(self, path: bytes, *extra):
        self.stream += 2
        fields = [(b":method", b"GET"), (b":path", path), (b":authority", b"h"), *extra]
        return self.send(write_headers(self.stream, self.encoder.encode(fields), is_end=True))


def get_paths(told):
    return [(number, call.request.head.path) for number, call in told if isinstance(call.request, StreamRequest)]


def test_calls_carry_their_connection_and_closing_tells_them():
    connections = Http2Connections()
    clients = [Client(connections, number) for number in (7, 9)]
    for client in clients:
        assert client.ask(b"/%d" % client.number) == []
    assert get_paths(connections.close(9, 2 * SECOND)) == [(9, "/9")]
    assert connections.close(9, 2 * SECOND) == []
    assert len(connections) == 1
    assert get_paths(connections.close(7, 0)) == [(7, "/7")]
    assert connections.held_bytes == 0


def test_number_of_connections_is_bounded(monkeypatch):
    monkeypatch.setattr(http2_connections, "MAX_CONNECTIONS", 3)
    connections = Http2Connections()
    clients = [Client(connections, number) for number in range(3)]
    for client in clients:
        client.ask(b"/%d" % client.number)
    clients[0].ask(b"/again")
    told = Client(connections, 3).ask(b"/new")
    assert get_paths(told) == []
    assert (len(connections), connections.forgotten) == (3, 1)
    assert connections.find(1) is None and connections.find(0) is not None
    # It goes on, joined anew.
    clients[1].ask(b"/more")
    assert connections.forgotten == 2
    assert get_paths(connections.close(1, SECOND)) == [(1, "/more")]


def test_tables_of_hostile_clients_are_bounded_together(monkeypatch):
    monkeypatch.setattr(http2_connections, "MAX_HELD_BYTES", 500_000)
    connections = Http2Connections()
    patient = Client(connections, 0)
    for number in range(1, 30):
        client = Client(connections, number)
        client.send(write_headers(1, client.encoder.resize(1 << 20) + b"\x82", is_end=True))
        client.stream = 1
        for entry in range(9):
            client.ask(b"/", (b"x-%d" % entry, b"v" * 10_000))
        assert connections.held_bytes <= 500_000
        connection = connections.find(number)
        assert connection is not None and connection.held_bytes <= MAX_TABLE_BYTES + 30_000
        patient.ask(b"/mine/%d" % number)
    assert connections.forgotten > 10
    assert connections.find(0) is not None  # It is in use.
    assert len(connections.close(0, SECOND)) == 29


def test_what_is_held_is_what_python_needs():
    """The figure that is bounded against the allocator's, for a usual client and one that fills what is kept."""

    def fill(kind: str) -> Http2Connections:
        connections = Http2Connections()
        for number in range(20):
            client = Client(connections, number)
            for path in range(31):
                extra = [(b"x-%d" % (path % 10), b"%d" % path)] if kind == "usual" else []
                client.ask(b"/%d" % (path % 4), *extra)
            for stream in range(1, client.stream + 1, 2):
                block = (
                    bytes([0x88]) if kind == "usual" else b"\x88" + b"\x10\x01%c\x40" % (stream % 90 + 33) + b"v" * 64
                )
                data = write_headers(stream, block, is_end=True)
                reader = connections.find(number)._readers[1]
                position = reader._position or 0
                connections.take_piece(number, Direction.BACKWARD, Chunk(position, data, SECOND))
        return connections

    for kind in ("usual", "hostile"):
        fill(kind)  # What is shared is made.
        gc.collect()
        tracemalloc.start()
        connections = fill(kind)
        gc.collect()
        allocated, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert 0.3 < (connections.held_bytes + 1_400 * len(connections)) / allocated < 6


def test_connection_that_is_not_known_is_joined():
    connections = Http2Connections()
    client = Client(connections, 5, is_joined=True)
    client.stream = 99
    client.ask(b"/a")
    client.ask(b"/b")
    assert get_paths(connections.close(5, SECOND)) == [(5, "/a"), (5, "/b")]


def test_a_reset_stream_waits_for_what_the_kernel_did_not_tell_of_yet():
    """It is told early like others, and once more when the other side is heard of, or after a minute."""
    connections = Http2Connections()
    client = Client(connections, 1)
    client.ask(b"/download")
    head = write_headers(1, Encoder().encode([(b":status", b"200")]))
    connections.take_piece(1, Direction.BACKWARD, Chunk(0, write_settings() + head, SECOND))
    connection = connections.use(1)
    reset = Frame(client.position, 13, SECOND, int(FrameKind.RST_STREAM), 0, 1, bytes(4), 4)
    connection.take_frames(Direction.FORWARD, [reset], reset.position, reset.position + 13, [])
    assert connection.open_streams == 1
    (early,) = connections.poll(2 * SECOND)
    assert (early[1].is_final, early[1].is_aborted) == (False, False)
    assert connections.poll(60 * SECOND) == []
    (late,) = connections.poll(61 * SECOND)
    assert (late[1].calls, late[1].is_final, late[1].is_aborted, late[1].ended_ns) == (0, True, True, SECOND)


@pytest.mark.parametrize("is_answered", [True, False])
def test_long_responses_are_told_early(is_answered):
    connections = Http2Connections()
    client = Client(connections, 1)
    client.ask(b"/sse")
    if is_answered:
        data = write_settings() + write_headers(1, Encoder().encode([(b":status", b"200")]))
        connections.take_piece(1, Direction.BACKWARD, Chunk(0, data, SECOND))
    told = connections.poll(2 * SECOND)
    assert get_paths(told) == ([(1, "/sse")] if is_answered else [])
    assert connections.poll(3 * SECOND) == []
