"""Charts of calls over time, and the bar of classes of status."""

from dataclasses import dataclass

from collector.inventory.endpoints.endpoint import StatusMix
from collector.inventory.traffic.series import TrafficSeries
from collector.ui.components.chart import Chart, Look, Series, Shape, draw
from collector.ui.components.wording import word_milliseconds


def draw_traffic(series: TrafficSeries) -> tuple[Chart, Chart, Chart]:
    """Calls by class of status, errors, and latency."""
    points, start, step = series.points, series.start, series.step_seconds
    classes = (
        ("2xx", Look.SUCCESS, [point.success for point in points]),
        ("1xx, 3xx or not read", Look.REDIRECTION, [point.other for point in points]),
        ("4xx", Look.CLIENT_ERROR, [point.client_error for point in points]),
        ("5xx or aborted", Look.SERVER_ERROR, [point.errors for point in points]),
    )
    calls = [Series(name=name, values=values, look=look) for name, look, values in classes if any(values)]
    errors = [Series(name="5xx or aborted", values=[point.errors for point in points], look=Look.SERVER_ERROR)]
    latency = [Series(name="p95", values=[point.p95_ms for point in points], look=Look.LATENCY)]
    return (
        draw("Calls", calls, start=start, step=step, unit="calls", shape=Shape.STACKED),
        draw("Errors", errors, start=start, step=step, unit="calls", shape=Shape.BARS),
        draw("Latency", latency, start=start, step=step, unit="p95 to the last byte", word=word_milliseconds),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One part of a whole of 100 units."""

    name: str
    x: float
    width: float


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
