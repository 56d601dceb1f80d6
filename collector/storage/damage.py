"""Damaged parts of the embedded tables: found, set aside, and rebuilt where another table has what was in them.

A part is a directory of files with checksums. The engine itself sets aside a part that it cannot load as it starts. It
does not look at the bytes of rows then; a statement that reads them fails. So all parts are checked here: small tables
before anything reads them, the others little by little, each part once a day. CHECK TABLE compares every checksum.

A damaged part is detached: the engine moves it to the folder `detached` of its table, and the rest of the table works.
A view names the table from which the rows of its target can be had again (`View.rebuilt_from`). Of a target with
partitions by day only that day is rebuilt, from the first hour on of which the source still has all rows. The state is
the source of `endpoint_routes` (collector/inventory/templates/table.py). What is in no other table stays aside, for a
person to see or to delete.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from collector.core.feature import Feature, Job, Role
from collector.storage.base import Store, StoreError
from collector.storage.clickhouse import TABLES, VIEWS
from collector.storage.tables.layout import Retention, View
from common.figures import list_figures, total

# A table of so few bytes is checked as a whole before anything reads it: at most 0.3 s of
# processor time, for 440 MB/s are checked.
SMALL_BYTES: Final = 128_000_000
# In one round of housekeeping, one part at least.
ROUND_BYTES: Final = 128_000_000
LOOK_SECONDS: Final = 30.0  # Between two looks: 10 GB of tables in 40 minutes, then once a day.
CHECK_SECONDS: Final = 86_400.0  # How often each part of the others is checked.
SETTLED_SECONDS: Final = 3_600.0  # Younger parts are merged soon, and a merge reads all of them.
HOUR: Final = 3_600
DAY: Final = 86_400

_PARTS: Final = """
SELECT table, name, partition_id, bytes_on_disk, toUnixTimestamp(modification_time) FROM system.parts
WHERE active AND database = currentDatabase() ORDER BY modification_time, name
"""
# Those that the engine or a check set aside. Others ("ignored", "attaching") are complete elsewhere.
_ASIDE: Final = """
SELECT table, name, partition_id FROM system.detached_parts WHERE database = currentDatabase()
AND (reason = '' OR startsWith(reason, 'broken')) ORDER BY table, name
"""
_UNNAMED: Final = "SELECT 1 FROM routes WHERE route_id NOT IN (SELECT route_id FROM endpoint_routes) LIMIT 1"
_TABLES: Final = {table.name: table for table in TABLES}
_REBUILT_BY: Final = {view.target: view for view in VIEWS if view.rebuilt_from}

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Part:
    table: str
    name: str
    partition_id: str
    bytes: int = 0
    changed_at: float = 0.0


@dataclass(slots=True, kw_only=True)
class DamageCounts:
    """Since the start."""

    checked: int = total("Parts of the tables whose checksums were compared.", name="parts_checked")
    damaged: int = total("Parts of the tables that were found damaged, and set aside.", name="parts_damaged")
    rebuilt: int = total("Damaged parts of the tables that were rebuilt from other tables.", name="parts_rebuilt")


@dataclass(slots=True, kw_only=True)
class PartCheck:
    """Of one embedded store. `check_small` before anything reads it, then `check_next` again and again.

    `pause` keeps the writer from the tables, and gives whether all that it began is stored: else a rebuilt table would
    count that twice. `clock` gives unix seconds.
    """

    store: Store
    pause: Callable[[], AbstractContextManager[bool]]
    clock: Callable[[], float] = time.time
    retention: Retention = field(default_factory=Retention)
    counts: DamageCounts = field(default_factory=DamageCounts)
    _checked_at: dict[tuple[str, str], float] = field(default_factory=dict)
    _aside: tuple[_Part, ...] = ()
    _is_partial: set[tuple[str, str]] = field(default_factory=set)  # Aside for good, by table and name.

    def list_lost(self) -> tuple[str, ...]:
        """Damaged parts that are set aside and of which no other table has all rows, as TABLE/PART. Not those that are
        still to be rebuilt."""
        return tuple(f"{part.table}/{part.name}" for part in self._aside if not self._is_to_be_rebuilt(part))

    def _is_to_be_rebuilt(self, part: _Part) -> bool:
        is_partial = (part.table, part.name) in self._is_partial
        return not is_partial and (part.table in _REBUILT_BY or part.table == "endpoint_routes")

    @property
    def feature(self) -> Feature:
        """What the collector repeats and shows."""
        return Feature(
            name="checks of tables",
            role=Role.JOBS,
            jobs=(Job(works=(self.check_next,), seconds=LOOK_SECONDS),),
            figures=lambda: list_figures(self.counts, "store_"),
        )

    def check_small(self) -> None:
        """Check the tables that are small, and see what the engine has set aside. Raises StoreError."""
        parts = self._list_parts()
        sizes: dict[str, int] = {}
        for part in parts:
            sizes[part.table] = sizes.get(part.table, 0) + part.bytes
        for name in sorted(sizes):
            if sizes[name] <= SMALL_BYTES:
                self._check(name, "", [part for part in parts if part.table == name])
        self._see_aside()
        self.counts.damaged += len(self._aside)

    def check_next(self) -> None:
        """Rebuild what can be, then check some of the parts that were not checked for a day. Raises StoreError."""
        before = len(self._aside)
        parts = self._list_parts()
        now, size = self.clock(), 0
        known = {(part.table, part.name) for part in parts}
        self._checked_at = {key: at for key, at in self._checked_at.items() if key in known}
        for part in parts:
            is_due = now - self._checked_at.get((part.table, part.name), 0.0) >= CHECK_SECONDS
            if not is_due or now - part.changed_at < SETTLED_SECONDS:
                continue
            if size and size + part.bytes > ROUND_BYTES:
                break
            size += part.bytes
            self._check(part.table, f" PART '{part.name}'", [part])
        self._see_aside()
        self.counts.damaged += max(0, len(self._aside) - before)
        self._rebuild()

    def _list_parts(self) -> list[_Part]:
        rows = self.store.query(_PARTS)
        return [_Part(str(row[0]), str(row[1]), str(row[2]), int(row[3]), float(row[4])) for row in rows]

    def _see_aside(self) -> None:
        self._aside = tuple(_Part(str(row[0]), str(row[1]), str(row[2])) for row in self.store.query(_ASIDE))

    def _check(self, table: str, which: str, parts: list[_Part]) -> None:
        """Check these parts of one table, and set aside those that are damaged now and at a second look."""
        for part in parts:
            self._checked_at[part.table, part.name] = self.clock()
        self.counts.checked += len(parts)
        for name, reason in self._list_damaged(table, which):
            if name not in {part.name for part in parts} or not self._list_damaged(table, f" PART '{name}'"):
                continue
            # The name is the engine's own (digits and underscores), not text of anybody's.
            self.store.execute(f"ALTER TABLE {table} DETACH PART '{name}'")
            logger.error("Part %s of table %s is damaged (%s); it is set aside.", name, table, reason[:200])

    def _list_damaged(self, table: str, which: str) -> Iterator[tuple[str, str]]:
        """Names of parts and the engine's reason."""
        try:
            rows = self.store.query(f"CHECK TABLE {table}{which} SETTINGS check_query_single_value_result = 0")
        except StoreError as error:
            logger.info("Parts of table %s were not checked (%s).", table, error)  # Merged meanwhile, or no memory.
            return
        # Lines of name, result and reason, whose ends the engine leaves in the fields.
        for line in "\t".join(str(cell) for row in rows for cell in row).split("\n"):
            name, _, rest = line.strip("\t").partition("\t")
            is_well, _, reason = rest.partition("\t")
            if is_well == "0":
                yield name, reason

    def _rebuild(self) -> None:
        """Parts that are set aside, source tables first: what was rebuilt is deleted, for others have it."""
        for part in sorted(self._aside, key=lambda part: part.table != "rows_hour"):
            if not self._is_to_be_rebuilt(part):
                continue
            if part.table == "endpoint_routes":
                if self.store.query(_UNNAMED):
                    continue
            else:
                with self.pause() as is_stored:
                    if not is_stored:
                        return
                    if not self._rebuild_partition(_REBUILT_BY[part.table], part):
                        self._is_partial.add((part.table, part.name))
                        continue
            self.store.execute(
                f"ALTER TABLE {part.table} DROP DETACHED PART '{part.name}' SETTINGS allow_drop_detached = 1"
            )
            self.counts.rebuilt += 1
            logger.warning("Part %s of table %s was rebuilt from other tables.", part.name, part.table)
            self._see_aside()

    def _rebuild_partition(self, view: View, part: _Part) -> bool:
        """Whether all rows of its partition are there again."""
        table = _TABLES[view.target]
        if not table.partition:  # The newest version of a row holds, so rows that are there twice count once.
            self.store.execute(_write_insert(view, table.name, view.rebuilt_from))
            return True
        first = self._find_start(part.partition_id)
        cut = max(first, self._find_complete(view.rebuilt_from))
        is_daily, is_whole = "toStartOfDay" in view.select["time"], cut == first
        has_lost = any(
            one.table == view.rebuilt_from and first <= self._find_start(one.partition_id) < first + DAY
            for one in self._aside
        )
        if cut >= first + DAY or has_lost or (is_daily and not is_whole):
            return False
        again = f"{table.name}_again"
        self.store.execute(f"DROP TABLE IF EXISTS {again} SYNC")
        try:
            self.store.execute(f"CREATE TABLE {again} AS {table.name}")
            if not is_whole:
                self.store.execute(
                    f"INSERT INTO {again} SELECT * FROM {table.name} "
                    f"WHERE time >= toDateTime({first}, 'UTC') AND time < toDateTime({cut}, 'UTC')"
                )
            last = first + DAY - 1
            span = f"{view.rebuilt_from} WHERE time BETWEEN toDateTime({cut}, 'UTC') AND toDateTime({last}, 'UTC')"
            hours = self.store.query(f"SELECT DISTINCT toUnixTimestamp(toStartOfHour(time)) FROM {span} ORDER BY 1")
            for (hour,) in hours:  # Each by itself, for a day may be more than fits into memory.
                rows = f"{span} AND toStartOfHour(time) = toDateTime({int(hour)}, 'UTC')"
                self.store.execute(_write_insert(view, again, f"(SELECT * FROM {rows})"))
            self.store.execute(f"ALTER TABLE {table.name} REPLACE PARTITION ID '{part.partition_id}' FROM {again}")
        finally:
            self.store.execute(f"DROP TABLE IF EXISTS {again} SYNC")
        return is_whole

    def _find_complete(self, source: str) -> int:
        """From which hour on a table has all its rows: older ones have expired, or the disk cap removed some."""
        kept = self.retention
        seconds = kept.minute_seconds - HOUR if source == "rows_minute" else kept.hour_seconds - DAY
        first = int(self.clock() - seconds) // HOUR * HOUR
        if not self.store.query("SELECT 1 FROM evictions WHERE table_name = {table:String} LIMIT 1", {"table": source}):
            return first
        found = self.store.query(f"SELECT toUnixTimestamp(toStartOfHour(min(time))) FROM {source} HAVING count() > 0")
        return max(first, int(found[0][0])) if found else int(self.clock())

    @staticmethod
    def _find_start(partition_id: str) -> int:
        """When a partition begins, in unix seconds: its id is a day, as in 20270115, or these seconds."""
        if len(partition_id) != len("20270115"):
            return int(partition_id)
        return int(datetime.strptime(partition_id, "%Y%m%d").replace(tzinfo=UTC).timestamp())


def _write_insert(view: View, target: str, source: str) -> str:
    _, _, alias = view.source.partition(" ")
    return f"INSERT INTO {target} ({', '.join(view.select)}) {view.write_query(f'{source} AS {alias}')}"
