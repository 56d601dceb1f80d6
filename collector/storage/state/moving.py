"""Moves the state of a stopped collector from its file to the server of `state_url`.

The file is kept aside under another name, so that nobody goes on with it. A collector with `state_url` does not start
on an empty database while there still is a file (`check_moved`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from collector.storage.base import StoreError
from collector.storage.embedded import lock_directory
from collector.storage.state.copying import MOVED_NAME, OnRows, copy_rows, count_rows, find_rows
from collector.storage.state.store import FILE_NAME, StateStore, open_server, open_state
from common.durable import sync_directory


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """The rows of each table, the name of the database, and the file that was kept aside."""

    rows: dict[str, int]
    place: str
    file: Path


def move_state(directory: Path, url: str, *, on_begin: Callable[[int], object], on_rows: OnRows) -> Moved:
    """Everything into an empty database. `on_begin` gets how many rows there are, `on_rows` a table and rows. Raises
    StoreError, OSError."""
    file = directory / FILE_NAME
    if not file.exists():
        raise StoreError(f"There is no state to move: {file} does not exist; name the data_dir of the collector.")
    with lock_directory(directory):
        target = open_server(url)
        try:
            target.prepare()
            source = open_state(directory)
            try:
                with source.snapshot() as connection:
                    on_begin(sum(count_rows(connection).values()))
                    rows = copy_rows(connection, target, on_rows=on_rows)
            finally:
                source.close()
        finally:
            target.close()
        aside = file.rename(directory / MOVED_NAME)
        sync_directory(directory)
    return Moved(rows=rows, place=target.place, file=aside)


def check_moved(state: StateStore, directory: Path) -> None:
    """Raise StoreError where the state is still in a file and not in the server that is to be used."""
    file = directory / FILE_NAME
    if not state.is_shared or not file.exists():
        return
    with state.read() as connection:
        is_empty = not find_rows(connection)
    if is_empty:
        raise StoreError(
            f"The state is in {file}, and {state.place} is empty; run `apidae state migrate`, or move the file away to "
            "begin anew."
        )
