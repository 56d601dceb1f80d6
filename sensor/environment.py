"""What this node's kernel and process allow, as plain facts: the only part of the preflight that touches the node.

Reads /proc, /sys and uname, and asks `sensor.trial` in a child. Whatever cannot be read is None, which is a fact too.
"""

import json
import os
import platform
import re
import resource
import subprocess
import sys
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

from sensor.enrich.cgroup_scope import CgroupScope, ScopeError, read_scope
from sensor.enrich.cgroup_tree import DEFAULT_CGROUP_PATH

# Loading bcc takes 0.2 s, on a cold disk some seconds.
TRIAL_TIMEOUT_SECONDS = 30.0
TRIED_PROBES = ("cgroup_skb", "ring", "raw_tracepoint", "uprobe", "kprobe", "tracepoint")
_LOCKDOWN = re.compile(r"\[(\w+)\]")


class KernelSide(Enum):
    """A set of programs that a start loads as one."""

    PACKETS = "packets"
    SYSCALLS = "system calls"
    TLS = "TLS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bcc:
    """The Python package `bcc` as a child found it; `problem` is empty where it is the operating system's and works."""

    problem: str
    version: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The facts of one node and process."""

    system: str  # `Linux`.
    kernel_release: str
    machine: str
    is_root: bool
    capabilities: int  # Effective, a bit each (capabilities(7)).
    cgroup_path: Path  # The setting.
    scope: CgroupScope | ScopeError  # What it asks for, or why that cannot be watched.
    is_hybrid: bool  # cgroup v1 hierarchies are mounted beside it.
    has_btf: bool
    lockdown: str | None  # none, integrity or confidentiality; None where the kernel has no lockdown.
    memlock_bytes: int  # Soft limit; -1 = unlimited.
    unprivileged_bpf_disabled: int | None
    jit: int | None
    bcc: Bcc
    probes: dict[str, str]  # TRIED_PROBES: empty where a real attempt worked, else why not.
    # The same of a start's own programs, by kernel side; one that was not tried is not in it.
    programs: dict[KernelSide, str] = field(default_factory=dict)


def read_environment(cgroup_path: Path = DEFAULT_CGROUP_PATH) -> Environment:
    """The facts of this node. 0.3 s; never raises."""
    scope: CgroupScope | ScopeError
    try:
        scope = read_scope(cgroup_path)
    except ScopeError as error:
        scope = error
    directory = scope.directory if isinstance(scope, CgroupScope) else None
    tried = run_trial([sys.executable, "-m", "sensor.trial", *([str(directory)] if directory else [])])
    return Environment(
        system=platform.system(),
        kernel_release=platform.release(),
        machine=platform.machine(),
        is_root=os.geteuid() == 0,
        capabilities=parse_capabilities(_read("/proc/self/status") or ""),
        cgroup_path=cgroup_path,
        scope=scope,
        is_hybrid=any(line.split(" ")[2:3] == ["cgroup"] for line in (_read("/proc/mounts") or "").splitlines()),
        has_btf=Path("/sys/kernel/btf/vmlinux").exists(),
        lockdown=parse_lockdown(_read("/sys/kernel/security/lockdown")),
        memlock_bytes=resource.getrlimit(resource.RLIMIT_MEMLOCK)[0],
        unprivileged_bpf_disabled=_read_number("/proc/sys/kernel/unprivileged_bpf_disabled"),
        jit=_read_number("/proc/sys/net/core/bpf_jit_enable"),
        bcc=Bcc(problem=tried["bcc"], version=tried["bcc_version"], path=tried["bcc_path"]),
        probes={name: tried[name] for name in TRIED_PROBES},
    )


def run_trial(command: list[str]) -> dict[str, str]:
    """The child's answers; where it fails as a whole, why, as the answer to everything it was to try."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=TRIAL_TIMEOUT_SECONDS, check=False)
        told = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 and done.stdout else None
        problem = f"the trial ended with status {done.returncode}"
    except subprocess.TimeoutExpired:
        told, problem = None, f"the trial took over {TRIAL_TIMEOUT_SECONDS:.0f} s"
    except (OSError, ValueError) as error:
        told, problem = None, f"the trial failed: {error}"
    answers = told if isinstance(told, dict) else {}
    missing = "" if answers else problem
    return {
        **{name: str(answers.get(name, missing)) for name in (*TRIED_PROBES, "bcc")},
        **{name: str(answers.get(name, "")) for name in ("bcc_version", "bcc_path")},
    }


def parse_capabilities(status: str) -> int:
    """The effective capabilities in the text of /proc/PID/status; 0 where it has none."""
    for line in status.splitlines():
        name, _, value = line.partition(":")
        if name == "CapEff":
            return int(value.strip() or "0", 16)
    return 0


def parse_lockdown(text: str | None) -> str | None:
    """The bracketed word of `none [integrity] confidentiality`."""
    match = _LOCKDOWN.search(text or "")
    return match[1] if match else None


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return None


def _read_number(path: str) -> int | None:
    try:
        return int(_read(path) or "")
    except ValueError:
        return None
