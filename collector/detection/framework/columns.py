"""Columns of the rows of a batch that count, each read and cast once for all detectors."""

from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from collector.detection.framework.contract import F64
from collector.detection.framework.slots import Slots
from collector.detection.framework.windows import RowTimes
from collector.storage.columns import RowBatch

_Scalar = TypeVar("_Scalar", bound=np.generic)


class Columns:
    """Of the n rows `rows` of a batch, ascending; nobody changes what it gives."""

    def __init__(self, batch: RowBatch, rows: Slots) -> None:
        self.batch = batch
        self.rows = rows
        self._has_all = len(rows) == len(batch)

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, column: NDArray[_Scalar]) -> NDArray[_Scalar]:
        """Of a column of the batch what the n rows have."""
        return column if self._has_all else column.take(self.rows)

    @cached_property
    def times(self) -> RowTimes:
        """When each begins and how long it is."""
        start, length = self.read(self.batch.window_start), self.read(self.batch.window_length)
        return RowTimes(start.astype(np.int64), length.astype(np.int64))

    @cached_property
    def route(self) -> NDArray[np.uint32]:
        """Index into the batch's routes."""
        return self.read(self.batch.route)

    @cached_property
    def calls(self) -> F64:
        """Calls."""
        return self.read(self.batch.calls).astype(np.float64)

    @cached_property
    def status(self) -> NDArray[np.int64]:
        """Status of HTTP."""
        return self.read(self.batch.status_code).astype(np.int64)

    @cached_property
    def failed(self) -> Slots:
        """Which of the n were answered 400 or more, ascending."""
        return (self.status >= 400).nonzero()[0]

    def list_answered(self, codes: tuple[int, ...]) -> Slots:
        """Which of the n were answered with one of `codes`, which are 400 or more."""
        return self.failed[is_any_of(self.status[self.failed], codes)]

    @cached_property
    def microseconds(self) -> F64:
        """Server time of all calls."""
        return self.read(self.batch.duration_sum_us).astype(np.float64)

    @cached_property
    def response_bytes(self) -> F64:
        """Of all calls."""
        return self.read(self.batch.response_bytes).astype(np.float64)

    def find_ends(self, received_at: int | Slots) -> Slots:
        """Until when the calls of each of the n were made, in unix seconds: its end, or when the batch came (or that of
        each row of the batch) where the row left before. At least a second of it has passed."""
        came = self.read(received_at) if isinstance(received_at, np.ndarray) else received_at
        ends: Slots = np.clip(came, self.times.start + 1, self.times.start + self.times.length)
        return ends


def find_latest(slots: Slots, of: Slots, times: Slots) -> Slots:
    """The latest of `times`, which are of the slots `of`, for each of `slots`: ascending, distinct and among them."""
    place = np.minimum(np.searchsorted(slots, of), len(slots) - 1)
    is_own = slots[place] == of
    latest = np.zeros(len(slots), np.int64)
    np.maximum.at(latest, place[is_own], times[is_own])
    return latest


def is_any_of(values: NDArray[np.int64], few: tuple[int, ...]) -> NDArray[np.bool_]:
    """As np.isin for few values of short columns, in a tenth of its time."""
    is_any = np.zeros(len(values), np.bool_)
    for one in few if len(values) else ():
        is_any |= values == one
    return is_any
