"""Who makes room in a full table."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from collector.detection.framework.slots import SlotTable

LIMIT = 40


@given(st.lists(st.tuples(st.integers(0, 3), st.lists(st.integers(1, 60), min_size=1, max_size=LIMIT)), max_size=12))
def test_who_was_seen_longest_ago_goes_first_and_of_those_the_lowest_slots(steps: list[tuple[int, list[int]]]) -> None:
    table, time = SlotTable(LIMIT, 8), 1_700_000_000
    for later, keys in steps:
        time += later
        column = np.array(keys, np.uint64)
        seen_at = table.seen_at.copy()
        own = [slot for slot in map(table.find_key, keys) if slot >= 0]
        touched = table.touch(column, time)
        live = (seen_at >= 0).nonzero()[0]
        others = np.setdiff1d(live, own)
        by_age = others[np.argsort(seen_at[others], kind="stable")]
        assert touched.emptied.tolist() == by_age[: len(touched.emptied)].tolist()
        assert len(touched.emptied) >= len(live) + len(touched.new) - LIMIT and len(table) <= LIMIT
        assert np.array_equal(table.keys[touched.slots], column)


def test_no_key_of_a_batch_makes_room_for_another_one_of_it() -> None:
    """All were seen at the same time, as in a flood, or when old rows come and the newest stay the same."""
    table = SlotTable(40)
    table.touch(np.arange(1, 41, dtype=np.uint64), 5)
    touched = table.touch(np.array([1, 2, 41, 2], np.uint64), 5)
    assert touched.slots.tolist() == [0, 1, 2, 1]
    assert touched.emptied.tolist() == [2, 3]
    assert [table.find_key(key) for key in (1, 2, 3, 4, 5, 41)] == [0, 1, -1, -1, 4, 2]
    whole = table.touch(np.array([1, 2, 41, *range(5, 41), 42], np.uint64), 5)
    assert len(set(whole.slots.tolist())) == 40
    assert set(table.seen_at.tolist()) == {5}
