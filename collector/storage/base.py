"""The interface of the store for the other packages: SQL in, tuples out, records in.

SQL is ClickHouse's. The server binds parameters as `{name:Type}`, so they are never pasted into the text. Every method
blocks and may be called from any thread. An event loop calls it through `asyncio.to_thread`.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:  # The detectors' process has no use for it, and it takes 50 MB.
    import pyarrow as pa


class StoreError(Exception):
    """The store could not do what was asked. The message is one sentence with the cause and, where known, the fix; it
    may hold the engine's words, so it is for the log. `advice`, in our own words, is for whoever asked."""

    def __init__(self, message: str, advice: str = "try again in some seconds") -> None:
        super().__init__(message)
        self.advice = advice

    what: ClassVar[str] = "store"  # That could not answer.

    @property
    def answer(self) -> str:
        """The sentence for whoever asked."""
        return f"The {self.what} could not answer; {self.advice}."


class StateError(StoreError):
    """The same of the state: PostgreSQL or SQLite, beside the tables of calls."""

    what = "state"

    def __init__(self, message: str) -> None:
        super().__init__(message, "the collector's log names its database and what is wrong with it")


class LeaseLostError(StoreError):
    """Another process holds the lease now; nothing was written."""


class RefusedStatementError(StoreError):
    """The engine does not take a statement, a parameter or a value as it is. That is our mistake, and it stays one when
    it is tried again."""


class Store(Protocol):
    """Reads and writes of one database."""

    def query(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """Rows of a SELECT, in its column order. Raises StoreError."""
        ...

    def query_columns(self, sql: str, parameters: Mapping[str, Any] | None = None) -> dict[str, list[Any]]:
        """The same by column name, every column as long as the result. Raises StoreError."""
        ...

    def stream_columns(self, sql: str, parameters: Mapping[str, Any] | None = None) -> Iterator[dict[str, list[Any]]]:
        """The same some thousand rows at a time, as far as the caller takes them; without rows nothing. The caller asks
        nothing else meanwhile. Raises StoreError."""
        ...

    def execute(self, sql: str, parameters: Mapping[str, Any] | None = None) -> None:
        """Run a statement that returns nothing. Raises StoreError."""
        ...

    def insert_records(self, table: str, records: Sequence[Any]) -> None:
        """Append frozen dataclasses whose field names are columns of `table`; an empty sequence is no insert. Raises
        StoreError; where a value does not fit its column, RefusedStatementError, and then nothing was appended.
        """
        ...

    def insert_arrow(self, table: str, rows: "pa.Table", token: str = "") -> None:
        """Append a table whose column names are columns of `table`. A `token` seen before makes it a no-op. Raises
        StoreError.
        """
        ...

    def count_writes(self, tables: Collection[str]) -> int:
        """How often this process appended rows to one of these tables; it asks the engine nothing."""
        ...

    def has_rows_before(self, time: int, writes: int) -> bool:
        """Whether this process appended rows of calls of minutes before `time`, in unix seconds, after as many inserts
        as `count_writes` said of rows_minute."""
        ...

    def close(self) -> None:
        """Release the engine; no method may be called after."""
        ...


def insert_most(store: Store, table: str, records: Sequence[Any]) -> int:
    """Append records; one that the table cannot hold keeps no other out. Gives how many were refused. Raises
    StoreError."""
    try:
        store.insert_records(table, records)
    except RefusedStatementError:
        if len(records) == 1:
            return 1
        middle = len(records) // 2
        return insert_most(store, table, records[:middle]) + insert_most(store, table, records[middle:])
    return 0
