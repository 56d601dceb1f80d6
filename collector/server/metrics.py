"""The collector's metrics in the Prometheus text format, read from their counters at each scrape.

docs/reference/metrics.md describes each family.
"""

import time
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector as PrometheusCollector

from collector.kubernetes.watcher import list_watch_figures
from collector.server.compose import Collector
from collector.storage.disk import measure_bytes
from common.figures import Figure, collect_families, list_figures, make_gauges, make_totals

PREFIX = "apidae_collector_"

ListFigures = Callable[[], Iterable[Figure]]


class Metrics:
    """All of them; names get the prefix."""

    def __init__(self, list_all: ListFigures) -> None:
        """`list_all` is asked at each scrape."""
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Families(list_all))

    def render(self) -> bytes:
        """The text."""
        return generate_latest(self._registry)


def list_collector_figures(collector: Collector) -> Iterable[Figure]:
    """Of what a collector keeps, beside its listeners and threads. Raises StoreError."""
    writer, disk = collector.writer, collector.disk
    is_embedded = collector.settings.store_url is None
    totals = (
        (
            "schemas_dropped",
            "Schemas of routes that found no room before the next flush.",
            collector.schemas.dropped,
        ),
        (
            "alerts_suppressed",
            "Alerts beyond the budget of alerts a day that were not opened.",
            collector.alert_service.suppressed_count,
        ),
        (
            "alert_answers_dropped",
            "Alerts for which no block was proposed: too many, or too late.",
            collector.alert_actions.dropped_count,
        ),
        ("sensors_unlisted", "Messages of sensors beyond the most that are listed.", collector.sensors.unlisted),
    )
    gauges = (
        ("sensors", "Sensors that are known, connected or not.", len(collector.sensors.list_statuses())),
        ("wal_bytes", "Bytes of the log of batches.", collector.wal.size_bytes),
        ("disk_free_bytes", "Free bytes of the disk with the log and the tables.", disk.measure_free()),
        ("disk_reserve_bytes", "Free bytes below which the log takes nothing.", disk.reserve_bytes),
        (
            "store_lag_seconds",
            "Age of the oldest batch that is not in the tables yet.",
            writer.measure_lag(time.time()),
        ),
        (
            "store_bytes",
            "Bytes of the tables; 0 of a store that is not embedded.",
            measure_bytes(collector.store) if is_embedded else 0,
        ),
    )
    yield from make_totals(totals)
    yield from make_gauges(gauges)
    yield from list_figures(writer.counts, "writer_")
    yield from list_figures(writer.log_counts, "log_")
    yield from list_figures(collector.reports)
    yield from collector.notifiers.figures()
    yield from collector.integrations.figures()
    yield from collector.detection.figures()
    yield from collector.detectors.figures()
    yield from list_watch_figures(collector.clusters)
    yield from collector.risks.figures()
    yield from collector.changes.figures()
    yield from collector.read_share()


class _Families(PrometheusCollector):
    def __init__(self, list_all: ListFigures) -> None:
        self._list_all = list_all

    def collect(self) -> Iterable[Metric]:
        return collect_families(PREFIX, self._list_all())
