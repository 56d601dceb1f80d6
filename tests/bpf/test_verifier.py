"""Every program passes this kernel's verifier, with room to spare: kernels count differently, by twice and more."""

import json
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from scripts.vm.images import describe_build, find_images
from scripts.vm.steps import MARK
from sensor.ebpf.compile import TAIL_CALLS
from sensor.ebpf.loader import GUARDS, load_build

pytestmark = pytest.mark.kernel

# Of the verifier's one million steps: a kernel that counts twice as many as this one still takes the program.
STEPS_MAX = 500_000
# Of all programs on packets in a sensor that does not enforce; a million take about a CPU-second.
START_STEPS_MAX = 3_000_000


def read_steps(programs: Mapping[str, int]) -> dict[str, int]:
    """Steps that the verifier took with each program, by its fd; kernels before 5.16 do not report them."""
    texts = {name: Path(f"/proc/self/fdinfo/{fd}").read_text() for name, fd in programs.items()}
    return {
        name: int(found[1]) for name, text in texts.items() if (found := re.search(r"verified_insns:\s*(\d+)", text))
    }


def check_steps(steps: Mapping[str, int], programs: tuple[str, ...]) -> None:
    """Fails where a program is near the limit, or its steps are not reported although the kernel reports them. Prints
    them for `scripts.vm.steps`."""
    print(f"\n{MARK}{json.dumps({'release': os.uname().release, 'steps': dict(steps)})}")
    assert set(steps) == set(programs) or not steps
    assert all(0 < count <= STEPS_MAX for count in steps.values()), steps


def test_all_programs_load_and_stay_below_the_limit() -> None:
    if os.geteuid() != 0:
        pytest.skip("loading needs root")
    pytest.importorskip("bcc", reason="python3-bpfcc is not installed")
    started = time.process_time()  # Without the compiler's, which is another process.
    loaded = load_build(describe_build(), find_images())
    try:
        print(f"\n{time.process_time() - started:.2f} CPU-seconds for all programs on packets")
        steps = read_steps(loaded.programs)
        check_steps(steps, TAIL_CALLS)
        assert sum(count for name, count in steps.items() if name not in GUARDS) <= START_STEPS_MAX
    finally:
        loaded.close()
