"""One direction of a TCP connection: segments in any order in, its bytes by position out, as `Chunk`s and `Gap`s.

Sans-io. A position is a number of bytes from the start of the stream (0 is the first byte after SYN, or the first byte
seen where the capture joined in the middle), so that nothing after this room sees sequence numbers or their wrap-around
(RFC 9293, section 3.4: arithmetic modulo 2**32).

What comes out is in order and never overlaps: chunks and gaps together cover the stream from 0 to its end without a
hole. A chunk is what one segment brought, so that a reader which lost its place can look for a message at the start of
a segment. Where segments overlap, the bytes that came first win (as in most stacks for bytes already acknowledged) and
the others are counted; where they differ from what was kept, that is counted too, since it is how detection is evaded.

A hole waits for its bytes, which may be late. It becomes a `Gap` when the peer acknowledged it (then the bytes arrived
there and only the capture missed them), when the bytes that wait behind it pass the bound, or at the end.
"""

from bisect import bisect_right, insort
from dataclasses import dataclass
from typing import Final

import msgspec

# Bytes that wait behind a hole. Linux's default receive window grows to 6 MiB, but 1 MiB covers what arrives within a
# round trip of 100 ms at 80 Mbit/s; with 10,000 holed flows at once it is the replay's flow table that bounds.
MAX_WAITING_BYTES: Final = 1 << 20
# Segments that wait: tiny ones cost ~150 bytes each beside their data.
MAX_WAITING_SEGMENTS: Final = 4_096
# The largest window TCP can offer (RFC 7323, section 2.3): what lies further ahead belongs to no live window.
MAX_WINDOW_BYTES: Final = 1 << 30

_MODULUS: Final = 1 << 32
_HALF: Final = 1 << 31
UNKNOWN_POSITION: Final = -1


class Segment(msgspec.Struct, frozen=True, gc=False):
    """What one packet brings of one direction."""

    sequence: int  # Of the first byte of `data`, modulo 2**32; SYN does not count.
    data: bytes
    time_ns: int
    # Position in the other direction up to which the sender had received when it sent this; -1 where unknown.
    acknowledged: int = UNKNOWN_POSITION


class Chunk(msgspec.Struct, frozen=True, gc=False):
    """Bytes of the stream that one segment brought."""

    position: int
    data: bytes
    time_ns: int
    acknowledged: int = UNKNOWN_POSITION

    def __repr__(self) -> str:
        return f"Chunk(position={self.position}, {len(self.data)} bytes)"


class Gap(msgspec.Struct, frozen=True, gc=False):
    """Bytes of the stream that were never seen."""

    position: int
    length: int


Piece = Chunk | Gap


@dataclass(slots=True)
class StreamCounts:
    """Account of one direction: `seen = used + duplicate + stray`, in bytes of segments."""

    seen_bytes: int = 0
    used_bytes: int = 0  # Given in chunks, or still waiting.
    duplicate_bytes: int = 0  # Came again after they were taken.
    stray_bytes: int = 0  # Before the first byte, after FIN, or beyond any window.
    conflicting_bytes: int = 0  # Of the duplicates: differ from those kept; only those that still wait can be compared.
    late_bytes: int = 0  # Of the duplicates: came after their gap was told.
    gap_bytes: int = 0
    gaps: int = 0


class StreamAssembler:
    """Mutable state of one direction."""

    __slots__ = ("_base", "_end", "_gaps", "_starts", "_waiting", "_waiting_bytes", "counts", "position")

    def __init__(self) -> None:
        self._base: int | None = None  # Sequence number of position 0.
        self.position = 0  # Next to be given.
        self._end: int | None = None  # Position after the last byte, from FIN.
        self._waiting: dict[int, Chunk] = {}  # By position; never overlap, all behind `position`.
        self._starts: list[int] = []  # Their positions in order.
        self._waiting_bytes = 0
        self._gaps: list[Gap] = []  # The last few told, to know late bytes from duplicates.
        self.counts = StreamCounts()

    @property
    def waiting_bytes(self) -> int:
        """Bytes held behind a hole; never more than `MAX_WAITING_BYTES` after a call."""
        return self._waiting_bytes

    @property
    def is_ended(self) -> bool:
        """FIN was seen and every byte before it given."""
        return self._end is not None and self.position >= self._end

    @property
    def is_started(self) -> bool:
        """Position 0 is known."""
        return self._base is not None

    def start(self, sequence: int) -> None:
        """SYN: the first byte has the sequence number after it. A repeated SYN changes nothing."""
        if self._base is None:
            self._base = (sequence + 1) % _MODULUS

    def find_position(self, sequence: int) -> int:
        """Position of a sequence number near the current one; -1 while the stream's start is unknown."""
        if self._base is None:
            return UNKNOWN_POSITION
        return self.position + self._distance(sequence)

    def add(self, segment: Segment) -> list[Piece]:
        """Takes the bytes of one segment; gives what is in order now."""
        size = len(segment.data)
        if not size:
            return []
        if self._base is None:
            self._base = segment.sequence % _MODULUS
        counts = self.counts
        counts.seen_bytes += size
        distance = self._distance(segment.sequence)
        start, data = self.position + distance, segment.data
        if distance > MAX_WINDOW_BYTES:
            counts.stray_bytes += size
            return []
        if self._end is not None and start + size > self._end:
            kept = max(self._end - start, 0)
            counts.stray_bytes += size - kept
            data = data[:kept]
        if distance < 0:
            data, start = self._cut_past(data, start)
        if not data:
            return []
        if distance <= 0 and not self._waiting:  # Nearly every segment.
            counts.used_bytes += len(data)
            self.position += len(data)
            return [Chunk(start, data, segment.time_ns, segment.acknowledged)]
        self._keep(start, data, segment)
        pieces = self._take_ready()
        while self._waiting_bytes > MAX_WAITING_BYTES or len(self._starts) > MAX_WAITING_SEGMENTS:
            pieces += self._give_up_hole()
        return pieces

    def is_hole_acknowledged(self, position: int) -> bool:
        """Whether the peer received all of the first hole, having acknowledged up to `position`."""
        return bool(self._starts) and self._starts[0] <= position

    def acknowledge(self, position: int) -> list[Piece]:
        """The peer received all before `position`: holes before it are the capture's losses."""
        pieces: list[Piece] = []
        while self._starts and self._starts[0] <= position:
            pieces += self._give_up_hole()
        return pieces

    def end(self, sequence: int) -> None:
        """FIN: the stream ends before this sequence number (that of FIN itself). The first one counts.

        One that comes before anything else tells no position and is passed over.
        """
        if self._base is None:
            return
        end = self.position + self._distance(sequence)
        if self._end is None and self.position <= end <= self.position + MAX_WINDOW_BYTES:
            self._end = end
            self._drop_after(end)

    def finish(self) -> list[Piece]:
        """Nothing more comes: gives all that waits, with its gaps, and the gap before FIN."""
        pieces: list[Piece] = []
        while self._starts:
            pieces += self._give_up_hole()
        if self._end is not None and self._end > self.position:
            pieces.append(self._tell_gap(self._end))
        return pieces

    def _distance(self, sequence: int) -> int:
        """From the next position to a sequence number: -2**31 .. 2**31 - 1."""
        assert self._base is not None
        return (sequence - self._base - self.position + _HALF) % _MODULUS - _HALF

    def _cut_past(self, data: bytes, start: int) -> tuple[bytes, int]:
        """Without the bytes that were given before, told as gaps, or lie before the stream."""
        past = min(self.position - start, len(data))
        stray = min(max(-start, 0), past)
        counts = self.counts
        counts.stray_bytes += stray
        counts.duplicate_bytes += past - stray
        end = start + past
        counts.late_bytes += sum(
            max(min(end, gap.position + gap.length) - max(start, gap.position), 0) for gap in self._gaps
        )
        return data[past:], end

    def _keep(self, start: int, data: bytes, segment: Segment) -> None:
        """Puts the bytes into the holes they fit; `start` is not before the current position."""
        counts, view, at, end = self.counts, memoryview(data), start, start + len(data)
        index = max(bisect_right(self._starts, start) - 1, 0)
        found: list[tuple[int, int]] = []
        while at < end:
            while index < len(self._starts):
                kept = self._waiting[self._starts[index]]
                kept_end = kept.position + len(kept.data)
                if kept_end > at:
                    break
                index += 1
            else:
                found.append((at, end))
                break
            if kept.position > at:
                found.append((at, min(kept.position, end)))
                at = found[-1][1]
                continue
            overlap_end = min(kept_end, end)
            counts.duplicate_bytes += overlap_end - at
            counts.conflicting_bytes += _count_differences(
                kept.data[at - kept.position : overlap_end - kept.position], view[at - start : overlap_end - start]
            )
            at = overlap_end
        for left, right in found:
            counts.used_bytes += right - left
            self._waiting_bytes += right - left
            piece = bytes(view[left - start : right - start])
            self._waiting[left] = Chunk(left, piece, segment.time_ns, segment.acknowledged)
            insort(self._starts, left)

    def _take_ready(self) -> list[Piece]:
        ready: list[Piece] = []
        count = 0
        for start in self._starts:
            if start != self.position:
                break
            chunk = self._waiting.pop(start)
            self.position += len(chunk.data)
            self._waiting_bytes -= len(chunk.data)
            ready.append(chunk)
            count += 1
        del self._starts[:count]
        return ready

    def _give_up_hole(self) -> list[Piece]:
        """The first hole becomes a gap, and what waited right behind it is given."""
        return [self._tell_gap(self._starts[0]), *self._take_ready()]

    def _tell_gap(self, end: int) -> Gap:
        gap = Gap(self.position, end - self.position)
        self.counts.gaps += 1
        self.counts.gap_bytes += gap.length
        self._gaps = [*self._gaps[-7:], gap]
        self.position = end
        return gap

    def _drop_after(self, end: int) -> None:
        """Bytes after FIN are none of the stream."""
        for start in [start for start in self._starts if start + len(self._waiting[start].data) > end]:
            chunk = self._waiting.pop(start)
            kept = max(end - start, 0)
            lost = len(chunk.data) - kept
            self._waiting_bytes -= lost
            self.counts.used_bytes -= lost
            self.counts.stray_bytes += lost
            if kept:
                self._waiting[start] = Chunk(start, chunk.data[:kept], chunk.time_ns, chunk.acknowledged)
            else:
                self._starts.remove(start)


def _count_differences(kept: bytes, other: memoryview) -> int:
    if kept == other:
        return 0
    return sum(a != b for a, b in zip(kept, other, strict=True))
