"""Which files with a library of TLS the processes of this node run, found when they start and when they map one later.

Reads a proc tree (proc(5)): the executable mappings of each process, soon after it started and then ever more seldom
(after 2, 4, 8, .. 64 s of its life), for what is mapped later. A file is looked at through the process's own root
(/proc/PID/root), so it may be in a container; one that was deleted or replaced since, as packages' upgrades do, through
the mapping itself (/proc/PID/map_files, needs CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN). Needs CAP_SYS_PTRACE for
processes of other users.

Containers of one image run one file, whose probes hold for all of them, and each names it by the device of its own
overlay (Linux 6.8, file_user_inode). There a file is told by its number, size and times, which overlays pass on as they
are below; where a container changed it, it has a copy of its own, with another time.
"""

import os
import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final

from sensor.enrich.budget import Budget

# Processes followed; a busy node has a few thousand.
MAX_PROCESSES: Final = 32_768
# A process's mappings are read to here; a JVM's are some 300 KB.
MAX_MAPS_BYTES: Final = 1 << 22
# Files of one process: its own and its libraries'.
MAX_FILES: Final = 512
LONGEST_REST_SECONDS: Final = 64.0
SCOPE_CORE_SHARE: Final = 0.01
# Of a file whose name says nothing, so many bytes of code may hold a library of TLS: BoringSSL has 1.5 MB, and what it
# is part of (curl's bindings for Python, for one) comes under any name. A process has five to ten such files.
MIN_CODE_BYTES: Final = 1 << 20
# Libraries by their file name; the executable itself is always looked at.
_LIBRARY_NAME: Final = re.compile(r"libssl[.-]|libgnutls\.|cygrpc\.|libnss3\.so|libssl3\.so|boringssl|libjvm\.so")
# A line of /proc/PID/mountinfo: numbers of the mount and of what it is mounted in, its device, .. its kind.
_OVERLAY: Final = re.compile(r"\d+ \d+ (\d+):(\d+) .* - overlay ")
_DELETED: Final = " (deleted)"  # As proc(5) ends a path that leads to this file no more.
_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class FileId:
    """One file of the node, whatever its path. On overlays `device` is 0 and `mark` tells files apart."""

    device: int
    inode: int
    mark: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mapping:
    """How one process has a file."""

    name: str  # Its path as the process sees it, " (deleted)" included.
    way: str  # From the process's directory in /proc to the file.


@dataclass(slots=True, kw_only=True)
class _Process:
    start_ticks: int
    next_look: float
    files: dict[FileId, _Mapping] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class MappedFile:
    """A file that may hold a library of TLS, and processes that run it."""

    file: FileId
    path: str  # Through /proc of the eldest process, which is likely to outlive the others.
    name: str  # Its path as the process sees it.
    pids: tuple[int, ...]


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
        self.unreadable = 0  # Processes whose mappings the sensor may not read, as of the last look.
        self.left_out = 0

    def look(self) -> list[MappedFile]:
        """Files that are run now, by processes that have lived long enough."""
        now = self._uptime()
        pids = self._list_pids()
        for gone in self._processes.keys() - set(pids):
            del self._processes[gone]
        self.left_out = max(0, len(pids) - MAX_PROCESSES)
        self.unreadable = 0
        for pid in pids[:MAX_PROCESSES]:
            self._look_at(pid, now)
        found: dict[FileId, list[int]] = {}
        for pid, process in self._processes.items():
            for file in process.files:
                found.setdefault(file, []).append(pid)
        return [self._describe(file, pids) for file, pids in found.items()]

    def _describe(self, file: FileId, pids: list[int]) -> MappedFile:
        eldest = min(pids, key=lambda pid: self._processes[pid].start_ticks)
        mapping = self._processes[eldest].files[file]
        return MappedFile(file=file, path=f"{self._proc}/{eldest}/{mapping.way}", name=mapping.name, pids=tuple(pids))

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
        age = now - start_ticks / _TICKS_PER_SECOND
        if process is None or process.start_ticks != start_ticks:
            process = self._processes[pid] = _Process(start_ticks=start_ticks, next_look=0.0)
        if age < self._min_age_seconds:
            process.next_look = now + self._min_age_seconds - age
            return
        process.next_look = now + min(max(age, 1.0), LONGEST_REST_SECONDS)
        files = self._read_files(pid)
        if files is None:
            self.unreadable += 1
        else:
            process.files = files

    def _read_start(self, pid: int) -> int | None:
        try:
            with open(f"{self._proc}/{pid}/stat", "rb", buffering=0) as file:  # noqa: PTH123 - thousands of reads.
                fields = file.read(4096).rpartition(b")")[2].split()
            return int(fields[19])
        except (OSError, ValueError, IndexError):
            return None

    def _read_files(self, pid: int) -> dict[FileId, _Mapping] | None:
        """Executable mappings; none of kernel threads. None where they may not be read."""
        try:
            with open(f"{self._proc}/{pid}/maps", "rb", buffering=0) as file:  # noqa: PTH123
                text = b"".join(iter(lambda: file.read(1 << 16), b""))[:MAX_MAPS_BYTES]
            executable = os.readlink(f"{self._proc}/{pid}/exe")  # noqa: PTH115
        except FileNotFoundError:
            return {}
        except OSError:
            return None
        files: dict[FileId, _Mapping] = {}
        overlays: set[int] | None = None
        for line in text.decode("utf-8", "surrogateescape").splitlines():
            fields = line.split(maxsplit=5)
            if len(fields) < 6 or "x" not in fields[1] or not fields[5].startswith("/"):
                continue
            path = fields[5]
            is_named = path == executable or _LIBRARY_NAME.search(path.rpartition("/")[2])
            if not is_named and _measure(fields[0]) < MIN_CODE_BYTES:
                continue
            file_id = parse_id(fields[3], fields[4])
            if file_id is None or len(files) >= MAX_FILES:
                continue
            way = f"map_files/{fields[0]}" if path.endswith(_DELETED) else f"root{path}"
            if not os.major(file_id.device):  # Of no disk's own.
                overlays = self._list_overlays(pid) if overlays is None else overlays
                if file_id.device in overlays:
                    file_id = self._find_below(file_id, f"{self._proc}/{pid}/{way}")
            files[file_id] = _Mapping(name=path, way=way)
        return files

    def _list_overlays(self, pid: int) -> set[int]:
        """Devices of the overlays that a process has mounted."""
        try:
            with open(f"{self._proc}/{pid}/mountinfo", "rb", buffering=0) as file:  # noqa: PTH123
                text = b"".join(iter(lambda: file.read(1 << 16), b""))[:MAX_MAPS_BYTES]
        except OSError:
            return set()
        found: set[int] = set()
        for line in text.decode("utf-8", "surrogateescape").splitlines():
            mount = _OVERLAY.match(line)
            if mount is not None:
                found.add(os.makedev(int(mount[1]), int(mount[2])))
        return found

    def _find_below(self, file: FileId, path: str) -> FileId:
        """The file that an overlay shows there; itself where that cannot be told."""
        try:
            status = os.stat(path)  # noqa: PTH116 - a path through /proc, which must not be resolved.
        except OSError:
            return file
        return FileId(device=0, inode=status.st_ino, mark=(status.st_size, status.st_mtime_ns, status.st_ctime_ns))


def _measure(addresses: str) -> int:
    """Bytes between two addresses of /proc/PID/maps."""
    start, _, end = addresses.partition("-")
    try:
        return int(end, 16) - int(start, 16)
    except ValueError:
        return 0


def parse_id(device: str, inode: str) -> FileId | None:
    """From the columns of /proc/PID/maps."""
    major, _, minor = device.partition(":")
    try:
        return FileId(device=os.makedev(int(major, 16), int(minor, 16)), inode=int(inode))
    except ValueError:
        return None
