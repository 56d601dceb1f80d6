"""Attaches the Java agent to running JVMs, where `Consent` covers them: each try is a program of its own.

A JVM that fails twice is left alone. Each attachment is logged and counted.
"""

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Final

from sensor.capture.java.build import JAR
from sensor.capture.java.consent import Consent
from sensor.core.printable import make_printable
from sensor.enrich.processes import parse_cgroups

logger = logging.getLogger(__name__)

TRIES_MAX: Final = 2
# At a time: each is a Python of 15 MB for some 100 ms of processor time.
CHILDREN_MAX: Final = 4
REASON_CHARACTERS_MAX: Final = 300
STOP_SECONDS: Final = 5.0
ATTACHING: Final = "The Java agent is being attached."
WITHDRAWN: Final = "Consent to the Java agent was withdrawn."
NO_JAR: Final = "This installation has no Java agent: python -m sensor.capture.java.build makes it."

Child = subprocess.Popen[bytes]


def start_attaching(proc: str, pid: int, jar: Path) -> Child:
    """The program that attaches to one JVM."""
    # The variables may hold tokens: only what finds modules.
    environment = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "PYTHONHOME") if name in os.environ}
    command = [sys.executable, "-P", "-m", "sensor.capture.java.attach", proc, str(pid), str(jar)]
    return subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment
    )


class Attachments:
    """What was tried. Not thread-safe."""

    def __init__(
        self,
        proc: str,
        consent: Consent,
        start: Callable[[str, int, Path], Child] = start_attaching,
        jar: Path = JAR,
        list_names: Callable[[int], Collection[str]] = lambda _: (),
    ) -> None:
        """`list_names`: of a process, by which it may be covered, beside its cgroup as /proc has it."""
        self._list_names = list_names
        self._proc = proc
        self._consent = consent
        self._start = start
        self._jar = jar
        self._children: dict[int, Child] = {}
        self._tries: dict[int, int] = {}
        self._reasons: dict[int, str] = {}  # Of those that failed.
        self.attached_total = 0
        self.failed_total = 0

    def reread(self) -> None:
        """Once a look: who consents may have changed."""
        self._consent.reread()

    def step(self, pid: int) -> str | None:
        """Of a JVM without an agent: why it is not read, None where nothing is wanted, empty where it was attached just
        now."""
        child = self._children.get(pid)
        if child is not None:
            if child.poll() is None:
                return ATTACHING
            if not self._finish(pid, self._children.pop(pid)):
                return self._reasons[pid]
            return ""
        if not self._covers(pid):
            return None
        if self._tries.get(pid, 0) >= TRIES_MAX:
            return self._reasons.get(pid)
        if not self._jar.exists():
            return NO_JAR
        if len(self._children) < CHILDREN_MAX:
            self._tries[pid] = self._tries.get(pid, 0) + 1
            logger.info("attaching the Java agent to process %d", pid)
            self._children[pid] = self._start(self._proc, pid, self._jar)
        return ATTACHING

    def has_consent(self, pid: int) -> bool:
        """Whether the file consents to the agent in a JVM now, whichever sensor attached it."""
        return self._covers(pid)

    def forget(self, pid: int) -> None:
        """A process has ended."""
        self._stop(self._children.pop(pid, None))
        self._tries.pop(pid, None)
        self._reasons.pop(pid, None)

    def close(self) -> None:
        """Ends what is under way."""
        for child in self._children.values():
            self._stop(child)
        self._children.clear()

    def _finish(self, pid: int, child: Child) -> bool:
        assert child.stderr is not None
        with child.stderr as errors:
            lines = errors.read().decode(errors="replace").splitlines()
        if not child.returncode:
            self.attached_total += 1
            logger.info("the Java agent is attached to process %d", pid)
            return True
        self.failed_total += 1
        reason = make_printable(lines[-1][:REASON_CHARACTERS_MAX]) if lines else "The Java agent could not be attached."
        self._reasons[pid] = reason
        logger.warning("the Java agent is not attached to process %d: %s", pid, reason)
        return False

    @staticmethod
    def _stop(child: Child | None) -> None:
        if child is None:
            return
        child.terminate()
        try:
            child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        if child.stderr is not None:
            child.stderr.close()

    def _covers(self, pid: int) -> bool:
        try:
            with open(f"{self._proc}/{pid}/cgroup", "rb") as file:  # noqa: PTH123
                unified, version1 = parse_cgroups(file.read())
        except OSError:
            return False
        own = version1[0] if unified == "/" and version1 else unified
        return any(name and self._consent.covers(name) for name in (own, *self._list_names(pid)))
