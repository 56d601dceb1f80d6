"""Ends TLS in front of the gRPC server, which itself listens on loopback only.

gRPC for Python can ask every client for a certificate or none, tells the program nothing of handshakes that fail, and
names no reason to the one who dialled. Here a certificate is asked for and may be missing (enrolment has none yet), a
failed handshake is told and counted with its reason, and new certificates and authorities hold from the next connection
on. What passes is bytes: HTTP/2 stays between sensor and gRPC, back-pressure included.

Who a connection is, gRPC knows by its address: each has one connection of ours to gRPC, whose port is in `_peers` for
as long as it is open. Somebody on this machine who dials gRPC's loopback port directly is in none, and refused.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from collector.config import join_address
from collector.trust.identity import SensorCertificate, read_certificate
from collector.trust.refusal import RefusalLog

HANDSHAKE_SECONDS: Final = 10.0
# Open at once, those in their handshake included; twice the paper design of 10,000 nodes.
CONNECTIONS_LIMIT: Final = 20_000
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
    has an alert ready that tells the other side why (RFC 8446 section 6.2)."""

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


class Gate:
    """`serve` until cancelled. `counts` of connections: seen = passed + refused (in the RefusalLog) + ended + open."""

    def __init__(
        self, listener: socket.socket, *, find_context: Callable[[], ssl.SSLContext], refusals: RefusalLog
    ) -> None:
        """`listener` is bound; connections that come before `serve` wait. `find_context` is asked for each of them."""
        listener.listen(_BACKLOG)
        self._listener = listener
        self._find_context = find_context
        self._refusals = refusals
        self._inner: tuple[str, int] = ("127.0.0.1", 0)
        self._peers: dict[str, Peer] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections_seen = 0

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._listener.getsockname()[1])

    @property
    def connections(self) -> int:
        """Open now."""
        return len(self._tasks)

    def find_peer(self, grpc_peer: str) -> Peer | None:
        """Who is behind a connection, by what gRPC says of it; None where it did not come through the gate."""
        return self._peers.get(grpc_peer)

    def close(self) -> None:
        """Give the port back."""
        self._listener.close()

    async def serve(self, inner_port: int) -> None:
        """Take connections to a gRPC server on loopback. At its end all are closed."""
        self._inner = ("127.0.0.1", inner_port)
        self._listener.setblocking(False)
        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    accepted, address = await loop.sock_accept(self._listener)
                except OSError as error:
                    # Out of descriptors: wait for some to close instead of turning in a circle.
                    self._refusals.record("out_of_sockets", "", f"No connection could be taken: {error.strerror}.")
                    await asyncio.sleep(1.0)
                    continue
                self.connections_seen += 1
                host, port = address[0], address[1]
                if len(self._tasks) >= CONNECTIONS_LIMIT:
                    self._refuse("too_many", host, port, f"{CONNECTIONS_LIMIT} connections are open")
                    accepted.close()
                    continue
                task = asyncio.create_task(self._take(accepted, host, port))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
        finally:
            self._listener.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _take(self, accepted: socket.socket, host: str, port: int) -> None:
        loop = asyncio.get_running_loop()
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        reader = asyncio.StreamReader(limit=_BUFFER_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader)
        handshake: Any = _Handshake(self._find_context())
        with accepted.dup() as twin:
            try:
                transport, _ = await loop.connect_accepted_socket(
                    lambda: protocol, accepted, ssl=handshake, ssl_handshake_timeout=HANDSHAKE_SECONDS
                )
            except OSError as error:  # ssl.SSLError is one, and so are resets and timeouts.
                accepted.close()
                with contextlib.suppress(OSError):
                    twin.send(handshake.alert)
                self._refuse(*_tell_fault(error, host, port))
                return
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        with contextlib.closing(transport):
            spoken = transport.get_extra_info("ssl_object")
            if spoken.selected_alpn_protocol() != "h2":
                return  # It only looks at our certificate, as enrolment does first; gRPC always asks for HTTP/2.
            try:
                der = spoken.getpeercert(True)
                peer = Peer(host=host, port=port, certificate=read_certificate(der) if der else None)
            except ValueError as error:
                self._refuse("unreadable_certificate", host, port, f"its certificate cannot be read ({error})")
                return
            with contextlib.suppress(OSError):
                await self._pass(reader, writer, peer)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, peer: Peer) -> None:
        # The client speaks first (RFC 9113 section 3.4).
        first = await asyncio.wait_for(reader.read(_BUFFER_BYTES), HANDSHAKE_SECONDS)
        if not first:
            words = "it left right after the handshake; it may not take the name in this collector's certificate"
            self._refuse("left", peer.host, peer.port, words)
            return
        inner_reader, inner_writer = await asyncio.open_connection(*self._inner, limit=_BUFFER_BYTES)
        inner: socket.socket = inner_writer.get_extra_info("socket")
        inner.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        name = f"ipv4:{join_address(*inner.getsockname())}"
        # Before the first byte, and until our end is closed: then nobody else can have the port.
        self._peers[name] = peer
        inner_writer.write(first)
        ways = [
            asyncio.create_task(_copy(reader, inner_writer)),
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
            del self._peers[name]
            inner_writer.close()
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _refuse(self, reason: str, host: str, port: int, words: str) -> None:
        self._refusals.record(
            f"tls_{reason}", host, f"The sensor at {join_address(host, port)} is refused: {words.rstrip('.')}."
        )


async def _copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while chunk := await source.read(_BUFFER_BYTES):
        sink.write(chunk)
        await sink.drain()


def _tell_fault(error: OSError, host: str, port: int) -> tuple[str, str, int, str]:
    """Reason, address and words of a handshake that failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        words = ("bad_certificate", f"its certificate is not taken ({error.verify_message})")
        reason, words_ = _CERTIFICATE_FAULTS.get(error.verify_code, words)
        return reason, host, port, words_
    mark = getattr(error, "reason", None) or ""
    if mark in _CLEAR_TEXT:
        return "clear_text", host, port, "it speaks no TLS; give it this collector's authority, or enrol it"
    if isinstance(error, ssl.SSLEOFError | ConnectionError) or _DISTRUST in mark:
        told = f" ({mark})" if mark else ""
        return "not_trusted", host, port, f"it ended the handshake{told}; it may not trust this collector's certificate"
    if isinstance(error, TimeoutError):
        return "silent", host, port, f"it did not finish the TLS handshake within {HANDSHAKE_SECONDS:.0f} s"
    return "handshake", host, port, f"the TLS handshake failed ({mark or error.strerror or type(error).__name__})"
