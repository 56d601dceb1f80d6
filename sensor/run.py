"""The sensor's life: first contact, capture, one loop that reads and sends, pause and resume, a clean end.

Everything runs in one asyncio loop: each second, and every 25 ms while calls come whole (sensor.rest says when), it
reads what capture has, describes and counts it in slices, and gives the spool what leaves; between slices the stream to
the collector gets its turn. Only the control socket's thread and metrics' scrapes are outside, and they come in through
the loop.
"""

import asyncio
import gc
import logging
import resource
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from sensor import heap
from sensor.clock import Clock
from sensor.convert import SerialisedBatch
from sensor.coverage.gaps import Gaps
from sensor.coverage.report import note_limitation
from sensor.coverage.row import PortCoverage
from sensor.coverage.share import tell_share
from sensor.enforce.report import EnforcementReport
from sensor.enrich.kubernetes.facts import WorkloadFacts
from sensor.health import HealthReport, SensorState, StageCount
from sensor.intake import Intake
from sensor.parts import Capture, Enforcement, Heirs, NodeDescriber, NodeView
from sensor.pause import CaptureState
from sensor.pipeline import Describer, Pipeline
from sensor.recognition.governor import Governor
from sensor.rest import Rest, seconds_left
from sensor.schemas.book import Schema, SchemaBook
from sensor.spool import Spool
from sensor.uplink.client import Uplink
from sensor.uplink.messages import Welcome
from sensor.uplink.policy import PolicyResult, PolicyUpdate, apply_update
from sensor.uplink.state import InstallationKey, StateDirectory, StateError

logger = logging.getLogger(__name__)

STOP_SECONDS: Final = 5.0
# The same where the next sensor waits: it sends what stays in the spool, and until it reads, the rings must hold all.
FOLLOWED_STOP_SECONDS: Final = 1.0
LAST_WORD_SECONDS: Final = 0.1
# Before capture is given away, calls that were recognised have so long to end.
REST_SECONDS: Final = 0.5
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
    rest_seconds: float = REST_SECONDS


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
        heirs: Heirs | None = None,
    ) -> None:
        """`heirs`: who may go on with capture when this sensor stops."""
        self._settings = settings
        self._clock = clock
        self._state_directory = state
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
        self._heirs = heirs
        self._keys = state.load_keys()
        self._policy = state.load_policy()
        self._capture: Capture | None = None
        self._describer: NodeDescriber | None = None
        self._pipeline: Pipeline | None = None
        self._uplink: Uplink | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()
        self._state = SensorState.CAPTURING
        self._intake: Intake | None = None
        self._rest: Rest | None = None

    # Life

    async def run(self, uplink: Uplink) -> None:
        """Live until `stop`. Raises `StartError`, or the uplink's rejection before the first welcome."""
        self._uplink = uplink
        self._loop = asyncio.get_running_loop()
        talking = asyncio.create_task(uplink.run())
        welcome = asyncio.create_task(uplink.wait_welcome())
        try:
            if not self._keys:
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
        for outcome in outcomes:
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
        key = self._keys[0]
        self._describer = self._make_describer(key)
        self._pipeline = self._make_pipeline(self._describer, key.key_id)
        self._apply_policy()
        # Rows wait for the collector from the first window on, merged while it is away.
        assert self._uplink is not None
        self._pipeline.aggregator.set_connected(self._uplink.is_connected)
        # Compiling takes a second in a child process; the stream goes on meanwhile.
        starting = asyncio.create_task(asyncio.to_thread(self._node.start))
        self._capture = await asyncio.to_thread(self._open_capture)
        is_waiting = self._capture.is_inherited or self._gaps.is_attached  # Something is in the rings already.
        if self._capture.is_inherited:
            self._gaps.go_on()
        else:
            self._gaps.begin()
        await starting
        self._intake = Intake(
            capture=self._capture,
            pipeline=self._pipeline,
            describer=self._describer,
            governor=self._governor,
            clock=self._clock,
        )
        self._intake.teach()
        await self._refresh_node()
        self._enforcement.begin(self._capture, key)
        # What exists now stays: the collector of garbage need not walk it again.
        gc.collect()
        gc.freeze()
        heap.trim()
        self._uplink.tell_state()
        if self._heirs is not None:
            self._heirs.open()
        if is_waiting:
            logger.info("what came since the sensor before stopped is read now")
        self._on_capturing()

    async def _loop_until_stopped(self, welcome: asyncio.Task[None]) -> None:
        assert self._capture is not None
        rest = self._rest = Rest(self._capture, interval_seconds=self._settings.poll_interval_seconds)
        try:
            await self._take_turns(welcome, rest)
        finally:
            rest.close()

    async def _take_turns(self, welcome: asyncio.Task[None], rest: Rest) -> None:
        while not self._stopping.is_set():
            if welcome.done():
                welcome.result()  # A rejection ends the sensor.
            await self._turn()
            if self._intake is not None and self._intake.is_behind:
                await asyncio.sleep(0)
                continue
            # A second's records become rows right after it.
            await rest.wait(seconds_left(self._clock.unix_ns()))

    async def _keep_refreshing(self) -> None:
        next_refresh = time.monotonic() + self._settings.refresh_seconds
        trimmer = heap.Trimmer()
        while True:
            # With the turn that ends a second: a process that wakes costs more than what is done here.
            await asyncio.sleep(min(seconds_left(self._clock.unix_ns()), self._settings.refresh_seconds))
            self._gaps.touch()
            try:
                if time.monotonic() >= next_refresh:
                    await self._refresh_node()
                    trimmer.trim_excess()
                    next_refresh = time.monotonic() + self._settings.refresh_seconds
                elif self._node.rename() and self._describer is not None:
                    self._describer.check_services()
            except Exception:
                # A loop boundary: names stay as they were until the next reading.
                logger.exception("reading the node's processes and listeners failed")

    async def _refresh_node(self) -> None:
        await asyncio.to_thread(self._node.refresh)
        self._node.rename()
        if self._capture is not None and self._state is SensorState.CAPTURING:
            self._capture.set_listening(self._node.ports())
            if self._describer is not None:
                self._describer.check_services()

    async def _turn(self) -> None:
        """One reading."""
        assert self._pipeline is not None and self._intake is not None
        if self._clock.check():
            self._intake.read_records(is_all=True)
            self._send(self._pipeline.step_clock())
        await self._intake.read()
        self._send(self._pipeline.poll())

    async def _end(self, uplink: Uplink) -> None:
        was_capturing, self._state = self._state is SensorState.CAPTURING, SensorState.STOPPING
        uplink.tell_state()
        self._enforcement.end()
        self._node.stop()
        if self._capture is None or self._pipeline is None or self._intake is None:
            return
        is_followed = was_capturing and await self._pass_on()
        if not is_followed:
            self._capture.detach()
            self._gaps.end()
            is_followed = self._heirs is not None and self._heirs.release()
            await self._intake.read_rest()
        if self._heirs is not None:
            self._heirs.close()
        self._capture.close()
        self._send(self._pipeline.flush())
        try:
            seconds = self._settings.stop_seconds
            await asyncio.wait_for(uplink.drain(), min(seconds, FOLLOWED_STOP_SECONDS) if is_followed else seconds)
            # A stream that is cancelled drops what its buffers still hold, and the last word says that this is a stop.
            await asyncio.sleep(LAST_WORD_SECONDS)
        except TimeoutError:
            logger.warning("%d bytes of batches stay in the spool for the next start", self._spool.waiting_bytes)

    async def _pass_on(self) -> bool:
        """Gives capture to a sensor that waits for it; False where none does, or it did not take it."""
        testator, intake = self._capture.testator if self._capture is not None else None, self._intake
        if self._heirs is None or intake is None or self._describer is None or testator is None:
            return False
        heir = await asyncio.to_thread(self._heirs.find)
        if heir is None:
            return False
        # Numbers of routes mean something here only: calls that were recognised end here, new ones go up whole.
        numbers = self._describer.rest()
        intake.teach()
        deadline = time.monotonic() + self._settings.rest_seconds
        while time.monotonic() < deadline:
            await self._turn()
            await asyncio.sleep(self._settings.poll_interval_seconds)
        await intake.read_rest()
        if not await asyncio.to_thread(heir.give, testator.bequeath(numbers)):
            testator.keep()
            return False
        self._gaps.go_on()
        logger.info("the next sensor goes on with capture")
        return True

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
        if self._loop is None or self._capture is None:
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
        if self._state is SensorState.CAPTURING and self._capture is not None and self._uplink is not None:
            self._capture.detach()
            self._gaps.end()
            self._state = SensorState.PAUSED
            self._uplink.tell_state()
            logger.info("paused")

    def _resume(self) -> None:
        if self._state is SensorState.PAUSED and self._capture is not None and self._uplink is not None:
            self._capture.attach()
            self._gaps.begin()
            self._state = SensorState.CAPTURING
            self._uplink.tell_state()
            logger.info("resumed")

    # The uplink's listener

    @property
    def key_id(self) -> int:
        """Newest installation key held; 0 = none."""
        return self._keys[0].key_id if self._keys else 0

    @property
    def policy_epoch(self) -> int:
        """Epoch of the policy in force."""
        return self._policy.epoch

    def on_welcome(self, welcome: Welcome) -> None:
        """Take up the installation's keys; rows counted under an older one leave first."""
        if not welcome.keys or welcome.keys == self._keys:
            return
        is_other = not self._keys or welcome.keys[0] != self._keys[0]
        self._keys = welcome.keys
        try:
            self._state_directory.save_keys(welcome.keys)
        except StateError as error:
            logger.error("the installation key is not kept: %s", error)
        if is_other and self._pipeline is not None and self._describer is not None:
            if self._intake is not None:
                self._intake.read_records(is_all=True)
            self._enforcement.set_key(welcome.keys[0])
            self._describer.forget()
            self._describer = self._make_describer(welcome.keys[0])
            if self._intake is not None:
                self._intake.describer = self._describer
            self._send(self._pipeline.change_key(self._describer, welcome.keys[0].key_id))

    def on_connection(self, is_connected: bool) -> None:
        """Merge windows while the collector is away."""
        if self._state is not SensorState.STOPPING:
            logger.info("connected to the collector" if is_connected else "the collector is away; rows are spooled")
        self._enforcement.on_connection(is_connected)
        if self._pipeline is not None:
            self._send(self._pipeline.convert(self._pipeline.aggregator.set_connected(is_connected)))

    def on_policy(self, update: PolicyUpdate) -> PolicyResult:
        """Apply or refuse a policy, and keep the last good one."""
        result = apply_update(self._policy, update)
        if not result.is_applied:
            logger.warning("policy refused: %s", result.reason)
            return result
        self._policy = result.policy
        self._apply_policy()
        if update.blocks is not None:
            self._enforcement.take(update.blocks, update.epoch)
        try:
            self._state_directory.save_policy(result.policy)
        except StateError as error:
            logger.error("the policy is not kept: %s", error)
        return result

    def on_reveal(self, hashes: Sequence[int]) -> Mapping[int, str]:
        """Texts of the words that may be told."""
        return self._describer.reveal(hashes) if self._describer is not None else {}

    def read_health(self) -> HealthReport:
        """The report of this moment, as the collector is told it."""
        now_ns = self._clock.unix_ns()
        oldest_ns = self._spool.oldest_unix_ns
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return HealthReport(
            time_unix_ns=now_ns,
            state=self._state,
            stages=self._count_stages(),
            lag_ms=0 if oldest_ns is None else max(0, now_ns - oldest_ns) // 1_000_000,
            spool_bytes=self._spool.waiting_bytes,
            memory_bytes=heap.read_resident_bytes(),
            cpu_ns=int((usage.ru_utime + usage.ru_stime) * 1e9),
            reason=_PAUSE_REASON if self._state is SensorState.PAUSED else self._node.degradation,
        )

    def read_metrics(self) -> HealthReport:
        """The same with all figures."""
        of_intake = self._intake.figures() if self._intake is not None else ()
        shares = tell_share(self.read_coverage())
        return replace(self.read_health(), figures=(*of_intake, *self._node.figures(), *shares))

    def read_metrics_from_thread(self) -> HealthReport:
        """The report with all figures, for a thread outside the loop: the loop makes it."""

        async def read() -> HealthReport:
            return self.read_metrics()

        if self._loop is None:
            return self.read_metrics()

        return asyncio.run_coroutine_threadsafe(read(), self._loop).result(COMMAND_TIMEOUT_SECONDS)

    def is_ready(self) -> bool:
        """Whether it does what it was last told to: captures, or is paused. From any thread."""
        return self._state is SensorState.PAUSED or (self._state is SensorState.CAPTURING and self._capture is not None)

    def read_coverage(self) -> Sequence[PortCoverage]:
        """Ports and what is read of them; nothing before capture runs."""
        if self._capture is None:
            return ()
        return note_limitation(
            self._node.cover(self._capture.coverage(), self._capture.counters()), self._capture.limitation
        )

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

    def _count_stages(self) -> tuple[StageCount, ...]:
        capture = tuple(self._capture.counts()) if self._capture is not None else ()
        pipeline = self._pipeline.counts() if self._pipeline is not None else ()
        return (*capture, *pipeline, self._spool.count())

    def _apply_policy(self) -> None:
        if self._pipeline is not None:
            self._pipeline.aggregator.set_triggers(self._policy.triggers)
            self._pipeline.policy_epoch = self._policy.epoch
