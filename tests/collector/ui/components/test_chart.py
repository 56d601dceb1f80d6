"""A chart holds all figures in its picture, sentence and table, and nothing that the CSP would refuse."""

import re
from xml.etree import ElementTree as Tree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.ui.components.chart import Band, Chart, Look, Series, Shape, draw, word_step
from collector.ui.components.wording import word_milliseconds

START = 1_800_000_000 // 86_400 * 86_400
FIGURES = st.lists(st.none() | st.floats(0, 1e12), min_size=1, max_size=90)


def draw_calls(*values: float | None, shape: Shape = Shape.STACKED, step: int = 3_600, start: int = START) -> Chart:
    return draw(
        "Calls",
        [Series(name="answered", values=values, look=Look.SUCCESS)],
        start=start,
        step=step,
        unit="calls",
        shape=shape,
    )


def list_times(chart: Chart) -> list[str | None]:
    (group,) = (one for one in Tree.fromstring(chart.svg).iter("g") if one.get("class") == "times")
    return [one.text for one in group.iter("text")]


@given(FIGURES, st.sampled_from(Shape))
def test_a_picture_has_shapes_and_texts_alone(values: list[float | None], shape: Shape) -> None:
    chart = draw_calls(*values, shape=shape)
    if not chart.svg:
        assert not any(values)
        return
    allowed = {"svg", "g", "path", "rect", "text", "circle", "title"}
    for one in Tree.fromstring(chart.svg).iter():
        assert one.tag in allowed
        assert not {"style", "id", "onclick", "href"} & one.attrib.keys()
    assert len(chart.rows) == len(values)


@given(FIGURES, st.sampled_from(Shape))
def test_every_shape_stays_inside(values: list[float | None], shape: Shape) -> None:
    chart = draw_calls(*values, shape=shape)
    for one in Tree.fromstring(chart.svg).iter("rect") if chart.svg else ():
        assert float(one.get("y", "")) >= 0
        assert float(one.get("height", "")) >= 0
        assert float(one.get("x", "")) + float(one.get("width", "")) <= 400 * 1.5


def test_marks_on_the_time_axis_are_whole_hours_and_days() -> None:
    day = draw_calls(*range(1, 25), start=START + 7 * 3_600)
    assert list_times(day) == ["08:00", "12:00", "16:00", "20:00", "16 Jan", "04:00"]
    week = draw_calls(*range(1, 57), step=3 * 3_600, start=START + 9 * 3_600)
    assert list_times(week) == ["16 Jan", "18 Jan", "20 Jan", "22 Jan"]
    hour = draw_calls(*range(1, 61), step=60, start=START + 7 * 60)
    assert list_times(hour) == ["00:10", "00:20", "00:30", "00:40", "00:50", "01:00"]


def test_the_sentence_says_span_zone_and_totals() -> None:
    chart = draw_calls(1, None, 1_200)
    assert chart.summary == "Calls from 15 Jan 00:00 to 15 Jan 02:00 UTC: 1.2k answered."
    assert 'role="img" aria-label="Calls from 15 Jan' in chart.svg
    assert (chart.unit, chart.zone) == ("calls in each hour", "UTC")
    assert [(row.text, row.cells) for row in chart.rows] == [
        ("15 Jan 00:00", ("1",)),
        ("15 Jan 01:00", ("–",)),
        ("15 Jan 02:00", ("1.2k",)),
    ]


def test_observed_against_expected_has_a_band_and_a_threshold() -> None:
    chart = draw(
        "Calls of one consumer",
        [
            Series(name="observed", values=[3, 9, None], look=Look.OBSERVED),
            Series(name="threshold", values=[8, 8, 8], look=Look.THRESHOLD),
        ],
        start=START,
        step=300,
        unit="calls in 5 min",
        band=Band(name="expected", low=[1, 1, 1], high=[4, 4, 4]),
    )
    assert chart.legend == (("observed", "observed"), ("threshold", "threshold"), ("band", "expected"))
    assert chart.rows[1].cells == ("9", "8", "1 to 4")
    assert 'class="band"' in chart.svg
    assert chart.summary.endswith("observed at most 9, threshold 8.")
    assert "<title>15 Jan 00:05: observed 9, threshold 8, expected 1 to 4</title>" in chart.svg


def test_a_figure_without_neighbours_is_a_dot() -> None:
    assert draw_calls(1, None, 2, 3, shape=Shape.LINES).svg.count("<circle") == 1


@pytest.mark.parametrize("values", [(), (None, None), (0, 0)])
def test_nothing_to_draw_says_so(values: tuple[float | None, ...]) -> None:
    chart = draw_calls(*values)
    assert (chart.svg, chart.rows, chart.summary) == ("", (), "Calls: nothing in this span.")


def test_the_axis_of_figures_has_round_marks_in_the_unit() -> None:
    chart = draw(
        "p95",
        [Series(name="p95", values=[120, 1_900], look=Look.LATENCY)],
        start=START,
        step=60,
        unit="to the last byte",
        word=word_milliseconds,
    )
    marks = re.findall(r'<g class="scale"><path [^>]*/><text [^>]*>([^<]*)', chart.svg)
    assert marks == ["0.0 ms", "500 ms", "1.0 s", "1.5 s", "2.0 s"]


def test_names_from_the_wire_are_escaped() -> None:
    chart = draw(
        "<b>",
        [Series(name='"><script>', values=[1], look=Look.CALLS)],
        start=START,
        step=60,
        unit="x",
        shape=Shape.BARS,
    )
    assert "<script" not in chart.svg and "<b>" not in chart.svg


def test_steps_have_names() -> None:
    assert [word_step(step) for step in (60, 300, 3_600, 10_800, 86_400, 45)] == (
        ["minute", "5 min", "hour", "3 h", "day", "45 s"]
    )


@pytest.mark.parametrize("top", [1, 2, 3, 4, 7, 0.5, 1_234])
def test_no_two_marks_of_the_scale_read_alike(top: float) -> None:
    chart = draw_calls(0, top, 0)
    (*marks,) = (one.text for one in Tree.fromstring(chart.svg).iter("text") if one.text and ":" not in one.text)
    assert len(marks) > 1
    assert len(set(marks)) == len(marks)
