"""Copies the whole state from one database into another: between SQLite and PostgreSQL, and into backups.

The source is read as of one moment. The target gets everything in one transaction, so it has all rows or none, and its
rows are counted before that is kept.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from sqlalchemy import Connection, Table, delete, exists, func, insert, select, text

from collector.storage.base import StoreError
from collector.storage.state.imports import IMPORTED_SUFFIX
from collector.storage.state.store import FILE_NAME, StateStore, open_state
from collector.storage.state.tables import METADATA
from collector.storage.state.tables.base import TABLE_WRITES

MOVED_NAME: Final = f"{FILE_NAME}{IMPORTED_SUFFIX}"  # Kept aside, and never read again.
_ROWS: Final = 1_000  # At a time: some 5 MB of alerts.
# How often each table was written since is counted by the target itself.
_TABLES: Final = tuple(table for table in METADATA.sorted_tables if table is not TABLE_WRITES)

OnRows = Callable[[str, int], object]


def find_rows(connection: Connection) -> str:
    """The name of a table with rows; empty where all are empty."""
    return next((table.name for table in _TABLES if connection.execute(select(exists(table.select()))).scalar()), "")


def count_rows(connection: Connection) -> dict[str, int]:
    """Those of each table."""
    return {
        table.name: int(connection.execute(select(func.count()).select_from(table)).scalar_one()) for table in _TABLES
    }


def copy_rows(
    source: Connection, target: StateStore, *, replaces: bool = False, on_rows: OnRows = lambda *_: None
) -> dict[str, int]:
    """Everything into an empty target, or one whose rows it `replaces`. `on_rows` gets a table and how many of its rows
    were copied since. Gives the rows of each table. Raises StoreError."""
    expected = count_rows(source)
    with target.write() as connection:
        if replaces:
            for table in reversed(_TABLES):
                connection.execute(delete(table))
        elif found := find_rows(connection):
            raise StoreError(
                f"The state in {target.place} is not empty (its table {found} has rows); name an empty database."
            )
        for table in _TABLES:
            for rows in source.execution_options(yield_per=_ROWS).execute(select(table)).mappings().partitions():
                connection.execute(insert(table), [dict(row) for row in rows])
                on_rows(table.name, len(rows))
            _continue_numbers(connection, table)
        if (copied := count_rows(connection)) != expected:
            name = next(name for name, rows in expected.items() if copied[name] != rows)
            raise StoreError(
                f"The table {name} has {copied[name]:,} rows in {target.place} and {expected[name]:,} in its source; "
                "nothing was kept, so try again."
            )
    return copied


def save_copy(source: Connection, directory: Path) -> Path:
    """A file of SQLite with everything, in an empty directory. Raises StoreError."""
    state = open_state(directory)
    try:
        copy_rows(source, state, replaces=True)
    finally:
        state.close()
    return directory / FILE_NAME


def _continue_numbers(connection: Connection, table: Table) -> None:
    """PostgreSQL numbers rows by a sequence, which has not seen the rows that were copied."""
    column = table.autoincrement_column
    if connection.dialect.name != "postgresql" or column is None:
        return
    found = text("SELECT pg_get_serial_sequence(:table, :column)")
    sequence = connection.execute(found, {"table": table.name, "column": column.name}).scalar()
    highest = connection.execute(select(func.max(column))).scalar()
    if sequence is not None and highest is not None:
        connection.execute(text("SELECT setval(:sequence, :highest)"), {"sequence": sequence, "highest": highest})
