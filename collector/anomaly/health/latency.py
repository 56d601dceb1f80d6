"""Whether an endpoint's calls take longer than they did: the mean logarithm of their duration in a window against its
level, in widths of its spread.

Rows carry a sum of durations; its logarithm over the row's calls, weighted by calls, is a geometric mean over callers:
one caller whose calls take long moves it little. Level and spread follow with half-lives, outliers clipped, so a
release that made an endpoint slower is ordinary after some hours.
"""

import numpy as np

from collector.anomaly.detectors.contract import F64, State
from collector.anomaly.health.errors import GRACE_WINDOWS, Judgement
from collector.anomaly.slots import Slots, grow

CALLS_MIN = 20.0  # Of a window that is judged or learnt.
_RISE_MIN = np.log(2.0)
_WIDTHS_MIN = 8.0  # Times the spread: tails of means over heavy-tailed calls are wide.
_MICROSECONDS_MIN = 10_000.0  # More than before, that somebody would notice.
_HALF_LIFE_SECONDS = 6 * 3_600
_SPREAD_HALF_LIFE_SECONDS = 86_400
_SPREAD_PRIOR, _SPREAD_MIN = 0.2, 0.03
_CLIP = 3.0  # Natural logarithm: what one window teaches the level.


class LatencyLevels:
    """By endpoint slot, in windows of one length."""

    def __init__(self, window_seconds: int) -> None:
        self._gain = 1 - 0.5 ** (window_seconds / _HALF_LIFE_SECONDS)
        self._spread_gain = 1 - 0.5 ** (window_seconds / _SPREAD_HALF_LIFE_SECONDS)
        self._level: F64 = np.zeros(0)  # Of the logarithm of microseconds.
        self._spread: F64 = np.zeros(0)
        self._age: F64 = np.zeros(0)  # Windows learnt.

    def grow(self, capacity: int) -> None:
        """Make room for slots below `capacity`."""
        self._level, self._age = grow(self._level, capacity), grow(self._age, capacity)
        self._spread = grow(self._spread, capacity, _SPREAD_PRIOR)

    def judge(self, slots: Slots, calls: F64, log_time: F64) -> Judgement:
        """`log_time` is the sum over calls. Upward only; 0 for endpoints younger than the grace period. Changes
        nothing."""
        level = self._level.take(slots)
        mean = log_time / np.maximum(calls, 1)
        rise = mean - level
        width = self._width(slots, calls)
        ratio = np.minimum(rise / (_WIDTHS_MIN * width), rise / _RISE_MIN)
        is_odd = (ratio >= 1) & (np.exp(mean) - np.exp(level) >= _MICROSECONDS_MIN)
        is_odd &= (calls >= CALLS_MIN) & (self._age.take(slots) >= GRACE_WINDOWS)
        score = np.zeros(len(slots))
        score[is_odd] = 1 + np.log2(ratio[is_odd])
        least = np.exp(level + np.maximum(_WIDTHS_MIN * width, _RISE_MIN))
        threshold = np.maximum(least, np.exp(level) + _MICROSECONDS_MIN)
        return Judgement(score=score, expected=np.exp(level), threshold=threshold)

    def learn(self, slots: Slots, calls: F64, log_time: F64) -> None:
        """Take one window; of endpoints with too few calls nothing is learnt."""
        is_enough = calls >= CALLS_MIN
        slots, calls = slots[is_enough], calls[is_enough]
        mean, age = log_time[is_enough] / calls, self._age.take(slots)
        level = np.where(age == 0, mean, self._level.take(slots))
        error, width = mean - level, self._width(slots, calls)
        self._level[slots] = level + np.maximum(1 / (age + 1), self._gain) * np.clip(error, -_CLIP, _CLIP)
        gain = np.maximum(1 / (age + GRACE_WINDOWS), self._spread_gain)
        spread = self._spread.take(slots)
        alike = width / np.maximum(spread, _SPREAD_MIN)  # How much wider than that of many calls.
        seen = 1.25 * np.minimum(np.abs(error), 4 * width) / alike
        self._spread[slots] = spread + gain * (seen - spread)
        self._age[slots] = age + 1

    def expect(self, slots: Slots, microseconds: F64) -> None:
        """Make these the level."""
        self._level[slots] = np.log(np.maximum(microseconds, 1.0))

    def forget(self, slots: Slots) -> None:
        """Return evicted slots to the prior."""
        self._level[slots] = self._age[slots] = 0
        self._spread[slots] = _SPREAD_PRIOR

    def dump(self) -> State:
        """State for a checkpoint."""
        return {"level": self._level, "spread": self._spread, "age": self._age}

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        self._level, self._spread = state["level"].astype(np.float64), state["spread"].astype(np.float64)
        self._age = state["age"].astype(np.float64)

    def _width(self, slots: Slots, calls: F64) -> F64:
        width: F64 = np.maximum(self._spread.take(slots), _SPREAD_MIN) * np.sqrt(1 + CALLS_MIN / np.maximum(calls, 1))
        return width
