"""Formats docs/reference/metrics.md: every metric of sensor and collector with its type, labels and sentence."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from prometheus_client.core import Metric

PAGE: Final = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
_HEAD: Final = """# Metrics

`scripts/generate` makes this page from the programs. They export these metrics as OpenMetrics or in the
Prometheus text format.

- The collector's metrics are at `/metrics` of its API and need the API token.
- A sensor's metrics are at `/metrics` of `metrics_listen`, without TLS. It is off by default.
- [Metrics of services](../use/metrics.md) says what is counted of services and endpoints.
- Counters begin at the start of the process. Some begin again when the installation key changes.
- `apidae get coverage --losses` shows what a sensor lost, with advice ([coverage](../use/coverage.md)).

## Watch at least these

| Metric | If it rises | What to do |
|---|---|---|
| `apidae_sensor_state` | 2: the sensor is paused; 3: it stops | Run `apidae resume` if nobody asked for it. |
| `apidae_sensor_dropped_total` | calls are missing in the inventory | See `apidae get coverage --losses`. |
| `apidae_sensor_gap_seconds_total` | nothing was captured | Replace sensors as the chart does. |
| `apidae_sensor_failures_total` | a bug costs data | Report the traceback in the sensor's log. |
| `apidae_sensor_lag_seconds` | rows do not reach the collector | Check the collector's log and disk. |
| `apidae_sensor_unlearned_calls_total` | calls have no path and no caller | Raise `heads_per_second`. |
| `apidae_sensor_budget_used_ratio` | above 1, fewer request heads are read | Raise `capture_budget_core_share`. |
| `apidae_sensor_failed_resets_total` | a blocked client is not disconnected at once | Check the sensor's log. |
| `apidae_collector_ingest_batches_refused_total` | rows of a sensor are lost | Compare their versions. |
| `apidae_collector_log_batches_lost_total` | acknowledged rows are lost | Check the disk. |
| `apidae_collector_store_lag_seconds` | the inventory is old | Check the store and the disk. |
| `apidae_collector_notifier_failed_total` | alerts do not reach people | Check the notifier's address. |
"""


def format_metrics(sensor: Iterable[Metric], collector: Iterable[Metric]) -> str:
    """The page as it is kept."""
    return "\n".join((_HEAD, *_format_side("Sensor", sensor), *_format_side("Collector", collector)))


def _format_side(title: str, families: Iterable[Metric]) -> Iterator[str]:
    yield f"## {title}\n"
    yield "| Name | Type | Labels | Meaning |"
    yield "|---|---|---|---|"
    for family in sorted({family.name: family for family in families}.values(), key=lambda one: one.name):
        labels = {tuple(sorted(sample.labels.keys() - {"le"})) for sample in family.samples}
        if len(labels) != 1:
            raise ValueError(f"{family.name} has samples with other labels: {sorted(labels)}")
        name = f"{family.name}_total" if family.type == "counter" else family.name
        names = ", ".join(f"`{label}`" for label in labels.pop())
        yield f"| `{name}` | {family.type} | {names} | {family.documentation} |"
    yield ""
