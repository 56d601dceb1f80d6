"""A copy in memory of what tables of the state hold, read anew after they were written, by whatever collector."""

import threading
import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from sqlalchemy import Connection, Table

from collector.storage.state.store import StateStore, count_writes

CopyT = TypeVar("CopyT")
LOOK_SECONDS: Final = 1.0  # Between two looks at whether somebody wrote.


class KeptCopy(Generic[CopyT]):
    """What `read` gives of some tables. Thread-safe. Methods raise StoreError."""

    def __init__(
        self,
        state: StateStore,
        *tables: Table,
        read: Callable[[Connection], CopyT],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._state = state
        self._tables = tuple(table.name for table in tables)
        self._read = read
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._copy: CopyT | None = None
        self._writes = -1
        self._look_at = -1.0

    def get(self) -> CopyT:
        """As it was a second ago at most; the same object as before where nobody wrote."""
        with self._lock:
            now = self._monotonic()
            if self._copy is None or now >= self._look_at:
                with self._state.read() as connection:
                    # First, so that what is written between the two is read once more.
                    writes = count_writes(connection, self._tables)
                    if self._copy is None or writes != self._writes:
                        self._copy = self._read(connection)
                self._writes, self._look_at = writes, now + LOOK_SECONDS
            return self._copy

    def look(self) -> None:
        """Look at the next `get` however soon it is: this process wrote."""
        with self._lock:
            self._look_at = -1.0
