"""What capture costs and whether it loses: nginx answering a constant, under wrk, with and without the sensor in
alternated rounds.

    scripts/bench capture [--rounds 3] [--seconds 5] [--scenarios fixed_rate ..]

No two requests are equal: a random id in the path, one of 500 credentials, a request-id header that counts. Both sides
are warm: two seconds of the same load go before what is measured. Two more scenarios show what that hides: `cold`, the
first seconds of a sensor, in which everything is new to the kernel, and `unknown`, with a credential of its own in each
request, so that no call is ever recognised and the budget of heads decides what is described. Ratios of
CPU time are the figures to trust; calls a second depend on what else the machine does. Server CPU is read from
schedstat of nginx's threads, wrk's from its rusage, the sensor's and the collector's from schedstat. The sensor runs
in a memory cgroup of its own where one can be made, so that its maps and ring count; else its resident set is given,
and `memory_of` says so.
"""

import argparse
import contextlib
import json
import os
import re
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from scripts.demo.nginx import Nginx
from scripts.live.host import CollectorAddress, start_collector, start_sensor
from scripts.live.program import Program

CONNECTIONS = 32
CREDENTIALS = 500
COUNTLESS = 1_000_000_000
WARM_SECONDS = 2
FIXED_RATE = 10_000  # Calls a second of the scenario that must lose nothing.
SETTLE_SECONDS = 2.0  # The ring is read every 25 ms, totals follow.
SERVER = "        default_type application/json;\n        location / { return 200 '{\"ok\": true}'; }"
HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One run of wrk: calls made, and CPU seconds of each party (sensor and collector 0 where they do not run)."""

    made: int
    server: float
    client: float
    sensor: float
    collector: float
    seen: int
    dropped: int
    memory_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensor:
    """A running sensor with its collector, and where its figures are."""

    program: Program
    collector: Program
    metrics: str
    cgroup: Path | None


def read_cpu_seconds(pids: list[int]) -> float:
    """Time on a CPU of all threads of the processes (first field of schedstat, ns)."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def read_client_seconds() -> float:
    """CPU of ended children: wrk, in the difference of two readings."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def make_memory_cgroup() -> Path | None:
    """A memory cgroup of its own, v1 or v2; None where none can be made."""
    for base in (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")):
        path = base / f"apidae-bench-{os.getpid()}"
        with contextlib.suppress(OSError):
            path.mkdir()
            if any((path / name).exists() for name in ("memory.usage_in_bytes", "memory.current")):
                return path
            path.rmdir()
    return None


def read_memory(cgroup: Path | None, pid: int) -> int:
    """Bytes charged to the cgroup, else the resident set."""
    if cgroup is not None:
        name = "memory.current" if (cgroup / "memory.current").exists() else "memory.usage_in_bytes"
        return int((cgroup / name).read_text())
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return int(fields[1]) * resource.getpagesize()


@contextlib.contextmanager
def run_sensor(directory: Path) -> Iterator[Sensor]:
    """A collector and a sensor in its own memory cgroup, both ended at the end."""
    directory.mkdir()
    with contextlib.ExitStack() as stack:
        collector, address = start_collector(directory / "data", directory)
        stack.callback(collector.stop)
        cgroup = make_memory_cgroup()
        if cgroup is not None:
            stack.callback(cgroup.rmdir)
        port = take_port()
        program = start_in_cgroup(address, directory, cgroup, port)
        stack.callback(program.stop)
        yield Sensor(program=program, collector=collector, metrics=f"http://127.0.0.1:{port}/metrics", cgroup=cgroup)


def start_in_cgroup(address: CollectorAddress, directory: Path, cgroup: Path | None, port: int) -> Program:
    """This process enters the cgroup while it starts the sensor, so that what loading charges is the sensor's too."""
    own = Path("/proc/self/cgroup").read_text()
    if cgroup is not None:
        (cgroup / "cgroup.procs").write_text(str(os.getpid()))
    try:
        return start_sensor(address, directory / "state", directory, "--metrics-listen", f"127.0.0.1:{port}")
    finally:
        if cgroup is not None:
            is_v1 = (cgroup / "memory.usage_in_bytes").exists()
            match = re.search(r"^\d+:memory:(.*)$" if is_v1 else r"^0::(.*)$", own, re.MULTILINE)
            home = cgroup.parent / (match[1].lstrip("/") if match else "")
            (home / "cgroup.procs").write_text(str(os.getpid()))


def take_port() -> int:
    """A port that was free a moment ago."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def read_account(sensor: Sensor) -> tuple[int, int]:
    """(seen, dropped) so far, in calls at the kernel's stage, from the sensor's metrics."""
    text = httpx.get(sensor.metrics, timeout=5).text
    seen = sum(float(v) for v in re.findall(r'^apidae_sensor_seen_total\{stage="kernel"\} (\S+)', text, re.MULTILINE))
    dropped = re.findall(r'^apidae_sensor_dropped_total\{[^}]*stage="kernel"[^}]*\} (\S+)', text, re.MULTILINE)
    return int(seen), int(sum(float(v) for v in dropped))


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What wrk does."""

    pace: str  # Pause between a connection's calls in milliseconds.
    credentials: int = CREDENTIALS
    warm_seconds: int = WARM_SECONDS


def run_wrk(port: int, seconds: int, load: Load) -> int:
    """One run; returns the calls it made."""
    wrk = shutil.which("wrk")
    if wrk is None:
        sys.exit("bench: wrk is not installed: apt-get install wrk")
    command = [wrk, "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(HERE / "capture.lua")]
    output = subprocess.run(
        [*command, f"http://127.0.0.1:{port}", "--", str(load.credentials), load.pace],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    match = re.search(r"(\d+) requests in", output)
    assert match, output
    return int(match[1])


def run_round(nginx: Nginx, seconds: int, load: Load, sensor: Sensor | None) -> Round:
    """One measured run of wrk."""
    if load.warm_seconds:
        run_wrk(nginx.port, load.warm_seconds, load)
    pids = [nginx.process.pid]
    mine = [sensor.program.pid] if sensor else []
    theirs = [sensor.collector.pid] if sensor else []
    seen, dropped = read_account(sensor) if sensor else (0, 0)
    before = [read_cpu_seconds(pids), read_client_seconds(), read_cpu_seconds(mine), read_cpu_seconds(theirs)]
    made = run_wrk(nginx.port, seconds, load)
    if sensor:
        time.sleep(SETTLE_SECONDS)
    after = [read_cpu_seconds(pids), read_client_seconds(), read_cpu_seconds(mine), read_cpu_seconds(theirs)]
    server, client, sensor_cpu, collector_cpu = (late - early for late, early in zip(after, before, strict=True))
    account = read_account(sensor) if sensor else (0, 0)
    return Round(
        made=made,
        server=server,
        client=client,
        sensor=sensor_cpu,
        collector=collector_cpu,
        seen=account[0] - seen,
        dropped=account[1] - dropped,
        memory_bytes=read_memory(sensor.cgroup, sensor.program.pid) if sensor else 0,
    )


def summarise(scenario: str, plain: list[Round], watched: list[Round], memory_of: str) -> dict[str, object]:
    """One JSON line: medians over rounds of CPU seconds for 100,000 calls; sums of calls."""

    def per_100k(rounds: list[Round], *parties: str) -> float:
        return float(
            statistics.median(sum(getattr(one, party) for party in parties) / one.made * 1e5 for one in rounds)
        )

    base = per_100k(plain, "server", "client")
    total = per_100k(watched, "server", "client", "sensor")
    return {
        "scenario": scenario,
        "cpu_ratio": round(total / base, 3),
        "cpu_s_per_100k": round(total, 3),
        "cpu_s_per_100k_without": round(base, 3),
        "sensor_cpu_s_per_100k": round(per_100k(watched, "sensor"), 3),
        "collector_cpu_s_per_100k": round(per_100k(watched, "collector"), 3),
        "seen": sum(one.seen for one in watched),
        "made": sum(one.made for one in watched),
        "dropped": sum(one.dropped for one in watched),
        "memory_bytes": max(one.memory_bytes for one in watched),
        "memory_of": memory_of,
        "rounds": len(watched),
    }


def run_scenario(name: str, load: Load, rounds: int, seconds: int, directory: Path) -> None:
    """Alternated rounds; prints the line."""
    nginx = Nginx(directory / f"nginx-{name}", SERVER)
    plain: list[Round] = []
    watched: list[Round] = []
    memory_of = "process"
    try:
        for index in range(rounds):
            plain.append(run_round(nginx, seconds, load, None))
            with run_sensor(directory / f"{name}-{index}") as sensor:
                memory_of = "cgroup" if sensor.cgroup else "process"
                watched.append(run_round(nginx, seconds, load, sensor))
    finally:
        nginx.stop()
    line = summarise(name, plain, watched, memory_of)
    line["calls_per_second"] = round(statistics.median(one.made for one in watched) / seconds)
    print(json.dumps(line), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench capture")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--scenarios", nargs="*", choices=("fixed_rate", "saturation", "cold", "unknown"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="apidae-bench-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        # Each of the connections sends at a fixed pace: 32 connections, one call each 3.2 ms, are 10,000 calls a
        # second.
        pace = f"{1_000 * CONNECTIONS / FIXED_RATE}"
        loads = {
            "fixed_rate": Load(pace=pace),
            "saturation": Load(pace="0"),
            "cold": Load(pace=pace, warm_seconds=0),
            "unknown": Load(pace=pace, credentials=COUNTLESS),
        }
        for name in options.scenarios or loads:
            run_scenario(name, loads[name], options.rounds, options.seconds, directory)


if __name__ == "__main__":
    main()
