"""WebSockets of HTTP/1 while they are open: the call that was answered 101, and what the kernel counted when it ended.

Such a call is told at its 101 and again at the end of its connection, with bytes, messages and the time it was open;
the second part has `calls = 0`. Bounded: of the connection that was open for longest only the first part is told.
"""

import re
from typing import Final

import msgspec

from sensor.calls import Exchange
from sensor.kernel.abi import KernelEvent

# Connections remembered, and their heads together; a usual one has half a kilobyte.
OPEN_MAX: Final = 16_384
HEAD_BYTES_MAX: Final = 16 << 20
NO_MESSAGES: Final = (1 << 64) - 1  # As bpf/upgraded.h.
_SWITCHING_PROTOCOLS: Final = 101
_WEBSOCKET: Final = re.compile(rb"\nupgrade:[ \t]*websocket", re.IGNORECASE)


class Upgrades:
    """By connection. Not thread-safe."""

    __slots__ = ("_head_bytes", "_open", "forgotten_count")

    def __init__(self) -> None:
        self._open: dict[int, Exchange] = {}  # The oldest first.
        self._head_bytes = 0
        self.forgotten_count = 0

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, exchange: Exchange) -> Exchange:
        """A call that ended HTTP on its connection: that of a WebSocket is not over by that."""
        if exchange.status_code != _SWITCHING_PROTOCOLS or not _WEBSOCKET.search(exchange.request_head):
            return exchange
        self._open[exchange.connection] = exchange
        self._head_bytes += len(exchange.request_head)
        while len(self._open) > OPEN_MAX or self._head_bytes > HEAD_BYTES_MAX:
            self.forgotten_count += 1
            self._take(next(iter(self._open)))
        return msgspec.structs.replace(exchange, request_bytes=0, response_bytes=0, duration_ns=0, is_final=False)

    def end(self, event: KernelEvent, end_unix_ns: int) -> Exchange | None:
        """The second part of the call whose connection ended; None where nothing is known of it."""
        exchange = self._take(event.connection)
        if exchange is None:
            return None
        return msgspec.structs.replace(
            exchange,
            request_bytes=exchange.request_bytes + event.request_bytes,
            response_bytes=exchange.response_bytes + event.response_bytes,
            duration_ns=max(end_unix_ns - exchange.time_unix_ns, 0),
            calls=0,
            request_messages=None if event.profile == NO_MESSAGES else event.profile,
            response_messages=None if event.host == NO_MESSAGES else event.host,
        )

    def _take(self, connection: int) -> Exchange | None:
        exchange = self._open.pop(connection, None)
        if exchange is not None:
            self._head_bytes -= len(exchange.request_head)
        return exchange
