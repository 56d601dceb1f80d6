"""The log in files of `data_dir`, for one collector.

Its directory holds numbered segments (collector/log/segment.py), one cursor a reader, `id` and `sequences.json`. The
last is the ledger of batches seen (collector/log/ledger.py), as of the start of the newest segment, and the number of
its first batch. At a start, the segments after that are scanned to update both. `FileLog` blocks and is used by one
thread at a time.
"""

import contextlib
import os
import secrets
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import RawIOBase
from pathlib import Path
from typing import Any

from apidae.v1 import data_pb2
from google.protobuf.message import DecodeError

from collector.core.limits import Limit
from collector.log.base import READERS, STORE, Append, LogFullError, Position
from collector.log.file_reader import FileLogReader, load_cursor, locate_cursor
from collector.log.ledger import SequenceLedger
from collector.log.segment import decode_frames, encode_frame, find_segments, locate_segment
from common.durable import check_seal, read_json, seal, sync_directory, write_durably

SEQUENCES_FILE = "sequences.json"
FORMAT = 2  # Of the segments; those before had no magic word.
SEGMENT_BYTES = 16 * 1024 * 1024
# Room for a store outage: about half an hour of 100 nodes at 1,000 rows each 10 s, of 100 to 143 bytes.
LOG_LIMIT_BYTES = 2 * 1024 * 1024 * 1024


class FileLog:
    """Writer and owner of the directory."""

    def __init__(
        self,
        directory: Path,
        *,
        readers: Sequence[str] = READERS,
        segment_bytes: int = SEGMENT_BYTES,
        limit_bytes: int = LOG_LIMIT_BYTES,
        find_shortage: Callable[[], str] = lambda: "",
        sync: Callable[[int], None] = os.fsync,
    ) -> None:
        """Open or create.

        A segment is deleted once all `readers` have passed it. While `find_shortage` has a sentence, the disk is nearly
        full and nothing is written. `sync` is fsync, by file descriptor. Raises OSError when the directory cannot be
        written, ValueError when another version wrote it and it cannot be brought up to date.
        """
        self._directory = directory
        self._readers = tuple(readers)
        self._segment_bytes = segment_bytes
        self._limit_bytes = limit_bytes
        self._find_shortage = find_shortage
        self._sync = sync
        self._file: RawIOBase | None = None
        self._lock = threading.RLock()  # Held while the files change.
        self._number = 0
        self._offset = 0
        self._next_batch = 1
        self._covered = 0  # The ledger on disk knows everything up to this segment.
        self._size_bytes = 0
        self._ledger = SequenceLedger()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.id = self._load_id()
        self._recover()
        self._begin_segment()

    @property
    def position(self) -> Position:
        """The durable end: where the next frame begins."""
        return Position(self._number, self._offset)

    @property
    def limit(self) -> Limit:
        return self._ledger.limit

    def is_known(self, node: str, boot_id: str, sequence: int) -> bool:
        return self._ledger.is_known(node, boot_id, sequence)

    def measure_bytes(self) -> int:
        return self._size_bytes

    def open_reader(self, name: str) -> FileLogReader:
        """Its end is that of this log: what is not synced yet may be gone after a power loss."""
        return FileLogReader(self._directory, name, find_end=lambda: self.position)

    def append(self, appends: Sequence[Append]) -> None:
        """Write and sync all that are not known, then remember their keys.

        After an OSError (LogFullError, disk full, I/O error) none of them is in the log.
        """
        appends = [one for one in appends if not self.is_known(one.node, one.boot_id, one.sequence)]
        with self._lock:
            if self._offset >= self._segment_bytes:
                self._begin_segment()
                self.trim()
            if self._size_bytes >= self._limit_bytes:
                self.trim()
            if self._size_bytes >= self._limit_bytes:
                raise LogFullError(
                    f"The write-ahead log holds {self._size_bytes} bytes; its limit is {self._limit_bytes}."
                )
            if shortage := self._find_shortage():
                raise LogFullError(shortage)
            buffer = self._encode(appends)
            assert self._file is not None
            try:
                _write_all(self._file, buffer)
                self._sync(self._file.fileno())
            except OSError:
                self._withdraw()
                raise
            self._offset += len(buffer)
            self._size_bytes += len(buffer)
            self._next_batch += len(appends)
            for append in appends:
                self._ledger.add(append.node, append.boot_id, append.sequence)

    @contextmanager
    def hold(self) -> Iterator[None]:
        """What arrives waits. Raises OSError."""
        with self._lock:
            if self._offset:
                self._begin_segment()
            yield

    def erase(self, old: bytes, new: bytes) -> int:
        """In all segments, damaged bytes included. Raises OSError."""
        count = 0
        with self.hold():
            for number in find_segments(self._directory):
                count += _replace_in_segment(locate_segment(self._directory, number), number, old, new)
        return count

    def await_stored(self) -> None:
        """Nothing to wait for: its one writer is of this process, which paused it."""

    def trim(self) -> int:
        """Delete the segments that are passed, and past the limit those that only lesser readers still want. Returns
        how many.
        """
        with self._lock:
            passed, stored = self._find_passed(self._readers), self._find_passed((STORE,))
            sizes = {n: locate_segment(self._directory, n).stat().st_size for n in find_segments(self._directory)}
            self._size_bytes = sum(sizes.values())
            deleted = 0
            for number, size in sizes.items():
                is_over = self._size_bytes > self._limit_bytes // 2
                if number >= self._number or not (number < passed or (is_over and number < stored)):
                    break
                locate_segment(self._directory, number).unlink()
                self._size_bytes -= size
                deleted += 1
            if deleted:
                sync_directory(self._directory)
            return deleted

    def _encode(self, appends: Sequence[Append]) -> bytes:
        buffer = bytearray()
        for number, append in enumerate(appends, self._next_batch):
            buffer += encode_frame(
                append.payload,
                number=number,
                received_unix_ns=append.received_unix_ns,
                position=Position(self._number, self._offset + len(buffer)),
            )
        return bytes(buffer)

    def close(self) -> None:
        """Close the segment; everything acknowledged is on disk already."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _find_passed(self, readers: Sequence[str]) -> int:
        """The lowest segment that one of the readers still stands in; 0 where one has not begun."""
        cursors = [load_cursor(self._directory, name) for name in readers]
        return min((cursor.position.segment if cursor else 0 for cursor in cursors), default=0)

    def _load_id(self) -> str:
        path = self._directory / "id"
        if not path.exists():
            write_durably(path, secrets.token_hex(8).encode())
        return path.read_text()

    def _begin_segment(self) -> None:
        """Close the newest segment and open the next; the ledger on disk then covers everything before it."""
        self.close()
        segments = find_segments(self._directory)
        self._number = max(segments[-1] if segments else 0, self._covered) + 1
        state = {
            "format": FORMAT,
            "before_segment": self._number,
            "next_batch": self._next_batch,
            "pairs": self._ledger.dump(),
        }
        write_durably(self._directory / SEQUENCES_FILE, seal(state))
        self._covered = self._number - 1
        # Unbuffered: a frame is in the file or the write failed, never in between.
        self._file = locate_segment(self._directory, self._number).open("xb", buffering=0)
        self._offset = 0
        sync_directory(self._directory)

    def _recover(self) -> None:
        """Load the ledger and add what was written after it was saved."""
        path = self._directory / SEQUENCES_FILE
        damaged = ValueError(f"{path} is damaged; remove it: batches that are sent again may then count twice.")
        state_format = read_json(path, self._load_sequences, damaged)
        if state_format is not None and state_format != FORMAT:
            self._drop_old_segments()
        for number in find_segments(self._directory):
            if number > self._covered:
                self._scan(number)
            else:
                self._size_bytes += locate_segment(self._directory, number).stat().st_size

    def _load_sequences(self, state: Any) -> int:
        """Takes up the ledger; gives the format of the segments."""
        self._covered = check_seal(state)["before_segment"] - 1
        self._ledger.load(state["pairs"])
        self._next_batch = state.get("next_batch", 1)
        return int(state.get("format", 0))

    def _scan(self, number: int) -> None:
        content = locate_segment(self._directory, number).read_bytes()
        decoded = decode_frames(content, Position(number, 0), is_complete=True)
        for entry in decoded.entries:
            try:
                batch = data_pb2.Batch.FromString(entry.payload)
            except DecodeError:  # Its checksum is right, so it was written so: the store's writer will count it.
                continue
            self._ledger.add(batch.node, batch.boot_id, batch.sequence)
        self._next_batch = max(self._next_batch, decoded.next_number)
        self._size_bytes += len(content)

    def _drop_old_segments(self) -> None:
        """Segments of another format go where the store has all of them. Raises ValueError where it has not."""
        segments = find_segments(self._directory)
        ends = [Position(number, locate_segment(self._directory, number).stat().st_size) for number in segments]
        cursor = load_cursor(self._directory, STORE)
        if any(end.offset and (cursor is None or cursor.position < end) for end in ends):
            raise ValueError(
                f"The log in {self._directory} was written by an earlier build and holds batches that are not in the "
                "tables; start that build once more, stop it with SIGTERM, then start this one."
            )
        for number in segments:
            locate_segment(self._directory, number).unlink()
        for name in self._readers:
            locate_cursor(self._directory, name).unlink(missing_ok=True)
        self._covered = max([self._covered, *segments])

    def _withdraw(self) -> None:
        """Take back a write that failed half-way, and go on in a new segment, so that no position is used twice. Where
        the former fails, readers stop at the torn frame.
        """
        assert self._file is not None
        with contextlib.suppress(OSError):
            self._file.truncate(self._offset)
        self._offset = self._segment_bytes


def _replace_in_segment(path: Path, number: int, old: bytes, new: bytes) -> int:
    content = path.read_bytes()
    if old not in content:
        return 0
    count, changed = 0, bytearray(content.replace(old, new))
    for entry in decode_frames(content, Position(number, 0), is_complete=True).entries:
        if old in entry.payload:
            count += 1
            changed[entry.start.offset : entry.end.offset] = encode_frame(
                entry.payload.replace(old, new),
                number=entry.number,
                received_unix_ns=entry.received_unix_ns,
                position=entry.start,
            )
    write_durably(path, bytes(changed))
    return count


def _write_all(file: RawIOBase, buffer: bytes) -> None:
    """Write everything: a nearly full disk takes a part and refuses the rest at the next call. Raises OSError."""
    rest = memoryview(buffer)
    while rest:
        rest = rest[file.write(rest) or 0 :]
