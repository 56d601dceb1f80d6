"""The log in a PostgreSQL database, for several collectors.

One row holds the end of the log (`head`), and who appends holds it for the length of one statement: so records are
numbered in the order in which they become visible, and a reader that knows the end misses none. Records lie in groups,
one a row, in a table for each segment. A segment that all readers have passed is dropped as a table, which costs as
little as deleting a file, where deleted rows would have to be vacuumed. All is in the schema `apidae_log`.

An append is one statement, and durable when it returns: `synchronous_commit` is switched on where the server has it
off. After a connection that broke nobody knows whether the last append is in the log. Its sensors send it again, and
the readers drop what came twice (collector/log/shared.py).
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec
import psycopg
from psycopg import errors, sql
from psycopg.conninfo import conninfo_to_dict

from collector.core.limits import Limit
from collector.log.base import READERS, STORE, Append, LogError, LogFullError
from collector.log.cursors import StateCursors, Write
from collector.log.shared import OwnAppends, Placed, Record, SharedLogReader, make_record
from collector.storage.state.store import StateStore

SCHEMA: Final = "apidae_log"
FORMAT: Final = 1  # Of the tables and of what is in them.
SEGMENT_BYTES: Final = 64 * 1024 * 1024
LIMIT_BYTES: Final = 8 * 1024 * 1024 * 1024  # Half an hour of 1,000 nodes.
GROUP_BYTES: Final = 256 * 1024  # Of one row, which is read as a whole.
_ROWS_READ: Final = 64  # In one query, at most.
_SETUP_LOCK: Final = 0x4150494C  # Two collectors that start at once.
_TRIES: Final = 3  # Where other collectors begin segments meanwhile.
# A server that vanished is noticed after some seconds, whatever the network does.
_CONNECTION: Final[dict[str, Any]] = {"connect_timeout": 10, "keepalives_idle": 5, "tcp_user_timeout": 10_000}

_GROUP = msgspec.msgpack.Decoder(list[Record])
T = TypeVar("T")


class Server:
    """One connection, which is made anew after an error. Thread-safe."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.place = _name_place(url)
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        self._lock = threading.RLock()

    def run(self, work: Callable[[psycopg.Connection[tuple[Any, ...]]], T]) -> T:
        """Do what needs the server, each statement of it a transaction. Raises LogError."""
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = self._connect()
                return work(self._connection)
            except psycopg.Error as error:
                self.close()
                reason = str(error).strip().split("\n", 1)[0] or type(error).__name__
                raise LogError(
                    f"The log in {self.place} cannot be used ({reason}); start it or correct log_url."
                ) from None

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Whoever needs the server meanwhile waits."""
        with self._lock:
            yield

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        connection = psycopg.connect(self._url, autocommit=True, application_name="apidae log", **_CONNECTION)
        connection.execute(
            "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
        )
        return connection


@dataclass(frozen=True, slots=True)
class _Group:
    """Records of one row."""

    count: int
    size: int
    records: bytes


class PostgresqlLog:
    """Appends to the log of a database. `append` is for one thread at a time."""

    def __init__(
        self,
        url: str,
        state: StateStore,
        *,
        limit_bytes: int = LIMIT_BYTES,
        segment_bytes: int = SEGMENT_BYTES,
        write: Write | None = None,
    ) -> None:
        """Open or create. `state` has the readers' cursors, and `write` begins the transactions that move them. Raises
        LogError."""
        self._url = url
        self._server = Server(url)
        self._limit_bytes = limit_bytes
        self._segment_bytes = segment_bytes
        self._own = OwnAppends()
        self._streams: list[PostgresqlStream] = []  # Of the readers of this process.
        self._segment = self._bytes_of_segment = self._size_bytes = 0
        try:
            self.id = self._server.run(self._set_up)
            self._server.run(self._look)
        except BaseException:
            self._server.close()
            raise
        self._cursors = StateCursors(state, self.id, write)

    @property
    def limit(self) -> Limit:
        return self._own.limit

    def is_known(self, node: str, boot_id: str, sequence: int) -> bool:
        return self._own.is_known(node, boot_id, sequence)

    def append(self, appends: Sequence[Append]) -> None:
        new = self._own.find_new(appends)
        groups = list(_make_groups(new))
        if not groups:
            return
        if self._bytes_of_segment >= self._segment_bytes:
            self._server.run(self._begin_segment)
            self.trim()
        for _ in range(_TRIES):
            if self._server.run(lambda connection: self._insert(connection, groups)):
                self._own.add(new)
                return
            self._server.run(self._look)
            if self._size_bytes >= self._limit_bytes and not self.trim():
                raise LogFullError(f"The log holds {self._size_bytes} bytes; its limit is {self._limit_bytes}.")
        raise LogError(f"The log in {self._server.place} begins segments too fast; send again.")

    def open_reader(self, name: str) -> SharedLogReader:
        stream = PostgresqlStream(self._url)
        self._streams.append(stream)
        return SharedLogReader(stream, self._cursors, name)

    def measure_bytes(self) -> int:
        return self._size_bytes

    def trim(self) -> int:
        passed, stored = self._cursors.find_needed(READERS), self._cursors.find_needed((STORE,))
        return self._server.run(lambda connection: self._drop_passed(connection, passed, stored))

    def erase(self, old: bytes, new: bytes) -> int:
        return self._server.run(lambda connection: _replace(connection, old, new))

    def await_stored(self) -> None:
        self._cursors.await_stored(self._server.run(_find_end))

    def hold(self) -> Any:
        return self._server.hold()

    def close(self) -> None:
        for stream in self._streams:
            stream.close()
        self._server.close()

    def _set_up(self, connection: psycopg.Connection[Any]) -> str:
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [_SETUP_LOCK])
            connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
            # Its one row is updated in place.
            connection.execute(
                f"CREATE TABLE IF NOT EXISTS {SCHEMA}.head (format int NOT NULL, id text NOT NULL, "
                "segment bigint NOT NULL, next bigint NOT NULL, segment_bytes bigint NOT NULL, "
                "total_bytes bigint NOT NULL) WITH (fillfactor = 10)"
            )
            connection.execute(
                f"CREATE TABLE IF NOT EXISTS {SCHEMA}.segments "
                "(segment bigint PRIMARY KEY, first bigint NOT NULL, bytes bigint NOT NULL)"
            )
            found = connection.execute(f"SELECT format, id FROM {SCHEMA}.head").fetchone()
            if found is None:
                found = connection.execute(
                    f"INSERT INTO {SCHEMA}.head VALUES (%s, replace(gen_random_uuid()::text, '-', ''), 1, 0, 0, 0) "
                    "RETURNING format, id",
                    [FORMAT],
                ).fetchone()
                _create_segment(connection, 1, 0)
        assert found is not None
        if found[0] != FORMAT:
            raise LogError(
                f"The log in {self._server.place} is of another version of Apidae (its format is {found[0]}, this "
                f"version knows {FORMAT}); start that version."
            )
        return str(found[1])

    def _look(self, connection: psycopg.Connection[Any]) -> None:
        row = connection.execute(f"SELECT segment, segment_bytes, total_bytes FROM {SCHEMA}.head").fetchone()
        assert row is not None
        self._segment, self._bytes_of_segment, self._size_bytes = row

    def _insert(self, connection: psycopg.Connection[Any], groups: Sequence[_Group]) -> bool:
        """False where another collector began a segment, or the log is full."""
        starts, afters, after = [], [], 0
        for group in groups:
            starts.append(after)
            after += group.count
            afters.append(after)
        statement = sql.SQL(
            "WITH head AS (UPDATE {schema}.head SET next = next + %(count)s, "
            "segment_bytes = segment_bytes + %(bytes)s, total_bytes = total_bytes + %(bytes)s "
            "WHERE segment = %(segment)s AND total_bytes < %(limit)s "
            "RETURNING next - %(count)s AS first, segment_bytes, total_bytes), "
            "kept AS (INSERT INTO {table} SELECT head.first + g.after, head.first + g.start, g.bytes, g.records "
            "FROM head, unnest(%(starts)s::bigint[], %(afters)s::bigint[], %(sizes)s::bigint[], %(records)b::bytea[]) "
            "AS g (start, after, bytes, records)) "
            "SELECT segment_bytes, total_bytes FROM head"
        ).format(schema=sql.Identifier(SCHEMA), table=_name_segment(self._segment))
        values = {
            "count": after,
            "bytes": sum(group.size for group in groups),
            "segment": self._segment,
            "limit": self._limit_bytes,
            "starts": starts,
            "afters": afters,
            "sizes": [group.size for group in groups],
            "records": [group.records for group in groups],
        }
        try:
            row = connection.execute(statement, values).fetchone()
        except errors.UndefinedTable:  # Its segment was passed and dropped.
            return False
        if row is None:
            return False
        self._bytes_of_segment, self._size_bytes = row
        return True

    def _begin_segment(self, connection: psycopg.Connection[Any]) -> None:
        """Unless another collector did."""
        with connection.transaction():
            row = connection.execute(f"SELECT segment, next, segment_bytes FROM {SCHEMA}.head FOR UPDATE").fetchone()
            assert row is not None
            if row[0] == self._segment:
                connection.execute(
                    f"UPDATE {SCHEMA}.segments SET bytes = %s WHERE segment = %s", [row[2], self._segment]
                )
                _create_segment(connection, self._segment + 1, row[1])
                connection.execute(f"UPDATE {SCHEMA}.head SET segment = segment + 1, segment_bytes = 0")
        self._look(connection)

    def _drop_passed(self, connection: psycopg.Connection[Any], passed: int, stored: int) -> int:
        """The segments that end before these offsets."""
        dropped = 0
        while (oldest := _find_oldest(connection)) is not None:
            segment, end, size = oldest
            is_over = self._size_bytes > self._limit_bytes // 2
            if end > passed and not (is_over and end > 0 and end <= stored):
                break
            try:
                with connection.transaction():
                    connection.execute(f"SELECT 1 FROM {SCHEMA}.head FOR UPDATE")
                    # Who copies the database reads all its tables for as long; it is dropped when that is done.
                    connection.execute(
                        sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE NOWAIT").format(_name_segment(segment))
                    )
                    connection.execute(sql.SQL("DROP TABLE {}").format(_name_segment(segment)))
                    connection.execute(f"DELETE FROM {SCHEMA}.segments WHERE segment = %s", [segment])
                    connection.execute(f"UPDATE {SCHEMA}.head SET total_bytes = total_bytes - %s", [size])
            except errors.LockNotAvailable:
                break
            except errors.UndefinedTable:  # Another collector was faster.
                continue
            self._look(connection)
            dropped += 1
        return dropped


class PostgresqlStream:
    """Reads the records of the log of a database."""

    def __init__(self, url: str) -> None:
        self._server = Server(url)

    def find_range(self) -> tuple[int, int]:
        row = self._run(f"SELECT (SELECT min(first) FROM {SCHEMA}.segments), next FROM {SCHEMA}.head")[0]
        return int(row[0]), int(row[1])

    def measure_bytes(self, start: int, end: int) -> int:
        """Of more than the newest segment: as much as a segment has."""
        segment, first = self._run(f"SELECT segment, first FROM {SCHEMA}.segments ORDER BY segment DESC LIMIT 1")[0]
        if start < first:
            return SEGMENT_BYTES
        query = sql.SQL("SELECT coalesce(sum(bytes), 0) FROM {} WHERE after > %s AND first < %s")
        return int(self._run(query.format(_name_segment(segment)), [start, end])[0][0])

    def fetch(self, offset: int, end: int, limit_bytes: int) -> list[Placed]:
        query = f"SELECT segment, first FROM {SCHEMA}.segments ORDER BY segment"
        segments = self._run(query)
        later = [segment for segment, first in segments if first > offset]
        here = [segment for segment, first in segments if first <= offset][-1:]
        for segment in (*here, *later):
            rows = self._run(
                sql.SQL(
                    "SELECT first, after, records FROM (SELECT first, after, records, "
                    "sum(bytes) OVER (ORDER BY after) - bytes AS before FROM {} WHERE after > %s AND first < %s "
                    "ORDER BY after LIMIT %s) AS found WHERE before < %s ORDER BY after"
                ).format(_name_segment(segment)),
                [offset, end, _ROWS_READ, limit_bytes],
                is_binary=True,
            )
            if rows:
                return [one for row in rows for one in _place_group(*row) if offset <= one.offset < end]
        return []

    def close(self) -> None:
        """Close the connection."""
        self._server.close()

    def _run(self, query: Any, values: Sequence[Any] = (), *, is_binary: bool = False) -> list[tuple[Any, ...]]:
        return self._server.run(lambda connection: connection.execute(query, values, binary=is_binary).fetchall())


def _make_groups(appends: Sequence[Append]) -> Iterator[_Group]:
    waiting: list[Record] = []
    size = 0
    for append in appends:
        waiting.append(make_record(append))
        size += len(append.payload)
        if size >= GROUP_BYTES:
            yield _make_group(waiting)
            waiting, size = [], 0
    if waiting:
        yield _make_group(waiting)


def _make_group(records: list[Record]) -> _Group:
    encoded = msgspec.msgpack.encode(records)
    return _Group(count=len(records), size=len(encoded), records=encoded)


def _place_group(first: int, after: int, records: bytes) -> Iterator[Placed]:
    """The records of a row; where it is damaged, as many places without one."""
    size = len(records) // max(1, after - first)
    try:
        found: Sequence[Record | None] = _GROUP.decode(records)
    except msgspec.MsgspecError:
        found = ()
    if len(found) != after - first:
        found = [None] * (after - first)
    return (Placed(offset, size, record) for offset, record in enumerate(found, first))


def _create_segment(connection: psycopg.Connection[Any], segment: int, first: int) -> None:
    table = _name_segment(segment)
    connection.execute(
        sql.SQL(
            "CREATE TABLE {} (after bigint PRIMARY KEY, first bigint NOT NULL, bytes bigint NOT NULL, "
            "records bytea NOT NULL)"
        ).format(table)
    )
    # Not compressed: it is read soon and dropped then.
    connection.execute(sql.SQL("ALTER TABLE {} ALTER COLUMN records SET STORAGE EXTERNAL").format(table))
    connection.execute(f"INSERT INTO {SCHEMA}.segments VALUES (%s, %s, 0)", [segment, first])


def _find_end(connection: psycopg.Connection[Any]) -> int:
    row = connection.execute(f"SELECT next FROM {SCHEMA}.head").fetchone()
    assert row is not None
    return int(row[0])


def _find_oldest(connection: psycopg.Connection[Any]) -> tuple[int, int, int] | None:
    """The oldest segment, where it ends, and its bytes; None where it is the only one."""
    rows = connection.execute(
        f"SELECT segment, first, bytes FROM {SCHEMA}.segments ORDER BY segment LIMIT 2"
    ).fetchall()
    return (rows[0][0], rows[1][1], rows[0][2]) if len(rows) == 2 else None


def _replace(connection: psycopg.Connection[Any], old: bytes, new: bytes) -> int:
    count = 0
    for (segment,) in connection.execute(f"SELECT segment FROM {SCHEMA}.segments ORDER BY segment").fetchall():
        table = _name_segment(segment)
        try:
            rows = connection.execute(
                sql.SQL("SELECT after FROM {} WHERE position(%s::bytea IN records) > 0").format(table), [old]
            ).fetchall()
            for (after,) in rows:
                count += _replace_in_group(connection, table, after, old, new)
            if rows:
                connection.execute(sql.SQL("VACUUM {}").format(table))
        except errors.UndefinedTable:
            continue
    return count


def _replace_in_group(
    connection: psycopg.Connection[Any], table: sql.Composable, after: int, old: bytes, new: bytes
) -> int:
    row = connection.execute(sql.SQL("SELECT records FROM {} WHERE after = %s").format(table), [after]).fetchone()
    if row is None:
        return 0
    try:
        records = _GROUP.decode(row[0])
    except msgspec.MsgspecError:
        changed, count = row[0].replace(old, new), 0
    else:
        count = sum(old in one.payload for one in records)
        changed = msgspec.msgpack.encode(
            [msgspec.structs.replace(one, payload=one.payload.replace(old, new)) for one in records]
        )
    connection.execute(sql.SQL("UPDATE {} SET records = %s WHERE after = %s").format(table), [changed, after])
    return count


def _name_segment(segment: int) -> sql.Identifier:
    return sql.Identifier(SCHEMA, f"segment_{segment}")


def _name_place(url: str) -> str:
    """The database in sentences. Raises LogError for what is no URL of one; the driver's words may quote a password."""
    try:
        parts = conninfo_to_dict(url)
    except psycopg.Error:
        parts = {}
    if not parts.get("dbname"):
        raise LogError("The log_url is not postgresql://user:password@host:port/database; write it in this form.")
    return f"PostgreSQL at {parts.get('host', 'localhost')}:{parts.get('port', 5432)}/{parts['dbname']}"
