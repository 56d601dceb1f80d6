"""Keeps the sums of every consumer over those hours of the last day that are over, so that the list of consumers adds
only the rows since.

A table holds them, one row a consumer, made of rows of calls a part of the consumers at a time. The sums for the next
hour's span are made half an hour before it begins, when late rows are in. Some events change what is summed: calls that
come later still, a route that gets another endpoint, a server that was not watched before, an erasure, rows that the
disk cap drops. The sums are then unusable and made again, at most every REBUILD_SECONDS. Meanwhile, and for other spans
and small stores, the list adds up all rows of calls. Both ways give the same numbers.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from threading import Lock
from typing import Final

from collector.core.feature import Feature, Job, Role
from collector.inventory.endpoints.outbound import find_answered, list_unwatched
from collector.inventory.endpoints.predicates import (
    ERROR,
    IN_SPAN,
    NAMES,
    OUTCOME,
    ConsumerSql,
    counted_rows,
    objects_count,
    span_parameters,
)
from collector.inventory.query import DAY_SECONDS, HOUR_SECONDS, Rollup, Span
from collector.storage.base import Store
from collector.storage.columns import UsedBy, sum_columns
from collector.storage.records import select

TABLE: Final = "consumer_sums_{number}"
ROWS_MIN: Final = 500_000  # Rows of hours; fewer are added up as fast as their sums are read.
CHUNK_ROWS: Final = 500_000  # Whose consumers are added up by one statement: half a second, some 100 MB.
REBUILD_SECONDS: Final = 600
LATE_SECONDS: Final = 1_800  # From the end of an hour to when its rows are in.
LOOK_SECONDS: Final = 60
GRACE_SECONDS: Final = 120  # Longer than any statement that may still read a table.


def _sum_rows(objects: str) -> str:
    """Sums and states of one consumer, by column, over the aliases `r` of rows and `n` of their endpoints."""
    return f"""{sum_columns(UsedBy.CONSUMERS)}, max(r.principal_kind) AS principal_kind,
    max(r.key_id) AS key_id, sumIf(r.calls, {ERROR}) AS errors, sumIf(r.calls, {OUTCOME} IN (401, 403)) AS denied,
    groupUniqArray(2)(n.cluster) AS clusters, toUnixTimestamp(min(r.first_seen)) AS first_seen,
    toUnixTimestamp(max(r.last_seen)) AS last_seen, uniqCombined64State(12)(n.endpoint_id) AS endpoints_state,
    {objects} AS objects_state,
    uniqCombined64IfState(12)(r.client_address, r.client_address != '') AS addresses_state"""


_OF_HOURS: Final = _sum_rows("uniqCombined64MergeState(12)(r.objects_state)")
_OF_MINUTES: Final = _sum_rows(
    "CAST(uniqCombined64ArrayState(12)(r.objects), 'AggregateFunction(uniqCombined64(12), UInt64)')"
)
# The figures of the list, of such sums by the alias `p`.
_ADDED: Final = f"""{sum_columns(UsedBy.CONSUMERS, "p")}, max(p.principal_kind) AS principal_kind,
    max(p.key_id) AS key_id, sum(p.errors) AS errors, sum(p.denied) AS denied,
    arraySlice(groupUniqArrayArray(p.clusters), 1, 2) AS clusters, min(p.first_seen) AS first_seen,
    max(p.last_seen) AS last_seen, uniqCombined64Merge(12)(p.endpoints_state) AS endpoints,
    least(greatest(uniqCombined64Merge(12)(p.objects_state), max(p.objects_count)), sum(p.calls)) AS objects,
    least(uniqCombined64IfMerge(12)(p.addresses_state), sum(p.calls)) AS addresses"""
_SHOW: Final = f"SHOW TABLES LIKE '{TABLE.format(number='%')}'"
_COLUMNS: Final = ", ".join(
    (
        *(
            "consumer",
            "key",
            "calls",
            "request_bytes",
            "response_bytes",
            "objects_count",
            "attacks",
            "attacks_confirmed",
        ),
        *("principal_kind", "key_id", "errors", "denied", "clusters", "first_seen", "last_seen"),
        *("endpoints_state", "objects_state", "addresses_state"),
    )
)
_COUNTED: Final = counted_rows(Span(start=0, end=0, rollup=Rollup.HOUR))
# Of minutes, for an hour of them is a partition, while each block of hours has rows of all hours of its day.
_LATER: Final = (
    counted_rows(Span(start=0, end=0, rollup=Rollup.MINUTE)) + " AND r.time >= toDateTime({until:UInt32}, 'UTC')"
)
_COUNT: Final = f"SELECT count() AS rows FROM rows_hour AS r WHERE {IN_SPAN}"
_MOVED: Final = """
SELECT route_id FROM endpoint_routes WHERE version > {version:UInt64}
    AND route_id IN (SELECT route_id FROM routes WHERE first_seen < toDateTime({until:UInt32}, 'UTC'))
LIMIT 1"""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptSums:
    """One table: the sums of [start, until) in unix seconds. `writes`, `version` and `unwatched` are what was there
    before it was made: inserts of rows, the newest name of an endpoint, and called servers that no sensor watched."""

    table: str
    start: int
    until: int
    writes: int
    version: int
    unwatched: frozenset[tuple[str, int]]


class ConsumerSums:
    """Makes and reads these tables. Thread-safe; `update` is for one thread."""

    def __init__(self, *, store: Store, who: ConsumerSql, clock: Callable[[], float], rows_min: int = ROWS_MIN) -> None:
        self._store = store
        self._who = who
        self._clock = clock
        self._rows_min = rows_min
        self._lock = Lock()
        self._kept: dict[int, KeptSums] = {}  # By start.
        self._forgotten = 0  # How often all were forgotten.
        self._begun: dict[int, float] = {}  # When sums were last begun, by start.
        self._unused: dict[str, float] = {}  # Tables to be dropped, and since when.
        self._number = 0
        self._work = self._run()

    @property
    def feature(self) -> Feature:
        """What the collector repeats."""
        return Feature(name="sums of consumers", role=Role.JOBS, jobs=(Job(works=(self.update,)),))

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
        for (name,) in self._store.query(_SHOW):
            self._store.execute(f"DROP TABLE IF EXISTS {name} SYNC")

    def find(self, span: Span) -> KeptSums | None:
        """The sums that a span begins with, where they hold. Raises StoreError."""
        kept = self._kept.get(span.start) if span.rollup is Rollup.HOUR else None
        if kept is None or span.end <= kept.until or self._is_changed(kept, span):
            return None
        return kept

    def write_statement(self, kept: KeptSums, sort: str, conditions: str, page: str) -> str:
        """The statement that gives the figures of one page and one consumer more, with sort_value and total, in any
        order. `conditions` are on consumers, `page` follows what has consumer and sort_value. Parameters are those of
        `bind`. Of a consumer without later rows the sums are the figures, so only others are added up."""
        return f"""
WITH {NAMES}, later AS MATERIALIZED (
    SELECT {_COLUMNS} FROM (
        SELECT {self._who.id} AS consumer, cityHash64(consumer) AS key, {_OF_MINUTES}
        {_LATER}
        GROUP BY consumer)
), page AS MATERIALIZED (
    SELECT consumer, cityHash64(consumer) AS key, sort_value FROM (
        SELECT k.consumer AS consumer, toFloat64(k.{sort}) AS sort_value FROM {kept.table} AS k
        WHERE k.calls > 0 AND {conditions} AND k.key NOT IN (SELECT key FROM later)
        UNION ALL
        SELECT s.consumer AS consumer, toFloat64(s.{sort}) AS sort_value
        FROM (SELECT p.consumer AS consumer, {_ADDED} FROM (
            SELECT {_COLUMNS} FROM later
            UNION ALL
            SELECT {_COLUMNS} FROM {kept.table} WHERE key IN (SELECT key FROM later)
        ) AS p GROUP BY consumer) AS s
        WHERE s.calls > 0 AND {conditions}
    )
    {page}
)
SELECT f.* EXCEPT consumer, f.consumer AS consumer, g.sort_value AS sort_value, t.total AS total
FROM (
    SELECT p.consumer AS consumer, {_ADDED}
    FROM (
        SELECT {_COLUMNS} FROM later WHERE key IN (SELECT key FROM page)
        UNION ALL
        SELECT {_COLUMNS} FROM {kept.table} WHERE key IN (SELECT key FROM page)
    ) AS p
    GROUP BY consumer
) AS f
INNER JOIN (SELECT consumer, sort_value FROM page) AS g ON g.consumer = f.consumer
CROSS JOIN (
    SELECT sum(found) AS total FROM (
        SELECT count() AS found FROM {kept.table} WHERE calls > 0 AND {conditions}
        UNION ALL
        SELECT count() AS found FROM later WHERE calls > 0 AND {conditions} AND key NOT IN (
            SELECT key FROM {kept.table} WHERE calls > 0 AND key IN (SELECT key FROM later))
    )
) AS t
SETTINGS enable_materialized_cte = 1"""

    def bind(self, kept: KeptSums, span: Span) -> dict[str, int]:
        """The parameters: rows of hours count whole, so minutes do to the end of the last hour."""
        return {"start": span.start, "until": kept.until, "end": -(-span.end // HOUR_SECONDS) * HOUR_SECONDS}

    def _is_changed(self, kept: KeptSums, span: Span) -> bool:
        """Whether what was summed would be summed otherwise today."""
        if self._store.has_rows_before(kept.until, kept.writes):
            return True
        (oldest,) = select(self._store, "SELECT toUnixTimestamp(min(time)) AS time FROM rows_minute")
        if int(oldest["time"]) > kept.until:  # Of later rows the disk cap may have dropped some.
            return True
        if select(self._store, _MOVED, {"version": kept.version, "until": kept.until}):
            return True
        return not find_answered(self._store, kept.unwatched, span_parameters(span)).isdisjoint(kept.unwatched)

    def _run(self) -> Iterator[bool]:
        """Never ends. Each step is one statement or two."""
        for (name,) in self._store.query(_SHOW):
            self._unused[str(name)] = 0.0  # Of an earlier process.
        while True:
            now = self._clock()
            for table in [name for name, since in self._unused.items() if now - since >= GRACE_SECONDS]:
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
        parameters = span_parameters(span)
        (counted,) = select(self._store, _COUNT, parameters)
        if int(counted["rows"]) < self._rows_min:
            return
        self._begun = {
            span.start: now,
            **{start: at for start, at in self._begun.items() if start > now - DAY_SECONDS * 2},
        }
        self._number += 1
        table, forgotten = TABLE.format(number=self._number), self._forgotten
        (newest,) = select(self._store, "SELECT max(version) AS version FROM endpoint_routes")
        made = KeptSums(
            table=table,
            start=span.start,
            until=span.end,
            writes=self._store.count_writes(("rows_minute",)),
            version=int(newest["version"]),
            unwatched=list_unwatched(self._store, parameters),
        )
        chunks = max(1, int(counted["rows"]) // CHUNK_ROWS)
        rows = f"""
WITH {NAMES}
SELECT {self._who.id} AS consumer, cityHash64(consumer) AS key, {_OF_HOURS},
    uniqCombined64(12)(n.endpoint_id) AS endpoints, {objects_count(Rollup.HOUR)} AS objects
{_COUNTED} AND {self._who.key} % {chunks} = {{chunk:UInt32}}
GROUP BY consumer"""
        self._unused[table] = now  # Until it is whole.
        asked = {**parameters, "chunk": 0}
        self._store.execute(f"CREATE TABLE {table} ENGINE = MergeTree ORDER BY key EMPTY AS {rows}", asked)
        for chunk in range(chunks):
            yield True
            if self._forgotten != forgotten:
                return
            self._store.execute(f"INSERT INTO {table} {rows}", {**asked, "chunk": chunk})
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
