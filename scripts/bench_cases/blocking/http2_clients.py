"""Clients that speak HTTP/2 in the clear, each on a connection of its own or several on one, for trials of blocks."""

import contextlib
import socket
import threading
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events
import h2.exceptions

from scripts.bench_cases.blocking.clients import HANG_SECONDS, Caller

_GONE = (h2.events.ConnectionTerminated, h2.events.StreamReset)


class Line:
    """One connection at a time, which callers of several threads may share; after a reset the next is opened."""

    def __init__(self, port: int, source: str) -> None:
        self._port, self._source = port, source
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._streams = h2.connection.H2Connection()

    def call(self, path: str, headers: dict[str, str]) -> str:
        """`200`, `reset`, `hang`, or another status."""
        with self._lock:
            try:
                outcome = self._ask(path, headers)
            except TimeoutError:
                outcome = "hang"
            except (OSError, h2.exceptions.ProtocolError):
                outcome = "reset"
            if outcome in ("reset", "hang"):
                self._drop()
            return outcome

    def close(self) -> None:
        """Ends the connection."""
        with self._lock:
            self._drop()

    def _ask(self, path: str, headers: dict[str, str]) -> str:
        wire = self._open()
        streams = self._streams
        stream = streams.get_next_available_stream_id()
        fixed = {":method": "GET", ":path": path, ":scheme": "http", ":authority": "shop.example"}
        names = {name.lower(): value for name, value in headers.items()}
        streams.send_headers(stream, list({**fixed, **names}.items()), end_stream=True)
        wire.sendall(streams.data_to_send())
        status = ""
        while received := wire.recv(1 << 16):
            for event in streams.receive_data(received):
                if isinstance(event, h2.events.ResponseReceived):
                    status = str(dict(event.headers or ())[b":status"], "ascii")
                elif isinstance(event, h2.events.DataReceived):
                    streams.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id or 0)
                elif isinstance(event, _GONE):
                    return "reset"
                elif isinstance(event, h2.events.StreamEnded) and event.stream_id == stream:
                    return status
            if left := streams.data_to_send():
                wire.sendall(left)
        return "reset"

    def _open(self) -> socket.socket:
        if self._socket is None:
            self._socket = socket.create_connection(
                ("127.0.0.1", self._port), HANG_SECONDS, source_address=(self._source, 0)
            )
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._streams = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding=None))
            self._streams.initiate_connection()
        return self._socket

    def _drop(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None


@dataclass
class Http2Caller(Caller):
    """A `Caller` on a line of its own, or on one that it shares."""

    line: Line | None = field(default=None)
    is_shared: bool = field(default=False)

    def _call(self, path: str) -> str:
        if self.line is None:
            self.line = Line(self.port, self.source)
        outcome = self.line.call(path, self.headers)
        if not self.is_keep_alive and not self.is_shared:
            self.line.close()
        return outcome

    def close(self) -> None:
        """Ends its connection, where that is its own."""
        if self.line is not None and not self.is_shared:
            self.line.close()
