"""What the Java agent costs its JVM and the sensor: a server under wrk or h2load, in alternated rounds with and without
a reader.

    scripts/bench java [--server HttpsServer] [--rounds 6] [--seconds 10] [--calls 0] [--java java]

`--server`: HttpsServer, Tomcat, Jetty, Netty, Reactor or Grpc (tests/e2e/test_java_servers.py; the last one over
HTTP/2).

The JVM has the agent in all rounds. Without a reader its patches are out. With one, the sensor's own code reads every
call (sensor.capture.java, and the reader of TLS), with no budget and no collector. Each round warms up, makes calls at
a pace, whose 99th percentiles are compared, and then as many as go. With `--calls`, rounds go on until so many were
made with a reader.

One JSON line: of each way calls, errors, CPU seconds of the JVM for 100,000 calls without its compiler, those of the
compiler in a round (it begins anew when the patches come and go), and the 99th percentile in us; the ratios; CPU
seconds of the reader for 100,000 calls, and the share of calls that it read; the live heap with 200 connections, with a
reader less without, of HttpsServer. Needs a JDK, and wrk or h2load. Exits with 1 where a call failed or the ratio of
the 99th percentiles is above 1.1.
"""

import argparse
import contextlib
import json
import os
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scripts.bench_cases.harming.load import Round, run_h2load, run_wrk, write_script
from scripts.live.program import Program
from sensor.capture.java.build import BuildError, build_jar
from tests.e2e.application import HERE, READY_SECONDS
from tests.e2e.callers import SERVICE
from tests.e2e.certificates import make_certificate
from tests.e2e.test_java_servers import SERVERS, JavaServers
from tests.sensor.capture.java.jvms import Sensor

ADDRESS: Final = "127.0.0.1"
P99_RATIO_MAX: Final = 1.1
CONNECTIONS, PACE_MS = 8, 4
HELD_CONNECTIONS: Final = 200  # The server keeps no more.
LOOK_SECONDS, READ_SECONDS = 1.0, 0.1
NO_BUDGET: Final = 10**9
_COMPILER: Final = ("C1 Compiler", "C2 Compiler")
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One round."""

    is_read: bool
    loads: tuple[Round, Round, Round]  # To warm up, at a pace, and as many as go.
    jvm_seconds: float  # Of processor, of the last one, without the compiler.
    compiler_seconds: float  # Of all three.
    reader_seconds: float  # Of the last one.
    calls_read: int

    @property
    def calls(self) -> int:
        """Of all three."""
        return sum(one.calls for one in self.loads)


class Reader:
    """Reads one JVM in a thread, as a sensor does in its loop. Mutable."""

    def __init__(self, pid: int) -> None:
        self._sensor = Sensor(pid, requests_per_second=NO_BUDGET)
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.calls = 0

    def __enter__(self) -> "Reader":
        self._sensor.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()
        self._read()
        self._sensor.end()
        self._sensor.wait_until_patches_are_out()

    def _run(self) -> None:
        looked = 0.0
        while not self._is_over.wait(READ_SECONDS):
            self._read()
            if time.monotonic() - looked >= LOOK_SECONDS:
                looked = time.monotonic()
                self._sensor.look()

    def _read(self) -> None:
        while self._sensor.agents.pending_bytes():
            self._sensor.read()
            self.calls += sum(call.figures.calls for call in self._sensor.calls)
            self._sensor.calls.clear()


def read_cpu_seconds(pid: int) -> tuple[float, float]:
    """Of a JVM: of its compiler, and of all other threads, in user and kernel mode."""
    compiler = others = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            name, _, rest = (task / "stat").read_text().partition("(")[2].rpartition(")")
        except OSError:
            continue  # It has ended.
        fields = rest.split()
        ticks = int(fields[11]) + int(fields[12])
        if name.startswith(_COMPILER):
            compiler += ticks
        else:
            others += ticks
    return compiler / _TICKS, others / _TICKS


def read_live_heap(java: str, pid: int) -> int:
    """Bytes of all objects that are reachable."""
    jcmd = Path(shutil.which(java) or java).resolve().with_name("jcmd")
    command = [str(jcmd), str(pid), "GC.class_histogram"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=READY_SECONDS)
    return int(done.stdout.strip().splitlines()[-1].split()[2])


class Bench:
    """The JVM and its loads."""

    def __init__(self, java: str, server: str, directory: Path, seconds: int) -> None:
        self._java, self._server, self._directory, self._seconds = java, server, directory, seconds
        self.certificate = make_certificate(directory, "server", f"IP:{ADDRESS}")
        if server in SERVERS:
            self._program = JavaServers(directory, self.certificate).start_program(server, ("-Xmx512m",))
        else:
            jar = build_jar(directory / "agent.jar")
            pair = (str(self.certificate.certificate), str(self.certificate.key))
            command = [java, "-Xmx512m", f"-javaagent:{jar}", str(HERE / "App.java"), ADDRESS, *pair]
            self._program = Program("server", command, directory / "server.log")
        self._port = int(self._program.wait_for("ready", READY_SECONDS)["port"])

    def stop(self) -> None:
        """The JVM."""
        self._program.stop()

    def load(self, pace_ms: int) -> Round:
        """wrk, or of gRPC h2load."""
        if self._server == "Grpc":
            url = f"https://{ADDRESS}:{self._port}{SERVICE}/Get"
            return run_h2load(url, CONNECTIONS, self._seconds, self._directory, pace_ms)
        script = write_script(self._directory / "load.lua", pace_ms)
        return run_wrk(f"https://{ADDRESS}:{self._port}", CONNECTIONS, self._seconds, script)

    def run_round(self, is_read: bool) -> Measured:
        """With a reader, or without."""
        pid = self._program.pid
        with contextlib.ExitStack() as stack:
            compiler, _ = read_cpu_seconds(pid)
            reader = stack.enter_context(Reader(pid)) if is_read else None
            warm = self.load(0)  # Until the patched code, or the code without patches, is compiled.
            paced = self.load(PACE_MS)
            own, (_, jvm) = time.process_time(), read_cpu_seconds(pid)
            full = self.load(0)
            own, (compiler_end, jvm_end) = time.process_time() - own, read_cpu_seconds(pid)
        return Measured(
            is_read=is_read,
            loads=(warm, paced, full),
            jvm_seconds=jvm_end - jvm,
            compiler_seconds=compiler_end - compiler,
            reader_seconds=own,
            calls_read=reader.calls if reader is not None else 0,
        )

    def measure_heap(self) -> int:
        """Live bytes with a reader and many connections, less without one; the median of three."""
        found = []
        for _ in range(3):
            without = self._read_held_heap()
            with Reader(self._program.pid):
                found.append(self._read_held_heap() - without)
        return round(statistics.median(found))

    def _read_held_heap(self) -> int:
        with self._hold_connections():
            return read_live_heap(self._java, self._program.pid)

    @contextlib.contextmanager
    def _hold_connections(self) -> Iterator[None]:
        context = ssl.create_default_context(cafile=str(self.certificate.authority))
        with contextlib.ExitStack() as stack:
            for number in range(HELD_CONNECTIONS):
                plain = stack.enter_context(socket.create_connection((ADDRESS, self._port)))
                client = stack.enter_context(context.wrap_socket(plain, server_hostname=ADDRESS))
                client.sendall(f"GET /orders/{number} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
                client.recv(65_536)
            yield


def summarise(rounds: list[Measured], heap_bytes: int | None) -> dict[str, Any]:
    """The line."""
    line: dict[str, Any] = {}
    for name, is_read in (("none", False), ("read", True)):
        of_way = [one for one in rounds if one.is_read == is_read]
        line[name] = {
            "rounds": len(of_way),
            "calls": sum(one.calls for one in of_way),
            "errors": sum(load.errors for one in of_way for load in one.loads),
            "jvm_seconds_per_100k": round(
                statistics.median(one.jvm_seconds / one.loads[-1].calls for one in of_way) * 100_000, 3
            ),
            "compiler_seconds": round(statistics.median(one.compiler_seconds for one in of_way), 2),
            "p99_us": round(statistics.median(one.loads[1].p99_us for one in of_way)),
        }
    read = [one for one in rounds if one.is_read]
    line["cpu_ratio"] = round(line["read"]["jvm_seconds_per_100k"] / line["none"]["jvm_seconds_per_100k"], 3)
    line["p99_ratio"] = round(line["read"]["p99_us"] / line["none"]["p99_us"], 3)
    line["reader_seconds_per_100k"] = round(
        sum(one.reader_seconds for one in read) / sum(one.loads[-1].calls for one in read) * 100_000, 3
    )
    line["read_share"] = round(sum(one.calls_read for one in read) / line["read"]["calls"], 4)
    line["heap_bytes"] = heap_bytes
    return line


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(prog="scripts/bench java")
    parser.add_argument("--server", choices=("HttpsServer", *SERVERS), default="HttpsServer")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--calls", type=int, default=0)
    parser.add_argument("--java", default="java")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="apidae-bench-") as name, contextlib.ExitStack() as stack:
        try:
            bench = Bench(options.java, options.server, Path(name), options.seconds)
        except BuildError as error:
            sys.exit(f"bench: {error}")
        stack.callback(bench.stop)
        # Connections of gRPC have another form, and other servers keep fewer at rest.
        heap_bytes = bench.measure_heap() if options.server == "HttpsServer" else None
        rounds: list[Measured] = []
        while len(rounds) < 2 * options.rounds or sum(one.calls for one in rounds if one.is_read) < options.calls:
            turn = len(rounds) // 2 % 2  # With a reader first or last, by turns.
            rounds += [bench.run_round(bool(turn)), bench.run_round(not turn)]
        line = summarise(rounds, heap_bytes)
    print(json.dumps(line))
    failed = line["none"]["errors"] or line["read"]["errors"] or line["p99_ratio"] > P99_RATIO_MAX
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
