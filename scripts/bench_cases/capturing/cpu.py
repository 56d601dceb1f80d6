"""Processor time of processes and of BPF programs, read from /proc."""

import contextlib
import ctypes
import os
import re
import resource
import struct
from collections.abc import Callable
from pathlib import Path

from sensor.ebpf.bpf_syscall import CGROUP_INET_EGRESS, CGROUP_INET_INGRESS, call_bpf
from sensor.ebpf.run_time import enable_statistics
from sensor.enrich.cgroup_tree import find_cgroup2_mount

_PROG_QUERY = 16
_RUN_TIME = re.compile(r"^run_time_ns:\t(\d+)$", re.MULTILINE)


def read_cpu_seconds(pids: list[int]) -> float:
    """Time on a CPU of all threads of the processes (first field of schedstat, ns). What softirqs do while one of them
    runs is in it, as is what the kernel does of loopback's receiving end in the sender's system call."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def read_client_seconds() -> float:
    """CPU of ended children: the client, in the difference of two readings."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def read_program_ns(pid: int) -> int:
    """Run time of all BPF programs that a process holds open: what fdinfo says of them."""
    total = 0
    with contextlib.suppress(OSError):
        for info in Path(f"/proc/{pid}/fdinfo").iterdir():
            with contextlib.suppress(OSError):
                total += sum(map(int, _RUN_TIME.findall(info.read_text())))
    return total


def count_other_programs(pid: int) -> int:
    """Programs at the two hooks of the cgroup root that are not a process's own: they take part of what is measured.

    Asks for numbers only (BPF_PROG_QUERY), which holds nothing alive.
    """
    mount = find_cgroup2_mount(Path("/proc/mounts").read_text())
    if mount is None:
        return 0
    cgroup = os.open(mount, os.O_RDONLY | os.O_DIRECTORY)
    own = 0
    with contextlib.suppress(OSError):
        for info in Path(f"/proc/{pid}/fdinfo").iterdir() if pid else ():
            with contextlib.suppress(OSError):
                own += "link_type:\tcgroup" in info.read_text()
    try:
        return sum(_count_programs(cgroup, hook) for hook in (CGROUP_INET_INGRESS, CGROUP_INET_EGRESS)) - own
    finally:
        os.close(cgroup)


def _count_programs(cgroup: int, hook: int) -> int:
    # struct { target_fd, attach_type, query_flags, attach_flags; u64 prog_ids; u32 count; } of union bpf_attr.
    attributes = ctypes.create_string_buffer(struct.pack("<IIIIQI", cgroup, hook, 0, 0, 0, 0), 64)
    if call_bpf(_PROG_QUERY, attributes):
        return 0
    return int(struct.unpack_from("<I", attributes.raw, 24)[0])


def measure_program_ns(pid: int, run: Callable[[], int]) -> float:
    """Nanoseconds in BPF programs for each call that `run` makes; statistics are on meanwhile, which costs time of its
    own and is why this is no part of a measured round."""
    fd = enable_statistics()
    try:
        before = read_program_ns(pid)
        made = run()
        return (read_program_ns(pid) - before) / max(made, 1)
    finally:
        os.close(fd)
