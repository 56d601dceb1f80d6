"""What earlier versions kept in tables of ClickHouse and in files: read once, at the first start of this version.

The tables stay as they are, and a file gets the suffix `.imported`. Nobody reads or writes them again. So the earlier
version finds the tables as they were at the upgrade, and a file once it has its name again. An erasure removes what
may name the consumer.
"""

import json
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from sqlalchemy import Connection, insert, select

from collector.storage.base import Store
from collector.storage.clickhouse import ClickHouseStore
from collector.storage.state.store import StateStore
from collector.storage.state.tables.base import IMPORTS
from common.durable import read_whole, sync_directory

RecordT = TypeVar("RecordT")

# By name, whether the newest version of a row holds. Tables of which this version keeps a copy are not among them.
OLD_TABLES: Final[Mapping[str, bool]] = {
    "alerts": True,
    "alert_actions": False,
    "incident_entries": False,
    "alert_mutes": True,
    "known_good": True,
    "detection_decisions": False,
    "change_facts": True,
    "list_views": True,
    "consumer_labels": True,
    "template_edits": True,
    "endpoint_tombstones": True,
    "revealed_words": True,
    "former_names": True,
    "findings": True,
    "finding_changes": False,
    "specs": True,
    "spec_fits": True,
    "sensors": True,
}
IMPORTED_SUFFIX: Final = ".imported"

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
        final = " FINAL" if OLD_TABLES.get(table, True) else ""
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
    if _is_imported(state, name):
        return
    rows = OldRows(store)
    with state.write() as connection:
        copy(connection, rows)
        _note_imported(connection, name, rows.count, now)
    if rows.count or rows.unread:
        logger.info("%d rows of %s were imported into %s.", rows.count, name, state.place)
    if rows.unread:
        logger.warning("%d rows of %s could not be read and were not imported.", rows.unread, name)


def import_file(
    state: StateStore, path: Path, copy: Callable[[Connection, bytes], int], now: float, *, damage: str
) -> None:
    """Have `copy` import a file's content in one transaction, unless one of its name was, and put the file aside.

    `copy` gives how many rows it made. What it cannot read is a ValueError that says what `damage` says, which follows
    "PATH is damaged; remove it: ". Raises StoreError, OSError.
    """
    if not path.exists():
        return
    if _is_imported(state, path.name):
        logger.warning("%s is not imported into %s, where an earlier one was; it is put aside.", path, state.place)
    else:
        with state.write() as connection:
            try:
                count = copy(connection, read_whole(path))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(f"{path} is damaged; remove it: {damage}") from error
            _note_imported(connection, path.name, count, now)
        logger.info("%s was imported into %s: %d rows.", path, state.place, count)
    path.replace(path.with_name(path.name + IMPORTED_SUFFIX))
    sync_directory(path.parent)


def read_rows(content: bytes, kind: type[RecordT]) -> list[RecordT]:
    """A JSON array of records. Raises ValueError."""
    return msgspec.convert(json.loads(content), list[kind])  # type: ignore[valid-type]


def _is_imported(state: StateStore, name: str) -> bool:
    with state.read() as connection:
        return connection.execute(select(IMPORTS.c.name).where(IMPORTS.c.name == name)).first() is not None


def _note_imported(connection: Connection, name: str, rows: int, now: float) -> None:
    connection.execute(insert(IMPORTS), {"name": name, "time": now, "rows": rows})


def drop_old_tables(store: ClickHouseStore) -> None:
    """For an erasure. Raises StoreError."""
    for table in OLD_TABLES:
        store.execute(f"DROP TABLE IF EXISTS {table} SYNC")
