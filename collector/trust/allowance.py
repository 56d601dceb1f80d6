"""How many failed tries an address has: a bucket of them that fills again, and one for all addresses together.

A token has 256 random bits, so this keeps nobody from guessing one; it keeps who tries from costing anything.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

HOST_FAILURES: Final = 10
HOST_SECONDS: Final = 6.0  # One more after so many.
ALL_FAILURES: Final = 300
ALL_SECONDS: Final = 0.2
HOSTS_LIMIT: Final = 4_096


@dataclass(slots=True)
class _Bucket:
    left: float
    at: float


class FailureAllowance:
    """`find_wait` before a try, `spend` after one that failed."""

    def __init__(self, clock: Callable[[], float]) -> None:
        """`clock` gives seconds that do not go back."""
        self._clock = clock
        self._hosts: OrderedDict[str, _Bucket] = OrderedDict()
        self._all = _Bucket(ALL_FAILURES, clock())

    def find_wait(self, host: str) -> float:
        """Seconds until the address may try again; 0 where it may now."""
        known = self._hosts.get(host)
        waits = [_wait(self._fill(self._all, ALL_FAILURES, ALL_SECONDS), ALL_SECONDS)]
        if known is not None:
            waits.append(_wait(self._fill(known, HOST_FAILURES, HOST_SECONDS), HOST_SECONDS))
        return max(waits)

    def spend(self, host: str) -> None:
        """A try that failed."""
        bucket = self._hosts.setdefault(host, _Bucket(HOST_FAILURES, self._clock()))
        self._hosts.move_to_end(host)
        if len(self._hosts) > HOSTS_LIMIT:
            self._hosts.popitem(last=False)
        self._fill(bucket, HOST_FAILURES, HOST_SECONDS).left -= 1
        self._fill(self._all, ALL_FAILURES, ALL_SECONDS).left -= 1

    def _fill(self, bucket: _Bucket, most: float, seconds: float) -> _Bucket:
        now = self._clock()
        bucket.left = min(most, bucket.left + (now - bucket.at) / seconds)
        bucket.at = now
        return bucket


def _wait(bucket: _Bucket, seconds: float) -> float:
    return max(0.0, (1.0 - bucket.left) * seconds)
