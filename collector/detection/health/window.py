"""Errors and latency of endpoints in windows of one length: sums, baselines, and the installation's bar of each
measure.

`ErrorShares`: of n calls k fail. Where a share p failed before, the evidence is the binomial tail's exponent n KL(k/n
|| p), in nats (Chernoff 1952), divided by the dispersion. Failures come in clusters. The mean square of their departure
from np, in the binomial's own, is how clustered they are. The number of calls is given, so the time of day needs no
learning. The row with most failures is left aside, because one caller whose requests all fail is not a failing
endpoint. The past is calls and errors that fade, with a prior. So a share that stays is normal after some hours.

`LatencyLevels`: the mean logarithm of call durations in a window against its level, in widths of its spread. Rows carry
a sum of durations. The logarithm of a row's mean, weighted by calls, gives a geometric mean over callers, so one slow
caller moves it little. Level and spread follow with half-lives, outliers clipped. So a release that made an endpoint
slower is normal after some hours.

`HealthSums` keeps the measures by slot, in a ring that opens and closes with the windows of the endpoints' calls
(collector/detection/framework/windows.py).
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from collector.alerting.alert import HealthMeasure
from collector.detection.framework.installation import InstallationBar
from collector.detection.framework.state import F64, DetectorState, Slots, column
from collector.detection.framework.windows import LATENESS_SECONDS

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


class ErrorShares(DetectorState):
    """By endpoint slot, in windows of one length."""

    _calls = column(np.float64)  # Fading.
    _errors = column(np.float64)
    _at = column(np.int64)  # Window in which the two were as they are.
    _dispersion = column(np.float64, fill=_DISPERSION_PRIOR)
    _age = column(np.float64)  # Windows with calls.

    def __init__(self, window_seconds: int) -> None:
        super().__init__()
        self._window_seconds = window_seconds
        self._gain = 1 - 0.5 ** (window_seconds / _DISPERSION_HALF_LIFE_SECONDS)

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


CALLER_BOUND = 2.0**32  # Above any slot of a consumer.


class Measure(IntEnum):
    """Row of the sums."""

    SERVER_ERRORS = 0
    CLIENT_ERRORS = 1
    SERVER_LARGEST = 2  # Errors of the row that has most.
    CLIENT_LARGEST = 3
    SERVER_HIGHEST = 4  # Who got them: 1 + the highest slot of a consumer, 0 where none is known;
    CLIENT_HIGHEST = 5
    SERVER_LOWEST = 6  # and CALLER_BOUND less the lowest.
    CLIENT_LOWEST = 7
    TIMED_CALLS = 8  # That succeeded.
    LOG_TIME = 9  # Sum over those of the logarithm of their row's mean duration in microseconds.
    UNREAD_CALLS = 10  # Of which nobody saw how they ended.


class HealthSums(DetectorState):
    """Of windows of one length."""

    _sums = column(np.float64, len(Measure), "ring")

    def __init__(self, window_seconds: int) -> None:
        self.window_seconds = window_seconds
        self._ring = LATENESS_SECONDS // window_seconds + 2  # As long as the calls'.
        super().__init__(ring=self._ring)

    def add(self, measure: Measure, window: int, slots: Slots, amounts: F64) -> None:
        """Add to an open window; slots may repeat."""
        np.add.at(self._sums[measure, window % self._ring], slots, amounts)

    def add_errors(self, measure: Measure, window: int, slots: Slots, errors: F64, consumers: Slots) -> None:
        """Add errors (SERVER_ERRORS or CLIENT_ERRORS) and who got them; consumers that are not known (-1) say
        nothing."""
        sums = self._sums[:, window % self._ring]
        np.add.at(sums[measure], slots, errors)
        np.maximum.at(sums[measure + 2], slots, errors)
        is_known = consumers >= 0
        own, callers = slots[is_known], consumers[is_known].astype(np.float64)
        np.maximum.at(sums[measure + 4], own, callers + 1)
        np.maximum.at(sums[measure + 6], own, CALLER_BOUND - callers)

    def read(self, window: int, slots: Slots) -> F64:
        """All measures of `slots` in an open window, measures x n."""
        sums: F64 = self._sums[:, window % self._ring].take(slots, axis=1)
        return sums

    def close(self, window: int, slots: Slots) -> None:
        """Clear the oldest open window; `slots` had calls in it."""
        self._sums[:, window % self._ring, slots] = 0

    def leave(self) -> None:
        """Give up what is open."""
        self._sums[:] = 0


CALLS_MIN = 20.0  # Of a window that is judged or learnt.
_RISE_MIN = np.log(2.0)
_WIDTHS_MIN = 8.0  # Times the spread: tails of means over heavy-tailed calls are wide.
_MICROSECONDS_MIN = 10_000.0  # More than before, that somebody would notice.
_LATENCY_HALF_LIFE_SECONDS = 6 * 3_600
_SPREAD_HALF_LIFE_SECONDS = 86_400
_SPREAD_PRIOR, _SPREAD_MIN = 0.2, 0.03
_CLIP = 3.0  # Natural logarithm: what one window teaches the level.


class LatencyLevels(DetectorState):
    """By endpoint slot, in windows of one length."""

    _level = column(np.float64)  # Of the logarithm of microseconds.
    _spread = column(np.float64, fill=_SPREAD_PRIOR)
    _age = column(np.float64)  # Windows learnt.

    def __init__(self, window_seconds: int) -> None:
        super().__init__()
        self._gain = 1 - 0.5 ** (window_seconds / _LATENCY_HALF_LIFE_SECONDS)
        self._spread_gain = 1 - 0.5 ** (window_seconds / _SPREAD_HALF_LIFE_SECONDS)

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

    def _width(self, slots: Slots, calls: F64) -> F64:
        width: F64 = np.maximum(self._spread.take(slots), _SPREAD_MIN) * np.sqrt(1 + CALLS_MIN / np.maximum(calls, 1))
        return width


MEASURES = tuple(HealthMeasure)
_CALLERS_FEW = 2  # An endpoint of fewer consumers fails to all where it fails to one.
LATENCY_SECONDS_MIN = 300  # Of a window: a slow minute is a collection of garbage, or a backup.


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One measure of n endpoints in one window. Shares of calls, or microseconds."""

    measure: HealthMeasure
    slots: Slots
    calls: F64
    amounts: F64  # Errors, or the sum over calls of the logarithm of microseconds.
    judgement: Judgement


class HealthWindow(DetectorState):
    """All measures in windows of one length."""

    slot_parts = ("sums", "_shares", "_latency")
    parts = ("bars",)

    def __init__(self, window_seconds: int) -> None:
        super().__init__()
        self.sums = HealthSums(window_seconds)
        self._shares = {
            HealthMeasure.SERVER_ERRORS: ErrorShares(window_seconds),
            HealthMeasure.CLIENT_ERRORS: ErrorShares(window_seconds),
        }
        self._latency = LatencyLevels(window_seconds) if window_seconds >= LATENCY_SECONDS_MIN else None
        self.bars = {measure: InstallationBar() for measure in MEASURES}

    @property
    def has_latency(self) -> bool:
        """Whether these windows are long enough."""
        return self._latency is not None

    def close(self, window: int, slots: Slots, calls: F64, callers: Slots) -> list[Judged]:
        """Judge, learn and clear the oldest open window; `calls` of `slots`, none of them 0, and how many consumers
        they have."""
        for bar in self.bars.values():
            bar.start(window * self.sums.window_seconds)
        sums = self.sums.read(window, slots)
        judged = self._judge_errors(window, slots, calls, callers, sums)
        if self._latency is not None:
            timed, log_time = sums[Measure.TIMED_CALLS], sums[Measure.LOG_TIME]
            judgement = self._latency.judge(slots, timed, log_time)
            self._latency.learn(slots, timed, log_time)
            judged.append(
                Judged(measure=HealthMeasure.LATENCY, slots=slots, calls=timed, amounts=log_time, judgement=judgement)
            )
        self.sums.close(window, slots)
        return judged

    def _judge_errors(self, window: int, slots: Slots, calls: F64, callers: Slots, sums: F64) -> list[Judged]:
        """Judge and learn errors of the calls that were read."""
        calls = calls - sums[Measure.UNREAD_CALLS]
        was_read = calls > 0
        slots, calls, callers, sums = slots[was_read], calls[was_read], callers[was_read], sums[:, was_read]
        judged = []
        for measure, shares in self._shares.items():
            which = Measure.SERVER_ERRORS if measure is HealthMeasure.SERVER_ERRORS else Measure.CLIENT_ERRORS
            errors, largest, highest, lowest = sums[[which, which + 2, which + 4, which + 6]]
            judgement = shares.judge(slots, window, calls, errors, largest)
            is_shared = highest + lowest > CALLER_BOUND + 1
            if measure is HealthMeasure.SERVER_ERRORS:
                is_shared |= callers < _CALLERS_FEW
            judgement.score[~is_shared] = 0  # One caller's are that caller's doing.
            shares.learn(slots, window, calls, errors)
            judged.append(Judged(measure=measure, slots=slots, calls=calls, amounts=errors, judgement=judgement))
        return judged

    def expect(self, measure: HealthMeasure, slots: Slots, window: int, observed: F64) -> None:
        """Make what was observed usual."""
        if measure is not HealthMeasure.LATENCY:
            self._shares[measure].expect(slots, window, observed)
        elif self._latency is not None:
            self._latency.expect(slots, observed)


def observe(judged: Judged, which: Slots) -> F64:
    """What endpoints showed in the unit of their expectation; `which` are indexes into the n."""
    mean = judged.amounts[which] / np.maximum(judged.calls[which], 1)
    observed: F64 = np.exp(mean) if judged.measure is HealthMeasure.LATENCY else mean
    return observed
