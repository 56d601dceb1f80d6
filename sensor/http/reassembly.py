"""Reassembles TCP: packets of both directions in, `(Direction, Chunk | Gap)` in an order that could have happened out.

Sans-io. `DirectionAssembler` is one direction, `TcpConnection` both. SYN shows which end is the client. Where the
capture joined in the middle, the sender of the first packet counts as the client until `sensor.capture.files` knows
better.

**Positions.** A position is a number of bytes from the start of the stream, or from the first byte seen after a late
join. So nothing behind this module sees sequence numbers or their wrap-around (RFC 9293, section 3.4). Chunks and gaps
of a direction cover it in order, without overlap and without a hole. A chunk is what one segment brought, so a reader
that lost its place can look for a message at the start of a segment.

**Overlaps.** Bytes that came first win, as in most stacks for acknowledged bytes. The others are counted. Different
bytes are counted too, because that is a way to evade detection.

**Gaps.** A hole waits for its bytes. It becomes a `Gap` when the peer acknowledged it, because then only the capture
missed them. It also becomes one when too many bytes wait behind it, or at the end.

**Order.** Captures of several queues or interfaces may put an answer before its request. An acknowledgement number
shows what a sender had received. So its bytes wait until the other direction has come that far.

**Patience.** After `PATIENCE_PACKETS` more packets of the connection, what was acknowledged and is still missing is
given up: holes become gaps. Nothing waits past the end.

**Resets.** RST is noted where its sequence number fits (RFC 5961, section 3.2: the next expected byte, or one in a
possible window). Otherwise it is counted as stray. It ends nothing: a receiver drops one with a wrong timestamp or
checksum, and attackers forge them to blind a listener. Nothing follows a real one.
"""

from bisect import bisect_right, insort
from collections import deque
from dataclasses import dataclass
from enum import IntEnum, IntFlag
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


class DirectionAssembler:
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


# Receive queues are drained in batches of up to 64 packets over all connections (NAPI_POLL_WEIGHT), so packets of one
# connection are late by a few.
PATIENCE_PACKETS: Final = 16


class Direction(IntEnum):
    """Of bytes: what the first end sent, and what the second did."""

    FORWARD = 0
    BACKWARD = 1


class TcpFlag(IntFlag):
    """RFC 9293, section 3.1."""

    FIN = 1
    SYN = 2
    RST = 4
    PSH = 8
    ACK = 16


_FIN, _SYN, _RST, _ACK = int(TcpFlag.FIN), int(TcpFlag.SYN), int(TcpFlag.RST), int(TcpFlag.ACK)
_NO_HOLE: Final = (-1, 0)


class TcpPacket(msgspec.Struct, frozen=True, gc=False):
    """What a connection needs of one packet."""

    sequence: int
    acknowledgement: int
    flags: int
    data: bytes
    time_ns: int
    length: int = -1  # Of the payload as sent, where the capture cut it; else that of `data`.


DirectedPiece = tuple[Direction, Piece]


class TcpConnection:
    """Mutable state of one connection."""

    __slots__ = (
        "_acknowledged",
        "_held",
        "_holes",
        "_told",
        "is_joined_midstream",
        "last_ns",
        "packets",
        "streams",
    )

    def __init__(self) -> None:
        self.streams = (DirectionAssembler(), DirectionAssembler())
        # By direction: pieces that wait for the other direction, with the number of the packet that brought them; the
        # position told so far; what the other end acknowledged; the hole that was acknowledged and since which packet.
        self._held: tuple[deque[tuple[Piece, int]], deque[tuple[Piece, int]]] = (deque(), deque())
        self._told = [0, 0]
        self._acknowledged = [UNKNOWN_POSITION, UNKNOWN_POSITION]
        self._holes = [_NO_HOLE, _NO_HOLE]
        self.is_joined_midstream = False
        self.packets = 0
        self.last_ns = 0

    @property
    def is_closed(self) -> bool:
        """Both ends said all they had, and it was told."""
        return all(stream.is_ended for stream in self.streams) and not any(self._held)

    def take(self, direction: Direction, packet: TcpPacket) -> list[DirectedPiece]:
        """What this packet brings in order, of either direction."""
        self.packets += 1
        self.last_ns = packet.time_ns
        own, other = self.streams[direction], self.streams[1 - direction]
        flags, sequence = packet.flags, packet.sequence
        if flags & _SYN:
            own.start(sequence)
            sequence = (sequence + 1) % _MODULUS
        elif self.packets == 1:
            self.is_joined_midstream = True
        if flags & _RST:
            return []  # It may be forged; what comes after it is read like anything else.
        acknowledged = UNKNOWN_POSITION
        if flags & _ACK:
            if not other.is_started:
                # Its SYN was missed, or the capture joined later: what comes next of it starts here.
                other.start((packet.acknowledgement - 1) % _MODULUS)
            acknowledged = other.find_position(packet.acknowledgement)
            if acknowledged > self._acknowledged[1 - direction]:
                self._acknowledged[1 - direction] = acknowledged
        if packet.data:
            segment = Segment(sequence, packet.data, packet.time_ns, acknowledged)
            self._hold(direction, own.add(segment))
        if flags & _FIN:
            length = packet.length if packet.length >= 0 else len(packet.data)
            own.end((sequence + length) % _MODULUS)
        for each in Direction:
            if self.streams[each].waiting_bytes:
                self._watch_hole(each)
        return self._tell() if self._held[0] or self._held[1] else []

    def finish(self) -> list[DirectedPiece]:
        """Nothing more comes of this connection."""
        for direction in Direction:
            self._hold(direction, self.streams[direction].finish())
        out: list[DirectedPiece] = []
        while self._held[0] or self._held[1]:
            out += self._tell()
            waiting = [(self._held[each][0][1], each) for each in Direction if self._held[each]]
            if waiting:
                out.append(self._pop(min(waiting)[1]))
        return out

    def _hold(self, direction: Direction, pieces: list[Piece]) -> None:
        self._held[direction].extend((piece, self.packets) for piece in pieces)

    def _watch_hole(self, direction: Direction) -> None:
        """Gives up a hole that was acknowledged some packets ago."""
        stream, acknowledged = self.streams[direction], self._acknowledged[direction]
        position, since = self._holes[direction]
        if not stream.is_hole_acknowledged(acknowledged):
            self._holes[direction] = _NO_HOLE
        elif position != stream.position:
            self._holes[direction] = (stream.position, self.packets)
        elif self.packets - since >= PATIENCE_PACKETS:
            self._hold(direction, stream.acknowledge(acknowledged))
            self._holes[direction] = _NO_HOLE

    def _tell(self) -> list[DirectedPiece]:
        """Pieces whose senders had received no more than was told of the other direction, or who waited too long."""
        out: list[DirectedPiece] = []
        is_moving = True
        while is_moving:
            is_moving = False
            for direction in Direction:
                held = self._held[direction]
                while held and self._is_due(direction, *held[0]):
                    out.append(self._pop(direction))
                    is_moving = True
        return out

    def _is_due(self, direction: Direction, piece: Piece, number: int) -> bool:
        if not isinstance(piece, Chunk):
            return True
        other = self.streams[1 - direction]
        # FIN is acknowledged as if it were a byte.
        reached = self._told[1 - direction] + other.is_ended
        return piece.acknowledged <= reached or self.packets - number >= PATIENCE_PACKETS

    def _pop(self, direction: Direction) -> DirectedPiece:
        piece, _ = self._held[direction].popleft()
        self._told[direction] = piece.position + (len(piece.data) if isinstance(piece, Chunk) else piece.length)
        return direction, piece
