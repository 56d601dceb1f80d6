"""What earlier versions kept in tables of ClickHouse: read once, at the first start of this version.

The tables stay as they are, and nobody reads or writes them again. So the earlier version finds them as they were at
the upgrade. An erasure drops them, because they may name the consumer.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, insert, select

from collector.storage.base import Store
from collector.storage.clickhouse import ClickHouseStore
from collector.storage.state.store import StateStore
from collector.storage.state.tables.base import IMPORTS

# By name, whether the newest version of a row holds.
OLD_TABLES: Final[Mapping[str, bool]] = {
    "alerts": True,
    "alert_actions": False,
    "incident_entries": False,
    "alert_mutes": True,
    "known_good": True,
    "detection_decisions": False,
    "change_facts": True,
}

logger = logging.getLogger(__name__)


class OldRows:
    """Reads old tables, whichever there are. Raises StoreError."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._columns: dict[str, list[str]] = {}
        found = store.query(
            "SELECT table, name FROM system.columns WHERE database = currentDatabase() AND default_kind = '' "
            "ORDER BY table, position"
        )
        for table, name in found:
            self._columns.setdefault(table, []).append(name)
        self.count = 0
        self.unread = 0  # Rows that this version cannot read.

    def read(self, table: str, convert: Callable[[dict[str, Any]], Any]) -> Iterator[list[Any]]:
        """The rows of a table as records, some thousand at a time."""
        names = self._columns.get(table)
        if names is None:
            return
        final = " FINAL" if OLD_TABLES[table] else ""
        for columns in self._store.stream_columns(f"SELECT {', '.join(names)} FROM {table}{final}"):
            records = []
            for values in zip(*columns.values(), strict=True):
                try:
                    records.append(convert(dict(zip(columns, values, strict=True))))
                except (ValueError, msgspec.ValidationError):
                    self.unread += 1
            self.count += len(records)
            yield records


def import_once(
    state: StateStore, store: Store, name: str, copy: Callable[[Connection, OldRows], None], now: float
) -> None:
    """Have `copy` import what belongs to `name` in one transaction, unless that was done. Raises StoreError."""
    with state.read() as connection:
        if connection.execute(select(IMPORTS.c.name).where(IMPORTS.c.name == name)).first() is not None:
            return
    rows = OldRows(store)
    with state.write() as connection:
        copy(connection, rows)
        connection.execute(insert(IMPORTS), {"name": name, "time": now, "rows": rows.count})
    if rows.count or rows.unread:
        logger.info("%d rows of %s were imported into %s.", rows.count, name, state.place)
    if rows.unread:
        logger.warning("%d rows of %s could not be read and were not imported.", rows.unread, name)


def drop_old_tables(store: ClickHouseStore) -> None:
    """For an erasure. Raises StoreError."""
    for table in OLD_TABLES:
        store.execute(f"DROP TABLE IF EXISTS {table} SYNC")
