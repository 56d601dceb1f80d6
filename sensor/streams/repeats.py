"""Calls of HTTP/2 that are like one just described: the same request on the same connection, answered alike.

Programs that talk to each other repeat their heads to the byte, and the decoder gives the same object for the same
bytes; so most calls need no description of their own. What may differ between two calls that are alike is time and
size. A description is good for two seconds: then services may have been named, paths become parameters.
"""

from typing import Final

from sensor.calls import Exchange
from sensor.columns import CALL
from sensor.protocols.http1 import Malformed
from sensor.protocols.http2_calls import StreamCall
from sensor.protocols.http2_heads import StreamRequest
from sensor.streams.exchange import StreamExchange

LIFE_NS: Final = 2_000_000_000
# Past them all are forgotten.
MAX_KEPT: Final = 4_096

Row = tuple[int, ...]  # Columns of CALL.
_Key = tuple[object, ...]

# What two calls that are alike may differ in; all else of a row is the same.
_OWN: Final = ("time_unix_ns", "request_bytes", "response_bytes", "duration_us", "ttfb_us")
_NAMES: Final = CALL.names or ()
_HEAD_END: Final = 4  # The first columns are `_OWN` but for its last.
_TTFB: Final = _NAMES.index("ttfb_us")
_BODY: Final = _NAMES.index("body")  # What is told of bodies may be estimated from their size.
assert _NAMES[:_HEAD_END] == _OWN[:_HEAD_END]
_LARGEST_U32: Final = (1 << 32) - 1


class Repeats:
    """Mutable state: rows of what was described lately."""

    __slots__ = ("_generation", "_kept", "_until_ns", "found")

    def __init__(self) -> None:
        # The request is kept with the row, so that its identity stays its own.
        self._kept: dict[_Key, tuple[StreamRequest | Malformed, Row]] = {}
        self._until_ns = 0
        self._generation = 0
        self.found = 0

    def begin(self, now_ns: int, generation: int) -> None:
        """A batch of calls begins; `generation` is that of the facts, whose numbers the rows hold."""
        if now_ns >= self._until_ns or generation != self._generation or len(self._kept) > MAX_KEPT:
            self._kept.clear()
            self._until_ns = now_ns + LIFE_NS
            self._generation = generation

    def forget(self) -> None:
        """Nothing that was described is true any more."""
        self._kept.clear()

    def find(self, exchange: StreamExchange) -> Row | None:
        """The row of a call by one that it is like."""
        call = exchange.call
        if not call.is_final or call.is_aborted or call.is_lossy:
            return None
        kept = self._kept.get(_make_key(exchange.exchange.connection, call))
        if kept is None:
            return None
        self.found += 1
        row = kept[1]
        own: Exchange = exchange.exchange
        return (
            own.time_unix_ns,
            own.request_bytes,
            own.response_bytes,
            own.duration_ns // 1000,
            *row[_HEAD_END:_TTFB],
            min(own.time_to_first_byte_ns // 1000, _LARGEST_U32),
            *row[_TTFB + 1 :],
        )

    def keep(self, exchange: StreamExchange, row: Row) -> None:
        """What a call was described as."""
        call = exchange.call
        if call.is_final and not call.is_aborted and not call.is_lossy and not row[_BODY]:
            self._kept[_make_key(exchange.exchange.connection, call)] = call.request, row


def _make_key(connection: int, call: StreamCall) -> _Key:
    """All that a description depends on: what is added to `StreamCall` and told belongs here too."""
    return (
        connection,
        id(call.request),
        call.status_code,
        call.response_content_type,
        call.grpc_status,
        call.streaming,
        call.request_messages,
        call.response_messages,
        call.calls,
        call.has_unknown_fields,
        call.is_inferred,
    )
