"""What attacks on the collector's HTTP side do to health checks, to an honest sensor, and to its memory.

    scripts/bench entrance [--routes 200000] [--seconds 10] [--only NAME ..] [--directory DIR]

The store is filled with routes that were called for some hours. A process aside asks /healthz 20 times a second, each
time over a new connection, and sends a batch five times a second as a sensor does. One JSON line an attack: the 50th
and 99th percentile and the longest of both in ms, how many times the longest is that of no attack, CPU seconds of the
collector, the growth of its memory (peak of the process and the detectors', less what it was before the attacks), and
what the attackers got. All have the token but those of `half_open` and `large_bodies`. The last line stops the
collector by SIGTERM in the midst of the costly ones: seconds until it ended, and its exit status. A directory that
holds a bench's data is used again.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import multiprocessing
import signal
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import grpc

from collector.server.run import STOP_SECONDS_MAX
from collector.storage.embedded import SETTINGS, EmbeddedStore
from scripts.bench_cases import inventory
from tests.collector.running import Conversation, RunningCollector, make_hello, wrap
from tests.collector.wire_batches import make_batch

HEALTH_SECONDS, BATCH_SECONDS = 0.05, 0.2
HALF_OPEN, SLOW_READERS, LISTS = 3_000, 200, 30
BODY_BYTES = 900_000_000
OPERATIONS = 9_999
SEEDED_HOURS, SEED_SECONDS_MAX = 3, 600


class Observer:
    """The process aside: /healthz and a sensor, and how long each answer took."""

    def __init__(self, http: str, sensors: str, token: str) -> None:
        self._pipe, other = multiprocessing.Pipe()
        context = multiprocessing.get_context("spawn")
        self._process = context.Process(target=observe, args=(http, sensors, token, other), daemon=True)
        self._process.start()

    def take(self) -> dict[str, list[float]]:
        """Milliseconds of all answers since the last time, by what was asked."""
        self._pipe.send("take")
        taken: dict[str, list[float]] = self._pipe.recv()
        return taken

    def end(self) -> None:
        self._process.kill()
        self._process.join()


def observe(http: str, sensors: str, token: str, pipe: Connection) -> None:
    """The process's main."""
    taken: dict[str, list[float]] = {"health": [], "acknowledgement": []}
    threading.Thread(target=send_batches, args=(sensors, token, taken["acknowledgement"]), daemon=True).start()
    threading.Thread(target=lambda: asyncio.run(ask_health(http, taken["health"])), daemon=True).start()
    while True:
        pipe.recv()
        found = {name: times.copy() for name, times in taken.items()}
        for times in taken.values():
            times.clear()
        pipe.send(found)


async def ask_health(address: str, times: list[float]) -> None:
    """Also while an answer is missing, as a probe does."""

    async def ask_once() -> None:
        begun = time.monotonic()
        with contextlib.suppress(OSError):
            answer = await exchange(address, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            times.append((time.monotonic() - begun) * 1e3 if b" 200 " in answer[:20] else 1e6)

    asked: set[asyncio.Task[None]] = set()
    while True:
        task = asyncio.create_task(ask_once())
        asked.add(task)
        task.add_done_callback(asked.discard)
        await asyncio.sleep(HEALTH_SECONDS)


def send_batches(address: str, token: str, times: list[float]) -> None:
    with contextlib.suppress(grpc.RpcError):  # At the end of the collector.
        send_without_end(address, token, times)


def send_without_end(address: str, token: str, times: list[float]) -> None:
    conversation = Conversation(address, make_hello("honest"), token)
    conversation.hear_policy()
    for sequence in itertools.count(1):
        batch = make_batch(rows=200, node="honest", sequence=sequence, base=int(time.time()) - 60)
        begun = time.monotonic()
        conversation.say(wrap(batch))
        while (heard := conversation.hear()) is not None and heard.WhichOneof("message") != "ack":
            pass
        times.append((time.monotonic() - begun) * 1e3)
        time.sleep(BATCH_SECONDS)


async def exchange(address: str, request: bytes, *, seconds: float = 60.0) -> bytes:
    """What comes for a request until the end. Raises OSError."""
    host, _, port = address.rpartition(":")
    async with asyncio.timeout(seconds):
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(request)
            received = b""
            with contextlib.suppress(ConnectionError):
                while part := await reader.read(65_536):
                    received += part
            return received
        finally:
            writer.close()


def write_request(method: str, path: str, token: str, body: Mapping[str, Any] | None = None) -> bytes:
    sent = json.dumps(body).encode() if body is not None else b""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close", "Accept-Encoding: gzip"]
    lines += [f"Authorization: Bearer {token}"]
    lines += ["Content-Type: application/json", f"Content-Length: {len(sent)}"] if body is not None else []
    return "\r\n".join([*lines, "", ""]).encode() + sent


class Attacks:
    """Each gives what its clients got, counted."""

    def __init__(self, address: str, token: str, seconds: float) -> None:
        self.address = address
        self._token = token
        self._seconds = seconds

    async def none(self) -> Counter[str]:
        await asyncio.sleep(self._seconds)
        return Counter()

    async def half_open(self) -> Counter[str]:
        """Heads that do not end."""
        return await self._hold(HALF_OPEN, b"GET /api/v1/endpoints HTTP/1.1\r\nHost: x\r\nX: ")

    async def slow_readers(self) -> Counter[str]:
        """Lists that nobody reads."""
        return await self._hold(SLOW_READERS, self._write("GET", "/api/v1/endpoints?limit=500"))

    async def _hold(self, count: int, sent: bytes) -> Counter[str]:
        host, _, port = self.address.rpartition(":")
        opened: list[asyncio.StreamWriter] = []
        got: Counter[str] = Counter()
        for _ in range(count):
            try:
                async with asyncio.timeout(5):
                    _, writer = await asyncio.open_connection(host, int(port), limit=1_024)
                writer.write(sent)
                opened.append(writer)
            except (OSError, TimeoutError) as error:
                got[type(error).__name__] += 1
        await asyncio.sleep(self._seconds)
        got["held"] = sum(not one.transport.is_closing() for one in opened)
        for writer in opened:
            writer.transport.abort()
        return got

    async def large_bodies(self) -> Counter[str]:
        """Four of 900 MB, without end where they are not refused."""

        async def send() -> str:
            host, _, port = self.address.rpartition(":")
            reader, writer = await asyncio.open_connection(host, int(port))
            head = f"POST /api/v1/specs HTTP/1.1\r\nHost: localhost\r\nContent-Length: {BODY_BYTES}\r\n"
            writer.write(f"{head}Content-Type: application/json\r\n\r\n".encode())
            part, sent = b'"' + b"x" * 1_000_000, 0
            with contextlib.suppress(OSError):
                while sent < BODY_BYTES and not reader.at_eof():
                    writer.write(part)
                    await writer.drain()
                    sent += len(part)
            answer = b""
            with contextlib.suppress(OSError):
                answer = await reader.read(200)
            writer.close()
            return f"{name_status(answer)} after {sent // 2**20} MiB"

        return Counter(await asyncio.gather(*(send() for _ in range(4))))

    async def lists(self) -> Counter[str]:
        """Thirty lists of 90 days at once, half of them sorted by what is most to compute."""
        paths = [
            f"/api/v1/endpoints?since=90d&sort={('calls', 'p95', 'consumers')[number % 3]}&limit={400 + number}"
            for number in range(LISTS)
        ]
        return await self._ask_all([self._write("GET", path) for path in paths])

    async def differences(self) -> Counter[str]:
        """Ten comparisons of the whole inventory."""
        end = time.strftime("%Y-%m-%d", time.gmtime())
        path = f"/api/v1/inventory/diff?start=2020-01-01&end={end}"
        return await self._ask_all([self._write("GET", path)] * 10)

    async def large_descriptions(self) -> Counter[str]:
        """Of 9,999 operations: one with plain parameters, one with patterns beside each other. Then four reports."""
        bodies = [
            {"name": name, "service": "svc1", "document": json.dumps(describe(path))}
            for name, path in (("plain", "/api/v1/items{}/{{id}}"), ("patterns", "/api/v1/{{id}}.x{}/{{item}}"))
        ]
        got = await self._ask_all([self._write("POST", "/api/v1/specs", body) for body in bodies])
        return got + await self._ask_all([self._write("GET", "/api/v1/specs/plain/report")] * 4)

    async def yaml(self) -> Counter[str]:
        """Aliases that grow, and a plain document of 3 MB."""
        lines = [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
        aliases = "\n".join(["a0: &a0 [x]", *lines, "openapi: 3.1.0", "info: {title: *a8}", "paths: {}"])
        operation = "get: {operationId: getItem, responses: {'200': {description: it is there}}}"
        paths = "".join(f"  /items{n}/{{id}}:\n    {operation}\n" for n in range(OPERATIONS))
        plain = f"openapi: 3.1.0\npaths:\n{paths}"
        bodies = [{"name": name, "document": text} for name, text in (("aliases", aliases), ("yaml", plain))]
        return await self._ask_all([self._write("POST", "/api/v1/specs", body) for body in bodies])

    def _write(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes:
        return write_request(method, path, self._token, body)

    async def _ask_all(self, requests: list[bytes]) -> Counter[str]:
        async def ask(request: bytes) -> str:
            try:
                return name_status(await exchange(self.address, request))
            except (OSError, TimeoutError) as error:
                return type(error).__name__

        return Counter(await asyncio.gather(*map(ask, requests)))


def describe(path: str) -> dict[str, Any]:
    operation = {"get": {"responses": {"200": {"description": "It is there."}}}}
    paths = {path.format(number): operation for number in range(OPERATIONS)}
    return {"openapi": "3.1.0", "info": {"title": "t", "version": "1"}, "paths": paths}


def name_status(answer: bytes) -> str:
    return answer.split(b" ", 2)[1].decode() if answer.startswith(b"HTTP/") else "no answer"


class Watched:
    """CPU and memory of the collector and its children."""

    def __init__(self, pid: int) -> None:
        self._pid = pid

    def _list_pids(self) -> list[int]:
        found = [self._pid]
        for tid in Path(f"/proc/{self._pid}/task").iterdir():
            found += map(int, (tid / "children").read_text().split())
        return found

    def reset_peak(self) -> None:
        for pid in self._list_pids():
            Path(f"/proc/{pid}/clear_refs").write_text("5")

    def read_peak_mb(self) -> float:
        total = 0
        for pid in self._list_pids():
            status = Path(f"/proc/{pid}/status").read_text()
            total += int(status.split("VmHWM:")[1].split()[0])
        return total / 1e3

    def read_cpu_seconds(self) -> float:
        ticks = 0
        for pid in self._list_pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / 100


def summarise(times: list[float], idle: list[float]) -> dict[str, float]:
    ordered = sorted(times) or [float("nan")]
    return {
        "count": len(times),
        "p50_ms": round(statistics.median(ordered), 1),
        "p99_ms": round(ordered[int(len(ordered) * 0.99)], 1),
        "max_ms": round(ordered[-1], 1),
        "max_times_idle": round(ordered[-1] / max(idle), 1) if idle else 1.0,
    }


def seed_store(directory: Path, routes: int) -> None:
    if (directory / "seeded").exists():
        return
    inventory.HOURS = SEEDED_HOURS
    cast(dict[str, Any], SETTINGS)["max_execution_time"] = SEED_SECONDS_MAX
    store = EmbeddedStore(directory / "store")
    inventory.seed(store, routes, int(time.time()))
    store.close()
    (directory / "seeded").touch()


def measure(directory: Path, seconds: float, names: list[str]) -> None:
    """Prints a line for each attack."""
    own = {"collector.server.run.STOP_SECONDS_MAX": STOP_SECONDS_MAX}  # Not that of tests.
    collector = RunningCollector(directory, "--sensor-auth", "token", constants=own)
    watched = Watched(collector.process.pid)
    address = collector.ready["http"]
    sensor_token, token = ((directory / f"{name}.token").read_text().strip() for name in ("sensor", "api"))
    observer = Observer(address, collector.ready["grpc"], sensor_token)
    attacks = Attacks(address, token, seconds)
    attack_of: dict[str, Callable[[], Awaitable[Counter[str]]]] = {
        name: getattr(attacks, name)
        for name in (
            "none",
            "half_open",
            "large_bodies",
            "slow_readers",
            "lists",
            "differences",
            "large_descriptions",
            "yaml",
        )
        if not names or name in ("none", *names)
    }
    time.sleep(10)  # The first rounds of housekeeping over a full store.
    idle: dict[str, list[float]] = {}
    idle_peak = 0.0
    for name, attack in attack_of.items():
        observer.take()
        watched.reset_peak()
        begun, cpu = time.monotonic(), watched.read_cpu_seconds()
        got = asyncio.run(as_coroutine(attack))
        lasted, used = time.monotonic() - begun, watched.read_cpu_seconds() - cpu
        taken = observer.take()
        idle = idle or taken
        peak = watched.read_peak_mb()
        idle_peak = idle_peak or peak
        line = {what: summarise(times, idle[what]) for what, times in taken.items()}
        figures = {"seconds": round(lasted, 1), "cpu_seconds": round(used, 1), "growth_mb": round(peak - idle_peak)}
        print(json.dumps({"attack": name, **figures, **line, "got": dict(got)}), flush=True)
        time.sleep(2)
    print(json.dumps(stop_under_attack(collector, attacks)), flush=True)
    observer.end()


async def as_coroutine(attack: Callable[[], Awaitable[Counter[str]]]) -> Counter[str]:
    return await attack()


def stop_under_attack(collector: RunningCollector, attacks: Attacks) -> dict[str, object]:
    """SIGTERM while lists, comparisons and a description are under way."""

    async def attack() -> None:
        tasks = (attacks.lists(), attacks.differences(), attacks.large_descriptions())
        await asyncio.gather(*tasks, return_exceptions=True)

    thread = threading.Thread(target=lambda: asyncio.run(attack()), daemon=True)
    thread.start()
    time.sleep(3)
    begun = time.monotonic()
    collector.process.send_signal(signal.SIGTERM)
    status = collector.process.wait(120)
    ended = time.monotonic() - begun
    thread.join(60)
    errors = [line for line in collector.errors if "Traceback" in line]
    return {"attack": "stop", "seconds_to_end": round(ended, 1), "exit_status": status, "tracebacks": len(errors)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--routes", type=int, default=200_000)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long connections are held")
    parser.add_argument("--only", nargs="*", default=[], help="names of attacks; default all")
    parser.add_argument("--directory", type=Path, help="keeps the data there")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = options.directory or Path(name)
        directory.mkdir(parents=True, exist_ok=True)
        # In a process of its own: the collector must be the only one with the engine open.
        seeding = multiprocessing.get_context("spawn").Process(target=seed_store, args=(directory, options.routes))
        seeding.start()
        seeding.join()
        assert seeding.exitcode == 0
        measure(directory, options.seconds, options.only)


if __name__ == "__main__":
    main()
