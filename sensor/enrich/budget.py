"""A limit on the time spent on a repeated reading: after one that took t seconds the next waits 20 t, so at most 5 %
of a core goes there.

A limit by count would either starve a small host or stall a large one; the cost of a reading grows with the host.
"""

from collections.abc import Callable

REST_PER_COST = 20.0


class Budget:
    """Says when a reading may be made. Not thread-safe: its user holds a lock."""

    def __init__(self, *, clock: Callable[[], float], minimum_rest_seconds: float) -> None:
        """`clock` gives monotonic seconds."""
        self._clock = clock
        self._minimum_rest_seconds = minimum_rest_seconds
        self._next = float("-inf")

    @property
    def is_open(self) -> bool:
        return self._clock() >= self._next

    def run(self, reading: Callable[[], None]) -> None:
        """Makes the reading and closes the budget for as long as it costs."""
        start = self._clock()
        try:
            reading()
        finally:
            end = self._clock()
            self._next = end + max(self._minimum_rest_seconds, REST_PER_COST * (end - start))
