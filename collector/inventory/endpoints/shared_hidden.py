"""Has the statements of a large store share one table of the hidden routes (collector/inventory/endpoints/outbound.py).

Which routes are hidden follows from all routes and the summaries of the span's days: a third of what a list of 100,000
endpoints takes. It changes when a new host is called, so the routes of the same days are found once a minute, and again
`NEW_SECONDS` later where routes came meanwhile. Whoever sees only some namespaces does not share them.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final

from collector.core.budget import hold
from collector.core.scope import find_scope
from collector.inventory.endpoints.outbound import HIDDEN_ROUTES
from collector.inventory.query import DAY_SECONDS
from collector.storage.base import Store

NEW_SECONDS: Final = 10
KEPT_SECONDS: Final = 60
REST_SECONDS: Final = 60  # A statement that names a table has begun to read it by then.
TABLES_MAX: Final = 8  # 100,000 hidden routes take 3 MB each. Without a free one a statement finds them itself.
_SUBQUERY: Final = f"({HIDDEN_ROUTES})"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    table: str
    made_at: float
    writes: int  # To the routes, before it was made.


class SharedHidden:
    """Thread-safe. Of the embedded engine: its tables are sets in memory, and empty after a start."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._lock = Lock()
        self._kept: dict[tuple[int, int], _Kept] = {}  # By the first and the last day.
        self._left: dict[str, float] = {}  # Tables that nobody is given any more, and since when.
        self._count = 0

    def share(self, sql: str, parameters: Mapping[str, Any]) -> str:
        """The statement, with the shared table where it would find the hidden routes itself. Raises StoreError."""
        if _SUBQUERY not in sql or not find_scope().is_all:
            return sql
        with hold(self._lock):
            table = self._find(parameters)
        return sql if table is None else sql.replace(_SUBQUERY, table)

    def forget(self) -> None:
        """Drop what is known, because rows were deleted."""
        with self._lock:
            for days in list(self._kept):
                self._leave(days)

    def _find(self, parameters: Mapping[str, Any]) -> str | None:
        days = parameters["start"] // DAY_SECONDS, parameters["end"] // DAY_SECONDS
        now, writes = self._clock(), self._store.count_writes(("routes",))
        for other in [one for one, kept in self._kept.items() if not _is_good(kept, now, writes)]:
            self._leave(other)
        if days in self._kept:
            return self._kept[days].table
        table = self._take_table(now)
        if table is None:
            return None
        self._left[table] = now  # Until it is whole.
        self._store.execute(f"TRUNCATE TABLE {table}")
        self._store.execute(f"INSERT INTO {table} {HIDDEN_ROUTES}", parameters)
        del self._left[table]
        self._kept[days] = _Kept(table=table, made_at=now, writes=writes)
        return table

    def _leave(self, days: tuple[int, int]) -> None:
        self._left[self._kept.pop(days).table] = self._clock()

    def _take_table(self, now: float) -> str | None:
        for table, since in self._left.items():
            if now - since >= REST_SECONDS:
                return table
        if self._count == TABLES_MAX:
            return None
        table = f"hidden_routes_{self._count + 1}"
        self._store.execute(f"DROP TABLE IF EXISTS {table}")  # Of an earlier process.
        self._store.execute(f"CREATE TABLE {table} (route_id UInt64) ENGINE = Set SETTINGS persistent = 0")
        self._count += 1
        return table


def _is_good(kept: _Kept, now: float, writes: int) -> bool:
    return 0 <= now - kept.made_at < (KEPT_SECONDS if kept.writes == writes else NEW_SECONDS)
