"""Several collectors with the role `ingest` before one that does everything else, under processes of simulated sensors.

    scripts/bench fleet                                      4 collectors, 10 processes, up to 1,000 sensors each
    scripts/bench fleet --steps 50 100 200 --seconds 20      sensors of each process, step by step
    scripts/bench fleet --template ""                        streams without calls

PostgreSQL of the distribution holds state and log, the embedded engine behind HTTP the tables. Each process has its own
nodes and dials one of the collectors, by turns. All of it runs on this machine, so a load that does not hold says what
the machine can do. Steps go on until one does not hold, and its line says in `ended_by` why. A JSON line for each step:

- `cores`: processor seconds a second, of the collectors with `ingest`, of the one that does the rest, of PostgreSQL, of
  the tables, and of the processes of sensors. Those of collectors are split by stage (collector/server/usage.py).
- `acknowledged_ms`: from a sensor's spool to the acknowledgement; of several processes the worst.
- `late_seconds`: by how much a process sent late, at most: above 1 s the load was not the one that was asked for.

The line `totals` compares calls that were acknowledged with each table.
"""

import argparse
import asyncio
import contextlib
import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Final

from scripts.bench_cases.ingest import subtract, summarise_waits
from scripts.bench_cases.ingesting.recording import Recording
from scripts.bench_cases.ingesting.sensors import Fleet
from scripts.bench_cases.ingesting.templates import TEMPLATES, NodeGroup
from scripts.bench_cases.ingesting.use import Metrics, read_metrics
from scripts.bench_cases.pair import read_totals, write_config
from scripts.live.host import CollectorAddress, start_collector
from scripts.live.program import Program
from tests.collector.postgresql import find_programs, run_server
from tests.collector.storage.http_server import RunningServer

GROUPS: Final = 5
SETTLE_SECONDS: Final = 10  # Of a step, before it is measured.
DRAIN_SECONDS: Final = 60.0
ACKNOWLEDGED_MS_MAX: Final = 10_000  # Past it sensors would send again before long.
LATE_SECONDS_MAX: Final = 1.0
READY_SECONDS: Final = 180.0
_INGEST: Final = ("--roles", "ingest")
_REST: Final = ("--roles", "writer,detect,jobs,api")
_TICKS: Final = os.sysconf("SC_CLK_TCK")


class Player:
    """One process of simulated sensors, which does what it is asked line by line."""

    def __init__(self, number: int, address: str, template: str, sensors: int) -> None:
        command = [sys.executable, "-m", "scripts.bench_cases.fleet", "--player", str(number), "--address", address]
        command += ["--template", template, "--steps", str(sensors)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, **order: int) -> None:
        """Begin to do it."""
        _get(self.process.stdin).write(json.dumps(order) + "\n")
        _get(self.process.stdin).flush()

    def read(self) -> dict[str, Any]:
        """What came of it."""
        answer: dict[str, Any] = json.loads(_get(self.process.stdout).readline())
        return answer

    def stop(self) -> None:
        """End it."""
        with self.process:
            _get(self.process.stdin).close()
            self.process.wait(60)


def _get(pipe: IO[str] | None) -> IO[str]:
    assert pipe is not None
    return pipe


async def play(number: int, address: str, template: str, most: int) -> None:
    """A player's own process: until its standard input ends."""
    kind = TEMPLATES[template or "small"]
    recordings = [Recording(NodeGroup(kind, number * GROUPS + place)) for place in range(GROUPS)]
    with tempfile.TemporaryDirectory(prefix="apidae-player-") as directory:
        async with Fleet(address, Path(directory), first_number=number * most) as fleet:
            while line := await asyncio.to_thread(sys.stdin.readline):
                order, account = json.loads(line), fleet.account
                if "connect" in order:
                    await fleet.connect(order["connect"], recordings)
                if "play" in order:
                    account.waits_seconds, account.late_seconds = [], 0.0
                    await fleet.play(order["sensors"] if template else 0, recordings, order["play"])
                if "drain" in order:
                    await fleet.wait_acknowledged(DRAIN_SECONDS)
                answer = {
                    "connected": fleet.connected_count,
                    "batches": account.batches,
                    "rows": account.rows,
                    "calls": account.calls,
                    "refused": account.refused,
                    "waiting": fleet.waiting_count,
                    "late_seconds": round(account.late_seconds, 2),
                    "acknowledged_ms": summarise_waits(account.waits_seconds),
                }
                print(json.dumps(answer), flush=True)


def read_cpu_seconds(pids: Sequence[int]) -> float:
    """Processor time of processes and of those that they started and that live."""
    total, left = 0.0, list(pids)
    while left:
        pid = left.pop()
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += (int(fields[11]) + int(fields[12])) / _TICKS
            for task in Path(f"/proc/{pid}/task").iterdir():
                left += map(int, (task / "children").read_text().split())
    return total


class Installation:
    """Collectors, players, and what they share."""

    def __init__(self, directory: Path, state_url: str, store: RunningServer, options: argparse.Namespace) -> None:
        config = write_config(directory, state_url, store.port)
        self._store = store
        self._template = options.template
        self._database = int((Path(state_url.split("host=")[1]) / "data" / "postmaster.pid").read_text().split()[0])
        self._programs: list[Program] = []
        self.rest = self._start(directory / "rest", config, _REST)
        self.ingest = [self._start(directory / f"i{place}", config, _INGEST) for place in range(options.collectors)]
        self.players = [
            Player(number, self.ingest[number % len(self.ingest)].grpc, options.template, max(options.steps))
            for number in range(options.processes)
        ]

    def _start(self, directory: Path, config: Path, roles: Sequence[str]) -> CollectorAddress:
        directory.mkdir()
        program, address = start_collector(
            directory / "data", directory, "--config", str(config), *roles, ready_seconds=READY_SECONDS
        )
        self._programs.append(program)
        return address

    def order(self, **order: int) -> list[dict[str, Any]]:
        """Have all players do something at the same time."""
        for player in self.players:
            player.ask(**order)
        return [player.read() for player in self.players]

    def measure(self, sensors: int, seconds: int) -> dict[str, Any]:
        """The line of one step."""
        wanted = sensors * len(self.players)
        connected = sum(one["connected"] for one in self.order(connect=sensors))
        before = self.order(play=SETTLE_SECONDS, sensors=sensors)
        metrics, used, begun = self._read_metrics(), self._read_seconds(), time.monotonic()
        after = self.order(play=seconds, sensors=sensors)
        passed = time.monotonic() - begun
        cores = {name: round(spent / passed, 3) for name, spent in subtract(self._read_seconds(), used).items()}
        ended = self._read_metrics()
        stages: Counter[str] = Counter()
        for one, other in zip(ended, metrics, strict=True):
            stages.update(
                {name: spent / passed for name, spent in subtract(one.stage_seconds, other.stage_seconds).items()}
            )
        added = {
            name: sum(one[name] for one in after) - sum(one[name] for one in before) for name in ("batches", "rows")
        }
        waits = [one["acknowledged_ms"] for one in after if one["acknowledged_ms"]]
        line = {
            "load": self._template or "streams",
            "sensors": wanted,
            "connected": min(connected, sum(one["connected"] for one in after)),
            "cores": cores,
            "cores_of_stages": {stage: round(spent, 3) for stage, spent in stages.most_common()},
            "batches_per_second": round(added["batches"] / passed, 1),
            "rows_per_second": round(added["rows"] / passed, 1),
            "acknowledged_ms": {name: max(one[name] for one in waits) for name in (waits[0] if waits else ())},
            "late_seconds": max(one["late_seconds"] for one in after),
            "store_lag_seconds": round(ended[-1].values["store_lag_seconds"], 1),
            "memory_mb": {
                "ingest": round(sum(sum(one.memory_mb.values()) for one in ended[:-1])),
                "rest": round(sum(ended[-1].memory_mb.values())),
            },
        }
        return line | {"ended_by": find_end(line)}

    def _read_metrics(self) -> list[Metrics]:
        """Of the collectors, that of the rest last."""
        return [read_metrics(address.url) for address in (*self.ingest, self.rest)]

    def _read_seconds(self) -> dict[str, float]:
        rest, *ingest = (program.pid for program in self._programs)
        pids = {
            "ingest": ingest,
            "rest": [rest],
            "postgresql": [self._database],
            "tables": [self._store.process.pid],
            "sensors": [player.process.pid for player in self.players],
        }
        return {name: read_cpu_seconds(some) for name, some in pids.items()}

    def compare_totals(self) -> dict[str, Any]:
        """Calls that were acknowledged, against each table."""
        accounts = self.order(drain=1)
        calls = sum(one["calls"] for one in accounts)
        until, totals = time.monotonic() + DRAIN_SECONDS, read_totals(self._store.port)
        while time.monotonic() < until and any(count < calls for count in totals.values()):
            time.sleep(1)
            totals = read_totals(self._store.port)
        waiting, refused = (sum(one[name] for one in accounts) for name in ("waiting", "refused"))
        is_exact = not waiting and not refused and all(count == calls for count in totals.values())
        return {
            "load": "totals",
            "acknowledged_calls": calls,
            **totals,
            "unacknowledged_batches": waiting,
            "refused_batches": refused,
            "is_exact": is_exact,
        }

    def close(self) -> None:
        """End everything that was started here."""
        for player in self.players:
            player.stop()
        for program in self._programs:
            program.stop(30.0)


def find_end(line: Mapping[str, Any]) -> str:
    """Why a load did not hold; empty where it did."""
    if line["connected"] < line["sensors"]:
        return f"{line['connected']:,} of {line['sensors']:,} sensors are connected"
    if line["late_seconds"] > LATE_SECONDS_MAX:
        return f"the simulated sensors sent {line['late_seconds']:.1f} s late"
    if line["acknowledged_ms"] and line["acknowledged_ms"]["p95"] > ACKNOWLEDGED_MS_MAX:
        return f"acknowledgements took {line['acknowledged_ms']['p95'] / 1e3:.1f} s (95th percentile)"
    return ""


def run_fleet(options: argparse.Namespace, directory: Path, programs: Path) -> None:
    """Start everything, print the lines of a run, and end everything. `programs`: those of PostgreSQL."""
    with contextlib.ExitStack() as stack:
        store = RunningServer()
        stack.callback(store.stop)
        url = stack.enter_context(run_server(programs))
        installation = Installation(directory, url, store, options)
        stack.callback(installation.close)
        for sensors in options.steps:
            line = installation.measure(sensors, options.seconds)
            print(json.dumps(line), flush=True)
            if line["ended_by"]:
                break
        print(json.dumps(installation.compare_totals()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench fleet")
    parser.add_argument("--collectors", type=int, default=4, help="with the role ingest")
    parser.add_argument("--processes", type=int, default=10, help="of simulated sensors")
    parser.add_argument("--steps", type=int, nargs="+", default=[25, 50, 100, 200, 400, 700, 1000])
    parser.add_argument("--template", choices=(*TEMPLATES, ""), default="small")
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--player", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    options = parser.parse_args()
    logging.getLogger("sensor").setLevel(logging.ERROR)
    if options.player is not None:
        asyncio.run(play(options.player, options.address, options.template, max(options.steps)))
        return
    programs = find_programs()
    if programs is None:
        raise SystemExit("PostgreSQL is not installed (Debian's package postgresql).")
    with tempfile.TemporaryDirectory(prefix="apidae-fleet-") as directory:
        run_fleet(options, Path(directory), programs)


if __name__ == "__main__":
    main()
