"""The season of busy subjects: the mean departure from the day's mean by hour of day, weekdays and weekends apart,
shrunk to 0 while few days were seen; and what each hour of the week adds (detectors/week.py). Hours and days are those
of a time zone."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from collector.anomaly.detectors.contract import F64, State
from collector.anomaly.detectors.week import HOURS, WEEK_DAYS, WEEK_HOURS, WeekProfile
from collector.anomaly.slots import Slots, grow
from collector.local_time import LocalTime

DAY_SECONDS = 86_400
_PROFILES = 3 * HOURS  # All days; weekdays' and weekends' departures from it.
_PRIOR_DAYS = 2.0  # Days at which a season counts half.
_PART = 0.1  # Days: sums of hours fall short of them.
_MEAN_HALF_LIFE_DAYS = 2


class _Place(NamedTuple):
    """Where in the week a window lies."""

    hours: tuple[tuple[int, float], tuple[int, float]]  # Of the week, from Sunday on, around its middle; with weights.
    part: int  # First row of weekdays or of weekends.


class SeasonProfile:
    """Departures by slot, in the unit of what is learnt."""

    def __init__(self, window_seconds: int, memory_days: int, local_time: LocalTime) -> None:
        self._memory_days = memory_days
        self._window_seconds = window_seconds
        self._local_time = local_time
        self._share = min(1.0, window_seconds * HOURS / DAY_SECONDS)
        self._mean_gain = 1 - 0.5 ** (window_seconds / (_MEAN_HALF_LIFE_DAYS * DAY_SECONDS))
        self._mean: F64 = np.zeros(0)
        self._season: F64 = np.zeros((_PROFILES, 0))
        self._days: F64 = np.zeros((_PROFILES, 0))
        self._week = WeekProfile()

    def grow(self, capacity: int) -> None:
        """Make room for slots below `capacity`."""
        self._mean = grow(self._mean, capacity)
        self._season, self._days = grow(self._season, capacity), grow(self._days, capacity)
        self._week.grow(capacity)

    def read(self, slots: Slots, window: int) -> F64:
        """The season at the window's middle, between the two hours around it."""
        season = np.zeros(len(slots))
        place = self._locate(window)
        for of_week, weight in place.hours:
            hour = of_week % HOURS
            for row, prior in ((hour, _PRIOR_DAYS), (place.part + hour, 2 * _PRIOR_DAYS)):
                days = self._days[row, slots]
                season += weight * self._season[row, slots] * days / (days + prior)
            season += weight * self._week.read(slots, of_week)
        return season

    def learn(self, slots: Slots, window: int, values: F64, age: F64) -> None:
        """Take one window; `age` counts those before it."""
        gain = np.maximum(self._mean_gain, 1 / (age + 1))
        self._mean[slots] = np.where(
            age == 0, values, self._mean.take(slots) + gain * (values - self._mean.take(slots))
        )
        departure = values - self._mean.take(slots)
        place = self._locate(window)
        of_week = max(place.hours, key=lambda entry: entry[1])[0]
        hour = of_week % HOURS
        own = departure - self._season[hour, slots]
        is_old = self._days[hour, slots] >= WEEK_DAYS  # A week has shown what the days have in common.
        self._week.learn(slots[is_old], of_week, (own - self._season[place.part + hour, slots])[is_old])
        for row, target in ((hour, departure), (place.part + hour, own)):
            days = np.minimum(self._days[row, slots], self._memory_days)
            gain = 1 - (1 - 1 / (days + 1.0001)) ** self._share
            self._season[row, slots] += gain * (target - self._season[row, slots])
            self._days[row, slots] += self._share

    def is_known(self, slot: int) -> bool:
        """Whether the time of day weighs at least half."""
        return bool(np.max(self._days[:HOURS, slot]) >= _PRIOR_DAYS)

    def are_known(self, window: int) -> NDArray[np.bool_]:
        """By slot, whether the hours around the window's middle weigh at least half."""
        rows = [of_week % HOURS for of_week, _ in self._locate(window).hours]
        is_known: NDArray[np.bool_] = np.minimum(*self._days[rows]) >= _PRIOR_DAYS - _PART
        return is_known

    def forget(self, slots: Slots) -> None:
        """Return evicted slots to the prior."""
        self._mean[slots] = 0
        self._season[:, slots] = 0
        self._days[:, slots] = 0
        self._week.forget(slots)

    def dump(self) -> State:
        """State for a checkpoint."""
        own: State = {"mean": self._mean, "season": self._season, "days": self._days}
        return own | self._week.dump()

    def load(self, state: State) -> None:
        """The inverse of `dump`. A state of before hours of the week has none."""
        self._mean, self._season = state["mean"].astype(np.float64), state["season"].astype(np.float64)
        self._days = state["days"].astype(np.float64)
        if "week" in state:
            self._week.load(state)
        else:
            self._week.grow(len(self._mean))

    def turn(self, hours: int) -> None:
        """The clocks show so many hours more than when this was learnt. What weekends differ in is turned within the
        day: of the hours next to midnight it is learnt anew."""
        shape = (_PROFILES // HOURS, HOURS, self._season.shape[1])
        self._season = np.roll(self._season.reshape(shape), hours, axis=1).reshape(self._season.shape)
        self._days = np.roll(self._days.reshape(shape), hours, axis=1).reshape(self._days.shape)
        self._week.turn(hours)

    def _locate(self, window: int) -> _Place:
        middle = self._local_time.read((window + 0.5) * self._window_seconds)
        position = middle % DAY_SECONDS / DAY_SECONDS * HOURS - 0.5
        left = int(np.floor(position))
        day = int(middle // DAY_SECONDS + 4) % WEEK_DAYS  # 1 January 1970 was a Thursday.
        first = day * HOURS + left
        hours = ((first % WEEK_HOURS, 1 - (position - left)), ((first + 1) % WEEK_HOURS, position - left))
        return _Place(hours, HOURS * (2 if day in (0, 6) else 1))
