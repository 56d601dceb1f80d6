"""Cgroups of any name, made while a sensor runs, with a server in each: it goes on, names them in print, and counts
their calls. One that starts later finds the same names."""

import contextlib
import os
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

from sensor.core.printable import make_printable
from tests.bpf.cgroups import enter, remove
from tests.e2e.application import Servers
from tests.e2e.conftest import Product
from tests.e2e.inventory import Inventory
from tests.e2e.wire import RawClient
from tests.waiting import wait_until

pytestmark = [pytest.mark.kernel, pytest.mark.e2e]

ADDRESS = "127.0.0.1"
CALLS, LATER_CALLS = 23, 7
NAMES = (
    b"\xff\xfe\x80.service",
    b"\xff" * 60 + b".service",
    b"<svg onload=alert(1)>.service",
    b"\x1b[31mred.service",
    b"=cmd.service",
)
WORKLOADS = [make_printable(name) for name in NAMES]


@contextlib.contextmanager
def new_cgroup(path: Path) -> Iterator[Path]:
    path.mkdir()
    try:
        yield path
    finally:
        remove(path)


def call(ports: Collection[int], times: int) -> None:
    for port in ports:
        client = RawClient(ADDRESS, port)
        for _ in range(times):
            client.call("GET", "/orders/1")
        client.close()


def count_calls(inventory: Inventory, ports: Collection[int]) -> Counter[str]:
    """By workload."""
    counts = Counter[str]()
    for item in inventory.list_items("/endpoints", operations="exclude"):
        if item["service"]["port"] in ports:
            counts[item["service"]["workload"]] += item["calls"]
    return counts


def list_covered(inventory: Inventory, ports: Collection[int]) -> set[str]:
    """Workloads whose calls the coverage has."""
    rows = inventory.list_items("/coverage/ports")
    return {row["service"]["workload"] for row in rows if row["service"]["port"] in ports and row["calls"]}


def test_a_sensor_outlives_cgroups_of_any_name_and_counts_their_calls(
    product: Product, servers: Servers, cgroup_root: str
) -> None:
    with contextlib.ExitStack() as stack:
        # A unit is named by its slice's child.
        scope = stack.enter_context(new_cgroup(Path(cgroup_root) / f"apidae_test_names_{os.getpid()}.slice"))
        _, address = product.start_collector()
        inventory = product.open_inventory(address)
        sensor = product.start_sensor(address, "--cgroup-path", str(scope))
        ports = []
        for name in NAMES:
            cgroup = stack.enter_context(new_cgroup(scope / os.fsdecode(name)))
            stack.callback(servers.stop)  # Before its cgroup goes.
            with enter(cgroup):
                ports.append(servers.start("python", ADDRESS).port)
        call(ports, CALLS)
        expected = dict.fromkeys(WORKLOADS, CALLS)
        wait_until(lambda: count_calls(inventory, ports) == expected, "23 calls of each")
        wait_until(lambda: list_covered(inventory, ports) == set(WORKLOADS), "each in the coverage")
        assert sensor.is_running
        assert sensor.stop() == 0
        assert "traceback" not in sensor.log_path.read_text()

        sensor = product.start_sensor(address, "--cgroup-path", str(scope))
        call(ports, LATER_CALLS)
        expected = dict.fromkeys(WORKLOADS, CALLS + LATER_CALLS)
        wait_until(lambda: count_calls(inventory, ports) == expected, "seven more of each")
        assert sensor.is_running and sensor.stop() == 0
