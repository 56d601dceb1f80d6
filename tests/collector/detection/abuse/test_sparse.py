"""Figures of a few rows read as if all rows had some."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from collector.detection.abuse.ceiling import SparseColumns

ROWS = 6
rows_of_step = st.lists(st.integers(0, ROWS - 1), unique=True)
puts = st.lists(st.tuples(rows_of_step, st.integers(0, 3), st.booleans()), max_size=8)


@given(puts)
def test_they_are_what_an_array_would_hold(steps: list[tuple[list[int], int, bool]]) -> None:
    dense, sparse = np.zeros((2, ROWS), np.float32), SparseColumns(2)
    for rows, figure, is_forgotten in steps:
        places = np.array(rows, np.int64)
        if is_forgotten:
            dense[:, places] = 0
            sparse.forget(places)
        else:
            figures = np.array([[figure], [figure % 2]], np.float32).repeat(len(places), axis=1)
            dense[:, places] = figures
            sparse.put(places, figures)
        assert (sparse.take(places) == dense[:, places]).all()
    assert (sparse.dump(ROWS) == dense).all()
    again = SparseColumns(2)
    again.load(sparse.dump(ROWS))
    assert (again.take(np.arange(ROWS)) == dense).all()
