"""What questions to the inventory share: the span of time and its roll-up, and cursors.

A span turns `1h`, `24h` or `7d`, or a start and an end, into seconds and chooses the roll-up that answers.

A cursor is the place where the next page starts: a keyset (last sort value, last id), written as one opaque word. It
stays right while rows come and go, because it asks for what sorts after the last row. It carries its question, so a
cursor with another sort or filter is refused instead of skipping rows.
"""

import base64
import binascii
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeGuard

from collector.core.moments import DAY_SECONDS as DAY_SECONDS
from collector.storage.tables.layout import HOUR_SUMMARY_RETENTION_DAYS, Retention

MINUTE_SECONDS = 60
HOUR_SECONDS = 3600
SERIES_POINTS_MAX = 1_500  # 25 h by the minute; longer spans get longer steps.


class Rollup(StrEnum):
    """Whose rows answer: those of a minute, or the sums of an hour or a day."""

    MINUTE = "minute"
    HOUR = "hour"
    DAY = "day"


class Since(StrEnum):
    HOUR = "1h"
    DAY = "24h"
    WEEK = "7d"
    MONTH = "30d"
    QUARTER = "90d"

    @property
    def seconds(self) -> int:
        """Length."""
        return _SPANS[self][0]


# How long each is, and the rows that answer: the longer the span, the longer these are. A list of 100,000 endpoints
# reads one row an endpoint and hour or day.
_SPANS: Mapping[Since, tuple[int, Rollup]] = {
    Since.HOUR: (HOUR_SECONDS, Rollup.MINUTE),
    Since.DAY: (DAY_SECONDS, Rollup.HOUR),
    Since.WEEK: (7 * DAY_SECONDS, Rollup.DAY),
    Since.MONTH: (30 * DAY_SECONDS, Rollup.DAY),
    Since.QUARTER: (90 * DAY_SECONDS, Rollup.DAY),
}
_ROW_SECONDS = {Rollup.MINUTE: MINUTE_SECONDS, Rollup.HOUR: HOUR_SECONDS, Rollup.DAY: DAY_SECONDS}
# Of a start and an end: how long they may be apart for minutes and for hours to answer.
_BY_MINUTE_MAX = 3 * HOUR_SECONDS
_BY_HOUR_MAX = 48 * HOUR_SECONDS
# An hour less than rows of minutes are kept at least, and a day less than summaries of hours.
_MINUTES_KEPT = Retention().minute_seconds - HOUR_SECONDS
_SUMMARIES_KEPT = (HOUR_SUMMARY_RETENTION_DAYS - 1) * DAY_SECONDS


class QuestionError(ValueError):
    """A question that cannot be asked so; the message is a sentence for the client."""


class SpanError(QuestionError):
    """The span holds no time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """[start, end) in unix seconds; `start` is the start of a row of the roll-up that answers. `asked_at` is the
    present when it was asked for, 0 where that is its end."""

    start: int
    end: int
    rollup: Rollup
    asked_at: int = 0

    @property
    def has_minutes(self) -> bool:
        """Whether the rows of minutes are still kept."""
        return (self.asked_at or self.end) - self.start <= _MINUTES_KEPT

    @property
    def has_summaries(self) -> bool:
        """Whether what lists are ranked by is still kept; else they are ranked by the rows of calls."""
        return self.rollup is not Rollup.HOUR or (self.asked_at or self.end) - self.start <= _SUMMARIES_KEPT

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
        return _ROW_SECONDS[self.rollup]


def span_since(since: Since, now: float) -> Span:
    """At least what was asked for: from the start of the row that holds the moment `since` ago to the end of this
    minute."""
    seconds, rollup = _SPANS[since]
    row = _ROW_SECONDS[rollup]
    return Span(
        start=(int(now) - seconds) // row * row,
        end=(int(now) // MINUTE_SECONDS + 1) * MINUTE_SECONDS,
        rollup=rollup,
    )


def span_between(start: int, end: int, now: float) -> Span:
    """At least what was asked for, in whole rows: minutes up to 3 h, hours up to 48 h, days beyond. Raises
    SpanError."""
    present = (int(now) // MINUTE_SECONDS + 1) * MINUTE_SECONDS
    if start >= min(end, present):
        raise SpanError("`start` is not before `end` and now; choose an earlier start or a later end")
    seconds, is_recent = min(end, present) - start, present - start <= _MINUTES_KEPT
    rollup = Rollup.DAY
    if seconds <= _BY_MINUTE_MAX and is_recent:
        rollup = Rollup.MINUTE
    elif seconds <= _BY_HOUR_MAX:
        rollup = Rollup.HOUR
    row = _ROW_SECONDS[rollup]
    return Span(start=start // row * row, end=min(-(-end // row) * row, present), rollup=rollup, asked_at=present)


def series_span(span: Span) -> Span:
    """The same span for a time series, which has finer steps: minutes up to a day, as long as their rows live, hours
    beyond."""
    is_fine = span.rollup is not Rollup.DAY and span.has_minutes
    return replace(span, rollup=Rollup.MINUTE if is_fine else Rollup.HOUR)


def series_step(span: Span) -> int:
    """Seconds of one point of a time series: whole rows, at most SERIES_POINTS_MAX points, and a step that divides a
    day evenly."""
    for step in (60, 300, 600, 1800, HOUR_SECONDS, 3 * HOUR_SECONDS, 6 * HOUR_SECONDS, 24 * HOUR_SECONDS):
        if step >= span.row_seconds and span.seconds / step <= SERIES_POINTS_MAX:
            return step
    return 24 * HOUR_SECONDS


CURSOR_CHARACTERS_MAX = 2_048  # A template and an id fit several times; more is not ours.
QUESTION_BYTES = 6


class CursorError(QuestionError):
    """The word is not a cursor of this question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """The last row shown: its sort value and its id (which breaks ties)."""

    value: float | str
    id: str


def digest_question(*parts: str) -> str:
    """A short fingerprint of what was asked: sort, order, span and filters."""
    text = "\x1f".join(parts).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=QUESTION_BYTES).hexdigest()


def write_cursor(cursor: Cursor, question: str) -> str:
    text = json.dumps([question, cursor.value, cursor.id], separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(word: str, question: str, value_type: type[float] | type[str]) -> Cursor:
    """The cursor behind a word; raises CursorError with a sentence for a person. Never trusts the word: it comes
    from the client."""
    if len(word) > CURSOR_CHARACTERS_MAX:
        raise CursorError("it is longer than any cursor this collector gives")
    try:
        parts = json.loads(base64.b64decode(word + "=" * (-len(word) % 4), altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        raise CursorError("it is not a cursor this collector gave") from None
    if not isinstance(parts, list) or len(parts) != 3 or not _is_text(parts[2]):
        raise CursorError("it is not a cursor this collector gave")
    if parts[0] != question:
        raise CursorError("it belongs to another sort, filter or time span")
    value = parts[1]
    if value_type is float and isinstance(value, int | float) and not isinstance(value, bool):
        return Cursor(value=_finite(value), id=parts[2])
    if value_type is str and _is_text(value):
        return Cursor(value=value, id=parts[2])
    raise CursorError("it is not a cursor this collector gave")


def _is_text(value: object) -> TypeGuard[str]:
    """Text that can be written in UTF-8; JSON may hold halves of a pair of surrogates."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def _finite(value: int | float) -> float:
    """A finite float, or refusal: NaN and infinities compare with nothing."""
    try:
        number = float(value)
    except OverflowError:
        raise CursorError("it is not a cursor this collector gave") from None
    if number != number or number in (float("inf"), float("-inf")):
        raise CursorError("it is not a cursor this collector gave")
    return number
