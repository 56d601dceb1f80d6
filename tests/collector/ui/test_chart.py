"""Bars stay inside the chart and lose no call."""

from hypothesis import given
from hypothesis import strategies as st

from collector.inventory.endpoints.endpoint import SeriesPoint, StatusMix
from collector.inventory.query import Since, series_span, span_since
from collector.ui.components.chart import BARS_MAX, HEIGHT, WIDTH, draw_calls, draw_latency, split_status

NOW = 1_800_000_000.0


def make_point(time: int, calls: int, errors: int = 0, p95_ms: float | None = None) -> SeriesPoint:
    return SeriesPoint(
        time=time, calls=calls, errors=errors, p95_ms=p95_ms, request_bytes=0, response_bytes=0, consumers=1
    )


@given(st.sampled_from(Since), st.lists(st.tuples(st.integers(0, 89), st.integers(1, 10**9)), max_size=50))
def test_bars_stay_inside(since, steps):
    span = series_span(span_since(since, NOW))
    points = [make_point(span.start + place * span.seconds // 90, calls, calls // 3) for place, calls in steps]
    chart = draw_calls(points, span)
    assert len(chart.bars) <= BARS_MAX
    assert bool(chart.bars) == bool(points)
    for bar in chart.bars:
        assert bar.x >= 0
        assert bar.x + bar.width <= WIDTH + 0.01
        assert 0 <= bar.marked_height <= bar.height <= HEIGHT
    if points:
        assert max(bar.height for bar in chart.bars) == HEIGHT


def test_a_bar_adds_its_minutes_and_keeps_the_highest_latency():
    span = series_span(span_since(Since.DAY, NOW))
    steps = ((0, 2, 1, 4.0), (60, 3, 0, 9.0), (120, 1, 0, None))
    points = [make_point(span.start + after, *figures) for after, *figures in steps]
    (calls,) = draw_calls(points, span).bars
    assert calls.title.endswith("6 calls, 1 errors")
    (latency,) = draw_latency(points, span).bars
    assert latency.title.endswith("9.0 ms p95")


def test_nothing_drawn_says_so():
    chart = draw_calls([], span_since(Since.HOUR, NOW))
    assert (chart.bars, chart.top, chart.summary) == ((), "", "no calls in this span")


@given(st.lists(st.integers(0, 10**12), min_size=6, max_size=6), st.integers(0, 10**12))
def test_the_mix_of_calls_that_were_read_fills_its_bar(counts, not_read):
    names = ("informational", "success", "redirection", "client_error", "server_error", "aborted")
    shares = split_status(StatusMix(**dict(zip(names, counts, strict=True)), not_read=not_read))
    assert bool(shares) == bool(sum(counts))
    if shares:
        assert abs(sum(share.width for share in shares) - 100) < 0.05
        assert shares[0].x == 0
