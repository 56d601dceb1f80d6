"""A host without cgroup v2: the sensor captures by system calls on its own, and says so in its log and its coverage."""

from pathlib import Path

import pytest

from tests.e2e.application import Servers
from tests.e2e.conftest import Product
from tests.e2e.traffic import MIX, expect, observe, send_mix
from tests.e2e.wire import RawClient
from tests.waiting import wait_until

pytestmark = [pytest.mark.kernel, pytest.mark.e2e]


def test_without_cgroup_v2_calls_are_captured_by_system_calls(
    product: Product, servers: Servers, capture_host: None, tmp_path: Path
) -> None:
    server = servers.start("python", "127.0.0.1")
    _, address = product.start_collector()
    sensor = product.start_sensor(address, "--cgroup-path", str(tmp_path))
    inventory = product.open_inventory(address)
    with RawClient(server.address, server.port) as client:
        send_mix(client)

    def reasons() -> list[str]:
        return [
            row["reason"] for row in inventory.list_items("/coverage/ports") if row["service"]["port"] == server.port
        ]

    wait_until(lambda: any("io_uring" in reason for reason in reasons()), "the coverage says it")
    assert f"capturing by system calls, because packets cannot be: no cgroup v2 is mounted at or below {tmp_path}" in (
        sensor.log_tail()
    )
    assert sensor.stop() == 0, sensor.log_tail()
    wait_until(lambda: inventory.count_calls(server.port) >= len(MIX), "23 calls")
    endpoints = inventory.read_endpoints(server.port)
    assert observe(endpoints) == expect(client.calls)
