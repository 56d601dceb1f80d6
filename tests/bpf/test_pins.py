"""Capture that was left without a process: it is found whole, for as long as its lease lasts, and then does nothing."""

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sensor.capture.packets.capture import Capture
from sensor.core.calls import Exchange
from sensor.ebpf import pins as pins_module
from sensor.ebpf.compile import MapImage, create_map
from sensor.ebpf.handover import Estate
from sensor.ebpf.pins import PinnedHeir, Pins
from sensor.ebpf.syscalls import read_batch, update_map
from tests.bpf.wire import connected, receive_exactly, request, response, serving

pytestmark = pytest.mark.kernel

Collect = Callable[[int, int], list[Exchange]]
SECOND = 1_000_000_000
ARRAY, KEY = 2, bytes(4)
CGROUP_ID, OTHER_CGROUP_ID = 7, 77


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """In a bpf file system of the test's own."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    mount = tmp_path / "bpf"
    mount.mkdir()
    mounted = subprocess.run(["mount", "-t", "bpf", "bpf", str(mount)], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no bpf file system can be mounted here: {mounted.stderr.strip()}")
    yield mount / "apidae"
    subprocess.run(["umount", str(mount)], check=True)


class Clock:
    now_ns = 5 * SECOND

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def estate() -> Iterator[Estate]:
    """Two maps, one of which is the lease's."""
    descriptors = {name: create_map(MapImage(name, ARRAY, 4, 8, 1, 0)) for name in ("leases", "counters")}
    update_map(descriptors["counters"], KEY, b"counting")
    yield Estate(descriptors=descriptors, state=os.urandom(200_000))
    for descriptor in descriptors.values():
        os.close(descriptor)


def read_lease(estate: Estate) -> int:
    ((_, value),) = read_batch(estate.descriptors["leases"], 4, 8, 1)
    return int.from_bytes(value, "little")


@pytest.mark.parametrize("size", [0, 1, 65_528, 65_529, 300_000])
def test_what_was_left_is_found_whole_and_once(directory: Path, clock: Clock, estate: Estate, size: int) -> None:
    pins = Pins(directory, clock, cgroup_id=CGROUP_ID)
    left = Estate(descriptors=estate.descriptors, state=os.urandom(size))
    assert PinnedHeir(pins, lineage="one", seconds=30).give(left)
    assert read_lease(estate) == 35 * SECOND
    assert directory.stat().st_mode & 0o777 == 0o700
    clock.now_ns += 29 * SECOND
    found = pins.take("one")
    assert found is not None and found.state == left.state and set(found.descriptors) == {"leases", "counters"}
    assert read_batch(found.descriptors["counters"], 4, 8, 1) == [(KEY, b"counting")]
    assert read_lease(estate) == 0
    assert not directory.exists()
    assert pins.take("one") is None
    found.close()


def test_after_its_lease_it_is_worth_nothing(directory: Path, clock: Clock, estate: Estate) -> None:
    pins = Pins(directory, clock, cgroup_id=CGROUP_ID)
    pins.put(estate, lineage="one", seconds=30)
    clock.now_ns += 30 * SECOND
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    assert pins.take("one") is None
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208
    assert not directory.exists()


def test_another_version_removes_it(directory: Path, clock: Clock, estate: Estate) -> None:
    pins = Pins(directory, clock, cgroup_id=CGROUP_ID)
    pins.put(estate, lineage="one", seconds=30)
    assert pins.take("another") is None
    assert not directory.exists()


def test_what_another_cgroup_left_stays_until_its_lease_ends(directory: Path, clock: Clock, estate: Estate) -> None:
    pins, others = (Pins(directory, clock, cgroup_id=one) for one in (CGROUP_ID, OTHER_CGROUP_ID))
    assert others.put(estate, lineage="one", seconds=30)
    assert pins.take("one") is None and pins.clear() == 0
    found = others.take("one")
    assert found is not None and found.state == estate.state
    found.close()
    others.put(estate, lineage="one", seconds=30)
    clock.now_ns += 30 * SECOND
    assert pins.clear() == 3
    assert not directory.exists()


def test_all_that_was_left_can_be_removed_at_once(directory: Path, clock: Clock, estate: Estate) -> None:
    Pins(directory, clock, cgroup_id=CGROUP_ID).put(estate, lineage="one", seconds=30)
    assert Pins(directory, clock, cgroup_id=None).clear() == 3
    assert not directory.exists()


def test_one_that_is_not_whole_is_removed(directory: Path, clock: Clock, estate: Estate) -> None:
    pins = Pins(directory, clock, cgroup_id=CGROUP_ID)
    pins.put(estate, lineage="one", seconds=30)
    (directory / f"{CGROUP_ID}-one" / "state").unlink()
    assert pins.take("one") is None
    assert not directory.exists()


def test_what_cannot_be_left_leaves_nothing(
    tmp_path: Path, clock: Clock, estate: Estate, caplog: pytest.LogCaptureFixture
) -> None:
    """A directory that is in no bpf file system."""
    assert not Pins(tmp_path / "apidae", clock, cgroup_id=CGROUP_ID).put(estate, lineage="one", seconds=30)
    assert "cannot be left in" in caplog.text
    assert not (tmp_path / "apidae").exists()
    assert read_lease(estate) == 0


def test_a_directory_of_somebody_else_is_not_looked_at(directory: Path, clock: Clock, estate: Estate) -> None:
    pins = Pins(directory, clock, cgroup_id=CGROUP_ID)
    pins.put(estate, lineage="one", seconds=30)
    directory.chmod(0o777)
    assert pins.take("one") is None
    assert pins.clear() == 0
    directory.chmod(0o700)
    assert pins.clear() == 3


def test_a_state_too_large_is_not_left(
    directory: Path, clock: Clock, estate: Estate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pins_module, "STATE_BYTES_MAX", 100_000)
    assert not Pins(directory, clock, cgroup_id=CGROUP_ID).put(estate, lineage="one", seconds=30)
    assert not directory.exists()


def test_the_programs_stop_when_the_lease_ends(capture: Capture, collect: Collect) -> None:
    leases = capture._program.maps["leases"]

    def call() -> int:
        sent, back = request("GET", "/leased"), response(200, b"d")

        def answer(connection: object) -> None:
            receive_exactly(connection, len(sent))  # type: ignore[arg-type]
            connection.sendall(back)  # type: ignore[attr-defined]

        with serving(answer) as port, connected(port) as client:
            client.sendall(sent)
            receive_exactly(client, len(back))
            return port

    try:
        update_map(leases, KEY, (time.monotonic_ns() + 60 * SECOND).to_bytes(8, "little"))
        assert len(collect(call(), 1)) == 1
        update_map(leases, KEY, time.monotonic_ns().to_bytes(8, "little"))
        assert collect(call(), 0) == []
    finally:
        update_map(leases, KEY, bytes(8))
    assert len(collect(call(), 1)) == 1
