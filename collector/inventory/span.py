"""The span of time a question is about: turns `1h`, `24h`, `7d` into seconds and says which roll-up answers it."""

from dataclasses import dataclass
from enum import StrEnum

MINUTE_SECONDS = 60
HOUR_SECONDS = 3600
MINUTE_ROWS_KEPT_SECONDS = 48 * HOUR_SECONDS  # Retention of minute rows; beyond it only hour rows answer.
SERIES_POINTS_MAX = 1_500  # A day by the minute; longer spans get longer steps.


class Since(StrEnum):
    """How far back to look."""

    HOUR = "1h"
    DAY = "24h"
    WEEK = "7d"
    MONTH = "30d"
    QUARTER = "90d"


SECONDS: dict[Since, int] = {
    Since.HOUR: HOUR_SECONDS,
    Since.DAY: 24 * HOUR_SECONDS,
    Since.WEEK: 7 * 24 * HOUR_SECONDS,
    Since.MONTH: 30 * 24 * HOUR_SECONDS,
    Since.QUARTER: 90 * 24 * HOUR_SECONDS,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """[start, end) in unix seconds, cut to whole rows of the roll-up that answers."""

    start: int
    end: int
    is_hourly: bool

    @property
    def seconds(self) -> int:
        """Length, at least one second."""
        return max(1, self.end - self.start)

    @property
    def row_seconds(self) -> int:
        """Length of one row of the roll-up."""
        return HOUR_SECONDS if self.is_hourly else MINUTE_SECONDS


def span_since(since: Since, now: float) -> Span:
    """The span from `since` ago until the end of the row that holds `now`; a span that minute rows no longer cover
    reads hour rows."""
    seconds = SECONDS[since]
    is_hourly = seconds > MINUTE_ROWS_KEPT_SECONDS
    row = HOUR_SECONDS if is_hourly else MINUTE_SECONDS
    end = (int(now) // row + 1) * row
    return Span(start=end - seconds, end=end, is_hourly=is_hourly)


def series_step(span: Span) -> int:
    """Seconds of one point of a time series: whole rows, at most SERIES_POINTS_MAX points, and a step that divides a
    day evenly."""
    for step in (60, 300, 600, 1800, HOUR_SECONDS, 3 * HOUR_SECONDS, 6 * HOUR_SECONDS, 24 * HOUR_SECONDS):
        if step >= span.row_seconds and span.seconds / step <= SERIES_POINTS_MAX:
            return step
    return 24 * HOUR_SECONDS
