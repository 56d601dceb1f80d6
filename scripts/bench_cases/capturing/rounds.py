"""Rounds with and without a watcher in turn, and the JSON line that says what the watcher cost."""

import contextlib
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from scripts.bench_cases.capturing.cpu import (
    count_other_programs,
    measure_program_ns,
    read_client_seconds,
    read_cpu_seconds,
)
from scripts.bench_cases.capturing.loads import Load
from scripts.bench_cases.capturing.servers import OpenServer, Server, run_constant
from scripts.bench_cases.capturing.watchers import OpenWatcher, Watcher, run_product

SETTLE_SECONDS = 1.5  # The rings are read every 25 to 250 ms; rows of a second leave after it.
PLAIN_WARM_SECONDS = 1
PROGRAM_SECONDS = 1  # Of load while BPF run time is counted.
# A sensor that takes no more of a core than this has nothing left to learn.
SETTLED_CORE_SHARE = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A server, a load, what watches, and what the ratio is to where that is not nothing; `note` is printed too."""

    load: Load
    open_server: OpenServer = run_constant
    open_watcher: OpenWatcher = run_product
    open_base: OpenWatcher | None = None
    note: dict[str, str] = field(default_factory=dict)
    # Waited at most until the sensor has read and told what the warm-up left; 0: what it learns late is measured too.
    settling_seconds: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One measured run: calls made, and CPU seconds of each party (0 where it does not run)."""

    made: int
    server: float
    client: float
    watcher: float = 0.0
    collector: float = 0.0
    seen: int = -1
    dropped: int = 0
    memory_bytes: int = 0
    program_ns: float = 0.0
    other_programs: int = 0

    def total(self) -> float:
        """What calls cost, CPU seconds for 100,000."""
        return (self.server + self.client + self.watcher) / self.made * 1e5


def run_plain(server: Server, load: Load, seconds: int) -> Round:
    """Nobody watches."""
    load.run(server.port, PLAIN_WARM_SECONDS)
    before = read_cpu_seconds([server.pid]), read_client_seconds()
    made = load.run(server.port, seconds)
    return Round(made=made, server=read_cpu_seconds([server.pid]) - before[0], client=read_client_seconds() - before[1])


def run_watched(server: Server, load: Load, seconds: int, watcher: Watcher, settling_seconds: int = 0) -> Round:
    """The watcher is there from before the warm-up on; what it says of its calls covers all of them."""
    others = load.warm(server.port)
    _wait_settled(watcher, settling_seconds)
    dropped = watcher.read_dropped()
    before = _read_parties(server, watcher)
    made = load.run(server.port, seconds)
    time.sleep(SETTLE_SECONDS)
    spent = [late - early for late, early in zip(_read_parties(server, watcher), before, strict=True)]
    memory, other_programs = watcher.read_memory(), count_other_programs(watcher.program_pid)
    program_ns = 0.0
    if watcher.program_pid:
        more: list[int] = []

        def run() -> int:
            more.append(load.run(server.port, PROGRAM_SECONDS))
            return more[-1]

        program_ns = measure_program_ns(watcher.program_pid, run)
        others += sum(more)
    dropped = watcher.read_dropped() - dropped
    seen = watcher.count_calls(server.port)
    return Round(
        made=made,
        server=spent[0],
        client=spent[1],
        watcher=spent[2],
        collector=spent[3],
        seen=seen - others if seen >= 0 else -1,
        dropped=dropped,
        memory_bytes=memory,
        program_ns=program_ns,
        other_programs=other_programs,
    )


def _wait_settled(watcher: Watcher, seconds: int) -> None:
    """Two seconds in a row that take little: between a window's end and the next there is one anyway."""
    quiet_count = 0
    for _ in range(seconds):
        before = read_cpu_seconds(watcher.pids)
        time.sleep(1)
        quiet_count = quiet_count + 1 if read_cpu_seconds(watcher.pids) - before < SETTLED_CORE_SHARE else 0
        if quiet_count == 2:
            return


def _read_parties(server: Server, watcher: Watcher) -> tuple[float, float, float, float]:
    return (
        read_cpu_seconds([server.pid]),
        read_client_seconds(),
        read_cpu_seconds(watcher.pids),
        read_cpu_seconds(watcher.collector_pids()),
    )


def summarise(scenario: str, plain: list[Round], watched: list[Round], seconds: int) -> dict[str, object]:
    """One JSON line: medians over rounds of CPU seconds for 100,000 calls; sums of calls."""

    def take(measure: Callable[[Round], float], rounds: list[Round] = watched) -> float:
        return float(statistics.median(map(measure, rounds)))

    base = take(Round.total, plain)
    return {
        "scenario": scenario,
        "cpu_ratio": round(take(Round.total) / base, 3),
        "cpu_s_per_100k": round(take(Round.total), 3),
        "cpu_s_per_100k_without": round(base, 3),
        "sensor_cpu_s_per_100k": round(take(lambda one: one.watcher / one.made * 1e5), 3),
        "collector_cpu_s_per_100k": round(take(lambda one: one.collector / one.made * 1e5), 3),
        "bpf_ns_per_call": round(take(lambda one: one.program_ns)),
        "seen": sum(one.seen for one in watched) if all(one.seen >= 0 for one in watched) else None,
        "made": sum(one.made for one in watched),
        "dropped": sum(one.dropped for one in watched),
        "memory_bytes": max(one.memory_bytes for one in watched),
        "calls_per_second": round(take(lambda one: one.made) / seconds),
        "rounds": len(watched),
        "other_programs": max(one.other_programs for one in watched),
    }


def run_rounds(name: str, scenario: Scenario, *, rounds: int, seconds: int, directory: Path) -> None:
    """Alternated rounds; prints the line."""
    plain: list[Round] = []
    watched: list[Round] = []
    with scenario.open_server(directory / f"{name}-server") as server:
        for index in range(rounds):
            with scenario.open_base(directory) if scenario.open_base else contextlib.nullcontext():
                plain.append(run_plain(server, scenario.load, seconds))
            with scenario.open_watcher(directory / f"{name}-{index}") as watcher:
                watched.append(run_watched(server, scenario.load, seconds, watcher, scenario.settling_seconds))
    print(json.dumps(summarise(name, plain, watched, seconds) | scenario.note), flush=True)
