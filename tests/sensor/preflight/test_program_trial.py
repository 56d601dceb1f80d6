"""Which programs of a start the preflight loads, and that it leaves kept images alone; then the real ones, on this
kernel.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from scripts.containers.rights import limit_capabilities, read_capabilities
from sensor.core.config import SensorSettings
from sensor.core.read_tls import ReadTls
from sensor.ebpf.compile import Build, Image, ImageCache, make_digest
from sensor.ebpf.loader import LoadError
from sensor.enrich.cgroup_tree import ScopeError
from sensor.preflight import program_trial
from sensor.preflight.checks import KernelSide
from sensor.preflight.program_trial import try_programs
from tests.sensor.preflight.test_preflight import GOOD

COMMAND_SECONDS: Final = 180.0
REFUSED: Final = "loading the kernel side failed: program egress: Invalid argument; 463: (85) call bpf_probe_read#4"
SMALL_FAILED: Final = "attach: Operation not permitted (EPERM)"
IMAGE: Final = Image(maps=[], programs=[], tail_calls=[])

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


class Kernel:
    """What would load, and what was asked to."""

    def __init__(self) -> None:
        self.refused: set[KernelSide] = set()
        self.asked: list[KernelSide] = []
        self.is_closed = True

    def load(self, side: KernelSide) -> "Kernel":
        assert self.is_closed, "one set of programs at a time"
        self.asked.append(side)
        if side in self.refused:
            raise LoadError(REFUSED)
        self.is_closed = False
        return self

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel()
    loaders = {
        "load_packets_program": KernelSide.PACKETS,
        "load_tracepoints": KernelSide.SYSCALLS,
        "load_tls_program": KernelSide.TLS,
    }
    for name, side in loaders.items():
        monkeypatch.setattr(program_trial, name, lambda *_, side=side: made.load(side))
    return made


def make_settings(state_dir: Path, **given: Any) -> SensorSettings:
    return SensorSettings(collector="localhost:7443", state_dir=state_dir, **{"read_tls": ReadTls.OFF, **given})


@pytest.mark.parametrize(
    ("given", "refused", "told"),
    [
        ({}, set(), {KernelSide.PACKETS: ""}),
        ({}, {KernelSide.PACKETS}, {KernelSide.PACKETS: REFUSED, KernelSide.SYSCALLS: ""}),
        ({"capture": "cgroup_skb"}, {KernelSide.PACKETS}, {KernelSide.PACKETS: REFUSED}),
        ({"capture": "syscalls"}, {KernelSide.PACKETS}, {KernelSide.SYSCALLS: ""}),
        ({"read_tls": ReadTls.FULL}, {KernelSide.TLS}, {KernelSide.PACKETS: "", KernelSide.TLS: REFUSED}),
    ],
)
def test_programs_of_a_start_with_these_settings_are_tried(
    tmp_path: Path, kernel: Kernel, given: dict[str, Any], refused: set[KernelSide], told: dict[KernelSide, str]
) -> None:
    kernel.refused = refused
    assert try_programs(make_settings(tmp_path, **given), GOOD) == told
    assert kernel.asked == list(told) and kernel.is_closed


def test_no_programs_are_tried_where_small_ones_failed(tmp_path: Path, kernel: Kernel) -> None:
    failed = replace(GOOD, probes=dict.fromkeys(GOOD.probes, SMALL_FAILED))
    assert try_programs(make_settings(tmp_path, read_tls=ReadTls.FULL), failed) == {KernelSide.TLS: SMALL_FAILED}
    no_packets = replace(GOOD, probes={**GOOD.probes, "cgroup_skb": SMALL_FAILED})
    assert try_programs(make_settings(tmp_path), no_packets) == {KernelSide.SYSCALLS: ""}
    assert kernel.asked == [KernelSide.SYSCALLS]


def test_no_programs_are_tried_where_the_scope_cannot_be_watched(tmp_path: Path, kernel: Kernel) -> None:
    odd = replace(GOOD, scope=ScopeError("/tmp, which is not a directory of cgroup v2"))
    assert try_programs(make_settings(tmp_path, read_tls=ReadTls.FULL), odd) == {} and not kernel.asked


def test_kept_images_are_found_and_stay_whatever_is_kept_or_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept_in = tmp_path / "state"
    packets, other, tls = (make_digest(Build(source=name, flags=[], programs={})) for name in ("a", "b", "c"))
    ImageCache(kept_in).keep_image(packets, IMAGE)
    ImageCache(kept_in).keep_image(tls, IMAGE)
    before = {path: path.read_bytes() for path in kept_in.rglob("*.image")}
    found: list[Image | None] = []

    def use(digest: str) -> Callable[..., Kernel]:
        def load(settings: SensorSettings, *_: object) -> Kernel:
            cache = ImageCache(settings.state_dir)
            found.append(cache.find_image(digest))
            cache.keep_image(other, IMAGE)
            cache.drop_image(digest)
            return Kernel()

        return load

    monkeypatch.setattr(program_trial, "load_packets_program", use(packets))
    monkeypatch.setattr(program_trial, "load_tls_program", use(tls))
    told = try_programs(make_settings(kept_in, read_tls=ReadTls.FULL), GOOD)
    assert told == {KernelSide.PACKETS: "", KernelSide.TLS: ""} and found == [IMAGE, IMAGE]
    assert {path: path.read_bytes() for path in kept_in.rglob("*") if path.is_file()} == before


def run_preflight(state_dir: Path, capabilities: Sequence[str]) -> tuple[int, dict[str, dict[str, str]]]:
    """Status and checks by name of `apidae preflight`."""
    command = ["setpriv", *limit_capabilities(capabilities), sys.executable]
    command += ["-c", "from common.main import main; main()", "preflight", "--json"]
    variables = {"APIDAE_SENSOR_STATE_DIR": str(state_dir), "APIDAE_SENSOR_READ_TLS": "full"}
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | variables, timeout=COMMAND_SECONDS, check=False
    )
    assert done.stdout, done.stderr
    return done.returncode, {check["name"]: check for check in json.loads(done.stdout)["checks"]}


@pytest.mark.full("sensor.ebpf")
@pytest.mark.kernel
@needs_root
def test_preflight_with_the_charts_capabilities_loads_all_programs_and_keeps_nothing(tmp_path: Path) -> None:
    status, checks = run_preflight(tmp_path / "state", read_capabilities())
    assert status == 0
    for name in ("plaintext capture (cgroup_skb)", "TLS programs"):
        assert checks[name]["status"] == "ok" and "all programs loaded" in checks[name]["observed"], checks[name]
    assert not list(tmp_path.iterdir())


@pytest.mark.kernel
@needs_root
def test_preflight_names_the_refused_program_and_the_verifiers_reason(tmp_path: Path) -> None:
    """Without PERFMON the verifier takes small programs, and not ours."""
    status, checks = run_preflight(tmp_path / "state", ["BPF", "NET_ADMIN"])
    packets = checks["plaintext capture (cgroup_skb)"]
    assert (status, packets["status"]) == (1, "failed")
    assert re.search(r"program \w+: .+; .+", packets["observed"]) and packets["advice"], packets
    assert not list(tmp_path.iterdir())
