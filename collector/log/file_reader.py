"""One reader of the log's files.

The store's writer reads in the collector's process, the detectors in their own. Each has a name and a cursor file. A
reader follows the files only and polls, so the writer need not notify it.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from collector.log.base import READ_BYTES, Entry, LogCounts, Position, ReadCursor
from collector.log.segment import (
    HEAD_BYTES,
    Damage,
    DecodedFrames,
    decode_frames,
    find_segments,
    locate_segment,
    measure_frame,
)
from common.durable import check_seal, read_json, seal, write_durably

_MUCH_BYTES = 16 * 1024 * 1024  # Of which no more is known than that it is more than one file.


def locate_cursor(directory: Path, name: str) -> Path:
    return directory / f"{name}.cursor"


def load_cursor(directory: Path, name: str) -> ReadCursor | None:
    """A reader's cursor; None when it has none yet. Raises OSError, ValueError."""
    path = locate_cursor(directory, name)
    damaged = ValueError(f"{path} is damaged; remove it: the log is then read again, and may count twice.")
    return read_json(path, _parse_cursor, damaged)


def _parse_cursor(fields: Any) -> ReadCursor:
    claim = check_seal(fields)["claim_end"]
    return ReadCursor(position=Position(*fields["position"]), claim_end=Position(*claim) if claim else None)


def save_cursor(directory: Path, name: str, cursor: ReadCursor) -> None:
    """Replace a cursor file so that a crash leaves the old or the new one; durable on return. Raises OSError."""
    path = locate_cursor(directory, name)
    fields = {
        "position": [cursor.position.segment, cursor.position.offset],
        "claim_end": [cursor.claim_end.segment, cursor.claim_end.offset] if cursor.claim_end else None,
    }
    write_durably(path, seal(fields))


class FileLogReader:
    """Reads forward from its cursor. Not thread-safe; one instance a name."""

    def __init__(self, directory: Path, name: str, find_end: Callable[[], Position] | None = None) -> None:
        """`name` is the cursor's. `find_end` is the end of what is synced; without it that of the files. Begins at the
        oldest segment where the name is new. Raises OSError.
        """
        self._directory = directory
        self._name = name
        self._find_end = find_end
        cursor = load_cursor(directory, name)
        if cursor is None:
            segments = find_segments(directory)
            cursor = ReadCursor(position=Position(segments[0] if segments else 0, 0))
            save_cursor(directory, name, cursor)
        self._cursor = cursor
        self._next = cursor.position
        self._account = _Account(directory, cursor.position)

    @property
    def cursor(self) -> ReadCursor:
        return self._cursor

    @property
    def position(self) -> Position:
        return self._next

    @property
    def counts(self) -> LogCounts:
        return self._account.counts

    def find_end(self) -> Position:
        if self._find_end is not None:
            return self._find_end()
        segments = find_segments(self._directory)
        newest = segments[-1] if segments else 0
        return Position(newest, locate_segment(self._directory, newest).stat().st_size if newest else 0)

    def measure_waiting(self) -> int:
        """As far as one file shows; more than one file takes where it is more."""
        end, position = self.find_end(), self._cursor.position
        return end.offset - position.offset if end.segment == position.segment else _MUCH_BYTES

    def read(self, limit_bytes: int = READ_BYTES, until: Position | None = None) -> list[Entry]:
        """The next batches, at most about `limit_bytes` (one at least) and none past `until`, the end of a frame; empty
        when there are none. Damaged bytes are passed over and counted. Raises OSError.
        """
        while until is None or self._next < until:
            # Listed before the read: a newer segment then proves that this one is complete.
            segments = find_segments(self._directory)
            self._skip_missing(segments)
            is_last = until is not None and until.segment == self._next.segment
            newer = [number for number in segments if number > self._next.segment]
            end = until.offset if until is not None and is_last else None
            decoded = self._read_segment(limit_bytes, end=end, is_complete=is_last or bool(newer))
            self._account.take(decoded)
            has_moved, self._next = decoded.end != self._next, decoded.end
            if entries := decoded.entries:
                return entries
            if has_moved:
                continue
            if is_last or not newer or (until is not None and newer[0] > until.segment):
                break
            self._next = Position(newer[0], 0)
        return []

    def read_again(self, start: Position, end: Position) -> Entry | None:
        """A batch that was read before; None where it is gone or damaged now. Raises OSError."""
        try:
            with locate_segment(self._directory, start.segment).open("rb") as file:
                file.seek(start.offset)
                frame = file.read(end.offset - start.offset)
        except FileNotFoundError:
            return None
        return next(iter(decode_frames(frame, start, is_complete=False).entries), None)

    def claim(self, end: Position) -> None:
        """Remember durably that [cursor, end) is being worked on. Raises OSError."""
        self._save(ReadCursor(position=self._cursor.position, claim_end=end))

    def commit(self, end: Position) -> None:
        """Remember durably that everything before `end` is done. Raises OSError."""
        self._save(ReadCursor(position=end))

    def settle(self, end: Position) -> None:
        """Forget that anything before `end` could be read again; the cursor on disk stays."""
        self._cursor = ReadCursor(position=end)

    def rewind(self, position: Position | None = None) -> None:
        """Read again from a position of before, or else from the last commit."""
        self._next = self._cursor.position if position is None else position

    def _save(self, cursor: ReadCursor) -> None:
        save_cursor(self._directory, self._name, cursor)
        self._cursor = cursor

    def _skip_missing(self, segments: list[int]) -> None:
        if not segments or self._next.segment in segments or self._next.segment > segments[-1]:
            return
        later = [number for number in segments if number > self._next.segment]
        # Segment 0 never exists: it is where a reader of an empty log stands.
        self._account.skip_segments()
        self._next = Position(later[0], 0)

    def _read_segment(self, limit_bytes: int, *, end: int | None, is_complete: bool) -> DecodedFrames:
        """Frames and damage from the current position, to the offset `end` at most."""
        try:
            with locate_segment(self._directory, self._next.segment).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                left = (size if end is None else min(end, size)) - self._next.offset
                file.seek(self._next.offset)
                buffer = file.read(max(0, min(left, max(limit_bytes, HEAD_BYTES))))
                missing = min(measure_frame(buffer, self._next), left) - len(buffer)
                if missing > 0:
                    buffer += file.read(missing)
                decoded = decode_frames(buffer, self._next, is_complete=is_complete and len(buffer) >= left)
                if not decoded.parts and len(buffer) < left:  # Damage is longer than what was read.
                    buffer += file.read(left - len(buffer))
                    decoded = decode_frames(buffer, self._next, is_complete=is_complete)
        except FileNotFoundError:
            return DecodedFrames(parts=(), end=self._next)
        return decoded


class _Account:
    """Counts what is missing among the batches of one reader; of what it reads again, once."""

    def __init__(self, directory: Path, position: Position) -> None:
        self.counts = LogCounts()
        self._counted = position  # All before it is in the counts.
        self._expected = _find_number(directory, position)  # Of the next batch; 0: not known.
        self._damaged_segment = -1
        self._is_skipping = False

    def skip_segments(self) -> None:
        """The segments up to the next batch are gone."""
        self._is_skipping = True

    def take(self, decoded: DecodedFrames) -> None:
        for part in decoded.parts:
            if part.start < self._counted:
                continue
            self._counted = part.end
            if isinstance(part, Damage):
                self._take_damage(part)
            else:
                self._take_entry(part)

    def _take_damage(self, damage: Damage) -> None:
        self.counts.damaged_bytes += damage.bytes
        self.counts.lost_batches += 1
        self._expected += bool(self._expected)
        self._damaged_segment = damage.start.segment

    def _take_entry(self, entry: Entry) -> None:
        gap = entry.number - self._expected if self._expected else int(self._is_skipping)
        if gap > 0 and self._is_skipping:
            self.counts.skipped_batches += gap
        elif gap > 0:  # Of bytes that held several batches, or of a file that lost its end.
            self.counts.lost_batches += gap
        self._is_skipping = False
        self._expected = entry.number + 1
        self.counts.recovered_batches += entry.start.segment == self._damaged_segment


def _find_number(directory: Path, position: Position) -> int:
    """The number of the batch at a position, which follows that of the batch before it; 0 where that is not known."""
    if not position.segment:
        return 1  # Of an empty log.
    try:
        with locate_segment(directory, position.segment).open("rb") as file:
            before = file.read(position.offset)
    except FileNotFoundError:
        return 0
    return decode_frames(before, Position(position.segment, 0), is_complete=True).next_number
