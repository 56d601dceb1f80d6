"""What the logs that several collectors share have in common: records, who appended what, and one reader.

Such a log is one stream of records, counted from its beginning (`Stream`). Any collector appends to it, and a sensor
that lost its connection sends a batch again to another one. So a batch can be in the log twice. Its reader drops the
second: it has a ledger of the batches before its last commit, and the places of those that it has read since. So what
it reads again after a rewind or a crash is the same.

The cursor is in the state (collector/log/cursors.py). The ledger as of an earlier commit is beside it; a reader that
starts reads what came between, by the keys of the records alone.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

import msgspec

from collector.core.limits import Limit
from collector.log.base import READ_BYTES, STREAM, Append, Entry, LogCounts, LogError, Position, ReadCursor
from collector.log.cursors import SavedLedger, StateCursors
from collector.log.ledger import SequenceLedger
from collector.storage.base import StoreError
from common.bounded import BoundedDict

LEDGER_BYTES: Final = 16 * 1024 * 1024  # Of the log, from one saved ledger to the next.
_BLOCKS_KEPT: Final = 16  # Of records that are read a second time, one by one but close to each other.
_BLOCK_BYTES: Final = 1024 * 1024

Key = tuple[str, str, int]


class Record(msgspec.Struct, array_like=True, frozen=True):
    """One batch as it is kept."""

    node: str
    boot_id: str
    sequence: int
    received_unix_ns: int
    payload: bytes

    @property
    def key(self) -> Key:
        return self.node, self.boot_id, self.sequence


def make_record(append: Append) -> Record:
    return Record(append.node, append.boot_id, append.sequence, append.received_unix_ns, append.payload)


@dataclass(frozen=True, slots=True)
class Placed:
    """A record and its place; None: its bytes are no record."""

    offset: int
    size: int
    record: Record | None


class Stream(Protocol):
    """Reads the records of a shared log. One thread. Methods raise LogError."""

    def find_range(self) -> tuple[int, int]:
        """The offset of the first record that is kept, and that of the next one that comes."""
        ...

    def measure_bytes(self, start: int, end: int) -> int:
        """Of the records between two offsets, as far as that costs little."""
        ...

    def fetch(self, offset: int, end: int, limit_bytes: int) -> list[Placed]:
        """The next records from an offset on, at most about so many bytes but one at least, and none from `end` on.
        Empty where there is none before `end`."""
        ...


class OwnAppends:
    """Batches that this process appended, so that those that come again cost no room. Thread-safe."""

    def __init__(self) -> None:
        self._ledger = SequenceLedger()

    @property
    def limit(self) -> Limit:
        return self._ledger.limit

    def is_known(self, node: str, boot_id: str, sequence: int) -> bool:
        return self._ledger.is_known(node, boot_id, sequence)

    def find_new(self, appends: Sequence[Append]) -> list[Append]:
        return [one for one in appends if not self.is_known(one.node, one.boot_id, one.sequence)]

    def add(self, appends: Sequence[Append]) -> None:
        for one in appends:
            self._ledger.add(one.node, one.boot_id, one.sequence)


@dataclass(slots=True)
class _Seen:
    """Which batches came before a record."""

    ledger: SequenceLedger = field(default_factory=SequenceLedger)  # Of all before the last commit.
    places: dict[Key, int] = field(default_factory=dict)  # Of those since, in their order.

    def is_duplicate(self, key: Key, offset: int) -> bool:
        return self.places.get(key, offset) < offset or self.ledger.is_known(*key)

    def add(self, key: Key, offset: int) -> None:
        self.places.setdefault(key, offset)

    def settle(self, offset: int) -> None:
        """Nothing before it is read again."""
        done = []
        for key, place in self.places.items():
            if place >= offset:
                break
            self.ledger.add(*key)
            done.append(key)
        if len(done) == len(self.places):
            self.places = {}
        for key in done if self.places else ():
            del self.places[key]


class SharedLogReader:
    """Reads forward from its cursor. Not thread-safe; one instance a name."""

    def __init__(self, stream: Stream, cursors: StateCursors, name: str) -> None:
        """Begins at the oldest record where the name is new. Raises LogError, StoreError."""
        self._stream = stream
        self._cursors = cursors
        self._name = name
        self.counts = LogCounts()
        self._seen = _Seen()
        self._blocks = BoundedDict[int, list[Placed]](_BLOCKS_KEPT)
        cursor = cursors.load(name)
        if cursor is None:
            cursor = ReadCursor(position=Position(STREAM, stream.find_range()[0]))  # Kept with the first claim.
        self._cursor = cursor
        self._counted = self._next = cursor.position.offset
        if self._next > stream.find_range()[1]:
            raise LogError("The log has fewer batches than were read: it was made anew; name another one in log_url.")
        self._unsaved_bytes = self._load_ledger()

    @property
    def cursor(self) -> ReadCursor:
        return self._cursor

    @property
    def position(self) -> Position:
        return Position(STREAM, self._next)

    def find_end(self) -> Position:
        return Position(STREAM, self._stream.find_range()[1])

    def measure_waiting(self) -> int:
        start, end = self._cursor.position.offset, self._stream.find_range()[1]
        return self._stream.measure_bytes(start, end) if end > start else 0

    def read(self, limit_bytes: int = READ_BYTES, until: Position | None = None) -> list[Entry]:
        self._blocks.clear()  # What was erased since is not to come from here.
        first, end = self._stream.find_range()
        end = min(end, until.offset) if until is not None else end
        if self._next < min(first, end):
            self.counts.skipped_batches += max(0, min(first, end) - max(self._next, self._counted))
            self._next = min(first, end)
        entries: list[Entry] = []
        while not entries and self._next < end:
            found = self._stream.fetch(self._next, end, limit_bytes)
            entries = list(self._take(found))
            after = found[-1].offset + 1 if found else end
            if self._next >= self._counted:  # What was deleted since `find_range`.
                self.counts.skipped_batches += after - self._next - len(found)
            self._next = after
            self._counted = max(self._counted, self._next)
        return entries

    def read_again(self, start: Position, end: Position) -> Entry | None:
        for block, found in self._blocks.items():
            if block <= start.offset <= found[-1].offset:
                break
        else:
            found = self._stream.fetch(start.offset, max(self._next, end.offset), _BLOCK_BYTES)
            if found:
                self._blocks[found[0].offset] = found
        return next((_make_entry(one) for one in found if one.offset == start.offset and one.record), None)

    def claim(self, end: Position) -> None:
        self._save(ReadCursor(position=self._cursor.position, claim_end=end))

    def commit(self, end: Position) -> None:
        self._seen.settle(end.offset)
        ledger = None
        if self._unsaved_bytes >= LEDGER_BYTES:
            ledger = SavedLedger(offset=end.offset, ranges=self._seen.ledger.dump())
        self._save(ReadCursor(position=end), ledger)
        if ledger is not None:
            self._unsaved_bytes = 0

    def settle(self, end: Position) -> None:
        self._seen.settle(end.offset)
        self._cursor = ReadCursor(position=end)

    def rewind(self, position: Position | None = None) -> None:
        self._next = (self._cursor.position if position is None else position).offset

    def _save(self, cursor: ReadCursor, ledger: SavedLedger | None = None) -> None:
        try:
            self._cursors.save(self._name, cursor, ledger)
        except StoreError as error:
            raise LogError(str(error)) from error
        self._cursor = cursor

    def _load_ledger(self) -> int:
        """That of all before the cursor; gives the bytes of the log that no saved one holds."""
        saved = self._cursors.load_ledger(self._name)
        offset, size, end = 0, 0, self._cursor.position.offset
        if saved is not None:
            self._seen.ledger.load(saved.ranges)
            offset = saved.offset
        offset = max(offset, self._stream.find_range()[0])
        while offset < end and (found := self._stream.fetch(offset, end, READ_BYTES)):
            for one in found:
                size += one.size
                if one.record is not None:
                    self._seen.ledger.add(*one.record.key)
            offset = found[-1].offset + 1
        return size

    def _take(self, found: Sequence[Placed]) -> Iterator[Entry]:
        """Those that did not come before. What is read again is counted once."""
        for one in found:
            is_new = one.offset >= self._counted
            self._unsaved_bytes += one.size * is_new
            if one.record is None:
                self.counts.damaged_bytes += one.size * is_new
                self.counts.lost_batches += is_new
            elif self._seen.is_duplicate(one.record.key, one.offset):
                self.counts.duplicate_batches += is_new
            else:
                self._seen.add(one.record.key, one.offset)
                yield _make_entry(one)


def _make_entry(placed: Placed) -> Entry:
    record = placed.record
    assert record is not None
    return Entry(
        start=Position(STREAM, placed.offset),
        end=Position(STREAM, placed.offset + 1),
        number=placed.offset + 1,
        received_unix_ns=record.received_unix_ns,
        payload=record.payload,
    )
