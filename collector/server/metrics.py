"""The collector's metrics as OpenMetrics or in the Prometheus text format, read from their counters at each scrape.

docs/reference/metrics.md describes each family.
"""

from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from common.figures import Figure, collect_families

PREFIX = "apidae_collector_"

ListFigures = Callable[[], Iterable[Figure]]


class _Families(Collector):
    def __init__(self, list_figures: ListFigures) -> None:
        self._list_figures = list_figures

    def collect(self) -> Iterable[Metric]:
        return collect_families(PREFIX, self._list_figures())


def render_metrics(list_figures: ListFigures, accept: str) -> tuple[bytes, str]:
    """The text in the format that the header field `Accept` prefers, and its media type; names get the prefix."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(list_figures))
    encode, media_type = choose_encoder(accept)
    return encode(registry), media_type
