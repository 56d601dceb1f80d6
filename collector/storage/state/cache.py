"""Keeps in memory what was read of tables of the state, until any collector writes them."""

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from sqlalchemy import Connection

from collector.core.scope import EVERYTHING, use_scope
from collector.storage.state.store import StateStore, StateVersion, count_writes
from common.token_bucket import TokenBucket

T = TypeVar("T")
LOOK_SECONDS: Final = 1.0  # Between two looks of `recall`.
MISSES_PER_SECOND: Final = 10.0  # Reads for what was missing, in the long run.
MISSES_MAX: Final = 50  # At once.


@dataclass(frozen=True, slots=True)
class _Kept(Generic[T]):
    """What was read, how often the tables had been written, and what the state's version was before, where known."""

    version: StateVersion | None
    writes: int
    value: T

    def is_as(self, version: StateVersion | None, writes: int) -> bool:
        """Whether it is what the tables hold that had been written so often, in the file of a version."""
        is_other = self.version is not None and version is not None and self.version.file != version.file
        return self.writes == writes and not is_other


class StateCache(Generic[T]):
    """Thread-safe. Each look is one short SELECT, or less where nobody wrote anything. Raises StoreError."""

    def __init__(
        self,
        state: StateStore,
        tables: Collection[str],
        read: Callable[[Connection], T],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._state, self._tables, self._read, self._monotonic = state, tables, read, monotonic
        self._look_at = float("-inf")
        self._kept: _Kept[T] | None = None
        self._misses, self._missing = TokenBucket(MISSES_PER_SECOND, MISSES_MAX, monotonic), threading.Lock()

    @property
    def writes(self) -> int:
        """How often the tables had been written when it was read last; another number where something else was read."""
        return -1 if self._kept is None else self._kept.writes

    def read(self) -> T:
        """As it is now."""
        version, kept = self._state.find_version(), self._kept
        if version is not None and kept is not None and kept.version == version:
            return kept.value
        with use_scope(EVERYTHING), self._state.read() as connection:  # It is kept for all.
            return self._read_at(connection, version)

    def recall(self) -> T:
        """As it was a second ago at most, for what is asked for often; the same object where nobody wrote. Who wrote
        calls `look`."""
        now, kept = self._monotonic(), self._kept
        if kept is not None and now < self._look_at:
            return kept.value
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
        return self._read_at(connection, None)

    def _read_at(self, connection: Connection, version: StateVersion | None) -> T:
        """`version` is that of the state before the transaction, where it is known."""
        # The number comes first: what is written in between is read again at the next look.
        writes, kept = count_writes(connection, self._tables), self._kept
        if kept is None or not kept.is_as(version, writes):
            kept = _Kept(version, writes, self._read(connection))
        elif version is not None:
            kept = _Kept(version, writes, kept.value)
        self._kept = kept
        return kept.value

    def replace(self, value: T, *, writes: int) -> None:
        """What a transaction wrote that had `writes` before and let nobody else write; to be called once it is kept."""
        self._kept = _Kept(None, writes + 1, value)
