"""What a reader of an HTTP/1 stream tells, and where it stands (sensor.protocols.http1_stream)."""

from enum import Enum
from typing import Protocol

import msgspec

from sensor.protocols.http1_faults import Fault
from sensor.protocols.http1_framing import Framing
from sensor.protocols.http1_grammar import StartLine


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
