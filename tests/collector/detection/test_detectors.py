"""One suite for every detector (its contract), and what each finds and does not find."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.detection.framework.state import F64
from collector.detection.volume.burst import BurstDetector
from collector.detection.volume.level import LevelDetector, Observation
from collector.detection.volume.season import SeasonDetector

Make = Callable[[], LevelDetector]

DETECTORS: dict[str, Make] = {
    "burst of a pair": lambda: BurstDetector(window_seconds=10, prior_level=12.0),
    "burst in an hour": lambda: BurstDetector(window_seconds=3_600, prior_level=1_000.0),
    "burst with a season": lambda: BurstDetector(window_seconds=300, prior_level=150.0, has_season=True),
    "minutes": lambda: SeasonDetector(window_seconds=60),
    "five minutes": lambda: SeasonDetector(window_seconds=300),
    "hours": lambda: SeasonDetector(window_seconds=3_600),
}
SLOTS = np.arange(3)
FIRST = 1_000_000

every_detector = pytest.mark.parametrize("make", DETECTORS.values(), ids=DETECTORS.keys())


def observe(values: F64, index: int, loss: float = 0.0) -> Observation:
    zeros = np.zeros(len(values))
    return Observation(
        slots=SLOTS[: len(values)],
        window=FIRST + index,
        values=values,
        floor=zeros,
        age=index,
        loss=np.full(len(values), loss) if loss else None,
    )


def make_trained(make: Make, windows: int, seed: int = 1, mean: float = 50.0) -> LevelDetector:
    """A detector that saw Poisson counts."""
    detector, random = make(), np.random.default_rng(seed)
    detector.grow(8)
    for index in range(windows):
        detector.learn(observe(random.poisson(mean, 3).astype(float), index))
    return detector


def states_equal(one: LevelDetector, other: LevelDetector) -> bool:
    left, right = one.dump(), other.dump()
    return left.keys() == right.keys() and all(np.array_equal(left[name], right[name]) for name in left)


@every_detector
def test_scores_are_0_in_the_grace_period(make: Make) -> None:
    detector = make()
    detector.grow(8)
    assert (detector.score(observe(np.array([0.0, 5.0, 1e9]), 0)).score == 0).all()


@every_detector
def test_scoring_changes_nothing(make: Make) -> None:
    detector, twin = make_trained(make, 30), make_trained(make, 30)
    detector.score(observe(np.array([0.0, 50.0, 1e6]), 30))
    assert states_equal(detector, twin)


@every_detector
def test_dumped_state_loaded_goes_on_alike(make: Make) -> None:
    detector, again = make_trained(make, 40), make()
    again.grow(8)
    again.load(detector.dump())
    for index in range(40, 60):
        seen = observe(np.array([40.0, 55.0, 900.0]), index)
        one, other = detector.score(seen), again.score(seen)
        assert np.array_equal(one.score, other.score) and np.array_equal(one.expected, other.expected)
        detector.learn(seen)
        again.learn(seen)
    assert states_equal(detector, again)


@every_detector
def test_forgotten_slots_are_as_new_and_others_untouched(make: Make) -> None:
    detector, fresh = make_trained(make, 30), make()
    fresh.grow(8)
    before = detector.dump()
    kept = {name: array[..., 2].copy() for name, array in before.items()}
    detector.forget(SLOTS[:2])
    after, new = detector.dump(), fresh.dump()
    for name, array in after.items():
        assert np.array_equal(array[..., :2], new[name][..., :2]), name
        assert np.array_equal(array[..., 2], kept[name]), name


@every_detector
def test_more_calls_never_score_lower_above_the_expectation(make: Make) -> None:
    detector = make_trained(make, 60)
    heights = [60.0, 100.0, 300.0, 3_000.0, 1e5]
    scores = [float(detector.score(observe(np.full(3, height), 60)).score[0]) for height in heights]
    assert scores == sorted(scores)
    assert scores[-1] > 1


@every_detector
def test_loss_widens_the_band(make: Make) -> None:
    detector = make_trained(make, 60)
    values = np.full(3, 5_000.0)
    plain, lossy = (detector.score(observe(values, 60, loss)).score for loss in (0.0, 0.3))
    assert (lossy <= plain).all() and (lossy < plain).any()


@every_detector
def test_expected_level_scores_low_at_once(make: Make) -> None:
    detector = make_trained(make, 60)
    values = np.full(3, 5_000.0)
    detector.expect(SLOTS, FIRST + 60, values)
    assert (detector.score(observe(values, 60)).score < 1).all()


@every_detector
@settings(max_examples=20, deadline=None)
@given(st.lists(st.lists(st.floats(0, 1e12), min_size=3, max_size=3), min_size=1, max_size=30))
def test_any_finite_counts_give_finite_scores(make: Make, windows: list[list[float]]) -> None:
    detector = make()
    detector.grow(8)
    for index, values in enumerate(windows):
        seen = observe(np.array(values), index)
        verdict = detector.score(seen)
        assert np.isfinite(verdict.score).all() and (verdict.score >= 0).all()
        assert np.isfinite(verdict.expected).all() and np.isfinite(verdict.threshold).all()
        detector.learn(seen)


@every_detector
def test_no_rows_are_no_trouble(make: Make) -> None:
    detector = make_trained(make, 5)
    empty = observe(np.zeros(0), 5)
    assert len(detector.score(empty).score) == 0
    detector.learn(empty)


def test_slow_drift_does_not_alert() -> None:
    """Six times as many calls after a week, ten per cent of noise a minute."""
    detector, random = SeasonDetector(window_seconds=60), np.random.default_rng(7)
    detector.grow(8)
    days, odd = 7, 0
    for index in range(days * 1_440):
        mean = 100 * 6 ** (index / (days * 1_440))
        seen = observe(random.poisson(mean, 3).astype(float), index)
        odd += int((detector.score(seen).score >= 1).sum()) if index > 1_440 else 0
        detector.learn(seen)
    assert odd <= 3 * (days - 1) / 5  # One in five days and series at most.


def test_sudden_rise_of_a_busy_endpoint_is_seen_at_once_and_named() -> None:
    detector = make_trained(lambda: SeasonDetector(window_seconds=60), 1_500)
    verdict = detector.score(observe(np.array([0.0, 50.0, 250.0]), 1_500))
    assert (verdict.score >= 1).tolist() == [False, False, True]
    assert verdict.is_above.tolist()[::2] == [False, True]
    assert verdict.threshold[0] < 50 < verdict.threshold[2]


def test_silence_of_a_busy_endpoint_is_told_within_a_quarter_of_an_hour_and_then_goes_on() -> None:
    detector = make_trained(lambda: SeasonDetector(window_seconds=60), 1_500)
    told, ongoing = [], []
    for minute in range(30):
        seen = observe(np.array([0.0, 50.0, 50.0]), 1_500 + minute)
        verdict = detector.score(seen)
        assert verdict.is_ongoing is not None
        assert (verdict.score[1:] < 1).all()
        told += [minute] if verdict.score[0] >= 1 else []
        ongoing += [minute] if verdict.is_ongoing[0] else []
        detector.learn(seen)
    assert len(told) <= 2 and 3 <= told[0] <= 15  # Told again when it has lasted about twice as long.
    assert sorted(told + ongoing) == list(range(told[0], 30))
