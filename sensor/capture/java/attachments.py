"""Attaches the Java agent to running JVMs, where `Consent` covers them: each try is a program of its own.

A JVM that fails twice is left alone, and one that was asked to load the agent is never asked again: it loads a second
jar into its class path for good. Each attachment is logged and counted, and a record of the journal. Nobody waits for a
program: one that is late is ended, and looked at again later.
"""

import contextlib
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

from sensor.capture.java.attach import ASKED, ATTACHED, SECONDS_MAX
from sensor.capture.java.build import JAR
from sensor.capture.java.consent import Consent, JvmNames
from sensor.capture.java.search import read_at, read_cgroup, read_start
from sensor.core.attachments import AttachmentEvent, AttachmentRecord, Grant, Journal
from sensor.core.calls import Service, WorkloadKind
from sensor.core.printable import make_printable
from sensor.core.sandbox import VARIABLES

logger = logging.getLogger(__name__)

TRIES_MAX: Final = 2
# At a time: each is a Python of 15 MB for some 100 ms of processor time. Those that do not end in time count too.
CHILDREN_MAX: Final = 4
REASON_CHARACTERS_MAX: Final = 300
# After its own deadline a program has so long to put things in order, until it is killed.
END_SECONDS: Final = 5.0
ATTACHING: Final = "The Java agent is being attached."
WITHDRAWN: Final = "Consent to the Java agent was withdrawn."
NO_JAR: Final = "This installation has no Java agent: python -m sensor.capture.java.build makes it."
NOT_STARTED: Final = "This JVM loaded the Java agent, which did not start: the standard error of the JVM says why."
_GONE: Final = "The JVM ended, or the sensor did, before the program that attaches."
_NO_REASON: Final = "The Java agent could not be attached."

NOBODY: Final = Service(
    cluster="", namespace="", workload="", workload_kind=WorkloadKind.UNSPECIFIED, host_name="", port=0
)
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")

Child = subprocess.Popen[bytes]
# The process, a descriptor of its directory in /proc, its cgroup, and the jar. Raises OSError.
Start = Callable[[int, int, str, Path], Child]


def start_attaching(pid: int, directory: int, cgroup: str, jar: Path) -> Child:
    """The program that attaches to one JVM."""
    # The variables may hold tokens: only what finds modules.
    environment = {name: os.environ[name] for name in VARIABLES if name in os.environ}
    arguments = (str(pid), str(directory), cgroup, str(jar))
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "sensor.capture.java.attach", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=environment,
        pass_fds=(directory,),
        start_new_session=True,  # An interrupt from the keyboard does not reach it.
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Jvm:
    """Who it is, also when it has ended."""

    pid: int
    start: int
    name: str
    service: Service


@dataclass(slots=True, kw_only=True)
class _Try:
    child: Child
    jvm: _Jvm
    grant: Grant  # By which it began.
    end_at: float  # Then it is ended, and killed `END_SECONDS` later.
    is_ended: bool = False


class Attachments:
    """What was tried. Not thread-safe."""

    def __init__(
        self,
        consent: Consent,
        monotonic: Callable[[], float],
        *,
        start: Start = start_attaching,
        jar: Path = JAR,
        describe: Callable[[int], JvmNames] = lambda _: JvmNames(),
        name_service: Callable[[int], Service] = lambda _: NOBODY,
        journal: Journal | None = None,
    ) -> None:
        """`describe`: of a process, by what it may be covered beside its cgroup as /proc has it; `name_service`: its
        workload."""
        self._describe = describe
        self._name_service = name_service
        self._journal = journal if journal is not None else Journal()
        self._consent = consent
        self._monotonic = monotonic
        self._start = start
        self._jar = jar
        self._running: dict[int, _Try] = {}
        self._left: list[_Try] = []  # Of processes that have ended.
        self._tries: dict[int, int] = {}
        self._reasons: dict[int, str] = {}  # Of those that failed.
        self._changes = 0  # Of consent to agents that are attached, so far.
        self._boot, self._run = _BOOT_ID.read_text().strip(), uuid4().hex[:8]
        self.attached_total = 0
        self.failed_total = 0

    def reread(self) -> bool:
        """Once a look. Whether who consents has changed. Programs that are late are ended here."""
        for one in (*self._running.values(), *self._left):
            self._end_late(one)
        self._left = [one for one in self._left if not _is_done(one.child)]
        return self._consent.reread()

    def is_busy(self, pid: int) -> bool:
        """Whether a JVM is being attached to."""
        return pid in self._running

    def step(self, pid: int, directory: int) -> str | None:
        """Of a JVM without an agent, given its directory in /proc: why it is not read, None where nothing is wanted,
        empty where it was attached just now. Raises OSError where it has ended."""
        running = self._running.get(pid)
        if running is not None:
            if running.child.poll() is None:
                return ATTACHING
            del self._running[pid]
            self._finish(running)
            return self._reasons.get(pid, "")
        grant = self.find_grant(pid, directory)
        if grant is None:
            return None
        if self._tries.get(pid, 0) >= TRIES_MAX:
            return self._reasons.get(pid, NOT_STARTED)
        if not self._jar.exists():
            return NO_JAR
        if len(self._running) + len(self._left) < CHILDREN_MAX:
            self._try(pid, directory, grant)
        return self._reasons.get(pid, ATTACHING) if pid not in self._running else ATTACHING

    def find_grant(self, pid: int, directory: int) -> Grant | None:
        """What consents to the agent in a JVM now, whichever sensor attached it; None where nothing does. Raises
        OSError where it has ended."""
        cgroup, found = read_cgroup(directory), self._describe(pid)
        read_start(directory)  # It lives, so what is known by its number is its.
        return self._consent.find_grant(JvmNames(names=(cgroup, *found.names), pod=found.pod))

    def note_attached(self, pid: int, directory: int, grant: Grant) -> None:
        """An agent that was attached is in a JVM, whichever sensor did it: an earlier one may have ended before it
        reported that. Raises OSError where the JVM has ended."""
        self._note(self._identify(pid, directory), AttachmentEvent.ATTACHED, "attached", grant)

    def note_consent(self, pid: int, directory: int, grant: Grant | None) -> None:
        """It was given again to an agent that is attached, or withdrawn. Raises OSError where the JVM has ended."""
        self._changes += 1
        event = AttachmentEvent.DETACHED if grant is None else AttachmentEvent.REATTACHED
        self._note(self._identify(pid, directory), event, f"{self._run}-{self._changes}", grant)

    def forget(self, pid: int) -> None:
        """A process has ended."""
        running = self._running.pop(pid, None)
        if running is not None:
            self._note_failure(running.jvm, running.grant, _GONE)
            running.end_at = self._monotonic()
            self._end_late(running)
            self._left.append(running)
        self._tries.pop(pid, None)
        self._reasons.pop(pid, None)

    def close(self) -> None:
        """Ends what is under way, without waiting for it."""
        for pid in list(self._running):
            self.forget(pid)

    def _identify(self, pid: int, directory: int) -> _Jvm:
        """Raises OSError where it has ended."""
        name = make_printable(read_at(directory, "comm", 64).rstrip(b"\n"))
        return _Jvm(pid=pid, start=read_start(directory), name=name, service=self._name_service(pid))

    def _try(self, pid: int, directory: int, grant: Grant) -> None:
        jvm, cgroup = self._identify(pid, directory), read_cgroup(directory)
        self._tries[pid] = self._tries.get(pid, 0) + 1
        self._reasons.pop(pid, None)
        logger.info("attaching the Java agent to process %d", pid)
        try:
            child = self._start(pid, directory, cgroup, self._jar)
        except OSError as error:
            self._fail(jvm, grant, f"The program that attaches the Java agent does not start: {error.strerror}.")
            return
        self._running[pid] = _Try(child=child, jvm=jvm, grant=grant, end_at=self._monotonic() + SECONDS_MAX)

    def _finish(self, one: _Try) -> None:
        child, pid = one.child, one.jvm.pid
        if child.returncode in (ATTACHED, ASKED):
            self._tries[pid] = TRIES_MAX
        if child.returncode == ATTACHED:
            self.attached_total += 1
            logger.info("the Java agent is attached to process %d", pid)
            self._note(one.jvm, AttachmentEvent.ATTACHED, "attached", one.grant)
        else:
            self._fail(one.jvm, one.grant, _read_reason(child))
        if child.stderr is not None:
            child.stderr.close()

    def _fail(self, jvm: _Jvm, grant: Grant, reason: str) -> None:
        self.failed_total += 1
        self._reasons[jvm.pid] = reason
        logger.warning("the Java agent is not attached to process %d: %s", jvm.pid, reason)
        self._note_failure(jvm, grant, reason)

    def _note_failure(self, jvm: _Jvm, grant: Grant, reason: str) -> None:
        self._note(jvm, AttachmentEvent.FAILED, f"failed-{self._run}-{self._tries.get(jvm.pid, 0)}", grant, reason)

    def _note(self, jvm: _Jvm, event: AttachmentEvent, name: str, grant: Grant | None, reason: str = "") -> None:
        """`name`: of the event, among those of the JVM."""
        self._journal.add(
            AttachmentRecord(
                id=f"{self._boot}-{jvm.pid}-{jvm.start}-{name}",
                event=event,
                service=jvm.service,
                process=jvm.pid,
                process_name=jvm.name,
                grant=grant,
                reason=reason,
                monotonic_ns=time.monotonic_ns(),
            )
        )

    def _end_late(self, one: _Try) -> None:
        late = self._monotonic() - one.end_at
        if late < 0 or one.child.poll() is not None:
            return
        if not one.is_ended:
            one.is_ended = True
            one.child.terminate()
        elif late >= END_SECONDS:
            one.child.kill()


def _is_done(child: Child) -> bool:
    if child.poll() is None:
        return False
    if child.stderr is not None:
        child.stderr.close()
    return True


def _read_reason(child: Child) -> str:
    """Its last line. Whoever inherited its standard error may hold it open, so nobody waits for the end."""
    if child.stderr is None:
        return _NO_REASON
    os.set_blocking(child.stderr.fileno(), False)
    content = b""
    with contextlib.suppress(BlockingIOError):
        content = os.read(child.stderr.fileno(), 1 << 16)
    lines = content.decode(errors="replace").splitlines()
    return make_printable(lines[-1][:REASON_CHARACTERS_MAX]) if lines else _NO_REASON
