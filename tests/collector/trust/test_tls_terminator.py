"""The TLS terminator before gRPC: clients that nobody let in are bounded in number, time and bytes."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from collector.trust.identity import SensorCertificate
from collector.trust.tls_terminator import Peer, RefusalLog, TerminatorLimits, TlsTerminator
from tests.e2e.certificates import Certificate, make_certificate
from tests.waiting import DEADLINE_SECONDS, wait_in_loop


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"), "gate", "IP:127.0.0.1")


@dataclass(kw_only=True)
class Door:
    """A TLS terminator before a server that repeats what it gets."""

    terminator: TlsTerminator
    refusals: RefusalLog
    trusting: ssl.SSLContext
    passed: list[str] = field(default_factory=list)  # Connections that came to the server, as gRPC names them.

    async def knock(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A client that shakes hands."""
        return await asyncio.open_connection("127.0.0.1", self.terminator.port, ssl=self.trusting)

    async def pass_on(self, text: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A client whose first bytes came to the server and back."""
        reader, writer = await self.knock()
        writer.write(text)
        assert await reader.readexactly(len(text)) == text
        return reader, writer


@contextlib.asynccontextmanager
async def open_door(certificate: Certificate, **limits: float) -> AsyncIterator[Door]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.certificate, certificate.key)
    context.set_alpn_protocols(["h2"])
    trusting = ssl.create_default_context(cafile=str(certificate.authority))
    trusting.set_alpn_protocols(["h2"])
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    refusals = RefusalLog(lambda: 0.0)
    bounds = TerminatorLimits(**limits)  # type: ignore[arg-type]
    terminator = TlsTerminator(listener, find_context=lambda: context, refusals=refusals, limits=bounds)
    door = Door(terminator=terminator, refusals=refusals, trusting=trusting)

    async def repeat(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = writer.get_extra_info("peername")
        door.passed.append(f"ipv4:{host}:{port}")
        with contextlib.closing(writer), contextlib.suppress(ConnectionError):
            while chunk := await reader.read(65_536):
                writer.write(chunk)

    inner = await asyncio.start_server(repeat, "127.0.0.1", 0)
    serving = asyncio.create_task(terminator.serve(inner.sockets[0].getsockname()[1]))
    try:
        async with asyncio.timeout(DEADLINE_SECONDS):
            yield door
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        inner.close()
        await inner.wait_closed()


def test_a_handshake_that_does_not_end_is_closed_and_said_so(certificate: Certificate) -> None:
    async def run() -> tuple[bytes, dict[str, int]]:
        async with open_door(certificate, handshake_seconds=0.2) as door:
            reader, writer = await asyncio.open_connection("127.0.0.1", door.terminator.port)
            with contextlib.closing(writer):
                writer.write(b"\x16\x03\x01")  # The beginning of a ClientHello.
                return await reader.read(), dict(door.refusals.counts)

    assert asyncio.run(run()) == (b"", {"tls_silent": 1})


def test_who_shakes_hands_and_sends_nothing_is_closed_and_said_so(certificate: Certificate) -> None:
    async def run() -> tuple[bytes, dict[str, int]]:
        async with open_door(certificate, handshake_seconds=0.5) as door:
            while True:  # On a busy host the handshake itself may be late.
                with contextlib.suppress(OSError):
                    reader, writer = await door.knock()
                    break
            with contextlib.closing(writer):
                return await reader.read(), dict(door.refusals.counts)

    received, counts = asyncio.run(run())
    assert received == b"" and set(counts) == {"tls_silent"}


def test_half_open_handshakes_shut_no_sensor_out(certificate: Certificate) -> None:
    """Three times as many as there is room for, between sensors of the same address, which stay."""

    async def run() -> None:
        async with (
            open_door(certificate, connections=30, waiting_of_network=20) as door,
            contextlib.AsyncExitStack() as s,
        ):
            sensors = []
            for number in range(90):
                _, silent = await asyncio.open_connection("127.0.0.1", door.terminator.port)
                s.callback(silent.close)
                if number % 10 == 0:
                    sensors.append(await door.pass_on(b"hello"))
                    s.callback(sensors[-1][1].close)
                    door.terminator.admit(door.passed[-1])
            await wait_in_loop(lambda: len(door.terminator._table) <= 20 + len(sensors))
            for reader, writer in sensors:
                writer.write(b"still here")
                assert await reader.readexactly(10) == b"still here"
            assert door.terminator._table.counts.displaced >= 90 - 30
            assert not door.refusals.counts

    asyncio.run(run())


def test_who_is_not_let_in_in_time_is_closed_and_who_is_stays(certificate: Certificate) -> None:
    async def run() -> dict[str, int]:
        async with open_door(certificate, admission_seconds=0.5) as door:
            stays, sensor = await door.pass_on(b"a")
            while door.terminator.find_peer(door.passed[-1]) is None:  # On a busy host it may be too late itself.
                sensor.close()
                stays, sensor = await door.pass_on(b"a")
            door.terminator.admit(door.passed[-1])
            goes, stranger = await door.pass_on(b"b")
            assert await goes.read() == b""  # Only its deadline ends it.
            door.terminator.admit(door.passed[-1])  # Too late, and no error.
            sensor.write(b"still here")
            assert await stays.readexactly(10) == b"still here"
            for writer in (sensor, stranger):
                writer.close()
            return dict(door.refusals.counts)

    assert set(asyncio.run(run())) == {"tls_not_admitted"}


def test_what_is_sent_before_somebody_is_let_in_is_bounded(certificate: Certificate) -> None:
    async def run() -> dict[str, int]:
        async with open_door(certificate, admission_bytes=1_000) as door:
            _, writer = await door.pass_on(bytes(900))
            door.terminator.admit(door.passed[0])
            writer.write(bytes(5_000_000))  # A sensor's batches.
            await writer.drain()
            reader, stranger = await door.pass_on(bytes(900))
            stranger.write(bytes(200))
            assert await reader.read() == b""
            for one in (writer, stranger):
                one.close()
            return dict(door.refusals.counts)

    assert asyncio.run(run()) == {"tls_too_much": 1}


def test_where_all_are_sensors_the_next_is_turned_away_and_counted(certificate: Certificate) -> None:
    async def run() -> dict[str, int]:
        async with open_door(certificate, connections=1) as door:
            _, sensor = await door.pass_on(b"a")
            door.terminator.admit(door.passed[0])
            reader, other = await asyncio.open_connection("127.0.0.1", door.terminator.port)
            assert await reader.read() == b""
            for writer in (sensor, other):
                writer.close()
            return dict(door.refusals.counts)

    assert asyncio.run(run()) == {"tls_too_many": 1}


def test_one_node_has_some_admitted_connections_and_no_more(certificate: Certificate) -> None:
    async def run() -> dict[str, int]:
        async with open_door(certificate, of_node=2) as door, contextlib.AsyncExitStack() as s:
            readers = []
            for node in ("honest", "evil", "evil", "evil", "evil"):
                reader, writer = await door.pass_on(b"a")
                s.callback(writer.close)
                readers.append((reader, writer))
                passage = door.terminator._passages[door.passed[-1]]
                shown = SensorCertificate(
                    serial=1, not_before=0.0, not_after=1e12, cluster="c", nodes=frozenset((node,))
                )
                passage.peer = Peer(host="127.0.0.1", port=1, certificate=shown)
                door.terminator.admit(door.passed[-1])
            for reader, _ in readers[1:3]:
                assert await reader.read() == b""
            for reader, writer in (readers[0], *readers[3:]):
                writer.write(b"still here")
                assert await reader.readexactly(10) == b"still here"
            return dict(door.refusals.counts)

    assert asyncio.run(run()) == {"tls_too_many_of_node": 2}
