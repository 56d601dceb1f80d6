"""A header block of HTTP/2 whose fragments come in several frames (RFC 9113, section 4.3)."""

import msgspec


class BlockPart(msgspec.Struct):
    """A header block that goes on; what it has in common with a frame has the same names."""

    stream: int
    kind: int
    flags: int  # Of its first frame.
    fragments: bytearray
    wire_bytes: int
    time_ns: int  # Of its first frame.

    def __repr__(self) -> str:
        return f"BlockPart(stream={self.stream}, redacted)"
