"""Reads from /proc who holds a socket, in which cgroup each process is, and what it runs.

The root of the proc tree (proc(5)) is a parameter, so tests bring their own. A process may end between two reads. Then
the answer is None or empty, never an exception. Processes of other users need `CAP_SYS_PTRACE` or root.
"""

import contextlib
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from sensor.core.printable import make_path_printable, make_printable
from sensor.enrich.programs import Files, name_program

# Descriptors read of one process: a server opens its listeners before its connections, so they have low numbers.
MAX_DESCRIPTORS_PER_PROCESS = 4_096
# Processes read in one scan; above it the rest is counted as left out. A busy node has a few thousand.
MAX_PROCESSES = 32_768
# A command line is read to here: the program's name comes first.
_MAX_COMMAND_LINE_BYTES = 16_384
_SOCKET_LINK = re.compile(rb"socket:\[([0-9]+)\]")
_NETWORK_NAMESPACE_LINK = re.compile(rb"net:\[([0-9]+)\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process as it is now. `start_ticks` with `pid` says whether a later process is the same one."""

    pid: int
    start_ticks: int  # Clock ticks after boot.
    name: str  # Of the program, `sensor.enrich.processes`.
    executable: str  # File name of the executable; empty where it is not readable.
    cgroup_path: str  # In the v2 tree; `/` where the host keeps everything in v1.
    cgroup_v1_paths: tuple[str, ...]  # Of the v1 hierarchies of a hybrid host, each once, longest first.


@dataclass(frozen=True, slots=True, kw_only=True)
class SocketScan:
    """Who holds which sockets. `owners[inode]` are pids in ascending order."""

    owners: dict[int, tuple[int, ...]]
    unreadable_process_count: int
    left_out_count: int  # Processes and descriptors past the bounds.


class ProcessTable:
    """The processes of one node."""

    def __init__(self, root: Path = Path("/proc"), open_files: Callable[[Path, str], Files] | None = None) -> None:
        """`open_files` gives the files of a process, by its directory and its cgroup; without it, programs are named by
        their command lines alone."""
        self._root = str(root)
        self._open_files = open_files

    def pids(self) -> list[int]:
        """All process ids, ascending."""
        try:
            with os.scandir(self._root) as entries:
                return sorted(int(entry.name) for entry in entries if entry.name.isdecimal())
        except OSError:
            return []

    def process(self, pid: int) -> Process | None:
        """The process `pid`, or None when it has ended. 60 us."""
        stat = self._read_stat(pid)
        if stat is None:
            return None
        command, start_ticks = stat
        executable = make_path_printable(_read_link(f"{self._root}/{pid}/exe"))
        command_line = _read(f"{self._root}/{pid}/cmdline", _MAX_COMMAND_LINE_BYTES)
        unified, version1 = parse_cgroups(_read(f"{self._root}/{pid}/cgroup", 1 << 16))
        cgroup = unified if unified != "/" or not version1 else version1[0]
        return Process(
            pid=pid,
            start_ticks=start_ticks,
            name=name_program(
                executable=executable,
                command_line=_split_arguments(command_line),
                command=command,
                files=self._open_files(Path(self._root) / str(pid), cgroup) if self._open_files else None,
            ),
            executable=executable.rpartition("/")[2].removesuffix(" (deleted)"),
            cgroup_path=unified,
            cgroup_v1_paths=version1,
        )

    def find_self(self) -> int | None:
        """This process as the tree numbers it; None where the tree is of a PID namespace that does not have it."""
        link = _read_link(f"{self._root}/self")
        return int(link) if link.isdigit() else None

    def find_descriptor(self, pid: int, target: str) -> str | None:
        """The path of a descriptor of `pid` that is open on what /proc calls `target`; None where there is none, or it
        is not readable. 2-3 us a descriptor."""
        directory = f"{self._root}/{pid}/fd"
        try:
            numbers = os.listdir(directory)  # noqa: PTH208 - names only: a Path an entry would double the scan.
        except OSError:
            return None
        # What a process holds from its start on has low numbers.
        for number in sorted(numbers, key=int)[:MAX_DESCRIPTORS_PER_PROCESS]:
            path = f"{directory}/{number}"
            if _read_link(path) == target.encode():
                return path
        return None

    def find_network_namespace(self, pid: int) -> int | None:
        """Inode number of the network namespace of `pid`; None where it is not readable."""
        match = _NETWORK_NAMESPACE_LINK.fullmatch(_read_link(f"{self._root}/{pid}/ns/net"))
        return int(match[1]) if match else None

    def start_ticks(self, pid: int) -> int | None:
        """When `pid` started, or None when it has ended. 8 us."""
        stat = self._read_stat(pid)
        return stat[1] if stat else None

    def find_owners(self, inodes: Iterable[int]) -> SocketScan:
        """The processes that hold the sockets `inodes`. Reads every descriptor of the node: 2-3 us each."""
        wanted = set(inodes)
        owners: dict[int, list[int]] = {}
        unreadable = left_out = 0
        pids = self.pids()
        left_out += max(0, len(pids) - MAX_PROCESSES)
        for pid in pids[:MAX_PROCESSES]:
            held = self._sockets(pid)
            if held is None:
                unreadable += 1
                continue
            sockets, skipped = held
            left_out += skipped
            for inode in sockets & wanted:
                owners.setdefault(inode, []).append(pid)
        return SocketScan(
            owners={inode: tuple(pids) for inode, pids in owners.items()},
            unreadable_process_count=unreadable,
            left_out_count=left_out,
        )

    def find_any_owners(self, inodes: Iterable[int], *, first: Iterable[int]) -> dict[int, int]:
        """A process that holds each of the sockets `inodes`, those `first` and then the youngest before the others;
        ends when all are found.
        """
        wanted = set(inodes)
        owners: dict[int, int] = {}
        for pid in dict.fromkeys((*first, *reversed(self.pids()[-MAX_PROCESSES:]))):
            if not wanted:
                break
            held = self._sockets(pid)
            for inode in held[0] & wanted if held else ():
                owners[inode] = pid
            wanted -= owners.keys()
        return owners

    def network_namespaces(self) -> dict[int, int]:
        """One process (the lowest pid) of each network namespace by the namespace's inode number. 3 us a process."""
        found: dict[int, int] = {}
        for pid in self.pids()[:MAX_PROCESSES]:
            namespace = self.find_network_namespace(pid)
            if namespace is not None:
                found.setdefault(namespace, pid)
        return found

    def _sockets(self, pid: int) -> tuple[set[int], int] | None:
        """(socket inodes, descriptors past the bound) of one process; None where it is not readable or gone."""
        directory = f"{self._root}/{pid}/fd"
        try:
            numbers = os.listdir(directory)  # noqa: PTH208 - names only: a Path an entry would double the scan.
        except OSError:
            return None
        skipped = max(0, len(numbers) - MAX_DESCRIPTORS_PER_PROCESS)
        if skipped:
            numbers = sorted(numbers, key=int)[:MAX_DESCRIPTORS_PER_PROCESS]
        found: set[int] = set()
        for number in numbers:
            match = _SOCKET_LINK.fullmatch(_read_link(f"{directory}/{number}"))
            if match:
                found.add(int(match[1]))
        return found, skipped

    def _read_stat(self, pid: int) -> tuple[str, int] | None:
        """(command, start ticks) from /proc/PID/stat; the command may itself hold spaces and parentheses."""
        head, separator, tail = _read(f"{self._root}/{pid}/stat", 4_096).rpartition(b")")
        fields = tail.split()
        if not separator or len(fields) < 20:
            return None
        with contextlib.suppress(ValueError):
            return make_printable(head.partition(b"(")[2]), int(fields[19])
        return None


def parse_cgroups(content: bytes) -> tuple[str, tuple[str, ...]]:
    """(v2 path, v1 paths) of /proc/PID/cgroup: lines of `hierarchy:controllers:path` (cgroups(7)). Only a newline ends
    one, for the kernel takes any other byte in a name."""
    unified = "/"
    version1: set[str] = set()
    for line in content.split(b"\n"):
        hierarchy, _, rest = line.partition(b":")
        path = make_path_printable(rest.partition(b":")[2])
        if hierarchy == b"0":
            unified = path or "/"
        elif len(path) > 1:
            version1.add(path)
    return unified, tuple(sorted(version1, key=lambda path: (-len(path), path)))


def _split_arguments(command_line: bytes) -> list[str]:
    return [make_path_printable(one) for one in command_line.rstrip(b"\0").split(b"\0")] if command_line else []


def _read(path: str, limit: int) -> bytes:
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - str paths: thousands of reads a scan.
            return file.read(limit) or b""
    except OSError:
        return b""


def _read_link(path: str) -> bytes:
    try:
        return os.readlink(os.fsencode(path))  # noqa: PTH115 - thousands of reads a scan.
    except OSError:
        return b""
