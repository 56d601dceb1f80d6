"""Beginnings of bodies, kept while their transactions go on: what of them is read later, within one bound for all
connections."""

from typing import Final

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
