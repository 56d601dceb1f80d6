"""What the chart lets a sensor do is enough for all kernel sides, and whoever compiles them gets the same programs.

They are compiled, loaded and attached by a child with the capabilities of the chart's values, to which /proc/kallsyms
shows nothing: libbcc looks there for the names of helpers.
"""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import pytest

from scripts.containers.rights import limit_capabilities, read_capabilities
from scripts.vm.images import find_images
from sensor.kernel.compile import BPF_DIRECTORY
from sensor.kernel.loader import compile_build
from tests.bpf.kernel_sides import KERNEL_SIDES, PACKETS_OF_THE_HOST, Outcome, digest_image

pytestmark = pytest.mark.kernel

TRIAL_SECONDS: Final = 300.0
FEWEST_CAPABILITIES: Final = ("BPF", "PERFMON", "NET_ADMIN")  # docs/kubernetes-install.md
# bpf_probe_read and bpf_probe_read_str, which read memory without saying whose. Programs on packets may not call them.
_OLD_HELPERS: Final = {4, 45}


def try_sides(home: Path, scratch: Path, capabilities: Sequence[str], sides: Iterable[str]) -> dict[str, Any]:
    """What a child with these capabilities found out."""
    if find_images() is not None:
        pytest.skip("an emulated machine takes minutes to compile")
    nothing = scratch / "kallsyms"
    nothing.touch()
    trial = [sys.executable, "-m", "tests.bpf.kernel_sides", str(home), *sides]
    restricted = shlex.join(["setpriv", *limit_capabilities(capabilities), *trial])
    script = f"mount --bind {shlex.quote(str(nothing))} /proc/kallsyms; exec {restricted}"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", script], capture_output=True, text=True, timeout=TRIAL_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    answers: dict[str, Any] = json.loads(done.stdout)
    return answers


@pytest.fixture(scope="module")
def told(home: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of all sides, with the chart's capabilities."""
    return try_sides(home, tmp_path_factory.mktemp("rights"), read_capabilities(), KERNEL_SIDES)


@pytest.fixture(params=KERNEL_SIDES)
def side(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_child_has_the_rights_of_the_chart_alone(told: dict[str, Any]) -> None:
    assert told["capabilities"].bit_count() == len(read_capabilities())
    assert told["kallsyms"] == 0


def test_every_program_loads_and_attaches_with_the_rights_of_the_chart(told: dict[str, Any], side: str) -> None:
    assert Outcome(**told[side]).problem == ""


def test_packets_need_no_more_than_the_documented_fewest_rights(home: Path, tmp_path: Path) -> None:
    told = try_sides(home, tmp_path, FEWEST_CAPABILITIES, [PACKETS_OF_THE_HOST])
    assert told["capabilities"].bit_count() == len(FEWEST_CAPABILITIES)
    assert told[PACKETS_OF_THE_HOST]["problem"] == ""


def test_no_program_reads_memory_without_saying_whose(told: dict[str, Any], side: str) -> None:
    wrong = {name: found for name, numbers in told[side]["helpers"].items() if (found := _OLD_HELPERS & set(numbers))}
    assert not wrong


def test_programs_are_the_same_whoever_compiles_them(
    told: dict[str, Any], side: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a kept image would depend on who made it: with which rights, and with which variables that libbcc reads."""
    monkeypatch.setenv("ARCH", "arm64")
    monkeypatch.setenv("BCC_LINUX_VERSION_CODE", "1")
    assert digest_image(compile_build(KERNEL_SIDES[side].build())) == told[side]["digest"]


def test_every_source_is_among_them() -> None:
    if os.geteuid() != 0:
        pytest.skip("the kernel's types are read by root")
    assert {side.build().source for side in KERNEL_SIDES.values()} == {file.name for file in BPF_DIRECTORY.glob("*.c")}
