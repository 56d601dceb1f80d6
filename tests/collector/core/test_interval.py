"""Intervals by an injected clock."""

import pytest

from collector.core.rates import Interval


@pytest.mark.parametrize(("is_late", "due"), [(False, [0, 10, 20]), (True, [10, 20])])
def test_due_once_each_interval(is_late: bool, due: list[int]) -> None:
    now = 0.0
    interval = Interval(10, is_late=is_late, clock=lambda: now)
    found = []
    for second in range(25):
        now = float(second)
        if interval.take():
            found.append(second)
    assert found == due
