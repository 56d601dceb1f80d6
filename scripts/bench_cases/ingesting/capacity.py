"""What one unit of load costs a collector, and by that what installations of different sizes need.

    cores = idle + active + streams * stream + batches/s * batch + rows/s * row

`idle` is a collector without streams, and `active` what small inserts take while few rows come. A batch and a row are
solved from the two floods, which differ in rows a batch. The costs are measured, the installations are computed. In
these the nodes have no consumer in common, so that each has keys of its own in the tables.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from scripts.bench_cases.ingesting.recording import Recording
from scripts.bench_cases.ingesting.templates import TEMPLATES, WINDOW_SECONDS, NodeGroup
from sensor.aggregate.dictionary import Facts

# Nodes, and what runs on each.
INSTALLATIONS: Final = (
    *((10, "small"), (100, "small"), (100, "node"), (1_000, "small"), (1_000, "node")),
    *((10_000, "small"), (10_000, "node")),
)
# Of the tables by minute and by hour (docs/use/storage.md).
MINUTE_HOURS, HOUR_DAYS = 48, 90


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitCosts:
    """Processor time of all processes, memory, and bytes."""

    idle_cores: float
    active_cores: float
    stream_us_a_second: float
    batch_us: float
    row_us: float
    batch_of_14_rows_us: float
    row_of_200_us: float  # A row, with its share of a batch of 200.
    rest_mb: float  # Without streams, all processes.
    stream_kb: float
    row_bytes: float  # On the wire, and in the log until it is stored.
    minute_row_bytes: float  # On disk.
    hour_row_bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFigures:
    """What one node sends a second, and how many rows of the tables that becomes."""

    batches: float
    rows: float
    minute_keys: int  # In a minute.
    hour_keys: int  # In an hour.


def estimate_unit_costs(lines: Mapping[str, Mapping[str, Any]]) -> UnitCosts:
    """By the lines of a default run, by the names of their loads."""
    rest, idle, light = (lines[name] for name in ("no streams", "idle streams", "light"))
    floods, totals = (lines["flood of small"], lines["flood of busy"]), lines["totals"]
    streams = max(1, idle["streams"])
    stream = max(0.0, idle["cores"] - rest["cores"]) / streams
    used, counts = [], []
    for flood in floods:
        used.append(flood["cores"] - rest["cores"] - stream * flood["streams"])
        counts.append((flood["batches_per_second"], flood["rows_per_second"]))
    batch, row = solve(counts, used)
    of_light = light["batches_per_second"] * batch + light["rows_per_second"] * row
    return UnitCosts(
        idle_cores=round(rest["cores"], 4),
        active_cores=round(max(0.0, light["cores"] - rest["cores"] - stream * light["streams"] - of_light), 4),
        stream_us_a_second=round(stream * 1e6, 1),
        batch_us=round(batch * 1e6, 1),
        row_us=round(row * 1e6, 2),
        batch_of_14_rows_us=round((batch + 14 * row) * 1e6, 1),
        row_of_200_us=round((batch / 200 + row) * 1e6, 2),
        rest_mb=round(sum(rest["memory_mb"].values())),
        stream_kb=round(1e3 * max(0.0, _sum_memory(idle) - _sum_memory(rest)) / streams),
        row_bytes=round(floods[0]["bytes_a_row"], 1),
        minute_row_bytes=round(totals["rows_minute_bytes"] / max(1, totals["rows_minute_count"]), 1),
        hour_row_bytes=round(totals["rows_hour_bytes"] / max(1, totals["rows_hour_count"]), 1),
    )


def solve(counts: list[tuple[float, float]], used: list[float]) -> tuple[float, float]:
    """Cores of a batch a second and of a row a second, by two loads; neither is below 0."""
    batch, row = np.linalg.solve(np.array(counts), np.array(used)).tolist()
    if batch < 0:
        return 0.0, max(used[1], 0.0) / counts[1][1]
    if row < 0:
        return max(used[0], 0.0) / counts[0][0], 0.0
    return batch, row


def list_installations(costs: UnitCosts, figures: Mapping[str, NodeFigures]) -> Iterator[dict[str, Any]]:
    """One line for each installation; `figures` by the name of the template."""
    for nodes, name in INSTALLATIONS:
        node = figures[name]
        batches, rows = nodes * node.batches, nodes * node.rows
        cores = costs.idle_cores + costs.active_cores + nodes * costs.stream_us_a_second / 1e6
        cores += (batches * costs.batch_us + rows * costs.row_us) / 1e6
        minute_bytes = nodes * node.minute_keys * 60 * MINUTE_HOURS * costs.minute_row_bytes
        hour_bytes = nodes * node.hour_keys * 24 * HOUR_DAYS * costs.hour_row_bytes
        yield {
            "installation": f"{nodes} nodes, {name}",
            "streams": nodes,
            "batches_per_second": round(batches, 1),
            "rows_per_second": round(rows),
            "cores": round(cores, 2),
            "streams_mb": round(nodes * costs.stream_kb / 1e3),
            "log_gb_an_hour": round(rows * 3_600 * costs.row_bytes / 1e9, 2),
            "minutes_gb": round(minute_bytes / 1e9, 1),
            "hours_gb": round(hour_bytes / 1e9, 1),
        }


def describe_costs(costs: UnitCosts) -> dict[str, Any]:
    """The line of the unit costs."""
    return {"load": "unit costs", **asdict(costs)}


def measure_nodes() -> dict[str, NodeFigures]:
    """Of the templates in `INSTALLATIONS`, by name; some seconds."""
    return {name: _measure_node(name) for name in sorted({name for _, name in INSTALLATIONS})}


def _measure_node(name: str) -> NodeFigures:
    batches, rows, _ = Recording(NodeGroup(TEMPLATES[name], 0)).count()
    group, facts = NodeGroup(TEMPLATES[name], 0), Facts()
    keys: set[tuple[int, int, int]] = set()
    counts: dict[int, int] = {}
    windows_of_hour = 3_600 // WINDOW_SECONDS
    for window in range(1, windows_of_hour + 1):
        calls = group.draw_window(facts)
        keys.update(zip(calls["route"].tolist(), calls["actor"].tolist(), calls["status"].tolist(), strict=True))
        counts[window] = len(keys)
    return NodeFigures(
        batches=batches / WINDOW_SECONDS,
        rows=rows / WINDOW_SECONDS,
        minute_keys=counts[60 // WINDOW_SECONDS],
        hour_keys=counts[windows_of_hour],
    )


def _sum_memory(line: Mapping[str, Any]) -> float:
    return float(sum(line["memory_mb"].values()))
