"""What the chart lets a sensor do is enough for all kernel sides, and whoever compiles them gets the same programs.

They are compiled, loaded and attached by a child with the capabilities of the chart's values, to which /proc/kallsyms
shows nothing: libbcc looks there for the names of helpers.
"""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from scripts.containers.rights import limit_capabilities, read_capabilities
from scripts.vm.images import is_emulated
from sensor.ebpf.compile import BPF_DIRECTORY
from sensor.ebpf.loader import compile_build
from tests.bpf.kernel_sides import KERNEL_SIDES, PACKETS_OF_THE_HOST, Outcome, digest_image

pytestmark = pytest.mark.kernel

TRIAL_SECONDS: Final = 300.0
FEWEST_CAPABILITIES: Final = ("BPF", "PERFMON", "NET_ADMIN")  # docs/use/kubernetes.md
# bpf_probe_read and bpf_probe_read_str, which read memory without saying whose. Programs on packets may not call them.
_OLD_HELPERS: Final = {4, 45}
# The default install's is in the gate.
SIDES: Final = [
    pytest.param(name, marks=[] if name == PACKETS_OF_THE_HOST else [pytest.mark.full("sensor.ebpf")])
    for name in KERNEL_SIDES
]


def try_in_child(home: Path, scratch: Path, capabilities: Sequence[str], side: str) -> Outcome:
    """What a child with these capabilities may do with a kernel side."""
    if is_emulated():
        pytest.skip("an emulated machine takes minutes to compile")
    nothing = scratch / "kallsyms"
    nothing.touch()
    trial = [sys.executable, "-m", "tests.bpf.kernel_sides", str(home), side]
    restricted = shlex.join(["setpriv", *limit_capabilities(capabilities), *trial])
    script = f"mount --bind {shlex.quote(str(nothing))} /proc/kallsyms; exec {restricted}"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", script], capture_output=True, text=True, timeout=TRIAL_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    outcome = Outcome(**json.loads(done.stdout))
    assert outcome.capabilities.bit_count() == len(capabilities) and not outcome.kallsyms_bytes
    return outcome


@pytest.mark.parametrize("side", SIDES)
def test_programs_load_and_attach_with_the_charts_rights_and_are_the_same_whoever_compiles_them(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, side: str
) -> None:
    outcome = try_in_child(home, tmp_path, read_capabilities(), side)
    assert outcome.problem == ""
    assert not {name: found for name, helpers in outcome.helpers.items() if (found := _OLD_HELPERS & set(helpers))}
    # Else a kept image would depend on who made it: with which rights, and with which variables that libbcc reads.
    monkeypatch.setenv("ARCH", "arm64")
    monkeypatch.setenv("BCC_LINUX_VERSION_CODE", "1")
    assert digest_image(compile_build(KERNEL_SIDES[side].build())) == outcome.digest


@pytest.mark.full("sensor.ebpf")
def test_packets_need_no_more_than_the_documented_fewest_rights(home: Path, tmp_path: Path) -> None:
    assert try_in_child(home, tmp_path, FEWEST_CAPABILITIES, PACKETS_OF_THE_HOST).problem == ""


def test_every_source_is_among_them() -> None:
    if os.geteuid() != 0:
        pytest.skip("the kernel's types are read by root")
    assert {side.build().source for side in KERNEL_SIDES.values()} == {file.name for file in BPF_DIRECTORY.glob("*.c")}
