"""A sensor that is gone left nothing in the kernel, however it went: stopped, paused, or killed with SIGKILL again
and again.
"""

import signal
import subprocess
import time

import pytest

from scripts.live.host import APIDAE
from sensor.coverage.gaps import ROW_NAME
from tests.e2e.attachments import Attachments, list_attachments, list_ids
from tests.e2e.conftest import Product
from tests.e2e.inventory import Inventory
from tests.waiting import wait_until

pytestmark = [pytest.mark.kernel, pytest.mark.e2e]

KILLS = 3
PAUSE_SECONDS = 2.0


def wait_for_none_new(before: Attachments) -> None:
    """Fails unless the links, programs and maps that came since `before` go.

    Programs and maps are listed once, after a pause (scripts/live/kernel_objects.py says why).
    """
    wait_until(lambda: list_ids("link") <= before.links, f"no link beyond those before: {before}")
    time.sleep(PAUSE_SECONDS)
    assert list_ids("prog") <= before.programs
    assert list_ids("map") <= before.maps


@pytest.fixture(scope="module")
def before(capture_host: None) -> Attachments:
    """What was there before any sensor of this module."""
    return list_attachments()


def test_kill_9_in_a_loop_leaves_nothing(product: Product, before: Attachments) -> None:
    _, address = product.start_collector()
    for round_number in range(KILLS):
        sensor = product.start_sensor(address)
        assert list_ids("link") - before.links, f"round {round_number}: a capturing sensor holds links"
        sensor.kill()
        assert sensor.process.returncode == -signal.SIGKILL
        wait_for_none_new(before)
    sensor = product.start_sensor(address)
    assert sensor.stop() == 0, sensor.log_tail()
    wait_for_none_new(before)
    # The node was without a sensor for a while, and its coverage says so.
    inventory = Inventory(address.url)
    wait_until(lambda: _find_gap(inventory), "a row of the time without capture")
    inventory.close()


def _find_gap(inventory: Inventory) -> bool:
    rows = inventory.list_items("/coverage/ports")
    return any(row["address"] == ROW_NAME and "Nothing was captured for" in row["reason"] for row in rows)


@pytest.mark.full("sensor.kernel", "sensor.pause", "sensor.lock")
def test_kill_9_while_it_starts_leaves_nothing(product: Product, before: Attachments) -> None:
    """The child that compiles and attaches may outlive its parent by a moment, but what it holds goes with it."""
    _, address = product.start_collector()
    for _ in range(KILLS):
        sensor = product.start_sensor(address, wait=False)
        with pytest.raises(subprocess.TimeoutExpired):
            sensor.process.wait(0.4)
        sensor.process.send_signal(signal.SIGKILL)
        sensor.process.wait()
        wait_for_none_new(before)
        sensor.kill()


@pytest.mark.full("sensor.kernel", "sensor.pause", "sensor.lock")
def test_pause_detaches_and_resume_attaches(product: Product, before: Attachments) -> None:
    _, address = product.start_collector()
    sensor = product.start_sensor(address)
    subprocess.run([APIDAE, "pause"], check=True, timeout=PAUSE_SECONDS + 5, capture_output=True)
    paused = list_attachments()
    assert paused.links <= before.links
    subprocess.run([APIDAE, "resume"], check=True, timeout=10, capture_output=True)
    assert list_attachments().links - before.links
    assert sensor.stop() == 0, sensor.log_tail()


@pytest.mark.full("sensor.kernel", "sensor.pause", "sensor.lock")
def test_a_second_sensor_refuses_and_names_the_first(product: Product, before: Attachments) -> None:
    _, address = product.start_collector()
    first = product.start_sensor(address)
    second = subprocess.run([APIDAE, "sensor", "--collector", address.grpc], capture_output=True, text=True, timeout=30)
    assert second.returncode != 0
    assert str(first.pid) in second.stdout + second.stderr
    assert first.stop() == 0, first.log_tail()
