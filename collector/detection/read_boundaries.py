"""What must be the same after a crash: where reads of the log ended, how batches are grouped, and states before time
jumps.

`Cuts`: where a read ends depends on the moment, and batches of one read may become one group. So each end is written
before anything before it is reported, and batches are grouped in the same way after a crash. An end that comes twice is
of a read that found nothing, after which nobody was waited for any more (collector/detection/catch_up.py). What is kept
begins with the position of its checkpoint and is begun again with each. Ends of another checkpoint are dropped.

`CutJournal` (EDGE: a file) keeps them beside the checkpoint. The page cache is enough, because after a power loss
nobody knows the numbers of the signals.

`Jumps`: the state before a jump of time is kept, and restored where the clocks were wrong. No row counts that begins
some seconds after the collector received it. So the last processed row is in the future only if the collector's clock
was, which stamps each batch of the log. After batches have shown an earlier time for a while, a jump is undone in two
cases: that time lies within the jump, or the clock went back by as much. All state depends on times, so nothing of it
is turned back. The state before is restored, as after a pause without calls, and what was learned since is lost. Pure:
the caller keeps the states, by the names of their jumps (collector/detection/process.py).

`Group`: the detectors take about a millisecond however few rows there are, and many small sensors send many batches.
What is one group depends on the batches alone, and no row becomes late by it. A group ends before the first batch whose
newest row begins later than the group's own.
"""

import errno
import os
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from collector.detection.framework.state import DetectorState, number, record
from collector.log.base import Position
from collector.storage.row_group import RowGroup

_END = struct.Struct("<QQ")  # Segment and offset.


class Cut(NamedTuple):
    """The end of a read, and the messages (MessagePack) that were obeyed before it."""

    end: Position
    messages: bytes = b""
    is_checkpoint: bool = False  # It is no end of a read.


class Cuts(ABC):
    """Ends of reads since a checkpoint. One writer. Methods raise OSError."""

    def __init__(self) -> None:
        self._known: list[Cut] = []  # From before the crash, still to come, ascending.

    @abstractmethod
    def resume(self, position: Position) -> None:
        """Go on from a checkpoint at `position`."""

    @abstractmethod
    def begin(self, position: Position) -> None:
        """A checkpoint at `position` is kept."""

    @abstractmethod
    def add(self, end: Position, messages: bytes = b"") -> None:
        """A read ended here; where the one before did, too, nothing came for long."""

    def list_messages(self, position: Position) -> bytes:
        """What was obeyed before the read that began at `position`."""
        return self._known[0].messages if self.find_next(position) is not None else b""

    def find_next(self, position: Position) -> Position | None:
        """Where the read that began at `position` ended before the crash; None where there was none."""
        while self._known and self._known[0].end < position:
            del self._known[0]
        return self._known[0].end if self._known else None

    def drop_next(self) -> None:
        """What lay before the next end is gone from the log, and so is the reason to stop there."""
        del self._known[:1]

    def reach(self, end: Position) -> bool:
        """Whether the read that ended here did so before the crash, too."""
        place = next((place for place, cut in enumerate(self._known) if cut.end == end), None)
        if place is None:
            return False
        del self._known[: place + 1]
        return True


class CutJournal(Cuts):
    """In a file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path
        self._descriptor = -1

    def resume(self, position: Position) -> None:
        content = self._path.read_bytes() if self._path.exists() else b""
        whole = len(content) - len(content) % _END.size  # A crash may have cut the last one.
        ends = [Position(*fields) for fields in _END.iter_unpack(content[:whole])]
        # The first is the checkpoint's; a crash between a checkpoint and `begin` leaves that of the one before.
        if position not in ends:
            self.begin(position)
            return
        os.ftruncate(self._open(), whole)
        self._known = [Cut(end) for end in ends[ends.index(position) + 1 :]]

    def begin(self, position: Position) -> None:
        os.ftruncate(self._open(), 0)
        self._known = []
        self._write(position)

    def add(self, end: Position, messages: bytes = b"") -> None:
        """Messages are not kept: whoever sent them sends them again after a crash."""
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


JUMP_SECONDS = 600  # Shorter ones are waited for: so long nothing is judged at most.
BEHIND_SECONDS = 300  # Batches that are further behind what was judged show another time.
SETTLED_SECONDS = 120  # So long, for a clock may be wrong for a moment.
KEPT_SECONDS = 7 * 86_400  # After a jump, in time that was judged.
FIRST_KEPT_SECONDS = 86_400  # The same of the first rows: whoever starts with another time would learn anew.
WORTH = 10  # Times the time that nothing would be judged may be given up of what was learnt.
KEPT_MAX = 3  # A pause in the calls is a jump too; the shortest goes first.


class Lost(Enum):
    """The time is behind what was judged and within no jump that is kept."""

    LOST = auto()


class Jump(msgspec.Struct, frozen=True, kw_only=True):
    """Unix seconds: the newest row before it and the first one after it."""

    left: int  # 0: there was none.
    landed: int

    @property
    def name(self) -> str:
        """Of the state of before."""
        return f"before-{self.left}-{self.landed}"

    def explains(self, time: int, newest: int, back: int) -> bool:
        """Whether undoing it explains the `time` it is now, `back` seconds behind the `newest` that was judged."""
        since, span = newest - self.landed, self.landed - self.left
        if self.left > time or since > (KEPT_SECONDS if self.left else FIRST_KEPT_SECONDS):
            return False
        return time < self.landed or (abs(back - span) <= BEHIND_SECONDS and since <= WORTH * span)


class Jumps(DetectorState):
    """Those that are kept, in the order of time."""

    kept = record(list[Jump])
    _behind_since = number(0)  # When the first batch was received that is behind; 0: the last one was not.
    _is_settled = number(False)

    def note(self, jump: Jump) -> None:
        """Time is about to jump, by JUMP_SECONDS or more."""
        kept = [one for one in self.kept if jump.left - one.landed <= KEPT_SECONDS]
        if len(kept) == KEPT_MAX:
            kept.remove(min(kept, key=lambda one: one.landed - one.left))
        self.kept = [*kept, jump]

    def look(self, received_at: int, newest: int) -> Jump | Lost | None:
        """At the next batches: the jump that is to be undone, LOST once where there is none, and None where nothing is
        to be done. `newest`: what was judged last."""
        if newest - received_at <= BEHIND_SECONDS:
            self._behind_since, self._is_settled = 0, False
            return None
        if not 0 < self._behind_since <= received_at:
            self._behind_since, self._is_settled = received_at, False
        if self._is_settled or received_at - self._behind_since < SETTLED_SECONDS:
            return None
        self._is_settled = True
        back = newest - self._behind_since
        return next((jump for jump in reversed(self.kept) if jump.explains(received_at, newest, back)), Lost.LOST)

    def undo(self, jump: Jump) -> None:
        """The state of before it was taken up."""
        self.kept = self.kept[: self.kept.index(jump)]
        self._behind_since, self._is_settled = 0, False


ROWS_MAX = 10_000  # Of a group of several batches: as many as one batch of the wire may have.


@dataclass(frozen=True, slots=True)
class Group:
    """Batches that are fed as one."""

    rows: RowGroup
    received_at: NDArray[np.int64]  # Of each batch, unix seconds.
    newest: int  # Start of the newest row.

    @property
    def received_of_rows(self) -> NDArray[np.int64]:
        """When the batch of each row was received."""
        return self.rows.spread(self.received_at)


def list_newest(rows: RowGroup) -> NDArray[np.int64]:
    """Start of the newest row of each batch, unix seconds; 0 where it has none."""
    newest = np.zeros(len(rows.heads), np.int64)
    np.maximum.at(newest, rows.spread(np.arange(len(rows.heads))), rows.rows.window_start)
    return newest


def split_group(rows: RowGroup, received_at: Sequence[int]) -> Iterator[Group]:
    """Batches in the order of the log with the times they were received, as groups."""
    times = np.array(received_at, np.int64)
    newest = list_newest(rows)
    ends, first = rows.ends, 0
    while first < len(newest):
        begin = int(ends[first - 1]) if first else 0
        # The first batch that is newer or for which there is no room begins the next group.
        is_other = (newest[first + 1 :] > newest[first]) | (ends[first + 1 :] - begin > ROWS_MAX)
        last = first + 1 + (int(is_other.argmax(axis=0)) if is_other.any() else len(is_other))
        yield Group(rows.select(first, last), times[first:last], int(newest[first]))
        first = last
