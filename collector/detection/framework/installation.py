"""The installation's bar: how far past its own threshold a subject must be, so that false alarms a day stay in a
budget.

Fifty thousand pairs in 10 s windows are 4e8 tests a day. No threshold on a single series keeps a budget of two alerts a
day. So crossings of all subjects of one detector are pooled. Episodes come at a rate, and their excess over the
threshold is exponential in the tail (peaks over threshold with shape 0; Pickands 1975). Scores are doublings or nats,
so a Pareto tail of the counts is exponential here. The height that `target` episodes a day pass is

    1 + mean excess * ln(rate / target)

Rate and mean excess are learned over `MEMORY_DAYS`, on priors: a rate that grows with the number of live subjects, and
a mean excess. The same is asked of the tail of the tail, the `_TOP` highest episodes over the lowest of them (as in
Hill 1975). Deployments stand far above the noise that crosses otherwise, and are normal where there are many. An
installation with few crossings has a bar of 1. The order of firing matters only by what the estimates have seen.
"""

import math

from collector.core.kinds import PLANS, Sensitivity, is_sent_at
from collector.detection.framework.state import DetectorState, number, record

MEMORY_DAYS = 14
EPISODE_SECONDS = 3_600  # A subject that crosses again within it is in the same episode.
_PRIOR_DAYS = 1.0  # Weight of the prior rate.
_PRIOR_RATE = 0.02  # Episodes a day whatever the size,
_PRIOR_RATE_SUBJECT = 2e-4  # and of each live subject.
_PRIOR_EPISODES = 3.0  # Weight of the prior excess.
_PRIOR_EXCESS = 0.5
_EXCESS_MAX = 20.0  # What one episode teaches.
_TOP = 10
_DAY_SECONDS = 86_400


class InstallationBar(DetectorState):
    """Rate and excess of one detector's episodes."""

    held_back_count = number(0)  # Values past a threshold that the normal level does not report.
    _days = number(0.0)
    _episodes = number(0.0)
    _excess = number(0.0)  # Sum.
    _time = number(0)
    _open = record(dict[int, tuple[int, float]])  # Subject: when it crossed last, its excess.
    _highest = record(list[tuple[float, int, int]])  # Excess, time and subject of the highest episodes, descending.

    def __init__(self, *, allowance: float = 1.0) -> None:
        """`allowance`: times the episodes a day of each level but the quietest."""
        super().__init__()
        self._allowance = allowance

    def admit(self, subject: int, score: float, time: int, live_count: int) -> Sensitivity | None:
        """The quietest level at which this crossing may become a signal, None where it may at none; remembers it either
        way. `score` >= 1, `time` in unix seconds."""
        self._age(time)
        excess = min(score - 1, _EXCESS_MAX)
        own = self._open.pop(subject, None)
        known = own[1] if own is not None else 0.0
        others, rest = self._episodes - (own is not None), self._excess - known
        opened = own[0] if own is not None else time
        self._highest = [
            entry
            for entry in self._highest
            if entry[1] > time - MEMORY_DAYS * _DAY_SECONDS and (entry[1:] != (opened, subject) or own is None)
        ]
        found = next(
            (
                level
                for level in PLANS
                if score >= self._bar(max(others, 0.0), max(rest, 0.0), live_count, self._find_target(level))
                and score >= self._bar_of_top(self._find_target(level))
            ),
            None,
        )
        self._highest = sorted([*self._highest, (max(excess, known), time, subject)], reverse=True)[: 2 * _TOP]
        self._episodes += own is None
        self._excess += max(excess - known, 0.0)
        self._open[subject] = (time, max(excess, known))
        self.held_back_count += found is None or not is_sent_at(found, Sensitivity.NORMAL)
        return found

    def start(self, time: int) -> None:
        """Exposure begins; later calls only let it grow."""
        self._age(time)

    def _age(self, time: int) -> None:
        if self._time == 0:
            self._time = time
        elapsed = max(0, time - self._time) / _DAY_SECONDS
        fade = 0.5 ** (elapsed / MEMORY_DAYS)
        self._days = self._days * fade + elapsed
        self._episodes *= fade
        self._excess *= fade
        self._time = max(self._time, time)
        over = [subject for subject, (at, _) in self._open.items() if at < self._time - EPISODE_SECONDS]
        for subject in over:
            del self._open[subject]

    def _find_target(self, level: Sensitivity) -> float:
        """Episodes a day that may pass at a level."""
        return PLANS[level].episodes_a_day * (1.0 if level is Sensitivity.QUIET else self._allowance)

    def _bar(self, episodes: float, excess: float, live_count: int, target: float) -> float:
        prior = _PRIOR_RATE + _PRIOR_RATE_SUBJECT * live_count
        rate = (prior * _PRIOR_DAYS + episodes) / (_PRIOR_DAYS + self._days)
        mean = (_PRIOR_EXCESS * _PRIOR_EPISODES + excess) / (_PRIOR_EPISODES + episodes)
        return 1 + mean * math.log(max(1.0, rate / target))

    def _bar_of_top(self, target: float) -> float:
        top = [excess for excess, _, _ in self._highest[:_TOP]]
        if len(top) < 3:
            return 1.0
        mean = (_PRIOR_EXCESS + sum(top) - len(top) * top[-1]) / len(top)
        count = target * (_PRIOR_DAYS + min(self._days, MEMORY_DAYS))
        return 1 + top[-1] + mean * math.log(max(1.0, len(top) / count))
