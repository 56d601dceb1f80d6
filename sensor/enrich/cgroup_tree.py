"""From a cgroup id to its path: an index of the cgroup v2 tree, walked once and again when an id is missing.

Reads the mounted tree (an id is the inode number of the cgroup's directory: kernel
Documentation/admin-guide/cgroup-v2.rst and kernfs_id) and gives paths from its root. A cgroup younger than the index
is found by file handle, which costs one system call (open_by_handle_at(2) with a kernfs handle, as systemd's
cg_path_from_cgroupid does); where that is not permitted the tree is walked again, at most once in `min_walk_seconds`,
so that a storm of unknown ids costs nothing. A cgroup that is gone keeps its path for a while, and `add` takes those
that somebody else saw come (`sensor.enrich.cgroup_watch`): of a container that lived for a tenth of a second the calls
are read when it is gone. An id is never used again (kernfs counts its upper half up).
"""

import contextlib
import ctypes
import os
import re
import struct
import threading
from collections.abc import Callable
from pathlib import Path

from sensor.printable import make_path_printable

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
