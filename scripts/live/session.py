"""One run of `scripts/run`: collector, sensor, demo where asked for, and a look at the inventory every second."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Protocol

import httpx

from collector.cli.top.frame import View, count_of
from collector.cli.top.rates import RateMeter
from collector.cli.top.snapshot import AlertLine, Snapshot, read_snapshot
from scripts.demo.stage import ACTS, SENSOR_SETTINGS, Stage
from scripts.live.host import APIDAE, CACHE_DIRECTORY, CollectorAddress, start_collector, start_sensor
from scripts.live.program import Program, ProgramError
from scripts.live.story import Story

POLL_SECONDS = 1.0
API_TIMEOUT_SECONDS = 5.0
ACT_TIMEOUT_SECONDS = 20.0  # A busy host answers a preview late, and a call that is given up is in the inventory.
DEMO_SENSITIVITY = "paranoid"  # The default sends two alerts a day below high severity, fewer than the demo has.
# What a newcomer asks next: each works in this installation, with its address behind it.
NEXT_COMMANDS = ("get endpoints --sort risk", "get findings --severity critical", "get alerts --state open")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the person asked for. `seconds` = 0 runs until told to stop."""

    data_directory: Path
    state_directory: Path
    log_directory: Path
    http_listen: str
    is_demo: bool = False
    has_scraper: bool = True
    seconds: float = 0.0
    seed: int | None = None


class Screen(Protocol):
    """Where a session tells what happens."""

    def tell(self, event: str, text: str, **fields: object) -> None:
        """One thing that happened, once: a name for programs, a sentence for people."""
        ...

    def show(self, view: View) -> None:
        """The inventory now."""
        ...

    def wait(self, seconds: float) -> bool:
        """Whether the person wants to end, after at most so long."""
        ...

    def close(self) -> None:
        """Gives the terminal back."""
        ...


@dataclass(slots=True)
class Session:
    """Owns all programs it starts; `run` returns the exit code and leaves none of them."""

    options: Options
    screen: Screen
    is_stopped: Event
    clock: Callable[[], float] = time.monotonic
    _programs: list[Program] = field(default_factory=list)
    _stage: Stage | None = None
    _story: Story | None = None
    _told_alerts: set[str] = field(default_factory=set)

    def run(self) -> int:
        """Starts, watches, stops. Raises ProgramError, NginxError, RootNeededError with a sentence for the person."""
        try:
            address = self._start()
            snapshot = self._watch(address)
        except BaseException:
            self.screen.close()
            self._stop()
            raise
        if self._story is not None:
            self._story.end()
        self._tell_totals(snapshot)
        return self._stop()

    def _start(self) -> CollectorAddress:
        started = self.clock()
        options = self.options
        logs = options.log_directory
        logs.mkdir(parents=True, exist_ok=True)
        self.screen.tell("starting", "starting the collector ...", what="collector")
        more = ("--sensitivity", DEMO_SENSITIVITY) if options.is_demo else ()
        collector, address = start_collector(options.data_directory, logs, *more, http_listen=options.http_listen)
        self._programs.append(collector)
        is_compiled = any(CACHE_DIRECTORY.glob("*.image"))
        how = "loading the eBPF programs ..." if is_compiled else "compiling the eBPF programs, once (a minute) ..."
        self.screen.tell("starting", f"starting the sensor: {how}", what="sensor")
        self._programs.append(start_sensor(address, options.state_directory, logs, *self._write_settings(logs)))
        seconds = round(self.clock() - started, 2)
        text = f"collector and sensor ready after {seconds:.1f} s; web page {address.url}"
        self.screen.tell("started", text, seconds=seconds, url=address.url)
        if options.is_demo:
            self._start_demo(address)
        commands = tuple(f"{os.path.relpath(APIDAE)} {command} --url {address.url}" for command in NEXT_COMMANDS)
        text = "\n  ".join(("next, in another terminal:", *commands))
        self.screen.tell("next", f"{text}\nor in a browser: {address.url}", commands=commands, url=address.url)
        return address

    def _write_settings(self, directory: Path) -> tuple[str, ...]:
        """The option that names the settings of the demo's sensor; without the demo the defaults hold."""
        if not self.options.is_demo:
            return ()
        path = directory / "demo-sensor.toml"
        path.write_text(SENSOR_SETTINGS)
        return "--config", str(path.absolute())

    def _start_demo(self, address: CollectorAddress) -> None:
        self.screen.tell("starting", "starting the demo's services ...", what="demo")
        self._stage = Stage(self.options.log_directory, self.options.seed)
        self._stage.start_services()
        self._stage.start_clients()
        ports = self._stage.ports
        names = ", ".join(f"{name} :{port}" for name, port in ports.items())
        self.screen.tell("demo", f"demo services on loopback: {names}", ports=ports)
        client = httpx.Client(base_url=address.url, timeout=ACT_TIMEOUT_SECONDS)
        acts = ACTS if self.options.has_scraper else ()
        self._story = Story(self._stage, client, self.screen.tell, acts, list(self._stage.skipped))

    def _watch(self, address: CollectorAddress) -> Snapshot:
        """Polls until stopped or the time is over; returns the last snapshot."""
        started = self.clock()
        meter = RateMeter()
        snapshot = Snapshot()
        with httpx.Client(base_url=address.url, timeout=API_TIMEOUT_SECONDS) as client:
            while not (self.screen.wait(POLL_SECONDS) or self.is_stopped.is_set()):
                now = self.clock()
                elapsed = now - started
                self._check_programs()
                if self._story is not None:
                    self._story.step(elapsed)
                snapshot = read_snapshot(client)
                rates = meter.update({line.id: line.calls for line in snapshot.endpoints}, now)
                self._tell_new_alerts(snapshot.alerts)
                notes = tuple(self._story.notes) if self._story else ()
                self.screen.show(
                    View(
                        snapshot=snapshot,
                        rates=rates,
                        url=address.url,
                        elapsed_seconds=elapsed,
                        notes=notes,
                        now=time.time(),
                    )
                )
                if self.options.seconds and elapsed >= self.options.seconds:
                    break
        return snapshot

    def _check_programs(self) -> None:
        for program in self._programs:
            if not program.is_running:
                code = program.process.returncode
                raise ProgramError(f"{program.name} ended with exit code {code}:\n{program.log_tail()}")

    def _tell_new_alerts(self, alerts: tuple[AlertLine, ...]) -> None:
        for alert in alerts:
            if alert.id in self._told_alerts:
                continue
            self._told_alerts.add(alert.id)
            fields = {"kind": alert.kind, "title": alert.title, "why": alert.why, "opened_at": alert.opened_at}
            self.screen.tell("alert", f"alert: {alert.title}", **fields)

    def _tell_totals(self, snapshot: Snapshot) -> None:
        endpoints = len(snapshot.endpoints)
        exposed = sum(line.coverage == 0 for line in snapshot.endpoints)
        alerts = len(self._told_alerts)
        calls = sum(line.calls for line in snapshot.endpoints)
        text = ", ".join(
            (
                count_of(endpoints, "endpoint"),
                f"{exposed} served without credentials",
                count_of(calls, "call"),
                count_of(alerts, "alert"),
            )
        )
        self.screen.tell("seen", text, endpoints=endpoints, without_credentials=exposed, calls=calls, alerts=alerts)

    def _stop(self) -> int:
        """Demo first, then the sensor (it sends what it holds), then the collector; 0 if all ended as they should."""
        if self._story is not None:
            self._story.client.close()
        if self._stage is not None:
            self._stage.stop()
        failed = 0
        for program in reversed(self._programs):
            code = program.stop()
            if code:
                failed = 1
                text = f"{program.name} ended with exit code {code}; its log: {program.log_path}"
                self.screen.tell("stop_failed", text, name=program.name, code=code)
        self.screen.tell("stopped", "stopped")
        return failed
