"""Whether a sensor that comes and goes harms what it watches: load on nginx, in alternated rounds with no sensor and
with one that is attached, paused, resumed, stopped and killed at random moments.

    scripts/bench harm [--minutes 10] [--round-seconds 30] [--seed 1]

`--minutes` is of each: ten minutes with sensors, and ten without.

One JSON line: calls, errors of the client (connections, reads, writes, timeouts, statuses above 399) and the 99th and
99.9th percentiles of latency of both kinds of rounds, what was done to the sensors, what of theirs is left in the
kernel at the end, and how kernel memory changed. Exits with 1 where errors differ, the ratio of the 99th percentiles is
above 1.1, something is left, or a sensor failed. The collector runs during all rounds. Needs root and wrk.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from scripts.bench_cases.harming.disturber import Disturber, wait_for_rcu
from scripts.bench_cases.harming.load import Round, run_wrk, write_script
from scripts.demo.nginx import Nginx
from scripts.live.host import start_collector
from scripts.live.kernel_objects import list_left

CONNECTIONS = 16
PACE_MS = 10  # Pause between a connection's calls: some 1,500 calls a second in all.
P99_RATIO_MAX = 1.1
ANSWER = "        location / { return 200 'ok'; }"
MEMORY_FIELDS = ("Slab", "VmallocUsed", "Percpu")


def read_memory_kb() -> dict[str, int]:
    """Kernel memory of the host."""
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    return {name: int(fields[name].split()[0]) for name in MEMORY_FIELDS}


def summarise(rounds: Sequence[Round]) -> dict[str, int]:
    """Sums, and medians of the percentiles."""
    return {
        "rounds": len(rounds),
        "calls": sum(one.calls for one in rounds),
        "errors": sum(one.errors for one in rounds),
        "p99_us": int(statistics.median(one.p99_us for one in rounds)),
        "p999_us": int(statistics.median(one.p999_us for one in rounds)),
    }


def measure(minutes: float, round_seconds: int, seed: int, directory: Path) -> dict[str, object]:
    """All rounds; the line to print."""
    if os.geteuid():
        sys.exit("bench: harm loads programs into the kernel: run it as root")
    script = write_script(directory / "harm.lua", PACE_MS)
    collector, address = start_collector(directory / "data", directory)
    nginx = Nginx(directory / "nginx", ANSWER)
    url = f"http://127.0.0.1:{nginx.port}"
    plain, watched = list[Round](), list[Round]()
    before = read_memory_kb()
    disturbers = []
    try:
        for number in range(max(1, int(minutes * 60 / round_seconds))):
            plain.append(run_wrk(url, CONNECTIONS, round_seconds, script))
            with Disturber(address, directory, seed + number) as disturber:
                watched.append(run_wrk(url, CONNECTIONS, round_seconds, script))
            disturbers.append(disturber)
    finally:
        nginx.stop()
        collector.stop()
    wait_for_rcu()
    after = read_memory_kb()
    held = frozenset().union(*(one.held for one in disturbers))
    without, with_sensor = summarise(plain), summarise(watched)
    return {
        "without": without,
        "with": with_sensor,
        "p99_ratio": round(with_sensor["p99_us"] / max(without["p99_us"], 1), 3),
        "actions": {name: sum(one.actions[name] for one in disturbers) for name in sorted(_names(disturbers))},
        "held": len(held),
        "left": sorted(f"{kind} {number}" for kind, number in list_left(held)),
        "memory_change_kb": {name: after[name] - before[name] for name in MEMORY_FIELDS},
        "failures": [text for one in disturbers for text in one.failures],
    }


def _names(disturbers: Sequence[Disturber]) -> set[str]:
    return {name for one in disturbers for name in one.actions}


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench harm")
    parser.add_argument("--minutes", type=float, default=10.0, help="of rounds with sensors, and as many without")
    parser.add_argument("--round-seconds", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="apidae-harm-", ignore_cleanup_errors=True) as name:
        line = measure(options.minutes, options.round_seconds, options.seed, Path(name))
    print(json.dumps(line), flush=True)
    is_harmless = (
        line["without"]["errors"] == line["with"]["errors"]  # type: ignore[index]
        and float(str(line["p99_ratio"])) <= P99_RATIO_MAX
        and not line["left"]
        and not line["failures"]
    )
    sys.exit(0 if is_harmless else 1)


if __name__ == "__main__":
    main()
