"""The store as the inventory needs it: a SELECT in, rows by column name out."""

from collections.abc import Mapping
from typing import Any, Protocol


class Reader(Protocol):
    """The reading half of `collector.store.base.Store`."""

    def query_columns(self, sql: str, parameters: Mapping[str, Any] | None = None) -> dict[str, list[Any]]:
        """Columns of a SELECT by name, its parameters bound by the server as `{name:Type}`. Raises StoreError."""
        ...


def select(reader: Reader, sql: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """The rows of a SELECT, each by column name. Raises StoreError."""
    columns = reader.query_columns(sql, parameters)
    names = list(columns)
    return [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]
