"""Sums that fade, against one subject at a time."""

import numpy as np
import pytest

from collector.detection.abuse.sums import FadingSums

HORIZONS = (60, 3_600)
START = 1_700_000_000


def test_sums_are_those_of_one_subject_at_a_time() -> None:
    random, sums, one_by_one, at = np.random.default_rng(1), FadingSums(*HORIZONS), np.zeros((2, 9)), np.zeros(9)
    sums.grow(4)
    for step, late in enumerate((0, 0, 50, 0, 90, 0)):
        sums.grow(4 + step)
        time = START + 40 * step - late
        slots = np.sort(random.choice(4 + step, 3, replace=False))
        amounts = random.normal(1, 2, (2, 3)) if step % 2 else random.normal(1, 2, 3)
        found = sums.add(slots, amounts, time)
        for place, slot in enumerate(slots.tolist()):
            fade = np.exp(-max(time - at[slot], 0) / np.array(HORIZONS))
            one_by_one[:, slot] = np.maximum(one_by_one[:, slot] * fade + amounts[..., place], 0)
            at[slot] = max(at[slot], time)
        assert found == pytest.approx(one_by_one[:, slots])
    every = np.arange(9)
    assert sums.read(every, 0) == pytest.approx(one_by_one)
    for which in (0, 1, -1):
        assert np.array_equal(sums.read_one(which, every, START + 500), sums.read(every, START + 500)[which])
    again = FadingSums(*HORIZONS)
    again.grow(9)
    again.load(sums.dump())
    assert np.array_equal(again.read(every, START + 500), sums.read(every, START + 500))
    again.forget(every[:2])
    assert not again.read(every[:2], 0).any() and again.read(every, 0)[:, 2:].any()


@pytest.mark.parametrize("oldest", [0, 900, 1_500, 100_000])
def test_many_sums_fade_as_one_does(oldest: int) -> None:
    random, sums, count = np.random.default_rng(2), FadingSums(*HORIZONS), 2_000
    sums.grow(count)
    at, amounts = START - np.sort(random.integers(0, oldest + 1, count))[::-1], random.random(count)
    for slot in range(count):
        sums.add(np.array([slot]), amounts[slot : slot + 1], int(at[slot]))
    every = np.arange(count)
    expected = amounts * np.exp(-(START - at) / np.array(HORIZONS)[:, None])
    assert np.array_equal(sums.read(every, START), expected)
    for which in (0, 1, -1):
        assert np.array_equal(sums.read_one(which, every, START), expected[which])
    assert np.array_equal(sums.add(every, np.ones(count), START), expected + 1)
    assert np.array_equal(sums.read(every, 0), expected + 1)
