"""Every struct that crosses from the kernel equals its twin in size and offsets, and every number its enum member."""

import re
import shutil
import struct
import subprocess
from enum import IntEnum
from pathlib import Path

import pytest

from sensor.coverage.unread import UnreadReason
from sensor.ebpf import abi
from sensor.ebpf import abi as stop_abi
from sensor.ebpf.compile import BPF_DIRECTORY, TAIL_CALLS
from sensor.ebpf.http1_states import build_machine, defines

PRELUDE = """#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
typedef uint8_t u8; typedef uint16_t u16; typedef uint32_t u32; typedef uint64_t u64;
#undef __always_inline
#define __always_inline inline __attribute__((always_inline))
#include "events.h"
#include "http2_events.h"
#include "http_machine.h"
#include "verdicts.h"
int main(void) {
"""

# Fields in the order in which the twin packs them.
TWINS: dict[str, tuple[str, struct.Struct]] = {
    "frames_event": (
        "time_ns connection sequence covered length lost left kind direction flags family local_port remote_port "
        "cgroup_id peer_cgroup_id local_address remote_address",
        abi.FRAMES_EVENT,
    ),
    "block_key": ("connection direction length bytes", abi.BLOCK_KEY),
    "block_entry": ("number at uses", abi.BLOCK_ENTRY),
    "waiting_stream": (" ".join(abi.WAITING_STREAM.names or ()), struct.Struct("<3Q6I2HB3s")),
    "stream_record": (" ".join(abi.STREAM_RECORD.names or ()), struct.Struct("<3Q6I2H4s")),
    "port_key": ("cgroup_id port kind", abi.PORT_KEY),
    "peer_key": ("cgroup_id address port family kind", abi.PEER_KEY),
    "unread_key": ("cgroup_id address port family reason", abi.UNREAD_KEY),
    "unread_count": ("calls bytes", abi.UNREAD_COUNT),
    "port_count": ("connections bytes late calls lost exchanges", abi.PORT_COUNT),
    "call_record": (" ".join(abi.RECORD.names or ()), struct.Struct("<7Q2I2Q2I3H2B2B2sI16sQ")),
    "root_key": ("cgroup_id host method address port role family", abi.ROOT_KEY),
    "edge_key": ("node shape hash", abi.EDGE_KEY),
    "edge": ("node flags", abi.EDGE),
    "leaf_key": ("node has_slash", abi.LEAF_KEY),
    "leaf": ("next_head_ns route first quiet classes", abi.LEAF),
    "name_bucket": ("entries", struct.Struct(f"<{abi.NAME_BUCKET.size}s")),
    "settings": (" ".join(abi.Settings._fields), abi.SETTINGS),
    "enforcement": ("generation alive_until_ns marks sip_key", stop_abi.ENFORCEMENT),
    "network_key": ("prefix address", stop_abi.NETWORK_KEY),
    "address_key": ("bytes", stop_abi.ADDRESS_KEY),
    "verdict": ("expires_ns is_scoped is_streamed", stop_abi.VERDICT),
    "verdict_scope": ("cgroup_id slot port", stop_abi.VERDICT_SCOPE),
    "stop_count": (" ".join(stop_abi.StopCount._fields), stop_abi.STOP_COUNT),
    "stop_event": (" ".join(stop_abi.StopEvent._fields), stop_abi.STOP_EVENT),
    "client_end": ("cgroup_id connection", abi.CLIENT_END),
    "overflow_key": ("cgroup_id port role status_class", abi.OVERFLOW_KEY),
    "overflow_count": ("calls request_bytes response_bytes duration_us", abi.OVERFLOW_COUNT),
}


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, int]:
    """What the C compiler says of the structs."""
    compiler = shutil.which("cc") or shutil.which("clang-19") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    lines = [f'printf("{name} %zu\\n", offsetof(struct http_event, {name}));' for name in abi.KernelEvent._fields]
    lines += [f'printf("{name} %zu\\n", sizeof(struct {name}));' for name in ("http_event", "machine", *TWINS)]
    lines += [
        f'printf("{name}.{field} %zu\\n", offsetof(struct {name}, {field}));'
        for name, (fields, _) in TWINS.items()
        for field in fields.split()
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


@pytest.mark.parametrize("name", TWINS)
def test_other_structs(told: dict[str, int], name: str) -> None:
    fields, twin = TWINS[name]
    assert told[name] == twin.size
    assert len(fields.split()) == len(twin.unpack(bytes(twin.size)))
    for index, field in enumerate(fields.split()):
        probe = bytearray(twin.size)
        probe[told[f"{name}.{field}"]] = 1
        values = twin.unpack(bytes(probe))
        changed = [i for i, value in enumerate(values) if (any(value) if isinstance(value, bytes) else value)]
        assert changed == [index], field


def test_record_array(told: dict[str, int]) -> None:
    assert abi.RECORD.itemsize == told["call_record"] == 128
    assert abi.RECORD.fields is not None
    assert {name: told[f"call_record.{name}"] for name in abi.RECORD.names or ()} == {
        name: field[1] for name, field in abi.RECORD.fields.items()
    }


def test_sizes(told: dict[str, int]) -> None:
    assert told["machine"] == len(build_machine().packed())
    assert struct.calcsize("<Q") * abi.COUNTERS_SIZE == 512
    sizes = dict(re.findall(r"(\w+), (\d+)(?:, NO_PREALLOC)?\);", (BPF_DIRECTORY / "cache_maps.h").read_text()))
    sizes["edge_signs"] = _define("EDGE_SIGNS")
    assert _define("MATCHED_STREAMS", "http2_events.h") == str(abi.MATCHED_STREAMS)
    assert {name: int(size) for name, size in sizes.items()} == {
        "settings": 1,
        "roots": 16_384,
        "edge_signs": abi.EDGE_SIGNS,
        "edges": 131_072,
        "leaves": 65_536,
        "profiles": 131_072,
        "budgets": 4_096,
        "body_budgets": 4_096,
        "record_shares": 1_024,
        "overflow": abi.OVERFLOW_SIZE,
    }


def _define(name: str, header: str = "events.h") -> str:
    found = re.search(rf"#define {name} (\d+)", (BPF_DIRECTORY / header).read_text())
    assert found is not None, name
    return found[1]


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
        ("stream_flag", "S_", abi.StreamFlag),
        ("record_flag", "R_", abi.RecordFlag),
        ("edge_flag", "E_", abi.EdgeFlag),
        ("segment_class", "SEGMENT_", abi.SegmentClass),
        ("token_kind", "T_", abi.TokenKind),
        ("name_kind", "N_", abi.NameKind),
        ("counter", "C_", abi.Counter),
        ("conn_kind", "K_", abi.ConnectionKind),
        ("block_use", "BLOCK_", abi.BlockUse),
        ("unread_reason", "UNREAD_", UnreadReason),
    ],
)
def test_enums(enum: str, prefix: str, twin: type[IntEnum]) -> None:
    members = _enum("".join((BPF_DIRECTORY / name).read_text() for name in ("events.h", "http2_events.h")), enum)
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
