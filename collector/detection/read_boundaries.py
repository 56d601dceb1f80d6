"""What must be the same after a crash: where reads of the log ended, how batches are grouped, and states before time
jumps.

`CutJournal` (EDGE: a file): where a read ends depends on the moment, and batches of one read may become one group. So
each end is written before anything before it is reported, and batches are grouped in the same way after a crash. The
page cache is enough, because after a power loss nobody knows the numbers of the signals. The file begins with the
position of its checkpoint and is begun again with each. Ends of another checkpoint are dropped.

`Jumps`: the state before a jump of time is kept, and restored where the clocks were wrong. No row counts that begins
some seconds after the collector received it. So the last processed row is in the future only if the collector's clock
was, which stamps each batch of the log. After batches have shown an earlier time for a while, a jump is undone in two
cases: that time lies within the jump, or the clock went back by as much. All state depends on times, so nothing of it
is turned back. The state before is restored, as after a pause without calls, and what was learned since is lost. Pure:
the caller keeps the states, by the names of their jumps (collector/detection/process.py).

`Group`: a batch costs about a millisecond however few rows it has, and many small sensors send many. What is merged
depends on the batches alone, and no row becomes late by it. A group ends before the first batch whose newest row begins
later than the group's own.
"""

import errno
import os
import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from enum import Enum, auto
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from collector.core.rows import Ragged, Route
from collector.detection.framework.state import DetectorState, number, record
from collector.receiver.segment import Position
from collector.storage.columns import RowBatch

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

_STRING_INDEXES = frozenset(
    (
        "client_address",
        "client_workload",
        "protocol_version",
        "request_content_type",
        "response_content_type",
        "client_software",
    )
)


@dataclass(slots=True)
class Group:
    """Batches that are fed as one. Not empty."""

    batches: list[RowBatch]
    received_at: list[int]  # Of each batch, unix seconds.
    newest: int = field(init=False)  # Start of the newest row.
    rows: int = field(init=False)

    def __post_init__(self) -> None:
        self.newest, self.rows = _find_newest(self.batches[0]), len(self.batches[0])

    def take(self, batch: RowBatch, received_at: int) -> bool:
        """Add a batch; False where it begins another group."""
        if self.rows + len(batch) > ROWS_MAX or _find_newest(batch) > self.newest:
            return False
        self.batches.append(batch)
        self.received_at.append(received_at)
        self.rows += len(batch)
        return True

    def merge(self) -> tuple[RowBatch, NDArray[np.int64]]:
        """The rows of all, in the order of `batches`, and when each was received."""
        lengths = [len(batch) for batch in self.batches]
        return merge_batches(self.batches), np.repeat(np.array(self.received_at, np.int64), lengths)


def group_batches(batches: Iterable[tuple[RowBatch, int]]) -> Iterator[Group]:
    """Batches with the time they were received, in the order of the log."""
    group: Group | None = None
    for batch, received_at in batches:
        if group is None or not group.take(batch, received_at):
            if group is not None:
                yield group
            group = Group([batch], [received_at])
    if group is not None:
        yield group


def merge_batches(batches: Sequence[RowBatch]) -> RowBatch:
    """One batch of all rows, in order; node, sequence, loss and what else belongs to one batch are the first's."""
    if len(batches) == 1:
        return batches[0]
    texts: dict[str, int] = {"": 0}
    routes: dict[int, int] = {}
    known: list[Route] = []
    string_places, route_places = [], []
    for batch in batches:
        string_places.append(np.array([texts.setdefault(text, len(texts)) for text in batch.strings], np.uint32))
        for route in batch.routes:
            if routes.setdefault(route.route_id, len(known)) == len(known):
                known.append(route)
        route_places.append(np.array([routes[route.route_id] for route in batch.routes], np.uint32))
    merged: dict[str, Any] = {}
    for column in fields(RowBatch):
        parts = [getattr(batch, column.name) for batch in batches]
        if column.name in _STRING_INDEXES:
            parts = [places[part] for places, part in zip(string_places, parts, strict=True)]
        elif column.name == "route":
            parts = [places[part] for places, part in zip(route_places, parts, strict=True)]
        if isinstance(parts[0], np.ndarray):
            merged[column.name] = np.concatenate(parts)
        elif isinstance(parts[0], Ragged):
            merged[column.name] = _join(parts)
        else:
            merged[column.name] = parts[0]
    return RowBatch(**(merged | {"strings": tuple(texts), "routes": tuple(known)}))


def _join(parts: Sequence[Ragged]) -> Ragged:
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return Ragged(
        offsets=offsets,
        values=np.concatenate([part.values for part in parts]),
        counts=np.concatenate([part.counts for part in parts]),
    )


def _find_newest(batch: RowBatch) -> int:
    return int(np.max(batch.window_start)) if len(batch) else 0
