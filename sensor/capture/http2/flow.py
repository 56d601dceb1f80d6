"""One direction of HTTP/2 as the kernel reports it: frame events and plain bytes in, pieces in stream order out.

`struct frames_event` (bpf/events.h) defines an event. Its sequence numbers are TCP's and wrap. Here they become
positions.

Frames that the kernel followed are in order among themselves. Around what it could not follow, frames and plain bytes
go through `PieceOrder`, which waits for holes. Where only frames came, a hole is what the ring had no room for, so
nothing waits for it.

`PieceOrder` puts frames and plain bytes, in any order and with holes, back in the order of the stream. The kernel
copies whole frames where it can walk them. It copies plain bytes around a hole, out of order, or from a second
processor. What comes early waits for the holes before it. A hole becomes a `Gap` when it has waited too long, or when
too much waits behind it. DATA that was not copied is not a hole, because the kernel reports it as frames without
payload. `sensor.http.reassembly` does the same for packets, by sequence numbers.
"""

import struct
from bisect import insort
from typing import Final

import msgspec

from sensor.core.addresses import name_address
from sensor.core.calls import Ends, Role
from sensor.http.http2.frames import HEADER_BYTES, PASSED_OVER, Frame, FrameFlag, FrameKind
from sensor.http.reassembly import Chunk, Direction, Gap

Piece = Chunk | Gap | Frame

# As FRAME_UNCOPIED, FRAME_MESSAGE and FRAME_DATA_COPIED in bpf/events.h.
UNCOPIED: Final = 0x80
MESSAGE: Final = 0x20
DATA_COPIED: Final = 0x40
_FIRST_POSITION: Final = 1 << 32  # What came before the first event may still come.
_HEADER: Final = struct.Struct(">HBBBI").unpack_from  # Of a frame: its length in two parts, kind, flags, stream.
_STREAM: Final = (1 << 31) - 1
_DATA: Final = int(FrameKind.DATA)
_PADDED: Final = int(FrameFlag.PADDED)
_KIND: Final = 3  # Place in a frame's header.

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

    def add_piece(self, piece: Chunk | Frame) -> list[Chunk | Gap | Frame]:
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


class FrameFlow:
    """Mutable state of one direction."""

    __slots__ = ("_held", "_is_plain", "_is_split", "_order", "end", "lost_bytes")

    def __init__(self) -> None:
        self._order: PieceOrder | None = None  # Where plain bytes came.
        self.end: int | None = None  # Position behind the last frames.
        self._held = b""  # Of a frame that goes on in the next event; the last bytes before `end`.
        self._is_split = False  # The frame in hand was begun as plain bytes.
        self._is_plain = False  # Plain bytes came since the last frames.
        self.lost_bytes = 0  # That the ring had no room for.

    @property
    def is_waiting(self) -> bool:
        """Whether something waits for a hole to be filled."""
        return self._order is not None and (bool(self._order.holes) or self._is_behind)

    @property
    def _is_ahead(self) -> bool:
        """Whether plain bytes are read already behind the last frames: of a packet that another CPU copied while this
        one followed the packet before it."""
        return self._order is not None and self.end is not None and (self._order.position or 0) > self.end

    @property
    def _is_behind(self) -> bool:
        """Whether something is missing right before what is held."""
        if self._order is None or self.end is None:
            return False
        position = self._order.position
        return position is not None and position < self.end - len(self._held) and not self._order.holes

    @property
    def waiting_bytes(self) -> int:
        """What waits."""
        return len(self._held) + (self._order.waiting_bytes if self._order is not None else 0)

    @property
    def read_to(self) -> int | None:
        """The position up to which there is no hole and no frame is open; None where that is not so."""
        return None if self._held or self._order is not None else self.end

    def find_start(self, sequence: int, left: int) -> int:
        """The position of an event that is just what comes next and begins with a frame, as nearly all are; else -1."""
        end = self.end
        if end is None or left or self._held or self._order is not None or (sequence - end) & 0xFFFFFFFF:
            return -1
        return end

    def follow(self, start: int, end: int, data: bytes, time_ns: int) -> tuple[list[Frame], int]:
        """Frames of such an event, or of its rest from `start` to `end`, and the position up to which they tell."""
        self.end = end
        frames = self._cut(start, end, data, time_ns) if data else []
        return frames, end - len(self._held)

    def take_frames(self, sequence: int, covered: int, left: int, data: bytes, time_ns: int) -> list[Piece]:
        """Frames that the kernel followed."""
        start = self._find_position(sequence)
        end = start + covered
        pieces: list[Piece] = []
        rest = b""
        if self.end is not None and start != self.end:
            self._release_held(pieces)
            self._is_split = False  # The kernel goes on elsewhere.
            if start > self.end and not self._is_plain and not self._is_ahead:
                self._give_up(start, pieces)
        self._is_plain = False
        self.end = end
        if self._held:
            start -= len(self._held)
            data = self._held + data
            self._held = b""
        elif left:
            rest = data[:left]
            # Of a frame whose beginning is read plainly, or was lost.
            self._add(Chunk(start, rest, time_ns) if self._is_split else Gap(start, len(rest)), pieces)
            start += len(rest)
            data = data[len(rest) :]
        self._is_split = self._is_split and left > len(rest)
        frames = self._cut(start, end, data, time_ns)
        reached = frames[-1].position + frames[-1].wire_bytes if frames else start
        passed_over = end - len(self._held) - reached
        if passed_over > 0:
            frames.append(Frame(reached, passed_over, time_ns, PASSED_OVER, 0, 0, None, 0))
        for frame in frames:
            self._add(frame, pieces)
        if not self.is_waiting and not self._is_ahead:
            self._order = None
        return pieces

    def take_bytes(self, sequence: int, data: bytes, time_ns: int) -> list[Piece]:
        """Bytes that it did not."""
        start = self._find_position(sequence)
        pieces: list[Piece] = []
        if self._order is None:
            self._order = PieceOrder(start if self.end is None else self.end - len(self._held))
        if self.end is None:
            self.end = start
        self._release_held(pieces)
        self._is_plain = True
        self._add(Chunk(start, data, time_ns), pieces)
        return pieces

    def poll(self, now_ns: int) -> list[Piece]:
        """What has waited too long for a hole."""
        pieces: list[Piece] = []
        if self._is_behind:
            self._release_held(pieces)  # It waits from now on, as all does.
        if self._order is not None:
            pieces += self._order.poll(now_ns)
        return pieces

    def finish(self) -> list[Piece]:
        """Nothing more comes."""
        pieces: list[Piece] = []
        self._release_held(pieces)
        if self._order is not None:
            pieces += self._order.finish()
        return pieces

    def _find_position(self, sequence: int) -> int:
        if self.end is None:
            return _FIRST_POSITION + sequence
        ahead = (sequence - self.end) & 0xFFFFFFFF
        return self.end + (ahead - (1 << 32) if ahead >> 31 else ahead)

    def _add(self, piece: Piece, pieces: list[Piece]) -> None:
        if self._order is None or isinstance(piece, Gap):
            pieces.append(piece)
        else:
            pieces += self._order.add_piece(piece)

    def _release_held(self, pieces: list[Piece]) -> None:
        """Bytes came in between: those of the frame are read plainly, and so is what the kernel tells of its rest."""
        if self._held and self.end is not None:
            held = self._held
            if len(held) > _KIND and held[_KIND] == DATA_COPIED:
                held = held[:_KIND] + bytes((_DATA,)) + held[_KIND + 1 :]
            self._add(Chunk(self.end - len(held), held, 0), pieces)
            self._held = b""
            self._is_split = True

    def _give_up(self, start: int, pieces: list[Piece]) -> None:
        """The ring had no room for what lies before `start`."""
        assert self.end is not None
        self.lost_bytes += start - self.end
        if self._order is not None:
            pieces += self._order.finish()
            self._order = None
        pieces.append(Gap(self.end, start - self.end))

    def _cut(self, start: int, end: int, data: bytes, time_ns: int) -> list[Frame]:
        """Frames of `data`, which stands for the stream from `start` to `end`."""
        frames: list[Frame] = []
        at, size = 0, len(data)
        while size - at >= HEADER_BYTES:
            high, low, kind, flags, stream = _HEADER(data, at)
            length = high << 8 | low
            first = at + HEADER_BYTES
            payload: bytes | None = None
            body_bytes = 0
            is_message = kind == MESSAGE
            if kind == _DATA or is_message:
                kind, body_bytes, at = _DATA, length, first
            elif kind & UNCOPIED:
                kind &= ~UNCOPIED
                at = first
            elif first + length > size:
                break
            else:
                at = first + length
                payload = data[first:at]
            wire_bytes, stream = HEADER_BYTES + length, stream & _STREAM
            if kind == DATA_COPIED:
                frames.append(_make_sample(start, wire_bytes, time_ns, flags, stream, payload or b""))
            else:
                frames.append(Frame(start, wire_bytes, time_ns, kind, flags, stream, payload, body_bytes, is_message))
            start += wire_bytes
        self._held = data[at:]
        excess = start - end + len(self._held)
        if excess > 0 and frames:  # A frame that was cut short: its rest takes the place of its last bytes.
            last = frames[-1]
            frames[-1] = msgspec.structs.replace(last, wire_bytes=last.wire_bytes - excess)
        return frames


def _make_sample(start: int, wire_bytes: int, time_ns: int, flags: int, stream: int, payload: bytes) -> Frame:
    """DATA that was copied, without its padding (RFC 9113, section 6.1)."""
    if flags & _PADDED and payload:
        payload = payload[1 : max(len(payload) - payload[0], 1)]
    return Frame(start, wire_bytes, time_ns, _DATA, flags, stream, payload, len(payload), is_sampled=True)


class FrameConnection:
    """What is known of one beside its frames."""

    __slots__ = ("client", "ended", "ends", "events", "flows", "is_joined", "is_upgraded", "lost", "packed", "time_ns")

    def __init__(self, packed: tuple[int, ...], client: Direction | None, is_joined: bool, is_upgraded: bool) -> None:
        self.packed = packed  # Of FRAMES_EVENT, for its ends.
        self.client = client
        self.is_joined = is_joined
        self.is_upgraded = is_upgraded  # And stream 1 was counted with HTTP/1.
        self.flows = FrameFlow(), FrameFlow()
        self.ends: Ends | None = None
        self.ended = [False, False]
        self.time_ns = 0
        self.events = 0  # Of frames, since it was taught.
        self.lost = 0  # As its last event had it.

    def name_ends(self, number: int, client: Direction | None) -> Ends:
        """Textual addresses, and who of both is the server."""
        if self.ends is None:
            *_, family, local_port, remote_port, cgroup_id, peer_cgroup_id, local, remote = self.packed
            role = Role.CLIENT if client is Direction.BACKWARD else Role.SERVER
            self.ends = Ends(
                number,
                role,
                cgroup_id,
                peer_cgroup_id,
                name_address(family, local),
                local_port,
                name_address(family, remote),
                remote_port,
            )
        return self.ends
