"""Both directions of a TCP connection: packets in, `(Direction, Chunk | Gap)` out, and how the connection stands.

Sans-io. Which end is the client follows from SYN; where the capture joined in the middle the sender of the first packet
is taken for it until `sensor.replay` knows better from what is said.

RST ends a connection only where its sequence number fits (RFC 5961, section 3.2: exactly the next expected byte, or one
that a window may hold); a stray one is counted.
"""

from enum import IntEnum, IntFlag
from typing import Final

import msgspec

from sensor.reassembly.stream import MAX_WINDOW_BYTES, UNKNOWN_POSITION, Piece, Segment, StreamAssembler


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


class TcpPacket(msgspec.Struct, frozen=True, gc=False):
    """What a connection needs of one packet."""

    sequence: int
    acknowledgement: int
    flags: int
    data: bytes
    time_ns: int


DirectedPiece = tuple[Direction, Piece]


class Connection:
    """Mutable state of one connection."""

    __slots__ = ("first_ns", "is_joined_midstream", "is_reset", "last_ns", "packets", "stray_resets", "streams")

    def __init__(self) -> None:
        self.streams = (StreamAssembler(), StreamAssembler())
        self.is_joined_midstream = False
        self.is_reset = False
        self.stray_resets = 0
        self.packets = 0
        self.first_ns = 0
        self.last_ns = 0

    @property
    def is_closed(self) -> bool:
        """Reset, or both ends said all they had."""
        return self.is_reset or all(stream.is_ended for stream in self.streams)

    def take(self, direction: Direction, packet: TcpPacket) -> list[DirectedPiece]:
        """What this packet brings in order, of either direction (an acknowledgement tells gaps of the other)."""
        if not self.packets:
            self.first_ns = packet.time_ns
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
            return self._reset(own, sequence)
        pieces: list[DirectedPiece] = []
        acknowledged = UNKNOWN_POSITION
        if flags & _ACK:
            acknowledged = other.find_position(packet.acknowledgement)
            if other.waiting_bytes:
                reverse = Direction(1 - direction)
                pieces += [(reverse, piece) for piece in other.acknowledge(acknowledged)]
        if packet.data:
            segment = Segment(sequence, packet.data, packet.time_ns, acknowledged)
            pieces += [(direction, piece) for piece in own.add(segment)]
        if flags & _FIN:
            own.end((sequence + len(packet.data)) % _MODULUS)
        return pieces

    def finish(self) -> list[DirectedPiece]:
        """Nothing more comes of this connection."""
        return [(direction, piece) for direction in Direction for piece in self.streams[direction].finish()]

    def _reset(self, own: StreamAssembler, sequence: int) -> list[DirectedPiece]:
        position = own.find_position(sequence)
        # A sender that was never seen, or that sends RST in answer to nothing, has no position to compare.
        if position == UNKNOWN_POSITION or 0 <= position - own.position <= MAX_WINDOW_BYTES:
            self.is_reset = True
        else:
            self.stray_resets += 1
        return []
