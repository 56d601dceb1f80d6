"""One capture for all kernel tests of this folder: loading takes two seconds."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from scripts.vm.images import RING_BYTES, find_images, is_emulated
from sensor.capture.packets.capture import PacketCapture
from sensor.core.calls import Exchange
from sensor.core.clock import Clock
from sensor.ebpf import compile as image
from sensor.ebpf.abi import PORT_COUNT, PORT_KEY, PORTS_SIZE
from sensor.ebpf.bpf_syscall import read_batch
from tests.bpf.cgroups import in_cgroup
from tests.bpf.recognised import Watch, drain
from tests.bpf.reference import Teacher
from tests.e2e import application
from tests.waiting import DEADLINE_SECONDS

# A sensor's start gives way to whoever wants a processor; these tests only take longer for that, minutes beside other
# runs.
image.NICENESS = 0
# An emulated machine (scripts.vm) takes minutes to start a server.
if is_emulated():
    application.READY_SECONDS = 600.0

Collect = Callable[[int, int], list[Exchange]]


@pytest.fixture(scope="package")
def home() -> Iterator[Path]:
    """The tests' own cgroup. At the host's root the calls of all that runs beside them would be seen too, and spend
    budgets and fill rings."""
    with in_cgroup("bpf") as home:
        yield home


@pytest.fixture(scope="package")
def capture(home: Path) -> Iterator[PacketCapture]:
    """The real kernel side on the tests' cgroup, which is as a host's root to them."""
    capture = PacketCapture.load(
        cgroup_path=home,
        ring_bytes=RING_BYTES,
        is_root_cgroup=True,
        clock=Clock(),
        cache_directory=find_images(),
    )
    capture.set_listening([])
    yield capture
    capture.close()


@pytest.fixture
def counted_anew(capture: PacketCapture) -> None:
    """Nothing is counted of any port yet: of hundreds of servers in a run one may get the port of another, and its row
    beside its own."""
    rows = read_batch(capture.maps["ports"], PORT_KEY.size, PORT_COUNT.size, PORTS_SIZE)
    capture.delete("ports", [key for key, _ in rows])


@pytest.fixture
def collect(capture: PacketCapture) -> Collect:
    """`collect(port, n)`: the exchanges of a port, once n are there (and a moment longer: none may come after)."""
    drain(capture)

    def wait(port: int, count: int) -> list[Exchange]:
        def read() -> list[Exchange]:
            return [one for one in capture.read() if isinstance(one, Exchange) and one.ends.local_port == port]

        found: list[Exchange] = []
        deadline = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < deadline and len(found) < count:
            found += read()
            time.sleep(0.01)
        time.sleep(0.05)
        return found + read()

    return wait


@pytest.fixture
def teacher(capture: PacketCapture) -> Iterator[Teacher]:
    """Recognition is on, and knows a few names only."""
    teacher = Teacher(capture)
    yield teacher
    teacher.close()


@pytest.fixture
def watch(capture: PacketCapture, teacher: Teacher) -> Watch:
    """Reads what a taught kernel says."""
    return Watch(capture, teacher)
