"""What a collector uses, by its own metrics and by the system, and how many calls its tables hold."""

import json
import re
import subprocess
import sys
import urllib.request
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# Tables that hold each call once: `rows_*` by consumer, and `routes_*` of all consumers together.
CALL_TABLES: Final = ("rows_minute", "rows_hour", "routes_hour", "routes_day")
_SAMPLE: Final = re.compile(r'^apidae_collector_([a-z0-9_]+)(?:\{[a-z_]+="([^"]*)".*\})? ([^ ]+)$', re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Metrics:
    """The metrics of one moment, without the collector's prefix."""

    values: Mapping[str, float]  # Of several labels the sum.
    stage_seconds: Mapping[str, float]  # Processor time since the start.
    memory_mb: Mapping[str, float]  # Resident, by process.

    @property
    def total_seconds(self) -> float:
        """Processor time of all processes."""
        return sum(self.stage_seconds.values())


def read_metrics(url: str) -> Metrics:
    """Of the collector that answers there."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=60) as answer:
        samples = _SAMPLE.findall(answer.read().decode())
    values: dict[str, float] = defaultdict(float)
    for name, _, value in samples:
        values[name] += float(value)
    return Metrics(
        values=values,
        stage_seconds={stage: float(value) for name, stage, value in samples if name == "cpu_seconds_total"},
        memory_mb={what: round(float(value) / 1e6, 1) for name, what, value in samples if name == "memory_bytes"},
    )


def read_peak_mb(pid: int) -> float:
    """What the processes of a collector had resident at most, added."""
    pids = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        pids += map(int, (task / "children").read_text().split())
    statuses = (Path(f"/proc/{one}/status").read_text() for one in pids)
    return round(sum(int(status.split("VmHWM:")[1].split()[0]) for status in statuses) / 1e3, 1)


def read_totals(data_directory: Path) -> dict[str, int]:
    """Calls, rows and bytes of a stopped collector's tables. In a process of its own: who opens the engine keeps it in
    memory."""
    command = [sys.executable, "-m", "scripts.bench_cases.ingesting.use", str(data_directory)]
    done = subprocess.run(command, check=True, capture_output=True, timeout=120)
    totals: dict[str, int] = json.loads(done.stdout)
    return totals


def _print_totals(data_directory: Path) -> None:
    from collector.storage.embedded import EmbeddedStore

    bytes_of = "SELECT sum(bytes_on_disk) FROM system.parts WHERE active AND database = currentDatabase()"
    questions = {
        **{name: f"SELECT sum(calls) FROM {name}" for name in CALL_TABLES},
        "schemas": "SELECT uniqExact(node, route_id) FROM schemas WHERE version = (SELECT max(version) FROM schemas)",
        "endpoints": "SELECT uniqExact(endpoint_id) FROM endpoint_routes",
        **{f"{name}_count": f"SELECT count() FROM {name}" for name in ("rows_minute", "rows_hour")},
        **{f"{name}_bytes": f"{bytes_of} AND table = '{name}'" for name in ("rows_minute", "rows_hour")},
        "store_bytes": bytes_of,
    }
    store = EmbeddedStore(data_directory / "store")
    try:
        print(json.dumps({name: int(store.query(question)[0][0] or 0) for name, question in questions.items()}))
    finally:
        store.close()


if __name__ == "__main__":
    _print_totals(Path(sys.argv[1]))
