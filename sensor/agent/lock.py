"""The node's lock: one sensor per scope, because two that watch one cgroup would count its calls twice.

The kernel releases the locks with the process, kill -9 included:

- The scope is locked by flock(2) on a file in the run directory and by an abstract unix socket (unix(7)). The name of
  the socket is one for the network namespace, whatever the run directory. So a sensor in a container on the host's
  network meets the one on the host. The kernel names the holder (SO_PEERCRED). The name of a sensor that watches one
  cgroup has the id of that cgroup.
- The state directory is locked by flock(2) on a file in it, because two sensors share no spool.

The files name their holder: pid, start time, version. A sensor binds its own name first and then looks for names of
overlapping scopes. So of two that start at once, neither is missed. Any user may bind an abstract name. A holder that
is neither root nor the sensor's own user does not stop the sensor.

`take_node` is for a rolling upgrade, where the next sensor starts beside the one that runs. The next sensor loads its
programs, reports that it is ready, which makes the kubelet end the other sensor, and waits. The sensor that stops gives
up the scope as soon as it has detached, and the next one attaches at once. It gives up the state directory when it has
sent what it counted and ends. Until then the rings of the next sensor hold what comes.
"""

import fcntl
import json
import logging
import os
import signal
import socket
import struct
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from sensor.core.health import HealthReport
from sensor.core.printable import make_printable
from sensor.core.state import SensorState
from sensor.enrich.cgroup_tree import CgroupScope
from sensor.enrich.sockets import dump_unix_sockets

ABSTRACT_NAME = "apidae-sensor"
LOCK_FILE_NAME = "sensor.lock"
STATE_LOCK_FILE_NAME = "state.lock"
# Refused sensors wait in the socket's queue, which nobody empties; once it is full they are refused without the first
# one's pid.
_BACKLOG = 4_096
_MAX_FILE_BYTES = 4_096
_PEER_CREDENTIALS = struct.Struct("=iII")  # struct ucred: pid, uid, gid.


class LockError(Exception):
    """Another sensor watches the same, or the lock cannot be taken; the text is one sentence for the operator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LockHolder:
    """Who holds a lock, as far as it is known: 0 and empty where not."""

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
    """The right to watch a scope of the node; a context manager.

    Kept by open descriptors only, so it ends with the process.
    """

    def __init__(
        self,
        run_directory: Path,
        scope: CgroupScope,
        *,
        version: str,
        now: Callable[[], str],
        state_directory: Path | None = None,
        abstract_name: str = ABSTRACT_NAME,
    ) -> None:
        """`now` gives the start time as RFC 3339 text; `abstract_name` of the whole host, without the leading NUL. A
        `state_directory` is made for its owner alone where it is not there."""
        self._path = run_directory / LOCK_FILE_NAME
        self._state_path = state_directory / STATE_LOCK_FILE_NAME if state_directory is not None else None
        self._scope = scope
        self._version = version
        self._now = now
        self._abstract_name = abstract_name
        self._name = abstract_name if scope.is_whole_host else f"{abstract_name}-{scope.cgroup_id}"
        self._scope_fd: int | None = None
        self._state_fd: int | None = None
        self._socket: socket.socket | None = None

    def acquire(self) -> None:
        """Takes all locks. Raises LockError, which names the holder, and takes none then."""
        try:
            self.acquire_scope()
            self.acquire_state()
        except BaseException:
            self.release()
            raise

    def acquire_scope(self) -> None:
        """Takes the right to capture. Raises LockError, and takes nothing then."""
        try:
            self._scope_fd = _lock_file(self._path, mode=0o755, setting="--run-dir")
            self._socket = self._bind_name()
            self._refuse_overlaps()
            self._write_holder(self._scope_fd)
        except BaseException:
            self.release_scope()
            raise

    def acquire_state(self) -> None:
        """Takes the state directory. Raises LockError."""
        if self._state_path is not None:
            self._state_fd = _lock_file(self._state_path, mode=0o700, setting="--state-dir")
            self._write_holder(self._state_fd)

    def release_scope(self) -> None:
        """Another sensor may capture from now on. The file stays: removing it would let two sensors lock two files of
        one name."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._scope_fd is not None:
            os.close(self._scope_fd)
            self._scope_fd = None

    def is_followed(self) -> bool:
        """Whether another sensor has taken the scope that this one gave up."""
        try:
            self.acquire_scope()
        except LockError:
            return True
        self.release_scope()
        return False

    def release(self) -> None:
        """Gives up all locks."""
        self.release_scope()
        if self._state_fd is not None:
            os.close(self._state_fd)
            self._state_fd = None

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _write_holder(self, fd: int) -> None:
        holder = {"pid": os.getpid(), "started": self._now(), "version": self._version}
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps(holder).encode() + b"\n", 0)

    def _bind_name(self) -> socket.socket | None:
        """The bound socket; None where a user who has no right to the node squats on the name."""
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            bound.bind(f"\0{self._name}")
            bound.listen(_BACKLOG)
        except OSError as error:
            bound.close()
            try:
                _refuse_holder(self._name, str(self._scope), is_bound=True)
            except LockError as refusal:
                raise refusal from error
            return None
        return bound

    def _refuse_overlaps(self) -> None:
        """Raises LockError where another sensor watches a cgroup in this scope, or one that this scope is in. One that
        does not listen yet finds this one's name itself."""
        for name in _list_names():
            if name == self._name:
                continue
            if name == self._abstract_name:
                _refuse_holder(name, "the whole host")
            number = name.removeprefix(f"{self._abstract_name}-")
            if number != name and number.isdecimal() and (watched := self._scope.find_overlap(int(number))):
                _refuse_holder(name, watched)


def read_holder(path: Path) -> LockHolder | None:
    """What the lock file says of the last sensor that held it; None where there is no readable one.

    Not whether it lives.
    """
    try:
        with path.open("rb") as file:
            holder = json.loads(file.read(_MAX_FILE_BYTES))
        return LockHolder(pid=int(holder["pid"]), started=str(holder["started"]), version=str(holder["version"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _lock_file(path: Path, *, mode: int, setting: str) -> int:
    """The descriptor that holds the lock. `mode` is that of a new directory, `setting` what names it."""
    try:
        path.parent.mkdir(mode=mode, parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise LockError(
            f"The lock file {path} cannot be opened ({error.strerror}): "
            f"run the sensor as root or choose a directory that it may write with {setting}."
        ) from error
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        if not isinstance(error, BlockingIOError):
            raise LockError(
                f"The lock file {path} cannot be locked ({error.strerror}): "
                f"choose a directory on a local file system with {setting}."
            ) from error
        raise LockError(
            f"Another sensor already runs on this node ({read_holder(path) or LockHolder()}) and uses {path.parent}: "
            f"stop it first or, where it watches another cgroup, choose another directory with {setting}."
        ) from error
    return fd


def _refuse_holder(name: str, watched: str, *, is_bound: bool = False) -> None:
    """Raises LockError, unless who holds the name is a user who has no right to the node. `is_bound`: somebody holds it
    even where nobody listens."""
    try:
        pid, uid = _ask_holder(name)
    except ConnectionRefusedError:
        if not is_bound:
            return
        pid, uid = 0, _list_names().get(name)
    if uid in (None, 0, os.geteuid()):
        raise LockError(
            f"Another sensor already runs on this node ({LockHolder(pid=pid)}) and watches {watched}: two would "
            "count its calls twice; stop it first, or have this one watch another cgroup with --cgroup-path."
        )


def _list_names() -> dict[str, int | None]:
    """The users who bound abstract names of this network namespace, as they are bound now, by name; None where the
    kernel does not say."""
    try:
        sockets = dump_unix_sockets()
    except OSError:
        return {}
    return {make_printable(one.name[1:]): one.uid for one in sockets if one.name[:1] == b"\0"}


def _ask_holder(name: str) -> tuple[int, int | None]:
    """(pid, uid) of the process that listens on the abstract name; pid 0 or uid None where the kernel does not say.
    Raises ConnectionRefusedError where none listens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as channel:
        channel.setblocking(False)
        try:
            channel.connect(f"\0{name}")
            raw = channel.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
        except ConnectionRefusedError:
            raise
        except OSError:
            return 0, None
    pid, uid, _ = _PEER_CREDENTIALS.unpack(raw)
    return pid, uid


T = TypeVar("T")

POLL_SECONDS: Final = 0.05
WAITING_REASON: Final = "waits for the sensor before it to end"

logger = logging.getLogger(__name__)


def take_node(
    lock: NodeLock,
    *,
    wait_seconds: float,
    prepare: Callable[[], T],
    report_ready: Callable[[], AbstractContextManager[object]] = nullcontext,
    begin: Callable[[T], None] = lambda prepared: None,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> T | None:
    """Acquires the node's locks, if need be when the sensor that holds them has stopped. `prepare` makes what a start
    needs, which is returned. `report_ready` is held open from then on until all locks are held. `begin` gets what was
    prepared as soon as the scope is this sensor's. None where the node was free.

    Raises LockError where a lock is not free within `wait_seconds`, SystemExit at SIGTERM."""
    try:
        lock.acquire()
        return None
    except LockError as error:
        if wait_seconds <= 0:
            raise
        logger.info("%s Waiting for %g s at most to take its place.", error, wait_seconds)
    with _ending_at_sigterm():
        prepared = prepare()
        logger.info("ready to capture as soon as that sensor stops")
        with report_ready():
            _wait(lock.acquire_scope, clock() + wait_seconds, sleep, clock)
            begin(prepared)
            _wait(lock.acquire_state, clock() + wait_seconds, sleep, clock)
    return prepared


def describe_waiting(unix_ns: Callable[[], int]) -> HealthReport:
    """What a sensor that waits reports of itself."""
    return HealthReport(
        time_unix_ns=unix_ns(), state=SensorState.PAUSED, cpu_ns=time.process_time_ns(), reason=WAITING_REASON
    )


def _wait(
    acquire: Callable[[], None], deadline: float, sleep: Callable[[float], None], clock: Callable[[], float]
) -> None:
    while True:
        try:
            acquire()
            return
        except LockError:
            if clock() >= deadline:
                raise
        sleep(POLL_SECONDS)


@contextmanager
def _ending_at_sigterm() -> Any:
    """The first process of a container gets no signal for which it has no handler."""

    def end(number: int, frame: object) -> None:
        raise SystemExit(0)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
