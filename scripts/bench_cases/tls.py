"""What reading TLS costs a server: nginx over HTTPS under load, in alternated rounds.

    scripts/bench tls [--rounds 3] [--seconds 4] [--warm-seconds 1] [--connections 16]
                      [--ways none capture auto sensor emulated functions classic]

One JSON line for each way: `none`; `capture`, the product without reading TLS, `auto` and `sensor`, which is `full`;
`emulated`, only its probes, where the product puts them, and a reader; `functions`, those that it puts at the functions
that applications call where it finds no better ones; `classic`, these at the first instruction and at each `ret`, which
the kernel steps over. Of each the processor time of nginx for 100,000 calls
(median of the rounds), its ratio to the first way, that of wrk, whose library is probed too, and what was read. The
sensor reads a busy server in turns once it was busy for some seconds: with `--warm-seconds 6` that is what is measured
(then `--seconds` should be two periods of turns, 5, or more), and without what comes before it. Of
probes alone also how many a call passes, and how long the programs run for it (counted by the kernel in a second after
each round, both ends; some 50 ns of each run are the counting). Keep-alive, TLS 1.3, one worker. Needs root, wrk and
nginx.

    scripts/bench tls --calls-per-second 500 [--rounds 5] [--seconds 20] [--warm-seconds 5] [--servers nginx node]

A client at a pace instead: nginx, and a JSON API of Node that works a millisecond for a call, with `read_tls` off, auto
and full. One JSON line for each server and mode: processor time of the server for a call, its latencies, the sensor's
share of a core, and the ratios of each round to the one beside it with `off`. Needs node and h2load too.
"""

import argparse
import contextlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from scripts.bench_cases.capturing.cpu import read_client_seconds, read_cpu_seconds
from scripts.bench_cases.capturing.loads import find_wrk
from scripts.bench_cases.capturing.paced_tls import SERVERS, PacedOptions, measure_paced
from scripts.bench_cases.capturing.watchers import run_product
from scripts.bench_cases.searching import search_path
from scripts.demo.nginx import Nginx
from scripts.live.host import CACHE_DIRECTORY
from sensor.capture.tls.capture import RING_BYTES, refuse_session
from sensor.capture.tls.elf import Content, Elf, FileSource
from sensor.capture.tls.finder import OPENSSL
from sensor.capture.tls.reader import TlsReader
from sensor.ebpf.ring import Ring
from sensor.ebpf.run_time import enable_statistics, read_run_time
from sensor.ebpf.tracepoints import ProbeSettings
from sensor.ebpf.uprobes import UPROBES, close_probes, load_tls

ANSWER: Final = "        location / { return 200 'ok'; }"
WAYS: Final = ("none", "capture", "auto", "sensor", "emulated", "functions", "classic")
# `read_tls` of the ways that are the product.
MODES: Final = {"capture": "off", "auto": "auto", "sensor": "full"}
LIBRARY: Final = re.compile(r" (/\S*libssl\.so\S*)$", re.MULTILINE)
READ_SECONDS: Final = 0.025


@dataclass(slots=True)
class Sums:
    """Of one way."""

    server: list[float] = field(default_factory=list)  # CPU seconds for 100,000 calls, by round.
    client: list[float] = field(default_factory=list)
    watcher: list[float] = field(default_factory=list)
    calls: int = 0
    read: int = 0
    hits: list[float] = field(default_factory=list)  # Probes that a call passes, both ends.
    programs: list[float] = field(default_factory=list)  # Microseconds that programs run for a call, both ends.


def make_certificate(directory: Path) -> None:
    """A key and a certificate that nobody checks."""
    openssl = shutil.which("openssl")
    if openssl is None:
        sys.exit("bench: tls needs openssl: apt-get install openssl")
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "2"]
    command += ["-keyout", "tls.key", "-out", "tls.crt", "-subj", "/CN=bench"]
    subprocess.run(command, cwd=directory, check=True, capture_output=True, timeout=60)


def run_load(port: int, seconds: int, connections: int) -> int:
    """wrk; gives its calls."""
    command = [find_wrk(), "-t1", f"-c{connections}", f"-d{seconds}s", f"https://127.0.0.1:{port}/orders/7"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    match = re.search(r"(\d+) requests in", output)
    if match is None or "Non-2xx" in output or "Socket errors" in output:
        sys.exit(f"bench: wrk met errors: {output[-300:]}")
    return int(match[1])


def find_classic(path: str) -> list[tuple[int, str, int]]:
    """The same functions at their first instructions and at each `ret`."""
    with Path(path).open("rb") as file:
        return _find_classic(Elf(Content(FileSource(file.fileno()))))


def _find_classic(elf: Elf) -> list[tuple[int, str, int]]:
    sites = []
    for name, function in elf.find_functions(OPENSSL).items():
        instructions = elf.disassemble(function) or []
        sites.append((elf.locate(function.address), OPENSSL[name].program, 0))
        returns = [one.address for one in instructions if one.mnemonic == "ret" and OPENSSL[name].has_return]
        sites += [(elf.locate(address), "call_return", 0) for address in returns]
    return sites


class Probes:
    """Only probes on nginx's library and a reader, in this process."""

    def __init__(self, pid: int, way: str) -> None:
        found = LIBRARY.search(Path(f"/proc/{pid}/maps").read_text())
        if found is None:
            sys.exit("bench: this nginx has no libssl of its own")
        path = found[1]
        found_sites = search_path(path).choose(has_cookies=way != "functions")
        sites = find_classic(path) if way == "classic" else [one.probe for one in found_sites]
        self._program = load_tls(
            ProbeSettings(ring_bytes=RING_BYTES, calls_per_second=10**6, calls_burst=10**6),
            CACHE_DIRECTORY,
        )
        self._ring = Ring(self._program.maps["events"], RING_BYTES)
        self._reader = TlsReader(to_unix_ns=lambda time_ns: time_ns, refuse=partial(refuse_session, self._program))
        self._program.attach()
        self._probes = self._program.open_probes(path, sites)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while not self._stopping.wait(READ_SECONDS):
            self._reader.take(self._ring.read(100_000))

    def count_runs(self, load: Callable[[], int]) -> tuple[float, float]:
        """Probes that a call of the load passes, and microseconds of programs, those that follow sockets too."""
        statistics_fd = enable_statistics()
        try:
            before = {name: read_run_time(fd) for name, fd in self._program.programs.items()}
            calls = load()
            after = {name: read_run_time(fd) for name, fd in self._program.programs.items()}
        finally:
            os.close(statistics_fd)
        runs = sum(after[name].runs - before[name].runs for name in UPROBES)
        nanoseconds = sum(after[name].nanoseconds - before[name].nanoseconds for name in after)
        return runs / calls, nanoseconds / calls / 1e3

    def stop(self) -> int:
        """Calls that were read."""
        close_probes(self._probes)
        self._stopping.set()
        self._thread.join()
        self._reader.take(self._ring.read(1 << 20))
        self._program.close()
        self._ring.close()
        return self._reader.stage.count().used


@contextlib.contextmanager
def watch(way: str, nginx: Nginx, directory: Path, sums: Sums, connections: int) -> Iterator[list[int]]:
    """One way beside a round; gives the processes whose time is its cost."""
    if way == "none":
        yield []
        return
    if way not in MODES:
        probes = Probes(nginx.process.pid, way)
        try:
            yield [os.getpid()]
            hits, microseconds = probes.count_runs(lambda: run_load(nginx.port, 1, connections))
            sums.hits.append(hits)
            sums.programs.append(microseconds)
        finally:
            sums.read += probes.stop()
        return
    settings = f"read_tls = '{MODES[way]}'"
    with run_product(directory / f"{way}{len(sums.server)}", settings=settings) as product:
        yield product.pids
        if MODES[way] != "off":
            sums.read += product.count_calls(nginx.port)


def measure(options: argparse.Namespace, directory: Path) -> dict[str, Sums]:
    """All rounds."""
    seconds, connections = options.seconds, options.connections
    files = f"ssl_certificate {directory}/tls.crt; ssl_certificate_key {directory}/tls.key;"
    nginx = Nginx(directory / "nginx", files + ANSWER, listen="ssl")
    found = {way: Sums() for way in options.ways}
    try:
        for _ in range(options.rounds):
            for way, sums in found.items():
                with watch(way, nginx, directory, sums, connections) as pids:
                    run_load(nginx.port, options.warm_seconds, connections)
                    before = (read_cpu_seconds([nginx.process.pid]), read_client_seconds(), read_cpu_seconds(pids))
                    calls = run_load(nginx.port, seconds, connections)
                    after = (read_cpu_seconds([nginx.process.pid]), read_client_seconds(), read_cpu_seconds(pids))
                server, client, watcher = (
                    (late - early) / calls * 1e5 for early, late in zip(before, after, strict=True)
                )
                sums.server.append(server)
                sums.client.append(client)
                sums.watcher.append(watcher)
                sums.calls += calls
                time.sleep(0.2)
    finally:
        nginx.stop()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench tls")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--warm-seconds", type=int, default=1, help="of load before each round")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument(
        "--calls-per-second", type=int, default=0, help="of a client at a pace; by read_tls, not by way"
    )
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=list(SERVERS), help="of a client at a pace")
    options = parser.parse_args()
    if os.geteuid():
        sys.exit("bench: tls needs root to attach probes; run this as root")
    with tempfile.TemporaryDirectory(prefix="apidae-tls-", ignore_cleanup_errors=True) as name:
        make_certificate(Path(name))
        if options.calls_per_second:
            paced = PacedOptions(
                rounds=options.rounds,
                seconds=options.seconds,
                warm_seconds=options.warm_seconds,
                calls_per_second=options.calls_per_second,
                servers=options.servers,
            )
            for figures in measure_paced(paced, Path(name)):
                print(json.dumps(figures), flush=True)
            return
        found = measure(options, Path(name))
    base = statistics.median(found[options.ways[0]].server)
    for way, sums in found.items():
        server = statistics.median(sums.server)
        line: dict[str, object] = {
            "way": way,
            "calls": sums.calls,
            "server_cpu_seconds_per_100k": round(server, 3),
            "server_ratio": round(server / base, 2),
            "read_calls": sums.read,
            "client_cpu_seconds_per_100k": round(statistics.median(sums.client), 3),
            "watcher_cpu_seconds_per_100k": round(statistics.median(sums.watcher), 3),
        }
        if sums.hits:
            line["probe_hits_per_call"] = round(statistics.median(sums.hits), 2)
            line["program_us_per_call"] = round(statistics.median(sums.programs), 2)
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
