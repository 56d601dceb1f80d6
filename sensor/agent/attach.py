"""Opens the capture that this node allows: packets of cgroup v2, or else system calls, with TLS beside it.

`capture: auto` takes packets wherever the kernel allows it. The fallback costs more and sees less
(docs/internals/kernels.md). So it is reported in one line of the log, in the coverage, in the metrics and to the
collector.

Loading takes seconds and compiling more, but attaching takes a moment. So `prepare_capture` compiles and loads while an
earlier sensor still captures. Capture then begins as soon as that sensor has detached.
"""

import logging
import secrets
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from sensor.capture.java.attachments import Attachments
from sensor.capture.packets.capture import PacketCapture
from sensor.capture.packets.table_file import TableFile
from sensor.capture.source import Capture
from sensor.capture.syscalls.capture import SyscallCapture
from sensor.capture.tls.bodies import BodyMeter
from sensor.capture.tls.unread import UnreadProcesses
from sensor.core.clock import Clock
from sensor.core.config import CaptureWay, SensorSettings
from sensor.core.read_tls import ReadTls, TlsChoice
from sensor.core.state import StartError
from sensor.ebpf.loader import LoadedProgram, LoadError, load_program
from sensor.ebpf.pieces import Pieces
from sensor.ebpf.tracepoints import ProbeSettings
from sensor.ebpf.uprobes import TlsProgram, load_tls
from sensor.enrich.cgroup_tree import CgroupScope
from sensor.export.state import StateDirectory, StateError
from sensor.http.http2.streams import AlikeCalls

logger = logging.getLogger(__name__)

_Program = TypeVar("_Program")
# How long a process must have run before its TLS is read: a search of its libraries costs more than a short life gives.
TLS_MIN_AGE_SECONDS = 2.0


class Prepared:
    """Loaded programs of this sensor. Not thread-safe."""

    def __init__(
        self,
        program: LoadedProgram | None,
        *,
        tls: TlsProgram | None = None,
        may_begin: bool = False,
        unix_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """`may_begin`: `program` may be attached before anything else of this sensor runs."""
        self.program = program
        self.tls = tls
        self._may_begin = may_begin
        self._unix_ns = unix_ns
        # Since when `program` has been attached.
        self.attached_unix_ns: int | None = None

    def begin(self) -> None:
        """Attaches the program: the scope is this sensor's."""
        if self.program is None or not self._may_begin:
            return
        try:
            self.program.attach()
        except LoadError as error:
            # Tried again, and an error where it fails again, when capture is opened.
            logger.warning("capture does not begin yet: %s", error)
            return
        self.attached_unix_ns = self._unix_ns()
        logger.info("attached; events are read once the previous sensor has ended")


def prepare_capture(settings: SensorSettings, scope: CgroupScope) -> Prepared:
    """What a start needs, while another sensor still captures. What cannot be loaded is tried again, and fails with its
    reason, when capture is opened."""
    if settings.capture is CaptureWay.SYSCALLS or scope.directory is None:
        return Prepared(None)
    program = _load_beforehand("the kernel side", load_packets_program, settings, scope)
    tls = None
    if settings.read_tls is not ReadTls.OFF:
        tls = _load_beforehand("the kernel side of TLS", load_tls_program, settings, scope)
    return Prepared(program, tls=tls, may_begin=_has_key(settings))


def load_packets_program(settings: SensorSettings, scope: CgroupScope) -> LoadedProgram:
    """The programs on packets, attached to nothing. Raises LoadError."""
    if scope.directory is None:
        raise LoadError("cgroup v2 is not mounted")
    return load_program(
        scope.directory,
        settings.ring_bytes,
        scope.is_whole_host,
        cache_directory=settings.state_dir,
        is_enforcing=settings.enforcement.enabled,
    )


def describe_tracepoints(settings: SensorSettings, scope: CgroupScope) -> ProbeSettings:
    """What is built into the programs on system calls."""
    return ProbeSettings(
        ring_bytes=settings.ring_bytes,
        calls_per_second=settings.heads_per_second,
        calls_burst=settings.heads_burst,
        scope_id=scope.kernel_id,
    )


def load_tls_program(settings: SensorSettings, scope: CgroupScope) -> TlsProgram:
    """The programs on libraries of TLS, attached to nothing. Raises LoadError."""
    # Here: where TLS is not read, the disassembler (5 MB) is not needed.
    from sensor.capture.tls.capture import RING_BYTES

    return load_tls(
        ProbeSettings(
            ring_bytes=RING_BYTES,
            calls_per_second=settings.heads_per_second,
            calls_burst=settings.heads_burst,
            scope_id=scope.kernel_id,
        ),
        settings.state_dir,
    )


def _load_beforehand(
    name: str, load: Callable[[SensorSettings, CgroupScope], _Program], settings: SensorSettings, scope: CgroupScope
) -> _Program | None:
    try:
        return load(settings, scope)
    except LoadError as error:
        logger.warning("%s is not loaded beforehand: %s", name, error)
        return None


def _has_key(settings: SensorSettings) -> bool:
    """Without an installation key nothing may be captured."""
    try:
        return bool(StateDirectory(settings.state_dir).load_keys())
    except StateError:
        return False


def open_capture(
    settings: SensorSettings,
    scope: CgroupScope,
    clock: Clock,
    pieces: Pieces,
    alike: AlikeCalls,
    prepared: Prepared | None = None,
    unread: UnreadProcesses | None = None,
    tls_bodies: BodyMeter | None = None,
    open_attachments: Callable[[], Attachments | None] = lambda: None,
    find_tls_choice: Callable[[str | None, ReadTls], TlsChoice] = lambda _, setting: TlsChoice(mode=setting),
    find_path: Callable[[int], str | None] = lambda _: None,
) -> Capture:
    """Loaded and attached; `pieces` takes the bodies, `tls_bodies` says how much of those over TLS is kept, `alike`
    calls of HTTP/2 that are like others; `prepared`: of `prepare_capture`; `unread`: processes whose TLS is not read;
    `open_attachments`: what attaches the Java agent; `find_tls_choice`: how much is read, by a cgroup's path and the
    setting; `find_path`: of a cgroup by its id.

    Raises LoadError, or StartError where the settings ask for what is not there."""
    below = _open_below(settings, scope, clock, pieces, alike, prepared)
    logger.info("watching %s", scope)
    return _add_tls(
        settings,
        scope,
        clock,
        below,
        unread,
        prepared.tls if prepared is not None else None,
        tls_bodies,
        open_attachments,
        lambda path: find_tls_choice(path, settings.read_tls),
        find_path,
    )


def _add_tls(
    settings: SensorSettings,
    scope: CgroupScope,
    clock: Clock,
    below: Capture,
    unread: UnreadProcesses | None,
    prepared: TlsProgram | None,
    bodies: BodyMeter | None,
    open_attachments: Callable[[], Attachments | None],
    find_choice: Callable[[str | None], TlsChoice],
    find_path: Callable[[int], str | None],
) -> Capture:
    """TLS beside it, where the settings and the kernel let it be read."""
    if settings.read_tls is ReadTls.OFF:
        return below
    # Here: where TLS is not read, the disassembler (5 MB) is not needed.
    from sensor.capture.tls.capture import TlsCapture
    from sensor.capture.tls.choice import WITHOUT_TURNS, TlsChoices
    from sensor.capture.tls.latency import AnswerTrials
    from sensor.capture.tls.processes import read_cpu_ns
    from sensor.capture.tls.waits import Waits

    try:
        program = prepared or load_tls_program(settings, scope)
    except LoadError as error:
        logger.warning("TLS is not read: %s", error)
        return below
    proc = str(settings.proc_path)
    # Capture by system calls counts no turns of client and server, by which the calls that are not read are estimated.
    choosing_need = program.try_choosing(settings.proc_path)
    turns_need = program.try_linking() if choosing_need else ""
    if isinstance(below, SyscallCapture):
        turns_need = "capture by packets"
    if turns_need and settings.read_tls is ReadTls.AUTO:
        logger.warning("TLS is read only of Java: %s", WITHOUT_TURNS.format(need=turns_need))
    elif choosing_need and not turns_need:
        logger.info(
            "all processes of a library of TLS are read together: to read each by itself needs %s", choosing_need
        )
    waits = Waits(below.maps["waits"], below.maps["timed"]) if not turns_need else None
    capture = TlsCapture(
        below=below,
        program=program,
        clock=clock,
        proc=proc,
        min_age_seconds=TLS_MIN_AGE_SECONDS,
        read_scope=scope.read_pids,
        find_cgroup_id=partial(scope.find_cgroup_id, proc),
        attachments=open_attachments(),
        unread=unread,
        bodies=bodies if settings.read_bodies else None,
        choices=TlsChoices(
            settings.read_tls,
            calls_per_second=settings.heads_per_second,
            calls_burst=settings.heads_burst,
            find_choice=find_choice,
            find_path=find_path,
            turns_need=turns_need,
        ),
        read_cpu_ns=partial(read_cpu_ns, proc),
        trials=AnswerTrials(draw=lambda: bool(secrets.randbits(1))) if waits is not None else None,
        read_waits=waits.read if waits is not None else lambda _: {},
        calls_per_second=settings.heads_per_second,
    )
    capture.start()
    return capture


def _open_below(
    settings: SensorSettings,
    scope: CgroupScope,
    clock: Clock,
    pieces: Pieces,
    alike: AlikeCalls,
    prepared: Prepared | None,
) -> Capture:
    if settings.capture is CaptureWay.SYSCALLS:
        return _open_syscalls(settings, scope, clock)
    if scope.directory is None:
        why = f"no cgroup v2 is mounted at or below {settings.cgroup_path}"
        if settings.capture is CaptureWay.CGROUP_SKB:
            raise StartError(f"{why}; mount one, correct --cgroup-path, or set capture to auto")
        return _fall_back(settings, scope, clock, why)
    try:
        return PacketCapture.load(
            cgroup_path=scope.directory,
            ring_bytes=settings.ring_bytes,
            is_root_cgroup=scope.is_whole_host,
            clock=clock,
            cache_directory=settings.state_dir,
            pieces=pieces,
            alike=alike,
            program=prepared.program if prepared is not None else None,
            is_enforcing=settings.enforcement.enabled,
            table_file=TableFile(settings.run_dir, clock.monotonic_ns),
        )
    except LoadError as error:
        if settings.capture is CaptureWay.CGROUP_SKB:
            raise
        try:
            return _fall_back(settings, scope, clock, str(error))
        except LoadError:
            # What keeps the one from loading keeps the other (no bcc, no right): the first says it best.
            raise error from None


def _open_syscalls(
    settings: SensorSettings, scope: CgroupScope, clock: Clock, fallback_reason: str = ""
) -> SyscallCapture:
    return SyscallCapture.load(
        describe_tracepoints(settings, scope),
        clock=clock,
        cache_directory=settings.state_dir,
        fallback_reason=fallback_reason,
    )


def _fall_back(settings: SensorSettings, scope: CgroupScope, clock: Clock, why: str) -> SyscallCapture:
    capture = _open_syscalls(settings, scope, clock, why)
    logger.warning(
        "capturing by system calls, because packets cannot be: %s. This costs several times as much and does not see "
        "what io_uring moves (docs/internals/kernels.md)",
        why,
    )
    return capture
