"""One reader of the write-ahead log: takes batches in order and remembers durably how far it came.

The store's writer reads in the collector's process, the detectors in their own; each has a name and a cursor file. A
reader follows the files only, so it needs no word from the writer: it polls. Batches are read at least once; the
store makes that exactly once with the claim: a range is claimed durably, inserted under a token made of it, then
committed, so that after a crash the same range with the same token comes again (`collector/store/writer.py`).
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from collector.ingest.segment import (
    FRAME_LIMIT_BYTES,
    HEADER,
    Entry,
    Position,
    decode_frames,
    find_segments,
    locate_segment,
)

_READ_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """What a reader has finished (`position`), and the end of the range it was working on (None: none)."""

    position: Position
    claim_end: Position | None = None


def locate_cursor(directory: Path, name: str) -> Path:
    """Path of a reader's cursor file."""
    return directory / f"{name}.cursor"


def load_cursor(directory: Path, name: str) -> Cursor | None:
    """A reader's cursor; None when it has none yet."""
    try:
        fields = json.loads(locate_cursor(directory, name).read_text())
    except FileNotFoundError:
        return None
    claim = fields["claim_end"]
    return Cursor(position=Position(*fields["position"]), claim_end=Position(*claim) if claim else None)


def save_cursor(directory: Path, name: str, cursor: Cursor) -> None:
    """Replace a cursor file so that a crash leaves the old or the new one; durable on return. Raises OSError."""
    path = locate_cursor(directory, name)
    fields = {
        "position": [cursor.position.segment, cursor.position.offset],
        "claim_end": [cursor.claim_end.segment, cursor.claim_end.offset] if cursor.claim_end else None,
    }
    write_durably(path, json.dumps(fields).encode())


def write_durably(path: Path, content: bytes) -> None:
    """Replace a file as a whole: written aside, synced, renamed, and the directory synced. Raises OSError."""
    aside = path.with_suffix(path.suffix + ".new")
    with aside.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    aside.replace(path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    """Make creations, renames and deletions in a directory durable. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class WalReader:
    """Reads forward from its cursor. Not thread-safe; one instance a name."""

    def __init__(self, directory: Path, name: str) -> None:
        """`name` is the cursor's: "store" or "detectors". Begins at the oldest segment where the name is new. Raises
        OSError.
        """
        self._directory = directory
        self._name = name
        cursor = load_cursor(directory, name)
        if cursor is None:
            segments = find_segments(directory)
            cursor = Cursor(position=Position(segments[0] if segments else 0, 0))
            save_cursor(directory, name, cursor)
        self._cursor = cursor
        self._next = cursor.position
        self.skipped_segments = 0  # Gone before this reader came to them (log limit): their batches were not read.
        self.damaged_segments = 0  # Left at a frame that fails its checksum.

    @property
    def cursor(self) -> Cursor:
        """What is durable."""
        return self._cursor

    @property
    def position(self) -> Position:
        """Where the next read begins."""
        return self._next

    def read(self, limit_bytes: int = _READ_BYTES, until: Position | None = None) -> list[Entry]:
        """The next batches, at most about `limit_bytes` (one at least) and none past `until`; empty when there are
        none. Raises OSError.
        """
        while True:
            # Listed before the read: a newer segment then proves that this one is complete.
            segments = find_segments(self._directory)
            self._skip_missing(segments)
            entries, is_damaged = self._read_segment(limit_bytes)
            if until is not None and entries and entries[0].start >= until:
                return []
            if until is not None:
                entries = [entry for entry in entries if entry.end <= until]
            if entries:
                self._next = entries[-1].end
                return entries
            newer = [number for number in segments if number > self._next.segment]
            if not newer or (until is not None and newer[0] > until.segment):
                return []
            self.damaged_segments += is_damaged
            self._next = Position(newer[0], 0)

    def claim(self, end: Position) -> None:
        """Remember durably that [cursor, end) is being worked on. Raises OSError."""
        self._save(Cursor(position=self._cursor.position, claim_end=end))

    def commit(self, end: Position) -> None:
        """Remember durably that everything before `end` is done. Raises OSError."""
        self._save(Cursor(position=end))

    def rewind(self) -> None:
        """Read again from the last commit."""
        self._next = self._cursor.position

    def _save(self, cursor: Cursor) -> None:
        save_cursor(self._directory, self._name, cursor)
        self._cursor = cursor

    def _skip_missing(self, segments: list[int]) -> None:
        if not segments or self._next.segment in segments or self._next.segment > segments[-1]:
            return
        later = [number for number in segments if number > self._next.segment]
        # Segment 0 never exists: it is where a reader of an empty log stands.
        self.skipped_segments += later[0] - max(self._next.segment, 1)
        self._next = Position(later[0], 0)

    def _read_segment(self, limit_bytes: int) -> tuple[list[Entry], bool]:
        """Frames from the current position, and whether damage ended them."""
        try:
            with locate_segment(self._directory, self._next.segment).open("rb") as file:
                file.seek(self._next.offset)
                buffer = file.read(limit_bytes)
                if len(buffer) >= HEADER.size:
                    length = HEADER.unpack_from(buffer)[0]
                    missing = HEADER.size + length - len(buffer)
                    if missing > 0 and length <= FRAME_LIMIT_BYTES:
                        buffer += file.read(missing)
        except FileNotFoundError:
            return [], False
        return decode_frames(buffer, self._next.segment, self._next.offset)
