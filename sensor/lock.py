"""One sensor a node: two would count every call twice.

Two locks, both of which the kernel drops with the process, kill -9 included:

- flock(2) on a file in the run directory. The file tells who holds it: pid, start time, version.
- An abstract unix socket (unix(7)), whose name is one for the network namespace whatever the run directory: a sensor in
  a container on the host's network meets the one on the host. The kernel tells who holds it (SO_PEERCRED).

Any user may bind an abstract name, so one that neither root nor the sensor's own user holds does not stop the sensor.
"""

import fcntl
import json
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

ABSTRACT_NAME = "apidae-sensor"
LOCK_FILE_NAME = "sensor.lock"
# Refused sensors wait in the socket's queue, which nobody empties; once it is full they are refused without the first
# one's pid.
_BACKLOG = 4_096
_MAX_FILE_BYTES = 4_096
_PEER_CREDENTIALS = struct.Struct("=iII")  # struct ucred: pid, uid, gid.


class LockError(Exception):
    """Another sensor holds the node, or the lock cannot be taken; the text is one sentence for the operator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LockHolder:
    """Who holds the node, as far as it is known: 0 and empty where not."""

    pid: int = 0
    started: str = ""  # RFC 3339, UTC.
    version: str = ""

    def __str__(self) -> str:
        known = [f"pid {self.pid}" if self.pid else "in another pid namespace"]
        if self.started:
            known.append(f"started {self.started}")
        if self.version:
            known.append(f"version {self.version}")
        return ", ".join(known)


class NodeLock:
    """The right to be the node's sensor; a context manager.

    Kept by open descriptors only, so it ends with the process.
    """

    def __init__(
        self, run_directory: Path, *, version: str, now: Callable[[], str], abstract_name: str = ABSTRACT_NAME
    ) -> None:
        """`now` gives the start time as RFC 3339 text; `abstract_name` without the leading NUL."""
        self._path = run_directory / LOCK_FILE_NAME
        self._version = version
        self._now = now
        self._abstract_name = abstract_name
        self._fd = -1
        self._socket: socket.socket | None = None

    @property
    def path(self) -> Path:
        return self._path

    def acquire(self) -> None:
        """Takes both locks. Raises LockError, which names the holder, and takes neither then."""
        self._fd = self._lock_file()
        try:
            self._socket = self._bind_name()
            holder = {"pid": os.getpid(), "started": self._now(), "version": self._version}
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, json.dumps(holder).encode() + b"\n", 0)
        except BaseException:
            self.release()
            raise

    def release(self) -> None:
        """Gives both up. The file stays: removing it would let two sensors lock two files of one name."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _lock_file(self) -> int:
        try:
            self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        except OSError as error:
            raise LockError(
                f"The lock file {self._path} cannot be opened ({error.strerror}): "
                "run the sensor as root or choose a run directory that it may write with --run-dir."
            ) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(fd)
            if not isinstance(error, BlockingIOError):
                raise LockError(
                    f"The lock file {self._path} cannot be locked ({error.strerror}): "
                    "choose a run directory on a local file system."
                ) from error
            raise LockError(_refuse(read_holder(self._path.parent) or LockHolder())) from error
        return fd

    def _bind_name(self) -> socket.socket | None:
        """The bound socket; None where a user who has no right to the node squats on the name."""
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            bound.bind(f"\0{self._abstract_name}")
            bound.listen(_BACKLOG)
        except OSError as error:
            bound.close()
            pid, uid = _ask_holder(self._abstract_name)
            if uid not in (None, 0, os.geteuid()):
                return None
            raise LockError(_refuse(LockHolder(pid=pid))) from error
        return bound


def read_holder(run_directory: Path) -> LockHolder | None:
    """What the lock file says of the last sensor that held it; None where there is no readable one.

    Not whether it lives.
    """
    try:
        with (run_directory / LOCK_FILE_NAME).open("rb") as file:
            told = json.loads(file.read(_MAX_FILE_BYTES))
        return LockHolder(pid=int(told["pid"]), started=str(told["started"]), version=str(told["version"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _refuse(holder: LockHolder) -> str:
    return (
        f"Another sensor already runs on this node ({holder}): "
        "one sensor sees all of a node's traffic; stop the first before starting another."
    )


def _ask_holder(name: str) -> tuple[int, int | None]:
    """(pid, uid) of the process that listens on the abstract name; pid 0 or uid None where the kernel does not tell."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as channel:
        channel.setblocking(False)
        try:
            channel.connect(f"\0{name}")
            raw = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
        except OSError:
            return 0, None
    pid, uid, _ = _PEER_CREDENTIALS.unpack(raw)
    return pid, uid
