"""The collector's own figures in the Prometheus text format, read from whoever counts at the moment of the question."""

from collections.abc import Callable, Iterable, Mapping

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

Figures = Mapping[str, float]


class Metrics:
    """Counters and gauges by name; names get the prefix `apidae_collector_`."""

    def __init__(self, *, counters: Callable[[], Figures], gauges: Callable[[], Figures]) -> None:
        """Both are asked at each scrape."""
        self._registry = CollectorRegistry()
        self._registry.register(_Figures(counters, gauges))

    def render(self) -> bytes:
        """The text."""
        return generate_latest(self._registry)


class _Figures(Collector):
    def __init__(self, counters: Callable[[], Figures], gauges: Callable[[], Figures]) -> None:
        self._counters = counters
        self._gauges = gauges

    def collect(self) -> Iterable[Metric]:
        for name, value in sorted(self._counters().items()):
            yield CounterMetricFamily(f"apidae_collector_{name}", f"{name.replace('_', ' ')}, total.", value=value)
        for name, value in sorted(self._gauges().items()):
            yield GaugeMetricFamily(f"apidae_collector_{name}", f"{name.replace('_', ' ')}, now.", value=value)
