"""Keeps the sensor's processor time within its budget by the one thing that can be had for less: heads sent up.

Each second it compares the processor time used with what the calls of that second allow. Above the budget, fewer heads
a second go up for what the kernel does not recognise (such calls are then counted under their service's `other` route);
well below it, more. Calls are counted in any case. Down at once by what is too much, up step by step, so that it
settles just below the budget.
"""

from dataclasses import dataclass
from typing import Final

INTERVAL_NS: Final = 1_000_000_000
# A budget is given for so many calls a second; fewer than these have as much.
BUDGET_CALLS: Final = 10_000
_LEAST_FACTOR: Final = 0.1
_UP: Final = 1.25
# Below this part of the budget there is room for more.
_COMFORT: Final = 0.7
# Fewer heads than this part of the limit are not what costs.
_HEADS_PART: Final = 0.25
# Seconds above the budget before anything is done: a burst of new things to learn is over by then.
_PATIENCE: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class GovernorSettings:
    """`core_share`: of one core, for 10,000 calls a second."""

    core_share: float
    heads_per_second: int
    floor_heads_per_second: int


class Governor:
    """Decides on heads a second. Pure: figures come in with `observe`."""

    __slots__ = (
        "_calls",
        "_cpu_ns",
        "_heads",
        "_seconds_over",
        "_settings",
        "_time_ns",
        "heads_per_second",
        "used_share",
    )

    def __init__(self, settings: GovernorSettings) -> None:
        self._settings = settings
        self._time_ns = self._cpu_ns = self._calls = self._heads = -1
        self._seconds_over = 0
        self.heads_per_second = settings.heads_per_second
        self.used_share = 0.0  # Of the budget, in the last second.

    @property
    def is_holding_back(self) -> bool:
        """Whether fewer heads go up than the settings allow."""
        return self.heads_per_second < self._settings.heads_per_second

    def is_due(self, now_ns: int) -> bool:
        """Whether a second has passed since the last `observe`."""
        return now_ns - self._time_ns >= INTERVAL_NS

    def observe(self, *, now_ns: int, cpu_ns: int, calls: int, heads: int) -> bool:
        """Takes totals since the start: processor time, calls, heads sent up. Says whether the limit changed."""
        before = self._time_ns, self._cpu_ns, self._calls, self._heads
        self._time_ns, self._cpu_ns, self._calls, self._heads = now_ns, cpu_ns, calls, heads
        seconds = (now_ns - before[0]) / 1e9
        if before[0] < 0 or seconds <= 0:
            return False
        share = (cpu_ns - before[1]) / 1e9 / seconds
        rate = (calls - before[2]) / seconds
        self.used_share = share / (self._settings.core_share * max(rate / BUDGET_CALLS, 1.0))
        return self._steer((heads - before[3]) / seconds)

    def _steer(self, heads_rate: float) -> bool:
        limit, settings = self.heads_per_second, self._settings
        self._seconds_over = self._seconds_over + 1 if self.used_share > 1 else 0
        if self._seconds_over >= _PATIENCE and heads_rate >= _HEADS_PART * limit:
            factor = max(_LEAST_FACTOR, 1 / self.used_share)
            self.heads_per_second = max(settings.floor_heads_per_second, int(limit * factor))
        elif self.used_share < _COMFORT and limit < settings.heads_per_second:
            self.heads_per_second = min(settings.heads_per_second, int(limit * _UP) + 1)
        return self.heads_per_second != limit
