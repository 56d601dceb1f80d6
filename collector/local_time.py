"""Unix time as the clocks of a place show it, for hours of the day and days of the week.

An hour of the day is that of the clock: where it is put forward in spring, what people do at nine is still at nine.
"""

from datetime import UTC, datetime, tzinfo
from typing import Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

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
