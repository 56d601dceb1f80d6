"""What a sensor watches: one cgroup of version 2 and all below it, or the whole host.

A scope has two places. Names of cgroups are paths from the mount, whatever is watched; capture attaches to the scope's
directory. A socket belongs to the cgroup in which it was made, and an accepted one to that of its listener (kernel,
cgroup_sk_alloc and cgroup_sk_clone), so capture by packets and by system calls judges the socket's cgroup. A process
belongs to the cgroup in which it is.
"""

import os
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sensor.enrich.cgroup_tree import CGROUP1, CGROUP2, DEFAULT_CGROUP_PATH, CgroupTree, find_cgroup2_mount, list_mounts
from sensor.printable import make_path_printable

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
