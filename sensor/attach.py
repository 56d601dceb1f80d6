"""Opens the capture that this node allows: packets of cgroup v2, or else system calls.

`capture: auto` takes packets wherever the kernel lets it; the fallback costs more and sees less (docs/kernels.md), so
it is reported in one line of the log, in the coverage, in the metrics and to the collector.
"""

import logging
from collections.abc import Callable
from typing import Final

from sensor.calls import Exchange
from sensor.clock import Clock
from sensor.config import CaptureWay, SensorSettings
from sensor.enrich.cgroup_scope import CgroupScope
from sensor.kernel.capture import Capture
from sensor.kernel.loader import LoadError
from sensor.kernel.pins import PinnedHeir
from sensor.kernel.syscall_capture import SyscallCapture
from sensor.kernel.uprobes import TlsProgram
from sensor.parts import Capture as AnyCapture
from sensor.pieces import Pieces
from sensor.prepared import Prepared, describe_tracepoints, find_lineage, load_tls_program, make_pins
from sensor.protocols.http2_alike import AlikeCalls
from sensor.run import StartError
from sensor.succession import Estate, Heirs
from sensor.tls.bodies import BodyMeter
from sensor.tls.unread import UnreadProcesses

logger = logging.getLogger(__name__)

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
    from sensor.tls.capture import TlsCapture
    from sensor.tls.duty import DutyCycle, DutySettings

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
