"""The file that says that this sensor is ready: it captures, is paused, or can take the place of the one before it.

For whoever cannot ask its metrics port, because two sensors share the node's network and the other has the port. It is
there from then on until the process ends in order; one that was left by a process that was killed goes at the start.
"""

import contextlib
import os
from pathlib import Path


class ReadyFileError(Exception):
    """It cannot be made; one sentence for the operator."""


class ReadyFile:
    """Set or not. None as its path: nobody looks."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def set(self) -> None:
        """Ready from now on. Raises ReadyFileError."""
        if self._path is None:
            return
        try:
            # Through no link: the directory may be anybody's.
            os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644))
        except OSError as error:
            raise ReadyFileError(
                f"ready_file {self._path} cannot be written ({error.strerror}); name one in a directory that is there"
            ) from error

    def clear(self) -> None:
        """Not ready, or no longer."""
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()
