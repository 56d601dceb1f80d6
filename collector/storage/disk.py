"""The disk cap, which drops the oldest rows, and the disk reserve, below which the collector stores no rows.

Ages (48 h, 90 d) are the tables' own TTL. The cap drops whole partitions, an hour of minute rows or a day of hour rows
at a time, and never a table's newest. The summaries of that day go with it, so that no list shows what can no longer be
measured. What was dropped is counted in `evictions`. One process owns the embedded store, so nothing else changes
partitions meanwhile.

The reserve is of the volume that holds data_dir. EDGE: statvfs. Batches are answered with RETRY below the reserve. The
other half of the work (alerts, states, merges of the tables) goes on down to half of it, `floor_bytes`. The engine does
not survive a full disk: what it merges or defines then is damaged. So the floor is the engine's own limit
(collector/storage/embedded.py).
"""

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from collector.core.feature import Feature, Job, Role
from collector.storage.base import Store
from collector.storage.records import Reader, select
from collector.storage.tables.layout import HOUR_SUMMARY_RETENTION_DAYS, Retention
from common.figures import make_totals

CAP_SECONDS: Final = 60.0  # Between two looks.
# What goes, in this order, each with the summaries of the same partitions.
_TABLES = (("rows_minute",), ("rows_hour", "routes_hour", "routes_day"), ("coverage_hours",))
_SIZE = "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = currentDatabase()"
_STORED = """
SELECT table, sum(rows) AS rows, sum(bytes_on_disk) AS size, toUnixTimestamp(min(min_time)) AS oldest FROM system.parts
WHERE active AND database = currentDatabase() GROUP BY table
"""
_PARTITIONS = """
SELECT partition_id, any(partition), sum(rows), sum(bytes_on_disk) FROM system.parts
WHERE active AND database = currentDatabase() AND table = {table:String}
GROUP BY partition_id ORDER BY min(min_time), partition_id
"""

logger = logging.getLogger(__name__)


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


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRows:
    """What tables of one kind take now. `setting` says for how long their rows are kept, which is `kept_seconds`."""

    what: str
    setting: str
    kept_seconds: int
    rows: int
    bytes: int
    span_seconds: int  # From their oldest row to now; 0 of tables whose rows have no time.

    @property
    def bytes_a_day(self) -> int:
        """What a day of them takes; 0 before there is an hour."""
        return round(self.bytes * 86_400 / self.span_seconds) if self.span_seconds >= 3_600 else 0

    @property
    def bytes_full(self) -> int:
        """What they come to take once the oldest are deleted, if all days are alike."""
        return round(self.bytes_a_day * self.kept_seconds / 86_400)


def list_stored(store: Reader, retention: Retention, now_unix_seconds: float) -> list[StoredRows]:
    """By how long rows are kept; the last is of all other tables. Raises StoreError."""
    kept = {
        "rows_minute": ("Calls by minute", "retention.minute_hours", retention.minute_seconds),
        "rows_hour": ("Calls by hour", "retention.hour_days", retention.hour_seconds),
        "routes_day": ("Sums by day", "retention.hour_days", retention.hour_seconds),
        "routes_hour": ("Sums by hour", "", HOUR_SUMMARY_RETENTION_DAYS * 86_400),
    }
    found = {
        str(row["table"]): [int(row["rows"]), int(row["size"]), int(row["oldest"])] for row in select(store, _STORED)
    }
    listed = []
    for table, (what, setting, seconds) in kept.items():
        rows, size, oldest = found.pop(table, [0, 0, 0])
        span = max(0, int(now_unix_seconds) - oldest) if oldest else 0
        stored = StoredRows(
            what=what, setting=setting, kept_seconds=seconds, rows=rows, bytes=size, span_seconds=min(span, seconds)
        )
        listed.append(stored)
    rows, size = (sum(one[place] for one in found.values()) for place in (0, 1))
    return [*listed, StoredRows(what="Others", setting="", kept_seconds=0, rows=rows, bytes=size, span_seconds=0)]


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


class DiskCap:
    """Enforces the cap again and again."""

    def __init__(self, store: Store, limit_bytes: int, forget_hours: Callable[[], None]) -> None:
        """`forget_hours` is called when rows of hours went."""
        self._store = store
        self._limit_bytes = limit_bytes
        self._forget_hours = forget_hours
        self._evicted_rows = 0

    @property
    def feature(self) -> Feature:
        """What the collector repeats and shows."""
        text = "Rows that the disk cap removed."
        return Feature(
            name="disk cap",
            role=Role.JOBS,
            jobs=(Job(works=(self._enforce,), seconds=CAP_SECONDS),),
            figures=lambda: make_totals([("evicted_rows", text, self._evicted_rows)]),
        )

    def _enforce(self) -> None:
        for eviction in enforce_cap(self._store, limit_bytes=self._limit_bytes, now_unix_seconds=time.time()):
            self._evicted_rows += eviction.rows
            logger.warning("The disk cap removed %d rows of %s.", eviction.rows, eviction.table_name)
            if eviction.table_name == "rows_hour":
                self._forget_hours()


def _drop(store: Store, table: str, partition_id: str, limit_bytes: int, now_unix_seconds: float) -> list[Eviction]:
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


RESERVE_BYTES_MIN: Final = 1_000_000_000  # Unless the settings say otherwise.
RESERVE_SHARE: Final = 0.01  # Of the volume, where that is more.


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskReserve:
    """How much of a directory's volume stays free. Thread-safe; a look costs some 2 us."""

    directory: Path
    reserve_bytes: int

    @property
    def floor_bytes(self) -> int:
        """Below it nothing is written into tables."""
        return self.reserve_bytes // 2

    def measure_free(self) -> int:
        return _measure_volume(self.directory)[1]

    def find_shortage(self) -> str:
        """Why no rows are taken; empty where there is room."""
        try:
            size, free = _measure_volume(self.directory)
        except OSError as error:
            return f"The volume of {self.directory} does not say how much of it is free ({error.strerror})."
        if free >= self.reserve_bytes or not size:
            return ""
        return (
            f"The volume of {self.directory} has {_name_bytes(free)} free, and {_name_bytes(self.reserve_bytes)} are "
            "kept free (disk_reserve_bytes): no rows are taken. Free some, enlarge the volume or lower "
            "disk_limit_bytes."
        )


def keep_reserve(directory: Path, reserve_bytes: int | None) -> DiskReserve:
    """The reserve of a directory that may not be there yet; without a number the larger of 1 GB and 1 % of the volume.
    Raises OSError where there is less than half of it: to open the tables writes, and damages them on a full disk.
    """
    there = next(path for path in (directory, *directory.absolute().parents) if path.exists())
    size, free = _measure_volume(there)
    if reserve_bytes is None:
        reserve_bytes = max(RESERVE_BYTES_MIN, round(size * RESERVE_SHARE))
    reserve = DiskReserve(directory=directory, reserve_bytes=reserve_bytes)
    if size and free < reserve.floor_bytes:
        raise OSError(
            f"The volume of {directory} has {_name_bytes(free)} free, and the collector starts from "
            f"{_name_bytes(reserve.floor_bytes)} on (half of disk_reserve_bytes); free some or enlarge the volume."
        )
    return reserve


def _measure_volume(directory: Path) -> tuple[int, int]:
    """Bytes in all, and those that are free to this user; no size where the file system has no such thing. Raises
    OSError.
    """
    volume = os.statvfs(directory)
    return volume.f_blocks * volume.f_frsize, volume.f_bavail * volume.f_frsize


def _name_bytes(count: int) -> str:
    return f"{count / 1e6:,.0f} MB"
