"""A client that floods a server with invented hosts, each answered with 2xx: hosts that are in use keep their names,
one that starts later gets its own, and every call is counted.

All clients are one workload here, which is the hardest case: nothing distinguishes their calls.
"""

import socket
from collections import Counter

import pytest

from tests.e2e.application import Servers
from tests.e2e.conftest import Product
from tests.e2e.inventory import Inventory, read_port
from tests.e2e.wire import build_request
from tests.waiting import DEADLINE_SECONDS, wait_for_equal, wait_until

pytestmark = [pytest.mark.kernel, pytest.mark.e2e]

ADDRESS = "127.0.0.1"
REAL = [f"shop{number}.example" for number in range(5)]
LATER = "later.example"
FLOOD, BATCHES = 20_000, 40
EACH = 23
MAX_HOSTS = 100
END = b'{"state": "sent"}'


class Connection:
    """Sends GETs, a batch in one write, and waits for the answers."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((ADDRESS, port), timeout=DEADLINE_SECONDS)

    def call(self, *hosts: str) -> None:
        for host in hosts:
            self._socket.sendall(build_request("GET", "/orders/42", host=host))
            answer = b""
            while END not in answer:
                answer += self._socket.recv(65_536)

    def close(self) -> None:
        self._socket.close()


def count_hosts(inventory: Inventory, port: int) -> Counter[str]:
    counts = Counter[str]()
    for item in inventory.list_items("/endpoints", operations="exclude"):
        if read_port(item) == port:
            counts[item["host"]] += item["calls"]
    return counts


def test_a_flood_of_invented_hosts_takes_no_real_one(product: Product, servers: Servers) -> None:
    _, address = product.start_collector()
    inventory = product.open_inventory(address)
    sensor = product.start_sensor(address)
    port = servers.start("nginx", ADDRESS).port
    asked = Counter[str]()

    def call(*hosts: str) -> None:
        # nginx closes a connection after 1,000 calls.
        connection = Connection(port)
        connection.call(*hosts)
        connection.close()
        asked.update(hosts)

    def list_real() -> dict[str, int]:
        found = count_hosts(inventory, port)
        return {host: found[host] for host in REAL}

    call(*REAL * EACH)
    wait_for_equal(list_real, {host: asked[host] for host in REAL}, "the hosts before the flood")
    each = FLOOD // BATCHES
    for batch in range(BATCHES):
        call(*(f"x{batch * each + number}.invalid" for number in range(each)))
        call(*REAL)
    wait_for_equal(lambda: count_hosts(inventory, port).total(), asked.total(), "every call of the flood")
    assert list_real() == {host: asked[host] for host in REAL}
    found = count_hosts(inventory, port)
    assert found["other"] > FLOOD - 2 * MAX_HOSTS
    assert len(found) <= 2 * MAX_HOSTS  # Some gave their places to others of the flood.

    def is_there() -> bool:
        call(LATER)
        return count_hosts(inventory, port)[LATER] > 0

    wait_until(is_there, "a host that starts later")
    before, sent = count_hosts(inventory, port)[LATER], asked[LATER]
    call(*[LATER, *REAL] * EACH)
    wait_for_equal(lambda: count_hosts(inventory, port).total(), asked.total(), "every call")
    assert count_hosts(inventory, port)[LATER] >= before + asked[LATER] - sent
    assert list_real() == {host: asked[host] for host in REAL}
    assert sensor.is_running
