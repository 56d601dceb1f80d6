"""What a sensor that starts does to its neighbours: nginx at a pace while the kernel side is loaded, and without.

    scripts/bench start [--rounds 14] [--seconds 2] [--enforcing]

One JSON line: median, 99th and 99.9th percentile of latency of both kinds of rounds, which alternate (microseconds,
medians of the rounds), the ratio of the 99th, and seconds of wall time and of CPU that loading takes by itself. 16
connections make a call each 10 ms. A child loads what a second start loads (nothing is compiled), attaches nothing,
and is killed when its round is over. Needs root and wrk.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from scripts.bench_cases.capturing.loads import find_wrk
from scripts.bench_cases.capturing.servers import run_constant
from scripts.live.host import CACHE_DIRECTORY

_RING_BYTES = 8 << 20
_PACE = """function delay() return 10 end
function done(summary, latency)
  local p = function(share) return latency:percentile(share) end
  io.write(string.format("latency %d %d %d\\n", p(50), p(99), p(99.9)))
end
"""
_LOAD = """
import sys, time
from pathlib import Path
from sensor.enrich.cgroup_tree import find_cgroup2_mount
from sensor.ebpf.loader import load_program

cache, ring_bytes, is_enforcing = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "True"
mount = find_cgroup2_mount(Path("/proc/mounts").read_text())
def load():
    load_program(mount, ring_bytes, True, cache_directory=cache, is_enforcing=is_enforcing).close()
if sys.argv[4] == "now":
    print("ready", flush=True)
    sys.stdin.readline()
    time.sleep(0.2)  # The clients are there.
wall, cpu = time.monotonic(), time.process_time()
load()
print(time.monotonic() - wall, time.process_time() - cpu, flush=True)
"""


def run_load(url: str, seconds: int, script: Path) -> tuple[int, ...]:
    """Percentiles of latency in microseconds."""
    command = [find_wrk(), "-t1", "-c16", f"-d{seconds}s", "-s", str(script), url]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    match = re.search(r"^latency (\d+) (\d+) (\d+)$", output, re.MULTILINE)
    if match is None:
        sys.exit(f"bench: wrk did not tell latencies: {output[-300:]}")
    return tuple(map(int, match.groups()))


def measure(rounds: int, seconds: int, directory: Path, *, is_enforcing: bool) -> dict[str, object]:
    """The line."""
    script = directory / "pace.lua"
    script.write_text(_PACE)
    loader = [sys.executable, "-c", _LOAD, str(CACHE_DIRECTORY), str(_RING_BYTES), str(is_enforcing)]
    subprocess.run([*loader, "compile"], check=True, capture_output=True)
    alone = subprocess.run([*loader, "alone"], check=True, capture_output=True, text=True).stdout
    without: list[tuple[int, ...]] = []
    beside: list[tuple[int, ...]] = []
    with run_constant(directory / "server") as server:
        url = f"http://127.0.0.1:{server.port}/"
        for _ in range(rounds):
            without.append(run_load(url, seconds, script))
            with subprocess.Popen([*loader, "now"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
                assert child.stdin is not None
                assert child.stdout is not None
                child.stdout.readline()
                child.stdin.write("\n")
                child.stdin.flush()
                beside.append(run_load(url, seconds, script))
                child.kill()
    before, after = (list(map(int, map(statistics.median, zip(*some, strict=True)))) for some in (without, beside))
    wall, cpu = (round(float(value), 2) for value in alone.split())
    return {
        "rounds": rounds,
        "without_us": before,
        "beside_a_start_us": after,
        "p99_ratio": round(after[1] / before[1], 2),
        "load_seconds": wall,
        "load_cpu_seconds": cpu,
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench start")
    parser.add_argument("--rounds", type=int, default=14)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--enforcing", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="apidae-bench-") as name:
        line = measure(options.rounds, options.seconds, Path(name), is_enforcing=options.enforcing)
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
