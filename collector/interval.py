"""When something is to be done again."""

import time
from collections.abc import Callable


class Interval:
    """Due once every `seconds`; the first time at once, or after the first interval with `is_late`."""

    def __init__(self, seconds: float, *, is_late: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        self._next = clock() + seconds if is_late else clock()

    def take(self) -> bool:
        """Whether it is due; if so, the next interval begins."""
        now = self._clock()
        if now < self._next:
            return False
        self._next = now + self._seconds
        return True
