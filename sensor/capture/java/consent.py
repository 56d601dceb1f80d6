"""Which running JVMs the sensor may attach the Java agent to: those that a file names.

The file `java-attach` beside the settings file has a pattern a line: of the path of a cgroup as /proc/PID/cgroup has
it, or of `namespace/workload` of a Pod. `*` stands for any characters within a name and `?` for one, so a pattern never
covers what is deeper. A line that begins with `#` is a comment. Only root may write there. Without the file nothing is
attached.

The line `annotated` lets Pods and namespaces consent for themselves: by the annotation `apidae.io/attach-java` of the
Pod, else by that label of its namespace. Whoever may set the annotation may replace the Pod's image too, and so could
start its JVM with the agent.
"""

import logging
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sensor.core.attachments import ConsentKind, Grant, PodConsent

logger = logging.getLogger(__name__)

FILE_NAME: Final = "java-attach"
ANNOTATED: Final = "annotated"  # The line by which Pods and namespaces consent for themselves.
_BYTES_MAX: Final = 1 << 16
_WILD: Final = {"*": "[^/]*", "?": "[^/]"}


@dataclass(frozen=True, slots=True, kw_only=True)
class JvmNames:
    """By what a JVM may be covered: paths of its cgroup and `namespace/workload`; and what its Pod says."""

    names: tuple[str, ...] = ()
    pod: PodConsent | None = None


@dataclass(frozen=True, slots=True)
class _Line:
    """Of the file. `text` is as it stands there."""

    number: int
    text: str
    pattern: re.Pattern[str]


class Consent:
    """What the file says, once two readings agree: a file that is being written is read in part."""

    def __init__(self, directory: Path | None, pods_generation: Callable[[], int] = lambda: 0) -> None:
        """`pods_generation` rises whenever Pods or namespaces may consent to something else."""
        self._path = directory / FILE_NAME if directory is not None else None
        self._content = b""  # As of the last reading.
        self._used = b""
        self._lines: tuple[_Line, ...] = ()
        self._is_annotated = False
        self._find_generation = pods_generation
        self._generation = 0
        self._complaint = ""

    def reread(self) -> bool:
        """Once a look. Whether something else is consented to from now on."""
        generation, previous_generation = self._find_generation(), self._generation
        self._generation = generation
        has_changed = self._is_annotated and generation != previous_generation
        content, previous = self._read(), self._content
        self._content = content
        if content == self._used or content != previous:
            return has_changed
        self._used = content
        lines = [line.strip() for line in content.decode(errors="replace").splitlines()]
        wanted = [(number, line) for number, line in enumerate(lines, 1) if line and not line.startswith("#")]
        self._lines = tuple(_Line(number, line, _compile(line)) for number, line in wanted if line != ANNOTATED)
        self._is_annotated = any(line == ANNOTATED for _, line in wanted)
        logger.info("the Java agent is attached to JVMs of %s", ", ".join(line for _, line in wanted) or "nobody")
        return True

    def find_grant(self, jvm: JvmNames) -> Grant | None:
        """What lets a JVM get the agent; None where nothing does. A line of the file that names it comes first, then
        its Pod, then its namespace."""
        for line in self._lines:
            if any(name and line.pattern.fullmatch(name) for name in jvm.names):
                return Grant(ConsentKind.LINE, f"{line.number} {line.text}")
        pod = jvm.pod
        if pod is None or not self._is_annotated:
            return None
        if pod.annotated is not None:
            return Grant(ConsentKind.ANNOTATION, f"{pod.namespace}/{pod.name}") if pod.annotated else None
        return Grant(ConsentKind.LABEL, pod.namespace) if pod.labelled else None

    def _read(self) -> bytes:
        if self._path is None:
            return b""
        try:
            with self._path.open("rb") as file:
                status = os.fstat(file.fileno())
                if status.st_uid not in (0, os.geteuid()) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                    raise PermissionError("others than root may write it: chown root and chmod go-w")
                content = file.read(_BYTES_MAX)
        except FileNotFoundError:
            return b""
        except OSError as error:
            complaint = f"{self._path} is not used, so nothing is attached: {error}"
            if complaint != self._complaint:
                logger.warning("%s", complaint)
            self._complaint = complaint
            return b""
        self._complaint = ""
        return content


def _compile(pattern: str) -> re.Pattern[str]:
    return re.compile("".join(_WILD.get(character, re.escape(character)) for character in pattern), re.DOTALL)
