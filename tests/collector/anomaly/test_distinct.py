"""The same as numpy's own, for any column."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from collector.anomaly.distinct import find_distinct, list_distinct


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 5), max_size=60))
def test_distinct_values_are_those_of_numpy(values: list[int]) -> None:
    column = np.array(values, np.uint64)
    expected = np.unique(column, return_index=True, return_inverse=True)
    assert all(np.array_equal(one, other) for one, other in zip(find_distinct(column), expected, strict=True))
    assert np.array_equal(list_distinct(column), expected[0])
