"""The span of time a question is about: turns `1h`, `24h`, `7d` into seconds and says which roll-up answers it."""

from dataclasses import dataclass, replace
from enum import StrEnum

MINUTE_SECONDS = 60
HOUR_SECONDS = 3600
DAY_SECONDS = 86_400
SERIES_POINTS_MAX = 1_500  # 25 h by the minute; longer spans get longer steps.


class Rollup(StrEnum):
    """Whose rows answer: those of a minute, or the sums of an hour or a day."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"


class Since(StrEnum):
    """How far back to look."""

    HOUR = "1h"
    DAY = "24h"
    WEEK = "7d"
    MONTH = "30d"
    QUARTER = "90d"


SECONDS: dict[Since, int] = {
    Since.HOUR: HOUR_SECONDS,
    Since.DAY: DAY_SECONDS,
    Since.WEEK: 7 * DAY_SECONDS,
    Since.MONTH: 30 * DAY_SECONDS,
    Since.QUARTER: 90 * DAY_SECONDS,
}
# The longer the span, the longer the rows: a list of 100,000 endpoints reads one row an endpoint and hour or day.
_ROLLUPS: dict[Since, Rollup] = {
    Since.HOUR: Rollup.MINUTE,
    Since.DAY: Rollup.HOUR,
    Since.WEEK: Rollup.DAY,
    Since.MONTH: Rollup.DAY,
    Since.QUARTER: Rollup.DAY,
}
_ROW_SECONDS = {Rollup.MINUTE: MINUTE_SECONDS, Rollup.HOUR: HOUR_SECONDS, Rollup.DAY: DAY_SECONDS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """[start, end) in unix seconds; `start` is the start of a row of the roll-up that answers."""

    start: int
    end: int
    rollup: Rollup

    def count_seconds(self, first_seen: int) -> int:
        """The part of it since the first call, for rates: over the time before they would be too low. At least a row:
        over less they would be guessed from a handful of calls."""
        return max(MINUTE_SECONDS, self.end - max(self.start, first_seen))

    @property
    def seconds(self) -> int:
        """Length, at least one second."""
        return max(1, self.end - self.start)

    @property
    def row_seconds(self) -> int:
        """Length of one row of the roll-up."""
        return _ROW_SECONDS[self.rollup]


def span_since(since: Since, now: float) -> Span:
    """At least what was asked for: from the start of the row that holds the moment `since` ago to the end of this
    minute."""
    rollup = _ROLLUPS[since]
    row = _ROW_SECONDS[rollup]
    return Span(
        start=(int(now) - SECONDS[since]) // row * row,
        end=(int(now) // MINUTE_SECONDS + 1) * MINUTE_SECONDS,
        rollup=rollup,
    )


def series_span(span: Span) -> Span:
    """The same span for a time series, which has finer steps: minutes up to a day (their rows live for 48 h), hours
    beyond."""
    return replace(span, rollup=Rollup.HOUR if span.rollup is Rollup.DAY else Rollup.MINUTE)


def series_step(span: Span) -> int:
    """Seconds of one point of a time series: whole rows, at most SERIES_POINTS_MAX points, and a step that divides a
    day evenly."""
    for step in (60, 300, 600, 1800, HOUR_SECONDS, 3 * HOUR_SECONDS, 6 * HOUR_SECONDS, 24 * HOUR_SECONDS):
        if step >= span.row_seconds and span.seconds / step <= SERIES_POINTS_MAX:
            return step
    return 24 * HOUR_SECONDS
