"""How long servers take to answer over TLS is counted right, without a probe: each server here waits for a known time.
Handshakes, aborted calls and later parts of long answers are no waits.
"""

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from scripts.demo.nginx import Nginx, find_nginx
from sensor.capture.packets.capture import PacketCapture
from sensor.capture.tls.waits import BUCKETS, PORTS_MAX, Waits, find_bucket, find_start_ns
from tests.bpf.recognised import own_cgroup_id
from tests.bpf.tls import client_context, make_certificate, serving_https
from tests.bpf.wire import connected, receive_exactly, serving
from tests.waiting import DEADLINE_SECONDS

pytestmark = pytest.mark.kernel


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def waits(capture: PacketCapture) -> Iterator[Waits]:
    """The kernel's map."""
    waits = Waits(capture.maps["waits"], capture.maps["timed"])
    yield waits
    waits.read([])


class Answers:
    """Of a server: since this was made, or was `begin` last."""

    def __init__(self, waits: Waits, port: int) -> None:
        self._waits = waits
        self._port = (own_cgroup_id(), port)
        self.begin()

    def begin(self) -> None:
        self._before = self._waits.read([self._port])[self._port]

    def read(self) -> list[int]:
        now = self._waits.read([self._port])[self._port]
        return [late - early for late, early in zip(now, self._before, strict=True)]

    def await_count(self, count: int, most: int | None = None) -> dict[int, int]:
        """Waits by their bucket's start in microseconds, once there are so many; fails where there are more."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while sum(counts := self.read()) < count:
            assert time.monotonic() < deadline, sum(counts)
            time.sleep(0.01)
        found = {find_start_ns(bucket) // 1000: found for bucket, found in enumerate(counts) if found}
        assert sum(counts) <= (most or count), found
        return found


def answer_after(delays: Sequence[float], answer: bytes = b"a" * 300) -> Callable[[ssl.SSLSocket], None]:
    """A server's side: reads 100 bytes at a time, and answers the first at once, the others after their delays in
    seconds."""

    def serve(connection: ssl.SSLSocket) -> None:
        for delay in (0.0, *delays):
            if not receive_exactly(connection, 100):
                return
            time.sleep(delay)
            connection.sendall(answer)
        connection.recv(1)

    return serve


@contextlib.contextmanager
def talking(
    certificate: Path,
    serve: Callable[[ssl.SSLSocket], None],
    waits: Waits,
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> Iterator[tuple[ssl.SSLSocket, Answers]]:
    """A client connected to a server in this process, after a first call: of TLS 1.3, it is not known whether the
    server answers it or sends tickets."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    context.minimum_version = context.maximum_version = version

    def accept(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as encrypted:
            serve(encrypted)

    with serving(accept) as port:
        answers = Answers(waits, port)
        with connected(port) as plain, client_context(()).wrap_socket(plain) as client:
            client.sendall(b"r" * 100)
            receive_exactly(client, 300)
            answers.begin()
            yield client, answers


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=["1.2", "1.3"])
def test_each_answer_of_a_connection_has_its_own_wait(certificate: Path, waits: Waits, version: ssl.TLSVersion) -> None:
    """Keep-alive: the handshake and the time between calls are in none of them."""
    delays = [0.02] * 5 + [0.5] * 3
    with talking(certificate, answer_after(delays), waits, version) as (client, answers):
        for _ in delays:
            time.sleep(0.3)
            client.sendall(b"r" * 100)
            receive_exactly(client, 300)
        found = answers.await_count(8)
    assert 19_000 <= min(found) < 300_000, found
    assert sum(count for start, count in found.items() if start >= 480_000) >= 3, found


def test_a_handshake_without_a_call_is_not_counted(certificate: Path, waits: Waits) -> None:
    with talking(certificate, answer_after([0.0]), waits) as (client, answers):
        for _ in range(3):
            with socket.create_connection(client.getpeername()) as plain, client_context(()).wrap_socket(plain):
                pass
        client.sendall(b"r" * 100)
        receive_exactly(client, 300)
        answers.await_count(1)


def test_a_request_in_parts_waits_from_its_last_part(certificate: Path, waits: Waits) -> None:
    with talking(certificate, answer_after([0.0]), waits) as (client, answers):
        client.sendall(b"r" * 50)
        time.sleep(0.5)
        client.sendall(b"r" * 50)
        receive_exactly(client, 300)
        (start,) = answers.await_count(1)
        assert start < 400_000


def test_a_long_answer_is_one_wait(certificate: Path, waits: Waits) -> None:
    """Of nine pieces with pauses between them."""

    def serve(connection: ssl.SSLSocket) -> None:
        receive_exactly(connection, 100)
        connection.sendall(b"a" * 300)
        for _ in range(2):
            receive_exactly(connection, 100)
            for _ in range(9):
                connection.sendall(b"a" * 60_000)
                time.sleep(0.02)
        connection.recv(1)

    with talking(certificate, serve, waits) as (client, answers):
        for _ in range(2):
            client.sendall(b"r" * 100)
            receive_exactly(client, 9 * 60_000)
        answers.await_count(2)


def test_pipelined_requests_are_waits_of_turns(certificate: Path, waits: Waits) -> None:
    """Five requests in one record: the server speaks five times without being asked again."""
    with talking(certificate, answer_after([0.02] * 5), waits) as (client, answers):
        client.sendall(b"r" * 500)
        receive_exactly(client, 1_500)
        (start,) = answers.await_count(1)
        assert start >= 19_000


def test_calls_without_an_answer_are_not_counted(certificate: Path, waits: Waits) -> None:
    """The client leaves, or the server does, both with a reset."""
    reset = (socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    is_left = threading.Event()

    def serve(connection: ssl.SSLSocket) -> None:
        receive_exactly(connection, 100)
        connection.sendall(b"a" * 300)
        word = connection.recv(1)
        if word == b"s":
            connection.setsockopt(*reset)
        elif word == b"c":
            is_left.wait(DEADLINE_SECONDS)
        else:
            connection.sendall(b"a" * 300)
            connection.recv(1)

    with talking(certificate, serve, waits) as (client, answers), contextlib.ExitStack() as stack:
        others = []
        for _ in range(2):
            plain = stack.enter_context(connected(client.getpeername()[1]))
            others.append(stack.enter_context(client_context(()).wrap_socket(plain)))
            others[-1].sendall(b"r" * 100)
            receive_exactly(others[-1], 300)
        answers.begin()
        others[0].sendall(b"s")
        with contextlib.suppress(OSError):
            others[0].recv(1)
        others[1].sendall(b"c")
        others[1].setsockopt(*reset)
        others[1].close()
        is_left.set()
        client.sendall(b"r")
        receive_exactly(client, 300)
        answers.await_count(1)


def test_a_python_server_is_timed(certificate: Path, waits: Waits) -> None:
    with serving_https(certificate, ssl.TLSVersion.TLSv1_3) as port:
        answers = Answers(waits, port)
        client = http.client.HTTPSConnection("127.0.0.1", port, context=client_context())
        for number in range(24):
            client.request("POST" if number % 3 else "GET", "/9000", body=b"b" * 5_000 if number % 3 else None)
            assert len(client.getresponse().read()) == 9_000
        client.close()
        answers.await_count(23, 24)


@pytest.mark.skipif(find_nginx() is None, reason="nginx is not installed")
def test_nginx_is_timed_by_worker_and_connection(certificate: Path, waits: Waits, tmp_path: Path) -> None:
    files = f"ssl_certificate {certificate}; ssl_certificate_key {certificate};"
    nginx = Nginx(tmp_path / "nginx", files + " location / { return 200 'ok'; }", listen="ssl")
    try:
        answers = Answers(waits, nginx.port)
        for _ in range(3):
            client = http.client.HTTPSConnection("127.0.0.1", nginx.port, context=client_context())
            for _ in range(24):
                client.request("GET", "/orders/7")
                client.getresponse().read()
            client.close()
        answers.await_count(3 * 23, 3 * 24)
    finally:
        nginx.stop()


def test_ports_that_are_not_followed_are_not_counted(certificate: Path, waits: Waits) -> None:
    """Nor is plain text, nor what came before a port was followed."""
    with talking(certificate, answer_after([0.0] * 3), waits) as (client, answers):
        port = (own_cgroup_id(), client.getpeername()[1])
        client.sendall(b"r" * 100)
        receive_exactly(client, 300)
        answers.await_count(1)
        assert waits.read([]) == {}
        client.sendall(b"r" * 100)
        receive_exactly(client, 300)
        assert sum(waits.read([port])[port]) == 0
        answers.begin()
        client.sendall(b"r" * 100)
        receive_exactly(client, 300)
        answers.await_count(1)


def test_there_is_room_for_all_ports_that_are_compared_and_again_for_others(waits: Waits) -> None:
    for first in (1_000, 2_000):
        wanted = [(7, first + number) for number in range(PORTS_MAX)]
        assert waits.read(wanted).keys() == set(wanted)
    with pytest.raises(OSError, match="too long"):
        waits.read([*wanted, (7, 9)])


def test_buckets_have_no_holes() -> None:
    """Each begins where the one before it ends, and is narrow."""
    for bucket in range(BUCKETS):
        start, end = find_start_ns(bucket), find_start_ns(bucket + 1)
        assert find_bucket(start) == find_bucket(end - 1) == bucket
        assert bucket < 32 or (end - start) / start <= 1 / 32
    assert find_bucket(1 << 60) == BUCKETS - 1
