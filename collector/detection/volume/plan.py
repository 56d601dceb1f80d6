"""What the level detector measures in windows of each length, and the tails that turn a height into rarity.

A measure is one running statistic of the residual on one side. `BlockTail` learns its tail for each subject. So the
bars here are in nats of rarity beyond the common maximum of a block of hours, not in units of the data.

The maxima of blocks of some hours follow a Gumbel law in the tail, whatever the law of single windows. It must not be
heavier than exponential in the transformed unit (Fisher and Tippett 1928; Gumbel 1958). Location and scale follow from
the running mean and variance of the block maxima. So heavy-tailed subjects widen their own bar. The evidence of a
height is (height - location) / scale: exp(-evidence) is the expected number of blocks' maxima beyond it.
"""

from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from collector.detection.framework.state import F64, DetectorState, Slots, column


class Statistic(Enum):
    """What a measure follows, in widths of the subject's noise unless said otherwise."""

    MEAN = "running mean of the residual"
    LASTING = "sum of log ratios to the expectation beyond a drift: how long it has been silent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One statistic on one side. `span`: windows of the running mean; of LASTING the drift, a log ratio."""

    statistic: Statistic
    is_above: bool
    bar: float  # Nats.
    span: float
    clip: float  # Of one window's residual: what one window may add.
    level: int = 0  # Index of Plan.half_lives_seconds.


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All measures of one window length."""

    half_lives_seconds: tuple[float, ...]  # Of the levels that residuals are taken from.
    measures: tuple[Measure, ...]
    block_seconds: int  # Whose maxima the tails are fitted to.
    memory_blocks: int
    prior_blocks: int
    prior_maximum: float  # Of a block, in noise widths.
    spread_min: float
    maximum_clip: float  # Nats: the most that a block teaches.
    noise_windows: int
    noise_min: float
    season_days: int  # Memory of the season.
    reported_half_life_seconds: int  # A subject is reported again for twice as much, and for less as this passes.
    reported_opposite: float  # Of that, what it takes on the other side: the way back from a peak is part of it.
    relative_variance: float  # Against Poisson's at rest: the share of the noise that large counts keep.


PLANS = {
    60: Plan(
        half_lives_seconds=(3_600.0, 1_500.0),
        measures=(
            Measure(statistic=Statistic.MEAN, is_above=True, bar=3.25, span=1, clip=50.0),
            Measure(statistic=Statistic.MEAN, is_above=True, bar=3.25, span=20, clip=2.5),
            Measure(statistic=Statistic.LASTING, is_above=False, bar=6.9, span=0.6, clip=1.0, level=1),
        ),
        block_seconds=3 * 3_600,
        memory_blocks=240,
        prior_blocks=8,
        prior_maximum=3.0,
        spread_min=0.2,
        maximum_clip=5.0,
        noise_windows=5_000,
        noise_min=0.8,
        relative_variance=0.17,
        season_days=5,
        reported_half_life_seconds=9_000,
        reported_opposite=0.0,
    ),
    300: Plan(
        half_lives_seconds=(1_500.0, 5_400.0),
        measures=(
            Measure(statistic=Statistic.MEAN, is_above=True, bar=6.6, span=2, clip=50.0, level=1),
            Measure(statistic=Statistic.MEAN, is_above=True, bar=3.25, span=4, clip=2.0, level=1),
            Measure(statistic=Statistic.MEAN, is_above=False, bar=3.84, span=2, clip=50.0, level=1),
            Measure(statistic=Statistic.MEAN, is_above=False, bar=3.25, span=4, clip=2.0),
        ),
        block_seconds=2 * 3_600,
        memory_blocks=240,
        prior_blocks=25,
        prior_maximum=2.0,
        spread_min=0.5,
        maximum_clip=16.0,
        noise_windows=3_000,
        noise_min=0.3,
        relative_variance=0.05,
        season_days=5,
        reported_half_life_seconds=3_600,
        reported_opposite=2.0,
    ),
    3_600: Plan(
        half_lives_seconds=(3_600.0,),
        measures=(
            Measure(statistic=Statistic.MEAN, is_above=True, bar=1.68, span=1, clip=50.0),
            Measure(statistic=Statistic.MEAN, is_above=False, bar=1.68, span=1, clip=50.0),
        ),
        block_seconds=12 * 3_600,
        memory_blocks=240,
        prior_blocks=10,
        prior_maximum=3.0,
        spread_min=0.8,
        maximum_clip=8.0,
        noise_windows=1_000,
        noise_min=0.3,
        relative_variance=0.03,
        season_days=10,
        reported_half_life_seconds=4 * 3_600,
        reported_opposite=0.3,
    ),
}

# Of services: sums over endpoints are calmer than each, so one window says more, and what rises by little is reported.
SERVICE_PLANS = {
    300: replace(
        PLANS[300],
        half_lives_seconds=(5_400.0,),
        measures=(
            Measure(statistic=Statistic.MEAN, is_above=True, bar=5.2, span=1, clip=50.0),
            Measure(statistic=Statistic.MEAN, is_above=True, bar=5.2, span=4, clip=3.0),
            Measure(statistic=Statistic.MEAN, is_above=False, bar=6.5, span=1, clip=50.0),
        ),
        # What the first days teach, in which the hours of the day are not known yet, is to fade in days.
        memory_blocks=36,
        prior_blocks=6,
        prior_maximum=2.5,
        noise_windows=600,
        noise_min=1.0,  # Poisson's, and 4 % of a service that is called much: its limit is a quarter more at the least.
    ),
    3_600: PLANS[3_600],
}


_SCALE = 0.7797  # Of the Gumbel law, in standard deviations: sqrt(6) / pi.
_EULER = 0.5772
_LASTING_MAXIMUM = 1.5  # Of a block, of who calls without pause: a silence of a few windows.
_LASTING_SPREAD = 0.5


class BlockTail(DetectorState):
    """Tails of `measures` x slots."""

    _mean = column(np.float64, "measures", fill="prior_mean")
    _square = column(np.float64, "measures", fill="prior_square")
    _highest = column(np.float64, "measures", fill=-np.inf)
    _blocks = column(np.float64)

    def __init__(self, plan: Plan, window_seconds: int) -> None:
        is_lasting = np.array([[measure.statistic is Statistic.LASTING] for measure in plan.measures])
        super().__init__(
            measures=len(plan.measures),
            prior_mean=np.where(is_lasting, _LASTING_MAXIMUM, plan.prior_maximum),
            prior_square=np.where(is_lasting, _LASTING_SPREAD, 1.0) ** 2,
        )
        self._plan = plan
        self._block = max(1, plan.block_seconds // window_seconds)

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

    def _law(self, slots: Slots) -> tuple[F64, F64]:
        spread = np.maximum(np.sqrt(self._square.take(slots, axis=1)), self._plan.spread_min)
        scale = _SCALE * spread
        return self._mean.take(slots, axis=1) - _EULER * scale, scale
