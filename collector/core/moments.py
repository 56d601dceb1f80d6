"""Points in time as people write them, read as unix seconds: `2h` ago, `yesterday`, `2026-11-29`, or RFC 3339.

Days, words and times without a zone are of UTC. A relative one depends on the present, so a list keeps the text and
reads it for each question.
"""

import re
from datetime import UTC, datetime
from typing import Final

DAY_SECONDS: Final = 86_400
MOMENT_CHARACTERS_MAX: Final = 40
MOMENT_FORMS: Final = "a span before now (30m, 2h, 7d, 2w), today, yesterday, a date, or a time of RFC 3339"
MOMENT_EXAMPLES: Final = ("2h", "yesterday", "2026-11-29", "2026-11-29T14:00:00Z")
# What the store takes for a time ends early in 2106.
YEAR_MIN: Final = 1970
YEAR_MAX: Final = 2105
_UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": DAY_SECONDS, "w": 7 * DAY_SECONDS}
_RELATIVE: Final = re.compile(r"([0-9]{1,6})([smhdw])\Z")
_DAYS_AGO: Final = {"today": 0, "yesterday": 1}
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")
_TIME: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}")


def read_moment(text: str, now: float) -> int:
    """Unix seconds, never before 1970. Raises ValueError with what to write instead."""
    present, word = int(now), text.strip().lower()
    if word == "now":
        return present
    if word in _DAYS_AGO:
        return (present // DAY_SECONDS - _DAYS_AGO[word]) * DAY_SECONDS
    relative = _RELATIVE.match(word)
    if relative is not None:
        return max(0, present - int(relative[1]) * _UNITS[relative[2]])
    return _read_absolute(text.strip())


def _read_absolute(text: str) -> int:
    if not _DATE.match(text) and not _TIME.match(text):
        raise ValueError(f"use {MOMENT_FORMS}")
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"there is no such time; use {MOMENT_FORMS}") from None
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    if not YEAR_MIN < time.year < YEAR_MAX:
        raise ValueError(f"use a year after {YEAR_MIN} and before {YEAR_MAX}")
    return int(time.timestamp())
