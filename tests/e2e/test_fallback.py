"""Where the kernel lets no program see packets, the sensor captures by system calls by itself, and its log and its
coverage say so.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bpf.cgroups import enter, find_own, refuse_packets, remove
from tests.e2e.application import Servers
from tests.e2e.conftest import Product
from tests.e2e.traffic import MIX, expect, observe, send_mix
from tests.e2e.wire import RawClient
from tests.waiting import wait_until

pytestmark = [pytest.mark.kernel, pytest.mark.e2e]


@pytest.fixture
def cgroup(capture_host: None) -> Iterator[Path]:
    """One whose hook another program has for itself alone."""
    home = find_own() / f"apidae_fallback_{os.getpid()}"
    home.mkdir()
    with refuse_packets(home):
        yield home
    remove(home)


def test_where_packets_are_refused_calls_are_captured_by_system_calls(
    cgroup: Path, product: Product, tmp_path: Path
) -> None:
    servers = Servers(tmp_path)
    with enter(cgroup):
        server = servers.start("python", "127.0.0.1")
    try:
        _, address = product.start_collector()
        sensor = product.start_sensor(address, "--cgroup-path", str(cgroup))
        inventory = product.open_inventory(address)
        with RawClient(server.address, server.port) as client:
            send_mix(client)

        def reasons() -> list[str]:
            rows = inventory.list_items("/coverage/ports")
            return [row["reason"] for row in rows if row["service"]["port"] == server.port]

        wait_until(lambda: any("io_uring" in reason for reason in reasons()), "the coverage says it")
        assert "capturing by system calls, because packets cannot be: attaching to the cgroup failed" in (
            sensor.log_path.read_text()
        )
        assert sensor.stop() == 0, sensor.log_tail()
        wait_until(lambda: inventory.count_calls(server.port) >= len(MIX), "23 calls")
        assert observe(inventory.read_endpoints(server.port)) == expect(client.calls)
    finally:
        servers.stop()
