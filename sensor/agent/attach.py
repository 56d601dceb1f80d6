"""Opens the capture that this node allows: packets of cgroup v2, or else system calls, with TLS beside it.

`capture: auto` takes packets wherever the kernel allows it. The fallback costs more and sees less (docs/kernels.md). So
it is reported in one line of the log, in the coverage, in the metrics and to the collector.

Loading takes seconds and compiling more, but attaching takes a moment. So `prepare_capture` compiles and loads while an
earlier sensor still captures. Capture then begins as soon as that sensor has detached.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sensor.agent.agent import StartError
from sensor.capture.packets.capture import Capture
from sensor.capture.source import Capture as AnyCapture
from sensor.capture.syscalls.capture import SyscallCapture
from sensor.capture.tls.bodies import BodyMeter
from sensor.capture.tls.unread import UnreadProcesses
from sensor.core.calls import Exchange
from sensor.core.clock import Clock
from sensor.core.config import CaptureWay, SensorSettings
from sensor.ebpf.handover import Claim, Estate, Heirs
from sensor.ebpf.loader import LoadedProgram, LoadError, load_program
from sensor.ebpf.pieces import Pieces
from sensor.ebpf.pins import PinnedHeir, Pins, make_lineage
from sensor.ebpf.tracepoints import TracepointSettings
from sensor.ebpf.uprobes import TlsProgram, TlsProgramSettings, load_tls
from sensor.enrich.cgroup_tree import CgroupScope
from sensor.export.state import StateDirectory, StateError
from sensor.http.http2.alike import AlikeCalls

logger = logging.getLogger(__name__)


class Prepared:
    """Kernel sides of this sensor's own, and what it was given. Not thread-safe."""

    def __init__(
        self,
        program: LoadedProgram | None,
        claim: Claim | None,
        *,
        tls: TlsProgram | None = None,
        may_begin: bool = False,
        take_left: Callable[[], Estate | None] = lambda: None,
        unix_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """`may_begin`: `program` may be attached before anything else of this sensor runs; `take_left`: what an earlier
        sensor left for whoever comes, and nobody may come before this is called."""
        self.program = program
        self.tls = tls
        self._claim = claim
        self._may_begin = may_begin
        self._take_left = take_left
        self._unix_ns = unix_ns
        # Since when `program` has been attached.
        self.attached_unix_ns: int | None = None

    def poll(self) -> None:
        """Takes what the sensor before gives, or begins where that one has ended; often, while it is waited for."""
        if self._claim is None:
            return
        self._claim.poll()
        if self._claim.is_free:
            self._attach()
        else:
            # The node went to another that waited: two would count everything twice.
            self._detach()

    def begin(self) -> None:
        """The node is this sensor's: what was not given begins now."""
        claim = self._claim
        if claim is None:
            return
        claim.poll()
        if claim.estate is None and self.attached_unix_ns is None:
            claim.estate = self._take_left()
        if claim.estate is None:
            self._attach()
        else:
            self._detach()

    def take_estate(self) -> Estate | None:
        """What was given, once; the caller's then."""
        if self._claim is None:
            return None
        estate, self._claim.estate = self._claim.estate, None
        self._claim.close()
        return estate

    def _attach(self) -> None:
        if self.program is None or not self._may_begin or self.attached_unix_ns is not None:
            return
        try:
            self.program.attach()
        except LoadError as error:
            # Tried again, and told where it fails, when capture is opened.
            logger.warning("capture does not begin yet: %s", error)
            self._may_begin = False
            return
        self.attached_unix_ns = self._unix_ns()
        logger.info("attached; what comes is read when the sensor before has ended")

    def _detach(self) -> None:
        if self.program is not None and self.attached_unix_ns is not None:
            self.program.detach()
            self.attached_unix_ns = None


def prepare_capture(settings: SensorSettings, scope: CgroupScope) -> Prepared:
    """What a start needs, while another sensor still captures. What cannot be made ready is tried again, and fails with
    its reason, when capture is opened."""
    lineage = find_lineage(settings, scope)
    if lineage is None:
        return Prepared(None, None)
    return Prepared(
        _load_packets(settings, scope),
        Claim(settings.run_dir, lineage),
        tls=_load_tls(settings, scope),
        may_begin=_has_key(settings),
        take_left=lambda: make_pins(settings.pin_dir, scope).take(lineage),
    )


def find_lineage(settings: SensorSettings, scope: CgroupScope) -> str | None:
    """Of the capture that these settings ask for; None where it cannot be handed over."""
    if settings.capture is CaptureWay.SYSCALLS or scope.directory is None:
        return None
    return make_lineage(
        cgroup_path=scope.directory,
        ring_bytes=settings.ring_bytes,
        is_root_cgroup=scope.is_whole_host,
        is_enforcing=settings.is_enforcing,
    )


def make_pins(directory: Path, scope: CgroupScope | None) -> Pins:
    """What a sensor of this scope may have left there; None: all that sensors of this host left."""
    return Pins(directory, time.monotonic_ns, cgroup_id=scope.cgroup_id if scope is not None else None)


def load_packets_program(settings: SensorSettings, scope: CgroupScope) -> LoadedProgram:
    """The programs on packets, attached to nothing. Raises LoadError."""
    if scope.directory is None:
        raise LoadError("cgroup v2 is not mounted")
    return load_program(
        scope.directory,
        settings.ring_bytes,
        scope.is_whole_host,
        cache_directory=settings.cache_dir or settings.state_dir,
        is_enforcing=settings.is_enforcing,
    )


def describe_tracepoints(settings: SensorSettings, scope: CgroupScope) -> TracepointSettings:
    """What is built into the programs on system calls."""
    return TracepointSettings(
        ring_bytes=settings.ring_bytes,
        calls_per_second=settings.heads_per_second,
        calls_burst=settings.heads_burst_count,
        scope_id=scope.kernel_id,
    )


def load_tls_program(settings: SensorSettings, scope: CgroupScope) -> TlsProgram:
    """The programs on libraries of TLS, attached to nothing. Raises LoadError."""
    # Here: where TLS is not read, the disassembler (5 MB) is not needed.
    from sensor.capture.tls.capture import RING_BYTES

    return load_tls(
        TlsProgramSettings(
            ring_bytes=RING_BYTES,
            calls_per_second=settings.heads_per_second,
            calls_burst=settings.heads_burst_count,
            scope_id=scope.kernel_id,
        ),
        settings.cache_dir or settings.state_dir,
    )


def _load_packets(settings: SensorSettings, scope: CgroupScope) -> LoadedProgram | None:
    try:
        return load_packets_program(settings, scope)
    except LoadError as error:
        logger.warning("the kernel side is not loaded beforehand: %s", error)
        return None


def _load_tls(settings: SensorSettings, scope: CgroupScope) -> TlsProgram | None:
    if not settings.is_reading_tls:
        return None
    try:
        return load_tls_program(settings, scope)
    except LoadError as error:
        logger.warning("the kernel side of TLS is not loaded beforehand: %s", error)
        return None


def _has_key(settings: SensorSettings) -> bool:
    """Without an installation key nothing may be captured."""
    try:
        return bool(StateDirectory(settings.state_dir).load_keys())
    except StateError:
        return False


CONTINUED: Final = "capture goes on where the sensor before stopped"


def open_capture(
    settings: SensorSettings,
    scope: CgroupScope,
    clock: Clock,
    pieces: Pieces,
    alike: AlikeCalls[Exchange],
    prepared: Prepared | None = None,
    begin_after: Callable[[int, int, int], None] = lambda route, profile, node: None,
    unread: UnreadProcesses | None = None,
    tls_bodies: BodyMeter | None = None,
) -> AnyCapture:
    """Loaded and attached; `pieces` takes the bodies, `tls_bodies` says how much of those over TLS is kept, `alike`
    calls of HTTP/2 that are like others; `prepared` is `prepare_capture`'s; `begin_after` is told below which numbers
    nothing may be taught, `unread` whose TLS is not read.

    Raises LoadError, or StartError where the settings ask for what is not there."""
    below = _open_below(settings, scope, clock, pieces, alike, prepared, begin_after)
    logger.info("watching %s", scope)
    return _add_tls(settings, scope, clock, below, unread, prepared.tls if prepared is not None else None, tls_bodies)


def _add_tls(
    settings: SensorSettings,
    scope: CgroupScope,
    clock: Clock,
    below: AnyCapture,
    unread: UnreadProcesses | None,
    prepared: TlsProgram | None,
    bodies: BodyMeter | None,
) -> AnyCapture:
    """TLS beside it, where the settings and the kernel let it be read."""
    if not settings.is_reading_tls:
        return below
    # Here: where TLS is not read, the disassembler (5 MB) is not needed.
    from sensor.capture.tls.capture import TlsCapture
    from sensor.capture.tls.duty import DutyCycle, DutySettings

    try:
        program = prepared or load_tls_program(settings, scope)
    except LoadError as error:
        logger.warning("TLS is not read: %s", error)
        return below
    # Capture by system calls counts no turns of client and server, by which the calls that are not read are estimated.
    duty = DutyCycle(DutySettings(calls_per_second=settings.heads_per_second, calls_burst=settings.heads_burst_count))
    capture = TlsCapture(
        below=below,
        program=program,
        clock=clock,
        proc=str(settings.proc_path),
        min_age_seconds=settings.tls_min_age_seconds,
        read_scope=scope.read_pids,
        unread=unread,
        bodies=bodies if settings.is_reading_bodies else None,
        duty=None if isinstance(below, SyscallCapture) else duty,
        calls_per_second=settings.heads_per_second,
    )
    capture.start()
    return capture


def _open_below(
    settings: SensorSettings,
    scope: CgroupScope,
    clock: Clock,
    pieces: Pieces,
    alike: AlikeCalls[Exchange],
    prepared: Prepared | None,
    begin_after: Callable[[int, int, int], None],
) -> AnyCapture:
    if settings.capture is CaptureWay.SYSCALLS:
        return _open_syscalls(settings, scope, clock)
    program = prepared.program if prepared is not None else None
    estate = _find_estate(settings, scope, prepared)
    if scope.directory is None:
        why = f"no cgroup v2 is mounted at or below {settings.cgroup_path}"
        if settings.capture is CaptureWay.CGROUP_SKB:
            raise StartError(f"{why}; mount one, correct --cgroup-path, or set capture to auto")
        return _fall_back(settings, scope, clock, why)
    if estate is not None:
        try:
            capture, numbers = Capture.inherit(
                estate=estate,
                cgroup_path=scope.directory,
                ring_bytes=settings.ring_bytes,
                clock=clock,
                pieces=pieces,
                alike=alike,
            )
        except LoadError as error:
            logger.warning("capture begins anew: %s", error)
            estate.close()
        else:
            if program is not None:
                program.close()
            begin_after(*numbers)
            logger.info(CONTINUED)
            return capture
    try:
        return Capture.load(
            cgroup_path=scope.directory,
            ring_bytes=settings.ring_bytes,
            is_root_cgroup=scope.is_whole_host,
            clock=clock,
            cache_directory=settings.cache_dir or settings.state_dir,
            pieces=pieces,
            alike=alike,
            program=program,
            is_enforcing=settings.is_enforcing,
        )
    except LoadError as error:
        if settings.capture is CaptureWay.CGROUP_SKB:
            raise
        try:
            return _fall_back(settings, scope, clock, str(error))
        except LoadError:
            # What keeps the one from loading keeps the other (no bcc, no right): the first says it best.
            raise error from None


def make_heirs(settings: SensorSettings, scope: CgroupScope) -> Heirs | None:
    """Who may go on with the capture that these settings ask for; None where it cannot be handed over."""
    lineage = find_lineage(settings, scope)
    if lineage is None:
        return None
    seconds = settings.handover_seconds
    pinned = PinnedHeir(make_pins(settings.pin_dir, scope), lineage=lineage, seconds=seconds) if seconds else None
    return Heirs(settings.run_dir, lineage, pinned)


def _find_estate(settings: SensorSettings, scope: CgroupScope, prepared: Prepared | None) -> Estate | None:
    """What the sensor before gave, or left; whatever else was left is removed."""
    given = prepared.take_estate() if prepared is not None else None
    pins = make_pins(settings.pin_dir, scope)
    lineage = find_lineage(settings, scope)
    if given is None and lineage is not None:
        return pins.take(lineage)
    pins.clear()
    return given


def _open_syscalls(
    settings: SensorSettings, scope: CgroupScope, clock: Clock, fallback_reason: str = ""
) -> SyscallCapture:
    return SyscallCapture.load(
        describe_tracepoints(settings, scope),
        clock=clock,
        cache_directory=settings.cache_dir or settings.state_dir,
        fallback_reason=fallback_reason,
    )


def _fall_back(settings: SensorSettings, scope: CgroupScope, clock: Clock, why: str) -> SyscallCapture:
    capture = _open_syscalls(settings, scope, clock, why)
    logger.warning(
        "capturing by system calls, because packets cannot be: %s. This costs several times as much and does not see "
        "what io_uring moves (docs/kernels.md)",
        why,
    )
    return capture
