"""The disk cap: the tables stay below a limit; the oldest minute rows go first, counted and shown in `evictions`.

Ages (48 h, 90 d) are the tables' own TTL. The cap drops whole partitions, an hour of minute rows or a day of hour rows
at a time, and never the newest of a table; the summaries of that day go with it, so that no list shows what can no
longer be measured. One process owns the embedded store, so nothing else changes partitions meanwhile.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from collector.store.base import Store

# What goes, in this order, each with the summaries of the same partitions.
_TABLES = (("rows_minute",), ("rows_hour", "routes_hour", "routes_day"), ("coverage_hours",))
_SIZE = "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = currentDatabase()"
_PARTITIONS = """
SELECT partition_id, any(partition), sum(rows), sum(bytes_on_disk) FROM system.parts
WHERE active AND database = currentDatabase() AND table = {table:String}
GROUP BY partition_id ORDER BY min(min_time), partition_id
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Eviction:
    """One row of `evictions`."""

    time: datetime
    table_name: str
    partition: str
    rows: int
    bytes: int
    reason: str


def measure_bytes(store: Store) -> int:
    """What the tables' active parts take on disk. Raises StoreError."""
    return int(store.query(_SIZE)[0][0] or 0)


def enforce_cap(store: Store, *, limit_bytes: int, now_unix_seconds: float) -> list[Eviction]:
    """Drop the oldest partitions until the tables fit, and record what went. Raises StoreError."""
    total = measure_bytes(store)
    evictions: list[Eviction] = []
    for table, *summaries in _TABLES:
        partitions = store.query(_PARTITIONS, {"table": table}) if total > limit_bytes else []
        for partition_id, *_ in partitions[:-1]:
            if total <= limit_bytes:
                break
            for name in (table, *summaries):
                gone = _drop(store, name, partition_id, limit_bytes, now_unix_seconds)
                evictions += gone
                total -= sum(eviction.bytes for eviction in gone)
    store.insert_records("evictions", evictions)
    return evictions


def _drop(store: Store, table: str, partition_id: str, limit_bytes: int, now_unix_seconds: float) -> list[Eviction]:
    """Drop one partition; none where there is no such one."""
    found = [row for row in store.query(_PARTITIONS, {"table": table}) if row[0] == partition_id]
    for _, partition, rows, size in found:
        # The id is the engine's own (digits), not text of anybody's.
        store.execute(f"ALTER TABLE {table} DROP PARTITION ID '{partition_id}'")
        return [
            Eviction(
                time=datetime.fromtimestamp(int(now_unix_seconds), UTC),
                table_name=table,
                partition=str(partition),
                rows=int(rows),
                bytes=int(size),
                reason=f"the tables passed disk_limit_bytes = {limit_bytes}",
            )
        ]
    return []
