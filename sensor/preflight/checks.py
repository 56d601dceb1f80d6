"""Checks before a start what works on this node and what does not, with advice for each finding.

`read_environment` reads the facts: /proc, /sys, uname, and `sensor.preflight.trial` in a child. What cannot be read is
None, which is a fact too. `check_environment` is pure and gives one `Check` a line of the table. Each row is one small
function, and a test breaks each fact in turn. Only a FAILED check stops capture. docs/use/preflight.md lists them.
"""

import enum
import json
import os
import platform
import re
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from sensor.capture.java.build import JAR
from sensor.capture.java.consent import FILE_NAME
from sensor.core.config import CaptureWay, SensorSettings
from sensor.core.read_tls import ReadTls
from sensor.ebpf.compile import has_shipped
from sensor.ebpf.uprobes import FIRST_CHOOSING, FIRST_LINKING, has_host_pids
from sensor.enrich.cgroup_tree import DEFAULT_CGROUP_PATH, CgroupScope, ScopeError, read_scope

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
    has_programs: bool  # The package holds them compiled for this machine, so bcc is not needed.
    probes: dict[str, str]  # TRIED_PROBES: empty where a real attempt worked, else why not.
    is_reading_auto: bool = False  # The setting read_tls is auto.
    has_host_pids: bool = True  # In the host's PID namespace.
    is_attaching_java: bool = False  # TLS is read, and the file java-attach names JVMs.
    has_java_agent: bool = True  # The package holds its jar.
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
    tried = run_trial([sys.executable, "-P", "-m", "sensor.preflight.trial", *([str(directory)] if directory else [])])
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
        has_programs=has_shipped(),
        probes={name: tried[name] for name in TRIED_PROBES},
    )


def run_trial(command: list[str]) -> dict[str, str]:
    """The child's answers; where it fails as a whole, why, as the answer to everything it was to try."""
    try:
        done = subprocess.run(command, capture_output=True, timeout=TRIAL_TIMEOUT_SECONDS, check=False)
        found = json.loads(done.stdout.splitlines()[-1]) if done.returncode == 0 and done.stdout else None
        problem = f"the trial ended with status {done.returncode}"
    except subprocess.TimeoutExpired:
        found, problem = None, f"the trial took over {TRIAL_TIMEOUT_SECONDS:.0f} s"
    except (OSError, ValueError) as error:
        found, problem = None, f"the trial failed: {error}"
    answers = found if isinstance(found, dict) else {}
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


if TYPE_CHECKING:
    from rich.console import Console

# Atomic operations that give the old value (5.12) are the youngest thing that both ways of capture need, as LLVM
# compiles them (docs/internals/kernels.md).
MIN_KERNEL = (5, 12)
# From here BPF memory is charged to the cgroup and RLIMIT_MEMLOCK no longer matters (kernel commit 3ac1f01b43b6).
MEMORY_CGROUP_KERNEL = (5, 11)
MIN_MEMLOCK_BYTES = 128 << 20
# include/uapi/linux/capability.h
_CAP_DAC_READ_SEARCH, _CAP_NET_ADMIN, _CAP_SYS_PTRACE, _CAP_SYS_ADMIN, _CAP_SYS_RESOURCE = 2, 12, 19, 21, 24
_CAP_PERFMON, _CAP_BPF = 38, 39
_CAP_SETGID, _CAP_SETUID, _CAP_SYS_CHROOT = 6, 7, 18
_BCC_FIX = "Install the operating system's package (apt-get install python3-bpfcc) and use a venv that sees it."


class CheckStatus(enum.Enum):
    """What a check means for capture of plaintext."""

    OK = "ok"
    WARNING = "warning"  # Capture works; something that people expect does not.
    FAILED = "failed"  # Capture does not work.
    INFORMATION = "information"  # Not needed for what this version does.


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of the table."""

    name: str
    status: CheckStatus
    observed: str
    advice: str = ""  # One or two sentences: what it means and the fix; empty where there is nothing to do.


def run_preflight(
    settings: SensorSettings,
    *,
    read: Callable[[Path], Environment] = read_environment,
    try_programs: Callable[[Environment], Mapping[KernelSide, str]] = lambda _: {},
) -> list[Check]:
    """The checks of this node, in the order of the table. 0.3 s, and what `try_programs` takes, which loads those of a
    start (`sensor.preflight.program_trial`); raises nothing else."""
    environment = replace(
        read(settings.cgroup_path),
        has_host_pids=has_host_pids(),
        is_reading_auto=settings.read_tls is ReadTls.AUTO,
        is_attaching_java=settings.read_tls is not ReadTls.OFF and (settings.directory / FILE_NAME).exists(),
        has_java_agent=JAR.exists(),
    )
    return check_environment(replace(environment, programs=dict(try_programs(environment))), settings.capture)


def check_environment(environment: Environment, way: CaptureWay = CaptureWay.AUTO) -> list[Check]:
    """The checks of an environment. Pure. What only packets need does not fail where system calls may be used."""
    checks = [check(environment) for check in _CHECKS]
    fallback = _check_fallback(environment)
    has_scope = isinstance(environment.scope, CgroupScope)
    if way is CaptureWay.SYSCALLS:
        checks = [_set_aside(check) if check.name in _OF_PACKETS else check for check in checks]
        if fallback.status is not CheckStatus.OK:
            fallback = replace(fallback, status=CheckStatus.FAILED)
    elif has_scope and way is CaptureWay.AUTO and fallback.status is CheckStatus.OK:
        checks = [_excuse(check) if check.name in _OF_PACKETS else check for check in checks]
    place = 1 + next(place for place, check in enumerate(checks) if check.name == _PACKETS)
    tls = [*_check_tls(environment), *_check_turns(environment, find_way([*checks, fallback]))]
    return [*checks[:place], fallback, *tls, *_check_java(environment), *checks[place:]]


def is_capture_possible(checks: Sequence[Check]) -> bool:
    """Whether plaintext capture works: the exit status of `apidae preflight` is 0 exactly then."""
    return not any(check.status is CheckStatus.FAILED for check in checks)


def explain_failure(checks: Sequence[Check]) -> str:
    """One line for a log or a terminal: what failed first, which is what causes the rest; empty where nothing did."""
    for check in checks:
        if check.status is CheckStatus.FAILED:
            return f"{check.name} is {check.observed}. {check.advice}".strip()
    return ""


def find_way(checks: Sequence[Check]) -> CaptureWay | None:
    """How calls would be captured; None where they cannot be."""
    if not is_capture_possible(checks):
        return None
    has_packets = all(check.status is CheckStatus.OK for check in checks if check.name in _OF_PACKETS)
    return CaptureWay.CGROUP_SKB if has_packets else CaptureWay.SYSCALLS


def find_fallback_reason(checks: Sequence[Check]) -> str:
    """Why calls would be captured by system calls, which nobody asked for; empty where packets can be."""
    return next((f"{check.name} is {check.observed}" for check in checks if check.advice.endswith(_EXCUSE)), "")


def print_checks(checks: Sequence[Check], console: "Console") -> None:
    """The table, and the verdict under it."""
    from rich.table import Table  # A sensor checks and prints nothing.

    table = Table(title="Apidae preflight", title_justify="left")
    for column in ("check", "status", "found", "what to do"):
        table.add_column(column, overflow="fold")
    for check in checks:
        colour = _COLOURS[check.status]
        table.add_row(check.name, f"[{colour}]{check.status.value}[/]", _plain(check.observed), _plain(check.advice))
    console.print(table)
    console.print(_summarise(checks), style="bold")


def _summarise(checks: Sequence[Check]) -> str:
    way, reason = find_way(checks), find_fallback_reason(checks)
    if way is None:
        return "Plaintext capture does not work here."
    if way is CaptureWay.SYSCALLS:
        why = f": {reason}" if reason else ""
        return f"Plaintext capture works here, by system calls at a higher cost (docs/internals/kernels.md){why}."
    return "Plaintext capture works here."


def format_json(checks: Sequence[Check]) -> str:
    """`{"is_capture_possible": bool, "capture": way or null, "fallback_reason", "checks": [{"name", "status",
    "observed", "advice"}]}` for `--json`."""
    rows = [{**asdict(check), "status": check.status.value} for check in checks]
    way = find_way(checks)
    verdict = {"is_capture_possible": way is not None, "capture": way.value if way is not None else None}
    return json.dumps({**verdict, "fallback_reason": find_fallback_reason(checks), "checks": rows}, indent=2)


_COLOURS = {
    CheckStatus.OK: "green",
    CheckStatus.WARNING: "yellow",
    CheckStatus.FAILED: "bold red",
    CheckStatus.INFORMATION: "dim",
}


def _plain(text: str) -> str:
    """Square brackets are markup to rich."""
    return text.replace("[", r"\[")


def parse_kernel_release(release: str) -> tuple[int, int]:
    """`6.18.44-amd64` is (6, 18); (0, 0) where it is no release."""
    match = re.match(r"(\d+)\.(\d+)", release)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def _check_kernel(environment: Environment) -> Check:
    observed = f"{environment.system} {environment.kernel_release}"
    if environment.system != "Linux":
        return _fail("kernel", observed, "The sensor reads the Linux kernel: run it on Linux.")
    if parse_kernel_release(environment.kernel_release) < MIN_KERNEL:
        advice = "Capture needs Linux 5.12 or later: use a newer kernel (Debian 12, Ubuntu 22.04 or later)."
        return _fail("kernel", observed, advice)
    return _pass("kernel", observed)


def _check_architecture(environment: Environment) -> Check:
    if environment.machine == "x86_64":
        return _pass("architecture", "x86_64")
    if environment.machine == "aarch64":
        return _warn("architecture", "aarch64", "Tested in an emulated machine only; TLS is not read.")
    return _fail("architecture", environment.machine, "The sensor runs on x86_64 and aarch64 only.")


def _check_capabilities(environment: Environment) -> Check:
    missing = [
        name
        # Without PERFMON the verifier is stricter, and refuses programs as large as ours (seen on 6.18).
        for bit, name in ((_CAP_BPF, "BPF"), (_CAP_NET_ADMIN, "NET_ADMIN"), (_CAP_PERFMON, "PERFMON"))
        if not _has(environment, bit) and not _has(environment, _CAP_SYS_ADMIN)
    ]
    if missing:
        who = "root" if environment.is_root else "not root"
        advice = "Run the sensor as root (sudo), or with CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON and CAP_SYS_ADMIN."
        return _fail("capabilities", f"{who}, without {', '.join(missing)}", advice)
    wanted = (
        (_CAP_SYS_ADMIN, "SYS_ADMIN: listeners in other network namespaces are not found"),
        (_CAP_SYS_PTRACE, "SYS_PTRACE: processes of other users are not named"),
        (_CAP_DAC_READ_SEARCH, "DAC_READ_SEARCH: new cgroups are named up to a second later"),
    )
    lost = [text for bit, text in wanted if not _has(environment, bit)]
    if lost:
        return _warn("capabilities", f"without {'; '.join(lost)}", "Add them to the sensor's unit or container.")
    return _pass("capabilities", "BPF, NET_ADMIN, PERFMON, SYS_ADMIN, SYS_PTRACE, DAC_READ_SEARCH")


def _check_scope(environment: Environment) -> Check:
    """What is watched; a scope that cannot be kept stops the start, whatever else works."""
    if isinstance(environment.scope, ScopeError):
        return _fail("scope", environment.scope.observed, environment.scope.advice)
    return _pass("scope", str(environment.scope))


def _check_cgroup(environment: Environment) -> Check:
    mount = environment.scope.mount if isinstance(environment.scope, CgroupScope) else None
    if mount is None:
        advice = (
            "Capture by packets attaches to cgroup v2: mount it (mkdir /sys/fs/cgroup/unified; mount -t cgroup2 none "
            "/sys/fs/cgroup/unified), boot with systemd.unified_cgroup_hierarchy=1, or set cgroup_path to where it is; "
            "in a container mount the host's /sys/fs/cgroup."
        )
        return _fail("cgroup v2", f"not mounted at or below {environment.cgroup_path}", advice)
    if environment.is_hybrid:
        return _pass(
            "cgroup v2",
            f"{mount} (hybrid)",
            "Containers are found by their processes, because version 1 hierarchies hold them.",
        )
    return _pass("cgroup v2", f"{mount} (unified)")


def _check_capture(environment: Environment) -> Check:
    problem = environment.probes["cgroup_skb"]
    if problem:
        return _fail(_PACKETS, problem, _advise_capture(problem))
    refusal = environment.programs.get(KernelSide.PACKETS)
    return _fail(_PACKETS, refusal, _REFUSED) if refusal else _pass(_PACKETS, _describe_attempts(refusal))


def _describe_attempts(refusal: str | None) -> str:
    """What worked; `refusal`: of the programs of a start, None where they were not tried."""
    small = "a small program attached and detached"
    return small if refusal is None else f"all programs loaded; {small}"


def _advise_capture(problem: str) -> str:
    """What the step and the error of the attempt mean."""
    for pattern, advice in _CAPTURE_ADVICE:
        if re.search(pattern, problem):
            return advice
    return "See docs/use/preflight.md, and report this sentence with the kernel's release."


_CAPTURE_ADVICE = (
    (
        r"^attach: .*EPERM",
        "Another program holds this cgroup for itself alone: find it with `bpftool cgroup tree` and remove it.",
    ),
    (
        r"EPERM|EACCES",
        "The process may not use BPF: run it as root; in a container its seccomp profile must let bpf(2) through.",
    ),
    (r"ENOSYS", "The kernel has no bpf(2) (CONFIG_BPF_SYSCALL), or a seccomp profile hides it."),
    (r"EINVAL", "The kernel lacks cgroup programs or links: it needs CONFIG_CGROUP_BPF and Linux 5.7 or later."),
    (r"not mounted", "Mount cgroup v2, see above."),
)


_REFUSED = "Report this sentence with the kernel's release."
# What capture by system calls does without.
_PACKETS = "plaintext capture (cgroup_skb)"
_OF_PACKETS = ("cgroup v2", _PACKETS)
_EXCUSE = "Until then calls are captured by system calls (docs/internals/kernels.md)."


def _excuse(check: Check) -> Check:
    """A failure that the fallback makes good."""
    if check.status is not CheckStatus.FAILED:
        return check
    return replace(check, status=CheckStatus.WARNING, advice=f"{check.advice} {_EXCUSE}")


def _set_aside(check: Check) -> Check:
    """Packets are not asked for; whether they could be captured stops nothing."""
    if check.name != _PACKETS and check.status is not CheckStatus.FAILED:
        return check
    return replace(check, status=CheckStatus.INFORMATION, advice="Not used: the setting capture is syscalls.")


def _check_fallback(environment: Environment) -> Check:
    """Whether calls could be captured by system calls; needed only where packets cannot be."""
    name, problem = "fallback (system calls)", environment.probes["raw_tracepoint"]
    if environment.system != "Linux" or parse_kernel_release(environment.kernel_release) < MIN_KERNEL:
        return _inform(name, f"{environment.system} {environment.kernel_release}", "It needs Linux 5.12 or later.")
    if environment.machine != "x86_64":
        return _inform(name, environment.machine, "It is written for x86_64 only.")
    if problem:
        return _inform(name, problem, "It needs CONFIG_FTRACE_SYSCALLS and the right to use BPF.")
    if not environment.has_btf:
        return _inform(name, "no BTF", "It needs the kernel's types: CONFIG_DEBUG_INFO_BTF.")
    if environment.lockdown == "confidentiality":
        return _inform(name, "lockdown is confidentiality", "Programs may not read kernel memory then, which it needs.")
    refusal = environment.programs.get(KernelSide.SYSCALLS)
    return _inform(name, refusal, _REFUSED) if refusal else _pass(name, _describe_attempts(refusal))


def _check_tls(environment: Environment) -> list[Check]:
    """A row where the settings have TLS read and its programs were tried."""
    refusal = environment.programs.get(KernelSide.TLS)
    if refusal is None:
        return []
    if refusal:
        return [_warn("TLS programs", refusal, f"Calls under TLS are not read; others are. {_REFUSED}")]
    return [_pass("TLS programs", "all programs loaded")]


def _check_turns(environment: Environment, way: CaptureWay | None) -> list[Check]:
    """A row where TLS is read as much as is not noticed, which needs that a process is read a part of the time."""
    if not environment.is_reading_auto or way is None:
        return []
    name, release = "TLS turns", environment.kernel_release
    has_kernel = parse_kernel_release(release) >= FIRST_LINKING and environment.machine == "x86_64"
    if has_kernel and way is CaptureWay.CGROUP_SKB:
        is_choosing = environment.has_host_pids and parse_kernel_release(release) >= FIRST_CHOOSING
        who = "processes" if is_choosing else "all processes of a library together"
        return [_pass(name, f"{who} can be read a part of the time")]
    observed = f"Linux {release}" if not has_kernel else "capture by system calls"
    advice = (
        "read_tls auto needs Linux 6.6 on x86_64 and capture by packets; else no TLS but that of Java is read. Use a "
        "newer kernel, or set read_tls to full, which reads up to heads_per_second calls whatever that adds to them."
    )
    return [_warn(name, observed, advice)]


def _check_java(environment: Environment) -> list[Check]:
    """A row where the Java agent is to be put into JVMs."""
    if not environment.is_attaching_java:
        return []
    name = "Java agent"
    if not environment.has_java_agent:
        return [
            _warn(name, "this installation does not hold it", "Run python -m sensor.capture.java.build with a JDK.")
        ]
    wanted = (
        (_CAP_SYS_CHROOT, "SYS_CHROOT"),
        (_CAP_SETUID, "SETUID"),
        (_CAP_SETGID, "SETGID"),
        (_CAP_SYS_PTRACE, "SYS_PTRACE"),
    )
    missing = [text for bit, text in wanted if not _has(environment, bit)]
    if missing:
        advice = (
            "It cannot be put into JVMs. In the chart set sensor.javaAttach; else add them to the unit or container."
        )
        return [_warn(name, f"without {', '.join(missing)}", advice)]
    return [_pass(name, "may be put into the JVMs that java-attach names")]


def _check_ring(environment: Environment) -> Check:
    problem = environment.probes["ring"]
    if problem:
        return _fail("ring buffer", problem, "BPF_MAP_TYPE_RINGBUF needs Linux 5.8 and the right to use BPF.")
    return _pass("ring buffer", "created")


def _check_bcc(environment: Environment) -> Check:
    bcc = environment.bcc
    if environment.has_programs:
        return _pass("bcc", "not needed: the package holds the compiled programs")
    if not bcc.problem:
        return _pass("bcc", f"{bcc.version} in {bcc.path}")
    if bcc.problem.startswith("unrelated"):
        advice = f"The package index's `bcc` has nothing to do with BPF: remove it (pip uninstall bcc). {_BCC_FIX}"
        return _fail("bcc", f"an unrelated package in {bcc.path}", advice)
    return _fail("bcc", bcc.problem, _BCC_FIX)


def _check_memlock(environment: Environment) -> Check:
    limit = environment.memlock_bytes
    observed = "unlimited" if limit < 0 else f"{limit // 1024} KiB"
    is_charged = parse_kernel_release(environment.kernel_release) >= MEMORY_CGROUP_KERNEL
    if is_charged or limit < 0 or limit >= MIN_MEMLOCK_BYTES or _has(environment, _CAP_SYS_RESOURCE):
        return _pass("memlock", observed)
    advice = "Before Linux 5.11 BPF maps count against it: set `ulimit -l unlimited` or LimitMEMLOCK=infinity."
    return _fail("memlock", observed, advice)


def _check_btf(environment: Environment) -> Check:
    if environment.has_btf:
        return _pass("BTF", "/sys/kernel/btf/vmlinux")
    return _inform("BTF", "absent", "Plaintext capture does without (CONFIG_DEBUG_INFO_BTF is off).")


def _check_lockdown(environment: Environment) -> Check:
    observed = environment.lockdown or "unknown (securityfs is not mounted, or the kernel has none)"
    if observed == "confidentiality":
        return _warn("lockdown", observed, "Programs may not read kernel memory; plaintext capture does not need to.")
    return _pass("lockdown", observed)


def _check_unprivileged_bpf(environment: Environment) -> Check:
    value = environment.unprivileged_bpf_disabled
    if value == 0:
        advice = (
            "Any user may load BPF programs; the sensor does not need that: set kernel.unprivileged_bpf_disabled=2."
        )
        return _warn("unprivileged_bpf_disabled", "0", advice)
    return _pass("unprivileged_bpf_disabled", "unknown" if value is None else str(value))


def _check_jit(environment: Environment) -> Check:
    if environment.jit == 0:
        return _warn("BPF JIT", "off", "Programs are interpreted, several times slower: set net.core.bpf_jit_enable=1.")
    return _pass("BPF JIT", "always on" if environment.jit is None else "on")


def _check_probe(name: str, label: str, advice: str) -> Callable[[Environment], Check]:
    def check(environment: Environment) -> Check:
        problem = environment.probes[name]
        if problem:
            return _inform(label, problem, advice)
        return _inform(label, "work")

    return check


_CHECKS: tuple[Callable[[Environment], Check], ...] = (
    _check_kernel,
    _check_architecture,
    _check_capabilities,
    _check_scope,
    _check_cgroup,
    _check_bcc,
    _check_capture,
    _check_ring,
    _check_memlock,
    _check_btf,
    _check_lockdown,
    _check_unprivileged_bpf,
    _check_jit,
    _check_probe("uprobe", "uprobes", "Reading calls under TLS needs them; plaintext capture does not."),
    _check_probe("kprobe", "kprobes", "Nothing in this version needs them."),
    _check_probe("tracepoint", "tracepoints", "Nothing in this version needs them."),
)


def _has(environment: Environment, bit: int) -> bool:
    return bool(environment.capabilities >> bit & 1)


def _pass(name: str, observed: str, advice: str = "") -> Check:
    return Check(name=name, status=CheckStatus.OK, observed=observed, advice=advice)


def _warn(name: str, observed: str, advice: str) -> Check:
    return Check(name=name, status=CheckStatus.WARNING, observed=observed, advice=advice)


def _fail(name: str, observed: str, advice: str) -> Check:
    return Check(name=name, status=CheckStatus.FAILED, observed=observed, advice=advice)


def _inform(name: str, observed: str, advice: str = "") -> Check:
    return Check(name=name, status=CheckStatus.INFORMATION, observed=observed, advice=advice)
