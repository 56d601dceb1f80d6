"""The season of busy subjects: the mean departure from the day's mean by hour of day, weekdays and weekends apart,
shrunk to 0 while few days were seen. Hours and days are those of a time zone."""

import numpy as np

from collector.anomaly.detectors.contract import F64, State
from collector.anomaly.slots import Slots, grow
from collector.local_time import LocalTime

DAY_SECONDS = 86_400
_BINS = 24
_PROFILES = 3 * _BINS  # All days; weekdays' and weekends' departures from it.
_PRIOR_DAYS = 2.0  # Days at which a season counts half.
_MEAN_HALF_LIFE_DAYS = 2


class SeasonProfile:
    """Departures by slot, in the unit of what is learnt."""

    def __init__(self, window_seconds: int, memory_days: int, local_time: LocalTime) -> None:
        self._memory_days = memory_days
        self._window_seconds = window_seconds
        self._local_time = local_time
        self._share = min(1.0, window_seconds * _BINS / DAY_SECONDS)
        self._mean_gain = 1 - 0.5 ** (window_seconds / (_MEAN_HALF_LIFE_DAYS * DAY_SECONDS))
        self._mean: F64 = np.zeros(0)
        self._season: F64 = np.zeros((_PROFILES, 0))
        self._days: F64 = np.zeros((_PROFILES, 0))

    def grow(self, capacity: int) -> None:
        """Make room for slots below `capacity`."""
        self._mean = grow(self._mean, capacity)
        self._season, self._days = grow(self._season, capacity), grow(self._days, capacity)

    def read(self, slots: Slots, window: int) -> F64:
        """The season at the window's middle, between the two hours around it."""
        season = np.zeros(len(slots))
        hours, part = self._locate(window)
        for hour, weight in hours:
            for row, prior in ((hour, _PRIOR_DAYS), (part + hour, 2 * _PRIOR_DAYS)):
                days = self._days[row, slots]
                season += weight * self._season[row, slots] * days / (days + prior)
        return season

    def learn(self, slots: Slots, window: int, values: F64, age: F64) -> None:
        """Take one window; `age` counts those before it."""
        gain = np.maximum(self._mean_gain, 1 / (age + 1))
        self._mean[slots] = np.where(
            age == 0, values, self._mean.take(slots) + gain * (values - self._mean.take(slots))
        )
        departure = values - self._mean.take(slots)
        hours, part = self._locate(window)
        hour = max(hours, key=lambda entry: entry[1])[0]
        targets = ((hour, departure), (part + hour, departure - self._season[hour, slots]))
        for row, target in targets:
            days = np.minimum(self._days[row, slots], self._memory_days)
            gain = 1 - (1 - 1 / (days + 1.0001)) ** self._share
            self._season[row, slots] += gain * (target - self._season[row, slots])
            self._days[row, slots] += self._share

    def is_known(self, slot: int) -> bool:
        """Whether the time of day weighs at least half."""
        return bool(np.max(self._days[:_BINS, slot]) >= _PRIOR_DAYS)

    def forget(self, slots: Slots) -> None:
        """Return evicted slots to the prior."""
        self._mean[slots] = 0
        self._season[:, slots] = 0
        self._days[:, slots] = 0

    def dump(self) -> State:
        """State for a checkpoint."""
        return {"mean": self._mean, "season": self._season, "days": self._days}

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        self._mean, self._season = state["mean"].astype(np.float64), state["season"].astype(np.float64)
        self._days = state["days"].astype(np.float64)

    def turn(self, hours: int) -> None:
        """The clocks show so many hours more than when this was learnt. What weekends differ in is turned within the
        day: of the hours next to midnight it is learnt anew."""
        shape = (_PROFILES // _BINS, _BINS, self._season.shape[1])
        self._season = np.roll(self._season.reshape(shape), hours, axis=1).reshape(self._season.shape)
        self._days = np.roll(self._days.reshape(shape), hours, axis=1).reshape(self._days.shape)

    def _locate(self, window: int) -> tuple[tuple[tuple[int, float], ...], int]:
        """The two hours around the window's middle with their weights, and the first row of its part of the week."""
        middle = self._local_time.read((window + 0.5) * self._window_seconds)
        position = middle % DAY_SECONDS / DAY_SECONDS * _BINS - 0.5
        left = int(np.floor(position))
        hours = ((left % _BINS, 1 - (position - left)), ((left + 1) % _BINS, position - left))
        return hours, _BINS * (2 if _is_weekend(middle) else 1)


def _is_weekend(time: float) -> bool:
    """Saturday or Sunday, of local seconds; 1 January 1970 was a Thursday."""
    return int(time // DAY_SECONDS + 4) % 7 in (0, 6)
