"""Where detectors keep what they learned in the state that several collectors share.

The holder of the lease writes, and others follow (`StateCuts.follow`). They read the log up to each end that the holder
read to, after the messages that it obeyed before. So they know what it knows and number signals alike. A checkpoint is
a row, too, and rows before the last but one are deleted. Numbers of rows rise by one; whoever misses one goes on from
the checkpoint.

A module of its own: detectors whose memory is in files have no use for SQL, which takes 15 MB.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from io import BytesIO
from typing import Any, Final

from sqlalchemy import Connection, Row, delete, func, insert, select

from collector.core.feature import Role
from collector.detection.checkpoint import Checkpoint, check_state, encode_state, may_name
from collector.detection.framework.state import DetectorState
from collector.detection.memory import BEFORE, LostTrackError, decode_failed, encode_failed
from collector.detection.read_boundaries import Cut, Cuts
from collector.log.base import Position
from collector.storage.base import LeaseLostError, StoreError
from collector.storage.state.leases import Fence
from collector.storage.state.store import StateStore, upsert
from collector.storage.state.tables.detectors import DETECTOR_CUTS, DETECTOR_STATES
from collector.storage.state.tables.pending import SIGNAL_SERIES

Write = Callable[[], AbstractContextManager[Connection]]
_CHECKPOINT: Final = "checkpoint"
_FAILED: Final = "failed"


class StateMemory:
    """Rows of a shared state."""

    is_shared = True

    def __init__(self, state: StateStore, fence: Fence | None = None) -> None:
        """Without a fence it follows the holder of the lease, until it gets one."""
        self._fence = fence
        self.place = f"the state in {state.place}"
        self.cuts = StateCuts(state, self.write)
        self._state = state

    def lead(self, fence: Fence) -> None:
        """Write as the holder of the lease."""
        self._fence = fence

    def make_fence(self, epoch: int) -> Fence:
        """Of the detectors' lease with this epoch."""
        return Fence(self._state, Role.DETECT, epoch)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction of the holder of the lease. Raises LeaseLostError for any other process, and OSError."""
        if self._fence is None:
            raise LeaseLostError("The detectors of this collector follow those of another one.")
        with _report(), self._fence.write() as connection:
            yield connection

    def load(self, engine: DetectorState, name: str = "") -> Checkpoint | None:
        content = self._read(name or _CHECKPOINT)
        return check_state(BytesIO(content), engine, self.place) if content is not None else None

    def save(self, engine: DetectorState, checkpoint: Checkpoint, name: str = "") -> int:
        content = encode_state(engine, checkpoint)
        with self.write() as connection:
            _put(connection, name or _CHECKPOINT, content)
            if not name:  # In one with it, so that a checkpoint is always one of the ends.
                self.cuts.begin_in(connection, checkpoint.position)
        return len(content)

    def begin_cuts(self, position: Position, kept: Collection[str]) -> None:
        states = DETECTOR_STATES.c.name
        with self.write() as connection:
            connection.execute(delete(DETECTOR_STATES).where(states.startswith(BEFORE), states.not_in(kept)))

    def move_aside(self, suffix: str) -> str:
        content = self._read(_CHECKPOINT) or b""
        with self.write() as connection:
            _put(connection, f"{_CHECKPOINT}.{suffix}", content)
            connection.execute(delete(DETECTOR_STATES).where(DETECTOR_STATES.c.name == _CHECKPOINT))
        return f"{self.place}, row {_CHECKPOINT}.{suffix}"

    def load_failed(self) -> frozenset[Position]:
        return decode_failed(self._read(_FAILED) or b"[]")

    def save_failed(self, ends: Collection[Position]) -> None:
        with self.write() as connection:
            _put(connection, _FAILED, encode_failed(ends))

    def erase(self, consumer: str) -> None:
        self.cuts.forgets_all = True
        others = select(DETECTOR_STATES).where(DETECTOR_STATES.c.name.not_in((_CHECKPOINT, _FAILED)))
        with self.write() as connection:
            for row in connection.execute(others).all():
                if may_name(BytesIO(row.content), consumer.encode()):
                    connection.execute(delete(DETECTOR_STATES).where(DETECTOR_STATES.c.name == row.name))

    def find_next_signal(self, series: str) -> int:
        """The number of the next signal of a series, after those that came; 0 where none came."""
        with _report(), self._state.read() as connection:
            found = connection.execute(select(SIGNAL_SERIES.c.series, SIGNAL_SERIES.c.next)).first()
        return int(found.next) if found is not None and found.series.endswith(f"/{series}") else 0

    def _read(self, name: str) -> bytes | None:
        one = select(DETECTOR_STATES.c.content).where(DETECTOR_STATES.c.name == name)
        with _report(), self._state.read() as connection:
            return connection.execute(one).scalar_one_or_none()


# The number of the newest row, and of the newest checkpoint.
_NEWEST: Final = select(
    func.max(DETECTOR_CUTS.c.number), func.max(DETECTOR_CUTS.c.number).filter(DETECTOR_CUTS.c.is_checkpoint)
)


class StateCuts(Cuts):
    """Those of a shared state."""

    def __init__(self, state: StateStore, write: Write) -> None:
        super().__init__()
        self._state = state
        self._write = write
        self._number = 0  # Of the last row that was read or written.
        self._has_passed = False
        self.forgets_all = False  # With the next checkpoint: a message names somebody who is erased.

    @property
    def is_begun(self) -> bool:
        """Whether there are rows, as far as was looked."""
        return bool(self._number)

    def resume(self, position: Position) -> None:
        """As the holder of the lease."""
        rows = self._list_since_checkpoint()
        if rows and _locate(rows[0]) == position:
            self._take(rows[1:], rows[-1].number)
        else:
            self.forgets_all = True
            self.begin(position)

    def begin(self, position: Position) -> None:
        with self._write() as connection:
            self.begin_in(connection, position)

    def begin_in(self, connection: Connection, position: Position) -> None:
        """As `begin`, in a transaction."""
        number, last = connection.execute(_NEWEST).one()
        kept_from = 0 if last is None else number + 1 if self.forgets_all else last
        connection.execute(delete(DETECTOR_CUTS).where(DETECTOR_CUTS.c.number < kept_from))
        number = (number or 0) + 1
        connection.execute(insert(DETECTOR_CUTS), _make_row(number, position, is_checkpoint=True))
        self._known, self._number, self.forgets_all = [], number, False

    def add(self, end: Position, messages: bytes = b"") -> None:
        with self._write() as connection:
            connection.execute(insert(DETECTOR_CUTS), _make_row(self._number + 1, end, messages))
        self._number += 1

    def follow(self, position: Position) -> None:
        """Read what the holder of the lease wrote since; `position`: where the caller is. Raises LostTrackError."""
        rows = self._list_after(self._number) if self._number else self._list_since_checkpoint()
        if not rows:
            return
        if self._number:
            is_next = rows[0].number == self._number + 1
        else:  # The caller loaded a checkpoint, and read no row yet.
            is_next = _locate(rows[0]) == position
            rows = rows[1:]
        if not is_next:
            raise LostTrackError("Detectors that follow those of another collector begin again with its checkpoint.")
        self._take(rows, rows[-1].number if rows else self._number)

    def find_next(self, position: Position) -> Position | None:
        while self._known and self._known[0].is_checkpoint:
            del self._known[0]
            self._has_passed = True
        return super().find_next(position)

    def has_passed_checkpoint(self) -> bool:
        """Whether the caller came to where the holder kept a checkpoint, since this was asked last: what the holder
        found before is safe."""
        has_passed, self._has_passed = self._has_passed, False
        return has_passed

    def _take(self, rows: Sequence[Row[Any]], number: int) -> None:
        self._known += [Cut(_locate(row), row.messages, row.is_checkpoint) for row in rows]
        self._number = number

    def _list_since_checkpoint(self) -> Sequence[Row[Any]]:
        """Rows from the newest checkpoint's on."""
        rows = self._list_after(0)
        newest = max((place for place, row in enumerate(rows) if row.is_checkpoint), default=len(rows))
        return rows[newest:]

    def _list_after(self, number: int) -> Sequence[Row[Any]]:
        later = select(DETECTOR_CUTS).where(DETECTOR_CUTS.c.number > number).order_by(DETECTOR_CUTS.c.number)
        with _report(), self._state.read() as connection:
            return connection.execute(later).all()


def _make_row(number: int, end: Position, messages: bytes = b"", *, is_checkpoint: bool = False) -> dict[str, Any]:
    return {
        "number": number,
        "segment": end.segment,
        "place": end.offset,
        "messages": messages,
        "is_checkpoint": is_checkpoint,
    }


def _locate(row: Row[Any]) -> Position:
    return Position(row.segment, row.place)


def _put(connection: Connection, name: str, content: bytes) -> None:
    upsert(connection, DETECTOR_STATES, [{"name": name, "content": content}])


@contextmanager
def _report() -> Iterator[None]:
    """A state that cannot be read or written is to the detectors what a disk is."""
    try:
        yield
    except LeaseLostError:
        raise
    except StoreError as error:
        raise OSError(str(error)) from error
