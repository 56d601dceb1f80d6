"""The database with the state: opened, brought to the schema of this version, read and written in transactions.

By default it is the file `state.db` in `data_dir`: SQLite in WAL mode, synced at each commit, for its owner alone. With
`state_url` it is a PostgreSQL server. A transaction is kept as a whole or not at all. What a driver raises becomes a
StoreError with one sentence that holds no value and no password.

SQLite has one writer at a time, so writers of this process wait for each other here, and not in the engine, which
polls. Beside the collector's process only commands open the file, for moments. Deleted content is overwritten, so an
erasure is one on disk.
"""

import logging
import os
import sqlite3
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from sqlalchemy import URL, Connection, Engine, Row, Table, create_engine, event, func, inspect, make_url, select, text
from sqlalchemy.exc import ArgumentError, DataError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.sql.dml import UpdateBase

from collector.core.budget import check_budget, find_budget, hold
from collector.core.scope import find_scope
from collector.storage.base import RefusedStatementError, StateError, StoreError
from collector.storage.records import read_record
from collector.storage.state.tables.base import TABLE_WRITES, UNCOUNTED, narrow

RecordT = TypeVar("RecordT")

FILE_NAME: Final = "state.db"
_MIGRATIONS: Final = Path(__file__).with_name("migrations")
_REVISIONS: Final = tuple(sorted(path.stem[1:5] for path in (_MIGRATIONS / "versions").glob("v*.py")))
_MIGRATION_LOCK: Final = 0x41504944  # Of PostgreSQL: two collectors that start at once.
_BUSY_SECONDS: Final = 10  # Somebody looks into the file with a tool of their own.
_CONNECT_SECONDS: Final = 10
_CONNECTIONS: Final = 5
_LOG_BYTES: Final = 16_000_000  # What is left of SQLite's write-ahead log after a checkpoint, at most.
_PRAGMAS: Final = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "foreign_keys = ON",
    "secure_delete = ON",
    f"journal_size_limit = {_LOG_BYTES}",
)
_DAMAGES: Final = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class StateVersion(NamedTuple):
    """Another one where the file was written since, or is another file, as after a backup was put in its place."""

    file: int
    writes: int


class StateStore:
    """The state in one database. Thread-safe. Methods raise StoreError."""

    def __init__(self, engine: Engine, place: str) -> None:
        """`place` names the database in sentences."""
        self.place = place
        self.fault = ""  # Why the last transaction failed, in a sentence; empty where it did not.
        self._engine = engine
        self._is_file = engine.dialect.name == "sqlite"
        self._path = Path(engine.url.database or "")  # Of a file.
        self._writing = threading.Lock()
        self._looking = threading.Lock()  # Of the next three.
        self._looker: sqlite3.Connection | None = None  # It never writes, so it sees whoever does.
        self._looked_at = 0  # The file's inode.
        self._is_closed = False
        self._counted: dict[tuple[str, ...], tuple[StateVersion, int]] = {}  # By tables, with their writes.
        event.listen(engine, "after_execute", _note_written)
        event.listen(engine, "before_execute", _narrow, retval=True)

    def prepare(self) -> None:
        """Check the database and bring its schema to that of this version."""
        with self._report():
            if self._is_file:
                self._check_file()
            with self._engine.connect() as connection:
                revision = _find_revision(connection)
            if revision == _REVISIONS[-1]:
                return
            if revision not in ("", *_REVISIONS):
                raise StoreError(
                    f"The state in {self.place} is of a newer version of Apidae (its schema is {revision}, this "
                    f"version knows {_REVISIONS[-1]}); start that version, or restore a backup from before the upgrade."
                )
            _migrate(self._engine)

    def check_revision(self) -> None:
        """That the schema is the one of this version."""
        with self._report(), self._engine.connect() as connection:
            revision = _find_revision(connection)
        if revision != _REVISIONS[-1]:
            raise StoreError(
                f"The state in {self.place} is of another version of Apidae (its schema is {revision or 'empty'}, this "
                f"version's is {_REVISIONS[-1]}); start the collector of this version once."
            )

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction that writes: all of it is kept, or nothing."""
        with self._report(), hold(self._writing) if self._is_file else nullcontext(), self._connect() as connection:
            connection.info["written"] = written = set[str]()
            connection.info["numbered"] = numbered = set[str]()
            with connection.execution_options(is_write=True).begin():
                yield connection
                _count_written(connection, written - numbered)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One transaction that reads, in the caller's scope. It is interrupted where the caller's budget is
        cancelled."""
        budget, scope = find_budget(), find_scope()
        with self._report(), self._connect() as connection:
            if not scope.is_all:
                connection.execution_options(scope=scope)
            driver: Any = connection.connection.driver_connection
            interrupt = driver.interrupt if self._is_file else driver.cancel
            with nullcontext() if budget is None else budget.interrupted_by(interrupt), connection.begin():
                yield connection

    @contextmanager
    def snapshot(self) -> Iterator[Connection]:
        """One transaction that reads everything as it was when it began."""
        level = {} if self._is_file else {"isolation_level": "REPEATABLE READ"}
        with self._report(), self._connect() as connection:
            connection.execution_options(**level)
            with connection.begin():
                _find_revision(connection)  # Both databases take the moment of the first statement.
                yield connection

    @property
    def is_shared(self) -> bool:
        """Whether several collectors may use it: a server, and not a file."""
        return not self._is_file

    def count_writes(self, tables: Collection[str]) -> int:
        """How many transactions wrote into each of these tables, together, of all collectors of this state."""
        version, key = self.find_version(), tuple(tables)
        counted = self._counted.get(key)
        if version is not None and counted is not None and counted[0] == version:
            return counted[1]
        with self.read() as connection:
            writes = count_writes(connection, tables)
        if version is not None:
            self._counted[key] = version, writes
        return writes

    def find_version(self) -> StateVersion | None:
        """Another one once anything was written since, by anybody: some 5 us, where a transaction takes 300. None where
        only a transaction shows it."""
        check_budget()
        if not self._is_file:
            return None
        try:
            with self._looking:
                if self._is_closed:
                    return None
                file = self._path.stat().st_ino
                if self._looker is not None and file != self._looked_at:
                    self._looker.close()
                    self._looker = None
                    self._engine.dispose()  # Its connections are those of the file that was there before.
                if self._looker is None:
                    self._looker = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, check_same_thread=False)
                    self._looked_at = file
                return StateVersion(file, int(self._looker.execute("PRAGMA data_version").fetchone()[0]))
        except (sqlite3.Error, OSError):  # As a transaction will say.
            return None

    def measure_bytes(self) -> int:
        """What the database takes on disk."""
        if self._is_file:
            files = (self._path.with_name(self._path.name + suffix) for suffix in ("", "-wal", "-shm"))
            return sum(file.stat().st_size for file in files if file.exists())
        with self.read() as connection:
            return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())

    def scrub(self) -> None:
        """Take what was deleted off the disk."""
        with self._report(), self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)" if self._is_file else "VACUUM")

    def close(self) -> None:
        """Release the connections; no method may be called after."""
        with self._looking:
            self._is_closed = True
            if self._looker is not None:
                self._looker.close()
                self._looker = None
        self._engine.dispose()

    @contextmanager
    def _connect(self) -> Iterator[Connection]:
        check_budget()
        with self._engine.connect() as connection:
            yield connection

    @contextmanager
    def _report(self) -> Iterator[None]:
        """What the driver raises becomes a StoreError, or a BudgetError where that is the reason."""
        try:
            yield
        except SQLAlchemyError as error:
            check_budget()
            reported = self._make_error(error)
            if isinstance(reported, StateError):
                self.fault = str(reported)
            raise reported from None  # The driver's own text may hold values.
        self.fault = ""

    def _make_error(self, error: SQLAlchemyError) -> StoreError:
        cause: Any = error.orig if isinstance(error, DBAPIError) else error
        if getattr(cause, "sqlite_errorcode", 0) & 0xFF in _DAMAGES:
            return self._name_damage()
        if isinstance(error, IntegrityError | DataError):
            return RefusedStatementError(f"{self.place} refuses a value ({type(cause).__name__}).")
        reason = str(cause).strip().split("\n", 1)[0] if isinstance(error, DBAPIError) else type(error).__name__
        fix = "free some space or see who locks it" if self._is_file else "start it or correct state_url"
        return StateError(f"The state in {self.place} cannot be used ({reason}); {fix}.")

    def _name_damage(self) -> StateError:
        return StateError(
            f"The state in {self.place} is damaged; restore it from a backup, or move it away to begin anew."
        )

    def _check_file(self) -> None:
        with self._engine.connect() as connection:
            if connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one() != "ok":
                raise self._name_damage()


def open_state(directory: Path, url: str | None = None) -> StateStore:
    """The file in a directory, or the server of a URL. Raises StoreError with one sentence, without the password."""
    state = _open_file(directory / FILE_NAME) if url is None else open_server(url)
    try:
        state.prepare()
    except BaseException:
        state.close()
        raise
    return state


def join_state(directory: Path, url: str | None = None) -> StateStore:
    """The state of a collector, for a command beside it: nothing is made or migrated. Raises StoreError."""
    if url is None and not (directory / FILE_NAME).exists():
        raise StoreError(f"There is no state in {directory}; start the collector once, or correct --data-dir.")
    state = _open_file(directory / FILE_NAME) if url is None else open_server(url)
    try:
        state.check_revision()
    except BaseException:
        state.close()
        raise
    return state


def count_writes(connection: Connection, tables: Collection[str]) -> int:
    """How many transactions wrote into each of these tables, together, before this one."""
    found = connection.execute(
        select(func.coalesce(func.sum(TABLE_WRITES.c.writes), 0)).where(TABLE_WRITES.c.table_name.in_(tables))
    )
    return int(found.scalar_one())


def number_write(connection: Connection, table: Table) -> int:
    """The number of this transaction among those that write a table: more than that of each before it, because another
    one that asks waits until this one ends. To be asked for before the table is written."""
    connection.info["numbered"].add(table.name)
    return _count_write(connection, table.name)


def start_numbers(connection: Connection, table: Table, number: int) -> None:
    """Have `number_write` of a table give more than this from now on."""
    connection.info["numbered"].add(table.name)
    counts = import_module(f"sqlalchemy.dialects.{connection.dialect.name}").insert(TABLE_WRITES)
    connection.execute(
        counts.values(table_name=table.name, writes=number).on_conflict_do_update(
            index_elements=["table_name"], set_={"writes": number}, where=TABLE_WRITES.c.writes < number
        )
    )


def upsert(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]], *, newer_by: str = "") -> None:
    """Insert rows, or replace those with the same primary key; with `newer_by`, a column, unless they are newer."""
    if not rows:
        return
    # The other database's dialect takes 3 MB.
    insert = import_module(f"sqlalchemy.dialects.{connection.dialect.name}").insert(table)
    changed = {column.name: insert.excluded[column.name] for column in table.columns if not column.primary_key}
    key, is_newer = list(table.primary_key), None
    if newer_by:
        is_newer = table.c[newer_by] <= insert.excluded[newer_by]
    connection.execute(insert.on_conflict_do_update(index_elements=key, set_=changed, where=is_newer), rows)


def lock_table(connection: Connection, table: Table) -> None:
    """Have others that lock the table, or write it, wait for the end of this transaction: for a change that depends on
    rows which may not exist yet. With SQLite a transaction that writes does so anyhow."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"LOCK TABLE {table.name} IN SHARE ROW EXCLUSIVE MODE"))


def insert_missing(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert those rows of which there is none with the same primary key."""
    if rows:
        insert = import_module(f"sqlalchemy.dialects.{connection.dialect.name}").insert(table)
        connection.execute(insert.on_conflict_do_nothing(), rows)


def read_row(kind: type[RecordT], row: Row[Any], **given: Any) -> RecordT:
    """A dataclass from a row: each field is `given` or the column of its name."""
    # The names are of a class of SQLAlchemy's.
    return read_record(kind, {str(name): value for name, value in zip(row._fields, row, strict=True)}, **given)


def _open_file(path: Path) -> StateStore:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreError(
            f"The state in {path} cannot be opened ({error.strerror}); give this user the right to write it."
        ) from error
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        connect_args={"timeout": _BUSY_SECONDS, "check_same_thread": False},
        hide_parameters=True,
        pool_size=_CONNECTIONS,
    )
    event.listen(engine, "connect", _configure_file)
    event.listen(engine, "begin", _begin_file)
    return StateStore(engine, str(path))


def _configure_file(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # Transactions begin below, and not where the driver guesses.
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}").close()


def _begin_file(connection: Connection) -> None:
    """A transaction that reads first and writes then would fail where another one wrote in between."""
    is_write = connection.get_execution_options().get("is_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")


def open_server(url: str) -> StateStore:
    """Of a URL; to be prepared. Raises StoreError with one sentence, without the password."""
    try:
        parts = make_url(url)
        is_url = parts.drivername in ("postgresql", "postgres") and bool(parts.database)
    except (ArgumentError, ValueError):
        is_url = False  # The error quotes what stands where the port is expected, which may be of the password.
    if not is_url:
        raise StoreError("The state_url is not postgresql://user:password@host:port/database; write it in this form.")
    host = parts.host or str(parts.query.get("host", "localhost"))
    engine = create_engine(
        parts.set(drivername="postgresql+psycopg"),
        connect_args={"connect_timeout": _CONNECT_SECONDS, "application_name": "apidae"},
        hide_parameters=True,
        pool_pre_ping=True,
        pool_size=_CONNECTIONS,
    )
    return StateStore(engine, f"PostgreSQL at {host}:{parts.port or 5432}/{parts.database}")


def _find_revision(connection: Connection) -> str:
    """That of the schema, as Alembic keeps it; empty in an empty database."""
    if not inspect(connection).has_table("alembic_version"):
        return ""
    return str(connection.execute(text("SELECT version_num FROM alembic_version")).scalar() or "")


def _migrate(engine: Engine) -> None:
    """All steps in one transaction."""
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # 10 MB that only the first start and an upgrade need.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    with engine.connect().execution_options(is_write=True) as connection, connection.begin():
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _MIGRATION_LOCK})
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def _count_written(connection: Connection, tables: Collection[str]) -> None:
    """At the end of its transaction, so that no other one waits long for the rows; in an order that all keep."""
    for table in sorted(tables):
        _count_write(connection, table)


def _count_write(connection: Connection, table: str) -> int:
    counts = import_module(f"sqlalchemy.dialects.{connection.dialect.name}").insert(TABLE_WRITES)
    changed = {"writes": TABLE_WRITES.c.writes + 1}
    counted = counts.values(table_name=table, writes=1).on_conflict_do_update(
        index_elements=["table_name"], set_=changed
    )
    return int(connection.execute(counted.returning(TABLE_WRITES.c.writes)).scalar_one())


def _narrow(
    connection: Connection, statement: Any, multiparams: Any, params: Any, _: Mapping[str, Any]
) -> tuple[Any, Any, Any]:
    """Where the transaction reads in a scope."""
    scope = connection.get_execution_options().get("scope")
    return statement if scope is None else narrow(statement, scope), multiparams, params


def _note_written(connection: Connection, statement: object, *_: object) -> None:
    table = statement.table if isinstance(statement, UpdateBase) else None
    if isinstance(table, Table) and not table.info.get(UNCOUNTED):
        with suppress(KeyError):
            connection.info["written"].add(table.name)
