"""Geometry of the page's small charts: a time series in, rectangles and labels of an SVG out. Pure.

The template draws them.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from collector.inventory.coverage.coverage import CoveragePoint
from collector.inventory.endpoints.endpoint import SeriesPoint, StatusMix
from collector.inventory.query import DAY_SECONDS, Span
from collector.ui.components.wording import word_count, word_milliseconds

WIDTH = 720  # Units of the SVG's view box.
HEIGHT = 140
BARS_MAX = 96
LABELS = 4

Point = TypeVar("Point", SeriesPoint, CoveragePoint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One step: a bar from the bottom, of which `marked_height` (errors) is drawn in another colour."""

    x: float
    width: float
    y: float
    height: float
    marked_y: float
    marked_height: float
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A word on an axis."""

    position: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A bar chart; `summary` says in words what it shows."""

    width: int
    height: int
    bars: tuple[Bar, ...]
    top: str
    times: tuple[Label, ...]
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One part of a whole of 100 units."""

    name: str
    x: float
    width: float


@dataclass(slots=True, kw_only=True)
class _Step:
    value: float = 0.0
    marked: float = 0.0


def draw_calls(series: Sequence[SeriesPoint], span: Span) -> Chart:
    """Calls over the span, errors marked."""
    return _draw(series, span, lambda step, point: _add(step, point.calls, point.errors), word_count, "calls", "errors")


def draw_latency(series: Sequence[SeriesPoint], span: Span) -> Chart:
    """The highest p95 of each step."""
    return _draw(series, span, lambda step, point: _raise_to(step, point.p95_ms or 0.0), word_milliseconds, "p95", "")


def draw_share(points: Sequence[CoveragePoint], span: Span) -> Chart:
    """Connections like HTTP over the span, those that are not read marked."""

    def merge(step: _Step, point: CoveragePoint) -> None:
        _add(step, point.share.connections, point.share.connections - point.share.read_connections)

    return _draw(points, span, merge, word_count, "connections", "not read")


def split_status(status: StatusMix) -> tuple[Share, ...]:
    """The status mix as parts of a bar."""
    parts = (
        ("success", status.success + status.informational),
        ("redirection", status.redirection),
        ("client-error", status.client_error),
        ("server-error", status.server_error + status.aborted),
    )
    total = sum(count for _, count in parts)
    shares, x = [], 0.0
    for name, count in parts:
        width = 100 * count / total if total else 0.0
        if count:
            shares.append(Share(name=name, x=round(x, 2), width=round(width, 2)))
        x += width
    return tuple(shares)


def _add(step: _Step, value: float, marked: float) -> None:
    step.value += value
    step.marked += marked


def _raise_to(step: _Step, value: float) -> None:
    step.value = max(step.value, value)


def _draw(
    series: Sequence[Point],
    span: Span,
    merge: Callable[[_Step, Point], None],
    word: Callable[[float], str],
    name: str,
    marked_name: str,
) -> Chart:
    """Steps of equal length over the span, merged from the points in them."""
    rows = max(1, math.ceil(span.seconds / span.row_seconds / BARS_MAX))
    step_seconds = rows * span.row_seconds
    steps = [_Step() for _ in range(math.ceil(span.seconds / step_seconds))]
    for point in series:
        index = (point.time - span.start) // step_seconds
        merge(steps[min(max(index, 0), len(steps) - 1)], point)
    highest = max((step.value for step in steps), default=0.0)
    width = WIDTH / len(steps)
    bars = []
    for index, step in enumerate(steps):
        if not step.value:
            continue
        height = HEIGHT * step.value / highest
        marked = HEIGHT * step.marked / highest
        title = f"{_time(span.start + index * step_seconds, span)}: {word(step.value)} {name}"
        bars.append(
            Bar(
                x=round(index * width, 2),
                width=round(max(1.0, width - 1), 2),
                y=round(HEIGHT - height, 2),
                height=round(height, 2),
                marked_y=round(HEIGHT - marked, 2),
                marked_height=round(marked, 2),
                title=f"{title}, {word(step.marked)} {marked_name}" if step.marked else title,
            )
        )
    times = tuple(
        Label(position=WIDTH * number / LABELS, text=_time(span.start + span.seconds * number // LABELS, span))
        for number in range(LABELS + 1)
    )
    return Chart(
        width=WIDTH,
        height=HEIGHT,
        bars=tuple(bars),
        top=word(highest) if highest else "",
        times=times,
        summary=f"{name} over time, at most {word(highest)}" if highest else f"no {name} in this span",
    )


def _time(seconds: int, span: Span) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%H:%M" if span.seconds < 2 * DAY_SECONDS else "%d %b %H:%M")
