"""Charts over time, drawn as SVG by the collector: series of figures in, markup, legend and a table out.

pygal computes the scale, axes, bars and lines. Of its tree only shapes, texts and their places are kept: no script, no
style, no identifier, so that the strict CSP has nothing to refuse. Colours come from classes (static/apidae.css).

A chart is read in four ways: as a picture, by a sentence that says what it shows (`summary`), by what the pointer is on
(one `<title>` a step with all of its figures), and as a table.
"""

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from enum import StrEnum
from xml.etree import ElementTree as Tree

from markupsafe import Markup

from collector.inventory.query import DAY_SECONDS, HOUR_SECONDS, MINUTE_SECONDS
from collector.ui.components.wording import word_count

WIDTH = 400  # Units of the view box: about the pixels of a column, so that texts keep their size.
HEIGHT = 180
TICKS_MAX = 6
MARKS_MAX = 4  # On the axis of figures, without that of 0.
_TICKS = tuple(
    MINUTE_SECONDS * minutes
    for minutes in (1, 5, 10, 15, 30, 60, 120, 180, 240, 360, 720, 1_440, 2_880, 7_200, 14_400, 28_800)
)
_SIZES = {"width": WIDTH, "height": HEIGHT, "margin_left": 26, "margin_right": 14, "margin_top": 8, "margin_bottom": 24}
# Without what pygal adds for its own style and script.
_BARE = {"js": [], "css": [], "show_legend": False, "show_x_labels": False, "no_prefix": True}


class Look(StrEnum):
    """What a series is, which decides its colour: a class of the style sheet."""

    CALLS = "calls"
    ERRORS = "errors"
    SUCCESS = "success"
    REDIRECTION = "redirection"
    CLIENT_ERROR = "client-error"
    SERVER_ERROR = "server-error"
    NOT_READ = "not-read"
    LATENCY = "latency"
    OBSERVED = "observed"
    EXPECTED = "expected"  # Dashed.
    THRESHOLD = "threshold"  # Dashed, and the same at each step.


class Shape(StrEnum):
    LINES = "lines"
    BARS = "bars"
    STACKED = "stacked"


# Names of pygal's classes.
_SHAPES = {Shape.LINES: "Line", Shape.BARS: "Bar", Shape.STACKED: "StackedBar"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One figure by step; None where there is none."""

    name: str
    values: Sequence[float | None]
    look: Look


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """The range that was expected, by step."""

    name: str
    low: Sequence[float | None]
    high: Sequence[float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One step of the table."""

    time: int
    text: str
    cells: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """What the template `components/chart.html` shows; `svg` is empty where there is nothing to draw."""

    title: str
    unit: str  # What the axis counts: `calls in each 5 min`.
    zone: str
    summary: str
    svg: Markup
    legend: tuple[tuple[str, str], ...]  # Look and name.
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    @property
    def id(self) -> str:
        """For the ids of what can have the focus."""
        return f"chart-{'-'.join(re.findall('[a-z0-9]+', self.title.lower()))}"


def draw(
    title: str,
    series: Sequence[Series],
    *,
    start: int,
    step: int,
    unit: str,
    shape: Shape = Shape.LINES,
    band: Band | None = None,
    word: Callable[[float], str] = word_count,
    zone: tzinfo = UTC,
) -> Chart:
    """Figures by steps of `step` seconds from `start` on (unix seconds). All series have as many values. `word` says a
    figure in the table, on the axis and at the pointer.

    Observed against expected: lines `Look.OBSERVED` and `Look.EXPECTED`, a `Band` of the expected range, and a line
    `Look.THRESHOLD` (docs/internals/console.md)."""
    named = datetime.fromtimestamp(start, zone).tzname() or "UTC"
    columns = tuple(one.name for one in series) + ((band.name,) if band else ())
    steps = len(series[0].values) if series else 0
    lows, highs = (band.low, band.high) if band else ((), ())
    rows = tuple(
        Row(
            time=start + place * step,
            text=_word_time(start + place * step, step, zone),
            cells=(
                *(_word(one.values[place], word) for one in series),
                *((f"{_word(lows[place], word)} to {_word(highs[place], word)}",) if band else ()),
            ),
        )
        for place in range(steps)
    )
    known = [value for one in series for value in one.values if value is not None]
    drawable = bool(known) and (any(known) or shape is Shape.LINES)
    summary = _summarise(title, series, shape, word, rows, named) if drawable else f"{title}: nothing in this span."
    picture = Markup()
    if drawable:
        tree = _render(series, rows, columns, start, step, shape, band, word, zone)
        tree.attrib |= {"role": "img", "aria-label": summary}
        picture = Markup(Tree.tostring(tree, encoding="unicode"))
    return Chart(
        title=title,
        unit=f"{unit} in each {word_step(step)}" if shape is not Shape.LINES else unit,
        zone=named,
        summary=summary,
        svg=picture,
        legend=tuple((one.look.value, one.name) for one in series) + ((("band", band.name),) if band else ()),
        columns=columns,
        rows=rows if drawable else (),
    )


def word_step(step: int) -> str:
    """`5 min`, `hour`, `3 h`, `day`."""
    for unit, name, one in ((DAY_SECONDS, "d", "day"), (HOUR_SECONDS, "h", "hour"), (MINUTE_SECONDS, "min", "minute")):
        if step % unit == 0:
            return one if step == unit else f"{step // unit} {name}"
    return f"{step} s"


def _word(value: float | None, word: Callable[[float], str]) -> str:
    return "–" if value is None else word(value)


def _word_time(time: int, step: int, zone: tzinfo) -> str:
    return datetime.fromtimestamp(time, zone).strftime("%d %b" if step % DAY_SECONDS == 0 else "%d %b %H:%M")


def _summarise(
    title: str, series: Sequence[Series], shape: Shape, word: Callable[[float], str], rows: Sequence[Row], zone: str
) -> str:
    """One sentence: the span, and of each series its total or its highest."""
    parts = []
    for one in series:
        known = [value for value in one.values if value is not None]
        if one.look is Look.THRESHOLD:
            parts += [f"{one.name} {word(known[-1])}"] if known else []
        elif shape is Shape.LINES:
            parts.append(f"{one.name} at most {word(max(known))}" if known else f"{one.name} not known")
        elif known and sum(known):
            parts.append(f"{word(sum(known))} {one.name}")
    return f"{title} from {rows[0].text} to {rows[-1].text} {zone}: {', '.join(parts)}."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plot:
    """Where pygal put the plot, read from its tree: from a place and a figure to the picture's units."""

    transform: str
    width: float
    zero: float
    top: float
    highest: float
    steps: int
    has_bars: bool

    def x(self, step: float) -> float:
        """Of the start of a step; of lines that is the step's point."""
        if self.steps == 1 and not self.has_bars:
            return self.width / 2
        share = step / self.steps if self.has_bars else step / (self.steps - 1)
        return self.width * (share + _VIEW_MARGIN) / (1 + 2 * _VIEW_MARGIN)

    def y(self, value: float) -> float:
        return self.zero + (self.top - self.zero) * value / self.highest


_VIEW_MARGIN = 0.02  # pygal.view.Box.margin, at each side.


def _render(
    series: Sequence[Series],
    rows: Sequence[Row],
    columns: Sequence[str],
    start: int,
    step: int,
    shape: Shape,
    band: Band | None,
    word: Callable[[float], str],
    zone: tzinfo,
) -> Tree.Element:
    marks = _list_marks(_find_top(series, shape, band), word)
    import pygal  # Pages without a chart do without it.

    drawn = getattr(pygal, _SHAPES[shape])(range=(0, marks[-1]), allow_interruptions=True, **_SIZES, **_BARE)
    drawn.y_labels = marks
    drawn.value_formatter = word
    missing = None if shape is Shape.LINES else 0
    for one in series:
        drawn.add(one.name, [missing if value is None else value for value in one.values])
    tree = drawn.render_tree()
    plot = _read_plot(tree, marks[-1], len(rows), has_bars=shape is not Shape.LINES)
    picture = Tree.Element("svg", {"viewBox": f"0 0 {WIDTH} {HEIGHT}"})
    inside = Tree.SubElement(picture, "g", {"transform": plot.transform})
    for mark in _find_parts(tree, "guides"):
        _copy(mark, Tree.SubElement(inside, "g", {"class": "scale"}))
    if band is not None:
        _add_band(inside, plot, band)
    for place, one in enumerate(series):
        group = Tree.SubElement(inside, "g", {"class": f"series {one.look}"})
        for part in _find_parts(tree, f"serie-{place}"):
            _copy(part, group, one.values if shape is Shape.LINES else ())
    _add_times(inside, plot, start, step, zone)
    _add_pointers(inside, plot, rows, columns)
    return picture


def _find_top(series: Sequence[Series], shape: Shape, band: Band | None) -> float:
    by_step = zip(*(one.values for one in series), strict=True)
    add = sum if shape is Shape.STACKED else max
    highest = [add([value or 0 for value in values]) for values in by_step]
    return max([*highest, *(value or 0 for value in (band.high if band else ()))])


_SMALLEST = 1e-3  # What is less has no scale of its own.


def _list_marks(top: float, word: Callable[[float], str]) -> list[float]:
    """0 and round figures up to one that is not below `top`, each with another text."""
    if top < _SMALLEST:
        return [0, 1]
    rough = top / MARKS_MAX
    power = 10.0 ** math.floor(math.log10(rough))
    distance = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    if top >= MARKS_MAX:  # Of counts there are no halves.
        distance = math.ceil(distance)
    marks = _space_marks(top, distance)
    return marks if len({*map(word, marks)}) == len(marks) else _space_marks(top, math.ceil(distance))


def _space_marks(top: float, distance: float) -> list[float]:
    return [round(distance * number, 9) for number in range(math.ceil(top / distance - 1e-9) + 1)]


def _find_parts(tree: Tree.Element, name: str) -> Iterator[Tree.Element]:
    return (one for one in tree.iter("g") if name in one.get("class", "").split())


def _read_plot(tree: Tree.Element, highest: float, steps: int, *, has_bars: bool) -> _Plot:
    plot = next(_find_parts(tree, "plot"))
    frame = next(plot.iter("rect"))
    heights = [float(next(mark.iter("path")).get("d", "").split()[1]) for mark in _find_parts(plot, "guides")]
    return _Plot(
        transform=plot.get("transform", ""),
        width=float(frame.get("width", "")),
        zero=heights[0],
        top=heights[-1],
        highest=highest,
        steps=steps,
        has_bars=has_bars,
    )


_PLACES = {"path": ("d",), "rect": ("x", "y", "width", "height"), "text": ("x", "y"), "circle": ("cx", "cy", "r")}


def _copy(source: Tree.Element, target: Tree.Element, values: Sequence[float | None] = ()) -> None:
    """The shapes with their places, and texts; nothing else passes. Of the dots of a line those that stand alone,
    which no line shows."""
    alone = iter(_find_alone(values))
    for one in source.iter():
        places = _PLACES.get(one.tag) if isinstance(one.tag, str) else None  # A comment's tag is a function.
        if places is None or (one.tag == "circle" and not next(alone, False)):
            continue
        if one.tag == "rect" and not float(one.get("height", 0)):
            continue
        copied = Tree.SubElement(target, one.tag, {name: _shorten(one.get(name, "")) for name in places})
        copied.text = one.text if one.tag == "text" else None


def _find_alone(values: Sequence[float | None]) -> list[bool]:
    """Of each value that is known, whether both of its neighbours are not."""
    padded = [None, *values, None]
    return [
        padded[place - 1] is None and padded[place + 1] is None
        for place in range(1, len(padded) - 1)
        if padded[place] is not None
    ]


def _shorten(places: str) -> str:
    """The same numbers with one decimal."""
    return _NUMBER.sub(lambda found: _number(float(found[0])), places)


def _number(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


_NUMBER = re.compile(r"-?\d+\.?\d*(?:e-?\d+)?")


def _add_band(inside: Tree.Element, plot: _Plot, band: Band) -> None:
    """The range between both edges, one shape for each run of steps that have it."""
    run: list[tuple[int, float, float]] = []
    for place, (low, high) in enumerate([*zip(band.low, band.high, strict=True), (None, None)]):
        if low is not None and high is not None:
            run.append((place, low, high))
            continue
        if run:
            there = [f"{_number(plot.x(at))} {_number(plot.y(top))}" for at, _, top in run]
            back = [f"{_number(plot.x(at))} {_number(plot.y(bottom))}" for at, bottom, _ in reversed(run)]
            Tree.SubElement(inside, "path", {"class": "band", "d": f"M{' L'.join(there + back)} Z"})
        run = []


def _add_times(inside: Tree.Element, plot: _Plot, start: int, step: int, zone: tzinfo) -> None:
    """Marks at whole minutes, hours or days of the zone."""
    seconds = plot.steps * step
    distance = next((one for one in _TICKS if seconds / one <= TICKS_MAX), _TICKS[-1])
    group = Tree.SubElement(inside, "g", {"class": "times"})
    bottom = plot.zero
    for time in range(start // step * step, start + seconds, min(step, HOUR_SECONDS)):
        local = datetime.fromtimestamp(time, zone)
        offset = int((local.utcoffset() or timedelta()).total_seconds())
        if time < start or (time + offset) % distance:
            continue
        x = _number(plot.x((time - start) / step))
        Tree.SubElement(group, "path", {"d": f"M{x} {_number(bottom)} v4"})
        is_day = (time + offset) % DAY_SECONDS == 0
        mark = Tree.SubElement(group, "text", {"x": x, "y": _number(bottom + 17)})
        mark.text = local.strftime("%d %b" if is_day else "%H:%M")


def _add_pointers(inside: Tree.Element, plot: _Plot, rows: Sequence[Row], columns: Sequence[str]) -> None:
    """What a pointer shows: over each step a shape without colour whose title has all of its figures."""
    group = Tree.SubElement(inside, "g", {"class": "pointers"})
    width = plot.x(1) - plot.x(0) if plot.steps > 1 else plot.width
    for place, row in enumerate(rows):
        x = plot.x(place) - (0 if plot.has_bars else width / 2)
        over = Tree.SubElement(
            group,
            "rect",
            {
                "x": _number(x),
                "y": _number(plot.top),
                "width": _number(width),
                "height": _number(plot.zero - plot.top),
            },
        )
        figures = ", ".join(f"{name} {cell}" for name, cell in zip(columns, row.cells, strict=True))
        Tree.SubElement(over, "title").text = f"{row.text}: {figures}"
