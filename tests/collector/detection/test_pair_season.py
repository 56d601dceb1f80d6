"""What is expected of a pair goes with its endpoint's hours: what would be ordinary by day is odd at night, of who does
not call so much at night."""

import numpy as np
import pytest

from collector.alerting.alert import AlertKind, AlertSignal, Signal
from collector.detection.volume.burst import BurstDetector
from collector.detection.volume.level import SEASON_LEAST, Observation
from tests.collector.detection.scene import EngineScene
from tests.collector.detection.stream import START, Row, make_batch

HOUR, DAY = 3_600, 86_400
BEGIN = START // DAY * DAY
HISTORY_DAYS, NIGHT = 14, 3 * 3_600
BUSY = range(8, 20)
EVEN, FOLLOWING = 1, 2  # One calls evenly day and night; the others as the hours of their endpoint go.
CALLERS = range(1, 17)
BY_DAY, BY_NIGHT = 20_000, 2_000  # Calls in an hour.


class Scene(EngineScene):
    """Sixteen callers of one endpoint, by the hour; `state` is of two weeks and some hours of a night."""

    def __init__(self, state: bytes = b"") -> None:
        super().__init__(state)
        self.time = BEGIN + HISTORY_DAYS * DAY + NIGHT if state else BEGIN
        self.random = np.random.default_rng(5)

    def run(self, hours: int, *, caller: int = 0) -> list[AlertSignal]:
        """`caller`: who calls 2.1 times as much as by day, whatever the hour. What is told of pairs."""
        signals: list[Signal] = []
        for _ in range(hours):
            is_busy = self.time % DAY // HOUR in BUSY
            means = np.array([BY_DAY if is_busy or one == EVEN else BY_NIGHT for one in CALLERS])
            means[np.array(CALLERS) == caller] = 2.1 * BY_DAY
            counts = self.random.poisson(means * self.random.lognormal(0, 0.1, len(means)))
            rows = [
                Row(route=0, consumer=one, window=self.time, length=HOUR, calls=int(calls))
                for one, calls in zip(CALLERS, counts, strict=True)
            ]
            signals += self.engine.feed(make_batch(rows), self.time + HOUR)
            self.time += HOUR
        return [one for one in signals if isinstance(one, AlertSignal) and one.kind is AlertKind.VOLUME_PAIR]


@pytest.fixture(scope="module")
def history() -> tuple[bytes, list[AlertSignal]]:
    scene = Scene()
    told = scene.run(HISTORY_DAYS * 24 + NIGHT // HOUR)
    return scene.save(), told


def name(caller: int) -> str:
    return f"principal:{caller:016x}"


def test_what_is_ordinary_by_day_is_told_at_night(history: tuple[bytes, list[AlertSignal]]) -> None:
    scene = Scene(history[0])
    begin = scene.time
    told = scene.run(2, caller=FOLLOWING)
    assert {signal.consumer for signal in told} == {name(FOLLOWING)}
    assert told[0].window_start == begin
    assert BY_NIGHT < told[0].expected_rate * HOUR < BY_DAY / 2


def test_days_and_who_calls_evenly_are_not_told(history: tuple[bytes, list[AlertSignal]]) -> None:
    scene = Scene(history[0])
    scene.run(9)  # To noon.
    assert scene.run(4, caller=FOLLOWING) == []
    assert [signal for signal in history[1] if signal.window_start >= BEGIN + DAY] == []  # The first day is news.
    assert Scene(history[0]).run(48) == []


def test_restart_in_between_changes_nothing(history: tuple[bytes, list[AlertSignal]]) -> None:
    scene, other = Scene(history[0]), Scene(history[0])
    for one in (scene, other):
        one.run(21)
    other.restart()
    told = [one.run(6, caller=FOLLOWING) for one in (scene, other)]
    assert told[0] == told[1] != []


@pytest.mark.parametrize(("night", "is_odd"), [(SEASON_LEAST, True), (1.0, False), (np.nan, False)])
def test_season_of_the_parent_scales_what_is_expected(night: float, is_odd: bool) -> None:
    detector = _make_trained(night)
    verdict = detector.score(_observe(101, 2_000.0, night))
    assert (verdict.score[0] >= 1) == is_odd
    assert detector.score(_observe(102, 2_000.0, 1.0)).score[0] < 1


def test_what_only_the_season_makes_odd_is_soon_known() -> None:
    detector, odd = _make_trained(SEASON_LEAST), []
    for window in range(101, 141, 2):
        seen = _observe(window, 2_000.0, SEASON_LEAST)
        odd.append(bool(detector.score(seen).score[0] >= 1))
        detector.learn(seen)
    assert odd[:2] == [True, True] and not any(odd[6:])


def _make_trained(night: float) -> BurstDetector:
    """A pair that calls 2,000 times by day and 400 times at night, each second window."""
    detector = BurstDetector(window_seconds=300, prior_level=150.0, has_season=True)
    detector.grow(1)
    for window in range(100):
        is_night = window % 2 == 1
        detector.learn(_observe(window, 400.0 if is_night else 2_000.0, night if is_night else 1.0))
    return detector


def _observe(window: int, value: float, season: float) -> Observation:
    return Observation(
        slots=np.array([0]), window=window, values=np.array([value]), floor=np.zeros(1), age=window,
        season=np.array([season]),
    )  # fmt: skip
