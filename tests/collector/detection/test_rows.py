"""Columns and times of the rows that count, against one row at a time."""

from dataclasses import replace

import numpy as np
import pytest

from collector.detection.framework.distinct import is_any_of
from collector.detection.framework.rows import Events, RowTimes
from tests.collector.detection.mixture import make_mixture


@pytest.mark.parametrize("step", [1, 3])
def test_columns_are_those_of_the_chosen_rows(step: int) -> None:
    batch = next(batch for batch, _ in make_mixture(1, 20) if len(batch) > 9)
    status = np.array([200, 401, 404, 503] * len(batch), np.uint32)[: len(batch)]
    batch, rows = replace(batch, status_code=status), np.arange(0, len(batch), step)
    events = Events(batch, rows, 0)
    assert len(events) == len(rows)
    assert np.array_equal(events.calls, batch.calls[rows]) and np.array_equal(events.status, status[rows])
    assert np.array_equal(events.read(batch.principal), batch.principal[rows])
    failed = [index for index, row in enumerate(rows.tolist()) if status[row] in (401, 503)]
    assert events.list_answered((401, 503)).tolist() == failed


@pytest.mark.parametrize("starts", [[30] * 5, [30, 0, 30, 10, 70]])
@pytest.mark.parametrize("lengths", [[10] * 5, [10, 60, 10, 10, 60]])
def test_rows_lie_in_the_window_they_begin_in_where_it_is_as_long(starts: list[int], lengths: list[int]) -> None:
    times = RowTimes(np.array(starts), np.array(lengths))
    for seconds in (10, 60):
        for rows in ([0, 1, 2, 3, 4], [1, 4], []):
            expected: dict[int, list[int]] = {}
            for row in rows:
                if lengths[row] <= seconds:
                    expected.setdefault(starts[row] // seconds, []).append(row)
            found = times.split(np.array(rows, np.int64), seconds)
            assert [(window, own.tolist()) for window, own in found] == sorted(expected.items())


def test_few_values_are_found() -> None:
    values = np.array([1, 5, 7, 5])
    assert is_any_of(values, (5, 9)).tolist() == [False, True, False, True]
    assert not len(is_any_of(values[:0], (5,)))
