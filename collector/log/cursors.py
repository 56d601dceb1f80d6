"""How far the readers of a shared log came, in the state: one row a reader, which its successor in another process
goes on from.

Beside the cursor stands the reader's ledger of batches seen as of an earlier position, compressed. It is written now
and then only, and what came since is read again at a start.
"""

import time
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Table, func, select

from collector.log.base import STORE, STREAM, LogError, Position, ReadCursor
from collector.storage.state.store import StateStore, upsert
from collector.storage.state.tables.log import LOG_CURSORS, LOG_LEDGERS

STORED_SECONDS: Final = 120.0  # What waits for the tables at an erasure.
_LOOK_SECONDS: Final = 0.25
_COMPRESSION_LEVEL: Final = 1
Write = Callable[[], AbstractContextManager[Connection]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedLedger:
    """Of all batches before `offset`, as `SequenceLedger.dump` gives it."""

    offset: int
    ranges: list[list[Any]]


class StateCursors:
    """Those of one log. Thread-safe. Methods raise StoreError."""

    def __init__(
        self,
        state: StateStore,
        log_id: str,
        write: Write | None = None,
    ) -> None:
        """`write` begins a transaction of whoever may move the cursors (Fence.write)."""
        self._state = state
        self._log_id = log_id
        self._write = write if write is not None else state.write

    def load(self, reader: str) -> ReadCursor | None:
        """None where the reader is new."""
        with self._state.read() as connection:
            row = connection.execute(select(LOG_CURSORS).where(*self._match(LOG_CURSORS, reader))).first()
        if row is None:
            return None
        end = row.claim_end
        return ReadCursor(
            position=Position(STREAM, row.position), claim_end=Position(STREAM, end) if end is not None else None
        )

    def load_ledger(self, reader: str) -> SavedLedger | None:
        """The newest one; None where there is none."""
        with self._state.read() as connection:
            row = connection.execute(select(LOG_LEDGERS).where(*self._match(LOG_LEDGERS, reader))).first()
        if row is None:
            return None
        return SavedLedger(offset=row.position, ranges=msgspec.msgpack.decode(zlib.decompress(row.ranges)))

    def save(self, reader: str, cursor: ReadCursor, ledger: SavedLedger | None = None) -> None:
        """In one transaction; without a `ledger` the one before stays."""
        named = {"log": self._log_id, "reader": reader}
        end = cursor.claim_end
        row = {"position": cursor.position.offset, "claim_end": end.offset if end is not None else None}
        with self._write() as connection:
            upsert(connection, LOG_CURSORS, [named | row])
            if ledger is not None:
                ranges = zlib.compress(msgspec.msgpack.encode(ledger.ranges), _COMPRESSION_LEVEL)
                upsert(connection, LOG_LEDGERS, [named | {"position": ledger.offset, "ranges": ranges}])

    def find_needed(self, readers: tuple[str, ...]) -> int:
        """The offset from which on some of the readers need the log; 0 where one has not begun. Of what they have read
        they need what is not in their ledgers."""
        with self._state.read() as connection:
            kept = connection.execute(
                select(func.min(LOG_CURSORS.c.position), func.min(LOG_LEDGERS.c.position), func.count())
                .join(
                    LOG_LEDGERS,
                    (LOG_CURSORS.c.log == LOG_LEDGERS.c.log) & (LOG_CURSORS.c.reader == LOG_LEDGERS.c.reader),
                )
                .where(LOG_CURSORS.c.log == self._log_id, LOG_CURSORS.c.reader.in_(readers))
            ).one()
        return min(int(kept[0]), int(kept[1])) if kept[2] == len(readers) else 0

    def await_stored(self, end: int) -> None:
        """Until the tables have all before `end`. Raises LogError after `STORED_SECONDS`."""
        until = time.monotonic() + STORED_SECONDS
        while (cursor := self.load(STORE)) is None or cursor.position.offset < end:
            if time.monotonic() >= until:
                raise LogError("The tables do not have all batches of the log yet; erase again later.")
            time.sleep(_LOOK_SECONDS)

    def _match(self, table: Table, reader: str) -> tuple[Any, Any]:
        return table.c.log == self._log_id, table.c.reader == reader
