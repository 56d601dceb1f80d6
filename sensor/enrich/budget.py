"""Limits the time spent on a repeated reading: a share of a core in the long run, and a second of work at once.

A limit by count would starve a small host or stall a large one, because the cost of a reading grows with the host. The
saved second is for several services that start together. Each must be named at its first call: a call that is not named
in time is counted under the unknown service for good.

The cost is processor time. By the clock, a reading on a busy node would cost what other programs use, and one reading
could take all that is saved.
"""

import time
from collections.abc import Callable

from common.token_bucket import TokenBucket

SAVED_SECONDS_MAX = 1.0


class Budget:
    """Says when a reading may be made. Not thread-safe: its user holds a lock."""

    def __init__(
        self,
        *,
        clock: Callable[[], float],
        minimum_rest_seconds: float,
        core_share: float,
        used: Callable[[], float] = time.thread_time,
    ) -> None:
        """`clock` gives monotonic seconds, `used` the seconds that this thread ran."""
        self._clock, self._used = clock, used
        self._minimum_rest_seconds = minimum_rest_seconds
        self._next = float("-inf")
        self._saved_seconds = TokenBucket(core_share, SAVED_SECONDS_MAX, clock)

    @property
    def is_open(self) -> bool:
        return self._clock() >= self._next and self._saved_seconds.tokens > 0

    def run(self, reading: Callable[[], None]) -> None:
        """Makes the reading and takes its cost from what is saved."""
        before = self._used()
        try:
            reading()
        finally:
            self._next = self._clock() + self._minimum_rest_seconds
            self._saved_seconds.spend(self._used() - before)
