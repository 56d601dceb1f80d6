"""Maps cgroup ids to paths in the cgroup v2 tree, notices new cgroups, and defines the scope that a sensor watches.

`CgroupTree` reads the mounted tree. An id is the inode number of the cgroup's directory (kernel
Documentation/admin-guide/cgroup-v2.rst and kernfs_id). A cgroup younger than the index is found by file handle, one
system call (open_by_handle_at(2) with a kernfs handle, as systemd's cg_path_from_cgroupid does). Where that is not
permitted, the tree is walked again, at most once in `min_walk_seconds`, so that many unknown ids cost nothing. A cgroup
that is gone keeps its path for a while, because calls of a short-lived container are read after its end. An id is never
used again (kernfs counts its upper half up).

`CgroupScope` is one cgroup of version 2 with all below it, or the whole host. Names of cgroups are paths from the
mount. A socket belongs to the cgroup in which it was made, and an accepted one to that of its listener (kernel,
cgroup_sk_alloc and cgroup_sk_clone). So both ways of capture go by the socket's cgroup. A process belongs to the cgroup
in which it is.

`CgroupWatch` sees cgroups appear by inotify(7), which works on cgroup v2. It watches every directory of the tree, and
gives id and path of each new one. It is best effort: very short-lived cgroups and those past the bound are left to
walks.
"""

import contextlib
import ctypes
import logging
import os
import re
import select
import stat
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sensor.core.printable import make_path_printable

# Ids kept. A node has one cgroup a container and unit; 65,536 of 200 bytes are 13 MB, far above what systemd or a
# kubelet allow.
MAX_CGROUPS = 65_536
MIN_WALK_SECONDS = 1.0
# Longer than a call waits anywhere before it is named.
KEEP_SECONDS = 300.0
MAX_GONE = 16_384
DEFAULT_CGROUP_PATH = Path("/sys/fs/cgroup")
# Kinds of file systems, as /proc/mounts has them.
CGROUP1, CGROUP2 = "cgroup", "cgroup2"
# proc_pid_mounts(5): space, tab, newline and backslash of a path are octal escapes.
_OCTAL = re.compile(r"\\([0-7]{3})")
_FILEID_KERNFS = 0xFE  # include/linux/exportfs.h
_HANDLE = struct.Struct("=IiQ")  # struct file_handle: handle_bytes, handle_type, f_handle[8]


def list_mounts(mounts: str) -> list[tuple[Path, str]]:
    """(place, kind of file system) of each line of the text of /proc/mounts; only a newline ends one."""
    lines = [line.split(" ") for line in mounts.split("\n")]
    return [
        (Path(_OCTAL.sub(lambda match: chr(int(match[1], 8)), fields[1])), fields[2])
        for fields in lines
        if len(fields) > 2
    ]


def find_cgroup2_mount(mounts: str, within: Path = DEFAULT_CGROUP_PATH) -> Path | None:
    """Where cgroup v2 is mounted at or below `within`, given the text of /proc/mounts; None where it is not.

    A unified host mounts it at /sys/fs/cgroup, a hybrid one below, at /sys/fs/cgroup/unified or wherever its init
    likes.
    """
    found = [
        path for path, kind in list_mounts(mounts) if kind == CGROUP2 and (path == within or within in path.parents)
    ]
    return min(found, default=None, key=lambda path: (len(path.parts), path))


class CgroupTree:
    """Paths of the cgroups of one node by id. Thread-safe; never raises on a tree that changes while it is read."""

    def __init__(
        self,
        mount: Path | None,
        *,
        clock: Callable[[], float],
        min_walk_seconds: float = MIN_WALK_SECONDS,
        max_cgroups: int = MAX_CGROUPS,
    ) -> None:
        """`clock` gives monotonic seconds; without a mount every id is unknown."""
        self._mount = mount
        self._clock = clock
        self._min_walk_seconds = min_walk_seconds
        self._max_cgroups = max_cgroups
        self._paths: dict[int, str] = {}
        self._gone: dict[int, tuple[str, float]] = {}  # Path, and when it was missed first; in this order.
        self._next_walk = float("-inf")
        self._lock = threading.Lock()
        self.left_out_count = 0  # Cgroups of the last walk past `max_cgroups`.

    def path(self, cgroup_id: int) -> str | None:
        """`/` for the root, `/a/b` below it; None for an id that is no longer, or not yet, in the tree."""
        known = self._paths.get(cgroup_id)
        if known is not None:
            return known
        gone = self._gone.get(cgroup_id)
        if gone is not None:
            return gone[0]
        if self._mount is None:
            return None
        found = _path_by_handle(self._mount, cgroup_id)
        if found is not None:
            with self._lock:
                if len(self._paths) < self._max_cgroups:
                    self._paths[cgroup_id] = found
            return found
        self._walk_if_due()
        return self._paths.get(cgroup_id)

    def paths(self) -> list[str]:
        """Of all cgroups that are known to be there, from the root."""
        return list(self._paths.values())

    def find_id(self, path: str) -> int | None:
        """The id of a path of the last walk; None where it is not in the tree."""
        return next((cgroup_id for cgroup_id, known in self._paths.items() if known == path), None)

    def walk(self) -> None:
        """Reads the tree anew; cgroups that are gone are forgotten later. 10-20 us a cgroup."""
        if self._mount is None:
            return
        paths: dict[int, str] = {}
        left_out = 0
        root = os.fsencode(self._mount)
        for directory, inode in _directories(root):
            if len(paths) >= self._max_cgroups:
                left_out += 1
                continue
            paths[inode] = make_path_printable(directory[len(root) :]) or "/"
        now = self._clock()
        with self._lock:
            gone = self._gone | {
                cgroup_id: (path, now) for cgroup_id, path in self._paths.items() if cgroup_id not in paths
            }
            excess = len(gone) - MAX_GONE
            self._gone = {
                cgroup_id: (path, since)
                for place, (cgroup_id, (path, since)) in enumerate(gone.items())
                if place >= excess and since > now - KEEP_SECONDS and cgroup_id not in paths
            }
            self._paths = paths
            self.left_out_count = left_out

    def add(self, cgroup_id: int, path: str) -> None:
        """A cgroup that was just made."""
        with self._lock:
            if len(self._paths) < self._max_cgroups:
                self._paths[cgroup_id] = path

    def _walk_if_due(self) -> None:
        with self._lock:
            now = self._clock()
            if now < self._next_walk:
                return
            self._next_walk = now + self._min_walk_seconds
        self.walk()


def _directories(root: bytes) -> list[tuple[bytes, int]]:
    """(path, inode) of `root` and all directories below, breadth first: what is cut by the bound is the deepest."""
    with contextlib.suppress(OSError):
        found = [(root, os.stat(root).st_ino)]  # noqa: PTH116 - bytes throughout: names may be of any.
        for directory, _ in found:
            with contextlib.suppress(OSError), os.scandir(directory) as entries:
                found.extend((e.path, e.inode()) for e in entries if e.is_dir(follow_symlinks=False))
        return found
    return []


def _path_by_handle(mount: Path, cgroup_id: int) -> str | None:
    """The path of a live cgroup by its id without a walk; None where there is none or the kernel does not permit it."""
    handle = _HANDLE.pack(8, _FILEID_KERNFS, cgroup_id & 0xFFFF_FFFF_FFFF_FFFF)
    try:
        mount_fd = os.open(mount, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None
    try:
        fd = _open_by_handle_at(mount_fd, handle)
        if fd < 0:
            return None
        try:
            # Of a removed cgroup, and of one outside this mount or cgroup namespace, the link is no path below the
            # mount.
            target = os.readlink(b"/proc/self/fd/%d" % fd)  # noqa: PTH115 - bytes, as above.
        finally:
            os.close(fd)
    except OSError:
        return None
    finally:
        os.close(mount_fd)
    root = os.fsencode(mount)
    if target == root:
        return "/"
    if not target.startswith(root + b"/") or target.endswith(b" (deleted)"):
        return None
    return make_path_printable(target[len(root) :])


def _open_by_handle_at(mount_fd: int, handle: bytes) -> int:
    """open_by_handle_at(2): a descriptor, or -1 (needs CAP_DAC_READ_SEARCH)."""
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "open_by_handle_at"):
        return -1
    return int(
        libc.open_by_handle_at(mount_fd, ctypes.create_string_buffer(handle, len(handle)), os.O_RDONLY | os.O_CLOEXEC)
    )


logger = logging.getLogger(__name__)

# A node has some 100 units and three directories a Pod. The kernel takes 8,192 of one user, or more by its memory
# (fs.inotify.max_user_watches), and about 1 KB each.
MAX_WATCHES = 4_096
_CREATE, _IGNORED, _OVERFLOW, _ONLY_DIRECTORY, _IS_DIRECTORY = 0x100, 0x8000, 0x4000, 0x0100_0000, 0x4000_0000
_EVENT = struct.Struct("iIII")  # struct inotify_event: wd, mask, cookie, len; then the name.
_READ_BYTES = 64 * 1024


class CgroupWatch:
    """Tells of new cgroups in a thread of its own."""

    def __init__(self, mount: Path, *, on_added: Callable[[int, str], None], on_lost: Callable[[], None]) -> None:
        """`on_added` takes an id and its path from the root; `on_lost` is called where events were lost: walk."""
        self._mount = os.fsencode(mount)
        self._on_added = on_added
        self._on_lost = on_lost
        self._paths: dict[int, bytes] = {}  # By watch.
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = -1
        self._wake_fd = -1
        self._thread = threading.Thread(target=self._run, name="apidae-cgroups", daemon=True)
        self.left_out_count = 0  # Directories that are not watched.

    def start(self) -> bool:
        """Whether there is anything to watch with."""
        self._fd = self._libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        if self._fd < 0:
            return False
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC)
        self._add(b"", is_reported=False)
        self._thread.start()
        return True

    def stop(self) -> None:
        """Ends the thread."""
        if self._fd >= 0:
            os.eventfd_write(self._wake_fd, 1)
            self._thread.join()
            os.close(self._fd)
            os.close(self._wake_fd)
            self._fd = -1

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(self._wake_fd, select.POLLIN)
        while True:
            if any(fd == self._wake_fd for fd, _ in poll.poll()):
                return
            with contextlib.suppress(BlockingIOError):
                for watch, mask, name in _split(os.read(self._fd, _READ_BYTES)):
                    try:
                        self._take(watch, mask, name)
                    except Exception:
                        # A loop boundary: this cgroup is left to the walks of the tree.
                        logger.exception("taking up a new cgroup failed")

    def _take(self, watch: int, mask: int, name: bytes) -> None:
        if mask & _OVERFLOW:
            self._on_lost()
        elif mask & _IGNORED:  # The directory is gone.
            self._paths.pop(watch, None)
        elif mask & _CREATE and mask & _IS_DIRECTORY and watch in self._paths:
            self._add(self._paths[watch] + b"/" + name, is_reported=True)

    def _add(self, path: bytes, *, is_reported: bool) -> None:
        """Watches the directory `path` and all below it, and reports them. Whoever makes them chooses how deep they
        are, so one does not call for the next."""
        waiting = [path]
        while waiting:
            path = waiting.pop()
            directory = self._mount + path
            try:
                inode = os.stat(directory).st_ino  # noqa: PTH116 - bytes throughout, as in the tree.
            except OSError:
                continue
            if is_reported:
                self._on_added(inode, make_path_printable(path))
            if len(self._paths) >= MAX_WATCHES:
                self.left_out_count += 1
                continue
            watch = self._libc.inotify_add_watch(self._fd, directory, _CREATE | _ONLY_DIRECTORY)
            if watch < 0:
                self.left_out_count += 1
                continue
            self._paths[watch] = path
            # What was made before the watch was there.
            with contextlib.suppress(OSError), os.scandir(directory) as entries:
                waiting += [path + b"/" + entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]


def _split(buffer: bytes) -> Iterator[tuple[int, int, bytes]]:
    """(watch, mask, name)s of what read(2) gave."""
    place = 0
    while place + _EVENT.size <= len(buffer):
        watch, mask, _, length = _EVENT.unpack_from(buffer, place)
        name = buffer[place + _EVENT.size : place + _EVENT.size + length].rstrip(b"\0")
        yield watch, mask, name
        place += _EVENT.size + length


_ADVICE = "Name a directory of cgroup v2 with cgroup_path, or leave it out to watch the whole host."
_MOUNTS_PATH = Path("/proc/mounts")
# Twin of LEVELS_MAX in bpf/scope.h, the root counted.
MAX_LEVELS = 16
# A process of another process namespace, as cgroup.procs has it.
_HIDDEN_PID = 0


class ScopeError(Exception):
    """What was asked for cannot be watched. `observed` says why, `advice` what to do."""

    def __init__(self, observed: str) -> None:
        super().__init__(f"scope is {observed}. {_ADVICE}")
        self.observed = observed
        self.advice = _ADVICE


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupScope:
    """`mount` and `directory` are None only on a host without cgroup v2, all of which is watched."""

    mount: Path | None  # Where cgroup v2 is mounted.
    directory: Path | None  # The cgroup that is watched; the mount itself, or below it.
    cgroup_id: int  # Of the directory; 0 without one.
    is_whole_host: bool

    @property
    def path(self) -> str:
        """Of the watched cgroup, from the mount, printable as all paths of cgroups are: `/` for the mount itself."""
        if self.mount is None or self.directory is None or self.directory == self.mount:
            return "/"
        return make_path_printable(os.fsencode(f"/{self.directory.relative_to(self.mount)}"))

    @property
    def kernel_id(self) -> int:
        """The id for programs that check cgroups themselves; 0 where they need not."""
        return 0 if self.is_whole_host else self.cgroup_id

    def __str__(self) -> str:
        return "the whole host" if self.is_whole_host else f"{self.directory} and below"

    def contains(self, path: str | None) -> bool:
        """Whether a cgroup is watched, by its path from the mount; None: it is not below the mount."""
        return self.is_whole_host or (path is not None and _is_below(path, self.path))

    def find_overlap(self, cgroup_id: int) -> str:
        """The name of a cgroup that is in this scope or has the scope below it; empty where neither holds. One that is
        gone or not below this mount is not known to overlap."""
        path = CgroupTree(self.mount, clock=time.monotonic).path(cgroup_id)
        if path is None:
            return f"cgroup {cgroup_id}" if self.is_whole_host else ""
        return path if _is_below(path, self.path) or _is_below(self.path, path) else ""

    def is_there(self) -> bool:
        """Whether the watched cgroup exists. Another one of its name, as a unit has after a restart, is not it."""
        if self.is_whole_host or self.directory is None:
            return True
        try:
            return self.directory.stat().st_ino == self.cgroup_id
        except OSError:
            return False

    def find_cgroup_path(self, proc: str, pid: int) -> str:
        """The cgroup in which a process is, from the mount; empty where that is not known, as on cgroup v1."""
        if self.mount is None:
            return ""
        try:
            with open(f"{proc}/{pid}/cgroup", "rb") as file:  # noqa: PTH123
                lines = file.read().split(b"\n")
            path = next((os.fsdecode(line[3:]) for line in lines if line.startswith(b"0::")), "")
            if path.startswith("/.."):
                # As a reader in a cgroup namespace of its own sees what is beside it: from its own cgroup.
                own = CgroupTree(self.mount, clock=time.monotonic).path(DEFAULT_CGROUP_PATH.stat().st_ino)
                path = os.path.normpath(f"{own or ''}{path}")
        except OSError:
            return ""
        return path

    def find_cgroup_id(self, proc: str, pid: int) -> int:
        """Its id; 0 where that is not known."""
        path = self.find_cgroup_path(proc, pid)
        try:
            return os.stat(f"{self.mount}{path}").st_ino if path else 0  # noqa: PTH116
        except OSError:
            return 0

    def read_pids(self) -> frozenset[int] | None:
        """The processes that are in it now. None where that is not known: the whole host is watched, or some are not
        in the sensor's process namespace. 20 us a cgroup."""
        if self.is_whole_host or self.directory is None:
            return None
        found: set[int] = set()
        for directory, _, _ in os.walk(self.directory):
            try:
                with open(f"{directory}/cgroup.procs", "rb") as file:  # noqa: PTH123 - str paths throughout, as in the tree.
                    found.update(map(int, file.read().split()))
            except OSError:
                continue  # Gone since, or a cgroup of threads whose processes are listed above it.
        return None if _HIDDEN_PID in found else frozenset(found)


# Without cgroup v2: nothing can be attached, and nothing narrower can be watched.
WHOLE_HOST: Final = CgroupScope(mount=None, directory=None, cgroup_id=0, is_whole_host=True)


def read_scope(path: Path) -> CgroupScope:
    """The scope that the setting `cgroup_path` asks for on this host. Raises ScopeError."""
    # A path need not be UTF-8, and may hold what ends a line of text elsewhere.
    return find_scope(os.fsdecode(_MOUNTS_PATH.read_bytes()), path)


def find_scope(mounts: str, path: Path) -> CgroupScope:
    """The same, given the text of /proc/mounts: a directory of cgroup v2, or the mount that is found below `path`, as
    on a hybrid host."""
    resolved, listed = path.resolve(), list_mounts(mounts)
    above = [(len(place.parts), number) for number, (place, _) in enumerate(listed) if _is_within(resolved, place)]
    # The innermost mount; of several at one place the last, which hides the others.
    mount, kind = listed[max(above)[1]] if above else (resolved, "")
    if kind == CGROUP2:
        return _watch(mount, resolved, path)
    below = find_cgroup2_mount(mounts, resolved)
    if below is not None:
        return _watch(below, below, path)
    is_root_of_v1 = any(kind == CGROUP1 and place != resolved and _is_within(place, resolved) for place, kind in listed)
    if path == DEFAULT_CGROUP_PATH or is_root_of_v1:
        return WHOLE_HOST
    raise ScopeError(f"{path}, which is not a directory of cgroup v2 and has no mount of it below")


def _watch(mount: Path, directory: Path, asked: Path) -> CgroupScope:
    try:
        status = directory.stat()
        is_root = directory == mount and not (mount / "cgroup.type").exists()  # Every cgroup but the root has one.
    except OSError as error:
        raise ScopeError(f"{asked}, which cannot be read ({error.strerror})") from error
    if not stat.S_ISDIR(status.st_mode):
        raise ScopeError(f"{asked}, which is not a directory")
    if len(directory.relative_to(mount).parts) >= MAX_LEVELS:
        raise ScopeError(f"{asked}, which is more than {MAX_LEVELS - 1} levels below the root")
    return CgroupScope(mount=mount, directory=directory, cgroup_id=status.st_ino, is_whole_host=is_root)


def _is_within(path: Path, directory: Path) -> bool:
    return path == directory or directory in path.parents


def _is_below(path: str, other: str) -> bool:
    """Whether a cgroup is another one or below it, both as paths from the mount."""
    return other == "/" or path == other or path.startswith(f"{other}/")
