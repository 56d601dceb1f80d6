"""One connection as one end's process sees it: what of each direction was told, and what waits to be.

State of `sensor.conversations`, which reads it.
"""

from collections import deque
from typing import Final

from sensor.kernel.syscall_abi import SyscallEvent, SyscallKind
from sensor.protocols.http1_bodies import BodyRoom
from sensor.protocols.http1_pairs import Http1Connection, Transaction

READ, WRITE = int(SyscallKind.READ), int(SyscallKind.WRITE)
# Of TCP's numbers.
HALF: Final = 1 << 31
MODULUS: Final = 1 << 32


class Side:
    """One direction: where it is in TCP's numbers and in its stream."""

    __slots__ = ("begun", "position", "sequence")

    def __init__(self, sequence: int) -> None:
        self.sequence = sequence  # Of the next byte.
        self.position = 0
        self.begun = b""  # The first bytes, until they say which end is the client.

    def locate(self, sequence: int) -> int:
        """Position of a number near the current one."""
        return self.position + (sequence - self.sequence + HALF) % MODULUS - HALF


class Connection:
    """One connection as one end sees it."""

    __slots__ = ("calls", "event", "http1", "request_kind", "sides", "stream_number", "told", "undecided", "waiting")

    def __init__(self, event: SyscallEvent, room: BodyRoom | None) -> None:
        self.event = event  # The first, for its addresses.
        self.http1 = Http1Connection(bodies=room)
        # By kind of event: this one's, and the one that it tells of.
        self.sides = {event.kind: Side(event.sequence), READ + WRITE - event.kind: Side(event.other)}
        self.request_kind = 0  # READ at a server, WRITE at a client; 0: not known yet.
        self.undecided: list[tuple[SyscallEvent, bytes]] = []  # Until it is.
        self.waiting: deque[tuple[SyscallEvent, bytes]] = deque()  # Reads.
        self.calls = 0
        self.stream_number = 0  # Of HTTP/2.
        self.told: Transaction | None = None  # Told before its end.
