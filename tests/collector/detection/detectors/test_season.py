"""Which subjects shorter windows evaluate, so that longer ones stay silent; what is reported of a peak."""

from collections.abc import Callable

import numpy as np
import pytest

from collector.core.rates import LocalTime
from collector.detection.volume.level import Observation
from collector.detection.volume.season import SeasonDetector, SeasonProfile

WINDOW_SECONDS = 300
DAY_WINDOWS = 86_400 // WINDOW_SECONDS
SLOT = np.zeros(1, np.int64)


START = 1_772_409_600 // WINDOW_SECONDS  # 2 March 2026, 00:00 UTC, a Monday; clocks go forward on the 29th.


def expect(detector: SeasonDetector, window: int) -> float:
    """Calls."""
    seen = Observation(slots=SLOT, window=window, values=np.array([0.0]), floor=np.zeros(1), age=9)
    return float(detector.score(seen).expected[0])


def learn_office(zone: str, days: int, first: int = START) -> SeasonDetector:
    """Calls from nine to five by the clocks of Berlin, on weekdays."""
    local, detector = LocalTime("Europe/Berlin"), SeasonDetector(window_seconds=3_600, local_time=LocalTime(zone))
    detector.grow(1)
    for window in range(first // 12, first // 12 + 24 * days):
        at = local.read(window * 3_600.0)
        is_open = 9 <= at % 86_400 // 3_600 < 17 and int(at // 86_400 + 4) % 7 not in (0, 6)
        values = np.array([2_000.0 if is_open else 20.0])
        detector.learn(Observation(slots=SLOT, window=window, values=values, floor=np.zeros(1), age=window))
    return detector


def test_what_begins_at_nine_begins_at_nine_after_a_change_to_summer_time() -> None:
    monday = START // 12 + 24 * 28 - 2  # 30 March, 00:00 in Berlin: 22:00 UTC.
    told = {}
    for zone in ("Europe/Berlin", "UTC"):
        detector = learn_office(zone, 27)
        told[zone] = [expect(detector, monday + hour) for hour in (8, 9, 16, 17)]
    # Between two hours it is between the two: at nine more than half, at five less.
    berlin, utc = told["Europe/Berlin"], told["UTC"]
    assert berlin[1] > 2 * berlin[0] and berlin[2] > 2 * berlin[3]
    assert utc[1] < berlin[1] / 2  # Seven by UTC, at which nobody called in winter.


def test_days_of_the_weekend_are_those_of_the_zone() -> None:
    profile = SeasonProfile(3_600, 21, LocalTime("Pacific/Auckland"))
    weekday, weekend = 24, 48  # First row of its part of the week.
    sunday_evening = 1_772_953_200  # 8 March 2026, 07:00 UTC: 20:00 in Auckland.
    assert profile._locate(sunday_evening // 3_600).part == weekend
    assert profile._locate(sunday_evening // 3_600 + 5).part == weekday  # Monday there, Sunday noon in UTC.


def learn_mondays(profile: SeasonProfile, weeks: int) -> None:
    """40 from nine to five on Mondays, 10 in the other hours of all days."""
    profile.grow(1)
    for age in range(24 * 7 * weeks):
        value = 40.0 if age % (24 * 7) in range(9, 17) else 10.0
        profile.learn(SLOT, START // 12 + age, np.array([value]), np.array([float(age)]))


def read(profile: SeasonProfile, day: int, hour: int) -> float:
    """The season of an hour; day 0 is a Monday, behind six weeks that were learnt."""
    return float(profile.read(SLOT, START // 12 + 24 * (7 * 6 + day) + hour)[0])


def test_each_hour_of_the_week_has_its_season() -> None:
    profile = SeasonProfile(3_600, 10, LocalTime())
    learn_mondays(profile, 6)
    monday, others = read(profile, 0, 13), [read(profile, day, 13) for day in range(1, 7)]
    assert monday - max(others) > 0.7 * 30
    # Of the first week nothing is known yet of a day by itself, only of weekdays.
    young = SeasonProfile(3_600, 10, LocalTime())
    learn_mondays(young, 1)
    assert read(young, 0, 13) == pytest.approx(read(young, 4, 13))


def test_hours_of_the_week_turn_over_midnight_and_outlive_a_restart() -> None:
    profile, again = (SeasonProfile(3_600, 10, LocalTime()) for _ in range(2))
    learn_mondays(profile, 6)
    again.grow(1)
    again.load(profile.dump())
    assert read(again, 0, 13) == read(profile, 0, 13)
    again.turn(12)  # What was Monday's at 13 is Tuesday's at 1 now.
    assert read(again, 1, 1) - read(again, 3, 1) > 0.7 * 30


def test_another_zone_keeps_the_hours_learnt() -> None:
    before = learn_office("UTC", 21)
    after = SeasonDetector(window_seconds=3_600, local_time=LocalTime("Europe/Berlin"))
    after.grow(1)
    after.load(before.dump())
    window = START // 12 + 24 * 22 + 12  # A Tuesday noon, in winter.
    ordinary = expect(before, window)
    after.turn_season(1)
    assert expect(after, window) == pytest.approx(ordinary)


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
        seen = Observation(slots=SLOT, window=window, values=np.array([float(count)]), floor=np.zeros(1), age=window)
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
