"""Several batches of the log as one: a batch costs the detectors about a millisecond however few rows it has, and many
small sensors send many small ones.

What is merged depends on the batches alone, and no row comes out of it late that would not have been: a group ends
before the first batch whose newest row begins later than the group's own.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from collector.rows import Ragged, Route, RowBatch

ROWS_MAX = 10_000  # Of a group of several batches: as many as one batch of the wire may have.

_STRING_INDEXES = frozenset(
    (
        "client_address",
        "client_workload",
        "protocol_version",
        "request_content_type",
        "response_content_type",
        "client_software",
    )
)


@dataclass(slots=True)
class Group:
    """Batches that are fed as one. Not empty."""

    batches: list[RowBatch]
    received_at: list[int]  # Of each batch, unix seconds.
    newest: int = field(init=False)  # Start of the newest row.
    rows: int = field(init=False)

    def __post_init__(self) -> None:
        self.newest, self.rows = _find_newest(self.batches[0]), len(self.batches[0])

    def take(self, batch: RowBatch, received_at: int) -> bool:
        """Add a batch; False where it begins another group."""
        if self.rows + len(batch) > ROWS_MAX or _find_newest(batch) > self.newest:
            return False
        self.batches.append(batch)
        self.received_at.append(received_at)
        self.rows += len(batch)
        return True

    def merge(self) -> tuple[RowBatch, NDArray[np.int64]]:
        """The rows of all, in the order of `batches`, and when each was received."""
        lengths = [len(batch) for batch in self.batches]
        return merge_batches(self.batches), np.repeat(np.array(self.received_at, np.int64), lengths)


def group_batches(batches: Iterable[tuple[RowBatch, int]]) -> Iterator[Group]:
    """Batches with the time they were received, in the order of the log."""
    group: Group | None = None
    for batch, received_at in batches:
        if group is None or not group.take(batch, received_at):
            if group is not None:
                yield group
            group = Group([batch], [received_at])
    if group is not None:
        yield group


def merge_batches(batches: Sequence[RowBatch]) -> RowBatch:
    """One batch of all rows, in order; node, sequence, loss and what else belongs to one batch are the first's."""
    if len(batches) == 1:
        return batches[0]
    texts: dict[str, int] = {"": 0}
    routes: dict[int, int] = {}
    known: list[Route] = []
    string_places, route_places = [], []
    for batch in batches:
        string_places.append(np.array([texts.setdefault(text, len(texts)) for text in batch.strings], np.uint32))
        for route in batch.routes:
            if routes.setdefault(route.route_id, len(known)) == len(known):
                known.append(route)
        route_places.append(np.array([routes[route.route_id] for route in batch.routes], np.uint32))
    merged: dict[str, Any] = {}
    for column in fields(RowBatch):
        parts = [getattr(batch, column.name) for batch in batches]
        if column.name in _STRING_INDEXES:
            parts = [places[part] for places, part in zip(string_places, parts, strict=True)]
        elif column.name == "route":
            parts = [places[part] for places, part in zip(route_places, parts, strict=True)]
        if isinstance(parts[0], np.ndarray):
            merged[column.name] = np.concatenate(parts)
        elif isinstance(parts[0], Ragged):
            merged[column.name] = _join(parts)
        else:
            merged[column.name] = parts[0]
    return RowBatch(**(merged | {"strings": tuple(texts), "routes": tuple(known)}))


def _join(parts: Sequence[Ragged]) -> Ragged:
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return Ragged(
        offsets=offsets,
        values=np.concatenate([part.values for part in parts]),
        counts=np.concatenate([part.counts for part in parts]),
    )


def _find_newest(batch: RowBatch) -> int:
    return int(np.max(batch.window_start)) if len(batch) else 0
