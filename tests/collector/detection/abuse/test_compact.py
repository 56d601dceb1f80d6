"""Rows of slots: one each, none shared, and a state that goes on the same."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from collector.detection.abuse.sums import CompactRows

SLOTS = st.lists(st.integers(0, 199), unique=True, max_size=80)


@given(st.lists(st.tuples(SLOTS, SLOTS, st.booleans()), max_size=8))
def test_every_slot_keeps_its_row_until_it_is_released(steps: list[tuple[list[int], list[int], bool]]) -> None:
    rows, known = CompactRows(), dict[int, int]()
    rows.grow(200)
    for taken, released, is_reloaded in steps:
        found = rows.take(np.array(taken, np.int64)).tolist()
        for slot, row in zip(taken, found, strict=True):
            assert known.setdefault(slot, row) == row
        assert len(set(known.values())) == len(known)
        assert all(row < rows.capacity for row in known.values())
        gone = rows.release(np.array(released, np.int64)).tolist()
        assert sorted(gone) == sorted(known.pop(slot) for slot in released if slot in known)
        if is_reloaded:
            again = CompactRows()
            again.load(rows.dump())
            rows = again
        every = np.arange(200)
        assert rows.find(every).tolist() == [known.get(slot, -1) for slot in range(200)]
        assert all(int(rows.slot_of[row]) == slot for slot, row in known.items())
