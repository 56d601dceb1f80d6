"""Finds the files with TLS libraries that the processes of this node run, at their start and when they map one later.

Reads the executable mappings of each process in a proc tree (proc(5)): soon after its start, then after 2, 4, 8, .. 64
s of its life. Needs CAP_SYS_PTRACE for processes of other users.

A file is opened through the mapping itself (/proc/PID/map_files, CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN). Its path may
lead to another file by now, after a package upgrade or under another mount. Without that right it is opened through the
process's root (/proc/PID/root), because it may be in a container.

A file is known by device, number, size and times, so a changed file is another one. Containers of one image run one
file, and one set of probes serves all. But each names the file by the device of its own overlay (Linux 6.8,
file_user_inode). So on overlays the device does not count. The other figures are those of the layer below, unless the
container changed the file: then it has a copy with another time.

`CgroupShares` shares scarce resources along the cgroup tree. A branch counts with all that is below it. So whoever may
make cgroups below their own gets no larger share. Two cgroups are compared at the level where their paths part.
"""

import errno
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Final

from sensor.core.printable import make_path_printable
from sensor.enrich.budget import Budget
from sensor.enrich.processes import parse_cgroups
from sensor.enrich.user_files import LOCAL_TYPES, open_plain

# Deeper ones count as the one above: a Pod's container lies at the fourth or fifth level.
MAX_LEVELS: Final = 16

_Branch = tuple[str, ...]


class CgroupShares:
    """Amounts by cgroup."""

    def __init__(self) -> None:
        self._amounts: Counter[_Branch] = Counter()

    def add(self, cgroup: str, amount: int) -> None:
        """`amount` more, or with a negative one less, of a cgroup given by its path."""
        for branch in _list_branches(cgroup):
            self._amounts[branch] += amount
            if not self._amounts[branch]:
                del self._amounts[branch]

    def halve(self) -> None:
        """What was long ago counts less."""
        self._amounts = Counter({branch: amount // 2 for branch, amount in self._amounts.items() if amount > 1})

    def rank(self, cgroup: str) -> tuple[int, ...]:
        """By which cgroups are ordered: those whose branches have least come first."""
        return tuple(self._amounts[branch] for branch in _list_branches(cgroup))

    def find_lightest(self, cgroups: Iterable[str]) -> str:
        """The one that has least."""
        return min(cgroups, key=self.rank)

    def is_heavier(self, cgroup: str, other: str) -> bool:
        """Whether the first has so much more that, if the other took one of its own, it would still have as much."""
        for one, two in zip(_list_branches(cgroup), _list_branches(other), strict=False):
            if one != two:
                return self._amounts[one] > self._amounts[two] + 1
        return False


def _list_branches(cgroup: str) -> list[_Branch]:
    """From the top down; the last stands for the cgroup itself, beside what is below it."""
    names = tuple(cgroup.strip("/").split("/", MAX_LEVELS)[:MAX_LEVELS])
    return [*(names[:depth] for depth in range(1, len(names) + 1)), (*names, "")]


# Processes followed; a busy node has a few thousand.
MAX_PROCESSES: Final = 32_768
# A process's mappings are read to here; a JVM's are some 300 KB.
MAX_MAPS_BYTES: Final = 1 << 22
# Files of one process, its own and its libraries', and of all of them: some 250 bytes each.
MAX_FILES: Final = 64
MAX_MAPPINGS: Final = 131_072
# Cgroups that are named of a file.
MAX_CGROUPS: Final = 16
LONGEST_REST_SECONDS: Final = 64.0
SCOPE_CORE_SHARE: Final = 0.01
# Of a file whose name says nothing, so many bytes of code may hold a library of TLS: BoringSSL has 1.5 MB, and what it
# is part of (curl's bindings for Python, for one) comes under any name. A process has five to ten such files.
MIN_CODE_BYTES: Final = 1 << 20
# Libraries by their file name; the executable itself is always looked at.
_LIBRARY_NAME: Final = re.compile(rb"libssl[.-]|libgnutls\.|cygrpc\.|libnss3\.so|libssl3\.so|boringssl|libjvm\.so")
# A line of /proc/PID/maps that maps a file to be executed: addresses, device, number, path. Only a newline ends a line:
# a name may have any other byte.
_MAPPING: Final = re.compile(rb"([0-9a-f]+)-([0-9a-f]+) ..x. [0-9a-f]+ ([0-9a-f]+):([0-9a-f]+) (\d+) +(/.*)", re.DOTALL)
# A line of /proc/PID/mountinfo: numbers of the mount and of what it is mounted in, its device, .. its kind.
_MOUNT: Final = re.compile(rb"\d+ \d+ (\d+):(\d+) .* - (\S+) ", re.DOTALL)
TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class FileId:
    """One file of the node as it is, whatever its path. On overlays `device` is 0."""

    device: int
    inode: int
    size: int
    modified_ns: int
    changed_ns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mapping:
    """How one process has a file: ways to it from the process's directory in /proc, the surest first."""

    name: str  # Its path as the process sees it, printable.
    ways: tuple[str, str]


@dataclass(slots=True, kw_only=True)
class _Process:
    start_ticks: int
    next_look: float
    cgroup: str = "/"
    is_unreadable: bool = False
    files: dict[FileId, _Mapping] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ProcessPlace:
    """Which process a number stands for, and where it is: `start` in ticks since boot, and the path of its cgroup."""

    start: int
    cgroup: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MappedFile:
    """A file that may hold a library of TLS, and processes that run it."""

    file: FileId
    name: str  # Its path as its eldest process sees it, which is likely to outlive the others.
    pids: tuple[int, ...]
    cgroups: tuple[str, ...]  # Of the processes; some of them, where they are many.
    ways: tuple[str, ...]  # Paths to it through the eldest process.


class ProcessFiles:
    """What was read so far. Not thread-safe."""

    def __init__(
        self,
        proc: str,
        *,
        min_age_seconds: float,
        uptime: Callable[[], float],
        read_scope: Callable[[], Collection[int] | None] = lambda: None,
    ) -> None:
        """`read_scope` gives the processes that may be looked at; None: all."""
        self._proc = proc
        self._read_scope = read_scope
        self._scope: Collection[int] | None = None
        # Of a cgroup with thousands below it a reading takes tens of milliseconds.
        self._scope_budget = Budget(clock=uptime, minimum_rest_seconds=0.0, core_share=SCOPE_CORE_SHARE)
        self._min_age_seconds = min_age_seconds
        self._uptime = uptime
        self._processes: dict[int, _Process] = {}
        # As of the last look: processes whose mappings the sensor may not read, and those past a bound.
        self.unreadable = self.left_out = 0

    def look(self) -> list[MappedFile]:
        """Files that are run now, by processes that have lived long enough."""
        now = self._uptime()
        pids = self._list_pids()
        for gone in self._processes.keys() - set(pids):
            del self._processes[gone]
        for pid in pids[:MAX_PROCESSES]:
            self._look_at(pid, now)
        self.unreadable = sum(process.is_unreadable for process in self._processes.values())
        self.left_out = max(0, len(pids) - MAX_PROCESSES) + self._bound_mappings()
        found: dict[FileId, list[int]] = {}
        for pid, process in self._processes.items():
            for file in process.files:
                found.setdefault(file, []).append(pid)
        return [self._describe(file, pids) for file, pids in found.items()]

    def _bound_mappings(self) -> int:
        """Forgets files of processes of those cgroups that have most, where there are too many; of how many."""
        if sum(len(process.files) for process in self._processes.values()) <= MAX_MAPPINGS:
            return 0
        shares = CgroupShares()
        for process in self._processes.values():
            shares.add(process.cgroup, len(process.files))
        mappings = left_out = 0
        for process in sorted(self._processes.values(), key=lambda process: shares.rank(process.cgroup)):
            mappings += len(process.files)
            if mappings > MAX_MAPPINGS:
                process.files = {}
                left_out += 1
        return left_out

    def reread(self, pids: Collection[int]) -> set[int]:
        """Has the mappings of these processes read at the next look: one of their files is not what it was. Gives those
        that were not there at the last one."""
        for pid in pids:
            if pid in self._processes:
                self._processes[pid].next_look = 0.0
        return set(pids) - self._processes.keys()

    def find_place(self, pid: int) -> ProcessPlace:
        """Of a process of the last look."""
        process = self._processes[pid]
        return ProcessPlace(process.start_ticks, process.cgroup)

    def open_file(self, one: MappedFile) -> int:
        """A descriptor to read the very file. Raises OSError: FileNotFoundError also where another file is there."""
        error = OSError(errno.ENOENT, "no way leads to it")
        for way in one.ways:
            try:
                return _open(way, one.file)
            except OSError as failed:
                error = failed
        raise error

    def _describe(self, file: FileId, pids: list[int]) -> MappedFile:
        eldest = min(pids, key=lambda pid: self._processes[pid].start_ticks)
        mapping = self._processes[eldest].files[file]
        return MappedFile(
            file=file,
            name=mapping.name,
            pids=tuple(pids),
            cgroups=tuple({self._processes[pid].cgroup: None for pid in pids})[:MAX_CGROUPS],
            ways=tuple(f"{self._proc}/{eldest}/{way}" for way in mapping.ways),
        )

    def _list_pids(self) -> list[int]:
        try:
            with os.scandir(self._proc) as entries:
                pids = sorted(int(entry.name) for entry in entries if entry.name.isdecimal())
        except OSError:
            return []
        if self._scope_budget.is_open:
            self._scope_budget.run(self._reread_scope)
        return pids if self._scope is None else [pid for pid in pids if pid in self._scope]

    def _reread_scope(self) -> None:
        self._scope = self._read_scope()

    def _look_at(self, pid: int, now: float) -> None:
        process = self._processes.get(pid)
        if process is not None and now < process.next_look:
            return
        start_ticks = self._read_start(pid)
        if start_ticks is None:
            self._processes.pop(pid, None)
            return
        age = now - start_ticks / TICKS_PER_SECOND
        if process is None or process.start_ticks != start_ticks:
            process = self._processes[pid] = _Process(start_ticks=start_ticks, next_look=0.0)
        if age < self._min_age_seconds:
            process.next_look = now + self._min_age_seconds - age
            return
        process.next_look = now + min(max(age, 1.0), LONGEST_REST_SECONDS)
        files = self._read_files(pid)
        process.is_unreadable = files is None
        if files is not None:
            process.files, process.cgroup = files, self._read_cgroup(pid)

    def _read_start(self, pid: int) -> int | None:
        try:
            with open(f"{self._proc}/{pid}/stat", "rb", buffering=0) as file:  # noqa: PTH123 - thousands of reads.
                fields = file.read(4096).rpartition(b")")[2].split()
            return int(fields[19])
        except (OSError, ValueError, IndexError):
            return None

    def _read_cgroup(self, pid: int) -> str:
        """Of version 2; on a host that keeps everything in version 1, the longest path of that."""
        try:
            unified, version1 = parse_cgroups(self._read(pid, "cgroup"))
        except OSError:
            return "/"
        return version1[0] if unified == "/" and version1 else unified

    def _read(self, pid: int, name: str) -> bytes:
        with open(f"{self._proc}/{pid}/{name}", "rb", buffering=0) as file:  # noqa: PTH123
            return b"".join(iter(lambda: file.read(1 << 16), b""))[:MAX_MAPS_BYTES]

    def _read_files(self, pid: int) -> dict[FileId, _Mapping] | None:
        """Executable mappings; none of kernel threads. None where they may not be read."""
        try:
            content = self._read(pid, "maps")
            executable = os.readlink(os.fsencode(f"{self._proc}/{pid}/exe"))  # noqa: PTH115
        except FileNotFoundError:
            return {}
        except OSError:
            return None
        files: dict[FileId, _Mapping] = {}
        seen: set[tuple[bytes, ...]] = set()
        mounts: dict[int, bytes] | None = None
        for line in content.split(b"\n"):
            match = _MAPPING.fullmatch(line)
            if match is None or len(seen) >= MAX_FILES:
                continue
            start, end, major, minor, number, path = match.groups()
            is_named = path == executable or _LIBRARY_NAME.search(path.rpartition(b"/")[2])
            if (major, minor, number) in seen or (not is_named and int(end, 16) - int(start, 16) < MIN_CODE_BYTES):
                continue
            seen.add((major, minor, number))
            device = os.makedev(int(major, 16), int(minor, 16))
            if not os.major(device) and mounts is None:  # Of no disk's own.
                mounts = self._list_mounts(pid)
            kind = mounts.get(device, b"") if mounts is not None else b""
            if kind and kind not in LOCAL_TYPES:
                continue  # A user's own file system may never answer who looks at its files.
            # Without the zeros that lead low addresses in maps.
            ways = (f"map_files/{int(start, 16):x}-{int(end, 16):x}", f"root{os.fsdecode(path)}")
            file = self._identify(pid, ways, device, int(number), is_overlay=kind == b"overlay")
            if file is not None:
                files[file] = _Mapping(name=make_path_printable(path), ways=ways)
        return files

    def _identify(self, pid: int, ways: tuple[str, str], device: int, inode: int, *, is_overlay: bool) -> FileId | None:
        """The file as it is now; None where no way leads to a regular file that is it."""
        for way, is_it in zip(ways, (True, is_overlay), strict=True):
            try:
                status = os.stat(f"{self._proc}/{pid}/{way}")  # noqa: PTH116 - it must not be resolved.
            except OSError:
                continue
            if stat.S_ISREG(status.st_mode) and (is_it or status.st_ino == inode):
                return _make_id(0 if is_overlay else device, status)
        return None

    def _list_mounts(self, pid: int) -> dict[int, bytes]:
        """Kinds of the file systems that a process has mounted, by device."""
        try:
            content = self._read(pid, "mountinfo")
        except OSError:
            return {}
        mounts = (_MOUNT.match(line) for line in content.split(b"\n"))
        return {os.makedev(int(mount[1]), int(mount[2])): mount[3] for mount in mounts if mount is not None}


def read_cpu_ns(proc: str, pid: int) -> int:
    """Processor time that a process has used so far; 0 where it cannot be read."""
    try:
        with open(f"{proc}/{pid}/stat", "rb", buffering=0) as file:  # noqa: PTH123
            fields = file.read(4096).rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) * (1_000_000_000 // TICKS_PER_SECOND)
    except (OSError, ValueError, IndexError):
        return 0


def _make_id(device: int, status: os.stat_result) -> FileId:
    return FileId(
        device=device,
        inode=status.st_ino,
        size=status.st_size,
        modified_ns=status.st_mtime_ns,
        changed_ns=status.st_ctime_ns,
    )


def _open(way: str, file: FileId) -> int:
    """A path may lead to anything by now, and to open some files has effects or never ends: so it is looked at before
    it is opened for reading, by a descriptor that stands for it."""
    handle = os.open(way, os.O_PATH | os.O_CLOEXEC)
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or _make_id(file.device, status) != file:
            raise FileNotFoundError(errno.ENOENT, "another file is there by now", way)
        return open_plain(handle)
    finally:
        os.close(handle)
