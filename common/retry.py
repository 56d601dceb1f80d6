"""How long to wait before the next try of something that failed: longer after each failure, and drawn at random.

Without the draw, all who lost one server together would come back together. Source: Brooker, "Exponential backoff and
jitter", AWS Architecture Blog, 2015: "full jitter" is a `jitter` of 1, "equal jitter" one of 0.5.
"""

from collections.abc import Callable


class Backoff:
    """Of one thing that is tried again and again. Not thread-safe."""

    __slots__ = ("_draw", "_factor", "_first_seconds", "_jitter", "_longest_seconds", "failures")

    def __init__(
        self,
        *,
        first_seconds: float,
        longest_seconds: float,
        factor: float = 2.0,
        jitter: float = 0.0,
        draw: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """Each wait is `factor` times the one before. `jitter`: the part of it, 0 to 1, that is drawn; `draw` gives
        numbers in [0, 1)."""
        self._first_seconds, self._longest_seconds = first_seconds, longest_seconds
        self._factor, self._jitter, self._draw = factor, jitter, draw
        self.failures = 0  # In a row.

    def next_seconds(self, longest_seconds: float | None = None) -> float:
        """The wait after one more failure; `longest_seconds`: another bound for this one."""
        longest = self._longest_seconds if longest_seconds is None else longest_seconds
        # 2^32 first waits are past any longest one; the bound keeps the power a float.
        seconds = min(longest, self._first_seconds * self._factor ** min(self.failures, 32))
        self.failures += 1
        return seconds * (1.0 - self._jitter * (1.0 - self._draw()))

    def reset(self) -> None:
        """The last try was a success."""
        self.failures = 0
