"""2,003 calls over keep-alive connections, most of them recognised in the kernel: none more, none less, each at its
endpoint, with its status, from its principal.

2,003 is a prime. Ids are random, so no two heads are equal; each of 50 principals makes another number of calls, so
that a merged or split one shows. They are bearers of tokens, JWTs of one issuer (signed anew), Basic users with one
password, and sessions behind a long cookie.
"""

import random
import re
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest

from scripts.ports import take_port
from tests.e2e.application import Servers
from tests.e2e.conftest import Product
from tests.e2e.credentials import write_credential
from tests.e2e.inventory import Endpoint, Inventory
from tests.e2e.traffic import expect, observe
from tests.e2e.wire import RawClient, Sent
from tests.waiting import wait_until, wait_until_still

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.e2e,
    pytest.mark.full("sensor.offload", "sensor.ebpf"),
]

CALLS = 2_003
# After which the sensor gets the time to teach, as it has in any longer life.
FIRST_CALLS = 200
CREDENTIALS = 50
CONNECTIONS = 8
STILL_SECONDS = 3.0
METHODS = ("GET", "GET", "GET", "HEAD", "DELETE", "POST")
FIGURE = re.compile(r"^apidae_sensor_(\w+?)(?:_total)?(?:\{stage=\"(\w+)\"\})? (\S+)$", re.MULTILINE)


@dataclass(slots=True)
class Observed:
    """What was sent, and what came of it."""

    sent: list[Sent] = field(default_factory=list)
    credentials: Counter[int] = field(default_factory=Counter)
    endpoints: list[Endpoint] = field(default_factory=list)
    consumers: Counter[str] = field(default_factory=Counter)  # Calls by kind and value.
    figures: dict[tuple[str, str], float] = field(default_factory=dict)


def send(observed: Observed, address: str, port: int, wait_taught: Callable[[], object]) -> None:
    """The calls, in an order that mixes connections, methods and credentials; once in between, `wait_taught`."""
    source = random.Random(2003)
    connections = [RawClient(address, port) for _ in range(CONNECTIONS)]
    for number in range(CALLS):
        if number == FIRST_CALLS:
            wait_taught()
        credential = min(source.randrange(CREDENTIALS), source.randrange(CREDENTIALS))
        method = source.choice(METHODS)
        target = "/orders" if method == "POST" else f"/orders/{source.randrange(10**3, 10**9)}"
        if number % 40 == 7:
            target = f"/invoices/{source.randrange(10**3, 10**9)}"
        lines = (write_credential(credential, number % 2), f"X-Request-Id: {source.getrandbits(64):x}")
        connections[number % CONNECTIONS].call(method, target, lines=lines)
        observed.credentials[credential] += 1
    for connection in connections:
        observed.sent += connection.calls
        connection.close()


@pytest.fixture(scope="module")
def observed(product: Product, servers: Servers) -> Observed:
    """Runs the workload once, stops the sensor and reads the inventory."""
    result = Observed()
    server = servers.start("nginx", "127.0.0.1")
    _, address = product.start_collector()
    metrics_port = take_port()
    sensor = product.start_sensor(address, "--metrics-listen", f"127.0.0.1:{metrics_port}")
    inventory = product.open_inventory(address)
    metrics = f"http://127.0.0.1:{metrics_port}/metrics"

    def wait_taught() -> None:
        # One profile stands for all bearers of tokens: these are told by the records.
        wait_until(lambda: read_figures(metrics)["taught_profiles", ""] >= 1, "a profile taught")
        wait_until(lambda: read_figures(metrics)["taught_routes", ""] >= 3, "3 routes taught")

    send(result, server.address, server.port, wait_taught)
    result.figures = wait_until(lambda: read_balanced(metrics), "all calls counted, in balance")
    assert sensor.stop() == 0, sensor.log_tail()
    wait_until(lambda: inventory.count_calls(server.port) >= CALLS, f"{CALLS} calls in the inventory")
    wait_until_still(lambda: inventory.count_calls(server.port), STILL_SECONDS)
    result.endpoints = inventory.read_endpoints(server.port)
    result.consumers = read_consumers(inventory, {endpoint.id for endpoint in result.endpoints})
    return result


def read_figures(url: str) -> dict[tuple[str, str], float]:
    """The sensor's metrics by name and stage."""
    found = FIGURE.findall(httpx.get(url, timeout=60).text)
    return {(name, stage): float(value) for name, stage, value in found}


def read_balanced(url: str, calls: int = CALLS) -> dict[tuple[str, str], float]:
    """The metrics where every call that the kernel passed on has gone one way or the other; else empty."""
    figures = read_figures(url)
    told = figures["used", "recognise"] + figures["used", "exchange"]
    return figures if told == figures["used", "kernel"] >= calls else {}


def read_consumers(inventory: Inventory, endpoints: Collection[str]) -> Counter[str]:
    """Calls of each principal at these endpoints; other tests' servers and clients are on this host too."""
    consumers: Counter[str] = Counter()
    for item in inventory.list_items("/consumers"):
        if item["kind"] == "principal":
            touched = inventory.get(f"/consumers/{item['id']}")["touched"]
            consumers[item["value"]] += sum(one["calls"] for one in touched if one["endpoint_id"] in endpoints)
    return +consumers


def test_every_call_is_at_its_endpoint(observed: Observed) -> None:
    assert len(observed.sent) == CALLS
    assert observe(observed.endpoints) == expect(observed.sent)


def test_no_principal_is_merged_or_split(observed: Observed) -> None:
    assert len(observed.credentials) == CREDENTIALS
    assert sorted(observed.consumers.values()) == sorted(observed.credentials.values())


def test_most_calls_were_recognised(observed: Observed) -> None:
    recognised = observed.figures["records", ""] - observed.figures["unlearned_calls", ""]
    # Who has a JWT, a password or a cookie needs a head of their own for each shape of request.
    assert recognised > CALLS * 0.6, observed.figures


def test_every_stage_is_balanced(observed: Observed) -> None:
    figures = observed.figures
    assert figures["seen", "kernel"] == figures["used", "kernel"]
    for stage in ("recognise", "exchange", "describe", "aggregate"):
        assert figures["seen", stage] == figures["used", stage], stage


def test_short_of_heads_calls_are_still_counted(product: Product, servers: Servers, tmp_path: Path) -> None:
    """One head a second: hardly a call is described, and none is lost."""
    config = tmp_path / "sensor.toml"
    config.write_text("heads_per_second = 1\n")
    server = servers.start("nginx", "127.0.0.1")
    _, address = product.start_collector()
    port = take_port()
    sensor = product.start_sensor(address, "--config", str(config), "--metrics-listen", f"127.0.0.1:{port}")
    metrics = f"http://127.0.0.1:{port}/metrics"
    with RawClient(server.address, server.port) as client:
        for number in range(503):  # Each with a password, whose user is in no hash that the kernel makes.
            client.call("GET", f"/orders/{number}", lines=(write_credential(4 * number, 0),))
    figures = wait_until(lambda: read_balanced(metrics, 503), "all calls counted, in balance")
    described = 503 - figures["unlearned_calls", ""] - figures["nameless_calls", ""]
    assert described < 50
    assert sensor.stop() == 0, sensor.log_tail()
    assert figures["seen", "kernel"] == figures["used", "kernel"] >= 503
