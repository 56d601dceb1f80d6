"""A server whose answers take longer while it is read is left alone, with the reason in the coverage; its neighbour,
which runs the same library and serves the same calls, is read on.
"""

import ssl
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts.bench_cases.harming.load import run_wrk, write_script
from scripts.live.program import Program
from tests.e2e.application import READY_SECONDS, Servers
from tests.e2e.certificates import Certificate
from tests.e2e.conftest import Product
from tests.e2e.inventory import Inventory
from tests.e2e.wire import RawClient
from tests.waiting import wait_until

pytestmark = [pytest.mark.kernel, pytest.mark.e2e, pytest.mark.full("sensor.capture.tls", "sensor.ebpf")]

ADDRESS = "127.0.0.1"
SERVER = Path(__file__).parent / "servers" / "app_noticing.py"
# So that it takes half a minute: a trial begins sooner, and less has to be sure.
_LATENCY = "sensor.capture.tls.latency"
CONSTANTS = {
    f"{_LATENCY}.STEADY_SECONDS": 2.0,
    f"{_LATENCY}.SHORTEST_SLOT_SECONDS": 1.0,
    f"{_LATENCY}.ANSWERS_ENOUGH": 50,
    f"{_LATENCY}.FALSE_STOP": 0.02,
    # It makes its answers longer by itself.
    f"{_LATENCY}.WORTH": 0.0,
    f"{_LATENCY}.WORK_MAX": 1e9,
}
CONNECTIONS = 4
PACE_MS = 30
BURST_SECONDS = 5
TRIAL_SECONDS = 600.0  # On a host whose processors many share.


@pytest.fixture
def servers(tmp_path: Path, certificate: Certificate) -> Iterator[Servers]:
    running = Servers(tmp_path, certificate)
    yield running
    running.stop()


@pytest.fixture
def noticing(tmp_path: Path, certificate: Certificate) -> Iterator[int]:
    """The port of a server that is slow while it is read."""
    command = [sys.executable, str(SERVER), ADDRESS, str(certificate.certificate), str(certificate.key)]
    program = Program("noticing", command, tmp_path / "noticing.log")
    yield program.wait_for("ready", READY_SECONDS)["port"]
    program.stop()


def find_rows(inventory: Inventory, port: int) -> list[dict[str, Any]]:
    """What the coverage says of a port."""
    return [row for row in inventory.list_items("/coverage/ports") if row["service"]["port"] == port]


def test_a_server_that_is_slower_while_it_is_read_is_left_alone(
    product: Product, servers: Servers, noticing: int, certificate: Certificate, tmp_path: Path
) -> None:
    neighbour = servers.start("python", ADDRESS).port
    _, address = product.start_collector()
    sensor = product.start_sensor(address, "--read-tls", "auto", constants=CONSTANTS)
    inventory = product.open_inventory(address)
    wait_until(lambda: "libssl" in sensor.log_path.read_text(), "the library is found")
    script, is_done = write_script(tmp_path / "load.lua", pace_ms=PACE_MS), threading.Event()

    def load() -> None:
        while not is_done.is_set():
            run_wrk(f"https://{ADDRESS}:{noticing}", CONNECTIONS, BURST_SECONDS, script)

    thread = threading.Thread(target=load)
    thread.start()
    try:
        reason = wait_until(
            lambda: next((row["reason"] for row in find_rows(inventory, noticing) if "longer" in row["reason"]), None),
            "the server is left alone",
            seconds=TRIAL_SECONDS,
        )
    finally:
        is_done.set()
        thread.join()
    assert "It is not read for 1 h: answers took " in reason and " % longer while it was read (" in reason
    context = ssl.create_default_context(cafile=str(certificate.authority))
    before = inventory.count_calls(neighbour)
    with RawClient(ADDRESS, neighbour, tls=context) as client:
        for number in range(23):
            assert client.call("GET", f"/orders/{number}").status == 200
    wait_until(lambda: inventory.count_calls(neighbour) >= before + 23, "the neighbour's calls")
    assert not any("longer" in row["reason"] for row in find_rows(inventory, neighbour))
