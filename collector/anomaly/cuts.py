"""Where the detectors' reads of the log ended, kept beside the checkpoint: what was judged together is judged together
again after a crash, and gives the same signals with the same numbers.

EDGE: a file. Batches of one read may become one group (collector/anomaly/merging.py), and how far a read came depends
on the moment. So each end is written down before anything is told of what lies before it, in the page cache: it has to
outlive the process, whereas after a power loss nobody remembers the numbers. The file begins with the place of the
checkpoint that it goes on from, and is begun anew with each; ends of another checkpoint's are no use and are dropped.
"""

import errno
import os
import struct
from pathlib import Path

from collector.ingest.segment import Position

_END = struct.Struct("<QQ")  # Segment and offset.


class CutJournal:
    """Ends of reads since a checkpoint. One writer."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: list[Position] = []  # Of before the crash, that are still to come, ascending.
        self._descriptor = -1

    def resume(self, position: Position) -> None:
        """Go on from a checkpoint at `position`. Raises OSError."""
        content = self._path.read_bytes() if self._path.exists() else b""
        whole = len(content) - len(content) % _END.size  # A crash may have cut the last one.
        ends = [Position(*fields) for fields in _END.iter_unpack(content[:whole])]
        # The first is the checkpoint's; a crash between a checkpoint and `begin` leaves that of the one before.
        if position not in ends:
            self.begin(position)
            return
        os.ftruncate(self._open(), whole)
        self._known = [end for end in ends if end > position]

    def begin(self, position: Position) -> None:
        """A checkpoint at `position` is on disk. Raises OSError."""
        os.ftruncate(self._open(), 0)
        self._known = []
        self._write(position)

    def find_next(self, position: Position) -> Position | None:
        """Where the read that began at `position` ended before the crash; None where there was none."""
        while self._known and self._known[0] <= position:
            del self._known[0]
        return self._known[0] if self._known else None

    def drop_next(self) -> None:
        """What lay before the next end is gone from the log, and so is the reason to stop there."""
        del self._known[:1]

    def add(self, end: Position) -> None:
        """A read ended here. Raises OSError."""
        if end not in self._known:
            self._write(end)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> int:
        if self._descriptor < 0:
            self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        return self._descriptor

    def _write(self, end: Position) -> None:
        written = os.write(self._descriptor, _END.pack(end.segment, end.offset))
        if written < _END.size:  # The disk is full: half an end would shift those that follow.
            os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._path))
