"""Finds the memory of a Java agent among the descriptors of a process, and opens it.

The agent holds a file in memory (tmpfs) that has no name any more. The sensor opens it by its descriptor in /proc, so
it follows no path of the process. Anybody may hold any file, and to open some has effects, or never ends. So a
descriptor is looked at through a handle that opens nothing (O_PATH). That handle is what is opened, whatever the
process does meanwhile.
"""

import ctypes
import logging
import os
import re
import stat
from collections.abc import Container
from dataclasses import dataclass
from itertools import islice
from typing import Final

from sensor.enrich.processes import parse_cgroups

logger = logging.getLogger(__name__)

# Descriptors of a process that are looked at, in their order; the agent's has a low number, for it starts early.
DESCRIPTORS_MAX: Final = 4_096
_CGROUP_BYTES_MAX: Final = 1 << 16
_RING_LINK: Final = re.compile(rb".*/apidae-java-[0-9a-f]{1,16} \(deleted\)", re.DOTALL)
_TMPFS_MAGIC: Final = 0x01021994  # statfs(2)
_STATFS_BYTES: Final = 256
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_libc = ctypes.CDLL(None, use_errno=True)

FileKey = tuple[int, int]  # Device and inode.


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a process has: `fd` of the memory, or -1 and why it is not opened. Whoever gets it closes it."""

    fd: int = -1
    key: FileKey = (0, 0)
    reason: str = ""


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


def find_ring(directory: int, held: Container[FileKey]) -> Found | None:
    """The memory of an agent in a process, given its directory in /proc; None where it has none, or only one of `held`,
    which it shares with another process."""
    try:
        descriptors = os.open("fd", _DIRECTORY, dir_fd=directory)
    except OSError:
        return None
    try:
        with os.scandir(descriptors) as entries:
            numbers = [entry.name for entry in islice(entries, DESCRIPTORS_MAX)]
        for number in numbers:
            found = _look_at(descriptors, os.fsencode(number), held)
            if found is not None:
                return found
    except OSError:
        pass  # It has ended.
    finally:
        os.close(descriptors)
    return None


def _look_at(descriptors: int, number: bytes, held: Container[FileKey]) -> Found | None:
    try:
        if not _RING_LINK.fullmatch(os.readlink(number, dir_fd=descriptors)):
            return None
        handle = os.open(number, os.O_PATH | os.O_CLOEXEC, dir_fd=descriptors)
    except OSError as error:
        logger.debug("descriptor %s of a Java process is not looked at: %s", number.decode(), error)
        return None
    try:
        status = os.fstat(handle)
        key = status.st_dev, status.st_ino
        if not _is_memory(handle, status) or key in held:
            return None
        try:
            return Found(fd=os.open(f"/proc/self/fd/{handle}", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC), key=key)
        except OSError as error:
            return Found(reason=f"The memory of its Java agent cannot be opened: {error.strerror}.")
    finally:
        os.close(handle)


def _is_memory(handle: int, status: os.stat_result) -> bool:
    buffer = ctypes.create_string_buffer(_STATFS_BYTES)
    if _libc.fstatfs(handle, buffer):
        return False
    kind = int.from_bytes(buffer.raw[: ctypes.sizeof(ctypes.c_long)], "little")
    return kind == _TMPFS_MAGIC and stat.S_ISREG(status.st_mode) and not status.st_nlink
