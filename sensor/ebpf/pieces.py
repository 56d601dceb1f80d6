"""Joins the pieces of bodies that the kernel copies, by call and direction, until the call ends.

Takes body events in the order of the ring and gives `RawBodies`. A piece that does not continue the bytes before it is
behind a hole and is not kept, but for the last packets of a response. Memory and time are bounded: the oldest call is
dropped first. Bodies are never logged or exported.
"""

from typing import Final

from sensor.core.calls import RawBodies
from sensor.ebpf.abi import EventFlag, EventKind, KernelEvent

# Bytes of all calls together: some 60 that are copied in full both ways, or thousands of small ones.
WAITING_BYTES_MAX: Final = 8 << 20
# A response of which no end is told for so long is given up; its beginning was what mattered.
WAITING_NS_MAX: Final = 60 * 1_000_000_000
LIST_BYTES_MAX: Final = 262_144  # bpf/bodies.h, LIST_COPY.
ENDS_MAX: Final = 4  # bpf/conn.h, ENDS_KEPT.
HOLE: Final = b"\0"  # Stands for what was not copied between two of the last packets.
HEAD_BYTES_MAX: Final = 8_192
_SIGN: Final = 1 << 31
_RESPONSE: Final = int(EventKind.RESPONSE_BODY)

_Key = tuple[int, int]  # (connection, call)


class _Side:
    """One direction: contiguous bytes from `start` on."""

    __slots__ = ("data", "ends", "start")

    def __init__(self) -> None:
        self.data = bytearray()
        self.start = 0  # Negative where the head came with it.
        self.ends: dict[int, bytes] = {}  # Of the last packets, by position.

    def add(self, position: int, data: bytes) -> int:
        """Gives how many bytes were kept."""
        if not self.data and position < 0:
            self.start = position
        if position != self.start + len(self.data) or position + len(data) > LIST_BYTES_MAX:
            return 0
        self.data += data
        return len(data)

    def add_end(self, position: int, data: bytes) -> int:
        """Gives how many bytes more are kept."""
        gone = 0
        if len(self.ends) >= ENDS_MAX and position not in self.ends:
            gone = len(self.ends.pop(next(iter(self.ends))))
        gone += len(self.ends.pop(position, b""))
        self.ends[position] = data
        return len(data) - gone

    def join_ends(self) -> bytes:
        """The last packets, in the order of the ring."""
        joined, at = b"", 0
        for position, data in self.ends.items():
            joined += data if not joined or position == at else HOLE + data
            at = position + len(data)
        return joined

    @property
    def bytes_held(self) -> int:
        return len(self.data) + sum(map(len, self.ends.values()))


class _Waiting:
    """One call."""

    __slots__ = ("request", "response", "since_ns")

    def __init__(self, since_ns: int) -> None:
        self.request, self.response = _Side(), _Side()
        self.since_ns = since_ns


class Pieces:
    """Mutable state between events. `take` and `pop` are the whole life of a body."""

    def __init__(self) -> None:
        self._waiting: dict[_Key, _Waiting] = {}  # Insertion order is age.
        self._bytes = 0
        self.given_up = 0  # Calls whose end did not come, or for which there was no room.

    @property
    def waiting_bytes(self) -> int:
        """Held now."""
        return self._bytes

    def take(self, event: KernelEvent, data: bytes) -> None:
        """One piece."""
        key = event.connection, event.call
        waiting = self._waiting.get(key)
        if waiting is None:
            self._make_room(event.time_ns)
            waiting = self._waiting[key] = _Waiting(event.time_ns)
        side = waiting.response if event.kind == _RESPONSE else waiting.request
        position = event.position - 2 * (event.position & _SIGN)
        if event.flags & EventFlag.LAST:
            self._bytes += side.add_end(position, data)
        elif position >= -HEAD_BYTES_MAX:
            self._bytes += side.add(position, data)

    def pop(self, connection: int, call: int) -> RawBodies | None:
        """What came of a call that is over; None where nothing did."""
        bodies = self.copy(connection, call)
        waiting = self._waiting.pop((connection, call), None)
        if waiting is not None:
            self._bytes -= waiting.request.bytes_held + waiting.response.bytes_held
        return bodies

    def copy(self, connection: int, call: int) -> RawBodies | None:
        """What came so far of a call that goes on."""
        waiting = self._waiting.get((connection, call))
        if waiting is None:
            return None
        request, response = waiting.request, waiting.response
        head_bytes = -response.start
        return RawBodies(
            bytes(request.data),
            bytes(response.data[head_bytes:]),
            bytes(response.data[:head_bytes]),
            response_last=response.join_ends(),
        )

    def _make_room(self, now_ns: int) -> None:
        while self._waiting:
            key, oldest = next(iter(self._waiting.items()))
            if self._bytes < WAITING_BYTES_MAX and now_ns - oldest.since_ns < WAITING_NS_MAX:
                return
            self.pop(*key)
            self.given_up += 1
