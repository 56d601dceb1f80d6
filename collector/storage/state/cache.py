"""Keeps in memory what was read of tables of the state, until any collector writes them."""

import threading
import time
from collections.abc import Callable, Collection
from typing import Final, Generic, TypeVar

from sqlalchemy import Connection

from collector.core.scope import EVERYTHING, use_scope
from collector.storage.state.store import StateStore, count_writes
from common.token_bucket import TokenBucket

T = TypeVar("T")
LOOK_SECONDS: Final = 1.0  # Between two looks of `recall`.
MISSES_PER_SECOND: Final = 10.0  # Reads for what was missing, in the long run.
MISSES_MAX: Final = 50  # At once.


class StateCache(Generic[T]):
    """Thread-safe. Each look is one short SELECT. Raises StoreError."""

    def __init__(
        self,
        state: StateStore,
        tables: Collection[str],
        read: Callable[[Connection], T],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._state, self._tables, self._read, self._monotonic = state, tables, read, monotonic
        self._look_at = float("-inf")
        self._kept: tuple[int, T] | None = None  # And how often the tables had been written.
        self._misses, self._missing = TokenBucket(MISSES_PER_SECOND, MISSES_MAX, monotonic), threading.Lock()

    @property
    def writes(self) -> int:
        """How often the tables had been written when it was read last; another number where something else was read."""
        return -1 if self._kept is None else self._kept[0]

    def read(self) -> T:
        """As it is now."""
        with use_scope(EVERYTHING), self._state.read() as connection:  # It is kept for all.
            return self.read_in(connection)

    def recall(self) -> T:
        """As it was a second ago at most, for what is asked for often; the same object where nobody wrote. Who wrote
        calls `look`."""
        now, kept = self._monotonic(), self._kept
        if kept is not None and now < self._look_at:
            return kept[1]
        self._look_at = now + LOOK_SECONDS  # Before it is read: another thread may write and call `look` then.
        return self.read()

    def recall_missing(self) -> T:
        """As it is now, for who misses something in what `recall` gave, which may have been written elsewhere since.
        Where too many do, for strangers may ask for anything, it is as `recall` has it."""
        with self._missing:
            is_paced = self._misses.take()
        return self.read() if is_paced else self.recall()

    def look(self) -> None:
        """Have the next `recall` look, however soon it is."""
        self._look_at = float("-inf")

    def read_in(self, connection: Connection) -> T:
        """As it is in a transaction that wrote none of it yet."""
        # The number comes first: what is written in between is read again at the next look.
        writes, kept = count_writes(connection, self._tables), self._kept
        if kept is None or kept[0] != writes:
            self._kept = kept = writes, self._read(connection)
        return kept[1]

    def replace(self, value: T, *, writes: int) -> None:
        """What a transaction wrote that had `writes` before and let nobody else write; to be called once it is kept."""
        self._kept = writes + 1, value
