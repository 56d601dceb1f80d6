"""Keeps batches on disk until the collector has acknowledged them: a bounded ring of segment files that survives the
process.

A segment is a file `SEGMENT-NUMBER.seg` of records, each `header | payload`. The header holds:

- the payload's length and a CRC-32 of all that follows it
- the kind: a batch, or the mark of an acknowledged one
- the boot id of the sensor process that made the batch, its sequence, its time and its calls

Records are only appended. A segment is deleted when it is the oldest and everything in it is acknowledged. When the
ring is full, the oldest segment is deleted, and what it still held is dropped and counted. A new process never writes
into an older segment, and sends the old batches first, in order.

**What survives what.** A record is one `write`, so it survives the sensor's death (kill -9 included). `fsync` happens
when a segment is full and at `close`. So a power cut may lose the last seconds of batches, as it loses the last seconds
of traffic. An fsync per batch would cost the disk more than the sensor costs the processor.

A torn tail (a record cut by a crash, or rotten bytes) ends its segment at the last whole record. The bytes after it are
counted. A disk that refuses a record (full, read-only) does not stop the stream. The batch stays in memory, bounded,
and is dropped and counted only when that is full too.
"""

import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from struct import Struct
from typing import Final
from uuid import UUID

from common.durable import read_whole
from common.figures import total
from sensor.core.health import StageCount, StageCounter

DEFAULT_SPOOL_BYTES: Final = 64 * 1024 * 1024
# The ring drops a segment at a time: a sixteenth of it.
SEGMENTS_COUNT: Final = 16
# Larger than any batch the converter makes; a longer length in a header is rot.
PAYLOAD_BYTES_LIMIT: Final = 16 * 1024 * 1024
MEMORY_BYTES_LIMIT: Final = 8 * 1024 * 1024
_SUFFIX: Final = ".seg"
# What became of a batch; other outcomes are the reasons of the account.
ACKNOWLEDGED: Final = "acknowledged"

# Length of the payload, CRC-32 of everything after itself; then kind, boot id, sequence, unix time in ns, calls.
_PREFIX: Final = Struct("<II")
_HEADER: Final = Struct("<B16sQQQ")
RECORD_OVERHEAD_BYTES: Final = _PREFIX.size + _HEADER.size


class _Kind(IntEnum):
    BATCH = 1
    TOMBSTONE = 2


class SpoolError(Exception):
    """The spool's directory cannot be used; the message names it and says what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchKey:
    """What the collector's acknowledgement names (the node is the stream's)."""

    boot_id: str  # 32 hexadecimal digits.
    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SpoolEntry:
    """One batch that waits; `ordinal` is its place in the order of sending."""

    ordinal: int
    key: BatchKey
    time_unix_ns: int
    calls: int
    payload_bytes: int


@dataclass(slots=True, kw_only=True)
class _Segment:
    path: Path
    size_bytes: int = 0
    live: set[int] = field(default_factory=set)  # Ordinals.


@dataclass(slots=True, kw_only=True)
class _Place:
    """Where an entry's payload is: in a segment, or in memory because the disk did not take it."""

    entry: SpoolEntry
    segment: _Segment | None
    offset: int
    payload: bytes | None


@dataclass(slots=True)
class SpoolCounts:
    """What the disk did to the spool."""

    torn_bytes: int = total("Bytes of spooled batches that could not be read at the start.")
    disk_errors: int = total("Writes of the spool that the disk refused; the batches are kept in memory.")


class Spool:
    """The ring. One owner, one thread; the sensor's lock keeps a second process out of the directory."""

    def __init__(self, directory: Path, *, boot_id: str, limit_bytes: int = DEFAULT_SPOOL_BYTES) -> None:
        """Open the directory and read what an earlier process left. Raises `SpoolError` where it cannot be used."""
        self._directory = directory
        self._boot_id = boot_id
        self._limit_bytes = limit_bytes
        self._segment_bytes = max(1, limit_bytes // SEGMENTS_COUNT)
        self._segments: list[_Segment] = []
        self._places: dict[int, _Place] = {}  # By ordinal, ascending.
        self._ordinals: dict[BatchKey, int] = {}
        self._next_ordinal = 1
        self._next_segment = 1
        self._waiting_bytes = 0
        self._memory_bytes = 0
        self._file: int | None = None
        self._counter = StageCounter("spool")
        self._is_loading = True
        self.counts = SpoolCounts()
        # Gets each batch that is kept no longer, and why; None: nobody asks.
        self.on_settled: Callable[[BatchKey, str], None] | None = None
        self._open_directory()
        self._is_loading = False

    def append(self, *, sequence: int, payload: bytes, calls: int, now_unix_ns: int) -> SpoolEntry | None:
        """Keep a batch of this process; None (counted) where neither the disk nor memory takes it. The oldest go when
        the ring is full."""
        self._counter.see(calls)
        key = BatchKey(boot_id=self._boot_id, sequence=sequence)
        record = _encode(_Kind.BATCH, key, now_unix_ns, calls, payload)
        segment = self._write(record)
        if segment is None and self._memory_bytes + len(payload) > MEMORY_BYTES_LIMIT:
            self._drop(key, "disk_error", calls)
            return None
        entry = SpoolEntry(
            ordinal=self._next_ordinal, key=key, time_unix_ns=now_unix_ns, calls=calls, payload_bytes=len(payload)
        )
        if segment is None:
            self._memory_bytes += len(payload)
            self._place(entry, segment=None, offset=0, payload=payload)
        else:
            self._place(entry, segment=segment, offset=segment.size_bytes - len(payload), payload=None)
        self._drop_oldest()
        return entry if entry.ordinal in self._places else None

    def read(self, ordinal: int) -> bytes | None:
        """Payload of a waiting batch; None where it was acknowledged or dropped meanwhile, or cannot be read (then
        dropped, counted)."""
        place = self._places.get(ordinal)
        if place is None:
            return None
        if place.segment is None:
            return place.payload
        try:
            with place.segment.path.open("rb") as file:
                file.seek(place.offset)
                payload = file.read(place.entry.payload_bytes)
        except OSError:
            payload = b""
        if len(payload) != place.entry.payload_bytes:
            self._forget(ordinal)
            self._drop(place.entry.key, "unreadable", place.entry.calls)
            return None
        return payload

    def acknowledge(self, key: BatchKey) -> bool:
        """Forget a batch that the collector has; False where it is not here (acknowledged twice, or dropped
        meanwhile)."""
        place = self._remove(key)
        if place is None:
            return False
        self._counter.use(place.entry.calls)
        if self.on_settled is not None:
            self.on_settled(key, ACKNOWLEDGED)
        self._drop_done()
        return True

    def refuse(self, key: BatchKey) -> bool:
        """Drop a batch that the collector never takes, counted as `refused`; False where it is not here."""
        place = self._remove(key)
        if place is None:
            return False
        self._drop(key, "refused", place.entry.calls)
        self._drop_done()
        return True

    def find(self, key: BatchKey) -> SpoolEntry | None:
        ordinal = self._ordinals.get(key)
        return None if ordinal is None else self._places[ordinal].entry

    def waiting(self) -> list[SpoolEntry]:
        """All that wait, oldest first; those of earlier processes before this one's."""
        return [place.entry for place in self._places.values()]

    @property
    def waiting_bytes(self) -> int:
        return self._waiting_bytes

    @property
    def disk_bytes(self) -> int:
        return sum(segment.size_bytes for segment in self._segments)

    @property
    def oldest_unix_ns(self) -> int | None:
        for place in self._places.values():
            return place.entry.time_unix_ns
        return None

    def count(self) -> StageCount:
        """Calls acknowledged and calls lost here; those that wait are in neither."""
        return self._counter.count()

    def close(self) -> None:
        """Write through to the disk; what waits stays there for the next process."""
        self._finish_segment()
        self._drop_done()

    # Reading what is there

    def _open_directory(self) -> None:
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            paths = sorted(self._directory.glob(f"*{_SUFFIX}"))
            for path in paths:
                self._load_segment(path)
        except OSError as error:
            raise SpoolError(
                f"the spool directory {self._directory} cannot be used ({error.strerror or error}); "
                f"make it writable for this user or choose another with --state-dir"
            ) from error
        self._counter.see(sum(place.entry.calls for place in self._places.values()))
        self._drop_done()
        self._drop_oldest()

    def _load_segment(self, path: Path) -> None:
        content = read_whole(path)
        segment = _Segment(path=path, size_bytes=len(content))
        self._segments.append(segment)
        stem = path.stem
        self._next_segment = max(self._next_segment, int(stem) + 1 if stem.isdigit() else 0)
        end = 0
        for record in _decode(content):
            end = record.end
            if record.kind == _Kind.TOMBSTONE:
                self._remove(record.key)
            elif record.key not in self._ordinals:
                entry = SpoolEntry(
                    ordinal=self._next_ordinal,
                    key=record.key,
                    time_unix_ns=record.time_unix_ns,
                    calls=record.calls,
                    payload_bytes=record.end - record.payload_offset,
                )
                self._place(entry, segment=segment, offset=record.payload_offset, payload=None)
        self.counts.torn_bytes += len(content) - end

    # Writing

    def _write(self, record: bytes) -> _Segment | None:
        """The segment that took the record, or None where the disk did not."""
        try:
            if self._file is None or self._segments[-1].size_bytes + len(record) > self._segment_bytes:
                self._begin_segment()
            assert self._file is not None
            segment = self._segments[-1]
            written = os.write(self._file, record)
            if written != len(record):
                # What is there of it would end the segment for a reader.
                os.ftruncate(self._file, segment.size_bytes)
                raise OSError(f"{written} of {len(record)} bytes written")
        except OSError:
            self.counts.disk_errors += 1
            return None
        segment.size_bytes += len(record)
        return segment

    def _begin_segment(self) -> None:
        self._finish_segment()
        path = self._directory / f"{self._next_segment:012d}{_SUFFIX}"
        self._next_segment += 1
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)
        self._segments.append(_Segment(path=path))

    def _finish_segment(self) -> None:
        if self._file is None:
            return
        try:
            os.fsync(self._file)
        except OSError:
            self.counts.disk_errors += 1
        os.close(self._file)
        self._file = None

    # Keeping account

    def _drop(self, key: BatchKey, reason: str, calls: int) -> None:
        self._counter.drop(reason, calls)
        if self.on_settled is not None:
            self.on_settled(key, reason)

    def _place(self, entry: SpoolEntry, *, segment: _Segment | None, offset: int, payload: bytes | None) -> None:
        self._next_ordinal = entry.ordinal + 1
        self._places[entry.ordinal] = _Place(entry=entry, segment=segment, offset=offset, payload=payload)
        self._ordinals[entry.key] = entry.ordinal
        self._waiting_bytes += entry.payload_bytes
        if segment is not None:
            segment.live.add(entry.ordinal)

    def _remove(self, key: BatchKey) -> _Place | None:
        ordinal = self._ordinals.get(key)
        if ordinal is None:
            return None
        place = self._forget(ordinal)
        if place.segment is not None and not self._is_loading:
            self._write(_encode(_Kind.TOMBSTONE, key, 0, 0, b""))
        return place

    def _forget(self, ordinal: int) -> _Place:
        place = self._places.pop(ordinal)
        del self._ordinals[place.entry.key]
        self._waiting_bytes -= place.entry.payload_bytes
        if place.segment is None:
            self._memory_bytes -= place.entry.payload_bytes
        else:
            place.segment.live.discard(ordinal)
        return place

    def _drop_done(self) -> None:
        """Delete the oldest segments while nothing in them waits. In order, so that a tombstone never goes before its
        batch."""
        while self._segments and not self._segments[0].live and not self._is_written_to(self._segments[0]):
            self._delete(self._segments[0])

    def _drop_oldest(self) -> None:
        """Delete the oldest segments while the ring is over its limit; what waited in them is lost and counted."""
        while self.disk_bytes > self._limit_bytes and len(self._segments) > 1:
            segment = self._segments[0]
            for ordinal in sorted(segment.live):
                entry = self._forget(ordinal).entry
                self._drop(entry.key, "spool_full", entry.calls)
            self._delete(segment)

    def _delete(self, segment: _Segment) -> None:
        self._segments.remove(segment)
        try:
            segment.path.unlink(missing_ok=True)
        except OSError:
            self.counts.disk_errors += 1

    def _is_written_to(self, segment: _Segment) -> bool:
        return self._file is not None and segment is self._segments[-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Record:
    kind: int
    key: BatchKey
    time_unix_ns: int
    calls: int
    payload_offset: int
    end: int


def _encode(kind: _Kind, key: BatchKey, time_unix_ns: int, calls: int, payload: bytes) -> bytes:
    body = _HEADER.pack(kind, UUID(key.boot_id).bytes, key.sequence, time_unix_ns, calls) + payload
    return _PREFIX.pack(len(payload), zlib.crc32(body)) + body


def _decode(content: bytes) -> Iterator[_Record]:
    """Whole records from the start; ends at the first that is cut or does not match its checksum."""
    offset = 0
    while offset + RECORD_OVERHEAD_BYTES <= len(content):
        length, checksum = _PREFIX.unpack_from(content, offset)
        body = offset + _PREFIX.size
        end = body + _HEADER.size + length
        if length > PAYLOAD_BYTES_LIMIT or end > len(content) or zlib.crc32(content[body:end]) != checksum:
            return
        kind, boot_id, sequence, time_unix_ns, calls = _HEADER.unpack_from(content, body)
        yield _Record(
            kind=kind,
            key=BatchKey(boot_id=UUID(bytes=boot_id).hex, sequence=sequence),
            time_unix_ns=time_unix_ns,
            calls=calls,
            payload_offset=body + _HEADER.size,
            end=end,
        )
        offset = end
