"""What crosses from bpf/tls.c equals its twin, and its programs pass the verifier with room to spare."""

import os
import re
from enum import IntEnum, IntFlag

import pytest

from scripts.vm.images import RING_BYTES, find_images
from sensor.ebpf.abi import Binding, Library, SyscallCounter, TlsCounter
from sensor.ebpf.compile import BPF_DIRECTORY
from sensor.ebpf.tracepoints import ProbeSettings
from sensor.ebpf.uprobes import SOCKET_TRACEPOINTS, UPROBES, load_tls
from tests.bpf.test_verifier import check_steps, read_steps


@pytest.mark.parametrize(
    ("enum", "prefix", "twin"),
    [("tls_binding", "B_", Binding), ("tls_library", "L_", Library), ("tls_counter", "T_", TlsCounter)],
)
def test_enums(enum: str, prefix: str, twin: type[IntEnum] | type[IntFlag]) -> None:
    text = re.sub(r"/\*.*?\*/", "", (BPF_DIRECTORY / "tls_events.h").read_text(), flags=re.S)
    body = re.search(rf"enum {enum} {{(.*?)}};", text, re.S)
    assert body is not None
    members: dict[str, int] = {}
    for item in filter(None, (part.strip() for part in body[1].split(","))):
        member, _, value = (part.strip() for part in item.partition("="))
        members[member.removeprefix(prefix)] = int(value) if value else max(members.values()) + 1
    members.pop("COUNT", None)
    assert members == {member.name: member.value for member in twin}


def test_counters_share_one_array() -> None:
    assert min(TlsCounter) == max(SyscallCounter) + 1


@pytest.mark.kernel
@pytest.mark.parametrize("scope_id", [0, 7])
def test_programs_load_and_stay_below_the_limit(scope_id: int) -> None:
    if os.geteuid() != 0:
        pytest.skip("loading needs root")
    pytest.importorskip("bcc", reason="python3-bpfcc is not installed")
    program = load_tls(ProbeSettings(ring_bytes=RING_BYTES, scope_id=scope_id), find_images())
    try:
        check_steps(read_steps(program.programs), (*UPROBES, *SOCKET_TRACEPOINTS))
    finally:
        program.close()
