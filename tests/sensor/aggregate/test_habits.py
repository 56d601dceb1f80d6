"""Who crosses a trigger for long is told with the window; who begins, grows or comes back is told each second."""

import numpy as np
import pytest

from sensor.aggregate.dictionary import Freed
from sensor.aggregate.window import HABITS_LIMIT, PAUSE_SECONDS, TOLD_SECONDS, Habits

BUSY, OTHER = 7 << 35 | 3 << 19, 8 << 35 | 4 << 19  # Keys: a route and an identity each.


def tell(habits: Habits, second: int, **calls: int) -> list[bool]:
    """Of the rows named, with so many calls each."""
    keys = np.array([{"busy": BUSY, "other": OTHER}[name] for name in calls], np.uint64)
    return habits.find_news(keys, np.array(list(calls.values()), np.int64), second).tolist()


@pytest.fixture
def habits() -> Habits:
    result = Habits()
    for second in range(100, 100 + TOLD_SECONDS):
        assert tell(result, second, busy=20) == [True]
    return result


def test_after_ten_seconds_it_is_a_habit(habits: Habits) -> None:
    assert [tell(habits, second, busy=20) for second in range(110, 140)] == [[False]] * 30


def test_what_begins_beside_it_is_told(habits: Habits) -> None:
    assert tell(habits, 110, other=11, busy=20) == [True, False]
    assert tell(habits, 111, busy=20, other=11) == [False, True]


def test_what_doubles_is_told_once_and_then_again(habits: Habits) -> None:
    assert [tell(habits, 110 + at, busy=calls) for at, calls in enumerate((39, 40, 40, 79, 80))] == [
        [False], [True], [False], [False], [True],
    ]  # fmt: skip


def test_after_a_pause_it_is_told_anew(habits: Habits) -> None:
    assert tell(habits, 109 + PAUSE_SECONDS, busy=20) == [False]
    assert tell(habits, 110 + 2 * PAUSE_SECONDS, busy=20) == [True]


@pytest.mark.parametrize("freed", [([7], [9]), ([9], [3])])
def test_a_number_that_stands_for_something_else_has_no_habit(
    habits: Habits, freed: tuple[list[int], list[int]]
) -> None:
    habits.forget(Freed(routes=np.array(freed[0]), identities=np.array(freed[1])))
    assert tell(habits, 110, busy=20) == [True]


def test_it_is_bounded(habits: Habits) -> None:
    keys = np.arange(HABITS_LIMIT + 10, dtype=np.uint64) << np.uint64(2)
    assert habits.find_news(keys, np.full(len(keys), 20), 110).all()
    assert len(habits) == HABITS_LIMIT
