"""Attaches the Java agent to running JVMs, where `Consent` covers them: each try is a program of its own.

A JVM that fails twice is left alone, and one that was asked to load the agent is never asked again: it loads a second
jar into its class path for good. Each attachment is logged and counted. Nobody waits for a program: one that is late is
ended, and looked at again later.
"""

import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sensor.capture.java.attach import ASKED, ATTACHED, SECONDS_MAX
from sensor.capture.java.build import JAR
from sensor.capture.java.consent import Consent
from sensor.capture.java.search import read_cgroup, read_start
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
_NO_REASON: Final = "The Java agent could not be attached."

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


@dataclass(slots=True, kw_only=True)
class _Try:
    child: Child
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
        list_names: Callable[[int], Collection[str]] = lambda _: (),
    ) -> None:
        """`list_names`: of a process, by which it may be covered, beside its cgroup as /proc has it."""
        self._list_names = list_names
        self._consent = consent
        self._monotonic = monotonic
        self._start = start
        self._jar = jar
        self._running: dict[int, _Try] = {}
        self._left: list[_Try] = []  # Of processes that have ended.
        self._tries: dict[int, int] = {}
        self._reasons: dict[int, str] = {}  # Of those that failed.
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
            self._finish(pid, running.child)
            return self._reasons.get(pid, "")
        if not self.has_consent(pid, directory):
            return None
        if self._tries.get(pid, 0) >= TRIES_MAX:
            return self._reasons.get(pid, NOT_STARTED)
        if not self._jar.exists():
            return NO_JAR
        if len(self._running) + len(self._left) < CHILDREN_MAX:
            self._try(pid, directory, read_cgroup(directory))
        return self._reasons.get(pid, ATTACHING) if pid not in self._running else ATTACHING

    def has_consent(self, pid: int, directory: int) -> bool:
        """Whether the file consents to the agent in a JVM now, whichever sensor attached it. Raises OSError where it
        has ended."""
        names = (read_cgroup(directory), *self._list_names(pid))
        read_start(directory)  # It lives, so the names by its number are its.
        return any(name and self._consent.covers(name) for name in names)

    def forget(self, pid: int) -> None:
        """A process has ended."""
        running = self._running.pop(pid, None)
        if running is not None:
            running.end_at = self._monotonic()
            self._end_late(running)
            self._left.append(running)
        self._tries.pop(pid, None)
        self._reasons.pop(pid, None)

    def close(self) -> None:
        """Ends what is under way, without waiting for it."""
        for pid in list(self._running):
            self.forget(pid)

    def _try(self, pid: int, directory: int, cgroup: str) -> None:
        self._tries[pid] = self._tries.get(pid, 0) + 1
        self._reasons.pop(pid, None)
        logger.info("attaching the Java agent to process %d", pid)
        try:
            child = self._start(pid, directory, cgroup, self._jar)
        except OSError as error:
            self._fail(pid, f"The program that attaches the Java agent does not start: {error.strerror}.")
            return
        self._running[pid] = _Try(child=child, end_at=self._monotonic() + SECONDS_MAX)

    def _finish(self, pid: int, child: Child) -> None:
        if child.returncode == ATTACHED:
            self._tries[pid] = TRIES_MAX
            self.attached_total += 1
            logger.info("the Java agent is attached to process %d", pid)
        else:
            if child.returncode == ASKED:
                self._tries[pid] = TRIES_MAX
            self._fail(pid, _read_reason(child))
        if child.stderr is not None:
            child.stderr.close()

    def _fail(self, pid: int, reason: str) -> None:
        self.failed_total += 1
        self._reasons[pid] = reason
        logger.warning("the Java agent is not attached to process %d: %s", pid, reason)

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
