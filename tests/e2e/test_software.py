"""Two kinds of client at one endpoint, told apart by the shape of their heads, in heads that user space reads and in
those that the kernel recognises: curl, a program with a name of its own, and the same that says it is curl."""

from collections import Counter
from collections.abc import Callable

import pytest

from scripts.ports import take_port
from tests.e2e.application import Servers
from tests.e2e.conftest import Product
from tests.e2e.inventory import Inventory
from tests.e2e.test_recognition import read_figures
from tests.e2e.wire import RawClient
from tests.waiting import wait_until

pytestmark = [pytest.mark.kernel, pytest.mark.e2e, pytest.mark.full("sensor.describe", "sensor.offload")]

CALLS = 211  # Of each consumer; a prime.
FIRST_CALLS = 20  # Before the kernel was taught.
CURL = ("User-Agent: curl/8.{}", "Accept: */*")
OWN = ("Accept-Encoding: gzip", "Accept: */*", "User-Agent: Zorbax-Reader/1.{}")
BORROWED = ("Accept-Encoding: gzip", "Accept: */*", "User-Agent: curl/8.{}")
CONSUMERS = {"honest-key-0123456789": CURL, "other-key-0123456789": OWN, "third-key-0123456789": BORROWED}


def send(address: str, port: int, wait_taught: Callable[[], object]) -> None:
    connections = {key: RawClient(address, port) for key in CONSUMERS}
    for number in range(CALLS):
        if number == FIRST_CALLS:
            wait_taught()
        for key, lines in CONSUMERS.items():
            own = [f"X-Api-Key: {key}", *(line.format(number) for line in lines)]
            connections[key].call("GET", f"/orders/{10_000 + number}", lines=tuple(own))
    for connection in connections.values():
        connection.close()


def read_softwares(inventory: Inventory) -> dict[str, Counter[str]]:
    """Calls by software of each consumer that has a credential."""
    items = inventory.get("/consumers", kind="principal")["items"]
    details = {item["id"]: inventory.get(f"/consumers/{item['id']}") for item in items}
    return {name: Counter(detail["calls_by_software"]) for name, detail in details.items()}


def test_software_is_told_of_every_call_and_of_no_call_a_version(product: Product, servers: Servers) -> None:
    server = servers.start("nginx", "127.0.0.1")
    _, address = product.start_collector()
    metrics_port = take_port()
    sensor = product.start_sensor(address, "--metrics-listen", f"127.0.0.1:{metrics_port}")
    inventory = product.open_inventory(address)
    metrics = f"http://127.0.0.1:{metrics_port}/metrics"

    def wait_taught() -> None:
        """One profile stands for each kind of client, whatever its key, for the records tell that."""
        wait_until(lambda: read_figures(metrics)["taught_profiles", ""] >= 3, "three profiles taught")

    send(server.address, server.port, wait_taught)
    wait_until(lambda: inventory.count_calls(server.port) >= 3 * CALLS, f"{3 * CALLS} calls in the inventory")
    assert sensor.stop() == 0, sensor.log_tail()
    found = list(read_softwares(inventory).values())
    assert [len(softwares) for softwares in found] == [1, 1, 1], found
    names = Counter({name: calls for softwares in found for name, calls in softwares.items()})
    assert len(names) == 3 and set(names.values()) == {CALLS}, names
    assert sorted(name.partition(" ")[0] for name in names if " " in name) == ["curl", "curl"]
    (own,) = (name for name in names if " " not in name)
    assert len(own) == 8 and "zorbax" not in own
