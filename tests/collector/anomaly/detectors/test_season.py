"""Which subjects shorter windows judge, so that longer ones stay silent; what is told of a peak; older states."""

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


def list_told(detector: SeasonDetector, calls: list[int], first: int) -> list[bool]:
    """For each crossing, whether it is above."""
    told = []
    for window, count in enumerate(calls, first):
        seen = Observation(
            slots=SLOT, window=window, values=np.array([float(count)]), floor=np.zeros(1), age=window, loss_ratio=0.0
        )
        verdict = detector.score(seen)
        if verdict.score[0] >= 1:
            told.append(bool(verdict.is_above[0]))
        detector.learn(seen)
    return told


def test_the_way_back_from_a_peak_is_not_told_but_an_outage_hours_later_is() -> None:
    random = np.random.default_rng(1)
    ordinary = random.poisson(100, 4 * DAY_WINDOWS).tolist()
    detector = learn(lambda _: ordinary.pop(), 3 * DAY_WINDOWS)
    peak = [500] * 12
    assert set(list_told(detector, peak + ordinary[:24], 3 * DAY_WINDOWS)) == {True}
    calm = ordinary[24:]
    list_told(detector, calm, 3 * DAY_WINDOWS + 36)
    assert list_told(detector, [0] * 6, 3 * DAY_WINDOWS + 36 + len(calm))[:1] == [False]


def test_a_state_of_other_measures_keeps_its_level_and_season() -> None:
    random = np.random.default_rng(1)
    before = learn(lambda at: int(random.poisson(300 if 7 <= at < 23 else 50)), 3 * DAY_WINDOWS)
    old = before.dump()
    for name in ("running", "tail_mean", "tail_square", "tail_highest"):
        old[name] = np.concatenate([old[name], old[name][:2]])
    after = SeasonDetector(window_seconds=WINDOW_SECONDS)
    after.load(old)
    seen = Observation(slots=SLOT, window=3 * DAY_WINDOWS, values=np.array([50.0]), floor=np.zeros(1), age=9)
    assert after.score(seen).expected == before.score(seen).expected
    assert after.score(seen).score[0] < 1
    after.learn(seen)
    assert after.covers(SLOT).all()
