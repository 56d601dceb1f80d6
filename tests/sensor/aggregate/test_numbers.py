"""What is remembered of integer objects."""

import numpy as np
import pytest

from sensor.aggregate import grouping as numbers
from sensor.aggregate.grouping import NumberMemory


def step(memory: NumberMemory, pair: int, number: int, tick: int = 1) -> bool:
    """Whether one number of a pair is a step from the last one."""
    one = np.zeros(1, np.int64)
    return bool(memory.find_steps(np.array([pair], np.uint64), one, one, np.array([number]), tick)[0])


def test_a_pair_remembers_its_last_number() -> None:
    memory = NumberMemory()
    assert [step(memory, 1, number) for number in (5, 6, 8, 7, 7)] == [False, True, False, True, False]
    assert not step(memory, 2, 8)


def test_rows_of_one_pair_are_put_in_order_of_time() -> None:
    memory = NumberMemory()
    # Two rows of pair 9 with numbers 1, 3 and 2, 4 that came in turn, and one of pair 8.
    rows, places = np.array([0, 0, 1, 1, 2]), np.array([0, 2, 1, 3, 4])
    pairs = np.array([9, 9, 8], np.uint64)
    found = memory.find_steps(pairs, rows, places, np.array([1, 3, 2, 4, 5]), 1)
    assert found.tolist() == [False, True, True, True, False]
    assert step(memory, 9, 5)
    assert step(memory, 8, 4)


def test_the_memory_is_bounded_and_the_longest_unused_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numbers, "PAIRS_LIMIT", 8)
    memory = NumberMemory()
    for pair in range(1, 9):
        step(memory, pair, 10, tick=pair)
    step(memory, 1, 20, tick=9)
    step(memory, 100, 10, tick=10)
    assert len(memory) <= 8
    assert step(memory, 1, 21, tick=11)
    assert not step(memory, 2, 11, tick=11)
