"""Counts the messages of a WebSocket (RFC 6455, section 5.2): bytes of both directions in, counts out.

     0                   1
     0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5
    +-+-+-+-+-------+-+-------------+-------------------------------+
    |F|R|R|R| opcode|M| Payload len |    Extended payload length    |
    |I|S|S|S|  (4)  |A|     (7)     |     (16 or 64, if 126 or 127) |
    |N|V|V|V|       |S|             |                               |
    +-+-+-+-+-------+-+-------------+ - - - - - - - - - - - - - - - +
    |                Masking-key (32), if MASK is set               |

Payloads are skipped, not kept and not unmasked. Sans-io and never raises. Bytes that are not a frame end the count.
"""

from enum import IntEnum
from typing import Final

import msgspec

_MASK_BYTES: Final = 4
_MOST_CONTROL_BYTES: Final = 125  # Section 5.5.
_FIN, _MASKED, _LENGTH = 0x80, 0x80, 0x7F
_RESERVED: Final = 0x30  # The second and third of three.


class Opcode(IntEnum):
    """Section 11.8; the others are reserved."""

    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10


_OPCODES: Final = frozenset(Opcode)


def is_client_frame(data: bytes) -> bool:
    """Whether these may be the first bytes of a client's frame, which is masked (section 5.3). An extension may set the
    first reserved bit, as compression does (RFC 7692). A frame of HTTP/2 begins with a length, so with a zero."""
    if len(data) < 2 or data[0] & _RESERVED or not data[0]:
        return False
    return data[0] & 0x0F in _OPCODES and bool(data[1] & _MASKED)


class WebSocketCounts(msgspec.Struct):
    """Of one direction."""

    messages: int = 0  # Text or binary, however many frames each had; counted when its last frame begins.
    is_closed: bool = False  # A close frame was seen: nothing follows.
    is_lost: bool = False  # The place was lost, or it is no WebSocket: the counts stop there.


class WebSocketCounter:
    """Mutable state of one direction."""

    __slots__ = ("_held", "_left", "counts")

    def __init__(self) -> None:
        self.counts = WebSocketCounts()
        self._held = b""  # Of a header that is not whole.
        self._left = 0  # Payload bytes to come.

    def feed(self, data: bytes) -> None:
        """Bytes of the stream, from the first after the handshake on."""
        counts = self.counts
        if self._held:
            data, self._held = self._held + data, b""
        at, end = 0, len(data)
        while at < end and not counts.is_lost and not counts.is_closed:
            if self._left:
                size = min(self._left, end - at)
                self._left -= size
                at += size
                continue
            header_bytes = self._measure_header(data, at)
            if end - at < header_bytes:
                self._held = data[at:]
                return
            self._read_header(data, at)
            at += header_bytes

    def skip(self, length: int) -> None:
        """`length` bytes were not seen: harmless within a payload."""
        if self._held or length > self._left:
            self.counts.is_lost = True
        else:
            self._left -= length

    @property
    def messages(self) -> int | None:
        """Messages of the whole direction; None where the counts stopped early."""
        return None if self.counts.is_lost else self.counts.messages

    def _measure_header(self, data: bytes, at: int) -> int:
        if len(data) - at < 2:
            return 2
        short = data[at + 1] & _LENGTH
        extended = 2 if short == 126 else 8 if short == 127 else 0
        return 2 + extended + (_MASK_BYTES if data[at + 1] & _MASKED else 0)

    def _read_header(self, data: bytes, at: int) -> None:
        counts, first = self.counts, data[at]
        length = data[at + 1] & _LENGTH
        if length == 126:
            length = int.from_bytes(data[at + 2 : at + 4])
        elif length == 127:
            length = int.from_bytes(data[at + 2 : at + 10])
        opcode, is_final = first & 0x0F, bool(first & _FIN)
        if opcode >= Opcode.CLOSE:
            if opcode > Opcode.PONG or not is_final or length > _MOST_CONTROL_BYTES:
                counts.is_lost = True
                return
            counts.is_closed = opcode == Opcode.CLOSE
        elif opcode > Opcode.BINARY or length >> 63:
            counts.is_lost = True
            return
        elif is_final:
            counts.messages += 1
        self._left = length


class WebSocket:
    """Both directions of one, and when it was last heard of."""

    __slots__ = ("bytes", "counters", "last_ns")

    def __init__(self) -> None:
        self.counters = WebSocketCounter(), WebSocketCounter()  # Of the client and the server.
        self.bytes = [0, 0]  # As on the wire.
        self.last_ns = 0

    def feed(self, data: bytes, time_ns: int, *, is_request: bool) -> None:
        """Bytes of one direction."""
        side = 0 if is_request else 1
        self.bytes[side] += len(data)
        self.last_ns = max(self.last_ns, time_ns)
        self.counters[side].feed(data)

    def lose(self) -> None:
        """From here on its messages are not counted."""
        for counter in self.counters:
            counter.counts.is_lost = True

    def skip(self, length: int, *, is_request: bool) -> None:
        """Bytes that were not seen."""
        side = 0 if is_request else 1
        self.bytes[side] += length
        self.counters[side].skip(length)
