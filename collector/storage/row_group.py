"""Rows of several batches as one: each column once, whatever number of batches it came in.

A call into numpy or Arrow costs a microsecond however few rows it is for, and there are sixty columns. So whoever reads
batches merges them first (`collector.receiver.convert.convert_batches`) and works on the whole.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from collector.core.rows import Ragged, Route
from collector.storage.columns import COLUMNS, BatchHead, RowBatch

_HEAD: Final = frozenset(field.name for field in fields(BatchHead))
_TEXTS: Final = frozenset(name for name, column in COLUMNS.items() if column.is_text)


@dataclass(frozen=True, slots=True)
class RowGroup:
    """Batches one behind the other, at least one. `rows` are those of all; its own head is that of the first."""

    rows: RowBatch
    heads: tuple[BatchHead, ...]
    ends: NDArray[np.int64]  # Of each batch: the place behind its last row.

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Rows of each batch."""
        return np.diff(self.ends, prepend=0)

    def spread(self, values: NDArray[Any]) -> NDArray[Any]:
        """For each row what its batch has of `values`."""
        return np.repeat(values, self.lengths)

    def find_rows(self, batch: int) -> slice:
        """The rows of one batch, by its number."""
        return slice(int(self.ends[batch - 1]) if batch else 0, int(self.ends[batch]))

    def select(self, first: int, last: int) -> "RowGroup":
        """The batches from `first` to before `last`, with the strings and routes of all."""
        if (first, last) == (0, len(self.heads)):
            return self
        start = int(self.ends[first - 1]) if first else 0
        own = slice(start, int(self.ends[last - 1]))
        columns = {name: _cut(value, own) for name, value in _list_columns(self.rows)}
        columns |= {"strings": self.rows.strings, "routes": self.rows.routes}
        heads = self.heads[first:last]
        return RowGroup(_make_rows(heads[0], columns), heads, self.ends[first:last] - start)

    def halve(self) -> "tuple[RowGroup, RowGroup]":
        """Both halves of two batches or more."""
        middle = len(self.heads) // 2
        return self.select(0, middle), self.select(middle, len(self.heads))


def make_group(batch: RowBatch) -> RowGroup:
    """A group of one batch."""
    return RowGroup(batch, (batch,), np.array([len(batch)], np.int64))


def join_groups(groups: Sequence[RowGroup]) -> RowGroup:
    """All batches of groups, in order; of texts and routes each once."""
    if len(groups) == 1:
        return groups[0]
    texts: dict[str, int] = {"": 0}
    routes: dict[int, int] = {}
    known: list[Route] = []
    string_places, route_places = [], []
    for group in groups:
        strings = group.rows.strings
        string_places.append(np.array([texts.setdefault(text, len(texts)) for text in strings], np.uint32))
        for route in group.rows.routes:
            if routes.setdefault(route.route_id, len(known)) == len(known):
                known.append(route)
        route_places.append(np.array([routes[route.route_id] for route in group.rows.routes], np.uint32))
    columns: dict[str, Any] = {}
    for name, _ in _list_columns(groups[0].rows):
        parts = [getattr(group.rows, name) for group in groups]
        if name in _TEXTS or name == "route":
            places = string_places if name in _TEXTS else route_places
            parts = [of[part] for of, part in zip(places, parts, strict=True)]
        columns[name] = _join(parts) if isinstance(parts[0], Ragged) else np.concatenate(parts)
    columns |= {"strings": tuple(texts), "routes": tuple(known)}
    heads = tuple(head for group in groups for head in group.heads)
    ends = np.cumsum(np.concatenate([group.lengths for group in groups]))
    return RowGroup(_make_rows(heads[0], columns), heads, ends)


def _list_columns(rows: RowBatch) -> Iterator[tuple[str, Any]]:
    """What has an entry a row."""
    for field in fields(RowBatch):
        value = getattr(rows, field.name)
        if isinstance(value, np.ndarray | Ragged):
            yield field.name, value


def _make_rows(head: BatchHead, columns: dict[str, Any]) -> RowBatch:
    return RowBatch(**{name: getattr(head, name) for name in _HEAD}, **columns)


def _cut(value: Any, own: slice) -> Any:
    if not isinstance(value, Ragged):
        return value[own]
    offsets = value.offsets[own.start : own.stop + 1]
    held = slice(int(offsets[0]), int(offsets[-1]))
    counts = value.counts[held] if len(value.counts) else value.counts
    return Ragged(offsets=offsets - offsets[0], values=value.values[held], counts=counts)


def _join(parts: Sequence[Ragged]) -> Ragged:
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return Ragged(
        offsets=offsets,
        values=np.concatenate([part.values for part in parts]),
        counts=np.concatenate([part.counts for part in parts]),
    )
