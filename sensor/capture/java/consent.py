"""Which running JVMs the sensor may attach the Java agent to: those of cgroups that a file names.

The file `java-attach` beside the settings file has a pattern a line: of the path of a cgroup as /proc/PID/cgroup has
it, or of `namespace/workload` of a Pod. `*` stands for any characters within a name and `?` for one, so a pattern never
covers what is deeper. A line that begins with `#` is a comment. Only root may write there. Without the file nothing is
attached.
"""

import logging
import os
import re
import stat
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

FILE_NAME: Final = "java-attach"
_BYTES_MAX: Final = 1 << 16
_WILD: Final = {"*": "[^/]*", "?": "[^/]"}


class Consent:
    """What the file says, once two readings agree: a file that is being written is read in part."""

    def __init__(self, directory: Path | None) -> None:
        self._path = directory / FILE_NAME if directory is not None else None
        self._content = b""  # As of the last reading.
        self._used = b""
        self._patterns: tuple[re.Pattern[str], ...] = ()
        self._complaint = ""

    def reread(self) -> bool:
        """Once a look. Whether something else is consented to from now on."""
        content, previous = self._read(), self._content
        self._content = content
        if content == self._used or content != previous:
            return False
        self._used = content
        lines = [line.strip() for line in content.decode(errors="replace").splitlines()]
        patterns = [line for line in lines if line and not line.startswith("#")]
        self._patterns = tuple(map(_compile, patterns))
        logger.info("the Java agent is attached to JVMs of cgroups %s", ", ".join(patterns) or "none")
        return True

    def covers(self, name: str) -> bool:
        """Whether JVMs of a cgroup or workload may get the agent."""
        return any(pattern.fullmatch(name) for pattern in self._patterns)

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
