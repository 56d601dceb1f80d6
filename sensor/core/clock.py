"""The sensor's only clock: converts kernel monotonic nanoseconds to unix nanoseconds.

The kernel stamps packets with CLOCK_MONOTONIC (bpf_ktime_get_ns), which never jumps. The wall clock does jump. So unix
time is `monotonic + offset`, and `check` measures the offset again.

A change of the offset of more than one second is a *clock step*: somebody set the clock, or a virtual machine was
resumed. It starts a new clock segment, which every batch names, so that nobody compares times across it. Smaller
changes are the slewing of NTP and are followed silently.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

STEP_THRESHOLD_NS: Final = 1_000_000_000
# The bracket of the narrowest of a few readings bounds the error of the offset: a preempted reading is thrown away.
OFFSET_READINGS: Final = 3

NanosecondSource = Callable[[], int]

_NS: Final = 1_000_000_000


class Clock:
    """Unix time derived from the monotonic clock, with detection of clock steps. Sources are injected for tests."""

    def __init__(
        self, *, monotonic_source: NanosecondSource = time.monotonic_ns, unix_source: NanosecondSource = time.time_ns
    ) -> None:
        self._monotonic_source = monotonic_source
        self._unix_source = unix_source
        self._offset_ns = self._measure_offset()
        self._segment = 0

    @property
    def segment(self) -> int:
        """Number of clock steps since the start: 0 before the first."""
        return self._segment

    def monotonic_ns(self) -> int:
        """CLOCK_MONOTONIC, the time of kernel events."""
        return self._monotonic_source()

    def unix_ns(self) -> int:
        """Unix time now."""
        return self._monotonic_source() + self._offset_ns

    def to_unix_ns(self, monotonic_ns: int) -> int:
        """Unix time of a kernel timestamp, by the offset of the last check."""
        return monotonic_ns + self._offset_ns

    def check(self) -> int:
        """Measure the offset again; returns the clock step in nanoseconds (with sign), or 0 where there was none.

        Call it once per turn of the sensor's loop, before new events are read: what was read before belongs to the old
        segment.
        """
        offset_ns = self._measure_offset()
        change_ns = offset_ns - self._offset_ns
        self._offset_ns = offset_ns
        if abs(change_ns) <= STEP_THRESHOLD_NS:
            return 0
        self._segment += 1
        return change_ns

    def _measure_offset(self) -> int:
        narrowest: tuple[int, int] | None = None
        for _ in range(OFFSET_READINGS):
            before_ns = self._monotonic_source()
            unix_ns = self._unix_source()
            bracket_ns = self._monotonic_source() - before_ns
            reading = (bracket_ns, unix_ns - before_ns - bracket_ns // 2)
            if narrowest is None or reading < narrowest:
                narrowest = reading
        assert narrowest is not None
        return narrowest[1]


def seconds_left(unix_ns: int) -> float:
    """To the end of the second of unix time, and a moment."""
    return 1.001 - unix_ns % 1_000_000_000 / 1e9


def format_time(unix_ns: int) -> str:
    """RFC 3339 in UTC with nanoseconds."""
    seconds, rest = divmod(unix_ns, _NS)
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09d}Z"
    except (OverflowError, ValueError):
        return f"{seconds}.{rest:09d}"
