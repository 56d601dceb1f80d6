"""When a ring must be read: before it is half full, past which the kernel rations what goes in.

Records that are read once a second cost a third less than the same read twice: what a batch takes is mostly that the
process has to wake, and finds its caches taken by others. So how fast the ring fills says whether it can wait.
"""

from typing import Final

# With less than this part it is not worth a reading, whatever comes.
_LEAST_PART: Final = 8
# Looks that are closer together than that say little of the rate.
_APART_NS: Final = 50_000_000
_PAUSE_NS: Final = 200_000_000


class Filling:
    """How one ring of `size_bytes` fills. Not thread-safe."""

    __slots__ = ("_before_bytes", "_before_ns", "_least_bytes", "_limit_bytes", "_rate")

    def __init__(self, size_bytes: int) -> None:
        self._limit_bytes = size_bytes // 2
        self._least_bytes = size_bytes // _LEAST_PART
        self._rate = 0.0  # Bytes a nanosecond.
        self._before_bytes = 0  # At the last look that counted.
        self._before_ns = 0

    def is_due(self, pending_bytes: int, now_ns: int, ahead_ns: int) -> bool:
        """Whether it would be half full before somebody looks again, in `ahead_ns`."""
        passed_ns = now_ns - self._before_ns
        if passed_ns >= _APART_NS:
            # Of a longer pause nobody knows in which part of it they came.
            self._rate = max(0, pending_bytes - self._before_bytes) / min(passed_ns, _PAUSE_NS)
            self._before_bytes, self._before_ns = pending_bytes, now_ns
        return pending_bytes >= self._least_bytes and pending_bytes + self._rate * ahead_ns >= self._limit_bytes

    def note_read(self, pending_bytes: int) -> None:
        """So much is left after it was read."""
        self._before_bytes = pending_bytes
