"""Rows of the store by column name, and as dataclasses whose fields are columns."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Protocol, TypeVar, cast

import msgspec

RecordT = TypeVar("RecordT")


class Reader(Protocol):
    """The reading half of `collector.storage.base.Store`."""

    def query_columns(self, sql: str, parameters: Mapping[str, Any] | None = None) -> dict[str, list[Any]]:
        """Columns of a SELECT by name, its parameters bound by the server as `{name:Type}`. Raises StoreError."""
        ...


def select(reader: Reader, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """The rows of a SELECT, each by column name. Raises StoreError."""
    columns = reader.query_columns(sql, parameters)
    names = list(columns)
    return [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def read_record(kind: type[RecordT], row: Mapping[str, Any], **given: Any) -> RecordT:
    """A dataclass from a row: each field is `given` or the column of its name. Numbers become booleans and enums,
    arrays tuples; other columns are ignored."""
    return msgspec.convert({**row, **given}, kind, strict=False, from_attributes=True)


def select_records(
    reader: Reader, kind: type[RecordT], source: str, parameters: Mapping[str, Any] | None = None, *, limit: int = 0
) -> tuple[RecordT, ...]:
    """Rows of `source`, a table with its conditions and order, as dataclasses whose fields are columns of it; 0: no
    limit. Raises StoreError."""
    names = ", ".join(field.name for field in fields(cast("Any", kind)))
    rows = select(reader, f"SELECT {names} FROM {source}" + f" LIMIT {limit}" * bool(limit), parameters)
    return tuple(read_record(kind, row) for row in rows)
