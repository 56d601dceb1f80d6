"""Both directions of a TCP connection: packets in, `(Direction, Chunk | Gap)` out in an order that could have happened.

Sans-io. Which end is the client follows from SYN; where the capture joined in the middle the sender of the first packet
is taken for it until `sensor.replay` knows better from what is said.

**Order.** Captures of several queues or interfaces put packets of the two directions out of order: an answer before its
question. A packet says what its sender had received (its acknowledgement number), so its bytes wait until the other
direction has come so far. Whoever reads both directions then sees questions before answers.

**Patience.** What was acknowledged and is not here was missed by the capture, or comes late. After `PATIENCE_PACKETS`
more packets of the connection it is given up: holes become gaps and what waited is told. Nothing waits past the end.

**Resets.** RST is noted where its sequence number fits (RFC 5961, section 3.2: the next expected byte, or one that a
window may hold) and counted as stray else. It ends nothing: a receiver drops one whose timestamp or checksum is wrong,
and forged ones are sent to blind who listens. A real one is followed by nothing.
"""

from collections import deque
from enum import IntEnum, IntFlag
from typing import Final

import msgspec

from sensor.reassembly.stream import UNKNOWN_POSITION, Chunk, Piece, Segment, StreamAssembler

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
_MODULUS: Final = 1 << 32
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


class Connection:
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
        self.streams = (StreamAssembler(), StreamAssembler())
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
