"""Whether more of an endpoint's calls fail than did before: the share of errors in a window against the share of the
past.

Of n calls k fail; where a share p failed before, the evidence is the binomial tail's exponent n KL(k/n || p), in nats
(Chernoff 1952), over the dispersion: failures come in clusters, and the mean square of their departure from np, in the
binomial's own, says how clustered they are here. How many calls there are is given, so the time of day needs no
learning. Judged is what is left without the row that failed most, for one caller whose requests all fail is no failing
endpoint. The past is calls and errors that fade, with a prior, so a share that stays is ordinary after some hours.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from collector.anomaly.detectors.contract import F64, State
from collector.anomaly.slots import Slots, grow

GRACE_WINDOWS = 10  # With calls, of an endpoint.
_BAR_NATS = 25.0  # 1,000 endpoints have 1.4 million windows of a minute a day, e^14.
_ERRORS_MIN = 10.0  # In a window.
_SHARE_MIN = 0.05  # Of the calls.
_ODDS_MIN = 3.0  # Times the odds of before.
_PRIOR_CALLS, _PRIOR_SHARE = 50.0, 0.02
_SHARE_FLOOR = 1e-3  # Nobody is so good that one error in a thousand calls were odd.
_HALF_LIFE_SECONDS = 8 * 3_600
_DISPERSION_HALF_LIFE_SECONDS = 86_400
_DISPERSION_PRIOR, _DISPERSION_PRIOR_WINDOWS = 3.0, 30.0
_HALVINGS = 20  # To a millionth.
_DISPERSION_CLIP = 4.0  # Times what is known: of one window.


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """Of n endpoints in one window. `score` is 0 where nothing is odd and 1 at the threshold; each 1 more is twice the
    evidence. The others are of those with a score."""

    score: F64
    expected: F64  # In the unit of what is judged: a share of calls, or microseconds.
    threshold: F64


class ErrorShares:
    """By endpoint slot, in windows of one length."""

    def __init__(self, window_seconds: int) -> None:
        self._window_seconds = window_seconds
        self._gain = 1 - 0.5 ** (window_seconds / _DISPERSION_HALF_LIFE_SECONDS)
        self._calls: F64 = np.zeros(0)  # Fading.
        self._errors: F64 = np.zeros(0)
        self._at: NDArray[np.int64] = np.zeros(0, np.int64)  # Window in which the two were as they are.
        self._dispersion: F64 = np.zeros(0)
        self._age: F64 = np.zeros(0)  # Windows with calls.

    def grow(self, capacity: int) -> None:
        """Make room for slots below `capacity`."""
        self._calls, self._errors = grow(self._calls, capacity), grow(self._errors, capacity)
        self._at, self._age = grow(self._at, capacity), grow(self._age, capacity)
        self._dispersion = grow(self._dispersion, capacity, _DISPERSION_PRIOR)

    def judge(self, slots: Slots, window: int, calls: F64, errors: F64, largest: F64) -> Judgement:
        """`largest`: of the errors those of one row. Upward only; 0 for endpoints younger than the grace period.
        Changes nothing."""
        score, expected, threshold = np.zeros((3, len(slots)))
        may_be = (errors - largest >= _ERRORS_MIN) & (self._age.take(slots) >= GRACE_WINDOWS)
        which = may_be.nonzero()[0]
        if len(which):  # In most windows nothing fails.
            every, largest = calls[which], largest[which]
            calls, errors = every - largest, errors[which] - largest
            usual = self._share(slots[which], window)
            bar = _BAR_NATS * np.maximum(self._dispersion.take(slots[which]), 1.0)
            least = np.maximum(_ODDS_MIN * usual / (1 + (_ODDS_MIN - 1) * usual), _SHARE_MIN)
            least = np.maximum(least, np.minimum(_ERRORS_MIN / calls, 1.0))
            ratio = calls * _diverge(np.minimum(errors / calls, 1.0), usual) / bar
            is_odd = (errors / calls >= least) & (ratio >= 1)
            score[which[is_odd]] = 1 + np.log2(ratio[is_odd])
            least = np.maximum(least, _find_share(usual, bar / calls))
            expected[which], threshold[which] = usual, (least * calls + largest) / every
        return Judgement(score=score, expected=expected, threshold=threshold)

    def learn(self, slots: Slots, window: int, calls: F64, errors: F64) -> None:
        """Take one window of endpoints that were called."""
        usual, age = self._share(slots, window), self._age.take(slots)
        departure = (errors - calls * usual) ** 2 / (calls * usual * (1 - usual) + 1)
        gain = np.maximum(1 / (age + _DISPERSION_PRIOR_WINDOWS), self._gain)
        known = self._dispersion.take(slots)
        self._dispersion[slots] = known + gain * (
            np.minimum(departure, _DISPERSION_CLIP * np.maximum(known, 1)) - known
        )
        fade = self._fade(slots, window)
        self._calls[slots] = self._calls.take(slots) * fade + calls
        self._errors[slots] = self._errors.take(slots) * fade + np.minimum(errors, calls)
        self._at[slots], self._age[slots] = window, age + 1

    def expect(self, slots: Slots, window: int, shares: F64) -> None:
        """Make these shares the usual ones."""
        self._calls[slots] = np.maximum(self._calls.take(slots) * self._fade(slots, window), 20 * _PRIOR_CALLS)
        self._errors[slots] = self._calls.take(slots) * shares
        self._at[slots] = window

    def forget(self, slots: Slots) -> None:
        """Return evicted slots to the prior."""
        self._calls[slots] = self._errors[slots] = self._at[slots] = self._age[slots] = 0
        self._dispersion[slots] = _DISPERSION_PRIOR

    def dump(self) -> State:
        """State for a checkpoint."""
        own = {"calls": self._calls, "errors": self._errors, "at": self._at}
        return {**own, "dispersion": self._dispersion, "age": self._age}

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        self._calls, self._errors = state["calls"].astype(np.float64), state["errors"].astype(np.float64)
        self._at, self._age = state["at"].astype(np.int64), state["age"].astype(np.float64)
        self._dispersion = state["dispersion"].astype(np.float64)

    def _fade(self, slots: Slots, window: int) -> F64:
        elapsed = np.maximum(window - self._at.take(slots), 0) * float(self._window_seconds)
        faded: F64 = np.exp2(-np.minimum(elapsed / _HALF_LIFE_SECONDS, 1_000))
        return faded

    def _share(self, slots: Slots, window: int) -> F64:
        fade = self._fade(slots, window)
        errors = self._errors.take(slots) * fade + _PRIOR_CALLS * _PRIOR_SHARE
        share: F64 = errors / (self._calls.take(slots) * fade + _PRIOR_CALLS)
        return np.clip(share, _SHARE_FLOOR, 1 - _SHARE_FLOOR)


def _diverge(share: F64, usual: F64) -> F64:
    """Kullback-Leibler divergence of two coins, in nats."""
    inner = np.clip(share, 1e-12, 1 - 1e-12)
    diverged: F64 = inner * np.log(inner / usual) + (1 - inner) * np.log((1 - inner) / (1 - usual))
    return diverged


def _find_share(usual: F64, divergence: F64) -> F64:
    """The least share above `usual` that diverges so much; 1 where none does."""
    low, high = usual, np.ones(len(usual))
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        is_enough = _diverge(middle, usual) >= divergence
        low, high = np.where(is_enough, low, middle), np.where(is_enough, middle, high)
    return high
