"""Writes the backup of a running collector.

What is acknowledged is in the log or in the tables, so both are of one moment: the writer of the tables rests while the
log's files are opened and the tables are cloned. A clone shares the files of its table (hard links), so all of that
takes a second or two. Batches that come meanwhile go into the log, and are not in the backup. What the log holds and
the tables do not have is in the backup as it is, and the restored collector stores it.

Files are read as of when they were opened: the collector replaces its files as a whole, and only appends to others.
The log's cursors are opened before the state of the detectors, which may be newer than its cursor but not older.
SQLite is asked for a copy. The state in PostgreSQL is read as of that moment too, and becomes a file of SQLite.
"""

import logging
import os
import sqlite3
import stat
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from collector.backup.archive import BLOCK_BYTES, FILES, FORMAT, TABLES, ArchiveWriter, Contents, TableContents
from collector.core.budget import use_budget
from collector.core.errors import ConflictError
from collector.log.base import Log
from collector.receiver.writer import StoreWriter
from collector.storage.clickhouse import ClickHouseStore
from collector.storage.state.copying import save_copy
from collector.storage.state.imports import IMPORTED_SUFFIX
from collector.storage.state.store import FILE_NAME, StateStore

_SQLITE_SUFFIX: Final = Path(FILE_NAME).suffix
# Of data_dir: the tables, which are asked for; what is of the running process; and the log's id, for a new log has
# another.
_EXCLUDED: Final = ("store", "lock", "wal/id")
_COPY: Final = ".copy"
_EXCLUDED_SUFFIXES: Final = (".new", "-wal", "-shm", "-journal", IMPORTED_SUFFIX, _COPY)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """`lock` is held meanwhile. `is_log_shared`: the log is no files of `directory`. `find_holder` gives where the
    collector answers that writes the tables: empty, where this one does; None, where none does."""

    directory: Path
    store: ClickHouseStore
    state: StateStore
    writer: StoreWriter
    log: Log
    version: str
    clock: Callable[[], float]
    lock: threading.Lock
    find_holder: Callable[[], str | None] = lambda: ""
    is_log_shared: bool = False

    def write(self) -> Generator[bytes]:
        """The archive. Raises ConflictError before the first byte; StoreError, OSError."""
        if self.store.layout.replicas:
            raise ConflictError(
                "The tables have replicas; back these up with ClickHouse's own BACKUP, and data_dir by a copy."
            )
        if holder := self.find_holder():
            raise ConflictError(f"The collector at {holder} writes the tables; ask that one for the backup.")
        if holder is None:
            raise ConflictError("No collector writes the tables at the moment; try again in some seconds.")
        if not self.lock.acquire(blocking=False):
            raise ConflictError("Another backup or an erasure is under way; try again when that is done.")
        with ExitStack() as stack:
            stack.callback(self.lock.release)
            files, tables = self._cut(stack)
            contents = Contents(
                format=FORMAT,
                version=self.version,
                made_at=self.clock(),
                tables=tables,
                files={name: size for name, (_, size) in files.items()},
            )
            archive = ArchiveWriter(contents)
            yield archive.begin()
            for name, (file, size) in files.items():
                yield from archive.add_entry(FILES + name, _read_file(file, size))
            for name in tables:
                yield from archive.add_entry(TABLES + name, self.store.stream_clone(name))
            yield archive.end()
            logger.info("A backup of %d rows and %d files was made.", contents.rows, len(files))

    def _cut(self, stack: ExitStack) -> tuple[dict[str, tuple[IO[bytes], int]], dict[str, TableContents]]:
        """The files and clones of one moment."""
        if self.is_log_shared:
            self.writer.drain()  # It is not in the backup, so what it holds now has to be in the tables.
        with self.writer.pause() as is_settled:
            if not is_settled:
                # Some rows of the claimed range may be in some of the tables, and only these know which.
                raise ConflictError(
                    "The tables did not take the last rows; see `storage` in /readyz, and make the backup when it is "
                    "ok."
                )
            with self.log.hold():
                files = {name: stack.enter_context(open_file(path)) for name, path in self._list_files()}
                state = stack.enter_context(self.state.snapshot()) if self.state.is_shared else None
            stack.callback(use_budget(None)(self.store.drop_clones))  # Also where the client has left.
            clones = self.store.clone_tables()
        if state is not None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(suffix=_COPY, dir=self.directory))
            files[FILE_NAME] = stack.enter_context(open_file(save_copy(state, Path(folder))))
        return files, {
            clone.name: TableContents(create=clone.create, rows=clone.rows, bytes=clone.bytes) for clone in clones
        }

    def _list_files(self) -> list[tuple[str, Path]]:
        """Names below the directory, the log first."""
        found = []
        for folder, folders, names in os.walk(self.directory):
            place = Path(folder).relative_to(self.directory)
            folders[:] = [
                one for one in folders if (place / one).as_posix() not in _EXCLUDED and not one.endswith(_COPY)
            ]
            for name in names:
                path = place / name
                if path.as_posix() in _EXCLUDED or name.endswith(_EXCLUDED_SUFFIXES):
                    continue
                if self.state.is_shared and path.as_posix() == FILE_NAME:
                    continue
                if stat.S_ISREG((self.directory / path).lstat().st_mode):
                    found.append((path.as_posix(), self.directory / path))
        return sorted(found, key=lambda one: (not one[0].startswith("wal/"), one[0]))


@contextmanager
def open_file(path: Path) -> Iterator[tuple[IO[bytes], int]]:
    """A file and its bytes; of SQLite's a copy. It is never opened here: closing any descriptor of a file takes all
    locks of this process off it, and another process would delete the write-ahead log that SQLite goes on to write."""
    with _copy_sqlite(path) if path.suffix == _SQLITE_SUFFIX else path.open("rb") as file:
        yield file, os.fstat(file.fileno()).st_size


def _copy_sqlite(path: Path) -> IO[bytes]:
    """A copy of one moment, which is gone when it is closed. Raises OSError."""
    copy = path.with_name(path.name + _COPY)
    copy.unlink(missing_ok=True)
    try:
        connection = sqlite3.connect(path)
        try:
            connection.execute("VACUUM INTO ?", (str(copy),))
        finally:
            connection.close()
        return copy.open("rb")
    except sqlite3.Error as error:
        raise OSError(f"{path} cannot be copied ({error})") from error
    finally:
        copy.unlink(missing_ok=True)


def _read_file(file: IO[bytes], size: int) -> Iterator[bytes]:
    left = size
    while left and (part := file.read(min(left, BLOCK_BYTES))):
        left -= len(part)
        yield part
    if left:
        raise OSError(f"{file.name} became shorter while it was read")
