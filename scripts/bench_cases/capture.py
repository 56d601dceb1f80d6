"""What capture costs and whether it loses: servers under load, with and without the sensor in alternated rounds.

    scripts/bench capture [--rounds 3] [--seconds 5] [--scenarios fixed_rate ..]

One JSON line a scenario, with the same eight names in each (`capturing/lines.py`; null where it measures none): the
ratio of CPU time (server + client + sensor, to the same without the sensor), CPU seconds for 100,000 calls, calls made
by the client, calls of that server in the collector's inventory (`seen`), losses, and the memory of the sensor's
cgroup, maps and rings included; besides, nanoseconds a call in BPF programs (counted in a second of its own). A
scenario that cannot run here says why. Ratios are the figures to trust; calls a second depend on what else the machine
does, and another sensor on it (in another network namespace) is in both sides of a ratio: the line says how many
programs of others were at the hooks. What was under way when the client stopped is in `seen`, not in `made`.

Routes and consumers by number are learned first: load runs until the kernel is taught nothing new and the first answers
of routes have been read. What that cost the sensor stands beside (`learning_cpu_s`, of `learning_calls`); what is
measured then is the steady state.

No two requests are equal: random ids in the path and in a header, 500 credentials unless the name says more. Server CPU
is read from schedstat of its threads, the client's from its rusage, the sensor's and the collector's from schedstat.
"""

import argparse
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from scripts.bench_cases.capturing.limits import measure_limits
from scripts.bench_cases.capturing.lines import print_line
from scripts.bench_cases.capturing.loads import NO_PAUSE, GrpcCalls, H2load, UnavailableError, Wrk
from scripts.bench_cases.capturing.memory import measure_idle, measure_large
from scripts.bench_cases.capturing.neighbour import measure_full_ring, measure_neighbour
from scripts.bench_cases.capturing.rivals import run_empty_hooks
from scripts.bench_cases.capturing.rounds import Scenario, run_rounds
from scripts.bench_cases.capturing.servers import run_file, run_go, run_grpc, run_http2
from scripts.bench_cases.capturing.suricata import run_suricata
from scripts.bench_cases.capturing.watchers import run_product


def _flat(*, credentials: int = 1, routes: int = 1) -> Scenario:
    """What so much knowledge costs once it is there, at the product's own settings: two windows are measured, for each
    tells of all of it."""
    load = Wrk(kind="cycle", credentials=credentials, routes=routes, warm_seconds=4, warm_pace=NO_PAUSE)
    return Scenario(load=load, is_learned=True, least_seconds=20)


SCENARIOS = {
    "fixed_rate": Scenario(load=Wrk()),
    # The same once its busy consumers are no news: of each that begins, rows leave each second for ten.
    "steady_rate": Scenario(load=Wrk(warm_seconds=14), least_seconds=10),
    "saturation": Scenario(load=Wrk(pace=NO_PAUSE)),
    "no_bodies": Scenario(load=Wrk(), open_watcher=partial(run_product, settings="read_bodies = false\n")),
    # The first seconds of a sensor, in which everything is new to the kernel.
    "cold": Scenario(load=Wrk(warm_seconds=0)),
    "empty_hooks": Scenario(load=Wrk(), open_watcher=run_empty_hooks),
    "new_consumers": Scenario(load=Wrk(kind="cycle", credentials=10_000, warm_credentials=1)),
    # Requests that are signed each anew, sessions beside a cookie that changes, and tokens used once.
    "one_off_credentials": Scenario(load=Wrk(kind="signed")),
    "changing_cookies": Scenario(load=Wrk(kind="session")),
    "unknown": Scenario(load=Wrk(kind="once")),
    "go_json": Scenario(load=Wrk(pace=NO_PAUSE), open_server=run_go),
    "sendfile_100kb": Scenario(
        load=Wrk(pace=NO_PAUSE, path="/file", connections=8),
        open_server=run_file,
        open_base=run_empty_hooks,
        note={"ratio_to": "empty_hooks"},
    ),
    # Flat or not: the same load, of few and of many, all of them met before.
    "routes_10": _flat(routes=10),
    "routes_10000": _flat(routes=10_000),
    "consumers_1": _flat(),
    "consumers_50000": _flat(credentials=50_000),
    "http2": Scenario(load=H2load(), open_server=run_http2),
    "grpc": Scenario(load=GrpcCalls(), open_server=run_grpc),
    # More tokens than a table of HPACK holds: no head is the same twice.
    "grpc_tokens": Scenario(load=GrpcCalls(tokens=67), open_server=run_grpc),
    # What a sensor at system calls costs: the product's own fallback, in which every head goes up.
    "syscalls": Scenario(load=Wrk(), open_watcher=partial(run_product, settings='capture = "syscalls"\n')),
    "suricata": Scenario(load=Wrk(), open_watcher=run_suricata),
}
MEASURES: dict[str, Callable[[str, Path], None]] = {
    "idle_memory": measure_idle,
    "large_memory": measure_large,
    # A sensor and the one that follows it, each within the memory that the chart gives it.
    "chart_limits": measure_limits,
    "flooding_neighbour": measure_neighbour,
    "full_ring_neighbour": measure_full_ring,
}


def run_scenario(name: str, rounds: int, seconds: int, directory: Path) -> None:
    """Prints the scenario's line, or why there is none."""
    try:
        if name in MEASURES:
            MEASURES[name](name, directory)
            return
        run_rounds(name, SCENARIOS[name], rounds=rounds, seconds=seconds, directory=directory)
    except UnavailableError as error:
        print_line({"scenario": name, "skipped": str(error)})


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench capture")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--scenarios", nargs="*", choices=(*SCENARIOS, *MEASURES))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="apidae-bench-", ignore_cleanup_errors=True) as name:
        for scenario in options.scenarios or (*SCENARIOS, *MEASURES):
            run_scenario(scenario, options.rounds, options.seconds, Path(name))


if __name__ == "__main__":
    main()
