"""Every program passes this kernel's verifier, with room to spare: older verifiers prune less."""

import json
import os
import subprocess
import sys

import pytest

from sensor.kernel.compile import PROGRAMS

pytestmark = pytest.mark.kernel

# Of the verifier's one million steps.
STEPS_MAX = 800_000

SCRIPT = """
import json, os
from pathlib import Path
os.environ["BCC_KERNEL_SOURCE"] = str(__import__("sensor.kernel.compile").kernel.compile.BPF_DIRECTORY / "include")
from bcc import BPF
from sensor.kernel.compile import PROGRAMS, compile_flags, read_source
bpf = BPF(text=read_source(), cflags=compile_flags(64, 64, True))
steps = {}
for name in PROGRAMS:
    fd = bpf.load_func(name, BPF.CGROUP_SKB).fd
    info = dict(line.split(":", 1) for line in Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines() if ":" in line)
    steps[name] = int(info.get("verified_insns", 0))
print(json.dumps(steps), flush=True)
os._exit(0)
"""


def test_all_programs_load_and_stay_below_the_limit() -> None:
    if os.geteuid() != 0:
        pytest.skip("loading needs root")
    pytest.importorskip("bcc", reason="python3-bpfcc is not installed")
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    steps = json.loads(done.stdout.splitlines()[-1])
    assert set(steps) == set(PROGRAMS)
    assert all(0 < count <= STEPS_MAX for count in steps.values()), steps
