"""One capture for all kernel tests of this folder: loading takes two seconds."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts.vm.images import RING_BYTES, find_images
from sensor.calls import Exchange
from sensor.clock import Clock
from sensor.enrich.cgroup_tree import find_cgroup2_mount
from sensor.kernel import loader
from sensor.kernel.abi import PORT_COUNT, PORT_KEY, PORTS_SIZE
from sensor.kernel.capture import Capture
from sensor.kernel.syscalls import read_batch
from tests.bpf.recognised import Watch
from tests.bpf.reference import Teacher
from tests.e2e import application

WAIT_SECONDS = 5.0
# An emulated machine (scripts.vm) takes minutes to compile and to start a server.
if find_images() is not None:
    loader.COMPILE_TIMEOUT_SECONDS = application.READY_SECONDS = 600.0

Collect = Callable[[int, int], list[Exchange]]


@pytest.fixture(scope="session")
def capture() -> Iterator[Capture]:
    """The real kernel side on this host's cgroup root."""
    if os.geteuid() != 0:
        pytest.skip("capture needs root")
    pytest.importorskip("bcc", reason="python3-bpfcc is not installed")
    mount = find_cgroup2_mount(Path("/proc/mounts").read_text())
    if mount is None:
        pytest.skip("no cgroup v2 mount")
    capture = Capture.load(
        cgroup_path=mount,
        ring_bytes=RING_BYTES,
        is_root_cgroup=True,
        clock=Clock(),
        cache_directory=find_images(),
    )
    yield capture
    capture.close()


@pytest.fixture
def counted_anew(capture: Capture) -> None:
    """Nothing is counted of any port yet: of hundreds of servers in a run one may get the port of another, and its row
    beside its own."""
    rows = read_batch(capture.maps["ports"], PORT_KEY.size, PORT_COUNT.size, PORTS_SIZE)
    capture.delete("ports", [key for key, _ in rows])


@pytest.fixture
def collect(capture: Capture) -> Collect:
    """`collect(port, n)`: the exchanges of a port, once n are there (and a moment longer: none may come after)."""
    capture.read()

    def wait(port: int, count: int) -> list[Exchange]:
        def read() -> list[Exchange]:
            return [one for one in capture.read() if isinstance(one, Exchange) and one.local_port == port]

        found: list[Exchange] = []
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline and len(found) < count:
            found += read()
            time.sleep(0.01)
        time.sleep(0.05)
        return found + read()

    return wait


@pytest.fixture
def teacher(capture: Capture) -> Iterator[Teacher]:
    """Recognition is on, and knows a few names only."""
    teacher = Teacher(capture)
    yield teacher
    teacher.close()


@pytest.fixture
def watch(capture: Capture, teacher: Teacher) -> Watch:
    """Reads what a taught kernel says."""
    return Watch(capture, teacher)
