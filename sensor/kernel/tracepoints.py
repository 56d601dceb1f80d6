"""Loads bpf/syscalls.c and attaches it to raw tracepoints (BPF_RAW_TRACEPOINT_OPEN, Linux 4.17): no cgroup, no tracefs.

Nothing is pinned: when the sensor ends, by whatever means, the kernel takes everything down.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sensor.kernel.btf import Btf, BtfError
from sensor.kernel.compile import Build
from sensor.kernel.image import PROG_TYPE_RAW_TRACEPOINT
from sensor.kernel.loader import LoadError, load_build
from sensor.kernel.syscall_offsets import syscall_flags
from sensor.kernel.syscalls import open_raw_tracepoint, update_map

# Programs of bpf/syscalls.c, named as the tracepoints they are for.
TRACEPOINTS: Final = ("inet_sock_set_state", "sys_exit")


@dataclass(slots=True, kw_only=True)
class TracepointProgram:
    """Open fds of what was loaded. `links` is empty while detached."""

    programs: dict[str, int]
    maps: dict[str, int]
    links: list[int]

    def attach(self) -> None:
        """Starts capture. Raises LoadError where the kernel refuses."""
        if self.links:
            return
        try:
            for name in TRACEPOINTS:
                self.links.append(open_raw_tracepoint(name, self.programs[name]))
        except OSError as error:
            self.detach()
            raise LoadError(
                f"attaching to the tracepoint {name} failed: {error.strerror}; it needs CONFIG_FTRACE_SYSCALLS, "
                "CAP_BPF and CAP_PERFMON"
            ) from error

    def detach(self) -> None:
        """Stops capture at once; attach() starts it again."""
        while self.links:
            os.close(self.links.pop())

    def close(self) -> None:
        """Detaches and frees everything."""
        self.detach()
        for fd in (*self.programs.values(), *self.maps.values()):
            os.close(fd)
        self.programs.clear()
        self.maps.clear()


@dataclass(frozen=True, slots=True, kw_only=True)
class TracepointSettings:
    """What is built into the programs."""

    ring_bytes: int  # A power of two of at least a page.
    scope_id: int = 0  # Of the cgroup that is watched with all below it; 0: all are.
    calls_per_second: int = 2_000  # Of each process that go up; of the node twice as many.
    calls_burst: int = 5_000


def build_syscalls(settings: TracepointSettings) -> Build:
    """The programs on system calls, for the running kernel. Raises LoadError where its types are not told."""
    try:
        offsets = syscall_flags(Btf.read())
    except BtfError as error:
        raise LoadError(f"capture by system calls is not possible here: {error}") from error
    flags = [
        f"-DRING_PAGES={settings.ring_bytes // os.sysconf('SC_PAGE_SIZE')}",
        f"-DIS_SCOPED={int(bool(settings.scope_id))}",
        # The client end of a loopback connection is left to its server end, which is watched too.
        f"-DLOOPBACK_IS_LOCAL={int(not settings.scope_id)}",
        f"-DCALLS_PER_SECOND={settings.calls_per_second}",
        f"-DCALLS_BURST={settings.calls_burst}",
        "-Wno-everything",
    ]
    return Build(
        source="syscalls.c", flags=[*offsets, *flags], programs=dict.fromkeys(TRACEPOINTS, PROG_TYPE_RAW_TRACEPOINT)
    )


def set_scope(maps: Mapping[str, int], scope_id: int) -> None:
    """Sets which cgroup programs look for that check cgroups themselves (bpf/scope.h), before they are attached."""
    if scope_id:  # Else they check none.
        update_map(maps["scope"], bytes(4), scope_id.to_bytes(8, "little"))


def load_tracepoints(settings: TracepointSettings, cache_directory: Path | None = None) -> TracepointProgram:
    """Compiles (or finds in the cache) and loads; attaches nothing. Raises LoadError."""
    loaded = load_build(build_syscalls(settings), cache_directory)
    set_scope(loaded.maps, settings.scope_id)
    return TracepointProgram(programs=loaded.programs, maps=loaded.maps, links=[])
