"""What ingest costs a collector: simulated sensors that speak the real protocol, and processor time by stage.

    scripts/bench ingest                                                 some five minutes
    scripts/bench ingest --sensors 1000 --template small --seconds 60    nodes at the pace of real ones
    scripts/bench ingest --sensors 20 --template node --flood 3000       batches, as fast as they are acknowledged
    scripts/bench ingest --idle 0 1 100 1000                             streams without calls
    scripts/bench ingest --restart --sensors 1000                        until all are back after a kill

The collector is started on loopback without tokens and TLS, in a directory that is removed. Templates of nodes are in
scripts/bench_cases/ingesting/templates.py. Compare processor seconds: other work on the machine lengthens only what is
in seconds of wall time. A JSON line for each load:

- `cores`: processor seconds of all processes of the collector a second, and by stage (collector/server/usage.py). Those
  of the stage `requests` are the bench's own, for metrics, and not in it.
- `us_a_batch`, `us_a_row`: all of it, divided by the batches or the rows of that load.
- `acknowledged_ms`: from a sensor's spool to the acknowledgement: median, 95th percentile, most.
- `stored_rows` of `accepted_rows`: in the tables when the load ended. The last is after `stored_after_seconds`.
- `late_seconds`: by how much this process sent late, at most. Above 0.5 s the load was not the one that was asked for.

After a kill, `back_seconds` are since the start that was ready again, and `schemas_seconds` until the collector has
looked up everything that was offered and stored what it lacked; so is `first_schemas_seconds`, of sensors that it does
not know. `back_cpu_ms_a_sensor` is what it took until the last was back, without the start, and `cpu_ms_a_sensor` with
the schemas.

A flood is measured until all is stored. The line `totals` compares what was acknowledged with each table. After a
default run there are lines of the unit costs, and of what installations need by these (ingesting/capacity.py).
"""

import argparse
import asyncio
import json
import logging
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scripts.bench_cases.ingesting.capacity import (
    describe_costs,
    estimate_unit_costs,
    list_installations,
    measure_nodes,
)
from scripts.bench_cases.ingesting.recording import WINDOWS_RECORDED, Recording
from scripts.bench_cases.ingesting.sensors import Fleet
from scripts.bench_cases.ingesting.templates import GROUPS, TEMPLATES, WINDOW_SECONDS, NodeGroup
from scripts.bench_cases.ingesting.use import CALL_TABLES, Metrics, read_metrics, read_peak_mb, read_totals
from scripts.live.host import CollectorAddress, start_collector
from scripts.live.program import Program

# Of a default run: recording more takes longer than what it changes.
FEW_GROUPS = 5
SETTLE_SECONDS = 10
# For what a load left to be acknowledged, and to be stored.
DRAIN_SECONDS = 60.0
BACK_SECONDS = 120.0
SCHEMAS_SECONDS = 240.0  # 200,000 that the collector does not have, of which it asks for 2,000 a second.
POLL_SECONDS = 1.0  # Each look at the metrics asks the tables, too.
# The whole of a run, on top of the seconds of its loads.
LIMIT_SECONDS = 420.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What is sent, by whom, and for how long."""

    name: str
    sensors: int
    template: str = ""  # Empty: the streams are idle.
    seconds: int = 20
    settle_seconds: int = SETTLE_SECONDS
    flood_batches: int = 0  # So many, as fast as they are acknowledged, and not for a time.


DEFAULT_LOADS = (
    # As on most days: the first minute is over, and nobody looks.
    Load(name="no streams", sensors=0, seconds=30, settle_seconds=65),
    Load(name="light", sensors=1, template="light", seconds=60),
    Load(name="idle streams", sensors=100, seconds=10, settle_seconds=20),
    Load(name="small", sensors=100, template="small"),
    Load(name="flood of small", sensors=20, template="small", flood_batches=2_000),
    Load(name="flood of busy", sensors=20, template="busy", flood_batches=400),
)


class Bench:
    """One collector, and the sensors that send to it."""

    def __init__(self, directory: Path, *, groups: int) -> None:
        self._directory = directory
        self._groups = groups
        self._recordings: dict[str, list[Recording]] = {}
        self.collector, self.address = self._start()
        self.fleet = Fleet(self.address.grpc, directory / "sensors")

    def _start(self, grpc_listen: str = "127.0.0.1:0") -> tuple[Program, CollectorAddress]:
        return start_collector(self._directory / "data", self._directory, grpc_listen=grpc_listen)

    def restart(self) -> None:
        """Kill the collector and start it again at the same address."""
        self.collector.kill()
        self.collector, self.address = self._start(self.address.grpc)

    def record(self, template: str) -> list[Recording]:
        """What nodes of a template send; made once."""
        if template not in self._recordings:
            groups = [NodeGroup(TEMPLATES[template], number) for number in range(self._groups)]
            self._recordings[template] = [Recording(group) for group in groups]
        return self._recordings[template]

    async def read_metrics(self) -> Metrics:
        """Of the collector; beside the loop of the sensors."""
        return await asyncio.to_thread(read_metrics, self.address.url)

    async def measure(self, load: Load) -> dict[str, Any]:
        """The figures of one load."""
        fleet, recordings = self.fleet, self.record(load.template or "small")
        await fleet.connect(load.sensors, recordings)
        if not load.flood_batches:
            await self._run(load, recordings, load.settle_seconds)
        account = fleet.account
        account.waits_seconds, account.late_seconds = [], 0.0
        batches, rows, size = account.batches, account.rows, account.bytes
        before, started = await self.read_metrics(), time.monotonic()
        await self._run(load, recordings, load.seconds)
        ended = await self.read_metrics()
        facts: dict[str, Any] = {"load": load.name, "streams": int(ended.values["streams"])}
        if load.template:
            stored = ended.values["writer_rows_stored_total"] - before.values["writer_rows_stored_total"]
            facts |= {"accepted_rows": account.rows - rows, "stored_rows": int(stored)}
        if load.flood_batches:
            facts["stored_after_seconds"] = await self._wait_stored()
        after, seconds = await self.read_metrics(), time.monotonic() - started
        batches, rows = account.batches - batches, account.rows - rows
        used = subtract(after.stage_seconds, before.stage_seconds)
        used.pop("requests", None)  # This bench's own, for the metrics.
        total = sum(used.values())
        facts |= {
            "seconds": round(seconds, 1),
            "cores": round(total / seconds, 4),
            "cores_of_stages": {stage: round(spent / seconds, 4) for stage, spent in used.items()},
            "batches_per_second": round(batches / seconds, 1),
            "rows_per_second": round(rows / seconds, 1),
        }
        if load.template:
            held = ended.values["ingest_held_seconds_total"] - before.values["ingest_held_seconds_total"]
            facts |= {
                "rows_a_batch": round(rows / max(1, batches), 1),
                "bytes_a_row": round((account.bytes - size) / max(1, rows), 1),
                "us_a_batch": round(total * 1e6 / max(1, batches), 1),
                "us_a_row": round(total * 1e6 / max(1, rows), 2),
                "us_a_batch_of_stages": {
                    stage: round(spent * 1e6 / max(1, batches), 1) for stage, spent in used.items()
                },
                "acknowledged_ms": summarise_waits(account.waits_seconds),
                "unacknowledged_batches": fleet.waiting_count,
                "late_seconds": round(account.late_seconds, 3),
                "held_seconds": round(held, 1),
            }
        return facts | {"memory_mb": after.memory_mb, "peak_mb": read_peak_mb(self.collector.pid)}

    async def _run(self, load: Load, recordings: Sequence[Recording], seconds: int) -> None:
        if not load.template:
            await asyncio.sleep(seconds)
        elif load.flood_batches:
            await self.fleet.flood(load.sensors, recordings, load.flood_batches)
            await self.fleet.wait_acknowledged(DRAIN_SECONDS)
        else:
            await self.fleet.play(load.sensors, recordings, seconds)

    async def _wait_stored(self) -> float:
        """Seconds until tables and detectors have all that was acknowledged, at most `DRAIN_SECONDS`."""
        started = time.monotonic()
        while (waited := time.monotonic() - started) < DRAIN_SECONDS:
            values = (await self.read_metrics()).values
            judged = values["detector_calls_used_total"] + values["detector_calls_dropped_total"]
            is_stored = values["writer_batches_seen_total"] >= values["ingest_batches_durable_total"]
            if is_stored and judged >= self.fleet.account.calls:
                break
            await asyncio.sleep(POLL_SECONDS)
        return round(waited, 1)

    async def measure_return(self, sensors: int) -> dict[str, Any]:
        """How long after a kill of the collector its sensors are back, with what their routes look like."""
        recordings = self.record("small")
        await self.fleet.connect(sensors, recordings)
        await self.fleet.wait_connected()
        await self.fleet.play(sensors, recordings, WINDOWS_RECORDED * WINDOW_SECONDS)  # All routes.
        await self.fleet.wait_acknowledged(DRAIN_SECONDS)
        offered = sum(len(sensor.group.list_schemas(0)) for sensor in self.fleet.sensors if sensor.group is not None)
        first_schemas_seconds = await self._wait_schemas(offered)
        killed = time.monotonic()
        await asyncio.to_thread(self.restart)
        ready = time.monotonic()
        started = await self.read_metrics()
        back: dict[str, float] = {}
        for share in (0.5, 0.9, 0.99, 1.0):
            left = BACK_SECONDS - (time.monotonic() - ready)
            try:
                await asyncio.wait_for(self.fleet.wait_connected(share), max(0.1, left))
            except TimeoutError:
                break
            back[f"{share:.0%}"] = round(time.monotonic() - ready, 1)
        connected = await self.read_metrics()
        await self._wait_schemas(offered)
        schemas_seconds = round(time.monotonic() - ready, 1)
        settled = await self.read_metrics()
        used = subtract(settled.stage_seconds, started.stage_seconds)
        used.pop("requests", None)
        return {
            "load": "restart",
            "sensors": sensors,
            "start_seconds": round(ready - killed, 1),
            "back_seconds": back,
            "first_schemas_seconds": first_schemas_seconds,
            "schemas_seconds": schemas_seconds,
            "connected": self.fleet.connected_count,
            "start_cpu_seconds": round(started.total_seconds, 1),
            "back_cpu_ms_a_sensor": round(1e3 * (connected.total_seconds - started.total_seconds) / sensors, 1),
            "cpu_ms_a_sensor": round(1e3 * sum(used.values()) / sensors, 1),
            "cpu_ms_a_sensor_of_stages": {stage: round(1e3 * spent / sensors, 2) for stage, spent in used.items()},
            "schemas_offered": int(settled.values["schemas_offered_total"]),
            "schemas_asked": int(settled.values["schemas_asked_total"]),
            "schemas_dropped": int(settled.values["schemas_dropped_total"]),
            "memory_mb": settled.memory_mb,
            "peak_mb": read_peak_mb(self.collector.pid),
        }

    async def _wait_schemas(self, offered: int) -> float:
        """Seconds until so many states were offered, and none waits to be looked up or asked for."""
        started = time.monotonic()
        while (waited := time.monotonic() - started) < SCHEMAS_SECONDS:
            values = (await self.read_metrics()).values
            if values["schemas_offered_total"] >= offered and not values["schemas_waiting"]:
                break
            await asyncio.sleep(POLL_SECONDS)
        return round(waited, 1)

    async def compare_totals(self) -> dict[str, Any]:
        """Calls that were acknowledged, against each table and the detectors. Stops the collector."""
        account = self.fleet.account
        is_acknowledged = await self.fleet.wait_acknowledged(DRAIN_SECONDS)
        await self._wait_stored()
        metrics = (await self.read_metrics()).values
        await asyncio.to_thread(self.collector.stop, 30.0)
        totals = await asyncio.to_thread(read_totals, self._directory / "data")
        return {
            "load": "totals",
            "is_acknowledged": is_acknowledged,
            "acknowledged_calls": account.calls,
            **totals,
            "judged_calls": int(metrics["detector_calls_used_total"]),
            "refused_batches": account.refused,
            "duplicate_batches": int(metrics["ingest_batches_duplicate_total"]),
            "retried_batches": int(metrics["ingest_batches_retry_total"]),
            # What is not acknowledged may be stored all the same.
            "is_exact": is_acknowledged and all(totals[table] == account.calls for table in CALL_TABLES),
        }


def subtract(after: Mapping[str, float], before: Mapping[str, float]) -> dict[str, float]:
    """What was added to each, most first."""
    added = {name: value - before.get(name, 0.0) for name, value in after.items()}
    return dict(sorted(added.items(), key=lambda one: -one[1]))


def summarise_waits(seconds: Sequence[float]) -> dict[str, float]:
    """Median, 95th percentile and most, in milliseconds."""
    if not seconds:
        return {}
    ordered = sorted(seconds)
    p95 = ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))]
    return {
        "p50": round(statistics.median(ordered) * 1e3),
        "p95": round(p95 * 1e3),
        "max": round(ordered[-1] * 1e3),
    }


async def run(bench: Bench, options: argparse.Namespace) -> None:
    """Print the lines of a run."""
    lines: dict[str, dict[str, Any]] = {}
    async with bench.fleet:
        if options.restart:
            _print(await bench.measure_return(options.sensors))
        else:
            for load in choose_loads(options):
                lines[load.name] = await bench.measure(load)
                _print(lines[load.name])
        lines["totals"] = await bench.compare_totals()
        _print(lines["totals"])
    if lines.keys() >= {load.name for load in DEFAULT_LOADS}:
        costs = estimate_unit_costs(lines)
        for line in (describe_costs(costs), *list_installations(costs, measure_nodes())):
            _print(line)


def choose_loads(options: argparse.Namespace) -> Sequence[Load]:
    """The loads of a command line."""
    if options.idle:
        return [
            Load(
                name="idle streams" if count else "no streams",
                sensors=count,
                seconds=options.seconds,
                settle_seconds=SETTLE_SECONDS + count // 10,  # The collector asks for 2,000 schemas a second.
            )
            for count in sorted(options.idle)
        ]
    if options.template is None and not options.flood:
        return DEFAULT_LOADS
    template = options.template or "node"
    return [
        Load(
            name=f"flood of {template}" if options.flood else template,
            sensors=options.sensors,
            template=template,
            seconds=options.seconds,
            flood_batches=options.flood,
        )
    ]


def _print(facts: dict[str, Any]) -> None:
    print(json.dumps(facts), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench ingest")
    parser.add_argument("--sensors", type=int, default=100)
    parser.add_argument("--template", choices=TEMPLATES)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--flood", type=int, default=0, help="batches, as fast as they are acknowledged")
    parser.add_argument("--idle", type=int, nargs="+", help="numbers of streams")
    parser.add_argument("--restart", action="store_true")
    parser.add_argument("--groups", type=int, help="of 10 services each")
    options = parser.parse_args()
    logging.getLogger("sensor").setLevel(logging.ERROR)  # The collector is stopped before its sensors.
    groups = options.groups or (GROUPS if options.sensors > 100 else FEW_GROUPS)
    with tempfile.TemporaryDirectory(prefix="apidae-bench-") as directory:
        bench = Bench(Path(directory), groups=groups)
        try:
            asyncio.run(asyncio.wait_for(run(bench, options), options.seconds * 4 + LIMIT_SECONDS))
        finally:
            bench.collector.stop()


if __name__ == "__main__":
    main()
