"""Which subjects shorter windows judge, so that longer ones stay silent."""

from collections.abc import Callable

import numpy as np
import pytest

from collector.anomaly.detectors.contract import Observation
from collector.anomaly.detectors.season import SeasonDetector

WINDOW_SECONDS = 300
DAY_WINDOWS = 86_400 // WINDOW_SECONDS
SLOT = np.zeros(1, np.int64)


def learn(calls: Callable[[float], int], windows: int) -> SeasonDetector:
    """`calls` of a window, by the hour of the day at its start."""
    detector = SeasonDetector(window_seconds=WINDOW_SECONDS)
    detector.grow(1)
    for window in range(windows):
        values = np.array([float(calls(window % DAY_WINDOWS / 12))])
        detector.learn(Observation(slots=SLOT, window=window, values=values, floor=np.zeros(1), age=window))
    return detector


@pytest.mark.parametrize("hour", [4, 14])
def test_a_busy_subject_is_covered_in_its_calm_nights_too(hour: int) -> None:
    detector = learn(lambda at: 100 if 7 <= at < 23 else 1, 3 * DAY_WINDOWS + 12 * hour)
    assert detector.covers(SLOT).tolist() == [True]


@pytest.mark.parametrize("hour", [4, 14])
def test_a_subject_that_is_mostly_calm_is_not(hour: int) -> None:
    detector = learn(lambda at: 100 if 13 <= at < 15 else 1, 3 * DAY_WINDOWS + 12 * hour)
    assert detector.covers(SLOT).tolist() == [False]


def test_nor_is_a_new_one() -> None:
    assert learn(lambda _: 100, 9).covers(SLOT).tolist() == [False]
    assert learn(lambda _: 100, 10).covers(SLOT).tolist() == [True]
