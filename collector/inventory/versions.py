"""Versions of rows that are replaced: of each key the store keeps the row with the highest one.

Microseconds of the clock, and always more than any that is there: what is written after the clock was put back is newer
all the same.
"""

from collections.abc import Callable
from threading import Lock
from typing import Final

from collector.inventory.reader import Reader, select

MICROSECONDS: Final = 1_000_000


class Versions:
    """Of these tables, whose newest is asked for at the first `take`. Thread-safe."""

    def __init__(self, reader: Reader, *tables: str, clock: Callable[[], float]) -> None:
        """`clock` gives unix seconds."""
        self._reader = reader
        self._tables = tables
        self._clock = clock
        self._lock = Lock()
        self._last: int | None = None

    def take(self) -> int:
        """The next one. Raises StoreError."""
        with self._lock:
            if self._last is None:
                self._last = max(self._read(table) for table in self._tables)
            self._last = max(int(self._clock() * MICROSECONDS), self._last + 1)
            return self._last

    def _read(self, table: str) -> int:
        (row,) = select(self._reader, f"SELECT max(version) AS newest FROM {table}")
        return int(row["newest"])
