"""The store over clickhouse-connect: one class for the embedded engine (chdb) and for ClickHouse servers.

Both are the same client with the same SQL, inserts and parameters. A client serves one call at a time, so there is a
small pool. Rules of the engine, as measured: one process owns the data directory, a forked child hangs, memory needs a
cap, and inserts must be synchronous for tokens to count.
"""

import dataclasses
import queue
import re
import struct
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import clickhouse_connect
import pyarrow as pa
import pyarrow.compute as pc
from clickhouse_connect.driver.exceptions import ClickHouseError, DataError

from collector.core.budget import check_budget, find_budget
from collector.core.scope import find_scope
from collector.storage.base import RefusedStatementError, StoreError
from collector.storage.tables import calls, decisions, facts
from collector.storage.tables.layout import Layout, Retention
from collector.storage.tables.narrowing import write_filters

# One each for the writer, housekeeping, the detectors' alerts, what these propose, and each request that may run
# (collector/api/request_queue.py): whoever writes never waits for whoever reads.
CLIENT_COUNT = 6
# Statements whose columns are remembered: some 1 MB. Ours are a few hundred, for values are parameters.
STATEMENTS_MAX = 500
_COUNT = re.compile(r"[1-9]\d?")
QUERY_TIMEOUT_SECONDS = 30
# Of a statement whose rows somebody takes bit by bit: his work counts, too.
STREAM_TIMEOUT_SECONDS = 600
STREAM_ROWS = 8_192  # At a time, some 2 MB of endpoints.
# Of rows that are copied as they are. The engine wants the statements' settings in their text, else it collects all.
_CLONE_BYTES = 4 * 1024 * 1024
_CLONE_READING = "SETTINGS max_execution_time = 0, max_threads = 1"
CLONE_WRITING: Mapping[str, Any] = {
    "max_execution_time": 0,
    "max_insert_threads": 1,
    "optimize_on_insert": 0,
    "min_insert_block_size_rows": 131_072,
    "min_insert_block_size_bytes": 64 * 1024 * 1024,
}
# Of inserts of rows of calls. Rows of one key are added up by the next merge, as those of two inserts are, for every
# question adds up; to do it in the insert, too, takes as much processor time again as the insert. The views' groups of
# a claim take some 70 MB: by the session's bound they went to disk, which took twice as long as all the rest.
_ROWS_TABLE = calls.ROWS_MINUTE.name
_ROWS_INSERT: Mapping[str, Any] = {"optimize_on_insert": 0, "max_bytes_before_external_group_by": 256_000_000}
_CREATE = re.compile(r"CREATE TABLE \S+ ")
# Of a statement with a time limit, which somebody asked for. The longest lists of ours have 200,000 rows.
STATEMENT_MEMORY_BYTES = 400_000_000
STATEMENT_ROWS_MAX = 250_000
# Of the engine's errors (ErrorCodes.cpp): what whoever asked can do about some of them.
_CODE = re.compile(r"Code: (\d+)\.")
_ADVICE: Mapping[int, str] = {
    159: "it took too long, so ask for a shorter time",
    160: "it would take too long, so ask for a shorter time",
    241: "it is out of memory, so ask for a shorter time or set store_url to a ClickHouse server",
    396: "it has too many rows, so ask for a shorter time",
}
# Statements and parameters that the engine cannot read, or that name what is not there.
_REFUSED_CODES = frozenset((6, 27, 36, 38, 41, 42, 43, 44, 46, 47, 53, 62, 69, 70, 72, 456, 457))
_CLOCK_SECONDS = 0.02  # The engine's clock has steps of 4 ms: it must not end a statement before its budget is over.
_LOOK_SECONDS = 0.1  # Between two looks of a caller under a budget who waits for a client.
# The reason inside urllib3's long text on a connection that did not come about.
_NO_CONNECTION = re.compile(r"HTTPConnection.*\[Errno -?\d+\] ([A-Za-z ]+)")

TABLES = (*calls.TABLES, *facts.TABLES, *decisions.TABLES)
# A block sent again passes through every view and is then dropped by each table's own window, so that a crash between
# the tables is made good by the replay. On a full disk that would not hold (collector/receiver/writer.py).
VIEWS = (*calls.VIEWS, facts.COVERAGE_HOURS_VIEW)


def render_statements(layout: Layout, known: Mapping[str, Collection[str]]) -> list[str]:
    """Every statement that brings a database up to date which has the columns `known`, by table, in order; each may run
    again."""
    tables = [statement for table in TABLES for statement in table.render(layout, known)]
    return [*tables, *(statement for view in VIEWS for statement in view.render())]


SESSION_SETTINGS: Mapping[str, Any] = {
    "async_insert": 0,  # 26.9 defaults to 1, under which a token does not count.
    "deduplicate_blocks_in_dependent_materialized_views": 1,
    "max_execution_time": QUERY_TIMEOUT_SECONDS,
    # A sensor that was away for a week sends rows of 168 hours at once.
    "max_partitions_per_insert_block": 0,
}


# In a database with replicas. The log forgets what was inserted, so most replicas have it then: of two both. A
# statement that makes or changes a table waits for those that are reached; the others run it when they are back.
REPLICA_SETTINGS: Mapping[str, Any] = {
    "insert_quorum": "auto",
    "insert_quorum_timeout": QUERY_TIMEOUT_SECONDS * 1_000,
    "distributed_ddl_output_mode": "throw_only_active",
}
_DISTRIBUTED = "SELECT min(name) FROM system.tables WHERE database = currentDatabase() AND engine = 'Distributed'"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Clone:
    """A table as it was at one moment. `create` is the statement that made it, `bytes` what it takes on disk."""

    name: str
    create: str
    rows: int
    bytes: int


class ClickHouseStore:
    """A Store (collector/storage/base.py) behind a pool of clients. Thread-safe."""

    def __init__(
        self,
        open_client: Callable[[], Any],
        layout: Layout | None = None,
        *,
        is_bare: bool = False,
        replica_settings: Mapping[str, Any] | None = None,
    ) -> None:
        """Open the clients and bring the tables up to date, but not where it `is_bare`. `replica_settings` go before
        REPLICA_SETTINGS. Raises StoreError."""
        self._layout = layout or Layout()
        self._clients: list[Any] = []
        self._names: dict[str, tuple[str, ...]] = {}  # Columns of statements that gave nothing, by their text.
        self._idle: queue.LifoQueue[Any] = queue.LifoQueue()
        self._ending = threading.Lock()  # Of the client that ends statements of others.
        self._writes: Counter[str] = Counter()  # By table.
        self._oldest: dict[int, int] = {}  # Numbers of inserts of rows, by the hour of their oldest row.
        try:
            self._ender = open_client()
            self._clients.append(self._ender)
            self._copier = open_client()  # It is busy for minutes, one statement after the other.
            self._clients.append(self._copier)
            for _ in range(CLIENT_COUNT):
                client = open_client()
                self._clients.append(client)
                self._idle.put(client)
            self._layout = dataclasses.replace(self._layout, replicas=self._find_replicas())
            if self._layout.replicas:
                for client in self._clients:
                    for name, value in {**REPLICA_SETTINGS, **(replica_settings or {})}.items():
                        client.set_client_setting(name, value)
            if not is_bare:
                self._update_tables()
        except Exception as error:
            self.close()
            raise error if isinstance(error, StoreError) else make_store_error(error) from error

    def _update_tables(self) -> None:
        """Make and change what another version, or other settings, left. Raises StoreError."""
        for statement in render_statements(self._layout, self._list_columns()):
            self.execute(statement)
        created = dict(
            self.query("SELECT name, create_table_query FROM system.tables WHERE database = currentDatabase()")
        )
        for table in TABLES:
            text = created[table.name]
            for statement in (*table.render_expiry(self._layout, text), *table.render_indexes(text)):
                self.execute(statement)

    def _find_replicas(self) -> str:
        """The name of the database where it has replicas, each with all rows. Raises StoreError."""
        name, engine = self.query("SELECT name, engine FROM system.databases WHERE name = currentDatabase()")[0]
        if engine != "Replicated":
            ((table,),) = self.query(_DISTRIBUTED)
            if table:
                raise StoreError(
                    f"The table {table} of the database {name} is of the engine Distributed, which this version does "
                    "not use; name a database with the engine Replicated instead (UPGRADING.md)"
                )
            return ""
        ((shards,),) = self.query("SELECT max(shard_num) FROM system.clusters WHERE cluster = currentDatabase()")
        if shards > 1:
            raise StoreError(f"The database {name} has {shards} shards; make it of one shard with replicas")
        return str(name)

    def _list_columns(self) -> dict[str, set[str]]:
        """Those that there are, by table. Raises StoreError."""
        columns: dict[str, set[str]] = defaultdict(set)
        for table, name in self.query("SELECT table, name FROM system.columns WHERE database = currentDatabase()"):
            columns[table].add(name)
        return columns

    @property
    def layout(self) -> Layout:
        return self._layout

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        with self._borrow() as client, self._bound() as settings:
            return list(client.query(sql, parameters=dict(parameters or {}), settings=settings).result_rows)

    def query_columns(self, sql: str, parameters: Mapping[str, Any] | None = None) -> dict[str, list[Any]]:
        with self._borrow() as client, self._bound() as settings:
            result = client.query(sql, parameters=dict(parameters or {}), settings=settings)
            if result.column_names:
                columns = result.result_columns or [[] for _ in result.column_names]
                return {name: list(column) for name, column in zip(result.column_names, columns, strict=True)}
            # The embedded engine sends no block, so no names, for an empty result. To ask for them costs as much as the
            # statement, of which alone they follow.
            names = self._names.get(sql)
            if names is None:
                described = client.query(f"DESCRIBE ({sql.strip().rstrip(';')})", parameters=dict(parameters or {}))
                names = tuple(str(row[0]) for row in described.result_rows)
                if len(self._names) < STATEMENTS_MAX:
                    self._names[sql] = names
            return {name: [] for name in names}

    def stream_columns(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Iterator[dict[str, list[Any]]]:
        with self._borrow() as client, self._bound() as bounds:
            settings = {"max_execution_time": STREAM_TIMEOUT_SECONDS, **bounds}
            settings |= {"max_block_size": STREAM_ROWS, "max_result_rows": 0}
            stream = client.query_column_block_stream(sql, parameters=dict(parameters or {}), settings=settings)
            with stream:
                for block in stream:
                    check_budget()
                    yield dict(zip(stream.source.column_names, block, strict=True))

    def execute(self, sql: str, parameters: Mapping[str, Any] | None = None) -> None:
        with self._borrow() as client:
            client.command(sql, parameters=dict(parameters or {}))

    def insert_records(self, table: str, records: Sequence[Any]) -> None:
        """See Store. Tuples become arrays; enums their values."""
        if not records:
            return
        names = [field.name for field in dataclasses.fields(records[0])]
        columns = [[_plain(getattr(record, name)) for record in records] for name in names]
        with self._borrow() as client:
            try:
                client.insert(table, columns, column_names=names, column_oriented=True)
            except (DataError, struct.error, ArithmeticError, AttributeError, TypeError, ValueError) as error:
                # A value that its column's type cannot hold, found while the rows were written.
                raise RefusedStatementError(f"{table}: {str(error).splitlines()[0][:200]}") from error
        self._writes[table] += 1

    def insert_arrow(self, table: str, rows: pa.Table, token: str = "") -> None:
        if not rows.num_rows:
            return
        settings = dict(_ROWS_INSERT) if table == _ROWS_TABLE else {}
        settings |= {"insert_deduplication_token": token} if token else {}
        with self._borrow() as client:
            client.insert_arrow(table, rows, settings=settings)
        if table == _ROWS_TABLE:
            self._note_oldest(pc.min(rows["time"]).cast(pa.int64()).as_py())
        self._writes[table] += 1

    def _note_oldest(self, time: int) -> None:
        """Of each hour the last insert whose oldest row is of it; one that went further back makes up for it."""
        hour, number = time // 3600 * 3600, self._writes[_ROWS_TABLE] + 1
        self._oldest = {one: before for one, before in self._oldest.items() if one < hour} | {hour: number}

    def has_rows_before(self, time: int, writes: int) -> bool:
        """See Store."""
        return any(number > writes for hour, number in self._oldest.items() if hour < time)

    def count_writes(self, tables: Collection[str]) -> int:
        """See Store."""
        return sum(self._writes[table] for table in tables)

    def list_tables(self) -> list[str]:
        """All that hold rows, whoever made them. Raises StoreError."""
        found = "database = currentDatabase() AND engine LIKE '%MergeTree'"
        return [str(row[0]) for row in self.query(f"SELECT name FROM system.tables WHERE {found} ORDER BY name")]

    def clone_tables(self) -> list[Clone]:
        """Of all tables, for `stream_clone`: they share their files, and what is written later is not in them. Raises
        StoreError."""
        self.drop_clones()
        database = self._name_clones()
        self.execute(f"CREATE DATABASE {database}")
        tables = self.list_tables()
        for table in tables:
            self.execute(f"CREATE TABLE {database}.{table} CLONE AS {table}")
        clones = []
        for table in tables:
            # Rows of one key that are merged, or too old, would change the count.
            self.execute(f"SYSTEM STOP MERGES {database}.{table}")
            found = "SELECT create_table_query, total_bytes FROM system.tables WHERE database = {database:String} "
            create, size = self.query(f"{found}AND name = {{name:String}}", {"database": database, "name": table})[0]
            rows = int(self.query(f"SELECT count() FROM {database}.{table}")[0][0])
            clones.append(Clone(name=table, create=create, rows=rows, bytes=int(size or 0)))
        return clones

    def drop_clones(self) -> None:
        """Those that there are. Raises StoreError."""
        self.execute(f"DROP DATABASE IF EXISTS {self._name_clones()} SYNC")

    def _name_clones(self) -> str:
        return f"{self.query('SELECT currentDatabase()')[0][0]}_backup"

    def stream_clone(self, table: str) -> Iterator[bytes]:
        """The rows of a clone in the engine's format Native, some MB at a time; one caller at a time. Raises
        StoreError."""
        try:
            # A server then says in its status that it failed, and not within the rows.
            transport = {"wait_end_of_query": 1}
            sql = f"SELECT * FROM {self._name_clones()}.{table} {_CLONE_READING}"
            stream = self._copier.raw_stream(sql, fmt="Native", settings=transport)
            try:
                while part := stream.read(_CLONE_BYTES):
                    check_budget()
                    yield part
            finally:
                stream.close()
        except (ClickHouseError, RuntimeError, OSError) as error:
            check_budget()
            raise make_store_error(error) from error

    def drop_tables(self, tables: Collection[str]) -> None:
        """With their rows. Raises StoreError."""
        for table in tables:
            self.execute(f"DROP TABLE {table} SYNC")

    def restore_table(self, table: str, create: str) -> None:
        """An empty table by the statement of its clone, which merges nothing until this store is opened again. Raises
        StoreError."""
        self.execute(_CREATE.sub(f"CREATE TABLE {table} ", create, count=1))
        self.execute(f"SYSTEM STOP MERGES {table}")

    def count_rows(self, table: str) -> int:
        """As they are stored, before any merge. Raises StoreError."""
        return int(self.query(f"SELECT count() FROM {table}")[0][0])

    def insert_native(self, table: str, path: Path) -> None:
        """Append rows as `stream_clone` gave them, from a file that zstd compressed. Raises StoreError."""
        with self._borrow() as client, path.open("rb") as file:
            settings = {**CLONE_WRITING, "insert_deduplication_token": make_token()}
            client.raw_insert(table, insert_block=file, settings=settings, fmt="Native", compression="zstd")

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self._clients.clear()

    @contextmanager
    def _borrow(self) -> Iterator[Any]:
        """A client of the pool; what it raises becomes a StoreError, or a BudgetError where that is the reason."""
        client = self._take_client()
        try:
            yield client
        except (ClickHouseError, RuntimeError, OSError) as error:
            check_budget()
            raise make_store_error(error) from error
        finally:
            self._idle.put(client)

    def _take_client(self) -> Any:
        while True:
            check_budget()
            with suppress(queue.Empty):
                return self._idle.get(timeout=None if find_budget() is None else _LOOK_SECONDS)

    @contextmanager
    def _bound(self) -> Iterator[dict[str, Any]]:
        """Settings of a statement that reads, under the caller's budget and in its scope. Within it, cancelling the
        budget ends the statement."""
        budget, scope = find_budget(), find_scope()
        settings: dict[str, Any] = {} if scope.is_all else {"additional_table_filters": write_filters(scope)}
        if budget is None:
            yield settings
            return
        settings["log_comment"] = budget.label
        if (left := budget.left_seconds) is not None:
            settings["max_execution_time"] = max(left, _LOOK_SECONDS) + _CLOCK_SECONDS
            settings["max_memory_usage"] = STATEMENT_MEMORY_BYTES
            settings["max_result_rows"] = STATEMENT_ROWS_MAX
        with budget.interrupted_by(partial(self._end_statement, budget.label)):
            yield settings

    def _end_statement(self, label: str) -> None:
        """Asks the engine to end what runs under a label; a store that does not allow it has its time limit."""
        with self._ending, suppress(ClickHouseError, RuntimeError, OSError):
            self._ender.command(f"KILL QUERY WHERE Settings['log_comment'] = '{label}' ASYNC")


def open_server(url: str, retention: Retention | None = None, *, is_bare: bool = False) -> ClickHouseStore:
    """A ClickHouse server over HTTP: `http[s]://user:password@host:port/database`. Where the database has replicas,
    `?insert_quorum=N` says how many have a row before it counts as stored. Raises StoreError; never shows the password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port or (8443 if parts.scheme == "https" else 8123)
        asked = dict(parse_qsl(parts.query, keep_blank_values=True))
        is_url = parts.scheme in ("http", "https") and bool(parts.hostname)
        is_url = is_url and asked.keys() <= {"insert_quorum"} and all(_COUNT.fullmatch(one) for one in asked.values())
    except ValueError:
        is_url = False  # The error quotes what stands where the port is expected, which may be of the password.
    if not is_url:
        raise StoreError(
            "The store_url is not http[s]://user:password@host:port/database, with ?insert_quorum=N at most; "
            "write it in this form."
        )
    database = parts.path.strip("/") or "default"

    def open_client() -> Any:
        return clickhouse_connect.get_client(
            host=parts.hostname or "",
            port=port,
            secure=parts.scheme == "https",
            username=unquote(parts.username or "default"),
            password=unquote(parts.password or ""),
            database=database,
            settings=dict(SESSION_SETTINGS),
            # Parameters in the body: those of a page may be longer than a server's longest URI (1 MiB).
            form_encode_query_params=True,
        )

    try:
        layout = Layout(retention=retention or Retention())
        return ClickHouseStore(open_client, layout, is_bare=is_bare, replica_settings=asked)
    except StoreError as error:
        address = f"{parts.scheme}://{parts.hostname}:{port}"
        raise StoreError(f"The store at {address} cannot be used ({error}); start it or correct store_url.") from error


def make_token() -> str:
    """Of an insert whose blocks are rows of their own, however alike."""
    return token_hex(16)


def make_store_error(error: Exception) -> StoreError:
    first = str(error).strip().split("\n", 1)[0]
    if refused := _NO_CONNECTION.search(first):
        return StoreError(f"no connection: {refused[1].lower()}")
    text = first.split("DB::Exception: ")[-1].split(" (version", 1)[0].strip() or type(error).__name__
    found = _CODE.search(first)
    code = int(found[1]) if found is not None else 0
    if code in _ADVICE:
        return StoreError(f"{text}; {_ADVICE[code]}", _ADVICE[code])
    return RefusedStatementError(text) if code in _REFUSED_CODES else StoreError(text)


def _plain(value: Any) -> Any:
    """What the Native format takes."""
    if isinstance(value, tuple):
        return list(value)
    return getattr(value, "value", value)
