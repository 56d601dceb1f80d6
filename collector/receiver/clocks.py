"""Compares the collector's clock with those of the sensors that are connected.

A batch whose rows lie too far from the collector's time is refused, and its sensor drops it for good
(collector/receiver/columns.py). That is right for a sensor with a wrong clock, and wrong for a collector with one. So
where most sensors disagree with the collector by more than a day, its clock is taken for the wrong one: it takes no
batch and asks for each again. With one sensor nobody can say whose clock is wrong, so nothing is dropped.

A sensor says its time in its Hello and in its health. The time since then is measured by a clock that nobody sets, so
that a correction of either clock is seen at once.
"""

import time
from collections.abc import Callable
from typing import Final

from collector.receiver.columns import FUTURE_LIMIT_SECONDS

# Rows of a sensor that is right are refused by a collector that is this much slow. One that is this much fast deletes
# them too early.
OFFSET_LIMIT_SECONDS: Final = float(FUTURE_LIMIT_SECONDS)
# 2024 to 2100. A clock that says another year was never set, and says nothing about the collector's.
_PLAUSIBLE_UNIX_NS: Final = range(1_704_067_200 * 10**9, 4_102_444_800 * 10**9)
_LOOK_SECONDS: Final = 1.0  # Between two comparisons: each looks at all sensors.


class SensorClocks:
    """What the connected sensors say the time is. Thread-safe: each change is one step of a dict."""

    def __init__(self, clock: Callable[[], float], steady_clock: Callable[[], float] = time.monotonic) -> None:
        """`clock`: the collector's, in unix seconds. `steady_clock` is never set."""
        self._clock = clock
        self._steady_clock = steady_clock
        self._starts: dict[str, tuple[object, float]] = {}  # By node: who said it, and its unix time at steady 0.
        self._fault = ""
        self._looked_at = float("-inf")

    def record(self, node: str, stream: object, unix_ns: int) -> None:
        """The sensor of a node says what time it is; 0 says nothing, and neither does a clock that was never set."""
        if unix_ns in _PLAUSIBLE_UNIX_NS:
            is_new = node not in self._starts
            self._starts[node] = stream, unix_ns / 1e9 - self._steady_clock()
            if is_new:
                self._looked_at = float("-inf")

    def forget(self, node: str, stream: object) -> None:
        """The stream ended; what another one of the node said stays."""
        known = self._starts.get(node)
        if known is not None and known[0] is stream:
            del self._starts[node]

    def find_fault(self) -> str:
        """Why the collector's clock is taken for wrong, in one sentence; empty where it is not."""
        now = self._steady_clock()
        if now - self._looked_at >= _LOOK_SECONDS:
            self._looked_at = now
            self._fault = self._compare(now)
        return self._fault

    def _compare(self, steady: float) -> str:
        now = self._clock()
        offsets = sorted(start + steady - now for _, start in list(self._starts.values()))
        wrong = [offset for offset in offsets if abs(offset) > OFFSET_LIMIT_SECONDS]
        if 2 * len(wrong) <= len(offsets):
            return ""
        median = wrong[len(wrong) // 2]
        sensors = f"{len(wrong)} of {len(offsets)} connected sensors"
        return (
            f"The collector's clock is {abs(median) / 86_400:,.1f} days {'behind' if median > 0 else 'ahead of'} "
            f"{sensors}, so it takes no rows. Set the clock of its host; with one sensor see which clock is wrong."
        )
