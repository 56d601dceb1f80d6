"""Two collectors that share state, log and tables, under simulated sensors, while either is killed by turns.

    scripts/bench pair                                      10 kills, some three minutes
    scripts/bench pair --kills 100 --logs DIRECTORY         the acceptance run; logs are kept there
    scripts/bench pair --kills 6 --end stop                 a rolling upgrade, three times

PostgreSQL of the distribution holds state and log, the embedded engine behind HTTP the tables. Sensors dial one address
that leads to whichever collector takes connections, as a Service of Kubernetes does. A JSON line for each kill:

- `ended`: which one. `held_jobs`: whether it did the jobs.
- `failover_seconds`: from the kill until a change that is asked of the other one is made; 0 where it did not hold them.

`--end` says how, several by turns: `kill` (kill -9), `stop` (SIGTERM, as an upgrade does), or `stall` (nothing runs for
6 s, and then it goes on). `none` ends nothing, to compare with. The two end by turns, or with `--whom holder` the one
that does the jobs. Around some of the ends an address looks for what is not there, which is one alert. They are three
at most: a fourth is no alert, whoever ends, for by then so many of the few addresses do it that it is common.

The line `totals` compares calls that were acknowledged with each table, and those addresses with the alerts. Where one
is stopped, the API and a page are asked for all the time, of the other one where the first takes no connection: the
line `served` has the slowest answer, the longest time without one, and what went wrong how often.
"""

import argparse
import asyncio
import contextlib
import http.client
import json
import logging
import os
import signal
import tempfile
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from scripts.bench_cases.ingest import summarise_waits
from scripts.bench_cases.ingesting.recording import WINDOWS_RECORDED, Recording
from scripts.bench_cases.ingesting.sensors import Fleet, SimulatedSensor
from scripts.bench_cases.ingesting.templates import (
    CONSUMERS,
    TEMPLATES,
    WINDOW_SECONDS,
    NodeGroup,
    find_address,
    make_actor,
)
from scripts.bench_cases.ingesting.use import CALL_TABLES
from scripts.live.host import CollectorAddress, start_collector
from scripts.live.program import Program
from sensor.aggregate.dictionary import Facts
from sensor.core.calls import Calls
from sensor.core.clock import seconds_left
from tests.collector.postgresql import find_programs, run_server
from tests.collector.storage.http_server import PASSWORD, USER, RunningServer

NAMES: Final = ("a", "b")
REST_SECONDS: Final = 3  # From a collector that is back to the next kill.
FAILOVER_SECONDS_MAX: Final = 60.0
DRAIN_SECONDS: Final = 60.0
ASK_SECONDS: Final = 0.1
BACK_SECONDS_MAX: Final = 180.0
STALL_SECONDS: Final = 6.0
AS_LONG_SECONDS: Final = 12  # As a kill and a start.
BEGUN_SECONDS: Final = 5  # Into what a scanner does comes the kill.
PROBE_SECONDS: Final = 0.2
PROBED: Final = {"api": "/api/v1/endpoints?limit=1", "page": "/alerts"}
_VIEW: Final = {"list": "endpoints", "name": "Fail-over", "query": "method=GET"}


@dataclass(slots=True)
class Member:
    """One of the two."""

    name: str
    program: Program
    held: bool = False  # The jobs, when it was last ended.

    @property
    def address(self) -> CollectorAddress:
        """Where it listens since it began, or began anew."""
        lines = self.program.log_path.read_text().splitlines()
        ready = json.loads(next(line for line in reversed(lines) if line.startswith('{"event": "ready"')))
        return CollectorAddress(grpc=ready["grpc"], http=ready["http"])


class Scanner(NodeGroup):
    """A node on which one address asks for what is not there."""

    def __init__(self, number: int) -> None:
        super().__init__(TEMPLATES["small"], number)
        self._consumer = CONSUMERS - 1 - number

    @property
    def consumer(self) -> str:
        return "address:" + find_address(self._consumer)

    def draw_window(self, facts: Facts) -> Calls:
        calls = super().draw_window(facts)
        calls["status"], calls["actor"] = 404, facts.actor(make_actor(self._consumer))
        return calls


def write_config(directory: Path, state_url: str, store_port: int) -> Path:
    """The settings of collectors that share everything."""
    config = directory / "collector.toml"
    urls = {
        "state_url": state_url,
        "log_url": state_url,
        "store_url": f"http://{USER}:{quote(PASSWORD, safe='')}@127.0.0.1:{store_port}",
        "state_key_file": str(directory / "state.key"),
        "sensitivity": "paranoid",
    }
    config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in urls.items()))
    (directory / "state.key").write_text("ab" * 32)
    (directory / "state.key").chmod(0o600)
    return config


def read_totals(store_port: int) -> Mapping[str, int]:
    """Calls in each table behind the front."""
    token = b64encode(f"{USER}:{PASSWORD}".encode()).decode()

    def count(table: str) -> int:
        statement = f"SELECT sum(calls) FROM {table}".encode()
        url = f"http://127.0.0.1:{store_port}"
        request = urllib.request.Request(url, statement, {"authorization": f"Basic {token}"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(float(answer.read().decode().strip() or 0))

    return {table: count(table) for table in CALL_TABLES}


class Pair:
    """Both collectors, and what they share."""

    def __init__(self, directory: Path, state_url: str, store_port: int, logs: Path) -> None:
        self._directory, self._logs = directory, logs
        self._store_port = store_port
        self._config = write_config(directory, state_url, store_port)
        self.members = {name: self._start(name) for name in NAMES}

    def _start(self, name: str, grpc: str = "127.0.0.1:0", http: str = "127.0.0.1:0") -> Member:
        logs = self._logs / f"{time.strftime('%H%M%S')}-{name}-{time.monotonic_ns()}"
        logs.mkdir(parents=True)
        data = self._directory / name
        program, _ = start_collector(
            data,
            logs,
            "--config",
            str(self._config),
            grpc_listen=grpc,
            http_listen=http,
            ready_seconds=BACK_SECONDS_MAX,
        )
        return Member(name, program)

    def end(self, name: str, how: str) -> None:
        program = self.members[name].program
        if how == "none":
            return
        if how == "stall":
            os.kill(program.pid, signal.SIGSTOP)
        elif how == "stop":
            program.process.send_signal(signal.SIGTERM)
        else:
            program.kill()

    def bring_back(self, name: str, how: str) -> None:
        """At the address that it had."""
        before = self.members[name]
        if how == "none":
            return
        if how == "stall":
            os.kill(before.program.pid, signal.SIGCONT)
            if before.held:
                before.program.wait_for("ready", BACK_SECONDS_MAX)
            before.held = False
            return
        address = before.address
        if how == "stop":
            before.program.stop(BACK_SECONDS_MAX)
        self.members[name] = self._start(name, address.grpc, address.http)

    def list_scanners(self, name: str) -> list[str]:
        """Addresses of which there is an alert that they look for what is not there."""
        url = f"{self.members[name].address.url}/api/v1/alerts?kind=scanning&limit=500"
        with urllib.request.urlopen(url, timeout=60) as answer:
            return sorted(alert["consumer"] for alert in json.load(answer)["items"])

    def change(self, name: str) -> bool:
        """Whether a change is made that this one is asked for."""
        request = urllib.request.Request(
            f"{self.members[name].address.url}/api/v1/views",
            json.dumps(_VIEW).encode(),
            {"content-type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return bool(answer.status < 300)
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise
            return False
        except OSError:
            return False

    def read_totals(self) -> Mapping[str, int]:
        return read_totals(self._store_port)

    def close(self) -> None:
        for member in self.members.values():
            member.program.stop()


class Probe:
    """Asks for one path again and again, of whichever takes connections, as whoever goes through a Service does."""

    def __init__(self, pair: Pair, path: str) -> None:
        self._pair, self._path = pair, path
        self.answers = 0
        self.errors: Counter[str] = Counter()
        self.longest_seconds = self.slowest_seconds = 0.0

    async def run(self) -> None:
        """Until cancelled."""
        answered_at = time.monotonic()
        while True:
            asked_at = time.monotonic()
            if await asyncio.to_thread(self._ask):
                now = time.monotonic()
                self.slowest_seconds = max(self.slowest_seconds, now - asked_at)
                self.longest_seconds = max(self.longest_seconds, now - answered_at)
                answered_at = now
            await asyncio.sleep(PROBE_SECONDS)

    def _ask(self) -> bool:
        for name in NAMES:
            try:
                with urllib.request.urlopen(self._pair.members[name].address.url + self._path, timeout=60) as answer:
                    answer.read()
                self.answers += 1
                return True
            except urllib.error.HTTPError as error:
                self.errors[f"{error.code} {error.read(500).decode(errors='replace')}"] += 1
                return False
            except (OSError, http.client.HTTPException) as error:
                reason = getattr(error, "reason", error)
                if not isinstance(reason, ConnectionRefusedError):
                    self.errors[f"{type(reason).__name__}: {reason}"] += 1
                    return False
        self.errors["nobody takes connections"] += 1
        return False

    def describe(self) -> dict[str, Any]:
        """How it was served."""
        return {
            "answers": self.answers,
            "errors": self.errors,
            "slowest_answer_seconds": round(self.slowest_seconds, 2),
            "longest_seconds_without_answer": round(self.longest_seconds, 2),
        }


@contextlib.asynccontextmanager
async def balance(pair: Pair) -> AsyncIterator[str]:
    """An address whose connections lead to the collectors by turns, past one that takes none."""
    turns = 0
    serving: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal turns
        turns += 1
        with _closing(writer):
            for name in NAMES if turns % 2 else NAMES[::-1]:
                host, port = pair.members[name].address.grpc.rsplit(":", 1)
                with contextlib.suppress(OSError):
                    there = await asyncio.open_connection(host, int(port))
                    with _closing(there[1]):
                        await _join((reader, there[1]), (there[0], writer))
                    return

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer))
        serving.add(task)
        task.add_done_callback(serving.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield "{}:{}".format(*server.sockets[0].getsockname()[:2])
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        await asyncio.sleep(0)  # The loop closes what was aborted.


@contextlib.contextmanager
def _closing(writer: asyncio.StreamWriter) -> Iterator[None]:
    try:
        yield
    finally:
        writer.transport.abort()


async def _join(*ways: tuple[asyncio.StreamReader, asyncio.StreamWriter]) -> None:
    """Until one end closes."""
    passing = [asyncio.create_task(_pass_on(*way)) for way in ways]
    try:
        await asyncio.wait(passing, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in passing:
            task.cancel()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while part := await reader.read(65_536):
            writer.write(part)
            await writer.drain()


async def scan(sensor: SimulatedSensor, scanner: Recording) -> None:
    """Play what one address does, once."""
    sensor.group = scanner.group
    for _ in range(WINDOWS_RECORDED * WINDOW_SECONDS):
        await asyncio.sleep(seconds_left(time.time_ns()))
        second = time.time_ns() // 1_000_000_000
        sensor.send(scanner.list_batches(second), second - second % WINDOW_SECONDS)


async def end_one(pair: Pair, number: int, how: str, whom: str) -> dict[str, Any]:
    """The line of one end; the ended one is back when it returns."""
    name, other = NAMES if number % 2 else NAMES[::-1]
    if whom == "holder" and not await asyncio.to_thread(is_holder, pair, name):
        name, other = other, name
    holds = pair.members[name].held = await asyncio.to_thread(is_holder, pair, name)
    killed_at = time.monotonic()
    await asyncio.to_thread(pair.end, name, how)
    made = 0.0
    holds = holds and how != "none"
    while holds and made < FAILOVER_SECONDS_MAX and not await asyncio.to_thread(pair.change, other):
        await asyncio.sleep(ASK_SECONDS)
        made = time.monotonic() - killed_at
    made = time.monotonic() - killed_at if holds else 0.0
    if how == "none":
        await asyncio.sleep(AS_LONG_SECONDS)
    if how == "stall":
        await asyncio.sleep(max(0.0, STALL_SECONDS - (time.monotonic() - killed_at)))
    await asyncio.to_thread(pair.bring_back, name, how)
    back = time.monotonic() - killed_at
    return {
        "load": how,
        "ended": name,
        "held_jobs": holds,
        "failover_seconds": round(made, 2),
        "back_seconds": round(back, 1),
    }


def is_holder(pair: Pair, name: str) -> bool:
    """Whether a collector does the jobs, by its log."""
    log = pair.members[name].program.log_path.read_text()
    return log.rfind("does jobs") > log.rfind("begins anew")


async def run(pair: Pair, directory: Path, options: argparse.Namespace) -> None:
    """Print the lines of a run."""
    recordings = [Recording(NodeGroup(TEMPLATES["small"], number)) for number in range(3)]
    groups = [Scanner(number) for number in range(min(options.scanners, options.kills))]
    scanners = {number * options.kills // len(groups): Recording(group) for number, group in enumerate(groups)}
    probes = {name: Probe(pair, path) for name, path in PROBED.items() if "stop" in options.end}
    async with balance(pair) as address, Fleet(address, directory / "sensors") as fleet:
        await fleet.connect(options.sensors + 1, recordings)
        playing = asyncio.create_task(fleet.play(options.sensors, recordings, 1_000_000))
        probing = [asyncio.create_task(probe.run()) for probe in probes.values()]
        await asyncio.sleep(REST_SECONDS)
        seconds = []
        scanning: list[asyncio.Task[None]] = []
        for number in range(options.kills):
            if number in scanners:
                scanning.append(asyncio.create_task(scan(fleet.sensors[-1], scanners[number])))
                await asyncio.sleep(BEGUN_SECONDS)
            line = await end_one(pair, number, options.end[number % len(options.end)], options.whom)
            print(json.dumps(line | {"connected": fleet.connected_count}), flush=True)
            seconds += [line["failover_seconds"]] if line["held_jobs"] else []
            await asyncio.sleep(REST_SECONDS)
        await asyncio.gather(*scanning)
        for task in (playing, *probing):
            task.cancel()
        if probes:
            served = {name: probe.describe() for name, probe in probes.items()}
            print(json.dumps({"load": "served"} | served), flush=True)
        is_acknowledged = await fleet.wait_acknowledged(DRAIN_SECONDS)
        account = fleet.account
        until = time.monotonic() + DRAIN_SECONDS
        totals: Mapping[str, int] = {}
        while time.monotonic() < until:
            totals = await asyncio.to_thread(pair.read_totals)
            if all(totals[table] >= account.calls for table in CALL_TABLES):
                break
            await asyncio.sleep(1)
        expected, found = sorted(group.consumer for group in groups), list[str]()
        while time.monotonic() < until + DRAIN_SECONDS and len(found) < len(expected):
            with contextlib.suppress(OSError):  # It begins anew.
                found = await asyncio.to_thread(pair.list_scanners, NAMES[0])
            await asyncio.sleep(1)
        line = {
            "load": "totals",
            "kills": options.kills,
            "takeovers": len(seconds),
            "failover_seconds_max": max(seconds, default=0.0),
            "failover_seconds_median": sorted(seconds)[len(seconds) // 2] if seconds else 0.0,
            "is_acknowledged": is_acknowledged,
            "acknowledged_ms": summarise_waits(account.waits_seconds),
            "acknowledged_calls": account.calls,
            **totals,
            "refused_batches": account.refused,
            "scanners": expected,
            "alerts": found,
            "is_exact": found == expected
            and not account.refused
            and is_acknowledged
            and all(totals[table] == account.calls for table in CALL_TABLES),
        }
        print(json.dumps(line), flush=True)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options of a run."""
    parser = argparse.ArgumentParser(prog="scripts/bench pair")
    parser.add_argument("--sensors", type=int, default=20)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--end", choices=("kill", "stop", "stall", "none"), nargs="+", default=["kill"])
    parser.add_argument("--whom", choices=("turns", "holder"), default="turns")
    parser.add_argument("--scanners", type=int, default=3)
    parser.add_argument("--logs", type=Path, help="a directory in which the logs of the collectors are kept")
    return parser.parse_args(arguments)


def run_pair(options: argparse.Namespace, directory: Path, programs: Path) -> None:
    """Start everything, print the lines of a run, and end everything. `programs`: those of PostgreSQL."""
    logging.getLogger("sensor").setLevel(logging.ERROR)
    with contextlib.ExitStack() as stack:
        store = RunningServer()
        stack.callback(store.stop)
        url = stack.enter_context(run_server(programs))
        pair = Pair(directory, url, store.port, options.logs or directory / "logs")
        stack.callback(pair.close)
        asyncio.run(run(pair, directory, options))


def main() -> None:
    options, programs = parse(), find_programs()
    if programs is None:
        raise SystemExit("PostgreSQL is not installed (Debian's package postgresql).")
    with tempfile.TemporaryDirectory(prefix="apidae-pair-") as directory:
        run_pair(options, Path(directory), programs)


if __name__ == "__main__":
    main()
