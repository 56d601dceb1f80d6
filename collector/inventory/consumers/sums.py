"""Kept sums of every consumer, from which the list of consumers is made (collector/inventory/kept_sums.py).

They depend on more than their rows: a route that gets another endpoint, and a server that was not watched before,
change what is summed.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Final, cast

from collector.inventory.endpoints.outbound import find_answered, list_unwatched
from collector.inventory.endpoints.predicates import (
    ERROR,
    NAMES,
    OUTCOME,
    ConsumerSql,
    counted_rows,
    objects_count,
    span_parameters,
)
from collector.inventory.kept_sums import GRACE_SECONDS, ROWS_MIN, KeptSums, SumsKeeper
from collector.inventory.query import HOUR_SECONDS, Rollup, Span
from collector.storage.base import Store
from collector.storage.columns import UsedBy, sum_columns
from collector.storage.recent import KEPT_SECONDS
from collector.storage.records import select


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
LATER_SECONDS: Final = KEPT_SECONDS
_MOVED: Final = """
SELECT route_id FROM endpoint_routes WHERE version > {version:UInt64}
    AND route_id IN (SELECT route_id FROM routes WHERE first_seen < toDateTime({until:UInt32}, 'UTC'))
LIMIT 1"""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """The newest name of an endpoint, and called servers that no sensor watched."""

    version: int
    unwatched: frozenset[tuple[str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Later:
    """The sums since the kept ones, what they are of, and when they were made."""

    table: str
    seen: object
    made_at: float


class _Consumers:
    name = "consumer"
    key = "key"
    source = "rows_hour"
    chunk_rows = 500_000

    def __init__(self, who: ConsumerSql) -> None:
        self._who = who

    def look(self, store: Store, span: Span) -> _Seen:
        (newest,) = select(store, "SELECT max(version) AS version FROM endpoint_routes")
        return _Seen(version=int(newest["version"]), unwatched=list_unwatched(store, span_parameters(span)))

    def is_changed(self, store: Store, kept: KeptSums, span: Span) -> bool:
        seen = cast(_Seen, kept.seen)
        (oldest,) = select(store, "SELECT toUnixTimestamp(min(time)) AS time FROM rows_minute")
        if int(oldest["time"]) > kept.until:  # Of later rows the disk cap may have dropped some.
            return True
        if select(store, _MOVED, {"version": seen.version, "until": kept.until}):
            return True
        return not find_answered(store, seen.unwatched, span_parameters(span)).isdisjoint(seen.unwatched)

    def write_rows(self, chunks: int) -> str:
        return f"""
WITH {NAMES}
SELECT {self._who.id} AS consumer, cityHash64(consumer) AS key, {_OF_HOURS},
    uniqCombined64(12)(n.endpoint_id) AS endpoints, {objects_count(Rollup.HOUR)} AS objects
{_COUNTED} AND {self._who.key} % {chunks} = {{chunk:UInt32}}
GROUP BY consumer"""


class ConsumerSums(SumsKeeper):
    """Makes the sums, and writes the statement that reads them."""

    def __init__(
        self,
        *,
        store: Store,
        who: ConsumerSql,
        clock: Callable[[], float],
        rows_min: int = ROWS_MIN,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(store=store, subject=_Consumers(who), clock=clock, rows_min=rows_min)
        self._who = who
        self._monotonic = monotonic
        self._making = Lock()
        self._later: _Later | None = None

    def find_later(self, kept: KeptSums, span: Span) -> str:
        """A table of the sums of each consumer's later minutes, which lists read for LATER_SECONDS. It is a table of
        its own because a statement that names it often is resolved in half the time. Raises StoreError."""
        end = -(-span.end // HOUR_SECONDS) * HOUR_SECONDS
        seen = (kept.table, end, self._store.count_writes(("endpoint_routes",)))
        with self._making:
            now = self._monotonic()
            if self._later is not None and self._later.seen == seen and now - self._later.made_at < LATER_SECONDS:
                return self._later.table
            table = self._name_table("later")
            parameters = {"start": span.start, "until": kept.until, "end": end}
            rows = f"""
WITH {NAMES} SELECT {_COLUMNS} FROM (
    SELECT {self._who.id} AS consumer, cityHash64(consumer) AS key, {_OF_MINUTES}
    {_LATER}
    GROUP BY consumer)"""
            self._store.execute(f"CREATE TABLE {table} ENGINE = Memory AS {rows}", parameters)
            if self._later is not None:
                self._leave(self._later.table)
            self._later = _Later(table=table, seen=seen, made_at=now)
            return table

    def update(self) -> bool:
        """See SumsKeeper."""
        later = self._later
        if later is not None and self._monotonic() - later.made_at >= GRACE_SECONDS:
            self.forget_later()
        return super().update()

    def forget_later(self) -> None:
        """Have the next list read the newest rows."""
        with self._making:
            if self._later is not None:
                self._leave(self._later.table)
                self._later = None

    def erase(self) -> None:
        """See SumsKeeper."""
        self.forget_later()
        super().erase()

    def write_statement(self, kept: KeptSums, later: str, sort: str, conditions: str, page: str) -> str:
        """The statement that gives the figures of one page and one consumer more, with sort_value and total, in any
        order. `later` is of `find_later`, `conditions` are on consumers, `page` follows what has consumer and
        sort_value. Of a consumer without later rows the sums are the figures, so only others are added up."""
        return f"""
WITH page AS MATERIALIZED (
    SELECT consumer, cityHash64(consumer) AS key, sort_value FROM (
        SELECT k.consumer AS consumer, toFloat64(k.{sort}) AS sort_value FROM {kept.table} AS k
        WHERE k.calls > 0 AND {conditions} AND k.key NOT IN (SELECT key FROM {later})
        UNION ALL
        SELECT s.consumer AS consumer, toFloat64(s.{sort}) AS sort_value
        FROM (SELECT p.consumer AS consumer, {_ADDED} FROM (
            SELECT {_COLUMNS} FROM {later}
            UNION ALL
            SELECT {_COLUMNS} FROM {kept.table} WHERE key IN (SELECT key FROM {later})
        ) AS p GROUP BY consumer) AS s
        WHERE s.calls > 0 AND {conditions}
    )
    {page}
)
SELECT f.* EXCEPT consumer, f.consumer AS consumer, g.sort_value AS sort_value, t.total AS total
FROM (
    SELECT p.consumer AS consumer, {_ADDED}
    FROM (
        SELECT {_COLUMNS} FROM {later} WHERE key IN (SELECT key FROM page)
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
        SELECT count() AS found FROM {later} WHERE calls > 0 AND {conditions} AND key NOT IN (
            SELECT key FROM {kept.table} WHERE calls > 0 AND key IN (SELECT key FROM {later}))
    )
) AS t
SETTINGS enable_materialized_cte = 1"""
