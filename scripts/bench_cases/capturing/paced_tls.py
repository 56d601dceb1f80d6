"""What reading TLS costs a server whose clients come at a pace, as those of a service do: its processor time and the
latency of its calls, by `read_tls` off, auto and full, in alternated rounds.
"""

import contextlib
import shutil
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from scripts.bench_cases.capturing.cpu import read_cpu_seconds
from scripts.bench_cases.capturing.servers import Server
from scripts.bench_cases.capturing.watchers import Product, run_product
from scripts.bench_cases.harming.paced import PacedLoad
from scripts.demo.nginx import Nginx
from scripts.live.program import Program

ADDRESS: Final = "127.0.0.1"
SERVERS: Final = ("nginx", "node")
MODES: Final = ("off", "auto", "full")
CONNECTIONS: Final = 20
READY_SECONDS: Final = 30.0
_API: Final = Path(__file__).with_name("json_api.js")
_ANSWER: Final = "        location / { return 200 'ok'; }"


@dataclass(slots=True)
class PacedSums:
    """Of one mode, a figure a round."""

    calls: int = 0
    failed: int = 0
    cpu_us: list[float] = field(default_factory=list)  # Of the server for a call.
    p50_us: list[float] = field(default_factory=list)
    p99_us: list[float] = field(default_factory=list)
    sensor_ratio: list[float] = field(default_factory=list)  # Of a core.
    trials: int = 0
    stops: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PacedOptions:
    """Of all rounds."""

    rounds: int
    seconds: int
    warm_seconds: int
    calls_per_second: int
    servers: Sequence[str]


@contextlib.contextmanager
def serve(name: str, certificate: Path, key: Path, directory: Path) -> Iterator[Server]:
    """A server over TLS: `nginx` with two-byte answers, or `node`, a JSON API of a millisecond a call."""
    if name == "nginx":
        files = f"ssl_certificate {certificate}; ssl_certificate_key {key};"
        nginx = Nginx(directory / "nginx", files + _ANSWER, listen="ssl")
        try:
            yield Server(port=nginx.port, pid=nginx.process.pid)
        finally:
            nginx.stop()
        return
    node = shutil.which("node")
    if node is None:
        sys.exit("bench: tls needs node for its JSON API: apt-get install nodejs")
    program = Program("json_api", [node, str(_API), ADDRESS, str(certificate), str(key)], directory / "json_api.log")
    try:
        yield Server(port=program.wait_for("ready", READY_SECONDS)["port"], pid=program.pid)
    finally:
        program.stop()


def run_round(server: Server, product: Product, options: PacedOptions, directory: Path, sums: PacedSums) -> None:
    """One load; what comes in its first seconds is not measured."""
    seconds = options.warm_seconds + options.seconds
    pace = max(1, options.calls_per_second // CONNECTIONS)
    load = PacedLoad("http", f"{ADDRESS}:{server.port}", CONNECTIONS, pace, seconds, directory)
    time.sleep(options.warm_seconds)
    began, before = time.time(), [read_cpu_seconds(pids) for pids in ([server.pid], product.pids)]
    time.sleep(options.seconds - 1)
    ended, after = time.time(), [read_cpu_seconds(pids) for pids in ([server.pid], product.pids)]
    calls = [one for one in load.read_calls() if began <= one.began and one.ended <= ended]
    took = sorted((one.ended - one.began) * 1e6 for one in calls)
    sums.calls += len(calls)
    sums.failed += sum(not one.is_right for one in calls)
    sums.cpu_us.append((after[0] - before[0]) / len(calls) * 1e6)
    sums.p50_us.append(took[len(took) // 2])
    sums.p99_us.append(took[int(len(took) * 0.99)])
    sums.sensor_ratio.append((after[1] - before[1]) / (ended - began))
    sums.trials += int(product.read_figure("tls_trials_total"))
    sums.stops += int(product.read_figure("tls_trial_stops_total"))


def measure_paced(options: PacedOptions, directory: Path) -> Iterator[dict[str, object]]:
    """A line for each server and mode."""
    for name in options.servers:
        found = {mode: PacedSums() for mode in MODES}
        with serve(name, directory / "tls.crt", directory / "tls.key", directory) as server:
            for number in range(options.rounds):
                for mode, sums in found.items():
                    place = directory / f"{name}-{mode}-{number}"
                    with run_product(place, settings=f'read_tls = "{mode}"') as product:
                        run_round(server, product, options, directory, sums)
        for mode, sums in found.items():
            yield {"server": name, "read_tls": mode, **summarise(sums, found[MODES[0]], options)}


def summarise(sums: PacedSums, base: PacedSums, options: PacedOptions) -> Mapping[str, object]:
    """Medians of the rounds; ratios are those of each round to the one beside it."""

    def compare(figures: Sequence[float], others: Sequence[float]) -> dict[str, float]:
        ratios = sorted(one / other for one, other in zip(figures, others, strict=True))
        return {
            "median": round(statistics.median(ratios), 3),
            "least": round(ratios[0], 3),
            "most": round(ratios[-1], 3),
        }

    return {
        "calls_per_second": options.calls_per_second,
        "calls": sums.calls,
        "failed": sums.failed,
        "server_cpu_us": round(statistics.median(sums.cpu_us), 1),
        "p50_us": round(statistics.median(sums.p50_us)),
        "p99_us": round(statistics.median(sums.p99_us)),
        "sensor_core_ratio": round(statistics.median(sums.sensor_ratio), 4),
        "server_cpu_ratio": compare(sums.cpu_us, base.cpu_us),
        "p99_ratio": compare(sums.p99_us, base.p99_us),
        "p50_ratio": compare(sums.p50_us, base.p50_us),
        "trials": sums.trials,
        "stops": sums.stops,
    }
