"""Restores an archive into an empty data directory, for a collector that does not run.

The archive is checked whole before anything is written. A mark in the directory says that a restore is under way: while
it is there no collector starts, and another run begins anew. Tables are made by the archive's own statements, so they
are as they were; the next start brings them up to date. Rows are counted in every table, against those of the backup.
"""

import os
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Final

from collector.backup.archive import FILES, ArchiveError, Contents, check_archive, decompress, open_archive
from collector.log.segment import SUFFIX as SEGMENT_SUFFIX
from collector.storage.clickhouse import ClickHouseStore
from collector.storage.embedded import lock_directory
from collector.storage.state.copying import copy_rows, find_rows
from collector.storage.state.store import FILE_NAME, StateStore, open_state
from collector.trust.audit import AuditLog, make_entry
from collector.trust.principal import HOST
from common.durable import sync_directory, write_durably

MARK: Final = "restore.unfinished"
_KEPT: Final = ("lock", "lost+found")
# Rows are written in small parts, which take more room until they are merged.
_ROOM: Final = 1.3

OnPart = Callable[[str, int], object]


def check_finished(directory: Path) -> None:
    """Raises ValueError where a restore was cut off."""
    if (directory / MARK).exists():
        raise ValueError(f"A restore into {directory} was not finished; run `apidae restore` again.")


def restore(
    archive: Path,
    directory: Path,
    open_store: Callable[[], ClickHouseStore],
    *,
    is_embedded: bool,
    is_log_shared: bool = False,
    state: StateStore | None = None,
    on_step: Callable[[str, int], object],
    on_part: OnPart,
    now: Callable[[], float] = time.time,
) -> Contents:
    """Everything of the archive. `open_store` opens the one of the settings, without making tables; `state` is that of
    the settings, where it is a server; `is_log_shared`: their log is no files. `on_step` gets what is done and bytes of
    it, `on_part` an entry and bytes. Raises ArchiveError, StoreError, OSError."""
    with lock_directory(directory):
        is_again = (directory / MARK).exists()
        _refuse_used(directory, is_again=is_again)
        if state is not None and not is_again:
            _refuse_rows(state)
        on_step("Checking", archive.stat().st_size)
        with archive.open("rb") as file:
            contents = check_archive(file, str(archive), on_contents=lambda _: None, on_part=on_part)
        if is_log_shared and any(name.endswith(SEGMENT_SUFFIX) for name in contents.files):
            raise ArchiveError(
                f"{archive} has batches in files of the log, which nobody reads with log_url; restore without log_url, "
                "start the collector, and set log_url when store_lag_seconds is 0."
            )
        _clear(directory)
        _check_room(directory, contents, is_embedded=is_embedded)
        write_durably(directory / MARK, b"")
        store = open_store()
        try:
            _prepare(store, contents, is_again=is_again)
            on_step("Restoring", archive.stat().st_size)
            with archive.open("rb") as file:
                for entry, parts in open_archive(file, str(archive))[1]:
                    counted = _count(parts, entry, on_part)
                    if entry.startswith(FILES):
                        _write_file(directory, entry.removeprefix(FILES), decompress(counted, entry))
                    else:
                        _write_rows(store, directory, entry.partition("/")[2], contents, counted)
        finally:
            store.close()
        if state is not None:
            _move_state(directory, state)
        _record(directory, state, contents, now())
        os.sync()
        (directory / MARK).unlink()
        sync_directory(directory)
    return contents


def _record(directory: Path, state: StateStore | None, contents: Contents, now: float) -> None:
    """An entry of the audit log that came from the backup."""
    after = {"made_at": contents.made_at, "version": contents.version}
    with nullcontext(state) if state is not None else closing(open_state(directory)) as target:
        AuditLog(target).add(make_entry(now, HOST, "backup.restored", "backup", after=after))


def _count(parts: Iterable[bytes], entry: str, on_part: OnPart) -> Iterator[bytes]:
    for part in parts:
        yield part
        on_part(entry, len(part))


def _list_used(directory: Path) -> list[Path]:
    return sorted(path for path in directory.iterdir() if path.name not in _KEPT)


def _refuse_used(directory: Path, *, is_again: bool) -> None:
    if (found := _list_used(directory)) and not is_again:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        raise ArchiveError(
            f"The data directory {directory} is not empty ({found[0].name}{more}); move what is in it away, or choose "
            "another by --data-dir."
        )


def _refuse_rows(state: StateStore) -> None:
    with state.read() as connection:
        if found := find_rows(connection):
            raise ArchiveError(f"The database of state_url is not empty (its table {found} has rows); name a new one.")


def _move_state(directory: Path, target: StateStore) -> None:
    """From the file that was restored into the server, in place of what a restore left there that was cut off."""
    source = open_state(directory)
    try:
        with source.snapshot() as connection:
            copy_rows(connection, target, replaces=True)
    finally:
        source.close()
    (directory / FILE_NAME).unlink()


def _clear(directory: Path) -> None:
    """What a restore left that was cut off; its mark stays."""
    for path in _list_used(directory):
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != MARK:
            path.unlink()


def _check_room(directory: Path, contents: Contents, *, is_embedded: bool) -> None:
    volume = os.statvfs(directory)
    free = volume.f_bavail * volume.f_frsize
    largest = max((table.bytes for table in contents.tables.values()), default=0)
    stored = contents.bytes if is_embedded else sum(contents.files.values())
    needed = round(stored * _ROOM) + largest
    if volume.f_blocks and free < needed:
        raise ArchiveError(
            f"The volume of {directory} has {free / 1e6:,.0f} MB free, and the restore needs {needed / 1e6:,.0f} MB; "
            "free some, or choose another by --data-dir."
        )


def _prepare(store: ClickHouseStore, contents: Contents, *, is_again: bool) -> None:
    """The tables, empty. Raises ArchiveError where the store has some already."""
    if store.layout.replicas:
        raise ArchiveError("The database of store_url has replicas, which a restore cannot fill; name one without.")
    known = store.list_tables()
    if known and not is_again:
        raise ArchiveError(
            f"The database of store_url is not empty ({known[0]} and {len(known) - 1} more); name a new one."
        )
    store.drop_tables(known)
    for table, found in contents.tables.items():
        store.restore_table(table, found.create)


def _write_file(directory: Path, name: str, parts: Iterable[bytes]) -> None:
    path = directory / name
    for folder in reversed(path.relative_to(directory).parents[:-1]):
        (directory / folder).mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        for part in parts:
            file.write(part)


def _write_rows(
    store: ClickHouseStore, directory: Path, table: str, contents: Contents, parts: Iterable[bytes]
) -> None:
    """Raises ArchiveError where the table has another count of rows then."""
    path = directory / f"{table}.restoring"
    _write_file(directory, path.name, parts)
    expected = contents.tables[table].rows
    if expected:
        store.insert_native(table, path)
    path.unlink()
    if (count := store.count_rows(table)) != expected:
        raise ArchiveError(
            f"The table {table} has {count:,} rows after the restore, and had {expected:,} in the backup; restore "
            "again, or use another backup."
        )
