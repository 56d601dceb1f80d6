"""Finds the memory of a Java agent among the descriptors of a process, and opens it.

The agent holds a file in memory (tmpfs) that has no name any more. The sensor opens it by its descriptor in /proc, so
it follows no path of the process. Anybody may hold any file, and to open some has effects, or never ends. So a
descriptor is looked at through a handle that opens nothing (O_PATH). That handle is what is opened, whatever the
process does meanwhile. A file system may never answer, so none is asked before the kernel says that the file lies in
memory which the process has mounted.
"""

import logging
import os
import re
import stat
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import Final

from sensor.enrich.processes import parse_cgroups
from sensor.enrich.user_files import MOUNTS_BYTES_MAX, find_mount, read_mount, read_mount_types

logger = logging.getLogger(__name__)

# Descriptors of a process that are looked at in one search, in their order. The agent's has a low number where it
# started early.
DESCRIPTORS_MAX: Final = 4_096
_CGROUP_BYTES_MAX: Final = 1 << 16
_RING_LINK: Final = re.compile(rb".*/apidae-java-[0-9a-f]{1,16} \(deleted\)", re.DOTALL)
_MEMORY: Final = b"tmpfs"
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC

FileKey = tuple[int, int]  # Device and inode.


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a process has: `fd` of the memory, or -1 and why it is not opened; empty where none was found. Whoever gets
    it closes it."""

    fd: int = -1
    key: FileKey = (0, 0)
    reason: str = ""
    next_number: int = 0  # Not 0: from this descriptor on it was not looked yet.


def open_directory(proc: str, pid: int) -> int:
    """A descriptor of a process's directory: it leads to this process, and to no later one with its number. Raises
    OSError."""
    return os.open(f"{proc}/{pid}", _DIRECTORY)


def read_at(directory: int, name: str, bytes_max: int) -> bytes:
    """A file of a process's directory. Raises OSError, also where the process has ended."""
    descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(bytes_max)
    finally:
        os.close(descriptor)


def read_start(directory: int) -> int:
    """When a process started, in ticks since boot: with its number it names it for good. Raises OSError where it has
    ended."""
    try:
        return int(read_at(directory, "stat", 4_096).rpartition(b")")[2].split()[19])
    except (ValueError, IndexError) as error:
        raise OSError("its status cannot be read") from error


def read_cgroup(directory: int) -> str:
    """The path of a process's cgroup: of version 2, or on a host that keeps everything in version 1, the longest of
    that. Raises OSError."""
    unified, version1 = parse_cgroups(read_at(directory, "cgroup", _CGROUP_BYTES_MAX))
    return version1[0] if unified == "/" and version1 else unified


def find_ring(directory: int, held: Container[FileKey], first: int = 0) -> Found:
    """The memory of an agent in a process, given its directory in /proc; nothing where it has none, or only one of
    `held`, which it shares with another process. `first`: where an earlier search ended."""
    try:
        descriptors = os.open("fd", _DIRECTORY, dir_fd=directory)
    except OSError:
        return Found()
    numbers: list[str] = []
    try:
        # Descriptor N is at position N + 2, behind the two names that each directory has.
        os.lseek(descriptors, first + 2 if first else 0, os.SEEK_SET)
        with os.scandir(descriptors) as entries:
            numbers = [entry.name for entry in islice(entries, DESCRIPTORS_MAX)]
        read_types = cache(lambda: read_mount_types(read_at(directory, "mountinfo", MOUNTS_BYTES_MAX)))
        for number in numbers:
            found = _look_at(directory, number, held, read_types)
            if found is not None:
                return found
    except OSError:
        return Found()  # It has ended.
    finally:
        os.close(descriptors)
    return Found(next_number=int(numbers[-1]) + 1 if len(numbers) == DESCRIPTORS_MAX else 0)


def _look_at(
    directory: int, number: str, held: Container[FileKey], read_types: Callable[[], Mapping[bytes, bytes]]
) -> Found | None:
    try:
        # Of bytes: its name may be anything.
        if not _RING_LINK.fullmatch(os.readlink(f"fd/{number}".encode(), dir_fd=directory)):
            return None
        # Even a handle may have its file system asked, as that of NFS.
        if read_types().get(read_mount(read_at(directory, f"fdinfo/{number}", 4_096))) != _MEMORY:
            return None
        handle = os.open(f"fd/{number}", os.O_PATH | os.O_CLOEXEC, dir_fd=directory)
    except OSError as error:
        logger.debug("descriptor %s of a Java process is not looked at: %s", number, error)
        return None
    try:
        if read_types().get(find_mount(handle)) != _MEMORY:  # It is another one by now.
            return None
        status = os.fstat(handle)
        key = status.st_dev, status.st_ino
        if not stat.S_ISREG(status.st_mode) or status.st_nlink or key in held:
            return None
        try:
            return Found(fd=os.open(f"/proc/self/fd/{handle}", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC), key=key)
        except OSError as error:
            return Found(reason=f"The memory of its Java agent cannot be opened: {error.strerror}.")
    finally:
        os.close(handle)
