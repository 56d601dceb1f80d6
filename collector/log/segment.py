"""The files of the log: numbered segments of framed batches, and positions in them.

A frame is a head and a payload. The head has six little-endian fields: magic 4s, length u32, number u64, received unix
ns u64, CRC-32 of the payload u32, CRC-32 of the head u32. The head's checksum covers the frame's position too, so bytes
of another file or place are not a frame. Numbers rise by one over the whole log, so a gap shows how many batches are
missing.

Damaged bytes cost the frames that they are in. A right head's length leads to the next frame. Otherwise the next head
is searched by its magic word. A crash can leave the last frame of a segment incomplete (a torn tail). The writer begins
a new segment at each start, so nothing follows a torn tail in its file.
"""

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

from collector.log.base import Entry, Position

MAGIC = b"\xa9API"
_FIELDS = struct.Struct("<4sIQQI")
_CHECKSUM = struct.Struct("<I")
_PLACE = struct.Struct("<QQ")
HEAD_BYTES = _FIELDS.size + _CHECKSUM.size
SUFFIX = ".wal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """Bytes that are no frame, from `start` to `end` of one segment."""

    start: Position
    end: Position

    @property
    def bytes(self) -> int:
        return self.end.offset - self.start.offset


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodedFrames:
    """What a stretch of a segment holds, in its order; `end`: how far that is known."""

    parts: tuple[Entry | Damage, ...]
    end: Position

    @property
    def entries(self) -> list[Entry]:
        return [part for part in self.parts if isinstance(part, Entry)]

    @property
    def next_number(self) -> int:
        """Of the batch after these, as if each damaged stretch had held one; 0 where there is no batch."""
        for damaged, part in enumerate(reversed(self.parts)):
            if isinstance(part, Entry):
                return part.number + 1 + damaged
        return 0


@dataclass(frozen=True, slots=True)
class _Head:
    length: int
    number: int
    received_unix_ns: int
    checksum: int


def encode_frame(payload: bytes, *, number: int, received_unix_ns: int, position: Position) -> bytes:
    head = _FIELDS.pack(MAGIC, len(payload), number, received_unix_ns, zlib.crc32(payload))
    return head + _CHECKSUM.pack(_sum_head(head, position)) + payload


def decode_frames(buffer: bytes, start: Position, *, is_complete: bool) -> DecodedFrames:
    """Frames and damage of `buffer`, which begins at `start`, as far as they are known.

    `is_complete`: the buffer ends where the segment does, and nobody writes that any more. Then what follows the last
    frame is damage, unless a crash can have left it: a frame whose end is missing, or zeros.
    """
    parts: list[Entry | Damage] = []
    at = 0
    while len(buffer) - at >= HEAD_BYTES:
        position = Position(start.segment, start.offset + at)
        head = _read_head(buffer, at, position)
        if head is None:
            end = _find_head(buffer, at + 1, start)
            if end < 0:
                break
        else:
            end = at + HEAD_BYTES + head.length
            if end > len(buffer):
                break
        parts.append(_build_part(buffer, at, end, head, start))
        at = end
    if is_complete and at < len(buffer) and not _is_torn(buffer, at, start):
        parts.append(_build_part(buffer, at, len(buffer), None, start))
        at = len(buffer)
    return DecodedFrames(parts=tuple(parts), end=Position(start.segment, start.offset + at))


def measure_frame(buffer: bytes, start: Position) -> int:
    """Bytes of the frame that `buffer` begins with; 0 where that is no head of one."""
    head = _read_head(buffer, 0, start) if len(buffer) >= HEAD_BYTES else None
    return HEAD_BYTES + head.length if head is not None else 0


def find_segments(directory: Path) -> list[int]:
    return sorted(int(path.stem) for path in directory.glob(f"*{SUFFIX}"))


def locate_segment(directory: Path, number: int) -> Path:
    return directory / f"{number:016d}{SUFFIX}"


def _read_head(buffer: bytes, at: int, position: Position) -> _Head | None:
    """The head at `at`; None where its bytes are not those that were written."""
    magic, length, number, received_unix_ns, checksum = _FIELDS.unpack_from(buffer, at)
    (own,) = _CHECKSUM.unpack_from(buffer, at + _FIELDS.size)
    if magic != MAGIC or own != _sum_head(buffer[at : at + _FIELDS.size], position):
        return None
    return _Head(length, number, received_unix_ns, checksum)


def _find_head(buffer: bytes, at: int, start: Position) -> int:
    """Where the next right head begins, `at` or later; -1 where none does."""
    while (at := buffer.find(MAGIC, at)) >= 0 and len(buffer) - at >= HEAD_BYTES:
        if _read_head(buffer, at, Position(start.segment, start.offset + at)) is not None:
            return at
        at += 1
    return -1


def _build_part(buffer: bytes, at: int, end: int, head: _Head | None, start: Position) -> Entry | Damage:
    first, last = (Position(start.segment, start.offset + offset) for offset in (at, end))
    payload = buffer[at + HEAD_BYTES : end]
    if head is None or zlib.crc32(payload) != head.checksum:
        return Damage(start=first, end=last)
    return Entry(start=first, end=last, number=head.number, received_unix_ns=head.received_unix_ns, payload=payload)


def _is_torn(buffer: bytes, at: int, start: Position) -> bool:
    """Whether a crash while the last frames were written can have left what is behind `at`."""
    if len(buffer) - at < HEAD_BYTES or _read_head(buffer, at, Position(start.segment, start.offset + at)) is not None:
        return True
    return not buffer[at:].strip(b"\0")


def _sum_head(head: bytes, position: Position) -> int:
    return zlib.crc32(head, zlib.crc32(_PLACE.pack(position.segment, position.offset)))
