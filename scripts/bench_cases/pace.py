"""What a sensor costs where little happens: idle, at a few calls a second, and until it is ready.

    scripts/bench pace [--seconds 20] [--rates 0 10] [--starts 3]

One JSON line a rate: milliseconds of CPU a second of the sensor's process, by thread, and how often its threads slept;
then one of its starts with kept programs: seconds until it captures and CPU seconds of its process until then, medians.
Each line has its goal. The calls are HTTP/1.1 on one connection, to an endpoint and of five consumers that are known.
Server, client and sensor are in a cgroup of their own, and the sensor watches nothing else, so that other traffic on
the machine costs it nothing. What it reads of all processes and sockets of the node every 10 s is in the figures.
Needs root.
"""

import argparse
import contextlib
import json
import os
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from scripts.bench_cases.capturing.cpu import read_cpu_seconds
from scripts.bench_cases.capturing.servers import run_constant
from scripts.bench_cases.capturing.watchers import run_product
from scripts.live.host import start_collector, start_sensor
from sensor.enrich.cgroup_tree import find_cgroup2_mount

READY_SECONDS = 90.0
SETTLE_SECONDS = 6.0  # After the start.
LEARNING_SECONDS = 6.0
REST_SECONDS = 3.0  # Of a load before it is measured.
CONSUMERS = 5
_GOALS_MS = {0: 2.7, 10: 5.0}
_START_GOAL_SECONDS = 2.5


def call_paced(port: int, rate: float, seconds: float) -> int:
    """Calls one after the other, so many a second; returns how many were made."""
    count, until = 0, time.monotonic() + seconds
    with socket.create_connection(("127.0.0.1", port), timeout=10) as channel:
        channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while time.monotonic() < until:
            head = f"GET /orders/{100_000 + count * 7_919 % 900_000} HTTP/1.1\r\nHost: shop\r\n"
            channel.sendall(f"{head}Authorization: Bearer token{count % CONSUMERS}\r\n\r\n".encode())
            channel.recv(65_536)
            count += 1
            time.sleep(1 / rate)
    return count


def read_threads(pid: int) -> dict[str, tuple[str, int, int]]:
    """(name, nanoseconds on a CPU, times that it slept) of each thread."""
    found = {}
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            name = (task / "comm").read_text().strip()
            cpu_ns = int((task / "schedstat").read_text().split()[0])
            status = (task / "status").read_text()
            found[task.name] = name, cpu_ns, int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
    return found


def measure_rate(pid: int, port: int, rate: int, seconds: float) -> dict[str, object]:
    """The line of a rate."""
    load = threading.Thread(target=call_paced, args=(port, rate, seconds + REST_SECONDS)) if rate else None
    if load is not None:
        load.start()
    time.sleep(REST_SECONDS)
    before, began = read_threads(pid), time.monotonic()
    time.sleep(seconds)
    after, passed = read_threads(pid), time.monotonic() - began
    if load is not None:
        load.join()
    by_thread: dict[str, float] = {}
    sleeps = 0
    for task, (name, cpu_ns, count) in after.items():
        _, cpu_before_ns, count_before = before.get(task, (name, 0, 0))
        by_thread[name] = by_thread.get(name, 0.0) + (cpu_ns - cpu_before_ns) / 1e6 / passed
        sleeps += count - count_before
    return {
        "scenario": f"calls_{rate}" if rate else "idle",
        "ms_per_second": round(sum(by_thread.values()), 2),
        "goal_ms_per_second": _GOALS_MS.get(rate),
        "by_thread": {name: round(spent, 2) for name, spent in sorted(by_thread.items()) if spent >= 0.01},
        "sleeps_per_second": round(sleeps / passed, 1),
    }


def measure_starts(count: int, directory: Path, settings: str) -> dict[str, object]:
    """The line of starts; the first one compiles where nothing is kept, and is not counted."""
    seconds, cpu_seconds = [], []
    (directory / "sensor.toml").write_text(settings)
    options = ["--config", str(directory / "sensor.toml"), "--run-dir", str(directory / "run")]
    collector, address = start_collector(directory / "data", directory)
    try:
        start_sensor(address, directory / "state", directory, *options).stop()
        for _ in range(count):
            began = time.monotonic()
            sensor = start_sensor(address, directory / "state", directory, *options, wait=False)
            try:
                sensor.wait_for("capturing", READY_SECONDS)
                seconds.append(time.monotonic() - began)
                cpu_seconds.append(read_cpu_seconds([sensor.pid]))
            finally:
                sensor.stop()
    finally:
        collector.stop()
    return {
        "scenario": "start",
        "ready_seconds": round(statistics.median(seconds), 2),
        "goal_ready_seconds": _START_GOAL_SECONDS,
        "cpu_seconds": round(statistics.median(cpu_seconds), 2),
        "starts": count,
    }


@contextlib.contextmanager
def enter_own_cgroup() -> Iterator[Path]:
    """A cgroup that this process and its children are in."""
    mount = find_cgroup2_mount(Path("/proc/mounts").read_text())
    if mount is None:
        sys.exit("bench: no cgroup v2 is mounted: mount one")
    before = next(line[3:] for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    own = Path(mount) / f"apidae-bench-{os.getpid()}"
    own.mkdir()
    try:
        (own / "cgroup.procs").write_text(str(os.getpid()))
        yield own
    finally:
        (Path(mount) / before.lstrip("/") / "cgroup.procs").write_text(str(os.getpid()))
        own.rmdir()


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench pace")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rates", type=int, nargs="*", default=[0, 10])
    parser.add_argument("--starts", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="apidae-bench-") as name, enter_own_cgroup() as cgroup:
        directory = Path(name)
        settings = f"cgroup_path = {json.dumps(str(cgroup))}\n"
        if options.rates:
            with run_constant(directory / "server") as server, run_product(directory / "pace", settings=settings) as of:
                time.sleep(SETTLE_SECONDS)
                call_paced(server.port, 50, LEARNING_SECONDS)
                for rate in options.rates:
                    print(json.dumps(measure_rate(of.sensor.pid, server.port, rate, options.seconds)), flush=True)
        if options.starts:
            (directory / "starts").mkdir()
            print(json.dumps(measure_starts(options.starts, directory / "starts", settings)), flush=True)


if __name__ == "__main__":
    main()
