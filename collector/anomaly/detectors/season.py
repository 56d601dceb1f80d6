"""Levels of busy subjects (endpoints): a window against what the last hours and this time of day lead one to expect,
both ways.

Counts are turned into y = 10 asinh(sqrt((x + 3/8) / 25)), on which Poisson noise of small counts and multiplicative
noise of large ones have about the same width (the variance-stabilising transform of a gamma-Poisson with shape 25;
Anscombe 1948). There, expectation = level + season: the level follows with a half-life of about an hour, clipped so
that an outlier does not drag it; the season is the mean departure from the day's mean by hour of day, and of weekdays
and weekends apart, shrunk to 0 while few days were seen. The noise is a clipped mean absolute residual, never less
than Poisson's and 15 %.

Scored are the residual and its running means over about 4, 14 and 50 windows (`_PERSISTENCES`), which find what is
not high but lasts; a running mean counts only while the window itself still departs the same way, so that what is
over is not told. Each of the eight has its own tail: the height that this subject passes `_TAIL_DAILY` times a day,
tracked by a stochastic quantile, one departure counting once. The score is the height over that tail, over the bar of
THRESHOLDS.
"""

import numpy as np
from numpy.typing import NDArray

from collector.anomaly.detectors.contract import F64, Observation, State, Verdict
from collector.anomaly.slots import Slots, grow

_SHAPE = 25.0
_DAY_SECONDS = 86_400
_BINS = 24
_PROFILES = 3 * _BINS  # All days; weekdays' and weekends' departures from it.
_GRACE_WINDOWS = 10  # Of a subject.
_MATERIAL = 1.0  # y units: a factor of 1.22; what departs by less is never odd, however quiet the subject.
_COVERED_CALLS = 10.0  # A window: with fewer, Poisson noise hides what a longer window would show.
_LEVEL_HALF_LIFE_SECONDS = 3_600
_LEVEL_HALF_LIFE_WINDOWS_MIN = 2.0
_NOISE_WINDOWS = 1_000  # Memory of the noise, at most; two days at least.
_NOISE_PRIOR = 2.0  # y units: 20 % of large counts.
_FLOOR_RELATIVE = 0.15
_SEASON_DAYS = 10  # Memory of the season.
_SEASON_PRIOR_DAYS = 2.0  # Days at which a season counts half.
_PERSISTENCES = np.array([0.75, 0.93, 0.98])[:, None]  # Running means over about 4, 14 and 50 windows.
_ONGOING = 0.5  # A running mean counts while the window itself departs by at least this share of it.
_PERSISTENCE_CLIP = 6.0

# Height over the subject's own tail at which a window is odd, by window length in seconds.
THRESHOLDS = {60: 1.2, 300: 1.2, 3_600: 1.15}

_FLOATS = ("level", "mean", "noise", "age")
# Tail trackers: (up, down) x (residual, drifts).
_TAILS = 2 * (1 + len(_PERSISTENCES))
_TAIL_PRIOR = 4.0  # Noise widths.
_TAIL_MIN = 2.0
_TAIL_GAIN = 0.15
_TAIL_DAILY = 2.0  # Departures a day that are ordinary, on each side.
_REFRACTORY_SECONDS = 1_800  # One departure teaches once.


# By which a measure exceeds the mean departure it stands for, so that its width is that of one window's noise.
_DRIFT_GAINS = np.sqrt((1 + _PERSISTENCES) / (1 - _PERSISTENCES))
_GAINS = np.tile(np.concatenate([[[1.0]], _DRIFT_GAINS]), (2, 1))


class SeasonDetector:
    """See the module. `window_seconds` is one of THRESHOLDS."""

    def __init__(self, *, window_seconds: int) -> None:
        self.window_seconds = window_seconds
        self.bar = THRESHOLDS[window_seconds]
        half_life = max(_LEVEL_HALF_LIFE_SECONDS / window_seconds, _LEVEL_HALF_LIFE_WINDOWS_MIN)
        self._level_gain = 1 - 0.5 ** (1 / half_life)
        self._mean_gain = 1 - 0.5 ** (window_seconds / (2 * _DAY_SECONDS))
        self._noise_gain = 1 / max(_NOISE_WINDOWS, 50)
        self._bin_share = min(1.0, window_seconds * _BINS / _DAY_SECONDS)
        self._state: dict[str, F64] = {name: np.zeros(0) for name in _FLOATS}
        self._drift: F64 = np.zeros((len(_PERSISTENCES), 0))
        self._season: F64 = np.zeros((_PROFILES, 0))
        self._days: F64 = np.zeros((_PROFILES, 0))
        self._tail: F64 = np.zeros((_TAILS, 0))
        self._rest: F64 = np.zeros((_TAILS, 0))
        self._tail_rate = min(0.2, _TAIL_DAILY * window_seconds / _DAY_SECONDS)

    def grow(self, capacity: int) -> None:
        """Make room for slots below `capacity`."""
        for name in _FLOATS:
            self._state[name] = grow(self._state[name], capacity)
        self._drift = grow(self._drift, capacity)
        self._season, self._days = grow(self._season, capacity), grow(self._days, capacity)
        self._tail, self._rest = grow(self._tail, capacity, _TAIL_PRIOR), grow(self._rest, capacity)

    def score(self, observation: Observation) -> Verdict:
        """Odd above and below; 0 for subjects younger than the grace period."""
        slots = observation.slots
        predicted = self._predict(observation)
        width = self._width(slots, predicted) * (1 + 2 * observation.loss_ratio)
        residual = (_stabilise(observation.values) - predicted) / width
        measures = self._measure(slots, residual)
        material = measures * width / _GAINS / _MATERIAL
        ratios = np.minimum(measures / self._tail[:, slots], material)
        above, below = ratios[: _TAILS // 2].max(axis=0), ratios[_TAILS // 2 :].max(axis=0)
        is_above = above >= below
        score = np.where(self._state["age"][slots] < _GRACE_WINDOWS, 0.0, np.maximum(above, below) / self.bar)
        tail = np.where(is_above, self._tail[0, slots], -self._tail[_TAILS // 2, slots])
        threshold = _restore(predicted + tail * self.bar * width)
        return Verdict(score=score, is_above=is_above, expected=_restore(predicted), threshold=threshold)

    def learn(self, observation: Observation) -> None:
        """Take one window; every live subject needs a row, zeros too."""
        slots = observation.slots
        if not len(slots):
            return
        state, values = self._state, _stabilise(observation.values)
        is_first = state["age"][slots] == 0
        fresh = slots[is_first]
        state["level"][fresh] = state["mean"][fresh] = values[is_first]
        state["noise"][fresh] = _NOISE_PRIOR
        predicted = self._predict(observation)
        width = self._width(slots, predicted)
        error = values - predicted
        age = state["age"][slots]
        self._learn_tail(slots, self._measure(slots, error / width))
        self._drift[:, slots] = self._persist(slots, error / width)
        state["level"][slots] += self._level_gain * np.clip(error, -3 * width, 3 * width)
        noise_gain = np.maximum(self._noise_gain, 1 / (age + 10))
        state["noise"][slots] += noise_gain * (1.4 * np.minimum(np.abs(error), 4 * width) - state["noise"][slots])
        mild = np.clip(values, predicted - 5 * width, predicted + 5 * width)
        state["mean"][slots] += np.maximum(self._mean_gain, 1 / (age + 1)) * (mild - state["mean"][slots])
        self._learn_season(slots, observation.window, mild - state["mean"][slots])
        state["age"][slots] += 1

    def covers(self, slots: Slots) -> NDArray[np.bool_]:
        """Which subjects these windows judge well enough for longer ones to stay silent: old and busy enough."""
        is_old = self._state["age"][slots] >= _GRACE_WINDOWS
        return is_old & (_restore(self._state["level"][slots]) >= _COVERED_CALLS)

    def has_season(self, slot: int) -> bool:
        """Whether the time of day weighs at least half."""
        return bool(np.max(self._days[:_BINS, slot]) >= _SEASON_PRIOR_DAYS)

    def expect(self, slots: Slots, window: int, values: F64) -> None:
        """Make these values the level."""
        _, season = self._locate(slots, window)
        self._state["level"][slots] = _stabilise(values) - season
        self._drift[:, slots] = 0

    def forget(self, slots: Slots) -> None:
        """Return evicted slots to the prior."""
        for array in self._state.values():
            array[slots] = 0
        self._drift[:, slots] = 0
        self._season[:, slots] = 0
        self._days[:, slots] = 0
        self._tail[:, slots] = _TAIL_PRIOR
        self._rest[:, slots] = 0

    def dump(self) -> State:
        """State for a checkpoint."""
        return {
            **self._state,
            "drift": self._drift,
            "season": self._season,
            "days": self._days,
            "tail": self._tail,
            "rest": self._rest,
        }

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        self._state = {name: state[name].astype(np.float64) for name in _FLOATS}
        self._drift = state["drift"].astype(np.float64)
        self._season, self._days = state["season"].astype(np.float64), state["days"].astype(np.float64)
        self._tail, self._rest = state["tail"].astype(np.float64), state["rest"].astype(np.float64)

    def _predict(self, observation: Observation) -> F64:
        _, season = self._locate(observation.slots, observation.window)
        predicted: F64 = np.maximum(self._state["level"][observation.slots] + season, 0.0)
        return predicted

    def _width(self, slots: Slots, predicted: F64) -> F64:
        poisson = 1 / np.sqrt(1 + _restore(predicted) / _SHAPE) + _FLOOR_RELATIVE
        return np.maximum(poisson, self._state["noise"][slots])

    def _persist(self, slots: Slots, residual: F64) -> F64:
        clipped = np.clip(residual, -_PERSISTENCE_CLIP, _PERSISTENCE_CLIP)
        persistent: F64 = _PERSISTENCES * self._drift[:, slots] + (1 - _PERSISTENCES) * clipped
        return persistent

    def _measure(self, slots: Slots, residual: F64) -> F64:
        """Departures up, then down, of the residual and of the drifts: _TAILS x n, in noise widths."""
        drift = self._persist(slots, residual)
        drift = np.where(residual * np.sign(drift) >= _ONGOING * np.abs(drift), drift, 0.0)
        both = np.concatenate([residual[None], drift * _DRIFT_GAINS])
        return np.concatenate([both, -both])

    def _learn_tail(self, slots: Slots, measures: F64) -> None:
        tail, rest = self._tail[:, slots], self._rest[:, slots]
        is_past = (measures > tail) & (rest <= 0)
        step = np.exp(_TAIL_GAIN * (is_past - self._tail_rate))
        self._tail[:, slots] = np.maximum(tail * step, _TAIL_MIN)
        self._rest[:, slots] = np.where(is_past, _REFRACTORY_SECONDS / self.window_seconds, np.maximum(rest - 1, 0))

    def _locate(self, slots: Slots, window: int) -> tuple[tuple[tuple[int, float], ...], F64]:
        """The two hours of day around the window's middle with their weights, and the season there."""
        middle = (window + 0.5) * self.window_seconds
        position = middle % _DAY_SECONDS / _DAY_SECONDS * _BINS - 0.5
        left = int(np.floor(position))
        weights = ((left % _BINS, 1 - (position - left)), ((left + 1) % _BINS, position - left))
        part = _BINS * (2 if _is_weekend(middle) else 1)
        season = np.zeros(len(slots))
        for hour, weight in weights:
            for row, prior in ((hour, _SEASON_PRIOR_DAYS), (part + hour, 2 * _SEASON_PRIOR_DAYS)):
                days = self._days[row, slots]
                season += weight * self._season[row, slots] * days / (days + prior)
        return weights, season

    def _learn_season(self, slots: Slots, window: int, departure: F64) -> None:
        weights, _ = self._locate(slots, window)
        hour = max(weights, key=lambda entry: entry[1])[0]
        middle = (window + 0.5) * self.window_seconds
        row = hour + _BINS * (2 if _is_weekend(middle) else 1)
        share = self._bin_share
        for place, target in ((hour, departure), (row, departure - self._season[hour, slots])):
            gain = 1 - (1 - 1 / (np.minimum(self._days[place, slots], _SEASON_DAYS) + 1.0001)) ** share
            self._season[place, slots] += gain * (target - self._season[place, slots])
            self._days[place, slots] += share


def _stabilise(values: F64) -> F64:
    stabilised: F64 = 10 * np.arcsinh(np.sqrt((values + 0.375) / _SHAPE))
    return stabilised


def _restore(stabilised: F64) -> F64:
    restored: F64 = np.maximum(_SHAPE * np.sinh(np.clip(stabilised, 0, 400) / 10) ** 2 - 0.375, 0.0)
    return restored


def _is_weekend(time: float) -> bool:
    """Saturday or Sunday in UTC; 1 January 1970 was a Thursday."""
    return int(time // _DAY_SECONDS + 4) % 7 in (0, 6)
