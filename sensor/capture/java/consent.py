"""Which running JVMs the sensor may attach the Java agent to: those of cgroups that a file names.

The file `java-attach` beside the settings file has a pattern a line, with `*` and `?`: of the path of a cgroup as
/proc/PID/cgroup has it, or of `namespace/workload` of a Pod. `#` begins a comment. Without the file nothing is
attached.
"""

import logging
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

logger = logging.getLogger(__name__)

FILE_NAME: Final = "java-attach"
_BYTES_MAX: Final = 1 << 16


class Consent:
    """Reads the file again where it has changed."""

    def __init__(self, directory: Path | None) -> None:
        self._path = directory / FILE_NAME if directory is not None else None
        self._stamp: tuple[int, int] | None = None
        self._patterns: tuple[str, ...] = ()

    def reread(self) -> None:
        """Once a look."""
        if self._path is None:
            return
        try:
            status = self._path.stat()
            stamp = status.st_mtime_ns, status.st_size
            if stamp == self._stamp:
                return
            with self._path.open("rb") as file:
                lines = file.read(_BYTES_MAX).decode(errors="replace").splitlines()
        except FileNotFoundError:
            self._stamp, self._patterns = None, ()
            return
        except OSError as error:
            logger.warning("%s cannot be read, so nothing is attached: %s", self._path, error)
            self._stamp, self._patterns = None, ()
            return
        texts = (line.partition("#")[0].strip() for line in lines)
        self._stamp, self._patterns = stamp, tuple(text for text in texts if text)
        logger.info("the Java agent is attached to JVMs of cgroups %s", ", ".join(self._patterns) or "none")

    def covers(self, name: str) -> bool:
        """Whether JVMs of a cgroup or workload may get the agent."""
        return any(fnmatchcase(name, pattern) for pattern in self._patterns)
