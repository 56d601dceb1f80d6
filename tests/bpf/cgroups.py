"""Cgroups that tests make, so that a sensor under test sees no process but theirs."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sensor.enrich.cgroup_tree import find_cgroup2_mount


def find_mount() -> Path:
    """Where cgroup v2 is mounted; skips the test where nothing may be attached there."""
    if os.geteuid() != 0:
        pytest.skip("capture needs root")
    pytest.importorskip("bcc", reason="python3-bpfcc is not installed")
    mount = find_cgroup2_mount(Path("/proc/mounts").read_text())
    if mount is None:
        pytest.skip("no cgroup v2 mount")
    return mount


def find_own() -> Path:
    """The cgroup that sockets of this process belong to."""
    line = next(line for line in Path("/proc/self/cgroup").read_text().splitlines() if line.startswith("0::"))
    return find_mount() / line[3:].lstrip("/")


@contextlib.contextmanager
def in_cgroup(name: str, parent: Path | None = None) -> Iterator[Path]:
    """This process in a new cgroup, below its own or `parent`. What it started there must have ended with it."""
    before = find_own()
    home = (parent or before) / f"apidae_test_{name}_{os.getpid()}"
    home.mkdir()
    try:
        (home / "cgroup.procs").write_text("0")
        yield home
    finally:
        (before / "cgroup.procs").write_text("0")
        remove(home)


def remove(cgroup: Path) -> None:
    """Once it is empty: a process that was killed is among its own for a moment longer."""
    until = time.monotonic() + 5
    while (cgroup / "cgroup.procs").read_text() and time.monotonic() < until:
        time.sleep(0.01)
    cgroup.rmdir()
