"""The events and states of an HTTP/1 stream reader (sensor.http.http1.stream), and the room for beginnings of bodies.

`BodyRoom` bounds the bytes of bodies that all connections together keep while their transactions go on.
"""

from enum import Enum
from typing import Final, Protocol

import msgspec

from sensor.http.http1.grammar import Fault, Framing, StartLine


class Started(msgspec.Struct, frozen=True, gc=False):
    """The first byte of a message."""

    position: int


class Head(msgspec.Struct, frozen=True, gc=False):
    """A whole head. Private to the node: holds values."""

    start: StartLine
    fields: list[tuple[bytes, bytes]]  # (name as sent, value), in order.
    raw: bytes
    framing: Framing

    def get(self, name: bytes) -> bytes | None:
        """Value of the first field of this name (lower case)."""
        for key, value in self.fields:
            if len(key) == len(name) and key.lower() == name:
                return value
        return None

    def __repr__(self) -> str:
        return f"Head({len(self.fields)} fields, redacted)"


class Data(msgspec.Struct, frozen=True, gc=False):
    """Bytes of a body without their chunks' framing."""

    data: bytes

    def __repr__(self) -> str:
        return f"Data({len(self.data)} bytes)"


class End(msgspec.Struct, frozen=True, gc=False):
    """The end of a message whose head was given."""

    body_bytes: int  # Without chunk framing; gaps included.
    wire_bytes: int  # Of head, body and trailers.
    gap_bytes: int
    is_complete: bool  # It ended as its framing says; of its body bytes may be missing.
    faults: list[Fault]


class Abandoned(msgspec.Struct, frozen=True, gc=False):
    """A message whose head was never read whole: the place was lost, or the stream ended."""

    wire_bytes: int


class Stopped(msgspec.Struct, frozen=True, gc=False):
    """Nothing more is read of this direction."""

    fault: Fault


Event = Started | Head | Data | End | Abandoned | Stopped


class EventSink(Protocol):
    """Takes events; a list is one."""

    def append(self, event: Event, /) -> None:
        """Takes the next."""
        ...


class State(Enum):
    """See the module's text."""

    START = "start"
    LINES = "lines"
    LENGTH = "length"
    CHUNK = "chunk"
    CHUNK_DATA = "chunk_data"
    CHUNK_END = "chunk_end"
    TRAILER = "trailer"
    CLOSE = "close"
    HELD = "held"
    LOST = "lost"
    OPAQUE = "opaque"
    AFTER_LAST = "after_last"
    STOPPED = "stopped"


# As much of a body as the kernel copies (bpf/bodies.h, BODY_COPY).
BODY_BYTES_MAX: Final = 65_536
ROOM_BYTES: Final = 64 << 20


class BodyRoom:
    """Room for the bodies of all connections; past it the beginnings stay shorter."""

    __slots__ = ("_free_bytes",)

    def __init__(self, room_bytes: int = ROOM_BYTES) -> None:
        self._free_bytes = room_bytes

    def add(self, body: bytearray, data: bytes) -> bool:
        """Appends what fits of the next bytes of a body; says whether it was all, else no more of it is to come."""
        taken = min(len(data), BODY_BYTES_MAX - len(body), self._free_bytes)
        if taken > 0:
            body += data[:taken]
            self._free_bytes -= taken
        return taken == len(data)

    def may_begin(self) -> bool:
        """Whether another body is kept."""
        return self._free_bytes > 0

    def hold(self, size: int) -> None:
        """So many bytes more, or fewer, are held elsewhere, and are to count."""
        self._free_bytes -= size

    def spend(self, size: int) -> None:
        """So many bytes of bodies are kept elsewhere."""

    def release(self, body: bytearray) -> None:
        """The body's transaction is over; whoever has it keeps it."""
        self._free_bytes += len(body)
