"""Each failing branch of the preflight with a broken fact, and the verdict; on the running kernel, that it tells the
truth.
"""

import dataclasses
import io
import json
import os
import struct
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from sensor.capture.java.consent import FILE_NAME
from sensor.core.config import CaptureWay
from sensor.core.read_tls import ReadTls
from sensor.ebpf.bpf_syscall import CGROUP_INET_EGRESS, CGROUP_INET_INGRESS
from sensor.enrich.cgroup_tree import WHOLE_HOST, CgroupScope, ScopeError
from sensor.preflight.checks import (
    TRIED_PROBES,
    Bcc,
    CheckStatus,
    Environment,
    KernelSide,
    check_environment,
    explain_failure,
    format_json,
    is_capture_possible,
    parse_capabilities,
    parse_kernel_release,
    parse_lockdown,
    print_checks,
    read_environment,
    run_preflight,
    run_trial,
)
from sensor.preflight.trial import find_entry_offset
from tests.bpf.cgroups import count_attached, in_cgroup
from tests.sensor.scopes import MOUNT, watch_cgroup, watch_host

GOOD = Environment(
    system="Linux",
    kernel_release="6.12.9-amd64",
    machine="x86_64",
    is_root=True,
    capabilities=(1 << 41) - 1,
    cgroup_path=Path("/sys/fs/cgroup"),
    scope=watch_host(),
    is_hybrid=False,
    has_btf=True,
    lockdown="none",
    memlock_bytes=8 << 20,
    unprivileged_bpf_disabled=2,
    jit=1,
    bcc=Bcc(problem="", version="0.31.0", path="/usr/lib/python3/dist-packages/bcc/__init__.py"),
    has_programs=False,
    probes=dict.fromkeys(TRIED_PROBES, ""),
)
NET_ADMIN_ONLY = 1 << 12
REFUSED = "loading the kernel side failed: program egress: Invalid argument; 463: (85) call bpf_probe_read#4"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@dataclasses.dataclass(frozen=True)
class Settings:
    """The part of the sensor's settings that the preflight takes."""

    cgroup_path: Path
    capture: CaptureWay = CaptureWay.AUTO
    read_tls: ReadTls = ReadTls.OFF
    directory: Path = Path("/etc/apidae")


def break_probe(name: str, problem: str) -> dict[str, Any]:
    return {"probes": {**GOOD.probes, name: problem}}


# What only capture by packets needs, each broken.
NO_PACKETS: tuple[dict[str, Any], ...] = (
    {"scope": WHOLE_HOST},
    break_probe("cgroup_skb", "attach: Operation not permitted (EPERM)"),
    {"programs": {KernelSide.PACKETS: REFUSED}},
)
# What only capture by system calls needs, each broken.
NO_FALLBACK: tuple[dict[str, Any], ...] = (
    {"kernel_release": "5.10.0"},
    {"machine": "aarch64"},
    break_probe("raw_tracepoint", "attach to sys_exit: No such file or directory (ENOENT)"),
    {"has_btf": False},
    {"lockdown": "confidentiality"},
    {"programs": {KernelSide.SYSCALLS: REFUSED}},
)


def test_good_node_passes_every_check() -> None:
    checks = check_environment(GOOD)
    told = json.loads(format_json(checks))
    assert (told["capture"], told["fallback_reason"]) == ("cgroup_skb", "")
    assert is_capture_possible(checks)
    assert explain_failure(checks) == ""
    assert {check.status for check in checks} == {CheckStatus.OK, CheckStatus.INFORMATION}


@pytest.mark.parametrize(
    ("broken", "name", "sentence"),
    [
        ({"system": "Darwin"}, "kernel", "run it on Linux"),
        ({"kernel_release": "5.4.0-generic"}, "kernel", "needs Linux 5.12 or later"),
        ({"kernel_release": "strange"}, "kernel", "needs Linux 5.12 or later"),
        ({"machine": "riscv64"}, "architecture", "x86_64 and aarch64 only"),
        ({"is_root": False, "capabilities": 0}, "capabilities", "Run the sensor as root"),
        ({"capabilities": NET_ADMIN_ONLY}, "capabilities", "Run the sensor as root"),
        # BPF and NET_ADMIN: the verifier refuses programs as large as ours without PERFMON.
        ({"capabilities": 1 << 39 | 1 << 12}, "capabilities", "CAP_PERFMON"),
        ({"scope": WHOLE_HOST}, "cgroup v2", "mount -t cgroup2"),
        (break_probe("cgroup_skb", "load: Operation not permitted (EPERM)"), "plaintext", "run it as root"),
        (break_probe("cgroup_skb", "attach: Operation not permitted (EPERM)"), "plaintext", "bpftool cgroup tree"),
        (break_probe("cgroup_skb", "load: Function not implemented (ENOSYS)"), "plaintext", "CONFIG_BPF_SYSCALL"),
        (break_probe("cgroup_skb", "attach: Invalid argument (EINVAL)"), "plaintext", "CONFIG_CGROUP_BPF"),
        (break_probe("cgroup_skb", "cgroup v2 is not mounted"), "plaintext", "Mount cgroup v2"),
        (break_probe("cgroup_skb", "attach: Out of luck (EWHAT)"), "plaintext", "report this sentence"),
        (break_probe("ring", "create: Invalid argument (EINVAL)"), "ring buffer", "needs Linux 5.8"),
        ({"bcc": Bcc(problem="absent: No module named 'bcc'", version="", path="")}, "bcc", "python3-bpfcc"),
        ({"bcc": Bcc(problem="broken: libbcc.so.0", version="", path="")}, "bcc", "python3-bpfcc"),
        ({"bcc": Bcc(problem="unrelated", version="", path="/v/bcc.py")}, "bcc", "pip uninstall bcc"),
    ],
)
def test_broken_fact_fails_with_its_fix(broken: dict[str, Any], name: str, sentence: str) -> None:
    checks = check_environment(dataclasses.replace(GOOD, **broken), CaptureWay.CGROUP_SKB)
    failed = [check for check in checks if check.status is CheckStatus.FAILED]
    assert len(failed) == 1
    assert failed[0].name.startswith(name)
    assert sentence in failed[0].advice
    assert not is_capture_possible(checks)
    assert explain_failure(checks).startswith(f"{failed[0].name} is {failed[0].observed}. ")


def test_no_compiler_is_needed_where_the_package_holds_the_programs() -> None:
    absent = Bcc(problem="absent: No module named 'bcc'", version="", path="")
    checks = check_environment(dataclasses.replace(GOOD, bcc=absent, has_programs=True))
    assert is_capture_possible(checks)
    (row,) = (check for check in checks if check.name == "bcc")
    assert row.status is CheckStatus.OK and row.observed == "not needed: the package holds the compiled programs"


@pytest.mark.parametrize("broken", NO_PACKETS)
def test_system_calls_stand_in_for_packets(broken: dict[str, Any]) -> None:
    checks = check_environment(dataclasses.replace(GOOD, **broken))
    assert is_capture_possible(checks)
    (excused,) = (check for check in checks if check.status is CheckStatus.WARNING)
    assert excused.advice.endswith("calls are captured by system calls (docs/internals/kernels.md).")
    console = Console(file=io.StringIO(), width=400)
    print_checks(checks, console)
    assert isinstance(console.file, io.StringIO)
    reason = f"{excused.name} is {excused.observed}"
    assert "works here, by system calls" in console.file.getvalue() and f"{reason}." in console.file.getvalue()
    told = json.loads(format_json(checks))
    assert (told["is_capture_possible"], told["capture"], told["fallback_reason"]) == (True, "syscalls", reason)


@pytest.mark.parametrize("fallback", NO_FALLBACK)
def test_nothing_stands_in_where_the_fallback_does_not_work(fallback: dict[str, Any]) -> None:
    both = {**fallback, "scope": WHOLE_HOST}
    assert is_capture_possible(check_environment(dataclasses.replace(GOOD, **both))) is False
    if "kernel_release" not in fallback:
        assert is_capture_possible(check_environment(dataclasses.replace(GOOD, **fallback)))
    checks = check_environment(dataclasses.replace(GOOD, **fallback), CaptureWay.SYSCALLS)
    assert "fallback (system calls)" in [check.name for check in checks if check.status is CheckStatus.FAILED]


def test_packets_are_not_needed_where_system_calls_are_asked_for() -> None:
    for broken in NO_PACKETS:
        environment = dataclasses.replace(GOOD, **broken)
        checks = check_environment(environment, CaptureWay.SYSCALLS)
        told = json.loads(format_json(checks))
        assert (told["is_capture_possible"], told["capture"], told["fallback_reason"]) == (True, "syscalls", "")
        assert not is_capture_possible(check_environment(environment, CaptureWay.CGROUP_SKB))


@pytest.mark.parametrize("way", CaptureWay)
def test_a_scope_that_cannot_be_kept_stops_every_way_of_capture(way: CaptureWay) -> None:
    """System calls would stand in for packets, and see what was not asked for."""
    problem = ScopeError("/srv, which is not a directory of cgroup v2 and has no mount of it below")
    checks = check_environment(dataclasses.replace(GOOD, scope=problem), way)
    assert not is_capture_possible(checks)
    assert explain_failure(checks) == str(problem)


def test_what_the_java_agent_needs_is_in_the_table_where_it_is_wanted(tmp_path: Path) -> None:
    def read_rows(settings: Settings, **facts: Any) -> list[tuple[CheckStatus, str]]:
        checks = run_preflight(settings, read=lambda _: dataclasses.replace(GOOD, **facts))  # type: ignore[arg-type]
        return [(check.status, check.observed) for check in checks if check.name == "Java agent"]

    settings = Settings(GOOD.cgroup_path, read_tls=ReadTls.AUTO, directory=tmp_path)
    assert read_rows(settings) == []
    (tmp_path / FILE_NAME).write_text("/system.slice/*\n")
    assert read_rows(dataclasses.replace(settings, read_tls=ReadTls.OFF)) == []
    # The chart's six: without SYS_CHROOT, SETUID and SETGID.
    chart = 1 << 39 | 1 << 38 | 1 << 12 | 1 << 2 | 1 << 19 | 1 << 21
    for facts, observed in (
        ({}, "may be put into the JVMs that java-attach names"),
        ({"capabilities": chart}, "without SYS_CHROOT, SETUID, SETGID"),
        ({"has_java_agent": False}, "this installation does not hold it"),
    ):
        environment = dataclasses.replace(GOOD, is_attaching_java=True, **facts)
        assert [row.observed for row in check_environment(environment) if row.name == "Java agent"] == [observed]
    assert len(read_rows(settings)) == 1


TOGETHER = "all processes of a library together can be read a part of the time"


@pytest.mark.parametrize(
    ("facts", "way", "status", "observed"),
    [
        ({"kernel_release": "6.10.2"}, CaptureWay.AUTO, CheckStatus.OK, "processes can be read a part of the time"),
        ({"kernel_release": "6.8.0-31"}, CaptureWay.AUTO, CheckStatus.OK, TOGETHER),
        ({"has_host_pids": False}, CaptureWay.AUTO, CheckStatus.OK, TOGETHER),
        ({"kernel_release": "6.1.0-13"}, CaptureWay.AUTO, CheckStatus.WARNING, "Linux 6.1.0-13"),
        ({"kernel_release": "6.12.1"}, CaptureWay.SYSCALLS, CheckStatus.WARNING, "capture by system calls"),
    ],
)
def test_what_auto_needs_is_in_the_table_where_it_is_set(
    facts: dict[str, Any], way: CaptureWay, status: CheckStatus, observed: str
) -> None:
    environment = dataclasses.replace(GOOD, is_reading_auto=True, **facts)
    checks = check_environment(environment, way)
    (row,) = [check for check in checks if check.name == "TLS turns"]
    assert (row.status, row.observed) == (status, observed)
    assert is_capture_possible(checks)
    assert "TLS turns" not in [check.name for check in check_environment(replace_auto(environment), way)]


def replace_auto(environment: Environment) -> Environment:
    return dataclasses.replace(environment, is_reading_auto=False)


def test_what_is_watched_is_in_the_table() -> None:
    scope = watch_cgroup(MOUNT / "system.slice/shop.service", MOUNT)
    for watched, sentence in ((scope, f"{scope.directory} and below"), (watch_host(), "the whole host")):
        checks = check_environment(dataclasses.replace(GOOD, scope=watched))
        assert is_capture_possible(checks)
        assert [check.observed for check in checks if check.name == "scope"] == [sentence]


@pytest.mark.parametrize(
    ("broken", "name", "status"),
    [
        ({"machine": "aarch64"}, "architecture", CheckStatus.WARNING),
        ({"capabilities": 1 << 39 | 1 << 38 | 1 << 12}, "capabilities", CheckStatus.WARNING),
        ({"lockdown": "confidentiality"}, "lockdown", CheckStatus.WARNING),
        ({"unprivileged_bpf_disabled": 0}, "unprivileged_bpf_disabled", CheckStatus.WARNING),
        ({"jit": 0}, "BPF JIT", CheckStatus.WARNING),
        ({"has_btf": False}, "BTF", CheckStatus.INFORMATION),
        (break_probe("kprobe", "ENOENT"), "kprobes", CheckStatus.INFORMATION),
        ({"lockdown": None}, "lockdown", CheckStatus.OK),
        ({"is_hybrid": True}, "cgroup v2", CheckStatus.OK),
        ({"programs": {KernelSide.TLS: REFUSED}}, "TLS programs", CheckStatus.WARNING),
    ],
)
def test_what_capture_does_not_need_does_not_stop_it(broken: dict[str, Any], name: str, status: CheckStatus) -> None:
    checks = check_environment(dataclasses.replace(GOOD, **broken))
    assert [check.status for check in checks if check.name == name] == [status]
    assert is_capture_possible(checks)


@pytest.mark.parametrize(("limit", "status"), [(65_536, CheckStatus.FAILED), (-1, CheckStatus.OK)])
def test_locked_memory_counts_before_it_was_charged_to_cgroups(limit: int, status: CheckStatus) -> None:
    """Linux 5.11; older kernels are refused for another reason, too, but told all that is wrong."""
    old = {"kernel_release": "5.10.0", "capabilities": (1 << 41) - 1 - (1 << 24), "memlock_bytes": limit}
    checks = check_environment(dataclasses.replace(GOOD, **old), CaptureWay.CGROUP_SKB)
    memlock = next(check for check in checks if check.name == "memlock")
    assert memlock.status is status
    assert ("LimitMEMLOCK=infinity" in memlock.advice) is (status is CheckStatus.FAILED)
    assert not is_capture_possible(checks)


def test_table_and_json_say_the_same() -> None:
    checks = check_environment(dataclasses.replace(GOOD, scope=WHOLE_HOST, has_btf=False, lockdown="[odd]"))
    console = Console(file=io.StringIO(), width=400)
    print_checks(checks, console)
    assert isinstance(console.file, io.StringIO)
    table = console.file.getvalue()
    told = json.loads(format_json(checks))
    assert (told["is_capture_possible"], told["capture"]) == (False, None)
    assert "Plaintext capture does not work here." in table
    for row in told["checks"]:
        assert row["name"] in table
        assert row["observed"] in table


def test_preflight_reads_and_checks() -> None:
    paths: list[Path] = []

    def read(path: Path) -> Environment:
        paths.append(path)
        return GOOD

    settings = Settings(cgroup_path=Path("/host/cgroup"))
    assert run_preflight(settings, read=read) == check_environment(GOOD)
    tried: dict[KernelSide, str] = dict.fromkeys(KernelSide, "")
    checks = run_preflight(settings, read=read, try_programs=lambda _: tried)
    assert checks == check_environment(dataclasses.replace(GOOD, programs=tried)) != check_environment(GOOD)
    assert paths == [Path("/host/cgroup")] * 2


def test_what_was_tried_is_what_is_said() -> None:
    def say(programs: dict[KernelSide, str]) -> dict[str, str]:
        return {check.name: check.observed for check in check_environment(dataclasses.replace(GOOD, programs=programs))}

    untried, tried = say({}), say({KernelSide.PACKETS: "", KernelSide.TLS: ""})
    assert untried["plaintext capture (cgroup_skb)"] == "a small program attached and detached"
    assert tried["plaintext capture (cgroup_skb)"] == "all programs loaded; a small program attached and detached"
    assert "TLS programs" not in untried and tried["TLS programs"] == "all programs loaded"
    refused = say({KernelSide.PACKETS: REFUSED, KernelSide.SYSCALLS: ""})
    assert refused["plaintext capture (cgroup_skb)"] == REFUSED
    assert refused["fallback (system calls)"].startswith("all programs loaded")


@pytest.mark.parametrize(
    ("release", "version"), [("6.18.44-fc-v657", (6, 18)), ("5.8.0-rc1", (5, 8)), ("6.1", (6, 1)), ("", (0, 0))]
)
def test_kernel_release_is_parsed(release: str, version: tuple[int, int]) -> None:
    assert parse_kernel_release(release) == version


def test_texts_of_the_node_are_parsed() -> None:
    assert parse_capabilities("Name:\tx\nCapEff:\t000001fffeffffff\n") == 0x1FFFEFFFFFF
    assert parse_capabilities("") == 0
    assert parse_lockdown("none [integrity] confidentiality\n") == "integrity"
    assert parse_lockdown(None) is None


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("raise SystemExit(3)", "the trial ended with status 3"),
        ("print('{')", "the trial failed"),
        ("print('[]')", "the trial ended with status 0"),
    ],
)
def test_trial_that_fails_is_the_reason_of_everything(script: str, reason: str) -> None:
    told = run_trial([sys.executable, "-c", script])
    assert all(reason in told[name] for name in (*TRIED_PROBES, "bcc"))


def test_trial_that_cannot_start_is_the_reason_of_everything(tmp_path: Path) -> None:
    assert "No such file" in run_trial([str(tmp_path / "absent")])["cgroup_skb"]


@given(st.binary(max_size=200))
def test_entry_of_no_program_is_an_error_of_the_system(head: bytes) -> None:
    with pytest.raises(OSError, match="no 64-bit ELF file"):
        find_entry_offset(head)


def test_entry_of_a_program_is_found_in_its_segment() -> None:
    header = b"\x7fELF\x02\x01\x01".ljust(16, b"\0") + struct.pack(
        "=HHIQQQIHHHHHH", 3, 62, 1, 0x5040, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    segment = struct.pack("=IIQQQQQQ", 1, 5, 0x1000, 0x5000, 0x5000, 0x800, 0x800, 0x1000)
    assert find_entry_offset(header + segment) == 0x1040


@pytest.mark.kernel
@needs_root
def test_this_node_can_be_captured() -> None:
    environment = read_environment()
    checks = check_environment(environment)
    assert is_capture_possible(checks), explain_failure(checks)
    assert isinstance(environment.scope, CgroupScope) and environment.scope.is_whole_host


@pytest.mark.kernel
@needs_root
def test_nothing_stays_attached_to_the_cgroup_that_was_tried() -> None:
    with in_cgroup("preflight") as cgroup:
        assert read_environment(cgroup).probes["cgroup_skb"] == ""
        assert [count_attached(cgroup, hook) for hook in (CGROUP_INET_INGRESS, CGROUP_INET_EGRESS)] == [0, 0]


def test_a_directory_that_is_not_a_cgroup_is_a_problem_of_the_scope(tmp_path: Path) -> None:
    scope = read_environment(tmp_path).scope
    assert isinstance(scope, ScopeError) and str(tmp_path) in scope.observed


@pytest.mark.kernel
@needs_root
def test_process_without_rights_is_told_so() -> None:
    command = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--reuid=65534", "--regid=65534", "--clear-groups"]
    scope = read_environment().scope
    assert isinstance(scope, CgroupScope)
    told = run_trial([*command, sys.executable, "-m", "sensor.preflight.trial", str(scope.directory)])
    assert told["cgroup_skb"] == "load: Operation not permitted (EPERM)"
