"""One run of `scripts/run`: collector, sensor, demo where asked for, and a look at the inventory every second."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Protocol

import httpx

from scripts.demo.stage import Stage
from scripts.live.host import CollectorAddress, start_collector, start_sensor
from scripts.live.inventory import AlertLine, Snapshot, read_snapshot
from scripts.live.program import Program, ProgramError
from scripts.live.rates import RateMeter
from scripts.live.table import View, count_of

POLL_SECONDS = 1.0
SCRAPER_DELAY_SECONDS = 20.0
API_TIMEOUT_SECONDS = 5.0
VOLUME_KINDS = ("volume_endpoint", "volume_consumer", "volume_pair")


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


@dataclass(slots=True)
class Session:
    """Owns all programs it starts; `run` returns the exit code and leaves none of them."""

    options: Options
    screen: Screen
    is_stopped: Event
    clock: Callable[[], float] = time.monotonic
    _programs: list[Program] = field(default_factory=list)
    _stage: Stage | None = None
    _scraper_started_at: float | None = None
    _flagged_seconds: float | None = None
    _told_alerts: set[str] = field(default_factory=set)
    _notes: list[str] = field(default_factory=list)

    def run(self) -> int:
        """Starts, watches, stops. Raises ProgramError, NginxError, RootNeededError with a sentence for the person."""
        try:
            address = self._start()
            snapshot = self._watch(address)
        except BaseException:
            self._stop()
            raise
        self._tell_totals(snapshot)
        return self._stop()

    def _start(self) -> CollectorAddress:
        started = self.clock()
        options = self.options
        logs = options.log_directory
        logs.mkdir(parents=True, exist_ok=True)
        collector, address = start_collector(options.data_directory, logs, http_listen=options.http_listen)
        self._programs.append(collector)
        self._programs.append(start_sensor(address, options.state_directory, logs))
        seconds = round(self.clock() - started, 2)
        text = f"collector and sensor ready after {seconds:.1f} s; web page {address.url}"
        self.screen.tell("started", text, seconds=seconds, url=address.url)
        if options.is_demo:
            self._stage = Stage(logs, options.seed)
            self._stage.start_services()
            self._stage.start_clients()
            self._notes += self._stage.skipped
            ports = self._stage.ports
            names = ", ".join(f"{name} :{port}" for name, port in ports.items())
            self.screen.tell("demo", f"demo services on loopback: {names}", ports=ports)
        return address

    def _watch(self, address: CollectorAddress) -> Snapshot:
        """Polls until stopped or the time is over; returns the last snapshot."""
        started = self.clock()
        meter = RateMeter()
        snapshot = Snapshot()
        with httpx.Client(base_url=address.url, timeout=API_TIMEOUT_SECONDS) as client:
            while not self.is_stopped.wait(POLL_SECONDS):
                now = self.clock()
                elapsed = now - started
                self._check_programs()
                self._start_scraper_when_due(elapsed)
                snapshot = read_snapshot(client)
                rates = meter.update({line.id: line.calls for line in snapshot.endpoints}, now)
                self._tell_new_alerts(snapshot.alerts)
                notes = tuple(self._notes)
                self.screen.show(
                    View(snapshot=snapshot, rates=rates, url=address.url, elapsed_seconds=elapsed, notes=notes)
                )
                if self.options.seconds and elapsed >= self.options.seconds:
                    break
        return snapshot

    def _check_programs(self) -> None:
        for program in self._programs:
            if not program.is_running:
                code = program.process.returncode
                raise ProgramError(f"{program.name} ended with exit code {code}:\n{program.log_tail()}")

    def _start_scraper_when_due(self, elapsed_seconds: float) -> None:
        if self._stage is None or not self.options.has_scraper or self._scraper_started_at is not None:
            return
        if elapsed_seconds >= SCRAPER_DELAY_SECONDS:
            self._scraper_started_at = self._stage.start_scraper()
            note = f"since second {elapsed_seconds:.0f} a client takes all orders by number, at 10 calls/s"
            self._notes.append(note)
            self.screen.tell("scraper_started", note, elapsed_seconds=round(elapsed_seconds, 1))

    def _tell_new_alerts(self, alerts: tuple[AlertLine, ...]) -> None:
        for alert in alerts:
            if alert.id in self._told_alerts:
                continue
            self._told_alerts.add(alert.id)
            fields = {"kind": alert.kind, "title": alert.title, "why": alert.why, "opened_at": alert.opened_at}
            self.screen.tell("alert", f"alert: {alert.title}", **fields)
            is_about_scraper = self._scraper_started_at is not None and alert.kind in VOLUME_KINDS
            if is_about_scraper and self._flagged_seconds is None:
                self._flagged_seconds = round(time.time() - (self._scraper_started_at or 0.0), 1)
                self._notes.append(f"flagged {self._flagged_seconds:.1f} s after its start")
                self.screen.tell("flagged", self._notes[-1], seconds=self._flagged_seconds)

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
