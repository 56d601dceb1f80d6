"""Rounds with and without a watcher in turn, and the JSON line that says what the watcher cost."""

import contextlib
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
from scripts.bench_cases.capturing.lines import print_line
from scripts.bench_cases.capturing.loads import Load, UnavailableError
from scripts.bench_cases.capturing.servers import OpenServer, Server, run_constant
from scripts.bench_cases.capturing.watchers import OpenWatcher, Product, Watcher, run_product

SETTLE_SECONDS = 1.5  # The rings are read every 25 to 250 ms; rows of a second leave after it.
PLAIN_WARM_SECONDS = 1
PROGRAM_SECONDS = 1  # Of load while BPF run time is counted.
# Runs of the warm-up in which so much is learned at most, and in how many of them in a row nothing is at the end.
LEARNING_TRIES = 60
LEARNING_QUIET = 2
# The first answers of routes come up at the governor's pace, long after the routes are taught; samples of what is
# known, 30 a second at most, do not end.
LEARNED_BODIES_PER_SECOND = 45
WINDOW_SECONDS = 12.0  # After the last call of a window its rows leave.


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A server, a load, what watches, and what the ratio is to where that is not nothing; `note` is printed too."""

    load: Load
    open_server: OpenServer = run_constant
    open_watcher: OpenWatcher = run_product
    open_base: OpenWatcher | None = None
    note: dict[str, str] = field(default_factory=dict)
    # Whether load runs until nothing new is learned before anything is measured; what that cost is told by itself.
    is_learned: bool = False
    least_seconds: int = 0  # Of what is measured, whatever is asked for.


@dataclass(frozen=True, slots=True, kw_only=True)
class Learning:
    """What came before the measured run, and the sensor's CPU seconds in it."""

    calls: int
    cpu_seconds: float
    seconds: float
    taught_routes: int


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
    learning: Learning | None = None

    def total(self) -> float:
        """What calls cost, CPU seconds for 100,000."""
        return (self.server + self.client + self.watcher) / self.made * 1e5


def run_plain(server: Server, load: Load, seconds: int) -> Round:
    """Nobody watches."""
    load.run(server.port, PLAIN_WARM_SECONDS)
    before = read_cpu_seconds([server.pid]), read_client_seconds()
    made = load.run(server.port, seconds)
    return Round(made=made, server=read_cpu_seconds([server.pid]) - before[0], client=read_client_seconds() - before[1])


def run_watched(server: Server, load: Load, seconds: int, watcher: Watcher, *, is_learned: bool = False) -> Round:
    """The watcher is there from before the warm-up on; what it says of its calls covers all of them."""
    others = load.warm(server.port)
    learning = None
    if is_learned and isinstance(watcher, Product):
        learning = learn(server, load, watcher)
        others += learning.calls
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
        learning=learning,
    )


def learn(server: Server, load: Load, product: Product) -> Learning:
    """Runs the load, as its warm-up does, until the kernel is taught nothing new and no more bodies come than those of
    samples; then waits for the last window."""
    begun, before, calls, quiet_count = time.monotonic(), read_cpu_seconds(product.pids), 0, 0
    known, bodies, read = product.read_known(), product.read_figure("bodies_total"), time.monotonic()
    for _ in range(LEARNING_TRIES):
        calls += load.warm(server.port)
        late, known = known, product.read_known()
        late_bodies, bodies = bodies, product.read_figure("bodies_total")
        late_read, read = read, time.monotonic()
        is_read = bodies - late_bodies < LEARNED_BODIES_PER_SECOND * (read - late_read)
        quiet_count = quiet_count + 1 if late == known and is_read else 0
        if quiet_count == LEARNING_QUIET:
            break
    else:
        raise UnavailableError(f"learning did not end in {time.monotonic() - begun:.0f} s: {known} are known")
    time.sleep(WINDOW_SECONDS)
    return Learning(
        calls=calls,
        cpu_seconds=read_cpu_seconds(product.pids) - before,
        seconds=time.monotonic() - begun,
        taught_routes=known[0],
    )


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
        **_summarise_learning([one.learning for one in watched if one.learning]),
    }


def _summarise_learning(learnings: list[Learning]) -> dict[str, object]:
    if not learnings:
        return {}
    return {
        "learning_cpu_s": round(statistics.median(one.cpu_seconds for one in learnings), 2),
        "learning_calls": round(statistics.median(one.calls for one in learnings)),
        "learning_seconds": round(statistics.median(one.seconds for one in learnings)),
        "taught_routes": min(one.taught_routes for one in learnings),
    }


def run_rounds(name: str, scenario: Scenario, *, rounds: int, seconds: int, directory: Path) -> None:
    """Alternated rounds; prints the line."""
    seconds = max(seconds, scenario.least_seconds)
    plain: list[Round] = []
    watched: list[Round] = []
    with scenario.open_server(directory / f"{name}-server") as server:
        for index in range(rounds):
            with scenario.open_base(directory) if scenario.open_base else contextlib.nullcontext():
                plain.append(run_plain(server, scenario.load, seconds))
            with scenario.open_watcher(directory / f"{name}-{index}") as watcher:
                one = run_watched(server, scenario.load, seconds, watcher, is_learned=scenario.is_learned)
                watched.append(one)
    print_line(summarise(name, plain, watched, seconds) | scenario.note)
