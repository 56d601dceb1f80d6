"""A token bucket: a limit on how much is done, as a rate in the long run and as a burst at once.

The bucket gets `rate` tokens a second and holds at most `burst`. In t seconds, `take` gives at most `burst + rate * t`.
A fixed window of a second or a minute would allow twice its amount around the moment at which it begins anew.

Source: RFC 2697, "A Single Rate Three Color Marker", whose committed burst this is.
"""

import math
import threading
from collections.abc import Callable
from typing import Final, Generic, TypeVar

from common.bounded import BoundedDict

K = TypeVar("K")

# Events of several processors come a little out of order. A clock that goes back by more than this was set back.
LATE_SECONDS: Final = 60.0


class TokenBucket:
    """Starts full. Not thread-safe."""

    __slots__ = ("_at", "_burst", "_clock", "_rate", "_tokens")

    def __init__(self, rate: float, burst: float, clock: Callable[[], float], *, tokens: float | None = None) -> None:
        """`clock` gives seconds. `tokens`: what the bucket starts with, which may be more than it holds later."""
        self._rate, self._burst, self._clock = rate, burst, clock
        self._tokens = burst if tokens is None else tokens
        self._at = clock()

    @property
    def tokens(self) -> float:
        """How many may be taken now; below 0 where more was spent than there was."""
        now = self._clock()
        elapsed = now - self._at
        if elapsed > 0 or elapsed < -LATE_SECONDS:
            self._at = now
        if elapsed > 0 and self._tokens < self._burst:
            self._tokens = min(self._burst, self._tokens + self._rate * elapsed)
        return self._tokens

    def take(self, count: float = 1.0) -> bool:
        """Takes so many tokens where there are as many; whether it did."""
        is_enough = self.tokens >= count
        if is_enough:
            self._tokens -= count
        return is_enough

    def spend(self, count: float = 1.0) -> None:
        """Takes so many tokens whether they are there or not: for a cost that is known afterwards."""
        self._tokens = self.tokens - count

    def find_wait(self, count: float = 1.0) -> float:
        """Seconds until `take` gives so many, 0 where it gives them now; infinite where it never does."""
        missing = count - self.tokens
        if missing <= 0:
            return 0.0
        return missing / self._rate if self._rate and count <= self._burst else math.inf

    def limit(self, rate: float, burst: float) -> None:
        """A new rate and burst, from now on; tokens beyond the new burst are lost."""
        self._tokens = min(self.tokens, burst)
        self._rate, self._burst = rate, burst


class TokenBuckets(Generic[K]):
    """One for each key, in bounded memory: past it the least recently used one is forgotten. Thread-safe."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float], *, keys_max: int) -> None:
        """As TokenBucket, at most so many."""
        self._rate, self._burst, self._clock = rate, burst, clock
        self._lock = threading.Lock()
        self._buckets: BoundedDict[K, TokenBucket] = BoundedDict(keys_max)

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, key: K) -> float:
        """Takes one where there is one. 0 where it did, else the seconds until there is one."""
        with self._lock:
            bucket = self._buckets.use(key)
            if bucket is None:
                self._buckets[key] = bucket = TokenBucket(self._rate, self._burst, self._clock)
            return 0.0 if bucket.take() else bucket.find_wait()
