"""An acknowledged batch survives kill -9 of the collector: killed mid-stream and started again on its directory, it
misses and doubles nothing.

The sensor forgets a batch only when it is acknowledged. So if an acknowledged batch were lost, or a batch that was
sent again counted twice, the inventory's total would not be the clients' own count.
"""

import threading
import time

import pytest

from tests.e2e.application import Servers
from tests.e2e.conftest import Product
from tests.e2e.inventory import Inventory
from tests.e2e.wire import RawClient
from tests.waiting import wait_for_equal, wait_until, wait_until_still

pytestmark = [pytest.mark.kernel, pytest.mark.e2e]

KILLS = 3
SECONDS_BETWEEN_KILLS = 4.0  # Early rows leave after 1 s, windows after 10 s: both are in flight at some kill.
CALLS_PER_SECOND = 50
STILL_SECONDS = 4.0


class SteadyClient:
    """Calls one server at a steady rate over one connection until told to stop; counts."""

    def __init__(self, address: str, port: int) -> None:
        self._client = RawClient(address, port)
        self._is_stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.calls = 0
        self._thread.start()

    def _run(self) -> None:
        with self._client:
            while not self._is_stopped.wait(1 / CALLS_PER_SECOND):
                self._client.call("GET", f"/orders/{self.calls % 700}")
                self.calls += 1

    def stop(self) -> int:
        """Ends after the call under way; the number of calls made."""
        self._is_stopped.set()
        self._thread.join()
        return self.calls


@pytest.mark.full("collector.receiver", "collector.storage", "sensor.export")
def test_a_killed_collector_loses_nothing_acknowledged(product: Product, servers: Servers) -> None:
    server = servers.start("python", "127.0.0.1")
    collector, address = product.start_collector()
    sensor = product.start_sensor(address)
    client = SteadyClient(server.address, server.port)
    try:
        for _ in range(KILLS):
            time.sleep(SECONDS_BETWEEN_KILLS)
            collector.kill()
            collector, address = product.start_collector(grpc_listen=address.grpc)
        time.sleep(SECONDS_BETWEEN_KILLS)
    finally:
        made = client.stop()
    inventory: Inventory = product.open_inventory(address)
    # The sensor runs on: after the last kill it comes back when its patience with the collector allows.
    wait_until(lambda: inventory.count_calls(server.port) >= made, f"{made} calls in the inventory")
    assert sensor.stop() == 0, sensor.log_tail()
    total = wait_until_still(lambda: inventory.count_calls(server.port), STILL_SECONDS)
    assert total == made


def test_what_was_told_is_there_after_kill_9(product: Product, servers: Servers) -> None:
    """What the inventory has shown once, it still shows after kill -9 of the process that holds the store."""
    server = servers.start("python", "127.0.0.1")
    collector, address = product.start_collector()
    sensor = product.start_sensor(address)
    with RawClient(server.address, server.port) as client:
        for number in range(23):
            client.call("GET", f"/orders/{number}")
    assert sensor.stop() == 0, sensor.log_tail()
    inventory = product.open_inventory(address)
    wait_for_equal(lambda: inventory.count_calls(server.port), 23, "23 calls in the inventory")
    collector.kill()
    collector, address = product.start_collector()
    again = product.open_inventory(address)
    wait_for_equal(lambda: again.count_calls(server.port), 23, "23 calls after kill -9")
    assert collector.stop() == 0, collector.log_tail()
