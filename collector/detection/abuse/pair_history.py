"""What pairs did lately: calls, and steps from one numbered object to the next.

`Walks` counts steps: of a pair's calls to numbered objects, how many went to the number right after or before the last
one. The sensors count these steps, and the numbers stay there. A count begins with a pair's first step and fades over
an hour. Steps are evidence for an alert that something else raised, because people read lists in order too.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from collector.alerting.alert import Signal
from collector.detection.abuse.sums import FadingSums
from collector.detection.framework.detector import Detector
from collector.detection.framework.rows import Events
from collector.detection.framework.state import F64, Slots, column
from collector.detection.framework.subject_index import SubjectIndex

HORIZONS = (60, 600, 3_600, 86_400, 604_800)  # Seconds.


class PairCalls(Detector):
    """Fading sums of the calls of each pair, which several detectors use as a weight. Reports nothing itself."""

    name = "abuse.pair_calls"
    parts = ("sums",)

    def __init__(self, subjects: SubjectIndex) -> None:
        super().__init__()
        self.sums = FadingSums(*HORIZONS)
        self.made: F64 = np.zeros(0)  # Calls of the batch's pairs, in the order of `events.by_pair`;
        self.touched: F64 = np.zeros((len(HORIZONS), 0))  # their sums.
        subjects.pairs.follow(self.sums)

    def feed(self, events: Events) -> Sequence[Signal]:
        self.made = events.by_pair.sum(events.calls)
        self.touched = self.sums.add(events.by_pair.slots, self.made, events.time)
        return ()


HORIZON_SECONDS: Final = 3_600
NUMBERS_MIN: Final = 20  # Calls, before anything is called a walk.
SHARE_MIN: Final = 0.8  # Of them that are steps. Ids that rows were deleted from have gaps.


class Walks(Detector):
    """12 bytes a pair. Reports nothing itself."""

    name = "abuse.walks"
    _sums = column(np.float32, 2)  # Numbers, steps.
    _at = column(np.uint32)  # When they were brought up to date, unix seconds.

    def __init__(self, subjects: SubjectIndex) -> None:
        super().__init__()
        subjects.pairs.follow(self)

    def feed(self, events: Events) -> Sequence[Signal]:
        batch, time = events.batch, events.time
        numeric = events.read(batch.object_numeric_calls)
        if not np.count_nonzero(numeric):
            return ()
        slots = events.by_pair.slots
        numbers = events.by_pair.sum(numeric.astype(np.float64))
        steps = events.by_pair.sum(events.read(batch.object_monotonic_steps).astype(np.float64))
        is_counted = (steps > 0) | ((numbers > 0) & (self._sums[1].take(slots) > 0))
        if np.count_nonzero(is_counted):
            slots = slots[is_counted]
            self._sums[:, slots] = self._read(slots, time) + np.stack([numbers[is_counted], steps[is_counted]])
            self._at[slots] = np.maximum(self._at.take(slots), np.uint32(time))
        return ()

    def describe(self, pair: int, time: int) -> str:
        """What the pair in this slot walked lately, a clause; empty where it does not walk."""
        if not self._sums[1, pair]:
            return ""
        numbers, steps = self._read(np.array([pair]), time)[:, 0].tolist()
        if numbers < NUMBERS_MIN or steps < SHARE_MIN * numbers:
            return ""
        return f"{steps:,.0f} of {numbers:,.0f} calls went to the number right after or before the last one"

    def _read(self, slots: Slots, time: int) -> F64:
        """Both sums at `time`; what came late is as fresh as the newest."""
        age = np.maximum(time - self._at.take(slots).astype(np.int64), 0)
        faded: F64 = self._sums.take(slots, axis=1).astype(np.float64) * np.exp(-age / HORIZON_SECONDS)
        return faded
