"""Rates in words, local time, and intervals.

A rate is a count divided by the time that has passed, with a unit. `LocalTime` reads unix time as the clocks of a place
show it, because people do at nine what they did at nine before summer time began. `Interval` says when a job is due.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

# Over less time a count is said with its seconds: a rate of it would be guessed.
RATE_SECONDS_MIN: Final = 10
CALLS_A_SECOND: Final = "calls a second"


def compute_rate(count: float, seconds: float) -> float:
    """A second. Of less than one it is taken for one, for times are of whole seconds."""
    return count / max(seconds, 1)


def word_rate(rate: float, unit: str = "calls") -> str:
    """`9.8 calls/s`, or by minute or hour where it is slower; without a unit `9.8/s`."""
    unit = f" {unit}" if unit else ""
    if rate >= 0.95:
        return f"{rate:,.1f}{unit}/s" if rate < 100 else f"{rate:,.0f}{unit}/s"
    if rate * 60 >= 0.95:
        return f"{rate * 60:.1f}{unit}/min"
    return f"{rate * 3600:.1f}{unit}/h" if rate > 0 else f"0{unit}/s"


def word_measure(value: float, unit: str) -> str:
    """What an alert counted, in its own unit: `10.0 calls/s`, `609 refused logins`."""
    return word_rate(value) if unit == CALLS_A_SECOND else f"{value:.4g} {unit}"


UTC_NAME: Final = "UTC"  # Known without any database.


class LocalTime:
    """Of one time zone."""

    def __init__(self, name: str = UTC_NAME) -> None:
        """`name` is the IANA database's, `Europe/Berlin`. Raises ValueError with one sentence where it is not known."""
        self.name = name
        self._zone = _find_zone(name)

    def read(self, time: float) -> float:
        """Seconds since 1970-01-01 00:00 as the place's clocks count them, at a unix time."""
        if self._zone is UTC:
            return time
        offset = datetime.fromtimestamp(time, self._zone).utcoffset()
        return time + (offset.total_seconds() if offset is not None else 0.0)


def _find_zone(name: str) -> tzinfo:
    if name == UTC_NAME:
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # Not there, no name at all, or a directory.
        raise ValueError(f"{name!r} is no time zone of the IANA database; write it as Europe/Berlin or UTC") from None


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
