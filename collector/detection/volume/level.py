"""The contract of the detectors of a level: arrays in, arrays out, columns by slot.

After river's `score_one` and `learn_one`: `score` scores an observation before it is learned and changes nothing. 0 is
normal, 1 is the detector's own threshold, and higher is rarer, without bound. The score is 0 in the grace period.
`learn` takes the same observation into the state. Both are deterministic, never raise on finite numbers, and cost about
0.02–0.1 us a row and operation.
"""

from abc import abstractmethod
from dataclasses import dataclass

from collector.detection.framework.state import F64, Bools, DetectorState, Slots

SEASON_LEAST = 0.2  # Factor of the time: no less, and no more than one over it, is believed.


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One window of some subjects: n rows."""

    slots: Slots  # Distinct.
    window: int  # Start // window_seconds.
    values: F64  # Calls, or evidence made of them (docs/internals/detection.md); >= 0.
    floor: F64  # Level that peers or a parent make ordinary; 0 where they say nothing.
    age: int  # Windows since the installation's first.
    loss: F64 | None = None  # Share of the calls that was lost, which widens the band; None: nothing was.
    season: F64 | None = None  # Factor of the time to a parent's usual level; nan: not known; None: of none.


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Scores of an observation: n rows."""

    score: F64  # 0 = ordinary, 1 = threshold.
    is_above: Bools
    expected: F64  # In the unit of values.
    threshold: F64
    is_ongoing: Bools | None = None  # Past the threshold, but reported already; where a detector remembers that.


class LevelDetector(DetectorState):
    """Levels of subjects in windows of one length."""

    window_seconds: int

    @abstractmethod
    def score(self, observation: Observation) -> Verdict:
        """Compare with what is expected; changes nothing."""

    @abstractmethod
    def learn(self, observation: Observation) -> None:
        """Take into the state."""

    @abstractmethod
    def expect(self, slots: Slots, window: int, values: F64) -> None:
        """A person says these values are normal: make them so at once."""
