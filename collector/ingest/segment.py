"""The write-ahead log's files: numbered segments of framed batches, and positions in them.

A frame is `<length u32, crc32 u32, received unix ns u64>` and the payload; the checksum covers the time and the
payload. A crash can leave the last frame of a segment incomplete (a torn tail): whoever reads stops there, and the
writer begins a new segment at each start, so nothing ever follows a torn tail in its file.
"""

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

HEADER = struct.Struct("<IIQ")
_TIME = struct.Struct("<Q")
SUFFIX = ".wal"
# The wire's message limit and a little: a longer length can only be damage.
FRAME_LIMIT_BYTES = 20 * 1024 * 1024


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place between two frames: the segment's number and the byte offset in it."""

    segment: int
    offset: int

    def __str__(self) -> str:
        return f"{self.segment}:{self.offset}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One batch as it came: `end` is the position after it. `payload` is a serialised Batch."""

    start: Position
    end: Position
    received_unix_ns: int
    payload: bytes


def encode_frame(payload: bytes, received_unix_ns: int) -> bytes:
    """Header and payload of one frame."""
    checksum = zlib.crc32(payload, zlib.crc32(_TIME.pack(received_unix_ns)))
    return HEADER.pack(len(payload), checksum, received_unix_ns) + payload


def decode_frames(buffer: bytes, segment: int, offset: int) -> tuple[list[Entry], bool]:
    """Whole frames of `buffer`, which begins at `offset` of `segment`, and whether damage (not mere incompleteness)
    ended them.
    """
    entries: list[Entry] = []
    at = 0
    while at + HEADER.size <= len(buffer):
        length, checksum, received = HEADER.unpack_from(buffer, at)
        if length > FRAME_LIMIT_BYTES:
            return entries, True
        end = at + HEADER.size + length
        if end > len(buffer):
            break
        payload = buffer[at + HEADER.size : end]
        if zlib.crc32(payload, zlib.crc32(_TIME.pack(received))) != checksum:
            return entries, True
        entries.append(
            Entry(
                start=Position(segment, offset + at),
                end=Position(segment, offset + end),
                received_unix_ns=received,
                payload=payload,
            )
        )
        at = end
    return entries, False


def find_segments(directory: Path) -> list[int]:
    """Numbers of the segments present, ascending."""
    return sorted(int(path.stem) for path in directory.glob(f"*{SUFFIX}"))


def locate_segment(directory: Path, number: int) -> Path:
    """Path of a segment."""
    return directory / f"{number:016d}{SUFFIX}"
