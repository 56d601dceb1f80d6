"""Every struct that crosses from the kernel equals its twin in size and offsets, and every number its enum member."""

import re
import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from sensor.kernel import abi
from sensor.kernel.compile import BPF_DIRECTORY, TAIL_CALLS
from sensor.kernel.machine import build_machine, defines

PRELUDE = """#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
typedef uint8_t u8; typedef uint16_t u16; typedef uint32_t u32; typedef uint64_t u64;
#undef __always_inline
#define __always_inline inline __attribute__((always_inline))
#include "events.h"
#include "http_machine.h"
int main(void) {
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """What the C compiler says of the structs."""
    compiler = shutil.which("cc") or shutil.which("clang-19") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    lines = [f'printf("{name} %zu\\n", offsetof(struct http_event, {name}));' for name in abi.KernelEvent._fields]
    lines += [
        f'printf("{name} %zu\\n", sizeof(struct {name}));'
        for name in ("http_event", "port_key", "port_count", "machine")
    ]
    directory = tmp_path_factory.mktemp("abi")
    source, program = directory / "abi.c", directory / "abi"
    source.write_text(PRELUDE + "\n".join(lines) + "\nreturn 0;\n}\n")
    subprocess.run([compiler, f"-I{BPF_DIRECTORY}", *defines(), "-o", str(program), str(source)], check=True)
    output = subprocess.run([program], capture_output=True, check=True, text=True).stdout
    return {name: int(value) for name, value in (line.split() for line in output.splitlines())}


def test_event_fields_are_where_the_twin_reads_them(told: dict[str, int]) -> None:
    assert told["http_event"] == abi.EVENT.size
    assert len(abi.KernelEvent._fields) == len(abi.EVENT.unpack(bytes(abi.EVENT.size)))
    for index, name in enumerate(abi.KernelEvent._fields):
        probe = bytearray(abi.EVENT.size)
        probe[told[name]] = 1
        values = abi.EVENT.unpack(bytes(probe))
        changed = [i for i, value in enumerate(values) if value not in (0, bytes(16))]
        assert changed == [index], name


def test_other_structs(told: dict[str, int]) -> None:
    assert told["port_key"] == abi.PORT_KEY.size
    assert told["port_count"] == abi.PORT_COUNT.size
    assert told["machine"] == len(build_machine().packed())
    assert struct.calcsize("<Q") * abi.COUNTERS_SIZE == 256


def _enum(text: str, name: str) -> dict[str, int]:
    body = re.search(rf"enum {name} {{(.*?)}};", re.sub(r"/\*.*?\*/", "", text, flags=re.S), re.S)
    assert body is not None, name
    members: dict[str, int] = {}
    for item in filter(None, (part.strip() for part in body[1].split(","))):
        member, _, value = (part.strip() for part in item.partition("="))
        members[member] = int(value) if value else len(members)
    return members


@pytest.mark.parametrize(
    ("enum", "prefix", "twin"),
    [
        ("event_kind", "E_", abi.EventKind),
        ("event_flag", "F_", abi.EventFlag),
        ("counter", "C_", abi.Counter),
        ("conn_kind", "K_", abi.ConnectionKind),
    ],
)
def test_enums(enum: str, prefix: str, twin: type[abi.Counter]) -> None:
    members = _enum((BPF_DIRECTORY / "events.h").read_text(), enum)
    members.pop("C_COUNT", None)
    assert {name.removeprefix(prefix): value for name, value in members.items()} == {m.name: m.value for m in twin}


def test_tail_calls_are_in_the_order_of_the_kernel_side() -> None:
    members = _enum((BPF_DIRECTORY / "conn.h").read_text(), "program")
    assert [name.removeprefix("PROGRAM_").lower() for name in sorted(members, key=members.__getitem__)] == list(
        TAIL_CALLS
    )


def test_kernel_side_stands_alone() -> None:
    """The folder holds C and its licence only, and every file says which licence it is under."""
    files = [path for path in Path(BPF_DIRECTORY).rglob("*") if path.is_file()]
    assert {path.suffix for path in files} <= {".c", ".h", ".md"}
    assert all("GPL-2.0-only OR Apache-2.0" in path.read_text() for path in files)
