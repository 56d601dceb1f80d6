"""A sensor that replaces another one on its node captures before the other has ended, and says what was missed. HTTP/2
connections that stay open keep the names of their calls.
"""

import contextlib
import http.client
import re
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.demo.nginx import Nginx, find_nginx
from scripts.live.host import CollectorAddress
from sensor.coverage.gaps import ROW_NAME
from tests.e2e.callers import ADDRESS, Calls
from tests.e2e.conftest import READY_FILE_NAME, Product
from tests.e2e.inventory import Inventory
from tests.e2e.test_http2 import NGINX, Channel, Observed, Workloads, read_calls
from tests.waiting import wait_until, wait_until_still

pytestmark = [pytest.mark.kernel, pytest.mark.e2e]

STILL_SECONDS = 3.0
# What the next sensor logs when it captures and cannot read yet.
ATTACHED = "attached; events are read once the previous sensor has ended"
# Measured: 0.04 s. More than this, and the next sensor has waited for the end of the previous one.
MOST_GAP_SECONDS = 1.0
PRIME_CALLS = 211
# That of the test, and those of others whose connections are open in this cgroup.
TABLES_LEFT = re.compile(r"header tables of HTTP/2 connections from the previous sensor: [1-9]")


def call_once(port: int, number: int) -> Calls:
    """One call of HTTP/1.1 on a connection of its own."""
    connection = http.client.HTTPConnection(ADDRESS, port, timeout=60)
    connection.request("GET", f"/orders/{1000 + number}")
    response = connection.getresponse()
    response.read()
    connection.close()
    return Counter({("GET", "/orders/{}", response.status): 1})


@pytest.fixture
def address(product: Product) -> CollectorAddress:
    return product.start_collector()[1]


@pytest.fixture
def workloads(tmp_path: Path) -> Iterator[Workloads]:
    with contextlib.ExitStack() as stack:
        yield Workloads(Observed(), tmp_path, stack.callback)


def wait_for_calls(inventory: Inventory, port: int, expected: int) -> Calls:
    """Everything that came of a port."""
    wait_until(lambda: inventory.count_calls(port) >= expected, "all calls in the inventory")
    wait_until_still(lambda: inventory.count_calls(port), STILL_SECONDS)
    return read_calls(inventory.read_endpoints(port))


@pytest.mark.full("sensor.agent", "sensor.ebpf")
def test_the_next_sensor_captures_before_the_previous_one_has_ended(
    product: Product, address: CollectorAddress, tmp_path: Path
) -> None:
    if find_nginx() is None:
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    nginx = Nginx(tmp_path / "nginx", NGINX)
    product.start_sensor(address)
    inventory = product.open_inventory(address)
    try:
        before, after = product.follow_sensor(address)
        ready = after.log_path.with_name(READY_FILE_NAME)
        assert ready.exists()
        before.send_signal(signal.SIGTERM)
        wait_until(lambda: ATTACHED in after.log_path.read_text(), "the next sensor is attached")
        sent: Calls = Counter()
        for number in range(PRIME_CALLS):
            sent += call_once(nginx.port, number)
        assert before.stop() == 0, before.log_tail()
        after.wait_for("capturing", 60)
        assert wait_for_calls(inventory, nginx.port, PRIME_CALLS) == sent
        missed = wait_until(lambda: inventory.list_items("/coverage/ports", q=ROW_NAME), "the gap")
        assert [row["connections"] for row in missed] == [1]
        (gap,) = re.findall(r"nothing was captured for ([0-9.]+) s", after.log_path.read_text())
        assert float(gap) < MOST_GAP_SECONDS
        assert ready.exists()
        assert after.stop() == 0, after.log_tail()
        assert not ready.exists()
    finally:
        nginx.stop()


@pytest.mark.full("sensor.agent", "sensor.http", "sensor.capture.http2", "sensor.capture.packets")
def test_calls_keep_their_names_on_connections_that_stay_open(
    product: Product, address: CollectorAddress, workloads: Workloads
) -> None:
    """gRPC's C core puts all it can into its header table and does not say it again before it connects anew."""
    port = workloads.start_python("app_grpc.py")("grpc")
    product.start_sensor(address)
    inventory = product.open_inventory(address)
    channel = Channel(port)
    sent = channel.call(37, put=3, fail=2)
    for _ in range(2):
        before, after = product.follow_sensor(address)
        assert before.stop() == 0, before.log_tail()
        after.wait_for("capturing", 60)
        assert TABLES_LEFT.search(after.log_path.read_text()), after.log_tail()
        sent += channel.call(101, put=5, fail=3)
    channel.close()
    assert after.stop() == 0, after.log_tail()
    assert wait_for_calls(inventory, port, sum(sent.values())) == sent
