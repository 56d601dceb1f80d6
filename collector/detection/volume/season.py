"""Detects changed levels of busy subjects (endpoints): a window against the last hours and the time of day, both ways.

Counts become y = 10 asinh(sqrt((x + 3/8) / 25)) (Anscombe 1948, for a gamma-Poisson of shape 25). There the expectation
is level + season. Levels follow with half-lives of the plan, an outlier clipped. The noise is a clipped mean absolute
residual, in units of sqrt(1 / (1 + x / 25) + a share of large counts). That is how the noise of clumped arrivals falls
with the rate.

The measures of the plan (collector/detection/volume/plan.py) are kept of the residual in widths of that noise, with the
tail of each. The score is the rarest measure's evidence over its bar. A subject that was reported is reported again
only for much more, and for less as hours pass. The way back counts as the same, so one event is one crossing.

`SeasonProfile`: the mean departure from the day's mean by hour of day, weekdays and weekends apart, shrunk to 0 while
few days were seen. `WeekProfile`: what each hour of the week adds, as the mean of its last weeks. It counts only as far
as the weeks of that day predicted the next one, because what is learned of one day a week is noise first. Hours and
days are those of a time zone.
"""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from collector.core.rates import LocalTime
from collector.detection.framework.state import F64, Bools, DetectorState, Slots, column
from collector.detection.volume.level import SEASON_LEAST, LevelDetector, Observation, Verdict
from collector.detection.volume.plan import PLANS, BlockTail, Plan, Statistic

HOURS = 24
WEEK_DAYS = 7
WEEK_HOURS = WEEK_DAYS * HOURS
_MEMORY_WEEKS = 5
_PREDICTED_KEEP = 0.5 ** (1 / (4 * HOURS))  # Of an hour of a day: four weeks' worth are half.
# Part of a day's hours that its last week foretells of the next where there is nothing but noise.
_CHANCE = 0.25


class WeekProfile(DetectorState):
    """Departures by slot, in the unit of what is learnt. Hours are of the week, from Sunday's first on."""

    # Half precision: departures are some tens at the most and a thousandth of one says nothing; it is the bulk.
    _mean = column(np.float16, WEEK_HOURS)
    _weeks = column(np.float32, WEEK_DAYS)  # How many of each day were seen.
    # Of each day, fading sums over its hours: what was foretold times what came, and what was foretold squared.
    _predicted = column(np.float32, 2 * WEEK_DAYS)
    _hour = column(np.int16)  # That is being summed, so that no hour predicts itself.
    _open = column(np.float32, 2)  # Sum and number of its windows.

    def read(self, slots: Slots, hour: int) -> F64:
        """What is to be added in this hour."""
        day = hour // HOURS
        agreed, squared = self._predicted[day, slots], self._predicted[WEEK_DAYS + day, slots]
        trust = np.clip((agreed / np.maximum(squared, 1e-9) - _CHANCE) / (1 - _CHANCE), 0.0, 1.0)
        departure: F64 = trust * self._mean[hour, slots].astype(np.float64)
        return departure

    def learn(self, slots: Slots, hour: int, departures: F64) -> None:
        """Take one window of `slots`, which are distinct."""
        is_over = self._hour[slots] != hour
        if is_over.any():
            self._close(slots[is_over])
            self._hour[slots] = hour
        self._open[0, slots] += departures
        self._open[1, slots] += 1

    def turn(self, hours: int) -> None:
        """The clocks show so many hours more than when this was learnt."""
        self._mean = np.roll(self._mean, hours, axis=0)
        self._hour = (self._hour + hours) % WEEK_HOURS

    def _close(self, slots: Slots) -> None:
        """The hours that were summed are over."""
        slots = slots[self._open[1, slots] > 0]
        hours = self._hour[slots]
        days = hours // HOURS
        came = self._open[0, slots] / self._open[1, slots]
        before = self._mean[hours, slots].astype(np.float32)
        for rows, value in ((days, came), (WEEK_DAYS + days, before)):
            self._predicted[rows, slots] = self._predicted[rows, slots] * _PREDICTED_KEEP + value * before
        seen = np.minimum(np.floor(self._weeks[days, slots] + 0.01), _MEMORY_WEEKS)  # Sums of hours fall short of days.
        self._mean[hours, slots] = before + (came - before) / (seen + 1)
        self._weeks[days, slots] += 1 / HOURS
        self._open[:, slots] = 0


DAY_SECONDS = 86_400
_PROFILES = 3 * HOURS  # All days; weekdays' and weekends' departures from it.
_PRIOR_DAYS = 2.0  # Days at which a season counts half.
_PART = 0.1  # Days: sums of hours fall short of them.
_MEAN_HALF_LIFE_DAYS = 2


class _Place(NamedTuple):
    """Where in the week a window lies."""

    hours: tuple[tuple[int, float], tuple[int, float]]  # Of the week, from Sunday on, around its middle; with weights.
    part: int  # First row of weekdays or of weekends.


class SeasonProfile(DetectorState):
    """Departures by slot, in the unit of what is learnt."""

    slot_parts = ("_week",)
    _mean = column(np.float64)
    _season = column(np.float64, _PROFILES)
    _days = column(np.float64, _PROFILES)

    def __init__(self, window_seconds: int, memory_days: int, local_time: LocalTime) -> None:
        super().__init__()
        self._memory_days = memory_days
        self._window_seconds = window_seconds
        self._local_time = local_time
        self._share = min(1.0, window_seconds * HOURS / DAY_SECONDS)
        self._mean_gain = 1 - 0.5 ** (window_seconds / (_MEAN_HALF_LIFE_DAYS * DAY_SECONDS))
        self._week = WeekProfile()

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

    def are_known(self, window: int) -> Bools:
        """By slot, whether the hours around the window's middle weigh at least half."""
        rows = [of_week % HOURS for of_week, _ in self._locate(window).hours]
        is_known: Bools = np.minimum(*self._days[rows]) >= _PRIOR_DAYS - _PART
        return is_known

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


_SHAPE = 25.0
_GRACE_WINDOWS = 10  # Of a subject, at the least.
_COVERED_CALLS = 10.0  # A window: with fewer, Poisson noise hides what a longer window would show.
_USUAL_HALF_LIFE_SECONDS = 2 * DAY_SECONDS
_LEVEL_GAIN_MAX = 0.3
_NOISE_PRIOR = 3.0
_LASTING_MAX = 30.0  # Windows' worth: silence beyond it is no odder.
_LOSS_WIDTH = 2.0
_REPORTED_RISE = 2.0  # Times what was reported, right after it was.
_NEVER = -(1 << 40)  # Window of what was never reported.


class SeasonDetector(LevelDetector):
    """`window_seconds` is one of PLANS, unless there is a plan."""

    slot_parts = ("_profile", "_tail")
    _level = column(np.float64, "levels")
    _noise = column(np.float64, "levels", fill=_NOISE_PRIOR)
    _running = column(np.float64, "measures")
    _age = column(np.float64)
    _usual = column(np.float64)  # Mean of the root of the calls, in which Poisson noise is even.
    _reported = column(np.float64, 2)  # Above, below: over the bar.
    _reported_at = column(np.int64, 2, fill=_NEVER)

    def __init__(
        self,
        *,
        window_seconds: int,
        local_time: LocalTime | None = None,
        plan: Plan | None = None,
        grace_seconds: int = 0,
    ) -> None:
        """`local_time`: of hours and days; without one they are those of UTC. `plan`: another than that of PLANS.
        `grace_seconds`: of a subject, where the common grace period is too short."""
        self.window_seconds = window_seconds
        self._grace_windows = max(_GRACE_WINDOWS, grace_seconds // window_seconds)
        self._plan: Plan = plan or PLANS[window_seconds]
        measures = self._plan.measures
        super().__init__(levels=len(self._plan.half_lives_seconds), measures=len(measures))
        half_lives = np.array(self._plan.half_lives_seconds)
        self._level_gain = np.minimum(1 - 0.5 ** (window_seconds / half_lives), _LEVEL_GAIN_MAX)[:, None]
        self._slowest = int(np.argmax(half_lives))
        self._sign = np.array([1.0 if measure.is_above else -1.0 for measure in measures])[:, None]
        self._bar = np.array([measure.bar for measure in measures])[:, None]
        self._clip = np.array([measure.clip for measure in measures])[:, None]
        self._of_level = np.array([measure.level for measure in measures])
        self._rows = {
            kind: np.array([i for i, m in enumerate(measures) if m.statistic is kind], np.int64) for kind in Statistic
        }
        self._span = np.array([measure.span for measure in measures])[:, None]
        self._keep = 1 - 1 / np.maximum(self._span, 1.0)
        self._gain = np.sqrt((1 + self._keep) / (1 - self._keep))
        self._usual_gain = 1 - 0.5 ** (window_seconds / _USUAL_HALF_LIFE_SECONDS)
        self._judged: tuple[tuple[Slots, F64, F64 | None, int], tuple[F64, F64, F64, F64]] | None = None
        self._factors: dict[int, F64] = {}  # By window, what `read_factors` found since the state changed.
        self._profile = SeasonProfile(window_seconds, self._plan.season_days, local_time or LocalTime())
        self._tail = BlockTail(self._plan, window_seconds)

    def grow(self, size: int) -> None:
        super().grow(size)
        self._change()

    def forget(self, slots: Slots) -> None:
        super().forget(slots)
        self._change()

    def score(self, observation: Observation) -> Verdict:
        """Odd above and below; 0 for subjects younger than the grace period."""
        slots = observation.slots
        if not len(slots):
            return Verdict(
                score=np.zeros(0), is_above=np.zeros(0, np.bool_), expected=np.zeros(0), threshold=np.zeros(0)
            )
        predicted, width, _, ratios = self._judge(observation)
        scores = ratios / self._need(slots, observation.window)
        is_above = scores[0] >= scores[1]
        is_young = self._age.take(slots) < self._grace_windows
        score = np.where(is_young, 0.0, np.maximum(scores.max(axis=0), 0.0))
        return Verdict(
            score=score,
            is_above=is_above,
            expected=_restore(predicted[0]),
            threshold=self._find_threshold(slots, predicted[0], width[0], is_above),
            is_ongoing=~is_young & (score < 1) & (np.where(is_above, ratios[0], ratios[1]) >= 1),
        )

    def learn(self, observation: Observation) -> None:
        """Take one window; every live subject needs a row, zeros too."""
        slots = observation.slots
        if not len(slots):
            return
        values, age = _stabilise(observation.values), self._age.take(slots)
        self._level[:, self._fresh(slots)] = values[age == 0]
        predicted, width, running, ratios = self._judge(replace(observation, loss=None))
        self._change()
        self._tell(slots, observation.window, ratios)
        self._running[:, slots] = running
        self._tail.learn(slots, self._measure(running), age)
        error = values - predicted
        gain = np.maximum(self._level_gain, 1 / (age + 1))
        self._level[:, slots] += gain * np.clip(error, -3 * width, 3 * width)
        unit = _unit(predicted, self._plan.relative_variance)
        noise_gain = np.maximum(1 / self._plan.noise_windows, 1 / (age + 10))
        self._noise[:, slots] += noise_gain * (
            1.4 * np.minimum(np.abs(error), 4 * width) / unit - self._noise.take(slots, axis=1)
        )
        mild = np.clip(values, predicted[0] - 5 * width[0], predicted[0] + 5 * width[0])
        self._profile.learn(slots, observation.window, mild, age)
        usual = self._usual.take(slots)
        root = np.sqrt(observation.values)
        self._usual[slots] = usual + np.maximum(self._usual_gain, 1 / (age + 1)) * (root - usual)
        self._age[slots] += 1

    def covers(self, slots: Slots) -> Bools:
        """Which subjects these windows judge well enough for longer ones to stay silent: old and, over the day, busy
        enough. By the hour a subject would be judged twice where its nights are calm."""
        is_busy = self._usual.take(slots) ** 2 >= _COVERED_CALLS
        is_covered: Bools = (self._age.take(slots) >= self._grace_windows) & is_busy
        return is_covered

    def read_factors(self, window: int) -> F64:
        """What the time makes of each one's usual level, a factor by slot; nan where that is not known."""
        if window not in self._factors:
            slots, usual = np.arange(len(self._age)), self._level[self._slowest]
            factor = _expect(usual + self._profile.read(slots, window)) / _expect(usual)
            factor = np.clip(factor, SEASON_LEAST, 1 / SEASON_LEAST)
            self._factors[window] = np.where(self._profile.are_known(window), factor, np.nan)
        return self._factors[window]

    def has_season(self, slot: int) -> bool:
        """Whether the time of day weighs at least half."""
        return self._profile.is_known(slot)

    def expect(self, slots: Slots, window: int, values: F64) -> None:
        """Make these values the level."""
        self._change()
        self._level[:, slots] = _stabilise(values) - self._profile.read(slots, window)
        self._running[:, slots] = 0

    def turn_season(self, hours: int) -> None:
        """The clocks show so many hours more than when the season was learnt: another time zone was set."""
        self._change()
        self._profile.turn(hours)

    def _change(self) -> None:
        """What was found of the state so far is of before."""
        self._judged = None
        self._factors.clear()

    def _judge(self, observation: Observation) -> tuple[F64, F64, F64, F64]:
        """Expectation, width, running statistics and ratios; kept from `score` for the `learn` that follows."""
        key = (observation.slots, observation.values, observation.loss, observation.window)
        if self._judged is not None:
            known, judged = self._judged
            is_same = all(one is two for one, two in zip(known[:3], key[:3], strict=True)) and known[3] == key[3]
            if is_same and not len(self._fresh(key[0])):
                return judged
        predicted, width = self._expect(observation)
        if observation.loss is not None:
            width = width * (1 + _LOSS_WIDTH * observation.loss)
        running = self._run(observation.slots, observation.values, predicted, width)
        judged = (predicted, width, running, self._weigh(observation.slots, running))
        self._judged = (key, judged)
        return judged

    def _fresh(self, slots: Slots) -> Slots:
        fresh: Slots = slots[self._age.take(slots) == 0]
        return fresh

    def _expect(self, observation: Observation) -> tuple[F64, F64]:
        """Expectation and width of its noise, levels x n."""
        slots = observation.slots
        season = self._profile.read(slots, observation.window)
        predicted = np.maximum(self._level.take(slots, axis=1) + season, 0.0)
        width = np.maximum(self._noise.take(slots, axis=1), self._plan.noise_min)
        return predicted, width * _unit(predicted, self._plan.relative_variance)

    def _run(self, slots: Slots, values: F64, predicted: F64, width: F64) -> F64:
        """The running statistics with this window, measures x n."""
        residual = (_stabilise(values) - predicted) / width
        kept, rows = self._running.take(slots, axis=1), self._rows
        running = np.empty_like(kept)
        own = rows[Statistic.MEAN]
        here = residual[self._of_level[own]] * self._sign[own]
        here = np.clip(here, -self._clip[own], self._clip[own])
        running[own] = self._keep[own] * kept[own] + (1 - self._keep[own]) * here
        own = rows[Statistic.LASTING]
        if len(own):
            ratio = np.log((values + 2) / (_restore(predicted) + 2))[self._of_level[own]] * self._sign[own]
            taken = np.clip(ratio, -self._clip[own], self._clip[own]) - self._span[own]
            running[own] = np.clip(kept[own] + taken, 0.0, _LASTING_MAX * self._clip[own])
        return running

    def _measure(self, running: F64) -> F64:
        """Heights of the running statistics, in noise widths of one window."""
        heights = running.copy()
        own = self._rows[Statistic.MEAN]
        heights[own] *= self._gain[own]
        return heights

    def _weigh(self, slots: Slots, running: F64) -> F64:
        """The rarest measure over its bar: above, below, x n."""
        ratios = self._tail.weigh(slots, self._measure(running)) / self._bar
        is_above = self._sign[:, 0] > 0
        return np.stack([ratios[is_above].max(axis=0), ratios[~is_above].max(axis=0)])

    def _need(self, slots: Slots, window: int) -> F64:
        """What a ratio has to reach now that something was reported: above, below, x n."""
        past = np.maximum(self._reported.take(slots, axis=1) * _REPORTED_RISE - 1, 0) * self._fade_reported(
            slots, window
        )
        need: F64 = 1 + np.maximum(past, self._plan.reported_opposite * past[::-1])
        return need

    def _tell(self, slots: Slots, window: int, ratios: F64) -> None:
        """Remember what crossed in this window."""
        is_reported = (ratios >= self._need(slots, window)) & (self._age.take(slots) >= self._grace_windows)
        faded = self._reported.take(slots, axis=1) * self._fade_reported(slots, window)
        self._reported[:, slots] = np.where(is_reported, np.maximum(ratios, faded), self._reported.take(slots, axis=1))
        self._reported_at[:, slots] = np.where(is_reported, window, self._reported_at.take(slots, axis=1))

    def _fade_reported(self, slots: Slots, window: int) -> F64:
        """What is left of what was reported: above, below, x n."""
        seconds = (window - self._reported_at.take(slots, axis=1)) * float(self.window_seconds)
        left: F64 = np.exp2(-np.minimum(seconds / self._plan.reported_half_life_seconds, 1_000))
        return left

    def _find_threshold(self, slots: Slots, predicted: F64, width: F64, is_above: Bools) -> F64:
        """What one window would have to show, by the first measure of its side; for people."""
        heights = self._tail.invert(slots, np.broadcast_to(self._bar, (len(self._bar), len(slots))))
        limits = []
        for sign in (1.0, -1.0):
            first = int((self._sign[:, 0] == sign).nonzero()[0][0])
            if self._plan.measures[first].statistic is Statistic.LASTING:
                limits.append(_restore(predicted) * np.exp(sign * self._span[first, 0]))
                continue
            kept = self._keep[first, 0] * self._running[first, slots]
            departure = (heights[first] / self._gain[first, 0] - kept) / (1 - self._keep[first, 0])
            limits.append(_restore(predicted + sign * np.maximum(departure, 0.0) * width))
        threshold: F64 = np.where(is_above, limits[0], limits[1])
        return threshold


def _stabilise(values: F64) -> F64:
    stabilised: F64 = 10 * np.arcsinh(np.sqrt((values + 0.375) / _SHAPE))
    return stabilised


def _expect(stabilised: F64) -> F64:
    """Of a level, one call at the least."""
    return np.maximum(_restore(np.maximum(stabilised, 0.0)), 1.0)


def _restore(stabilised: F64) -> F64:
    restored: F64 = np.maximum(_SHAPE * np.sinh(np.clip(stabilised, 0, 400) / 10) ** 2 - 0.375, 0.0)
    return restored


def _unit(predicted: F64, relative_variance: float) -> F64:
    """Noise of a window that expects this, against one that expects no call."""
    expected = _SHAPE * np.sinh(np.clip(predicted, 0, 400) / 10) ** 2
    unit: F64 = np.sqrt(1 / (1 + expected / _SHAPE) + relative_variance)
    return unit
