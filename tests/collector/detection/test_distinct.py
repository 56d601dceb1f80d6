"""The same as numpy's own, for any column."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from collector.detection.framework.distinct import Grouper, find_distinct, find_first, list_distinct


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 5), max_size=60))
def test_distinct_values_are_those_of_numpy(values: list[int]) -> None:
    column = np.array(values, np.uint64)
    expected = np.unique(column, return_index=True, return_inverse=True)
    assert all(np.array_equal(one, other) for one, other in zip(find_distinct(column), expected, strict=True))
    assert np.array_equal(list_distinct(column), expected[0])


@given(st.lists(st.integers(0, 2**39 - 1) | st.integers(0, 5), min_size=1, max_size=60))
def test_first_places_are_those_of_numpy(values: list[int]) -> None:
    column = np.array(values, np.int64)
    expected = np.unique(column, return_index=True)
    assert all(np.array_equal(one, other) for one, other in zip(find_first(column), expected, strict=True))


def test_rows_are_grouped_by_what_they_belong_to() -> None:
    grouper = Grouper()
    for slots in ([5, -1, 2, 5, 9], [], [-1], [3, 1, 2], [9, 9]):
        column, amounts = np.array(slots, np.int64), np.arange(1.0, len(slots) + 1)
        groups = grouper.group(column, 10)
        known = column >= 0
        distinct, inverse, counts = np.unique(column[known], return_inverse=True, return_counts=True)
        assert np.array_equal(groups.slots, distinct) and np.array_equal(groups.rows, known.nonzero()[0])
        assert np.array_equal(groups.sum(amounts), np.bincount(inverse, amounts[known], len(distinct)))
        assert np.array_equal(groups.list_repeated(), groups.rows[counts[inverse] > 1])
        among = grouper.group(column, 10, column[known][::-1])
        assert np.array_equal(among.slots, distinct) and np.array_equal(among.inverse, inverse)
