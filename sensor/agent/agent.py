"""The life of the sensor process: first contact, capture, one loop that reads and sends, pause and resume, a clean end.

Everything runs in one asyncio loop. Its turns come each second, and every 25 ms while many calls are copied whole
(sensor.agent.wakeup has the schedule). A turn reads what capture has, describes and counts it in slices, and gives the
spool what leaves. Between slices the stream to the collector runs. Only the control socket's thread and metrics scrapes
are outside the loop, and they call into it.

| State | Becomes | By |
|---|---|---|
| CAPTURING | PAUSED | `apidae pause` |
| PAUSED | CAPTURING | `apidae resume` |
| either | STOPPING | `stop`, or a watched cgroup that is gone |
"""

import asyncio
import gc
import logging
import resource
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from common.figures import Figure, list_figures
from sensor.agent.capture_session import CaptureSession
from sensor.agent.enforcement import Enforcement
from sensor.agent.lock import NodeLock
from sensor.agent.node import Node
from sensor.agent.pause import Command
from sensor.agent.pipeline import CallProcessor, Pipeline
from sensor.agent.trace import Event, SensorView, Trace, TraceRefusedError, TraceRequest
from sensor.agent.wakeup import PollScheduler
from sensor.capture.source import Capture
from sensor.core import process as heap
from sensor.core.attachments import AttachmentRecord
from sensor.core.clock import Clock, seconds_left
from sensor.core.health import HealthReport
from sensor.core.keyed import InstallationKey
from sensor.core.state import SensorState, StartError
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
from sensor.export.spool import BatchKey, Spool
from sensor.export.state import CollectorState, StateDirectory
from sensor.offload.governor import Governor

logger = logging.getLogger(__name__)
_T = TypeVar("_T")

STOP_SECONDS: Final = 5.0
# The same where the next sensor captures already: until it reads, its rings must hold all. It sends what is left.
FOLLOWED_STOP_SECONDS: Final = 1.0
LAST_WORD_SECONDS: Final = 0.1
# How often processes, cgroups and listeners are read anew (30 ms, in a thread).
REFRESH_SECONDS: Final = 10.0
# Between two reads of the rings while many calls are copied whole.
POLL_INTERVAL_SECONDS: Final = 0.025
# A command of the control socket waits so long for the loop.
COMMAND_TIMEOUT_SECONDS: Final = 5.0
_PAUSE_REASON: Final = "paused by apidae pause"
# The state from which a command moves, the state that it moves to, and what the session does.
_MOVES: Final[dict[Command, tuple[SensorState, SensorState, Callable[[CaptureSession], None]]]] = {
    Command.PAUSE: (SensorState.CAPTURING, SensorState.PAUSED, CaptureSession.pause),
    Command.RESUME: (SensorState.PAUSED, SensorState.CAPTURING, CaptureSession.resume),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """How the loop itself runs."""

    first_contact_timeout_seconds: float
    poll_interval_seconds: float = POLL_INTERVAL_SECONDS
    refresh_seconds: float = REFRESH_SECONDS
    stop_seconds: float = STOP_SECONDS
    reads_tls: bool = False  # As asked for; which processes' is in the coverage.


class Sensor:
    """One sensor process. `run` lives it; `stop` ends it; it is the uplink's listener and carries out the control
    socket's commands."""

    def __init__(
        self,
        *,
        settings: RunSettings,
        clock: Clock,
        state: StateDirectory,
        spool: Spool,
        open_capture: Callable[[], Capture],
        make_processor: Callable[[InstallationKey], CallProcessor],
        make_pipeline: Callable[[CallProcessor, int], Pipeline],
        node: Node,
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
        self._make_processor = make_processor
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
        self._session: CaptureSession | None = None
        self._has_begun = False
        self._is_refresh_due = False
        self._uplink: Uplink | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._failure: StartError | None = None
        self._state = SensorState.CAPTURING
        self._scheduler: PollScheduler | None = None

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
                session = await self._begin(uplink)
                async with _run_beside(self._keep_refreshing(session), self._enforcement.keep()):
                    await self._read_until_stopped(session, welcome)
        finally:
            await self._end(uplink)
            talking.cancel()
            welcome.cancel()
            outcomes = await asyncio.gather(talking, welcome, return_exceptions=True)
            self._spool.close()
        for outcome in (self._failure, *outcomes):
            if isinstance(outcome, Exception):
                raise outcome

    def stop(self) -> None:
        """End soon: what was counted is sent first, for at most 5 s."""
        self._stopping.set()
        if self._scheduler is not None:
            self._scheduler.end()

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

    async def _begin(self, uplink: Uplink) -> CaptureSession:
        key = self._told.keys[0]
        processor = self._make_processor(key)
        # Compiling takes a second in a child process; the stream goes on meanwhile.
        starting = asyncio.create_task(asyncio.to_thread(self._node.start))
        capture = await asyncio.to_thread(self._open_capture)
        is_waiting = self._gaps.is_attached  # Something is in the rings already.
        session = self._session = CaptureSession(
            capture=capture,
            pipeline=self._make_pipeline(processor, key.key_id),
            processor=processor,
            governor=self._governor,
            node=self._node,
            gaps=self._gaps,
            clock=self._clock,
            send=self._send,
        )
        self._node.set_client_finder(capture.find_client_socket)
        self._apply_policy()
        # Rows wait for the collector from the first window on, merged while it is away.
        session.set_connected(uplink.is_connected)
        if self._told.keys[0] != key:  # It came while capture was opened.
            self._change_key(session)
        await starting
        session.install_entries()
        await session.refresh()
        self._enforcement.begin(capture, self._told.keys[0])
        # What exists now stays: the collector of garbage need not walk it again.
        gc.collect()
        gc.freeze()
        heap.trim()
        uplink.tell_state()
        if is_waiting:
            logger.info("what came since the previous sensor stopped is read now")
        self._has_begun = True
        self._on_capturing()
        return session

    async def _read_until_stopped(self, session: CaptureSession, welcome: asyncio.Task[None]) -> None:
        interval_seconds = self._settings.poll_interval_seconds
        with PollScheduler(session.capture, interval_seconds=interval_seconds) as scheduler:
            self._scheduler = scheduler
            while not self._stopping.is_set():
                if welcome.done():
                    welcome.result()  # A rejection ends the sensor.
                try:
                    await session.read_turn()
                    if session.is_behind:
                        await asyncio.sleep(0)
                        continue
                    # A second's records become rows right after it.
                    is_quiet, is_urgent = not session.has_installed, self._enforcement.enforcer.is_naming
                    left = seconds_left(self._clock.unix_ns())
                    await scheduler.wait(left, is_quiet=is_quiet, is_urgent=is_urgent)
                except Exception:
                    # A loop boundary: what this turn did not come to, the next one does.
                    logger.exception("a turn of the sensor's loop failed")
                    await asyncio.sleep(interval_seconds)

    async def _keep_refreshing(self, session: CaptureSession) -> None:
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
                    await session.refresh()
                    trimmer.trim_excess()
                    next_refresh = time.monotonic() + self._settings.refresh_seconds
                else:
                    session.rename()
            except Exception:
                # A loop boundary: names stay as they were until the next reading.
                logger.exception("reading the node's processes and listeners failed")
                next_refresh = time.monotonic() + self._settings.refresh_seconds

    async def _end(self, uplink: Uplink) -> None:
        self._state = SensorState.STOPPING
        uplink.tell_state()
        self._enforcement.end()
        self._node.stop()
        if self._session is None:
            return
        await self._session.end(self._lock.release_scope)
        try:
            await self._drain(uplink)
            # A stream that is cancelled drops what its buffers still hold, and the last word says that this is a stop.
            await asyncio.sleep(LAST_WORD_SECONDS)
        except TimeoutError:
            logger.warning("%d bytes of batches stay in the spool for the next start", self._spool.waiting_bytes)

    async def _drain(self, uplink: Uplink) -> None:
        """Send what waits. Raises TimeoutError."""
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

    def carry_out(self, command: Command) -> SensorState:
        """A command of the control socket, from its thread. Returns when nothing, or everything, is attached, with the
        state then; pausing twice is one pause."""
        if command is not Command.STATUS:
            self._call_in_loop(lambda: self._move(command))
        return self._state

    def _call_in_loop(self, call: Callable[[], _T]) -> _T:
        """What it gives, for another thread. Raises StartError where the loop does not come to it."""

        async def call_it() -> _T:
            return call()

        return self._run_in_loop(call_it)

    def _run_in_loop(self, work: Callable[[], Coroutine[None, None, _T]]) -> _T:
        if self._loop is None or self._session is None:
            raise StartError("the sensor does not capture yet; ask again in a few seconds")
        try:
            return asyncio.run_coroutine_threadsafe(work(), self._loop).result(COMMAND_TIMEOUT_SECONDS)
        except TimeoutError:
            raise StartError(
                f"it takes more than {COMMAND_TIMEOUT_SECONDS:.0f} s and goes on; the log says when it is done"
            ) from None

    def trace(self, asked: Mapping[str, object]) -> Generator[Event | None]:
        """Events of the calls that are asked for, until the trace ends or the iterator is closed; None where there is
        none now, and then the caller waits a moment. For a thread of the control socket. Raises StartError or
        TraceRefusedError."""
        request = TraceRequest.parse(asked)
        self._run_in_loop(self._refresh_node)
        try:
            trace = self._call_in_loop(lambda: self._begin_trace(request))
            while not trace.is_over:
                yield from trace.pop()
                yield None
                self._call_in_loop(lambda: self._observe(trace))
            yield from trace.pop()
        finally:  # Also where the loop was too slow to answer: it may begin after that.
            self._call_in_loop(lambda: self._end_trace(request))

    async def _refresh_node(self) -> None:
        """The kernel counts connections of ports that somebody is known to listen on."""
        assert self._session is not None
        await self._session.refresh()

    def _begin_trace(self, request: TraceRequest) -> Trace:
        session, uplink = self._session, self._uplink
        assert session is not None
        assert uplink is not None
        pipeline = session.pipeline
        if pipeline.trace is not None and not pipeline.trace.is_over:
            raise TraceRefusedError("another trace is on; end it, or wait until it ends by itself")
        view = SensorView(
            state=self._state,
            way=session.capture.way,
            fallback_reason=session.capture.fallback_reason,
            reads_tls=self._settings.reads_tls,
            is_connected=uplink.is_connected,
        )
        trace = Trace(request, view, facts=pipeline.aggregator.facts, clock=self._clock)
        pipeline.trace = trace
        self._spool.on_settled = self._settle
        self._observe(trace)
        return trace

    def _settle(self, key: BatchKey, outcome: str) -> None:
        if self._session is not None and self._session.pipeline.trace is not None:
            self._session.pipeline.trace.settle(key.sequence, outcome)

    def _observe(self, trace: Trace) -> None:
        if self._state is SensorState.STOPPING:
            trace.stop()
        elif self._session is not None:
            trace.observe(self.read_coverage, lambda: self.read_health().stages)

    def _end_trace(self, request: TraceRequest) -> None:
        """End the trace of this request, and no other one."""
        pipeline = self._session.pipeline if self._session is not None else None
        if pipeline is not None and pipeline.trace is not None and pipeline.trace.request is request:
            self._spool.on_settled = None
            pipeline.trace = None

    def _move(self, command: Command) -> None:
        before, after, act = _MOVES[command]
        if self._state is before and self._session is not None and self._uplink is not None:
            act(self._session)
            self._state = after
            self._uplink.tell_state()
            logger.info("paused" if after is SensorState.PAUSED else "resumed")

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
        if self._told.take_keys(welcome.keys) and self._session is not None:
            self._change_key(self._session)

    def _change_key(self, session: CaptureSession) -> None:
        key = self._told.keys[0]

        def make_processor() -> CallProcessor:
            self._enforcement.enforcer.set_key(key.key_id, key.secret)
            return self._make_processor(key)

        session.change_key(make_processor, key.key_id)
        self._apply_policy()

    def on_connection(self, is_connected: bool) -> None:
        """Merge windows while the collector is away."""
        if self._state is not SensorState.STOPPING:
            logger.info("connected to the collector" if is_connected else "the collector is away; rows are spooled")
        self._enforcement.enforcer.on_connection(is_connected)
        if self._session is not None:
            self._session.set_connected(is_connected)

    def on_policy(self, update: PolicyUpdate) -> PolicyResult:
        """Apply or refuse a policy, and keep the last good one."""
        result = self._told.take_policy(update)
        if result.is_applied:
            self._apply_policy()
            if update.blocks is not None:
                self._enforcement.enforcer.take(update.blocks, update.epoch)
        return result

    def on_reveal(self, hashes: Sequence[int]) -> Mapping[int, str]:
        """Texts of the words that may be revealed."""
        return self._session.processor.reveal(hashes) if self._session is not None else {}

    def read_health(self) -> HealthReport:
        """The report of this moment, as the collector gets it."""
        now_ns, session = self._clock.unix_ns(), self._session
        oldest_ns = self._spool.oldest_unix_ns
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return HealthReport(
            time_unix_ns=now_ns,
            state=self._state,
            stages=(*(session.counts() if session is not None else ()), self._spool.count()),
            lag_ms=0 if oldest_ns is None else max(0, now_ns - oldest_ns) // 1_000_000,
            spool_bytes=self._spool.waiting_bytes,
            memory_bytes=heap.read_resident_bytes(),
            cpu_ns=int((usage.ru_utime + usage.ru_stime) * 1e9),
            reason=_PAUSE_REASON if self._state is SensorState.PAUSED else self._node.degradation,
            capture=session.capture.way if session is not None else None,
            fallback_reason=session.capture.fallback_reason if session is not None else "",
        )

    def read_metrics(self) -> HealthReport:
        """The same with all figures."""
        figures: list[Figure] = []
        for read in (
            self._read_session_figures,
            self._node.figures,
            self._enforcement.enforcer.figures,
            lambda: list_figures(self._spool.counts, "spool_"),
            lambda: list_share_figures(self.read_coverage()),
        ):
            try:
                figures += read()
            except Exception:
                # The other figures are shown, and the sensor goes on to count as healthy: its loop answers.
                logger.exception("reading figures for metrics failed")
        return replace(self.read_health(), figures=tuple(figures))

    def _read_session_figures(self) -> tuple[Figure, ...]:
        return self._session.figures() if self._session is not None else ()

    def read_metrics_from_thread(self) -> HealthReport:
        """The report with all figures, for a thread outside the loop: the loop makes it."""

        async def read() -> HealthReport:
            return self.read_metrics()

        if self._loop is None:
            return self.read_metrics()

        return asyncio.run_coroutine_threadsafe(read(), self._loop).result(COMMAND_TIMEOUT_SECONDS)

    def is_ready(self) -> bool:
        """Whether it captures, or was paused by an operator. From any thread."""
        return self._state is SensorState.PAUSED or (self._state is SensorState.CAPTURING and self._has_begun)

    def read_coverage(self) -> Sequence[PortCoverage]:
        """Ports and what is read of them; nothing before capture runs."""
        return self._session.coverage() if self._session is not None else ()

    def read_enforcement(self) -> EnforcementReport:
        """What is stopped on this node."""
        return self._enforcement.enforcer.report()

    def read_attachments(self, after: int) -> tuple[int, Sequence[AttachmentRecord], int]:
        """What was done to JVMs after so many events; how many there were, and how many nobody read."""
        journal = self._node.attachments
        return *journal.read_after(after), journal.lost

    def read_node_addresses(self) -> Sequence[str]:
        """Addresses of this node that Kubernetes does not list."""
        return self._node.list_addresses()

    def read_workloads(self) -> Sequence[WorkloadFacts]:
        """What is reported of Kubernetes workloads and containers on this node."""
        return self._node.workloads()

    def offer_schemas(self) -> Sequence[int]:
        """Digests of all that is known of what routes look like."""
        return self._schemas.offer()

    def ask_schemas(self, digests: Sequence[int]) -> None:
        """The collector lacks these."""
        self._schemas.ask(digests)

    def read_schemas(self, *, is_first: bool) -> Iterable[Sequence[Schema]]:
        """What routes look like: all of it where `is_first`, else what changed."""
        if is_first:
            self._schemas.offer_all()
        return self._schemas.take(self._clock.monotonic_ns())

    def _apply_policy(self) -> None:
        if self._session is not None:
            self._session.apply_policy(self._told.policy)


@asynccontextmanager
async def _run_beside(*work: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """These run until the block is left."""
    tasks = [asyncio.create_task(one) for one in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
