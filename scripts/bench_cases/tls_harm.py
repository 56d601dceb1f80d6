"""Whether probes for TLS harm what they are in: calls over TLS to servers of each runtime, in alternated rounds without
and with probes that come and go, and whose owner is stopped and killed with SIGKILL at random moments.

    scripts/bench tls_harm [--runtimes nginx node ..] [--calls 1000000] [--minutes 0] [--state FILE] [--ways ..]

Ways: `none`; `probes`, the product's attacher and reader for TLS alone, which go in and out some times a second
(`harming.tls_watcher`); `sensor`, the whole product with `read_tls = "full"`, paused, resumed, stopped and killed;
`off` and `auto`, the whole product with that `read_tls`, undisturbed, once it has searched the files of libraries. A
round makes calls at a pace, whose 99th percentiles are compared with those of the first way, and then as many as go
(without probes a quarter of the time), of each way. Rounds are kept in FILE, a JSON line each, so that `--minutes` may
cut the run and the same command goes on where it was; it ends when each runtime has so many calls with probes.

One JSON line a runtime: of each way calls, errors and percentiles, what was done to the probes (or what `auto` did:
events it copied, turns, comparisons of answer times and stops after one), whether a process ended, breakpoints left in
its text, descriptors and BPF objects left. Exits with 1 where errors differ, a process ended, anything is left, or the
ratio of the 99th percentiles is above 1.1. Needs root, wrk and h2load.
"""

import argparse
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from scripts.bench_cases.capturing.watchers import Product, run_product
from scripts.bench_cases.harming.disturber import Disturber
from scripts.bench_cases.harming.load import Round, run_client, run_h2load, run_wrk, write_script
from scripts.bench_cases.harming.paced import UNARY
from scripts.bench_cases.harming.tls_disturber import TlsDisturber, list_tree, wait_for_texts
from scripts.demo.nginx import Nginx
from scripts.live.host import start_collector
from scripts.live.kernel_objects import Objects, list_left
from scripts.live.program import Program
from tests.e2e.application import Servers
from tests.e2e.certificates import make_certificate
from tests.e2e.daemon import Daemon

ADDRESS: Final = "127.0.0.1"
WAYS: Final = ("none", "off", "auto", "probes", "sensor")
WITHOUT_PROBES: Final = ("none", "off")
# Of a sensor that reads, what it counted.
COUNTED: Final = {
    "events": "tls_events_total",
    "turns": "tls_turns_total",
    "comparisons": "tls_trials_total",
    "stops": "tls_trial_stops_total",
}
P99_RATIO_MAX: Final = 1.1
# Where wrk is no client: gnutls-serv ends the connection behind each answer.
CLIENTS: Final = {"gnutls": "closing_client"}
GONE_SECONDS, GONE_TRIES = 1.5, 10
# A sensor searches all files for libraries after its start.
SEARCH_SECONDS: Final = 6.0
# Without probes so much shorter as many calls as go: it is only to know which errors come anyway.
NONE_SHARE = 4
# Of each runtime connections, and their rest between two calls: a load that leaves the machine some time.
PACES: Final = {
    "nginx": (8, 4),
    "node": (8, 8),
    "go": (8, 4),
    "go_stripped": (8, 4),
    "python": (8, 16),
    "lighttpd": (8, 4),
    "gnutls": (4, 32),
    "grpc": (4, 16),
    "apache": (8, 4),
    "haproxy": (8, 4),
    "envoy": (8, 4),
    "ruby": (8, 8),
    "node22": (8, 8),
    "node24": (8, 8),
    "bun": (8, 8),
    "deno": (8, 8),
    "php": (8, 4),
    "php_fpm": (8, 8),
    "dotnet": (8, 8),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What one way gave in a round."""

    runtime: str
    way: str
    paced: Round
    full: Round
    actions: dict[str, int]
    failures: list[str]  # Of the sensor's, and processes of the server that ended.
    breakpoints: list[str]  # Left in texts.
    looked: int  # Places of texts that were looked at.
    descriptors: int  # Of the server, after less before.
    held: int = 0
    left: list[str] = field(default_factory=list)

    @property
    def calls(self) -> int:
        """Of both loads."""
        return self.paced.calls + self.full.calls


class Bench:
    """Rounds of all runtimes; `run_round` may be called again and again."""

    def __init__(self, directory: Path, paced_seconds: int, full_seconds: int) -> None:
        self._directory = directory
        self._paced_seconds, self._full_seconds = paced_seconds, full_seconds
        self._certificate = make_certificate(directory, "server", f"IP:{ADDRESS}")
        self._servers = Servers(directory, self._certificate)
        self._number = 0
        self._started: dict[str, tuple[int, int]] = {}

    def stop(self) -> None:
        """The servers."""
        self._servers.stop()

    def start(self, runtime: str) -> tuple[int, int]:
        """Its process and its port. Raises pytest.skip.Exception where it is not installed."""
        if runtime not in self._started:
            self._started[runtime] = start_server(self._servers, runtime)
        return self._started[runtime]

    def run_round(self, runtime: str, way: str, seed: int) -> Kept:
        """One way, both loads."""
        pid, port = self.start(runtime)
        pids, descriptors = list_tree(pid), _count_descriptors(pid)
        self._number += 1
        directory = self._directory / f"round{self._number}"
        directory.mkdir()
        with self._disturb(way, pids, directory, seed) as told:
            paced = self._load(runtime, port, directory, self._paced_seconds, is_paced=True)
            seconds = self._full_seconds if way not in WITHOUT_PROBES else max(1, self._full_seconds // NONE_SHARE)
            full = self._load(runtime, port, directory, seconds, is_paced=False)
        actions, failures, held = told()
        ended = [f"process {one} of {runtime} ended" for one in pids if not Path(f"/proc/{one}").exists()]
        texts = wait_for_texts(list_tree(pid))
        return Kept(
            runtime=runtime,
            way=way,
            paced=paced,
            full=full,
            actions=dict(actions),
            failures=[*failures, *ended],
            breakpoints=list(texts.changed),
            looked=texts.looked,
            descriptors=_count_descriptors(pid) - descriptors,
            held=len(held),
            left=sorted(f"{kind} {number}" for kind, number in self._wait_for_none(held)),
        )

    def _wait_for_none(self, held: Objects) -> Objects:
        """Those of `held` that stay; the kernel frees them after a while."""
        left = held
        for _ in range(GONE_TRIES):
            if not left:
                break
            time.sleep(GONE_SECONDS)
            left = list_left(held)
        return left

    @contextlib.contextmanager
    def _disturb(
        self, way: str, pids: Sequence[int], directory: Path, seed: int
    ) -> Iterator[Callable[[], tuple[Counter[str], list[str], Objects]]]:
        if way == "none":
            yield lambda: (Counter(), [], frozenset())
            return
        if way == "probes":
            with TlsDisturber(pids, directory, seed) as probes:
                yield lambda: (probes.actions, probes.failures, probes.held)
            return
        if way in ("off", "auto"):
            with run_product(directory / "product", settings=f'read_tls = "{way}"') as product:
                reads = Counter[str]()
                time.sleep(SEARCH_SECONDS)
                yield lambda: (reads, [], frozenset())
                reads.update(count_reads(product))
            return
        config = directory / "sensor.toml"
        config.write_text("read_tls = 'full'\n")
        collector, address = start_collector(directory / "data", directory)
        try:
            with Disturber(address, directory, seed, "--config", str(config)) as sensors:
                yield lambda: (sensors.actions, sensors.failures, sensors.held)
        finally:
            collector.stop()

    def _load(self, runtime: str, port: int, directory: Path, seconds: int, *, is_paced: bool) -> Round:
        connections, pace_ms = PACES[runtime]
        pace_ms *= is_paced
        if runtime in CLIENTS:
            return run_client(CLIENTS[runtime], port, self._certificate.authority, connections, seconds, pace_ms)
        if runtime == "grpc":
            return run_h2load(f"https://{ADDRESS}:{port}{UNARY}", connections, seconds, directory, pace_ms)
        script = write_script(directory / "load.lua", pace_ms)
        return run_wrk(f"https://{ADDRESS}:{port}", connections, seconds, script)


def start_server(servers: Servers, runtime: str) -> tuple[int, int]:
    """Its process and its port. Raises pytest.skip.Exception where it is not installed."""
    if runtime == "haproxy":
        server = servers.start_proxy(runtime, servers.start("nginx", ADDRESS, is_plain=True))
    else:
        server = servers.start(runtime, ADDRESS)
    assert isinstance(server.runner, Nginx | Program | Daemon)
    return server.runner.process.pid, server.port


def count_reads(product: Product) -> Counter[str]:
    """What a sensor did to read TLS."""
    return Counter({name: int(product.read_figure(figure)) for name, figure in COUNTED.items()})


def _count_descriptors(pid: int) -> int:
    """Once connections that ended are gone."""
    time.sleep(0.5)
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def read_state(path: Path) -> list[Kept]:
    """Rounds of earlier runs."""
    if not path.exists():
        return []
    rows: list[dict[str, Any]] = [json.loads(line) for line in path.read_text().splitlines()]
    return [Kept(**{**row, "paced": Round(**row["paced"]), "full": Round(**row["full"])}) for row in rows]


def count_calls(kept: Sequence[Kept], runtime: str) -> int:
    """With probes that come and go."""
    return sum(one.calls for one in kept if one.runtime == runtime and one.way not in WITHOUT_PROBES)


def summarise(kept: Sequence[Kept], runtime: str) -> dict[str, Any]:
    """The line of a runtime."""
    of_ways = {way: [one for one in kept if (one.runtime, one.way) == (runtime, way)] for way in WAYS}
    line: dict[str, Any] = {"runtime": runtime, "calls_disturbed": count_calls(kept, runtime)}
    first = next((rows for rows in of_ways.values() if rows), [])
    base = statistics.median([one.paced.p99_us for one in first] or [0])
    for way, rows in of_ways.items():
        if not rows:
            continue
        p99 = statistics.median(one.paced.p99_us for one in rows)
        line[way] = {
            "rounds": len(rows),
            "calls": sum(one.calls for one in rows),
            "errors": sum(one.paced.errors + one.full.errors for one in rows),
            "p99_us": round(p99),
            "p99_ratio": round(p99 / base, 3) if base else None,
            "full_calls": sum(one.full.calls for one in rows),
        }
    watched = [one for one in kept if one.runtime == runtime and one.way not in WITHOUT_PROBES]
    line["actions"] = dict(sum((Counter(one.actions) for one in watched), Counter()))
    line["failures"] = [text for one in watched for text in one.failures]
    line["places_looked_at"] = sum(one.looked for one in watched)
    line["breakpoints_left"] = [text for one in watched for text in one.breakpoints]
    line["descriptors_left"] = max((one.descriptors for one in watched), default=0)
    line["held"] = sum(one.held for one in watched)
    line["left"] = [text for one in watched for text in one.left]
    return line


def is_harmless(line: dict[str, Any]) -> bool:
    """Whether nothing in a runtime's line is worse than without."""
    ways = [line[way] for way in WAYS if way in line]
    return (
        all(way["errors"] * ways[0]["calls"] <= ways[0]["errors"] * way["calls"] for way in ways)
        and all(way["p99_ratio"] is None or way["p99_ratio"] <= P99_RATIO_MAX for way in ways)
        and not line["failures"]
        and not line["breakpoints_left"]
        and not line["left"]
    )


def measure(bench: Bench, options: argparse.Namespace, kept: list[Kept], state: Path) -> None:
    """Rounds until all have their calls, or the time is over."""
    deadline = time.monotonic() + options.minutes * 60 if options.minutes else float("inf")
    runtimes = list(options.runtimes)
    while waiting := [one for one in runtimes if count_calls(kept, one) < options.calls]:
        runtime = min(waiting, key=lambda one: Counter(row.runtime for row in kept)[one])
        number = sum(one.runtime == runtime for one in kept)
        turn = number // len(options.ways) % len(options.ways)
        for way in (*options.ways[turn:], *options.ways[:turn]):
            if time.monotonic() > deadline:
                return
            try:
                one = bench.run_round(runtime, way, options.seed + len(kept))
            except pytest.skip.Exception as reason:
                print(f"bench: {runtime} is left out: {reason}", file=sys.stderr)
                runtimes.remove(runtime)
                break
            kept.append(one)
            with state.open("a") as file:
                file.write(json.dumps(asdict(one)) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench tls_harm")
    parser.add_argument("--runtimes", nargs="+", choices=tuple(PACES), default=list(PACES))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=["none", "probes"])
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--minutes", type=float, default=0.0, help="0: until all calls are made")
    parser.add_argument("--paced-seconds", type=int, default=10)
    parser.add_argument("--full-seconds", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--state", type=Path, help="where rounds are kept; without, nowhere")
    options = parser.parse_args()
    if os.geteuid():
        sys.exit("bench: tls_harm needs root to attach probes; run this as root")
    with tempfile.TemporaryDirectory(prefix="apidae-tls-harm-", ignore_cleanup_errors=True) as name:
        state = options.state or Path(name) / "rounds.jsonl"
        kept = read_state(state)
        bench = Bench(Path(name), options.paced_seconds, options.full_seconds)
        try:
            measure(bench, options, kept, state)
        finally:
            bench.stop()
    lines = [summarise(kept, runtime) for runtime in options.runtimes]
    for line in lines:
        print(json.dumps(line), flush=True)
    sys.exit(0 if all(is_harmless(line) for line in lines) else 1)


if __name__ == "__main__":
    main()
