"""A server over TLS that makes more calls than are read: it is read in turns, its routes' calls and those that are
estimated are together what was made, and its neighbour, who runs the same library, is read always.
"""

import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from scripts.bench_cases.harming.load import Round, run_wrk, write_script
from tests.e2e.application import Servers
from tests.e2e.certificates import Certificate
from tests.e2e.conftest import Product
from tests.e2e.inventory import Inventory
from tests.e2e.wire import RawClient
from tests.waiting import wait_until, wait_until_still

pytestmark = [pytest.mark.kernel, pytest.mark.e2e, pytest.mark.full("sensor.tls", "sensor.bpf", "sensor.kernel")]

ADDRESS = "127.0.0.1"
# Far below what wrk makes on any machine that runs the tests.
CALLS_PER_SECOND, CALLS_BURST = 100, 300
CONNECTIONS = 8
LOAD_SECONDS = 24
# The governor waits 20 s before it reads less; its budget is far below what these calls take.
GOVERNED_SECONDS = 45
LITTLE_CORE_SHARE = 0.004
STILL_SECONDS = 4.0
NEIGHBOUR_REST_SECONDS = 0.25
# Of the neighbour's calls, those that may fall into the moment in which it gets probes of its own, and back.
NEIGHBOUR_MISSED = 2
CLOSE_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Observed:
    """What was made, and what is told of it in the end; `reasons` are the coverage's while it was made."""

    load: Round
    hot: list[dict[str, Any]]  # Endpoints.
    row: dict[str, Any]  # Of the coverage.
    reasons: set[str]
    neighbour_made: int
    neighbour_read: int


@pytest.fixture(scope="module")
def tls_servers(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[Servers]:
    running = Servers(tmp_path_factory.mktemp("servers"), certificate)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def observed(
    product: Product, tls_servers: Servers, certificate: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> Observed:
    directory = tmp_path_factory.mktemp("turns")
    hot, neighbour = (tls_servers.start(kind, ADDRESS).port for kind in ("nginx", "python"))
    _, address = product.start_collector()
    config = directory / "sensor.toml"
    config.write_text(
        f"is_reading_tls = true\nheads_per_second = {CALLS_PER_SECOND}\nheads_burst_count = {CALLS_BURST}\n"
    )
    sensor = product.start_sensor(address, "--config", str(config))
    inventory = product.open_inventory(address)
    wait_until(lambda: "libssl" in sensor.log_path.read_text(), "the library is found")
    time.sleep(1.0)
    script, loads = write_script(directory / "load.lua", pace_ms=2), list[Round]()
    url = f"https://{ADDRESS}:{hot}"
    thread = threading.Thread(target=lambda: loads.append(run_wrk(url, CONNECTIONS, LOAD_SECONDS, script)))
    thread.start()
    made, reasons = 0, set[str]()
    context = ssl.create_default_context(cafile=str(certificate.authority))
    while thread.is_alive():
        with RawClient(ADDRESS, neighbour, tls=context) as client:
            assert client.call("GET", "/orders/7").status == 200
        made += 1
        reasons.add(str(read_row(inventory, hot).get("reason", "")))
        time.sleep(NEIGHBOUR_REST_SECONDS)
    wait_until_still(lambda: inventory.count_calls(hot, neighbour), STILL_SECONDS)
    assert sensor.stop() == 0, sensor.log_tail()
    wait_until_still(lambda: inventory.count_calls(hot, neighbour), STILL_SECONDS)
    endpoints = inventory.list_items("/endpoints", operations="exclude")
    return Observed(
        load=loads[0],
        hot=[one for one in endpoints if one["service"]["port"] == hot],
        row=read_row(inventory, hot),
        reasons=reasons,
        neighbour_made=made,
        neighbour_read=inventory.count_calls(neighbour),
    )


def read_row(inventory: Inventory, port: int) -> dict[str, Any]:
    """What the coverage says of a port that is read."""
    rows = inventory.list_items("/coverage/ports")
    return next((row for row in rows if row["service"]["port"] == port and row["protocol"] == "https"), {})


def test_calls_that_are_read_and_estimated_are_those_that_were_made(observed: Observed) -> None:
    calls = {one["template"]: one["calls"] for one in observed.hot}
    assert observed.load.errors == 0
    assert sum(calls.values()) == pytest.approx(observed.load.calls, rel=CLOSE_SHARE), calls
    read = calls.get("/orders/{order_id}", 0)
    assert CALLS_PER_SECOND * LOAD_SECONDS / 4 < read < observed.load.calls / 2, calls


def test_what_was_not_read_is_marked(observed: Observed) -> None:
    marks = {one["template"]: one["is_estimated"] for one in observed.hot}
    assert marks.pop("/orders/{order_id}") is False
    assert set(marks.values()) == {True}, marks


def test_the_coverage_says_so(observed: Observed) -> None:
    assert any("% of the time, and other calls are estimated" in reason for reason in observed.reasons)
    row = observed.row
    assert row["calls"] + row["estimated_calls"] == pytest.approx(observed.load.calls, rel=CLOSE_SHARE)


def test_its_neighbour_is_read_always(observed: Observed) -> None:
    assert observed.neighbour_made - NEIGHBOUR_MISSED <= observed.neighbour_read <= observed.neighbour_made


def test_the_sensor_reads_less_where_its_budget_is_used(product: Product, tls_servers: Servers, tmp_path: Path) -> None:
    """Calls within `heads_per_second` of the process, and beyond the sensor's processor time: none is lost."""
    port = tls_servers.start("nginx", ADDRESS).port
    _, address = product.start_collector()
    config = tmp_path / "sensor.toml"
    config.write_text(f"is_reading_tls = true\ncapture_budget_core_share = {LITTLE_CORE_SHARE}\n")
    sensor = product.start_sensor(address, "--config", str(config))
    inventory = product.open_inventory(address)
    wait_until(lambda: "libssl" in sensor.log_path.read_text(), "the library is found")
    time.sleep(1.0)
    script, loads = write_script(tmp_path / "load.lua", pace_ms=16), list[Round]()
    url = f"https://{ADDRESS}:{port}"
    thread = threading.Thread(target=lambda: loads.append(run_wrk(url, CONNECTIONS, GOVERNED_SECONDS, script)))
    thread.start()
    reasons = set[str]()
    while thread.is_alive():
        reasons.add(str(read_row(inventory, port).get("reason", "")))
        time.sleep(NEIGHBOUR_REST_SECONDS)
    assert loads[0].errors == 0
    assert any("processor time is at its budget" in reason for reason in reasons), reasons
    assert sensor.stop() == 0, sensor.log_tail()
    wait_until_still(lambda: inventory.count_calls(port), STILL_SECONDS)
    assert inventory.count_calls(port) == pytest.approx(loads[0].calls, rel=CLOSE_SHARE)
