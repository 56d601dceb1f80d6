"""Calls as columns."""

import numpy as np

from sensor.columns import CALL, make_calls


def test_no_column_overlaps_another_and_each_is_aligned() -> None:
    end = 0
    assert CALL.names is not None
    for name in CALL.names:
        field, offset = CALL.fields[name][:2]  # type: ignore[index]
        assert offset >= end
        assert offset % field.itemsize == 0
        end = offset + field.itemsize
    assert end <= CALL.itemsize == 72


def test_new_calls_are_empty() -> None:
    calls = make_calls(3)
    assert not np.any(calls.view(np.uint8))
