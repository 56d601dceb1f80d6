"""Keeps sums over those hours of the last day that are over, in tables of their own, so that a list adds only the rows
since.

A table holds one row a subject, made of the rows of hours, a part of the subjects at a time. The sums for the next
hour's span are made half an hour before it begins, when late rows are in. Some events change what is summed: calls that
come later still, an erasure, rows that the disk cap drops, and what the subject itself names. The sums are then
unusable and made again, at most every REBUILD_SECONDS. Meanwhile, and for other spans and small stores, lists add up
all rows. Both ways give the same numbers.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Final, Protocol

from collector.core.feature import Feature, Job, Role
from collector.core.scope import find_scope
from collector.inventory.endpoints.predicates import IN_SPAN, span_parameters
from collector.inventory.query import DAY_SECONDS, HOUR_SECONDS, Rollup, Span
from collector.storage.base import Store
from collector.storage.records import select

ROWS_MIN: Final = 500_000  # Rows of hours; fewer are added up as fast as their sums are read.
REBUILD_SECONDS: Final = 600
LATE_SECONDS: Final = 1_800  # From the end of an hour to when its rows are in.
LOOK_SECONDS: Final = 60
_UNHURRIED: Final = "SETTINGS max_execution_time = 600"  # Nobody waits, and a busy host needs the sums most.
GRACE_SECONDS: Final = 120  # Longer than any statement that may still read a table.


def choose_part(hashed: str, chunks: int) -> str:
    """The condition on rows of the part {chunk:UInt32}, by a column of hashes. Where that is the key, only its rows
    are read."""
    return "true" if chunks == 1 else f"intDiv({hashed}, {-(-(2**64) // chunks)}) = {{chunk:UInt32}}"


class Subject(Protocol):
    """What is summed. `name` begins the names of its tables, `key` orders their rows, and `source` holds the rows of
    hours. `chunk_rows` of them are added up by one statement: half a second, some 100 MB."""

    name: str
    key: str
    source: str
    chunk_rows: int

    def look(self, store: Store, span: Span) -> object:
        """What else the sums of a span depend on. Raises StoreError."""

    def is_changed(self, store: Store, kept: "KeptSums", span: Span) -> bool:
        """Whether that is different now. Raises StoreError."""

    def write_rows(self, chunks: int) -> str:
        """The statement whose rows are kept: of the part {chunk:UInt32} of `chunks`, over {start:UInt32} to
        {end:UInt32}."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptSums:
    """One table: the sums of [start, until) in unix seconds. `writes` and `seen` are what was there before it was made:
    inserts of rows, and what the subject looked at."""

    table: str
    start: int
    until: int
    writes: int
    seen: object


class SumsKeeper:
    """Makes and finds the tables of one subject. Thread-safe; `update` is for one thread."""

    def __init__(self, *, store: Store, subject: Subject, clock: Callable[[], float], rows_min: int = ROWS_MIN) -> None:
        self._store = store
        self._subject = subject
        self._clock = clock
        self._rows_min = rows_min
        self._lock = Lock()
        self._kept: dict[int, KeptSums] = {}  # By start.
        self._forgotten = 0  # How often all were forgotten.
        self._begun: dict[int, float] = {}  # When sums were last begun, or there were too few rows, by start.
        self._unused: dict[str, float] = {}  # Tables to be dropped, and since when.
        self._number = 0
        self._work = self._run()

    @property
    def feature(self) -> Feature:
        """What the collector repeats."""
        return Feature(name=f"sums of {self._subject.name}s", role=Role.JOBS, jobs=(Job(works=(self.update,)),))

    @property
    def has_any(self) -> bool:
        """Whether the store is so large that sums are kept."""
        return bool(self._kept)

    def update(self) -> bool:
        """The next part of what is to be done, and whether there was one: to be called each second. Raises
        StoreError."""
        try:
            return next(self._work)
        except BaseException:
            self._work = self._run()  # What raised has ended.
            raise

    def erase(self) -> None:
        """Drop all at once, because rows are deleted or a name may be nowhere. Raises StoreError."""
        with self._lock:
            self._forgotten += 1
            self._kept.clear()
        for name in self._list_tables():
            self._store.execute(f"DROP TABLE IF EXISTS {name} SYNC")

    def find(self, span: Span) -> KeptSums | None:
        """The sums that a span begins with, where they hold; none in a scope, for they are of everything. Raises
        StoreError."""
        kept = self._kept.get(span.start) if span.rollup is Rollup.HOUR and find_scope().is_all else None
        if kept is None or span.end <= kept.until or self._is_changed(kept, span):
            return None
        return kept

    def _name_table(self, kind: str = "") -> str:
        """A name that no table has."""
        with self._lock:
            self._number += 1
            return f"{self._subject.name}_sums_{kind}{self._number}"

    def _leave(self, table: str) -> None:
        """Have a table dropped once no statement may read it."""
        with self._lock:
            self._unused[table] = self._clock()

    def _is_changed(self, kept: KeptSums, span: Span) -> bool:
        """Whether what was summed would be summed otherwise today."""
        is_late = self._store.has_rows_before(kept.until, kept.writes)
        return is_late or self._subject.is_changed(self._store, kept, span)

    def _list_tables(self) -> list[str]:
        return [str(name) for (name,) in self._store.query(f"SHOW TABLES LIKE '{self._subject.name}_sums_%'")]

    def _run(self) -> Iterator[bool]:
        """Never ends. Each step is one statement or two."""
        for name in self._list_tables():
            self._unused[name] = 0.0  # Of an earlier process.
        while True:
            now = self._clock()
            for table in [name for name, since in list(self._unused.items()) if now - since >= GRACE_SECONDS]:
                self._store.execute(f"DROP TABLE IF EXISTS {table}")
                del self._unused[table]
            for span in _list_spans(now):
                yield from self._keep(span)
            with self._lock:
                starts = {span.start for span in _list_spans(self._clock())}
                for start in self._kept.keys() - starts:
                    self._unused[self._kept.pop(start).table] = now
            yield False
            while 0 <= self._clock() - now < LOOK_SECONDS:
                yield False

    def _keep(self, span: Span) -> Iterator[bool]:
        """The sums of a span of hours that are over."""
        kept, now = self._kept.get(span.start), self._clock()
        if kept is not None and not self._is_changed(kept, span):
            return
        if now - self._begun.get(span.start, 0.0) < REBUILD_SECONDS:
            return
        # Of hours that are over, so most of them are merged. Where they are not, there are more chunks than needed.
        counted = f"SELECT count() AS rows FROM {self._subject.source} AS r WHERE {IN_SPAN}"
        (found,) = select(self._store, counted, span_parameters(span))
        self._begun = {start: at for start, at in self._begun.items() if start > now - DAY_SECONDS * 2}
        self._begun[span.start] = now
        if int(found["rows"]) < self._rows_min:
            return
        table, forgotten = self._name_table(), self._forgotten
        made = KeptSums(
            table=table,
            start=span.start,
            until=span.end,
            writes=self._store.count_writes(("rows_minute",)),
            seen=self._subject.look(self._store, span),
        )
        chunks = max(1, int(found["rows"]) // self._subject.chunk_rows)
        rows = self._subject.write_rows(chunks)
        self._unused[table] = now  # Until it is whole.
        asked = {**span_parameters(span), "chunk": 0}
        self._store.execute(
            f"CREATE TABLE {table} ENGINE = MergeTree ORDER BY {self._subject.key} EMPTY AS {rows}", asked
        )
        for chunk in range(chunks):
            yield True
            if self._forgotten != forgotten:
                return
            self._store.execute(f"INSERT INTO {table} {rows} {_UNHURRIED}", {**asked, "chunk": chunk})
        with self._lock:
            if self._forgotten == forgotten:
                if kept is not None:
                    self._unused[kept.table] = self._clock()
                self._kept[span.start] = made
                del self._unused[table]


def _list_spans(now: float) -> Sequence[Span]:
    """Of the last day those hours whose rows are in, and the same of the hour that begins soon."""
    hour = int(now) // HOUR_SECONDS * HOUR_SECONDS
    until = int(now - LATE_SECONDS) // HOUR_SECONDS * HOUR_SECONDS
    starts = [hour - DAY_SECONDS] + [hour + HOUR_SECONDS - DAY_SECONDS] * (until == hour)
    return [Span(start=start, end=until, rollup=Rollup.HOUR) for start in starts]
