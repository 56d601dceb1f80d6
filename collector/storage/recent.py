"""Answers of the last seconds, given again: two looks at one page of a large store cost one look.

A store is large where sums are kept of it (collector/inventory/kept_sums.py). There a statement with the same
parameters, in the same scope, has the same answer for KEPT_SECONDS. Rows of calls that come meanwhile are not in it.
Everything else is: a write to another table that the statement names makes it be asked anew, and so do an erasure and
rows that the disk cap drops. Long answers are not kept.
"""

import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from threading import Lock
from typing import Any, Final

from collector.core.scope import find_scope
from collector.storage.base import Store
from collector.storage.tables import calls, decisions, facts

KEPT_SECONDS: Final = 10
ANSWERS_MAX: Final = 200  # The one that was not asked for longest goes.
ROWS_MAX: Final = 600  # Of one answer; a page has at most 500. All answers take some 20 MB.
_ROWS_OF_CALLS: Final = frozenset(("rows_minute", "rows_hour", "routes_hour", "routes_day"))
_VIEWS: Final = (*calls.VIEWS, facts.COVERAGE_HOURS_VIEW)
_SOURCES: Final[Mapping[str, str]] = {view.target: view.source.split()[0] for view in _VIEWS}
_TABLES: Final = (*calls.TABLES, *facts.TABLES, *decisions.TABLES)
_NAME: Final = re.compile(r"\b(?:" + "|".join(table.name for table in _TABLES) + r")\b")


@lru_cache(maxsize=500)
def find_tables(sql: str) -> tuple[str, ...]:
    """Whose writes change the answer at once: what the statement names but rows of calls."""
    named = set(_NAME.findall(sql))
    return tuple(sorted((named | {_SOURCES.get(name, name) for name in named}) - _ROWS_OF_CALLS))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    columns: dict[str, list[Any]]
    writes: int
    asked_at: float


class RecentAnswers:
    """A Reader (collector/storage/records.py). Thread-safe; nobody may change what it gives."""

    def __init__(
        self,
        store: Store,
        is_large: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
        share: Callable[[str, Mapping[str, Any]], str] = lambda sql, parameters: sql,
    ) -> None:
        """`share` gives a statement that is to be asked what others found already; of a large store alone."""
        self._store = store
        self._share = share
        self._is_large = is_large
        self._clock = clock
        self._lock = Lock()
        self._answers: OrderedDict[tuple[object, ...], _Answer] = OrderedDict()
        self._forgotten = 0

    def query_columns(self, sql: str, parameters: Mapping[str, Any] | None = None) -> dict[str, list[Any]]:
        """See Reader."""
        if not self._is_large():
            return self._store.query_columns(sql, parameters)
        key = (sql, repr(sorted((parameters or {}).items())), find_scope())
        asked_at, forgotten = self._clock(), self._forgotten
        writes = self._store.count_writes(find_tables(sql))
        with self._lock:
            kept = self._answers.get(key)
            if kept is not None and kept.writes == writes and 0 <= asked_at - kept.asked_at < KEPT_SECONDS:
                self._answers.move_to_end(key)
                return kept.columns
        columns = self._store.query_columns(self._share(sql, parameters or {}), parameters)
        if all(len(column) <= ROWS_MAX for column in columns.values()):
            with self._lock:
                if self._forgotten == forgotten:
                    self._answers[key] = _Answer(columns=columns, writes=writes, asked_at=asked_at)
                    self._answers.move_to_end(key)
                    while len(self._answers) > ANSWERS_MAX:
                        self._answers.popitem(last=False)
        return columns

    def forget(self) -> None:
        """Drop all, because rows were deleted."""
        with self._lock:
            self._forgotten += 1
            self._answers.clear()
