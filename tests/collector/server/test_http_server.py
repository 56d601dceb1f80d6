"""Clients that send too much, too slowly, or nothing: they are answered, bounded or closed, and others are served."""

import asyncio
import contextlib
import json
import ssl
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from collector.api.access import BodyLimit, RequestLimits
from collector.api.request_queue import QueueLimits
from collector.core.connections import Connection
from collector.server.http_server import HttpConnection, HttpLimits, HttpServer
from tests.collector.http_serving import (
    TOKEN,
    EmptyReader,
    ask,
    make_app,
    read_all,
    read_status,
    serve,
    write_head,
)
from tests.e2e.certificates import Certificate, make_certificate
from tests.virtual_time import run_in_virtual_time
from tests.waiting import DEADLINE_SECONDS, wait_in_loop

HUGE = 400_000_000
CHUNK = bytes(64 * 1024)
JSON = "Content-Type: application/json"
# asyncio reads up to 256 KiB at once, before anybody has looked at the head.
READ_AHEAD = 256 * 1024


class Account:
    """Bytes that the server took from its connections."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        take = HttpConnection.data_received

        def count(connection: HttpConnection, data: bytes) -> None:
            self.count += len(data)
            take(connection, data)

        monkeypatch.setattr(HttpConnection, "data_received", count)


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> Account:
    return Account(monkeypatch)


async def upload(port: int, head: bytes, size: int, *, is_chunked: bool = False) -> bytes:
    """Send a body of this size for as long as the server takes it; what it answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def send() -> None:
        writer.write(head)
        for _ in range(0, size, len(CHUNK)):
            writer.write(b"%x\r\n%b\r\n" % (len(CHUNK), CHUNK) if is_chunked else CHUNK)
            await writer.drain()

    sending = asyncio.create_task(send())
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            return await read_all(reader)
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        writer.close()


def test_a_body_without_a_token_is_refused_unread(account: Account) -> None:
    async def run() -> bytes:
        async with serve(make_app()) as (_, port):
            return await upload(port, write_head("POST", "/api/v1/specs", JSON, f"Content-Length: {HUGE}"), HUGE)

    response = asyncio.run(run())
    assert read_status(response) == 401
    assert account.count < 2 * READ_AHEAD


@pytest.mark.parametrize("path", ["/api/v1/blocks", "/alerts/a1/mute", "/api/v1/nothing"])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_past_the_limit_is_refused_while_it_comes(path: str, is_chunked: bool, account: Account) -> None:
    length = "Transfer-Encoding: chunked" if is_chunked else f"Content-Length: {HUGE}"

    async def run() -> bytes:
        async with serve(make_app()) as (_, port):
            return await upload(port, write_head("POST", path, JSON, length, token=TOKEN), HUGE, is_chunked=is_chunked)

    response = asyncio.run(run())
    assert read_status(response) == 413
    assert b"application/problem+json" in response
    assert f"longer than {64 * 1024} bytes" in json.loads(response.partition(b"\r\n\r\n")[2])["detail"]
    assert account.count < 64 * 1024 + 2 * READ_AHEAD


@pytest.mark.parametrize("path", ["/api/v1/specs", "/api/v1/specs/compare"])
def test_descriptions_of_apis_may_be_longer(path: str, account: Account) -> None:
    async def run() -> list[int]:
        async with serve(make_app()) as (_, port):
            head = "POST", path, JSON
            statuses = []
            for size in (4 * 2**20, 6 * 2**20):
                lines = f"Content-Length: {size}", "Connection: close"
                statuses.append(read_status(await upload(port, write_head(*head, *lines, token=TOKEN), size)))
            return statuses

    assert asyncio.run(run()) == [422, 413]  # The first is no JSON.


def test_long_bodies_that_do_not_end_leave_room_for_another_client() -> None:
    size = 2 * 2**20
    limits = RequestLimits(queue=QueueLimits(body_bytes_of_client=3 * 2**20))
    head = write_head("POST", "/api/v1/specs", JSON, f"Content-Length: {size}", "Connection: close", token=TOKEN)

    async def hold(port: int) -> asyncio.StreamWriter:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head + bytes(size - 1))
        await writer.drain()
        return writer

    async def run() -> tuple[bytes, bytes]:
        async with serve(make_app(limits=limits)) as (_, port):
            async with asyncio.timeout(DEADLINE_SECONDS):
                writer = await hold(port)
                while read_status(own := await ask(port, head + bytes(size))) == 422:
                    await asyncio.sleep(0.01)  # The first one is not read yet,
                    if writer.transport.is_closing():  # or found the room taken by the second.
                        writer = await hold(port)
            other = await ask(port, head + bytes(size), local_addr=("127.0.0.2", 0))
            writer.transport.abort()
            return own, other

    own, other = asyncio.run(run())
    assert read_status(own) == 503 and b"retry-after: 1" in own
    assert read_status(other) == 422  # It is no JSON.


def test_the_sign_in_takes_no_more_than_a_token() -> None:
    async def run() -> bytes:
        async with serve(make_app()) as (_, port):
            return await upload(port, write_head("POST", "/login", f"Content-Length: {HUGE}"), HUGE)

    assert read_status(asyncio.run(run())) == 413


SOON = HttpLimits(head_seconds=0.2, linger_seconds=0.2, unread_seconds=0.2)


@pytest.mark.parametrize("part", [b"", b"G", b"GET /healthz HTTP/1.1\r\nHost: a\r\n"])
def test_a_head_that_does_not_end_closes_its_connection(part: bytes) -> None:
    async def run() -> tuple[bytes, int]:
        async with serve(make_app(), SOON) as (server, port):
            return await ask(port, part), server.late_count

    assert asyncio.run(run()) == (b"", 1)


def test_a_head_that_drips_is_not_given_more_time() -> None:
    async def run() -> int:
        async with serve(make_app(), SOON) as (server, port):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            with contextlib.closing(writer):
                async with asyncio.timeout(DEADLINE_SECONDS):
                    while not server.late_count:
                        writer.write(b"G")
                        await asyncio.sleep(0.01)
            await wait_in_loop(lambda: not server.table)
            return server.late_count

    assert asyncio.run(run()) == 1


def test_a_second_head_has_its_deadline_too() -> None:
    async def run() -> bytes:
        async with serve(make_app(), SOON) as (_, port), asyncio.timeout(DEADLINE_SECONDS):
            response = b""
            while not response:  # On a busy host the first head may be late itself.
                response = await ask(port, write_head("GET", "/healthz") + b"GET /healthz HT")
            return response

    assert asyncio.run(run()).count(b"HTTP/1.1 200") == 1


@pytest.mark.parametrize("token", ["", TOKEN])
def test_a_body_that_does_not_end_is_answered_and_its_connection_closed(token: str) -> None:
    soon = BodyLimit(bytes=100, seconds=0.2)
    path = "/api/v1/blocks" if token else "/login"
    head = write_head("POST", path, JSON, "Content-Length: 90", token=token)

    async def run() -> tuple[bytes, int]:
        limits = RequestLimits(body=soon, public_body=soon)
        async with serve(make_app(limits=limits), HttpLimits(linger_seconds=0.2)) as (server, port):
            response = await ask(port, head + b"{")
            await wait_in_loop(lambda: not server.table)
            return response, len(server.server_state.tasks)

    response, tasks = asyncio.run(run())
    assert (read_status(response), tasks) == (408, 0)


def test_half_open_connections_do_not_stop_health_checks() -> None:
    """Six times as many as there is room for, from the address that the checks come from too."""

    async def run() -> list[int]:
        limits = HttpLimits(connections=50, waiting_of_network=50)
        parts = b"", b"GET / HTTP/1.1\r\n", write_head("POST", "/login", "Content-Length: 9")
        statuses = []
        async with serve(make_app(), limits) as (server, port), contextlib.AsyncExitStack() as stack:
            for number in range(300):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                stack.callback(writer.close)
                writer.write(parts[number % 3])
                if number % 10 == 0:
                    probe = write_head("GET", "/healthz", "Connection: close")
                    statuses.append(read_status(await ask(port, probe)))
            await wait_in_loop(lambda: server.table.counts.seen == 330)
            assert len(server.table) <= 50
            assert server.table.counts.refused == 0
        return statuses

    assert asyncio.run(run()) == [200] * 30


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"), "server", "IP:127.0.0.1")


def test_half_open_handshakes_shut_nobody_out(certificate: Certificate) -> None:
    trusting = ssl.create_default_context(cafile=str(certificate.authority))

    async def run() -> list[int]:
        files = certificate.certificate, certificate.key
        limits = HttpLimits(connections=20, waiting_of_network=20, head_seconds=DEADLINE_SECONDS)
        statuses = []
        async with serve(make_app(), limits, files) as (server, port), contextlib.AsyncExitStack() as stack:
            for number in range(60):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                stack.callback(writer.close)
                if number % 20 == 0:
                    probe = write_head("GET", "/healthz", "Connection: close")
                    statuses.append(read_status(await ask(port, probe, ssl=trusting)))
            await wait_in_loop(lambda: server.table.counts.displaced >= 40)
        return statuses

    assert asyncio.run(run()) == [200] * 3


def test_a_handshake_that_does_not_end_closes_its_connection(certificate: Certificate) -> None:
    async def run() -> tuple[bytes, int]:
        async with serve(make_app(), SOON, (certificate.certificate, certificate.key)) as (server, port):
            return await ask(port, b"\x16\x03\x01"), server.late_count  # The beginning of a ClientHello.

    assert asyncio.run(run()) == (b"", 1)


def test_who_does_not_read_a_response_is_closed() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await Response(bytes(8 * 2**20))(scope, receive, send)

    async def run() -> None:
        async with serve(app, HttpLimits(unread_seconds=0.2)) as (server, port):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(write_head("GET", "/"))
            await wait_in_loop(lambda: server.late_count == 1 and not server.table)
            writer.close()

    asyncio.run(run())


class UnreadTransport(asyncio.Transport):
    """A client that takes its response at the pace that the test sets."""

    def __init__(self) -> None:
        super().__init__()
        self.left_bytes = 0
        self.is_aborted = False

    def get_extra_info(self, name: str, default: object = None) -> object:
        return default

    def get_write_buffer_size(self) -> int:
        return self.left_bytes

    def is_closing(self) -> bool:
        return self.is_aborted

    def abort(self) -> None:
        self.is_aborted = True

    close = abort


def test_who_reads_slowly_has_time_as_long_as_something_is_read() -> None:
    async def main() -> None:
        limits = HttpLimits(unread_seconds=30.0)
        server = HttpServer(make_app(), files=None, grace_seconds=1.0, limits=limits)
        server.lifespan = server.config.lifespan_class(server.config)
        transport = UnreadTransport()
        connection = HttpConnection(server, Connection(host="127.0.0.1", port=1, end=transport.abort))
        connection.connection_made(transport)
        transport.left_bytes = 100_000
        connection.pause_writing()
        for _ in range(10):
            await asyncio.sleep(29.0)
            transport.left_bytes -= 1_000
        assert not transport.is_aborted
        await asyncio.sleep(61.0)
        assert transport.is_aborted

    run_in_virtual_time(main())


def test_responses_that_nobody_reads_share_one_budget() -> None:
    """Of the network that leaves most unread the longest wait is ended, and of no other."""

    async def main() -> None:
        server = HttpServer(make_app(), files=None, grace_seconds=1.0, limits=HttpLimits(unread_bytes=100_000))
        server.lifespan = server.config.lifespan_class(server.config)

        def leave_unread(host: str, size: int) -> tuple[HttpConnection, UnreadTransport]:
            transport = UnreadTransport()
            connection = HttpConnection(server, Connection(host=host, port=1, end=transport.abort))
            connection.connection_made(transport)
            transport.left_bytes = size
            connection.pause_writing()
            return connection, transport

        def list_aborted() -> list[bool]:
            return [transport.is_aborted for _, transport in left]

        alone, transport = leave_unread("192.0.2.9", 200_000)
        assert not transport.is_aborted and not server.unread_count
        alone.connection_lost(None)
        left = [leave_unread("192.0.2.1", 40_000), *(leave_unread("127.0.0.1", 30_000) for _ in range(2))]
        assert list_aborted() == [False] * 3
        left.append(leave_unread("127.0.0.1", 30_000))
        assert list_aborted() == [False, True, False, False] and server.unread_count == 1
        left[2][0].resume_writing()
        left.append(leave_unread("127.0.0.1", 30_000))
        assert list_aborted() == [False, True, False, False, False]
        for connection, _ in left:
            connection.connection_lost(None)

    run_in_virtual_time(main())


class StuckReader(EmptyReader):
    """A store that does not answer until it may."""

    def __init__(self) -> None:
        self.is_asked = threading.Event()
        self.may_answer = threading.Event()

    def query_columns(self, sql: str, parameters: Any = None) -> dict[str, list[Any]]:
        self.is_asked.set()
        self.may_answer.wait(DEADLINE_SECONDS)
        return {}


def test_requests_that_wait_for_the_store_do_not_stop_health_checks() -> None:
    store = StuckReader()

    async def run() -> tuple[list[int], list[int], list[int]]:
        app = make_app(
            store=store, limits=RequestLimits(queue=QueueLimits(entered=60, waiting_seconds=DEADLINE_SECONDS))
        )
        async with serve(app) as (_, port):
            close = "Connection: close"
            question = write_head("GET", "/api/v1/endpoints", close, token=TOKEN)
            asked = [asyncio.create_task(ask(port, question)) for _ in range(80)]
            refused, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            async with asyncio.timeout(DEADLINE_SECONDS):
                while len(refused) < 20:
                    refused = {task for task in asked if task.done()}
                    await asyncio.sleep(0.01)
            health = [await ask(port, write_head("GET", path, close)) for path in ("/healthz", "/readyz")]
            assert await asyncio.to_thread(store.is_asked.wait, DEADLINE_SECONDS)
            store.may_answer.set()
            served = [await task for task in asked if task not in refused]
            return tuple(list(map(read_status, answers)) for answers in ([t.result() for t in refused], health, served))

    try:
        refused, health, served = asyncio.run(run())
    finally:
        store.may_answer.set()
    assert refused == [503] * 20
    assert health == [200, 200]
    assert served == [200] * 60


def test_a_connection_is_used_again_and_requests_may_come_at_once() -> None:
    async def run() -> tuple[bytes, int]:
        async with serve(make_app()) as (server, port):
            health = write_head("GET", "/healthz")
            answer = await ask(port, health * 3 + write_head("GET", "/readyz", "Connection: close"))
            return answer, server.table.counts.seen

    answer, seen = asyncio.run(run())
    assert (answer.count(b"HTTP/1.1 200"), seen) == (4, 1)


def test_the_end_closes_what_is_open(tmp_path: Path) -> None:
    async def run() -> bytes:
        async with serve(make_app()) as (_, port):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /healthz")
            await asyncio.sleep(0)
        with contextlib.closing(writer):
            return await read_all(reader)

    assert asyncio.run(asyncio.wait_for(run(), DEADLINE_SECONDS)) == b""


def test_the_collector_asks_for_descriptors_for_its_connections() -> None:
    """In a process of its own: a limit that was lowered for good stays so."""
    script = (
        "import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (256, 4096))\n"
        "from collector.server.listeners import allow_open_files as allow; allow()\n"
        "print(r.getrlimit(r.RLIMIT_NOFILE))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "(4096, 4096)"
