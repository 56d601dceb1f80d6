"""Ends TLS in front of the gRPC server, which itself listens on loopback only, and logs what it refused.

gRPC for Python asks every client for a certificate or none, does not report failed handshakes to the program, and gives
the client no reason. Here a certificate is requested and may be missing, because enrolment has none yet. A failed
handshake is logged and counted with its reason. New certificates and authorities hold from the next connection on.
Bytes are passed on as they are: HTTP/2 stays between sensor and gRPC, with its back-pressure.

gRPC knows a connection by its address. Each has one connection of the terminator to gRPC, whose port is in `_passages`
while it is open. A process on this machine that dials gRPC's loopback port directly has no entry there, and is refused.

A connection is bounded in time and bytes until somebody is admitted on it, by certificate or token. Enrolment fits into
these bounds. Past the number of connections, one on which nobody was admitted is closed for the next.

One node has a few admitted connections. Another one closes its oldest.

`RefusalLog` counts every refusal. It logs each address and reason once a minute, so that a sensor that tries every 30
s, or a scanner, does not fill the log.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from collector.core.config import join_address
from collector.core.connections import Connection, ConnectionTable, accept_connections
from collector.trust.identity import SensorCertificate, read_certificate
from common.bounded import BoundedDict
from common.figures import Figure, list_figures, make_gauges

REPEAT_SECONDS: Final = 60.0
# Addresses and reasons remembered; past it the oldest goes, and may be logged again early.
REMEMBERED_LIMIT: Final = 4_096

logger = logging.getLogger(__name__)


class RefusalLog:
    """`counts` by reason (a metric's name). Used in the event loop only."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives seconds that do not go back."""
        self._clock = clock
        self._logged: BoundedDict[tuple[str, str], float] = BoundedDict(REMEMBERED_LIMIT)
        self.counts: Counter[str] = Counter()

    def record(self, reason: str, host: str, sentence: str) -> None:
        """One that was turned away; `sentence` says who and why and goes to the log."""
        self.counts[reason] += 1
        now, key = self._clock(), (host, reason)
        if now - self._logged.get(key, -REPEAT_SECONDS) < REPEAT_SECONDS:
            return
        self._logged.renew(key, now)
        logger.warning("%s", sentence)


# For the TLS handshake, and then for the first byte behind it.
HANDSHAKE_SECONDS: Final = 10.0
# From the handshake until somebody is admitted; Kubernetes may take some seconds to review a token.
ADMISSION_SECONDS: Final = 60.0
# What a client may send before: a token of 16 KiB and a certificate request at the most.
ADMISSION_BYTES: Final = 64 * 1024
# Open at once, those in their handshake included; twice the paper design of 10,000 nodes.
CONNECTIONS_LIMIT: Final = 20_000
# Of these, not admitted yet and of one network; a whole cluster may dial again at once from behind one address.
WAITING_LIMIT: Final = 2_000
# Admitted ones of one certificate's node: a sensor has one, a renewal of its certificate another.
NODE_LIMIT: Final = 8
_BUFFER_BYTES: Final = 256 * 1024
_BACKLOG: Final = 1_024

# What OpenSSL says of a client's certificate (X509_V_ERR_*, openssl-verification-options(1)): reason and words.
_CERTIFICATE_FAULTS: Final = {
    9: ("not_yet_valid", "its certificate is not valid yet; is one of the two clocks wrong?"),
    10: ("expired", "its certificate has expired; enrol it again"),
    18: ("unknown_authority", "its certificate is signed by itself; enrol it"),
    19: ("unknown_authority", "its certificate is from an authority that this collector does not know; enrol it"),
    20: ("unknown_authority", "its certificate is from an authority that this collector does not know; enrol it"),
    21: ("unknown_authority", "its certificate is from an authority that this collector does not know; enrol it"),
    26: ("wrong_purpose", "its certificate is not one for clients; enrol it"),
}
# Reasons of ssl.SSLError: what came is no TLS, or the other side did not like our certificate.
_CLEAR_TEXT: Final = frozenset({"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "UNKNOWN_PROTOCOL", "HTTPS_PROXY_REQUEST"})
_DISTRUST: Final = "ALERT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The other end of a connection; `certificate` is verified, None where it showed none."""

    host: str
    port: int
    certificate: SensorCertificate | None

    def __str__(self) -> str:
        return join_address(self.host, self.port)


class _Handshake:
    """Stands in for the context of one connection, to keep what asyncio throws away: where a handshake fails, OpenSSL
    has an alert ready that says to the other side why (RFC 8446 section 6.2)."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self.alert = b""

    def wrap_bio(self, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO, **options: Any) -> ssl.SSLObject:
        """As `SSLContext.wrap_bio`."""
        spoken: Any = self._context.wrap_bio(incoming, outgoing, **options)
        spoken.do_handshake = partial(self._shake, spoken.do_handshake, outgoing)
        return spoken  # type: ignore[no-any-return]

    def _shake(self, shake: Callable[[], None], outgoing: ssl.MemoryBIO) -> None:
        try:
            shake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError:
            self.alert = outgoing.read()
            raise


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminatorLimits:
    """Bounds of the listener; the defaults are the product's."""

    connections: int = CONNECTIONS_LIMIT
    waiting_of_network: int = WAITING_LIMIT
    of_node: int = NODE_LIMIT
    handshake_seconds: float = HANDSHAKE_SECONDS
    admission_seconds: float = ADMISSION_SECONDS
    admission_bytes: int = ADMISSION_BYTES


@dataclass(slots=True, kw_only=True)
class _Passage:
    """A connection that is passed on to gRPC. `deadline` is that of its admission."""

    peer: Peer
    connection: Connection
    deadline: asyncio.Timeout
    is_admitted: bool = False


class TlsTerminator:
    """`serve` until cancelled."""

    def __init__(
        self,
        listener: socket.socket,
        *,
        find_context: Callable[[], ssl.SSLContext],
        refusals: RefusalLog,
        limits: TerminatorLimits | None = None,
    ) -> None:
        """`listener` is bound; connections that come before `serve` wait. `find_context` is asked for each of them."""
        listener.listen(_BACKLOG)
        self._listener = listener
        self._find_context = find_context
        self._refusals = refusals
        self._limits = limits or TerminatorLimits()
        self._inner: tuple[str, int] = ("127.0.0.1", 0)
        self._passages: dict[str, _Passage] = {}
        self._table = ConnectionTable(limit=self._limits.connections, waiting_limit=self._limits.waiting_of_network)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port where it listens."""
        host, port = self._listener.getsockname()[:2]
        return str(host), int(port)

    @property
    def port(self) -> int:
        """Port of `address`."""
        return self.address[1]

    def figures(self) -> tuple[Figure, ...]:
        """For metrics; those that were refused are in the RefusalLog by reason."""
        open_now = ("tls_connections", "Connections of sensors over TLS that are open.", len(self._table))
        return (*list_figures(self._table.counts, "tls_connections_"), *make_gauges([open_now]))

    def find_peer(self, grpc_peer: str) -> Peer | None:
        """Who is behind a connection, by what gRPC says of it; None where it did not come through it."""
        passage = self._passages.get(grpc_peer)
        return passage.peer if passage is not None else None

    def admit(self, grpc_peer: str) -> None:
        """Somebody was let in on a connection: it stays as long as it wants to, and sends what it wants to."""
        passage = self._passages.get(grpc_peer)
        if passage is not None and not passage.is_admitted and not passage.deadline.expired():
            passage.is_admitted = True
            passage.deadline.reschedule(None)
            self._table.serve(passage.connection)
            self._close_oldest(passage)

    def _close_oldest(self, passage: _Passage) -> None:
        """Where the node of an admitted connection has more than one node may have."""
        certificate = passage.peer.certificate
        if certificate is None:
            return
        own = [
            one
            for one in self._passages.values()
            if one.is_admitted and one.peer.certificate is not None and one.peer.certificate.nodes == certificate.nodes
        ]
        for one in own[: max(0, len(own) - self._limits.of_node)]:
            one.is_admitted = False
            self._refuse("too_many_of_node", one.connection, f"its node has {len(own)} connections")
            one.connection.end()

    def close(self) -> None:
        """Give the port back."""
        self._listener.close()

    async def serve(self, inner_port: int) -> None:
        """Take connections to a gRPC server on loopback. At its end all are closed."""
        self._inner = ("127.0.0.1", inner_port)
        with self._listener:
            await accept_connections(self._listener, self._table, self._take, self._turn_away)

    def _turn_away(self, connection: Connection | None, reason: str) -> None:
        if connection is None:
            self._refusals.record("out_of_sockets", "", f"No connection could be taken: {reason}.")
        else:
            self._refuse("too_many", connection, reason)

    async def _take(self, accepted: socket.socket, connection: Connection) -> None:
        try:
            await self._speak(accepted, connection)
        finally:
            self._table.close(connection)

    async def _speak(self, accepted: socket.socket, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader = asyncio.StreamReader(limit=_BUFFER_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader)
        handshake: Any = _Handshake(self._find_context())
        seconds = self._limits.handshake_seconds
        with accepted.dup() as twin:
            try:
                async with asyncio.timeout(seconds):
                    transport, _ = await loop.connect_accepted_socket(lambda: protocol, accepted, ssl=handshake)
            except OSError as error:  # ssl.SSLError is one, and so are resets and timeouts.
                accepted.close()
                with contextlib.suppress(OSError):
                    twin.send(handshake.alert)
                reason, words = _describe_fault(error, seconds)
                self._refuse(reason, connection, words)
                return
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        with contextlib.closing(transport):
            spoken = transport.get_extra_info("ssl_object")
            if spoken.selected_alpn_protocol() != "h2":
                return  # It only looks at our certificate, as enrolment does first; gRPC always asks for HTTP/2.
            try:
                der = spoken.getpeercert(True)
                certificate = read_certificate(der) if der else None
            except ValueError as error:
                self._refuse("unreadable_certificate", connection, f"its certificate cannot be read ({error})")
                return
            try:
                async with asyncio.timeout(self._limits.admission_seconds) as deadline:
                    peer = Peer(host=connection.host, port=connection.port, certificate=certificate)
                    await self._pass(reader, writer, _Passage(peer=peer, connection=connection, deadline=deadline))
            except OSError:  # A timeout is one.
                if deadline.expired():
                    words = f"it was not let in within {self._limits.admission_seconds:g} s"
                    self._refuse("not_admitted", connection, words)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passage: _Passage) -> None:
        # The client speaks first (RFC 9113 section 3.4).
        try:
            first = await asyncio.wait_for(reader.read(_BUFFER_BYTES), self._limits.handshake_seconds)
        except TimeoutError:
            words = f"it sent nothing within {self._limits.handshake_seconds:g} s after the TLS handshake"
            self._refuse("silent", passage.connection, words)
            return
        if not first:
            words = "it left right after the handshake; it may not take the name in this collector's certificate"
            self._refuse("left", passage.connection, words)
            return
        inner_reader, inner_writer = await asyncio.open_connection(*self._inner, limit=_BUFFER_BYTES)
        inner: socket.socket = inner_writer.get_extra_info("socket")
        inner.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        name = f"ipv4:{join_address(*inner.getsockname())}"
        # Before the first byte, and until our end is closed: then nobody else can have the port.
        self._passages[name] = passage
        ways = [
            asyncio.create_task(self._copy_in(first, reader, inner_writer, passage)),
            asyncio.create_task(_copy(inner_reader, writer)),
        ]
        try:
            # What gRPC said last, the reason of a refusal among it, still goes out; what a sensor that left would say
            # more does not.
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            del self._passages[name]
            inner_writer.close()
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _copy_in(
        self, first: bytes, source: asyncio.StreamReader, sink: asyncio.StreamWriter, passage: _Passage
    ) -> None:
        """Up to the bound until somebody is admitted, then all."""
        sent, chunk = 0, first
        while chunk and not passage.is_admitted:
            sent += len(chunk)
            if sent > self._limits.admission_bytes:
                words = f"it sent more than {self._limits.admission_bytes} bytes before it was let in"
                self._refuse("too_much", passage.connection, words)
                return
            sink.write(chunk)
            await sink.drain()
            chunk = await source.read(_BUFFER_BYTES)
        if chunk:
            sink.write(chunk)
            await sink.drain()
            await _copy(source, sink)

    def _refuse(self, reason: str, connection: Connection, words: str) -> None:
        who = join_address(connection.host, connection.port)
        self._refusals.record(f"tls_{reason}", connection.host, f"The sensor at {who} is refused: {words.rstrip('.')}.")


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while chunk := await source.read(_BUFFER_BYTES):
        sink.write(chunk)
        await sink.drain()


def _describe_fault(error: OSError, seconds: float) -> tuple[str, str]:
    """Reason and words of a handshake that failed, or was not done in so many seconds."""
    if isinstance(error, ssl.SSLCertVerificationError):
        words = ("bad_certificate", f"its certificate is not taken ({error.verify_message})")
        return _CERTIFICATE_FAULTS.get(error.verify_code, words)
    mark = getattr(error, "reason", None) or ""
    if mark in _CLEAR_TEXT:
        return "clear_text", "it speaks no TLS; give it this collector's authority, or enrol it"
    if isinstance(error, ssl.SSLEOFError | ConnectionError) or _DISTRUST in mark:
        detail = f" ({mark})" if mark else ""
        return "not_trusted", f"it ended the handshake{detail}; it may not trust this collector's certificate"
    if isinstance(error, TimeoutError):
        return "silent", f"it did not finish the TLS handshake within {seconds:g} s"
    return "handshake", f"the TLS handshake failed ({mark or error.strerror or type(error).__name__})"
