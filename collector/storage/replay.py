"""Completes an insert of rows that came again: puts its rows into each table that lost them.

The engine notes the token of an insert before it commits the part. Where the commit fails (a full disk), or the process
dies between the two, the insert that comes again with the same token is a duplicate to that table, and its rows are
missing for good. Each table has its own tokens, so one table may lack what the others have.

The engine keeps the tokens in a file, the name of the part beside each. The writer is alone in these tables, and begins
nothing new before a failed insert is stored. So the last part that is noted for a partition is that of the insert that
came again. It was committed if the partition has an active part with its number or a higher one: itself, or what it was
merged into. Where it was not, the rows go into a table beside it, whose partition is then attached. That runs no views
and needs no token, and the part that is attached has a higher number, so it is not done twice.

Source: ClickHouse, MergeTreeSink::commitPart and MergeTreeDeduplicationLog.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pyarrow as pa

from collector.storage.base import Store
from collector.storage.clickhouse import TABLES, VIEWS

SOURCE: Final = "rows_minute"
_VIEWS: Final = {view.target: view for view in VIEWS if view.source.split(" ")[0] == SOURCE}
# Ids of partitions as the engine writes them, of a unix time.
_IDS: Final[Mapping[str, Callable[[int], str]]] = {
    "toStartOfHour(time)": lambda time: str(time // 3_600 * 3_600),
    "toDate(time)": lambda time: datetime.fromtimestamp(time, UTC).strftime("%Y%m%d"),
}
_FIND_ID: Final = {
    table.name: _IDS[table.partition] for table in TABLES if table.name == SOURCE or table.name in _VIEWS
}
_ADDED, _DROPPED = "1", "2"

logger = logging.getLogger(__name__)


def complete_insert(store: Store, data: Path, rows: pa.Table) -> int:
    """Put `rows`, which were just inserted again, into each partition that does not have them; gives how many these
    were. `data` is the folder of the tables. Nothing else may write them meanwhile. Raises StoreError, OSError."""
    times = {int(time) for time in rows["time"].unique().to_pylist()}
    missing = [
        (table, partition_id)
        for table, find_id in _FIND_ID.items()
        for partition_id in sorted({find_id(time) for time in times})
        if _is_missing(store, table, partition_id, _find_last(data / table / "deduplication_logs", partition_id))
    ]
    tables = sorted({table for table, _ in missing} | {SOURCE}) if missing else []
    try:
        for table in tables:
            store.execute(f"DROP TABLE IF EXISTS {table}_again SYNC")
            store.execute(f"CREATE TABLE {table}_again AS {table}")
        if missing:
            store.insert_arrow(f"{SOURCE}_again", rows)
        for table in tables:
            if view := _VIEWS.get(table):
                query = view.write_query(f"{SOURCE}_again AS {view.source.split(' ')[1]}")
                store.execute(f"INSERT INTO {table}_again ({', '.join(view.select)}) {query}")
        for table, partition_id in missing:
            store.execute(f"ALTER TABLE {table} ATTACH PARTITION ID '{partition_id}' FROM {table}_again")
            logger.warning(
                "An insert that failed was missing in %s (partition %s); it is there now.", table, partition_id
            )
    finally:
        for table in tables:
            store.execute(f"DROP TABLE IF EXISTS {table}_again SYNC")
    return len(missing)


def _is_missing(store: Store, table: str, partition_id: str, block: int) -> bool:
    """Whether the partition has no part with that block or a later one; `block` 0: no token is noted."""
    if not block:
        return False
    found = store.query(
        "SELECT max(max_block_number) FROM system.parts WHERE active AND database = currentDatabase() "
        "AND table = {table:String} AND partition_id = {id:String}",
        {"table": table, "id": partition_id},
    )
    return int(found[0][0] or 0) < block


def _find_last(directory: Path, partition_id: str) -> int:
    """The block of the last part of a partition of which a token is noted; 0 where there is none."""
    blocks: dict[str, int] = {}
    for line in _read_notes(directory):
        action, part, token = (*line.split("\t"), "", "")[:3]
        partition, *numbers = part.split("_")
        if partition != partition_id or not numbers:
            continue
        if action == _ADDED:
            blocks[token] = int(numbers[0])
        elif action == _DROPPED:
            blocks.pop(token, None)
    return max(blocks.values(), default=0)


def _read_notes(directory: Path) -> Iterator[str]:
    files = sorted(directory.glob("deduplication_log_*.txt"), key=lambda path: int(path.stem.rsplit("_", 1)[1]))
    for path in files:
        yield from path.read_text(errors="replace").splitlines()
