"""The tail of each measure of each subject: how rare a height is, in nats.

The maxima of blocks of some hours follow a Gumbel law in the tail whatever the law of the single windows, if that is
not heavier than exponential in the transformed unit (Fisher and Tippett 1928; Gumbel 1958). Location and scale come
from the running mean and variance of the block maxima, so heavy-tailed subjects widen their own bar. The evidence of a
height is (height - location) / scale: exp(-evidence) is the expected number of blocks' maxima beyond it.
"""

import numpy as np
from numpy.typing import NDArray

from collector.anomaly.detectors.contract import F64, State
from collector.anomaly.detectors.plan import Plan, Statistic
from collector.anomaly.slots import Slots, grow

_SCALE = 0.7797  # Of the Gumbel law, in standard deviations: sqrt(6) / pi.
_EULER = 0.5772
_LASTING_MAXIMUM = 1.5  # Of a block, of who calls without pause: a silence of a few windows.
_LASTING_SPREAD = 0.5


class BlockTail:
    """Tails of `measures` x slots."""

    def __init__(self, plan: Plan, window_seconds: int) -> None:
        self._plan = plan
        self._block = max(1, plan.block_seconds // window_seconds)
        count = len(plan.measures)
        is_lasting = np.array([[measure.statistic is Statistic.LASTING] for measure in plan.measures])
        self._prior_mean = np.where(is_lasting, _LASTING_MAXIMUM, plan.prior_maximum)
        self._prior_square = np.where(is_lasting, _LASTING_SPREAD, 1.0) ** 2
        self._mean: F64 = np.zeros((count, 0))
        self._square: F64 = np.zeros((count, 0))
        self._highest: F64 = np.zeros((count, 0))
        self._blocks: F64 = np.zeros(0)

    def grow(self, capacity: int) -> None:
        """Make room for slots below `capacity`."""
        known = self._mean.shape[1]
        self._mean, self._square = grow(self._mean, capacity), grow(self._square, capacity)
        self._mean[:, known:] = self._prior_mean
        self._square[:, known:] = self._prior_square
        self._highest = grow(self._highest, capacity, -np.inf)
        self._blocks = grow(self._blocks, capacity)

    def weigh(self, slots: Slots, heights: F64) -> F64:
        """Evidence in nats of heights, measures x n."""
        location, scale = self._law(slots)
        evidence: F64 = (heights - location) / scale
        return evidence

    def invert(self, slots: Slots, evidence: F64) -> F64:
        """Heights of this evidence, measures x n."""
        location, scale = self._law(slots)
        heights: F64 = location + evidence * scale
        return heights

    def learn(self, slots: Slots, heights: F64, age: F64) -> None:
        """Take one window; `age` counts those before it. A block ends with a subject's own age."""
        self._highest[:, slots] = np.maximum(self._highest.take(slots, axis=1), heights)
        is_end = (age + 1) % self._block == 0
        if not is_end.any():
            return
        ended = slots[is_end]
        location, scale = self._law(ended)
        highest = np.minimum(self._highest.take(ended, axis=1), location + self._plan.maximum_clip * scale)
        self._blocks[ended] += 1
        gain = np.maximum(1 / (self._blocks.take(ended) + self._plan.prior_blocks), 1 / self._plan.memory_blocks)
        step = highest - self._mean.take(ended, axis=1)
        self._mean[:, ended] += gain * step
        self._square[:, ended] += gain * (step * step * (1 - gain) - self._square.take(ended, axis=1))
        self._highest[:, ended] = -np.inf

    def forget(self, slots: Slots) -> None:
        """Return evicted slots to the prior."""
        self._mean[:, slots] = self._prior_mean
        self._square[:, slots] = self._prior_square
        self._highest[:, slots] = -np.inf
        self._blocks[slots] = 0

    def dump(self) -> State:
        """State for a checkpoint."""
        return {
            "tail_mean": self._mean,
            "tail_square": self._square,
            "tail_highest": self._highest,
            "tail_blocks": self._blocks,
        }

    def load(self, state: State) -> None:
        """The inverse of `dump`."""
        self._mean, self._square = state["tail_mean"].astype(np.float64), state["tail_square"].astype(np.float64)
        self._highest, self._blocks = state["tail_highest"].astype(np.float64), state["tail_blocks"].astype(np.float64)

    def _law(self, slots: Slots) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        spread = np.maximum(np.sqrt(self._square.take(slots, axis=1)), self._plan.spread_min)
        scale = _SCALE * spread
        return self._mean.take(slots, axis=1) - _EULER * scale, scale
