"""Every program passes this kernel's verifier, with room to spare: older verifiers prune less."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from scripts.vm.images import describe_build, find_images
from sensor.ebpf.compile import TAIL_CALLS
from sensor.ebpf.loader import load_build

pytestmark = pytest.mark.kernel

# Of the verifier's one million steps.
STEPS_MAX = 800_000


def read_steps(programs: Mapping[str, int]) -> dict[str, int]:
    """Steps that the verifier took with each program, by its fd; kernels before 5.16 do not tell."""
    told = {name: Path(f"/proc/self/fdinfo/{fd}").read_text() for name, fd in programs.items()}
    return {
        name: int(found[1]) for name, text in told.items() if (found := re.search(r"verified_insns:\s*(\d+)", text))
    }


def check_steps(steps: Mapping[str, int], programs: tuple[str, ...]) -> None:
    """Fails where a program is near the limit, or its steps are not told although the kernel tells them."""
    print({name: f"{count:,}" for name, count in steps.items()})
    assert set(steps) == set(programs) or not steps
    assert all(0 < count <= STEPS_MAX for count in steps.values()), steps


def test_all_programs_load_and_stay_below_the_limit() -> None:
    if os.geteuid() != 0:
        pytest.skip("loading needs root")
    pytest.importorskip("bcc", reason="python3-bpfcc is not installed")
    loaded = load_build(describe_build(), find_images())
    try:
        check_steps(read_steps(loaded.programs), TAIL_CALLS)
    finally:
        loaded.close()
