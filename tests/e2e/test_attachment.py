"""A sensor that is gone left nothing in the kernel, however it went: stopped, paused, or killed with SIGKILL again
and again.
"""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from scripts.bench_cases.harming.tls_disturber import list_tree
from scripts.live.host import APIDAE
from scripts.live.kernel_objects import Objects, list_held, list_left
from sensor.coverage.gaps import ROW_NAME
from tests.e2e.conftest import Product
from tests.e2e.inventory import Inventory
from tests.waiting import DEADLINE_SECONDS, wait_until

pytestmark = [pytest.mark.kernel, pytest.mark.e2e]

KILLS = 3
STARTING_SECONDS = (0.4, 1.5, 3.0)  # After which a starting sensor is killed: while it compiles, loads, attaches.


def wait_for_none_left(held: Objects) -> None:
    """Fails unless everything that a sensor held is gone: the kernel frees it after a grace period."""
    wait_until(lambda: not list_left(held), f"none of {sorted(held)} is left")


def find_links(held: Objects) -> Objects:
    return frozenset(one for one in held if one[0] == "link")


def test_kill_9_in_a_loop_leaves_nothing(product: Product) -> None:
    _, address = product.start_collector()
    for round_number in range(KILLS):
        sensor = product.start_sensor(address)
        held = list_held(sensor.pid)
        assert find_links(held), f"round {round_number}: a capturing sensor holds links"
        sensor.kill()
        assert sensor.process.returncode == -signal.SIGKILL
        wait_for_none_left(held)
    sensor = product.start_sensor(address)
    held = list_held(sensor.pid)
    assert sensor.stop() == 0, sensor.log_tail()
    wait_for_none_left(held)
    # The node was without a sensor for a while, and its coverage says so.
    inventory = Inventory(address.url)
    wait_until(lambda: _find_gap(inventory), "a row of the time without capture")
    inventory.close()


def _find_gap(inventory: Inventory) -> bool:
    rows = inventory.list_items("/coverage/ports")
    return any(row["address"] == ROW_NAME and "Nothing was captured for" in row["reason"] for row in rows)


@pytest.mark.full("sensor.ebpf", "sensor.agent")
def test_kill_9_while_it_starts_leaves_nothing(product: Product) -> None:
    """The child that compiles and attaches may outlive its parent by a moment, but what it holds goes with it."""
    _, address = product.start_collector()
    for seconds in STARTING_SECONDS:
        sensor = product.start_sensor(address, wait=False)
        with pytest.raises(subprocess.TimeoutExpired):
            sensor.process.wait(seconds)
        held = frozenset().union(*(list_held(pid) for pid in list_tree(sensor.pid)))
        sensor.process.send_signal(signal.SIGKILL)
        sensor.process.wait()
        wait_for_none_left(held)
        sensor.kill()


@pytest.mark.full("sensor.ebpf", "sensor.agent")
def test_pause_detaches_and_resume_attaches(product: Product) -> None:
    _, address = product.start_collector()
    sensor = product.start_sensor(address)
    links = find_links(list_held(sensor.pid))
    command = ("--run-dir", os.environ["APIDAE_SENSOR_RUN_DIR"])
    subprocess.run([APIDAE, "pause", *command], check=True, timeout=DEADLINE_SECONDS, capture_output=True)
    wait_until(lambda: not list_left(links), "its links are gone")
    assert not find_links(list_held(sensor.pid))
    subprocess.run([APIDAE, "resume", *command], check=True, timeout=DEADLINE_SECONDS, capture_output=True)
    assert find_links(list_held(sensor.pid))
    assert sensor.stop() == 0, sensor.log_tail()


@pytest.mark.full("sensor.ebpf", "sensor.agent")
def test_a_second_sensor_refuses_and_names_the_first(product: Product, tmp_path: Path) -> None:
    _, address = product.start_collector()
    first = product.start_sensor(address)
    command = [APIDAE, "sensor", "--collector", address.grpc, "--state-dir", str(tmp_path / "state")]
    second = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_SECONDS)
    assert second.returncode != 0
    assert str(first.pid) in second.stdout + second.stderr
    assert first.stop() == 0, first.log_tail()
