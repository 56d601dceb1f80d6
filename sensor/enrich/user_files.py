"""Opens and reads files that users and containers of this node chose, so that none makes the sensor wait, stray or act.

Whoever owns a directory may put a link there that leads out of it, a pipe or a file system of their own that never
answers (FUSE), or a device: opening some of these has effects, up to a restart of the host. So `UserTree` takes each
step of a path by itself, by a descriptor that stands for the file without opening it (O_PATH, O_NOFOLLOW). A step has
to lie on a file system of the kernel's own, links lead nowhere but within the tree, and only a plain file of bounded
size is opened for reading. That never waits for a lease (O_NONBLOCK).

What is in the files is read in a sandbox (`sensor.enrich.file_contents`). Answers and time are by cgroup, or by user,
so that no container takes up either of another's.

Sources: open(2), fcntl(2), proc_pid_fdinfo(5), proc_pid_mountinfo(5).
"""

import errno
import os
import stat
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from common.bounded import BoundedDict
from common.figures import Figure, make_labelled
from common.token_bucket import TokenBucket
from sensor.core.sandbox import NoAnswerError, Sandbox, SandboxError, Task
from sensor.enrich.file_contents import TASKS

# A path of a container's file has some ten, and a link or two.
STEPS_MAX: Final = 64
# Of a mount table; a node with a hundred Pods has some 100 KB. What is mounted later in it is not entered.
MOUNTS_BYTES_MAX: Final = 1 << 20
# A network's may not answer for minutes, and a user's own may never. Those of a virtual machine's host do.
LOCAL_TYPES: Final = frozenset(
    (
        *(b"ext2", b"ext3", b"ext4", b"xfs", b"btrfs", b"zfs", b"f2fs", b"bcachefs", b"jfs", b"squashfs", b"erofs"),
        *(b"overlay", b"tmpfs", b"devtmpfs", b"ramfs", b"rootfs", b"virtiofs", b"9p"),
    )
)


class UserTree:
    """A directory and what is below it. Cost: some 30 us a step."""

    def __init__(self, top: Path, mounts: Path, *, owner: int | None = None) -> None:
        """`mounts`: the mountinfo of who sees the tree. With an `owner` all has to be theirs and on the mount of `top`,
        and no link is followed."""
        self._top, self._mounts, self._owner = top, mounts, owner

    @contextmanager
    def open_file(self, path: str, bytes_max: int) -> Iterator[int]:
        """A descriptor to read a plain file. Raises OSError where there is none that may be read."""
        with self._find(path) as (handle, _):
            descriptor = open_plain(handle, bytes_max)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def open_directory(self, path: str) -> int:
        """A descriptor that stands for a directory (O_PATH). Raises OSError where there is none that may be used."""
        with self._find(path) as (handle, _):
            if not stat.S_ISDIR(os.fstat(handle).st_mode):
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            return os.dup(handle)

    def resolve(self, path: str) -> str:
        """The path without links and dots; as it is where it leads nowhere."""
        try:
            with self._find(path) as (_, names):
                return "/" + "/".join(names)
        except OSError:
            return path

    def list_names(self, path: str, count_max: int) -> list[str]:
        """What a directory holds, so many at most. Raises OSError."""
        with self._find(path) as (handle, _):
            directory = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=handle)
        try:
            with os.scandir(directory) as entries:
                return [entry.name for entry, _ in zip(entries, range(count_max), strict=False)]
        finally:
            os.close(directory)

    @contextmanager
    def _find(self, path: str) -> Iterator[tuple[int, list[str]]]:
        """A descriptor that stands for what a path leads to, and the names of its way. Raises OSError."""
        flags = os.O_PATH | os.O_CLOEXEC
        opened = [os.open(self._top, flags | (0 if self._owner is None else os.O_NOFOLLOW))]
        names: list[str] = []
        try:
            top_mount = find_mount(opened[0])
            self._check(opened[0], top_mount)
            waiting, steps = path.split("/")[::-1], 0
            while waiting:
                name = waiting.pop()
                if name == "..":
                    if names:  # Above the top is the top.
                        names.pop()
                        os.close(opened.pop())
                    continue
                if name in ("", "."):
                    continue
                steps += 1
                if steps > STEPS_MAX:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                names.append(name)
                opened.append(os.open(name, flags | os.O_NOFOLLOW, dir_fd=opened[-1]))
                if stat.S_ISLNK(self._check(opened[-1], top_mount)):
                    target = os.readlink("", dir_fd=opened[-1])
                    for _ in range(len(names) if target.startswith("/") else 1):
                        names.pop()
                        os.close(opened.pop())
                    waiting += target.split("/")[::-1]
            yield opened[-1], names
        finally:
            for descriptor in opened:
                os.close(descriptor)

    def _check(self, handle: int, top_mount: bytes) -> int:
        """The mode of a step; the mount is looked at first, for another one may not answer. Raises OSError."""
        mount = find_mount(handle)
        if self._types.get(mount) not in LOCAL_TYPES or (self._owner is not None and mount != top_mount):
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        status = os.fstat(handle)
        if self._owner is not None and (status.st_uid != self._owner or stat.S_ISLNK(status.st_mode)):
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        return status.st_mode

    @cached_property
    def _types(self) -> dict[bytes, bytes]:
        with self._mounts.open("rb") as file:
            return read_mount_types(file.read(MOUNTS_BYTES_MAX))


def open_plain(handle: int, bytes_max: int | None = None) -> int:
    """A descriptor to read the plain file that a handle stands for. Raises OSError for all else."""
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode) or (bytes_max is not None and status.st_size > bytes_max):
        raise OSError(errno.EINVAL, "it is no plain file, or too large")
    # A lease of the owner's would have this wait for 45 s.
    return os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def read_mount_types(mountinfo: bytes) -> dict[bytes, bytes]:
    """Kinds of file systems by the ids of their mounts, given a mountinfo."""
    parts = [line.partition(b" - ") for line in mountinfo.split(b"\n")]
    return {mount.split(b" ", 1)[0]: rest.split(b" ", 1)[0] for mount, _, rest in parts}


def find_mount(handle: int) -> bytes:
    """The id of the mount on which a descriptor's file lies. Asks the kernel alone, not the file system. Raises
    OSError."""
    descriptor = os.open(f"/proc/self/fdinfo/{handle}", os.O_RDONLY | os.O_CLOEXEC)
    try:
        return read_mount(os.read(descriptor, 4_096))
    finally:
        os.close(descriptor)


def read_mount(fdinfo: bytes) -> bytes:
    """The id of the mount, given the fdinfo of a descriptor."""
    for line in fdinfo.split(b"\n"):
        name, _, value = line.partition(b":")
        if name == b"mnt_id":
            return value.strip()
    return b""


_T = TypeVar("_T")

# Processor time of one file. Whoever asks for a name waits for it.
FILE_SECONDS_MAX: Final = 1
# Who makes the sensor read files: time a second that goes to them, what they may save up, and answers that are kept.
PAYERS_MAX: Final = 1_024
PAYER_CORE_SHARE: Final = 0.01
PAYER_SECONDS_MAX: Final = 1.0
ANSWERS_MAX: Final = 32
_LEVELS: Final = 3
_MISSING: Final = object()


class ReadFile(Protocol):
    """Reads a file of others (`FileReader.read`)."""

    def __call__(self, tree: UserTree, path: str, task: Task[_T], argument: str = "", *, payer: str) -> _T | None:
        """What a task of `sensor.enrich.file_contents` makes of it; None where it cannot or may not be read."""


class FileReader:
    """Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives monotonic seconds."""
        self._clock = clock
        self._sandbox = Sandbox(*TASKS, seconds_max=FILE_SECONDS_MAX)
        self._lock = threading.Lock()
        self._payers: BoundedDict[str, tuple[TokenBucket, BoundedDict[Any, Any]]] = BoundedDict(PAYERS_MAX)
        self._unread = Counter(refused=0, over_budget=0, unanswered=0)

    def read(self, tree: UserTree, path: str, task: Task[_T], argument: str = "", *, payer: str) -> _T | None:
        """What a task of `sensor.enrich.file_contents` makes of a file; None where it cannot or may not be read. A file
        that did not change since is not read again."""
        try:
            with tree.open_file(path, TASKS[task]) as descriptor, self._lock:
                return self._ask(descriptor, task, argument, payer)
        except (OSError, ValueError):  # A zero byte is in no path.
            return None

    def _ask(self, descriptor: int, task: Task[_T], argument: str, payer: str) -> _T | None:
        if self._payers.use(payer) is None:
            bucket = TokenBucket(PAYER_CORE_SHARE, PAYER_SECONDS_MAX, self._clock)
            self._payers[payer] = bucket, BoundedDict(ANSWERS_MAX)
        budget, answers = self._payers[payer]
        status = os.fstat(descriptor)
        key = (task, argument, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        answer: Any = answers.get(key, _MISSING)
        if answer is not _MISSING:
            return answer  # type: ignore[no-any-return]
        if budget.tokens <= 0:
            self._unread["over_budget"] += 1
            return None
        found = None
        try:
            found = self._sandbox.run(task, descriptor, argument)
        except NoAnswerError:
            self._unread["unanswered"] += 1
            return None
        except SandboxError:
            self._unread["refused"] += 1
        finally:
            budget.spend(self._sandbox.used_seconds)
        answers[key] = found
        return found

    def close_idle(self) -> None:
        """Ends the program of the sandbox where no file was read for a while."""
        with self._lock:
            self._sandbox.close_idle()

    def close(self) -> None:
        """Ends it."""
        with self._lock:
            self._sandbox.close()

    def figures(self) -> tuple[Figure, ...]:
        """For metrics."""
        text = "Files of users and containers that were not read for names, by reason."
        return make_labelled("unread_files", text, "reason", self._unread.items())


def find_payer(cgroup: str) -> str:
    """Whose budget a process takes from: a Pod, a user's manager, a unit or a container, whatever is below it."""
    return "/".join(cgroup.split("/", _LEVELS + 1)[: _LEVELS + 1])
