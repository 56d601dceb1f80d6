"""Who makes room in a full table."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from collector.anomaly.slots import SlotTable

LIMIT = 40


@given(st.lists(st.tuples(st.integers(0, 3), st.lists(st.integers(1, 60), min_size=1, max_size=LIMIT)), max_size=12))
def test_who_was_seen_longest_ago_goes_first_and_of_those_the_lowest_slots(steps: list[tuple[int, list[int]]]) -> None:
    table, time = SlotTable(LIMIT, 8), 1_700_000_000
    for later, keys in steps:
        time += later
        column = np.array(keys, np.uint64)
        seen_at = table.seen_at.copy()
        seen_at[[slot for slot in map(table.find, keys) if slot >= 0]] = time
        touched = table.touch(column, time)
        live = (seen_at >= 0).nonzero()[0]
        by_age = live[np.argsort(seen_at[live], kind="stable")]
        assert touched.emptied.tolist() == by_age[: len(touched.emptied)].tolist()
        assert len(touched.emptied) >= len(live) + len(touched.new) - LIMIT and len(table) <= LIMIT
        assert np.array_equal(table.keys[touched.slots], column)
