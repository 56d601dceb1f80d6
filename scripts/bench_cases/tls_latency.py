"""Whether calls over TLS are later while they are read: probes go in and out of a server every half second or so,
beside a load at a pace, and each call is compared by what was there while it lasted. `api` is a JSON API of Node that
works a millisecond for a call.

    scripts/bench tls_latency [--runtimes nginx node ..] [--ways in ..] [--seconds 30] [--nice 0] [--state FILE]

What else the machine does meets calls with and without probes alike, for they alternate; rounds of minutes cannot be
compared so on a busy one. The product's programs, places and reader, in this process; the reader takes the
processors from the server like any other program, unless it runs nice. Other ways (`harming.toggled`) leave parts of
it away, to tell which one costs. Windows are kept in FILE, so that runs add up.

One JSON line a runtime: of calls without probes (`out`), with them (`in`, or another way) and of those that met a
change (`changing`) how many, failed ones, 50th and 99th percentile and processor time of the server for one in
microseconds; of each way the ratios of the percentiles to `out`, and that of the 99th as the median of neighbouring
windows; and how long changes took. Needs root, h2load and the runtimes.
"""

import argparse
import itertools
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from scripts.bench_cases.capturing.paced_tls import serve
from scripts.bench_cases.harming.paced import Call, PacedLoad
from scripts.bench_cases.harming.tls_disturber import list_tree
from scripts.bench_cases.harming.toggled import WAYS, Change, ToggledProbes
from scripts.bench_cases.tls_harm import ADDRESS, start_server
from tests.e2e.application import Servers
from tests.e2e.certificates import make_certificate

# Calls a second of each of so many connections: a load that leaves the machine most of its time.
PACES: Final = {
    "nginx": (8, 150),
    "node": (8, 100),
    "go": (8, 150),
    "go_stripped": (8, 150),
    "python": (8, 50),
    "lighttpd": (8, 150),
    "grpc": (4, 50),
    "api": (20, 25),
}
API: Final = "api"
WINDOW_SECONDS: Final = (0.3, 0.8)
# The first calls of a connection have a handshake before them.
WARM_SECONDS: Final = 1.0
CHANGING: Final = "changing"
# Of a window with fewer calls no percentile is told.
WINDOW_CALLS_MIN: Final = 100


def judge(calls: Sequence[Call], changes: Sequence[Change]) -> list[dict[str, Any]]:
    """Calls by windows between changes: [{"kind", "latencies_us", "failed", "cpu_us"}, ..], in order."""
    edges = [(change.began, change.ended, change.way) for change in changes]
    spans: list[tuple[float, float, str]] = []
    for number, (began, ended, kind) in enumerate(edges):
        spans.append((began, ended, CHANGING))
        spans.append((ended, edges[number + 1][0] if number + 1 < len(edges) else ended, kind))
    windows: list[dict[str, Any]] = [
        {"kind": kind, "latencies_us": [], "failed": 0, "cpu_us": 0.0} for _, _, kind in spans
    ]
    for number, (change, following) in enumerate(itertools.pairwise(changes)):
        windows[2 * number + 1]["cpu_us"] = (following.cpu_began - change.cpu_ended) * 1e6
    at = 0
    for call in sorted(calls, key=lambda one: one.began):
        while at < len(spans) and spans[at][1] <= call.began:
            at += 1
        if at >= len(spans) or call.began < spans[at][0]:
            continue
        # A call that lasts into a change met it; one that began in one did too.
        place = at if call.ended <= spans[at][1] or spans[at][2] == CHANGING else min(at + 1, len(spans) - 1)
        windows[place]["latencies_us"].append(round((call.ended - call.began) * 1e6))
        windows[place]["failed"] += not call.is_right
    return windows


def find_percentile(latencies: Sequence[int], share: float) -> int:
    """Of sorted ones."""
    return latencies[min(int(len(latencies) * share), len(latencies) - 1)]


def compare_neighbours(windows: Sequence[dict[str, Any]], way: str) -> list[float]:
    """99th percentiles of windows of this way to those of the windows without probes before them."""
    steady = [one for one in windows if one["kind"] != CHANGING and len(one["latencies_us"]) >= WINDOW_CALLS_MIN]
    return [
        find_percentile(sorted(after["latencies_us"]), 0.99) / find_percentile(sorted(before["latencies_us"]), 0.99)
        for before, after in itertools.pairwise(steady)
        if (before["kind"], after["kind"]) == ("out", way)
    ]


def summarise(runtime: str, windows: Sequence[dict[str, Any]], change_ms: Sequence[float]) -> dict[str, Any]:
    """The line of a runtime."""
    line: dict[str, Any] = {"runtime": runtime}
    kinds = sorted({one["kind"] for one in windows}, key=(*WAYS, CHANGING).index)
    for kind in kinds:
        of_kind = [one for one in windows if one["kind"] == kind]
        latencies = sorted(latency for one in of_kind for latency in one["latencies_us"])
        line[kind] = {"calls": len(latencies), "failed": sum(one["failed"] for one in of_kind)}
        if latencies:
            line[kind] |= {f"p{round(100 * share)}_us": find_percentile(latencies, share) for share in (0.5, 0.99)}
            line[kind]["server_cpu_us"] = round(sum(one["cpu_us"] for one in of_kind) / len(latencies), 1)
    for way in (one for one in kinds if one in WAYS[1:] and line[one]["calls"] and line["out"]["calls"]):
        for share in ("p50", "p99"):
            line[way][f"{share}_ratio"] = round(line[way][f"{share}_us"] / line["out"][f"{share}_us"], 3)
        if ratios := compare_neighbours(windows, way):
            line[way]["neighbours"] = len(ratios)
            line[way]["p99_ratio_of_neighbours"] = round(statistics.median(ratios), 3)
    line["changes"] = len(change_ms)
    line["change_ms_median"] = round(statistics.median(change_ms), 1) if change_ms else None
    return line


def run_runtime(servers: Servers, runtime: str, options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """One run: its windows, and how long changes took."""
    if runtime == API:
        certificate = directory / "server"
        with serve("node", certificate / "tls.crt", certificate / "tls.key", directory) as api:
            return run_load(runtime, api.pid, api.port, options, directory)
    return run_load(runtime, *start_server(servers, runtime), options, directory)


def run_load(runtime: str, pid: int, port: int, options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """The same of a server that runs."""
    connections, pace = PACES[runtime]
    chance = random.Random(time.time_ns())
    load = PacedLoad(runtime, f"{ADDRESS}:{port}", connections, pace, options.seconds, directory)
    with ToggledProbes(list_tree(pid), options.nice, is_idle=options.idle) as probes:
        time.sleep(WARM_SECONDS)
        ways = itertools.cycle(options.ways)
        while load.is_running():
            probes.change(next(ways) if probes.way == "out" else "out")
            time.sleep(chance.uniform(*WINDOW_SECONDS))
        calls = load.read_calls()
        changes = list(probes.changes)
    durations = [(change.ended - change.began) * 1e3 for change in changes]
    return {"runtime": runtime, "windows": judge(calls, changes), "change_ms": durations}


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench tls_latency")
    parser.add_argument("--runtimes", nargs="+", choices=tuple(PACES), default=list(PACES))
    parser.add_argument("--ways", nargs="+", choices=WAYS[1:], default=["in"])
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--nice", type=int, default=0, help="of the reader; keep a state for each")
    parser.add_argument("--idle", action="store_true", help="the reader runs where nobody else would (SCHED_IDLE)")
    parser.add_argument("--state", type=Path, help="where windows are kept; without, nowhere")
    options = parser.parse_args()
    if os.geteuid():
        sys.exit("bench: tls_latency needs root to attach probes; run this as root")
    with tempfile.TemporaryDirectory(prefix="apidae-tls-latency-", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        state = options.state or directory / "runs.jsonl"
        servers = Servers(directory, make_certificate(directory, "server", f"IP:{ADDRESS}"))
        try:
            for runtime in options.runtimes:
                try:
                    run = run_runtime(servers, runtime, options, directory)
                except pytest.skip.Exception as reason:
                    print(f"bench: {runtime} is left out: {reason}", file=sys.stderr)
                    continue
                with state.open("a") as file:
                    file.write(json.dumps(run) + "\n")
        finally:
            servers.stop()
        runs = [json.loads(line) for line in state.read_text().splitlines()] if state.exists() else []
    for runtime in PACES:
        of_runtime = [run for run in runs if run["runtime"] == runtime]
        if of_runtime:
            windows = [window for run in of_runtime for window in run["windows"]]
            changes = [duration for run in of_runtime for duration in run["change_ms"]]
            print(json.dumps(summarise(runtime, windows, changes)), flush=True)


if __name__ == "__main__":
    main()
