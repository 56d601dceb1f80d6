"""HTTP/2 connections that stay open while one capture ends and another begins: their header tables go on."""

import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts.vm.images import find_images
from sensor.capture.packets.capture import PacketCapture
from sensor.capture.packets.table_file import FILE_NAME, TableFile
from sensor.core.clock import Clock
from sensor.ebpf.abi import Counter
from sensor.http.http2.exchange import StreamExchange
from sensor.http.http2.heads import UNKNOWN_PATH
from tests.bpf.test_http2 import collect, connect, play, whole
from tests.bpf.test_http2_match import BACKWARD, FORWARD, MESSAGE, Said, Talk, Told, rows
from tests.sensor.http.http2_wire import write_ping, write_window_update

pytestmark = [pytest.mark.kernel, pytest.mark.full("sensor.http", "sensor.capture.http2", "sensor.capture.packets")]

OLD, NEW = b"/shop.v1.Orders/Get", b"/shop.v1.Orders/Put"
Load = Callable[[], PacketCapture]


@pytest.fixture
def load(home: Path, tmp_path: Path) -> Iterator[Load]:
    """Starts a capture that continues with what the last one left."""
    loaded: list[PacketCapture] = []

    def load() -> PacketCapture:
        capture = PacketCapture.load(
            cgroup_path=home,
            ring_bytes=1 << 20,
            is_root_cgroup=True,
            clock=Clock(),
            cache_directory=find_images(),
            table_file=TableFile(tmp_path, Clock().monotonic_ns),
        )
        loaded.append(capture)
        return capture

    yield load
    for capture in loaded:
        if not capture._is_closed:
            capture.close()


class Connection:
    """One whose ends the test has, over several captures."""

    def __init__(self, ends: tuple[socket.socket, socket.socket], port: int) -> None:
        self.talk, self.port = Talk(), port
        self._ends = ends
        self.found: Told = []

    def say(self, capture: PacketCapture | None, said: Said) -> None:
        """Sends, and reads what came of it."""
        play(said, self._ends, whole)
        if capture is not None:
            self.found += self._select(capture)

    def be_idle(self, capture: PacketCapture | None) -> None:
        """What is sent where no call is made."""
        self.say(capture, [(FORWARD, write_ping()), (BACKWARD, write_ping() + write_window_update(0, 99))])

    def stop(self, capture: PacketCapture) -> None:
        """As a sensor stops: it reads what is in the rings first."""
        capture.detach()
        while capture.pending_bytes():
            self.found += self._select(capture)
        capture.close()

    def pop_calls(self, count: int, capture: PacketCapture) -> list[tuple[object, ...]]:
        """Path, status and gRPC status of all calls so far."""
        found, self.found = [*self.found, *collect(capture, self.port, count - len(self.found))], []
        return [row[1:4] for row in rows(found)]

    def _select(self, capture: PacketCapture) -> Told:
        return [
            one
            for one in capture.read()
            if isinstance(one, StreamExchange) and one.exchange.ends.local_port == self.port
        ]


@pytest.fixture
def connection() -> Iterator[Connection]:
    with connect() as (client, server, port):
        yield Connection((client, server), port)


def count_tables(capture: PacketCapture) -> tuple[int, int]:
    """Connections that continued with their tables, and those that could not."""
    figures = {figure.name: int(figure.value) for figure in capture.figures()}
    return figures["http2_loaded_tables"], figures["http2_unfit_tables"]


@pytest.mark.parametrize("calls", [1, 61])
def test_calls_keep_their_names_over_two_restarts(
    load: Load, connection: Connection, tmp_path: Path, calls: int
) -> None:
    """The requests after the first are the same bytes, which only refer to the table; after some of them the kernel
    matches the others, and user space sees no event of them."""
    capture, talk = load(), connection.talk
    connection.say(capture, talk.begin())
    for _ in range(calls):
        connection.say(capture, talk.call(OLD))
    assert (capture.counters()[Counter.MATCHED] > 0) == (calls == 61)
    expected = [(OLD.decode(), 200, 0)]
    for _ in range(2):
        connection.be_idle(capture)
        connection.stop(capture)
        connection.be_idle(None)
        assert (tmp_path / FILE_NAME).exists()
        capture = load()
        assert not (tmp_path / FILE_NAME).exists()
        capture.set_listening([connection.port])
        connection.be_idle(capture)
        for _ in range(7):
            connection.say(capture, talk.call(OLD))
        connection.say(capture, talk.call(NEW, status=b"5"))
        assert count_tables(capture) == (1, 0)
    found = connection.pop_calls(calls + 2 * 8, capture)
    assert sorted(found) == sorted(expected * (calls + 14) + [(NEW.decode(), 200, 5)] * 2)


def test_a_call_that_nobody_saw_costs_the_tables(load: Load, connection: Connection) -> None:
    capture, talk = load(), connection.talk
    connection.say(capture, talk.begin())
    connection.say(capture, talk.call(OLD))
    connection.stop(capture)
    connection.say(None, talk.call(NEW))
    capture = load()
    capture.set_listening([connection.port])
    connection.found.clear()
    for path in (OLD, NEW, b"/other", b"/other"):
        connection.say(capture, talk.call(path))
    paths = [path for path, _, _ in connection.pop_calls(4, capture)]
    assert paths == [UNKNOWN_PATH, UNKNOWN_PATH, "/other", "/other"]
    assert count_tables(capture) == (0, 1)


def test_a_call_that_was_open_costs_the_tables(load: Load, connection: Connection, tmp_path: Path) -> None:
    """Its response may have changed the server's table while nobody looked."""
    capture, talk = load(), connection.talk
    connection.say(capture, talk.begin())
    connection.say(capture, talk.call(OLD))
    connection.say(capture, [(FORWARD, talk.ask(OLD, MESSAGE))])
    connection.stop(capture)
    assert not (tmp_path / FILE_NAME).exists()
    connection.say(None, [(BACKWARD, talk.answer(MESSAGE, status=b"7"))])
    capture = load()
    capture.set_listening([connection.port])
    connection.found.clear()
    connection.say(capture, talk.call(OLD, status=b"7"))
    ((path, _, grpc_status),) = connection.pop_calls(1, capture)
    assert path == UNKNOWN_PATH and grpc_status in (7, None)
    assert count_tables(capture) == (0, 0)
