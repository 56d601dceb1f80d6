"""How images are run for the proof, and what the proof refuses; `scripts/images` runs it for real."""

import subprocess
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from scripts.containers import proof
from scripts.containers.containerfile import Stage, read_stages
from scripts.containers.rights import read_capabilities
from scripts.containers.rootfs import CONTAINERFILES
from scripts.containers.runtime import Container, ContainerError, NotRunError, Runtime, run_containerd

SENSOR: Stage = read_stages(CONTAINERFILES / "sensor.Containerfile")[-1]


class Answer(Container):
    """A container whose commands print what the test says."""

    printed = ""

    def execute(self, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(arguments, 0, self.printed, "")


def make_container(kind: type[Container], capabilities: list[str], tmp_path: Path) -> Any:
    return kind(
        runtime=Runtime(tmp_path),
        image="localhost/apidae-sensor:0.1.0",
        stage=SENSOR,
        name="sensor",
        capabilities=capabilities,
        mounts=[(Path("/proc"), "/host/proc", False), (tmp_path, "/run/apidae", True)],
        network_of=4711,
    )


def test_containers_have_the_charts_capabilities_alone(tmp_path: Path) -> None:
    command = make_container(Container, read_capabilities(), tmp_path).make_command(["apidae", "sensor"], A="1")
    pairs = list(pairwise(command))
    added = {value for option, value in pairs if option == "--cap-add"}
    dropped = {value for option, value in pairs if option == "--cap-drop"}
    assert added == {f"CAP_{name}" for name in read_capabilities()}
    # What ctr gives by itself: containerd's default set.
    assert len(dropped) == 14 and not added & dropped
    assert {"--read-only", "--seccomp", "--rm"} <= set(command)
    assert ("--with-ns", "network:/proc/4711/ns/net") in pairs and ("--env", "A=1") in pairs
    assert ("--mount", "type=bind,src=/proc,dst=/host/proc,options=rbind:ro") in pairs
    assert ("--mount", f"type=bind,src={tmp_path},dst=/run/apidae,options=rbind:rw") in pairs
    assert command[-4:] == ["localhost/apidae-sensor:0.1.0", "sensor", "apidae", "sensor"]
    assert "--privileged" not in command and "--allow-new-privs" not in command


@pytest.mark.parametrize(
    ("metrics", "way"),
    [
        ("apidae_sensor_capture_by_system_calls 0.0\n", "cgroup_skb"),
        ("apidae_sensor_capture_by_system_calls 1.0\n", ""),
        ("apidae_sensor_up 1.0\n", ""),
    ],
)
def test_a_sensor_that_falls_back_to_system_calls_fails(tmp_path: Path, metrics: str, way: str) -> None:
    container = make_container(Answer, [], tmp_path)
    object.__setattr__(container, "printed", metrics)
    if way:
        assert proof._read_way(container) == way
    else:
        with pytest.raises(proof.ProofError, match="does not capture by packets"):
            proof._read_way(container)


STATUS = "0\nroot\nCapBnd:\t{0}\nCapEff:\t{0}\nNoNewPrivs:\t{1}\nSeccomp:\t{2}\ntouch: /x: Read-only file system\n"


@pytest.mark.parametrize(
    ("printed", "is_right"),
    [
        (STATUS.format("000000c000281004", 1, 2), True),
        (STATUS.format("000001ffffffffff", 1, 2), False),
        (STATUS.format("000000c000281004", 0, 2), False),
        (STATUS.format("000000c000281004", 1, 0), False),
        (STATUS.format("000000c000281004", 1, 2).replace("Read-only file system", "No such file"), False),
        ("", False),
    ],
)
def test_other_rights_than_the_charts_fail(tmp_path: Path, printed: str, is_right: bool) -> None:
    names = ["BPF", "PERFMON", "NET_ADMIN", "DAC_READ_SEARCH", "SYS_PTRACE", "SYS_ADMIN"]
    assert read_capabilities() == names
    runs = proof._Runs(tmp_path, Runtime(tmp_path), 4711, names)
    container = make_container(Answer, names, tmp_path)
    object.__setattr__(container, "printed", printed)
    if is_right:
        assert runs.check_rights(container)["capabilities"] == 6
    else:
        with pytest.raises(proof.ProofError):
            runs.check_rights(container)


def test_without_containerd_the_reason_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    refused = pytest.raises(
        NotRunError, match="containerd, containerd-shim-runc-v2, ctr, runc missing: apt-get install"
    )
    with refused, run_containerd(tmp_path / "containerd"):
        pass


def test_what_containerd_refuses_is_no_want_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ctr = tmp_path / "ctr"
    ctr.write_text("#!/bin/sh\ncase $* in *import*) echo 'ctr: archive/tar: invalid tar header' >&2; exit 1 ;; esac\n")
    ctr.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ContainerError, match="ctr images import failed: ctr: archive/tar: invalid tar header"):
        Runtime(tmp_path).import_archive(tmp_path / "broken.tar")
