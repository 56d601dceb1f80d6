"""Puts frames and raw bytes of one direction, in any order and with holes, back in the order of the stream.

The kernel copies whole frames where it can walk them. It copies plain bytes around a hole, out of order, or from a
second processor. Each piece carries its position. What comes early waits for the holes before it. A hole becomes a
`Gap` when it has waited too long, or when too much waits behind it.

`sensor.http.reassembly` does the same for packets, by sequence numbers. Here positions are known. DATA that the kernel
did not copy is not a hole, because the kernel reports it as frames without payload.
"""

from bisect import insort
from typing import Final

from sensor.http.http2.frames import Frame
from sensor.http.reassembly import Chunk, Gap

# What waits behind holes: as much as the kernel hands up raw before it gives up, twice.
MAX_WAITING_BYTES: Final = 1 << 20
MAX_WAITING_PIECES: Final = 4_096
# A retransmission comes within a second or two, if it comes.
PATIENCE_NS: Final = 3_000_000_000


class PieceOrder:
    """Mutable state of one direction."""

    __slots__ = ("_bytes", "_hole_since_ns", "_position", "_starts", "_waiting")

    def __init__(self, position: int | None = None) -> None:
        """`position` is that of the first piece; None: whichever comes first."""
        self._position = position
        self._waiting: dict[int, Chunk | Frame] = {}  # By position.
        self._starts: list[int] = []  # Their positions in order.
        self._bytes = 0
        self._hole_since_ns = 0

    @property
    def position(self) -> int | None:
        """Of what comes next; None before the first piece."""
        return self._position

    @property
    def waiting_bytes(self) -> int:
        """Payload that waits."""
        return self._bytes

    @property
    def holes(self) -> list[tuple[int, int]]:
        """(position, length) of what is missing before something that is there."""
        holes, end = [], self._position or 0
        for start in self._starts:
            if start > end:
                holes.append((end, start - end))
            end = max(end, start + _measure(self._waiting[start]))
        return holes

    def add(self, piece: Chunk | Frame) -> list[Chunk | Gap | Frame]:
        """Takes a piece; gives what is in order now."""
        start = piece.position
        if self._position is None:
            self._position = start
        if start == self._position and not self._starts:  # Nearly every piece.
            self._position = start + _measure(piece)
            return [piece]
        if start + _measure(piece) <= self._position:
            return []
        if not self._starts:
            self._hole_since_ns = piece.time_ns
        self._keep(piece)
        ready = self._take_ready()
        if ready:
            self._hole_since_ns = piece.time_ns
        while self._bytes > MAX_WAITING_BYTES or len(self._starts) > MAX_WAITING_PIECES:
            ready += self._give_up_hole()
        return ready

    def poll(self, now_ns: int) -> list[Chunk | Gap | Frame]:
        """Gives up the first hole once it has waited for `PATIENCE_NS`."""
        if not self._starts or now_ns - self._hole_since_ns < PATIENCE_NS:
            return []
        self._hole_since_ns = now_ns
        return self._give_up_hole()

    def finish(self) -> list[Chunk | Gap | Frame]:
        """Nothing more comes: all that waits, with its gaps."""
        ready: list[Chunk | Gap | Frame] = []
        while self._starts:
            ready += self._give_up_hole()
        return ready

    def _keep(self, piece: Chunk | Frame) -> None:
        start = piece.position
        kept = self._waiting.get(start)
        if kept is None:
            insort(self._starts, start)
        elif _measure(kept) >= _measure(piece):
            return
        else:
            self._bytes -= _weigh(kept)
        self._waiting[start] = piece
        self._bytes += _weigh(piece)

    def _take_ready(self) -> list[Chunk | Gap | Frame]:
        assert self._position is not None
        ready: list[Chunk | Gap | Frame] = []
        count = 0
        for start in self._starts:
            if start > self._position:
                break
            count += 1
            piece = self._waiting.pop(start)
            self._bytes -= _weigh(piece)
            end = start + _measure(piece)
            if start < self._position:
                # A frame whose beginning came as bytes already: its reader has no use for the whole.
                if end <= self._position or not isinstance(piece, Chunk):
                    continue
                piece = Chunk(self._position, piece.data[self._position - start :], piece.time_ns, piece.acknowledged)
            ready.append(piece)
            self._position = end
        del self._starts[:count]
        return ready

    def _give_up_hole(self) -> list[Chunk | Gap | Frame]:
        """The first hole becomes a gap, and what waited right behind it is given."""
        assert self._position is not None
        gap = Gap(self._position, self._starts[0] - self._position)
        self._position = self._starts[0]
        return [gap, *self._take_ready()]


def _measure(piece: Chunk | Frame) -> int:
    """Bytes of the stream that it covers."""
    return len(piece.data) if isinstance(piece, Chunk) else piece.wire_bytes


def _weigh(piece: Chunk | Frame) -> int:
    """Bytes that it holds."""
    return len(piece.data) if isinstance(piece, Chunk) else len(piece.payload or b"")
