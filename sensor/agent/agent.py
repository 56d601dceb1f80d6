"""The life of the sensor process: first contact, capture, one loop that reads and sends, pause and resume, a clean end.

Everything runs in one asyncio loop. Its turns come each second, and every 25 ms while calls are copied whole
(sensor.agent.wakeup has the schedule). A turn reads what capture has, describes and counts it in slices, and gives the
spool what leaves. Between slices the stream to the collector runs. Only the control socket's thread and metrics scrapes
are outside the loop, and they call into it.
"""

import asyncio
import gc
import logging
import resource
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from common.figures import Figure, list_figures
from sensor.agent.capture_session import Running
from sensor.agent.interfaces import Enforcement, NodeDescriber, NodeView
from sensor.agent.lock import NodeLock
from sensor.agent.pause import CaptureState
from sensor.agent.pipeline import Describer, Pipeline
from sensor.agent.wakeup import Rest, seconds_left
from sensor.capture.source import Capture
from sensor.core import process as heap
from sensor.core.clock import Clock
from sensor.core.health import HealthReport, SensorState
from sensor.coverage.gaps import Gaps
from sensor.coverage.report import list_share_figures
from sensor.coverage.row import PortCoverage
from sensor.describe.schemas.book import Schema, SchemaBook
from sensor.enforce.block import EnforcementReport
from sensor.enrich.kubernetes.pod import WorkloadFacts
from sensor.export.client import Uplink
from sensor.export.convert import SerialisedBatch
from sensor.export.messages import Welcome
from sensor.export.policy import PolicyResult, PolicyUpdate
from sensor.export.spool import Spool
from sensor.export.state import CollectorState, InstallationKey, StateDirectory
from sensor.offload.governor import Governor

logger = logging.getLogger(__name__)

STOP_SECONDS: Final = 5.0
# The same where the next sensor captures already: until it reads, its rings must hold all. It sends what is left.
FOLLOWED_STOP_SECONDS: Final = 1.0
LAST_WORD_SECONDS: Final = 0.1
# How often processes, cgroups and listeners are read anew (30 ms, in a thread).
REFRESH_SECONDS: Final = 10.0
# A command of the control socket waits so long for the loop.
COMMAND_TIMEOUT_SECONDS: Final = 5.0
_PAUSE_REASON: Final = "paused by apidae pause"


class StartError(Exception):
    """The sensor cannot start; one sentence that says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """What the loop itself is told."""

    poll_interval_seconds: float
    first_contact_timeout_seconds: float
    refresh_seconds: float = REFRESH_SECONDS
    stop_seconds: float = STOP_SECONDS


class Sensor:
    """One sensor process. `run` lives it; `stop` ends it; it is the uplink's listener and the control socket's
    target."""

    def __init__(
        self,
        *,
        settings: RunSettings,
        clock: Clock,
        state: StateDirectory,
        spool: Spool,
        open_capture: Callable[[], Capture],
        make_describer: Callable[[InstallationKey], NodeDescriber],
        make_pipeline: Callable[[Describer, int], Pipeline],
        node: NodeView,
        governor: Governor,
        schemas: SchemaBook,
        gaps: Gaps,
        enforcement: Enforcement,
        on_capturing: Callable[[], None],
        lock: NodeLock,
    ) -> None:
        """`lock`: its scope is given up as soon as nothing is captured here any more."""
        self._settings = settings
        self._clock = clock
        self._spool = spool
        self._open_capture = open_capture
        self._make_describer = make_describer
        self._make_pipeline = make_pipeline
        self._node = node
        self._governor = governor
        self._schemas = schemas
        self._gaps = gaps
        self._enforcement = enforcement
        self._on_capturing = on_capturing
        self._lock = lock
        self._told = CollectorState(state)
        self._node.identify_own_traffic(self._told.own_traffic)
        self._running: Running | None = None
        self._is_begun = False
        self._is_refresh_due = False
        self._uplink: Uplink | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._failure: StartError | None = None
        self._state = SensorState.CAPTURING
        self._rest: Rest | None = None

    # Life

    async def run(self, uplink: Uplink) -> None:
        """Live until `stop`. Raises `StartError`, also where the watched cgroup is gone, or the uplink's rejection
        before the first welcome."""
        self._uplink = uplink
        self._loop = asyncio.get_running_loop()
        talking = asyncio.create_task(uplink.run())
        welcome = asyncio.create_task(uplink.wait_welcome())
        try:
            if not self._told.keys:
                await self._wait_first_contact(uplink, welcome)
            if not self._stopping.is_set():
                await self._begin()
                beside = [asyncio.create_task(work) for work in (self._keep_refreshing(), self._enforcement.keep())]
                try:
                    await self._loop_until_stopped(welcome)
                finally:
                    for task in beside:
                        task.cancel()
                    await asyncio.gather(*beside, return_exceptions=True)
        finally:
            await self._end(uplink)
            for task in (talking, welcome):
                task.cancel()
            outcomes = await asyncio.gather(talking, welcome, return_exceptions=True)
            self._spool.close()
        for outcome in (self._failure, *outcomes):
            if isinstance(outcome, Exception):
                raise outcome

    def stop(self) -> None:
        """End soon: what was counted is sent first, for at most 5 s."""
        self._stopping.set()
        if self._rest is not None:
            self._rest.end()

    async def _wait_first_contact(self, uplink: Uplink, welcome: asyncio.Task[None]) -> None:
        """Without an installation key nothing may be hashed, so nothing is captured before a collector has given
        one."""
        seconds = self._settings.first_contact_timeout_seconds
        stopping = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({welcome, stopping}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stopping.cancel()
        if welcome.done():
            welcome.result()
        elif not self._stopping.is_set():
            raise StartError(
                f"no collector gave this sensor its installation key within {seconds:g} s, and without one nothing may "
                f"be captured: {uplink.last_error}"
            )

    async def _begin(self) -> None:
        key = self._told.keys[0]
        describer = self._make_describer(key)
        pipeline = self._make_pipeline(describer, key.key_id)
        # Compiling takes a second in a child process; the stream goes on meanwhile.
        starting = asyncio.create_task(asyncio.to_thread(self._node.start))
        capture = await asyncio.to_thread(self._open_capture)
        is_waiting = self._gaps.is_attached  # Something is in the rings already.
        running = Running(
            capture=capture,
            pipeline=pipeline,
            describer=describer,
            governor=self._governor,
            node=self._node,
            gaps=self._gaps,
            clock=self._clock,
            send=self._send,
        )
        self._running = running
        self._node.set_client_finder(capture.find_client_socket)
        self._apply_policy()
        # Rows wait for the collector from the first window on, merged while it is away.
        assert self._uplink is not None
        running.set_connected(self._uplink.is_connected)
        if self._told.keys[0] != key:  # It came while capture was opened.
            self._change_key()
        await starting
        running.teach()
        await running.refresh()
        self._enforcement.begin(capture, self._told.keys[0])
        # What exists now stays: the collector of garbage need not walk it again.
        gc.collect()
        gc.freeze()
        heap.trim()
        self._uplink.tell_state()
        if is_waiting:
            logger.info("what came since the previous sensor stopped is read now")
        self._is_begun = True
        self._on_capturing()

    async def _loop_until_stopped(self, welcome: asyncio.Task[None]) -> None:
        assert self._running is not None
        rest = self._rest = Rest(self._running.capture, interval_seconds=self._settings.poll_interval_seconds)
        try:
            await self._take_turns(self._running, welcome, rest)
        finally:
            rest.close()

    async def _take_turns(self, running: Running, welcome: asyncio.Task[None], rest: Rest) -> None:
        while not self._stopping.is_set():
            if welcome.done():
                welcome.result()  # A rejection ends the sensor.
            try:
                await self._take_turn(running, rest)
            except Exception:
                # A loop boundary: what this turn did not come to, the next one does.
                logger.exception("a turn of the sensor's loop failed")
                await asyncio.sleep(self._settings.poll_interval_seconds)

    async def _take_turn(self, running: Running, rest: Rest) -> None:
        await running.turn()
        if running.is_behind:
            await asyncio.sleep(0)
            return
        # A second's records become rows right after it.
        is_quiet = not (running.is_learning or self._enforcement.is_naming)
        await rest.wait(seconds_left(self._clock.unix_ns()), is_quiet=is_quiet)

    async def _keep_refreshing(self) -> None:
        assert self._running is not None
        next_refresh = time.monotonic() + self._settings.refresh_seconds
        trimmer = heap.Trimmer()
        while True:
            # With the turn that ends a second: a process that wakes costs more than what is done here.
            await asyncio.sleep(min(seconds_left(self._clock.unix_ns()), self._settings.refresh_seconds))
            try:
                self._gaps.touch()
                if why_ended := self._node.find_lost_scope():
                    self._failure = StartError(why_ended)
                    self.stop()
                    return
                if self._is_refresh_due or time.monotonic() >= next_refresh:
                    self._is_refresh_due = False
                    await self._running.refresh()
                    trimmer.trim_excess()
                    next_refresh = time.monotonic() + self._settings.refresh_seconds
                else:
                    self._running.rename()
            except Exception:
                # A loop boundary: names stay as they were until the next reading.
                logger.exception("reading the node's processes and listeners failed")
                next_refresh = time.monotonic() + self._settings.refresh_seconds

    async def _end(self, uplink: Uplink) -> None:
        self._state = SensorState.STOPPING
        uplink.tell_state()
        self._enforcement.end()
        self._node.stop()
        if self._running is None:
            return
        await self._running.detach(self._lock.release_scope)
        self._running.close()
        try:
            await self._drain(uplink)
            # A stream that is cancelled drops what its buffers still hold, and the last word says that this is a stop.
            await asyncio.sleep(LAST_WORD_SECONDS)
        except TimeoutError:
            logger.warning("%d bytes of batches stay in the spool for the next start", self._spool.waiting_bytes)

    async def _drain(self, uplink: Uplink) -> None:
        """Sends what waits. Raises TimeoutError."""
        seconds = self._settings.stop_seconds
        first_seconds = min(FOLLOWED_STOP_SECONDS, seconds)
        try:
            await asyncio.wait_for(uplink.drain(), first_seconds)
        except TimeoutError:
            if self._lock.is_followed():
                raise
            await asyncio.wait_for(uplink.drain(), seconds - first_seconds)

    def _send(self, batches: Sequence[SerialisedBatch]) -> None:
        assert self._uplink is not None
        for batch in batches:
            self._uplink.send(sequence=batch.sequence, payload=batch.payload, calls=batch.calls)

    # The control socket's target: called in its thread.

    def on_pause(self) -> None:
        """Detach; returns when nothing is attached."""
        self._command(self._pause)

    def on_resume(self) -> None:
        """Attach again."""
        self._command(self._resume)

    def status(self) -> CaptureState:
        """What the sensor is doing."""
        return CaptureState[self._state.name]

    def _command(self, act: Callable[[], None]) -> None:
        if self._loop is None or self._running is None:
            raise StartError("the sensor does not capture yet; ask again in a few seconds")

        async def act_in_loop() -> None:
            act()

        try:
            asyncio.run_coroutine_threadsafe(act_in_loop(), self._loop).result(COMMAND_TIMEOUT_SECONDS)
        except TimeoutError:
            raise StartError(
                f"it takes more than {COMMAND_TIMEOUT_SECONDS:.0f} s and goes on; the log tells when it is done"
            ) from None

    def _pause(self) -> None:
        if self._state is SensorState.CAPTURING and self._running is not None:
            self._running.pause()
            self._tell(SensorState.PAUSED)
            logger.info("paused")

    def _resume(self) -> None:
        if self._state is SensorState.PAUSED and self._running is not None:
            self._running.resume()
            self._tell(SensorState.CAPTURING)
            logger.info("resumed")

    def _tell(self, state: SensorState) -> None:
        self._state = state
        assert self._uplink is not None
        self._uplink.tell_state()

    # The uplink's listener

    @property
    def key_id(self) -> int:
        """Newest installation key held; 0 = none."""
        return self._told.key_id

    @property
    def policy_epoch(self) -> int:
        """Epoch of the policy in force."""
        return self._told.policy.epoch

    def on_welcome(self, welcome: Welcome) -> None:
        """Take up the installation's keys, rows counted under an older one leave first, and whose calls are Apidae's
        own; the collector may have been started again, so the node is read soon."""
        self._node.identify_own_traffic(self._told.take_own_traffic(welcome.own_traffic))
        self._is_refresh_due = True
        if self._told.take_keys(welcome.keys) and self._running is not None:
            self._change_key()

    def _change_key(self) -> None:
        key = self._told.keys[0]

        def make_describer() -> NodeDescriber:
            self._enforcement.set_key(key)
            return self._make_describer(key)

        assert self._running is not None
        self._running.change_key(make_describer, key.key_id)

    def on_connection(self, is_connected: bool) -> None:
        """Merge windows while the collector is away."""
        if self._state is not SensorState.STOPPING:
            logger.info("connected to the collector" if is_connected else "the collector is away; rows are spooled")
        self._enforcement.on_connection(is_connected)
        if self._running is not None:
            self._running.set_connected(is_connected)

    def on_policy(self, update: PolicyUpdate) -> PolicyResult:
        """Apply or refuse a policy, and keep the last good one."""
        result = self._told.take_policy(update)
        if result.is_applied:
            self._apply_policy()
            if update.blocks is not None:
                self._enforcement.take(update.blocks, update.epoch)
        return result

    def on_reveal(self, hashes: Sequence[int]) -> Mapping[int, str]:
        """Texts of the words that may be told."""
        return self._running.reveal(hashes) if self._running is not None else {}

    def read_health(self) -> HealthReport:
        """The report of this moment, as the collector is told it."""
        now_ns = self._clock.unix_ns()
        oldest_ns = self._spool.oldest_unix_ns
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return HealthReport(
            time_unix_ns=now_ns,
            state=self._state,
            stages=(*(self._running.counts() if self._running is not None else ()), self._spool.count()),
            lag_ms=0 if oldest_ns is None else max(0, now_ns - oldest_ns) // 1_000_000,
            spool_bytes=self._spool.waiting_bytes,
            memory_bytes=heap.read_resident_bytes(),
            cpu_ns=int((usage.ru_utime + usage.ru_stime) * 1e9),
            reason=_PAUSE_REASON if self._state is SensorState.PAUSED else self._node.degradation,
            capture=self._running.capture.way if self._running is not None else None,
            fallback_reason=self._running.capture.fallback_reason if self._running is not None else "",
        )

    def read_metrics(self) -> HealthReport:
        """The same with all figures."""
        figures: list[Figure] = []
        for read in (
            self._read_figures,
            self._node.figures,
            self._enforcement.figures,
            lambda: list_figures(self._spool.counts, "spool_"),
            lambda: list_share_figures(self.read_coverage()),
        ):
            try:
                figures += read()
            except Exception:
                # The other figures are shown, and the sensor goes on to count as healthy: its loop answers.
                logger.exception("reading figures for metrics failed")
        return replace(self.read_health(), figures=tuple(figures))

    def _read_figures(self) -> tuple[Figure, ...]:
        return self._running.figures() if self._running is not None else ()

    def read_metrics_from_thread(self) -> HealthReport:
        """The report with all figures, for a thread outside the loop: the loop makes it."""

        async def read() -> HealthReport:
            return self.read_metrics()

        if self._loop is None:
            return self.read_metrics()

        return asyncio.run_coroutine_threadsafe(read(), self._loop).result(COMMAND_TIMEOUT_SECONDS)

    def is_ready(self) -> bool:
        """Whether it does what it was last told to: captures, or is paused. From any thread."""
        return self._state is SensorState.PAUSED or (self._state is SensorState.CAPTURING and self._is_begun)

    def read_coverage(self) -> Sequence[PortCoverage]:
        """Ports and what is read of them; nothing before capture runs."""
        return self._running.coverage() if self._running is not None else ()

    def read_enforcement(self) -> EnforcementReport:
        """What is stopped on this node."""
        return self._enforcement.report()

    def read_workloads(self) -> Sequence[WorkloadFacts]:
        """What is told of Kubernetes workloads and containers on this node."""
        return self._node.workloads()

    def read_schemas(self, *, is_first: bool) -> Iterable[Sequence[Schema]]:
        """What routes look like: all of it on a new stream, else what changed."""
        if is_first:
            self._schemas.offer_all()
        return self._schemas.take(self._clock.monotonic_ns())

    def _apply_policy(self) -> None:
        if self._running is not None:
            self._running.pipeline.aggregator.set_triggers(self._told.policy.triggers)
            self._running.pipeline.policy_epoch = self._told.policy.epoch
