"""How long to wait before the next try: exponential with full jitter, so that 10,000 sensors do not come back in one
second.

Source: Brooker, "Exponential backoff and jitter", AWS Architecture Blog, 2015.
"""

from collections.abc import Callable


class Backoff:
    """Delays that double from `first_seconds` to `longest_seconds`, each drawn between half of itself and itself."""

    def __init__(self, *, first_seconds: float, longest_seconds: float, random_source: Callable[[], float]) -> None:
        self._first_seconds = first_seconds
        self._longest_seconds = longest_seconds
        self._random_source = random_source
        self._failures_count = 0

    def next_seconds(self) -> float:
        """The next delay."""
        # 2^32 first delays are past any longest one; the bound keeps the power a float.
        ceiling = min(self._longest_seconds, self._first_seconds * 2.0 ** min(self._failures_count, 32))
        self._failures_count += 1
        return ceiling * (0.5 + 0.5 * self._random_source())

    def reset(self) -> None:
        """The last try was a success."""
        self._failures_count = 0
