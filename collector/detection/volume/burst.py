"""Detects bursts of sparse subjects (pairs, consumers): a window against the subject's own past, its peers and a prior.

The state is one number a subject: the burst level, a maximum that fades by half in three days. It does not fade further
while the subject is silent, so a subject that was away for weeks is not unknown. Where a parent has a season there is a
second maximum, of evidence over the season's factor, kept as its ratio to the first. The expectation is the lesser of
the first and of the second times the factor. So a season allows nothing that was not seen, and even or nightly callers
are expected as such.

The score is the distance in doublings, log2((value + c) / (level + c)), over the doublings that are still normal. `c`
keeps small counts quiet. With the 10 s prior of 12 and c = 8, a subject that never called needs 32 calls on new objects
in a window.

Why a maximum and not mean + k sigma: calls of one consumer are heavy-tailed bursts, which a variance does not describe.
The largest burst of the last days bounds the next within a factor, whatever the distribution. How often the factor is
crossed is measured over the whole installation (collector/detection/framework/installation.py), which sets the final
bar.
"""

import numpy as np

from collector.detection.framework.state import F64, Bools, Slots, column
from collector.detection.volume.level import SEASON_LEAST, LevelDetector, Observation, Verdict

GRACE_WINDOWS = 2  # Of the installation, not of a subject: a newcomer later on is judged by its peers and the prior.
DOUBLINGS = 1.0  # Over the level is the threshold.
NEWCOMER_WINDOWS = 3  # Of a subject: its first windows teach whole, for the first is rarely full.
GRACE_CLIP = 3.5  # Times the prior: the most that the grace period may teach.
_CREEP = 1.01  # What an alarming window may add to the level: twice in 70 windows, then it is the new normal.
_CREEP_SEASON = 1.25  # The same where only the season makes it alarming: a job that came to run at night is soon known.
_ALMOST = 0.999
_UNKNOWN = 0.5  # Factor that a season is taken to have. What is learnt of few days is half shrunk away.
_LOSS_WIDTH = 2.0  # Doublings a lost share of 1 would add.
_DAY_SECONDS = 86_400
_ABSENT = 1.0  # Half-lives that a level fades while nothing comes: silence teaches nothing.


class BurstDetector(LevelDetector):
    """`prior_level` is the evidence that a window of an unknown subject may hold and be normal."""

    _level = column(np.float64)
    _window = column(np.int32)
    _learnt = column(np.uint8)  # Windows, up to those of a newcomer.
    _ratio = column(np.float16, "seasons")  # Of the second maximum to the first.

    def __init__(
        self,
        *,
        window_seconds: int,
        prior_level: float,
        half_life_seconds: int = 3 * _DAY_SECONDS,
        has_season: bool = False,
    ) -> None:
        """`has_season`: whether observations may have one."""
        super().__init__(seasons=1 if has_season else 0)
        self.window_seconds = window_seconds
        self.prior_level = prior_level
        self._offset = prior_level * 2 / 3
        # What has a score of 1 or more has at the least so much; a little less, for figures are rounded.
        self.least_evidence = _ALMOST * ((prior_level + self._offset) * 2**DOUBLINGS - self._offset)
        self.has_season = has_season
        self._half_life = half_life_seconds / window_seconds
        self._read: tuple[Slots, int, F64] | None = None  # Slots and window that `level` read last, and what it gave.

    def level(self, slots: Slots, window: int) -> F64:
        """The customary burst of each, faded to `window`. Nobody changes what it gives: of the same array of slots it
        is asked several times a window."""
        if self._read is None or self._read[0] is not slots or self._read[1] != window:
            age = np.clip((window - self._window.take(slots)) / self._half_life, 0.0, _ABSENT)
            self._read = slots, window, self._level.take(slots) * np.exp2(-age)
        return self._read[2]

    def expected(self, slots: Slots, window: int, season: F64 | None) -> F64:
        """The customary burst of each at a time with these factors."""
        level = self.level(slots, window)
        if season is None:
            return level
        expected: F64 = level * np.fmin(self._ratio[0].take(slots) * season, 1.0)
        return expected

    def usual(self, slots: Slots, window: int) -> F64 | None:
        """The customary burst of each at a time that is as all times are; None without a season."""
        return self.level(slots, window) * self._ratio[0].take(slots) if self.has_season else None

    def find_least(self, slots: Slots, window: int, season: F64 | None = None) -> F64:
        """The same of each of `slots`, by its own customary burst."""
        level = np.maximum(self.expected(slots, window, season), self.prior_level)
        least: F64 = _ALMOST * ((level + self._offset) * 2**DOUBLINGS - self._offset)
        return least

    def is_new(self, slots: Slots) -> Bools:
        """Which were seen in few windows so far."""
        return self._learnt.take(slots) < NEWCOMER_WINDOWS

    def score(self, observation: Observation) -> Verdict:
        """Only ever above; a subject that falls silent is not odd here."""
        level = self._ordinary(observation)
        width = DOUBLINGS if observation.loss is None else DOUBLINGS + _LOSS_WIDTH * observation.loss
        doublings = np.log2((observation.values + self._offset) / (level + self._offset))
        score = np.maximum(doublings / width, 0.0)
        if observation.age < GRACE_WINDOWS:
            score = np.zeros_like(score)
        threshold = (level + self._offset) * 2**width - self._offset
        return Verdict(score=score, is_above=np.ones(len(score), np.bool_), expected=level, threshold=threshold)

    def learn(self, observation: Observation) -> None:
        """Take one window; subjects that were not called need no row."""
        if not len(observation.slots):
            return
        slots, window, values = observation.slots, observation.window, observation.values
        ordinary = self._ordinary(observation)
        limit = (ordinary + self._offset) * 2**DOUBLINGS - self._offset
        learnt = np.where((values >= limit) & ~self.is_new(slots), ordinary * self._find_creep(observation), values)
        if observation.age < GRACE_WINDOWS:
            learnt = np.minimum(values, self.prior_level * GRACE_CLIP)
        self._raise(slots, window, learnt, observation.season)
        self._learnt[slots] = np.minimum(self._learnt.take(slots), NEWCOMER_WINDOWS - 1) + 1

    def expect(self, slots: Slots, window: int, values: F64) -> None:
        """Make these values the customary burst."""
        self._raise(slots, window, values, np.full(len(slots), SEASON_LEAST))  # At any time.

    def forget(self, slots: Slots) -> None:
        super().forget(slots)
        self._read = None

    def _ordinary(self, observation: Observation) -> F64:
        own = self.expected(observation.slots, observation.window, observation.season)
        return np.maximum(np.maximum(own, observation.floor), self.prior_level)

    def _find_creep(self, observation: Observation) -> F64 | float:
        if observation.season is None:
            return _CREEP
        level = np.maximum(self.level(observation.slots, observation.window), self.prior_level)
        is_alarming = observation.values >= (level + self._offset) * 2**DOUBLINGS - self._offset
        return np.where(is_alarming, _CREEP, _CREEP_SEASON)

    def _raise(self, slots: Slots, window: int, values: F64, season: F64 | None) -> None:
        """Both maxima, with these values in them."""
        faded = self.level(slots, window)
        level = np.maximum(faded, values)
        if self.has_season:
            # Where it is not known, all is taken to come at a still hour: it binds nobody until days have passed.
            factor = _UNKNOWN if season is None else np.where(np.isnan(season), _UNKNOWN, season)
            scaled = np.maximum(faded * self._ratio[0].take(slots), values / factor)
            self._ratio[0, slots] = scaled / np.maximum(level, 1e-9)
        self._level[slots] = level
        self._window[slots] = window
        self._read = None
