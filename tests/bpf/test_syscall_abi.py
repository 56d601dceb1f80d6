"""What crosses from bpf/syscalls.c equals its twin, and its programs pass the verifier with room to spare."""

import os
import platform
import re
import shutil
import struct
import subprocess

import pytest

from scripts.vm.images import RING_BYTES, find_images
from sensor.ebpf import abi as syscall_abi
from sensor.ebpf.compile import BPF_DIRECTORY
from sensor.ebpf.tracepoints import TRACEPOINTS, Btf, BtfError, ProbeSettings, find_constants, load_tracepoints
from tests.bpf.test_verifier import check_steps, read_steps

PRELUDE = """#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
typedef uint8_t u8; typedef uint16_t u16; typedef uint32_t u32; typedef uint64_t u64;
#include "syscall_events.h"
int main(void) {
"""
ACCOUNT_FIELDS = ("paid_ns", "reserve_ns", "calls", "breakpoints", "refused")
CONN_FIELDS = [
    "begun",
    "cgroup_id",
    "begun_size",
    "kind",
    "tries",
    "last",
    "is_server",
    "is_counted",
    "is_muted",
]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """What the C compiler says of the structs."""
    compiler = shutil.which("cc") or shutil.which("clang-19") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    names = {
        "syscall_event": syscall_abi.SyscallEvent._fields,
        "syscall_conn": tuple(CONN_FIELDS),
        "syscall_key": ("socket", "hash"),
        "account": ACCOUNT_FIELDS,
    }
    lines = [f'printf("{name} %zu\\n", sizeof(struct {name}));' for name in names]
    lines += [
        f'printf("{name}.{field} %zu\\n", offsetof(struct {name}, {field}));'
        for name, fields in names.items()
        for field in fields
    ]
    directory = tmp_path_factory.mktemp("abi")
    source, program = directory / "abi.c", directory / "abi"
    source.write_text(PRELUDE + "\n".join(lines) + "\nreturn 0;\n}\n")
    subprocess.run([compiler, f"-I{BPF_DIRECTORY}", "-o", str(program), str(source)], check=True)
    output = subprocess.run([program], capture_output=True, check=True, text=True).stdout
    return {name: int(value) for name, value in (line.split() for line in output.splitlines())}


def test_account(told: dict[str, int]) -> None:
    assert told["account"] == syscall_abi.ACCOUNT.size
    assert [told[f"account.{field}"] for field in ACCOUNT_FIELDS] == [0, 8, 16, 24, 32]


def test_event_fields_are_where_the_twin_reads_them(told: dict[str, int]) -> None:
    assert told["syscall_event"] == syscall_abi.SYSCALL_EVENT.size
    for index, name in enumerate(syscall_abi.SyscallEvent._fields):
        probe = bytearray(syscall_abi.SYSCALL_EVENT.size)
        probe[told[f"syscall_event.{name}"]] = 1
        values = syscall_abi.SYSCALL_EVENT.unpack(bytes(probe))
        assert [i for i, value in enumerate(values) if value not in (0, bytes(16))] == [index], name


def test_connection_fields_are_where_the_twin_writes_them(told: dict[str, int]) -> None:
    """The twin packs the two words of `begun` and the two bytes of `begun_size` one by one."""
    assert told["syscall_conn"] == syscall_abi.SYSCALL_CONN.size
    packed = syscall_abi.SYSCALL_CONN.pack(*range(1, 12))
    values = [struct.unpack_from("<Q", packed, told["syscall_conn.begun"] + 8 * index)[0] for index in (0, 1)]
    values += struct.unpack_from("<Q", packed, told["syscall_conn.cgroup_id"])
    values += [packed[told["syscall_conn.begun_size"] + index] for index in (0, 1)]
    values += [packed[told[f"syscall_conn.{name}"]] for name in CONN_FIELDS[3:]]
    assert values == list(range(1, 12))


def test_a_connections_key(told: dict[str, int]) -> None:
    assert told["syscall_key"] == syscall_abi.SYSCALL_KEY.size
    packed = syscall_abi.SYSCALL_KEY.pack(1, 2)
    assert struct.unpack_from("<Q", packed, told["syscall_key.socket"]) == (1,)
    assert struct.unpack_from("<I", packed, told["syscall_key.hash"]) == (2,)


@pytest.mark.parametrize(
    ("enum", "prefix", "twin"),
    [
        ("syscall_event_kind", "S_", syscall_abi.SyscallKind),
        ("syscall_counter", "Z_", syscall_abi.SyscallCounter),
    ],
)
def test_enums(enum: str, prefix: str, twin: type[syscall_abi.SyscallCounter]) -> None:
    text = re.sub(r"/\*.*?\*/", "", (BPF_DIRECTORY / "syscall_events.h").read_text(), flags=re.S)
    body = re.search(rf"enum {enum} {{(.*?)}};", text, re.S)
    assert body is not None
    members: dict[str, int] = {}
    for item in filter(None, (part.strip() for part in body[1].split(","))):
        member, _, value = (part.strip() for part in item.partition("="))
        members[member.removeprefix(prefix)] = int(value) if value else len(members)
    members.pop("COUNT", None)
    assert members == {member.name: member.value for member in twin}


@pytest.mark.kernel
@pytest.mark.parametrize("scope_id", [0, 7])
def test_programs_load_and_stay_below_the_limit(scope_id: int) -> None:
    if os.geteuid() != 0:
        pytest.skip("loading needs root")
    pytest.importorskip("bcc", reason="python3-bpfcc is not installed")
    program = load_tracepoints(ProbeSettings(ring_bytes=RING_BYTES, scope_id=scope_id), find_images())
    try:
        check_steps(read_steps(program.programs), TRACEPOINTS)
    finally:
        program.close()


def test_offsets_are_those_of_the_running_kernel() -> None:
    """Fields whose places never changed, so that a walk of the wrong type would show."""
    try:
        btf = Btf.read()
    except BtfError as error:
        pytest.skip(str(error))
    assert btf.find_field("sock", "__sk_common.skc_daddr") == (0, 4)
    assert btf.find_field("sock", "__sk_common.skc_v6_daddr")[1] == 16
    assert btf.find_field("fdtable", "max_fds") == (0, 4)
    assert btf.find_field("fdtable", "fd") == (8, 8)
    with pytest.raises(BtfError, match="struct sock has no field sk_nothing"):
        btf.find_field("sock", "sk_nothing")
    constants = find_constants(btf)
    assert constants["O_TABLE_FILES"] == 8
    assert constants["NR_SPLICE"] == {"x86_64": 275, "aarch64": 76}[platform.machine()]
