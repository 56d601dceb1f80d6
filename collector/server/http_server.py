"""The server of the pages and the API: uvicorn, with bounds on connections and deadlines for slow clients.

uvicorn closes a connection that is idle between two requests, and nothing else. So half a request head could stay for
ever. `HttpConnection` is uvicorn's connection with the missing deadlines. `collector.api.access` has the checks of a
whole request, and the bounds and deadlines of bodies.
"""

import asyncio
import contextlib
import socket
import ssl
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from collector.core.connections import Connection, ConnectionTable, accept_connections
from common.figures import Figure, list_figures, make_gauges, make_totals

_TICK_SECONDS: Final = 1.0  # For the date in the heads of responses.
_BACKLOG: Final = 4_096  # Connections that the kernel keeps until they are taken; one beyond it tries again after 1 s.


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpLimits:
    """Bounds of the listener; the defaults are the product's."""

    # A browser opens 6, a scraper 1, a proxy in front of us some hundred. Past it, who waits longest gives way.
    connections: int = 1_024
    waiting_of_network: int = 256
    # For a TLS handshake, and from a client's turn to speak to the end of its request head.
    head_seconds: float = 10.0
    # For a client to read some more of its response.
    unread_seconds: float = 30.0
    # Of all responses together that their clients do not read: some 20 of the longest. Past it, of the network that
    # leaves most unread the connection that does so longest is closed, unless it is the only one.
    unread_bytes: int = 32 * 2**20
    # After a response that did not wait for the request's body, to be read before the connection is closed.
    linger_seconds: float = 2.0


class HttpServer(uvicorn.Server):
    """Serves an ASGI application on one bound socket, in the clear or over TLS; `serve` until `should_exit`."""

    def __init__(
        self,
        app: Any,
        *,
        files: tuple[Path, Path] | None,
        grace_seconds: float,
        limits: HttpLimits | None = None,
    ) -> None:
        """`files`: certificate and key; None: in the clear. Raises OSError, ssl.SSLError."""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._exiting = asyncio.Event()
        super().__init__(
            uvicorn.Config(
                app,
                http="h11",
                ws="none",
                log_config=None,
                # What clients send wrong is no news of ours: no line for each.
                log_level="error",
                access_log=False,
                lifespan="off",
                server_header=False,
                # Uvicorn would believe who is on loopback which address it speaks for: limits and sessions go by it.
                proxy_headers=False,
                timeout_graceful_shutdown=int(grace_seconds),
                ssl_certfile=str(files[0]) if files else None,
                ssl_keyfile=str(files[1]) if files else None,
            )
        )
        self.config.load()
        self.limits = limits or HttpLimits()
        self.table = ConnectionTable(limit=self.limits.connections, waiting_limit=self.limits.waiting_of_network)
        self.late_count = 0  # Connections closed at a deadline.
        self.out_of_sockets_count = 0  # Times that the system gave no descriptor for one.
        self.unread_count = 0  # Connections closed because too much was unread.
        self._unread: dict[HttpConnection, int] = {}  # Bytes that were unread when the client fell behind.
        self._accepting: asyncio.Task[None] | None = None

    @property
    def should_exit(self) -> bool:
        """Whether `serve` is to end; set from any thread."""
        return self._should_exit

    @should_exit.setter
    def should_exit(self, is_wanted: bool) -> None:
        self._should_exit = is_wanted
        if is_wanted and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._exiting.set)

    @property
    def context(self) -> ssl.SSLContext | None:
        """Of TLS; each connection that comes is spoken to by what it holds then."""
        return self.config.ssl

    def figures(self) -> tuple[Figure, ...]:
        """For metrics."""
        totals = (
            ("http_connections_late", "Connections that were closed at a deadline.", self.late_count),
            (
                "http_connections_unread",
                "Connections that were closed because all clients together left too much unread.",
                self.unread_count,
            ),
            (
                "http_out_of_sockets",
                "Times that the system had no descriptor for a connection.",
                self.out_of_sockets_count,
            ),
        )
        return (
            *list_figures(self.table.counts, "http_connections_"),
            *make_totals(totals),
            *make_gauges([("http_connections", "Connections of the API and the page that are open.", len(self.table))]),
        )

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the program's own, not uvicorn's."""
        yield

    async def main_loop(self) -> None:
        """uvicorn's, which wakes ten times a second to see whether it should exit."""
        self._loop = asyncio.get_running_loop()
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._exiting.wait(), _TICK_SECONDS)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """uvicorn's, which takes connections without a bound; here they come through the table."""
        assert sockets is not None and len(sockets) == 1
        await super().startup(sockets=[])
        sockets[0].listen(_BACKLOG)
        self._accepting = asyncio.create_task(accept_connections(sockets[0], self.table, self._take, self._turn_away))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more, then end what is open in order."""
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.gather(self._accepting, return_exceptions=True)
        await super().shutdown(sockets=sockets)

    def hold_unread(self, connection: "HttpConnection", size: int) -> None:
        """A client does not read so many bytes; 0: it does again, or is gone."""
        self._unread.pop(connection, None)
        if not size:
            return
        self._unread[connection] = size
        while len(self._unread) > 1 and sum(self._unread.values()) > self.limits.unread_bytes:
            unread: Counter[str] = Counter()
            for one, left in self._unread.items():
                unread[one.network] += left
            worst = unread.most_common(1)[0][0]
            longest = next(one for one in self._unread if one.network == worst)
            del self._unread[longest]
            self.unread_count += 1
            longest.transport.abort()

    def _turn_away(self, connection: Connection | None, reason: str) -> None:
        """One without room is counted by the table."""
        self.out_of_sockets_count += connection is None

    async def _take(self, accepted: socket.socket, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            async with asyncio.timeout(self.limits.head_seconds):
                await loop.connect_accepted_socket(lambda: HttpConnection(self, connection), accepted, ssl=self.context)
        except BaseException as error:
            self.table.close(connection)
            if isinstance(error, OSError):  # TLS failed, or the client left.
                accepted.close()
                self.late_count += isinstance(error, TimeoutError)
                return
            raise


class HttpConnection(H11Protocol):
    """uvicorn's connection with a place in the table, and a deadline for whatever its client is to do next."""

    def __init__(self, server: HttpServer, connection: Connection) -> None:
        super().__init__(server.config, server.server_state, server.lifespan.state)
        self._server = server
        self._limits = server.limits
        self._place = connection
        self._deadline: asyncio.TimerHandle | None = None
        self._unread_bytes = 0  # Of the response, when the deadline was set.

    @property
    def network(self) -> str:
        """Whom it is counted for."""
        return self._place.network

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The handshake is done."""
        super().connection_made(transport)
        self._place.end = transport.abort
        self._wait(self._limits.head_seconds)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is closed."""
        super().connection_lost(exc)
        self._cancel_deadline()
        self._server.hold_unread(self, 0)
        self._server.table.close(self._place)

    def data_received(self, data: bytes) -> None:
        """A part of a request."""
        super().data_received(data)
        self._follow()

    def on_response_complete(self) -> None:
        """The response is written, as far as it fits into the socket."""
        if self.conn.their_state is h11.SEND_BODY and not self.transport.is_closing():
            # It was answered without its body: what comes of that is not read. Closed at once, the client's system
            # would throw the response away before the client reads it (RFC 9112 section 9.6).
            self.flow.pause_reading()
            if self.transport.can_write_eof():
                self.transport.write_eof()
            self._wait(self._limits.linger_seconds)
            return
        super().on_response_complete()
        self._follow()

    def timeout_keep_alive_handler(self) -> None:
        """It was idle after a response."""
        super().timeout_keep_alive_handler()
        self._follow()

    def pause_writing(self) -> None:
        """The client does not read its response."""
        super().pause_writing()
        self._wait(self._limits.unread_seconds)
        self._server.hold_unread(self, self._unread_bytes)

    def resume_writing(self) -> None:
        """It reads again."""
        super().resume_writing()
        self._server.hold_unread(self, 0)
        self._cancel_deadline()
        self._follow()

    def _follow(self) -> None:
        """Whose turn it is now: the client's or ours."""
        if self.transport.is_closing():
            self._wait(self._limits.unread_seconds)  # Until what was written is gone.
        elif self.conn.their_state is h11.IDLE:
            if self._deadline is None:
                self._wait(self._limits.head_seconds)
        elif self.conn.their_state is h11.SEND_BODY:
            self._cancel_deadline()  # Bodies have their own, by route.
        else:
            self._cancel_deadline()
            self._server.table.serve(self._place)

    def _wait(self, seconds: float) -> None:
        """Wait for the client, but not longer than so."""
        self._cancel_deadline()
        self._server.table.wait(self._place)
        self._unread_bytes = self.transport.get_write_buffer_size()
        self._deadline = self.loop.call_later(seconds, self._pass_deadline, seconds)

    def _cancel_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _pass_deadline(self, seconds: float) -> None:
        if 0 < self.transport.get_write_buffer_size() < self._unread_bytes:
            self._wait(seconds)  # It reads, if slowly.
            return
        self._server.late_count += 1
        self.transport.abort()
