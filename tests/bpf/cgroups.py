"""Cgroups that tests make, so that a sensor under test sees no process but theirs."""

import contextlib
import ctypes
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sensor.ebpf.bpf_syscall import CGROUP_INET_INGRESS, call_bpf, create_object
from sensor.ebpf.compile import Image, ProgramImage, load_image
from sensor.enrich.cgroup_tree import find_cgroup2_mount

_PROG_ATTACH, _PROG_DETACH, _PROG_QUERY = 8, 9, 16  # enum bpf_cmd


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
def enter(cgroup: Path) -> Iterator[None]:
    """This process in a cgroup that is there: what it starts and opens meanwhile belongs to it."""
    before = find_own()
    (cgroup / "cgroup.procs").write_text("0")
    try:
        yield
    finally:
        (before / "cgroup.procs").write_text("0")


@contextlib.contextmanager
def in_cgroup(name: str, parent: Path | None = None) -> Iterator[Path]:
    """This process in a new cgroup, below its own or `parent`. What it started there must have ended with it.

    It is a slice, which names no service, so that names below it are as they would be at the host's root."""
    home = (parent or find_own()) / f"apidae_test_{name}_{os.getpid()}.slice"
    home.mkdir()
    try:
        with enter(home):
            yield home
    finally:
        remove(home)


@contextlib.contextmanager
def refuse_packets(cgroup: Path) -> Iterator[None]:
    """Holds the cgroup's hook for a program that lets no other beside it, as some firewalls do."""
    passing = struct.pack("=BBhiBBhi", 0xB7, 0, 0, 1, 0x95, 0, 0, 0)  # r0 = 1; exit
    loaded = load_image(Image(maps=[], programs=[ProgramImage("alone", passing, [])], tail_calls=[]))
    target = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    attributes = struct.pack("=IIII", target, loaded.programs["alone"], CGROUP_INET_INGRESS, 0)
    create_object(_PROG_ATTACH, attributes)
    try:
        yield
    finally:
        create_object(_PROG_DETACH, attributes)
        os.close(target)
        loaded.close()


def count_attached(cgroup: Path, attach_type: int) -> int:
    """Programs on one hook of a cgroup, those of links included."""
    target = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # target_fd, attach_type, query_flags, attach_flags, prog_ids, prog_cnt: without room for ids only their number.
        attributes = ctypes.create_string_buffer(struct.pack("=IIIIQI", target, attach_type, 0, 0, 0, 0), 64)
        code = call_bpf(_PROG_QUERY, attributes)
        assert code == 0, os.strerror(code)
    finally:
        os.close(target)
    return int(struct.unpack_from("=I", attributes.raw, 24)[0])


def remove(cgroup: Path) -> None:
    """Once it is empty: a process that was killed is among its own for a moment longer."""
    until = time.monotonic() + 5
    while (cgroup / "cgroup.procs").read_text() and time.monotonic() < until:
        time.sleep(0.01)
    cgroup.rmdir()
