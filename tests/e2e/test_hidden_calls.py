"""Clients that hide calls from the sensor in long heads and odd request lines: at nginx, Go and Python these are read
as others are, with host, credential and payload."""

import socket
from collections.abc import Iterator

import pytest

from tests.e2e.application import Server, Servers
from tests.e2e.conftest import Product
from tests.e2e.inventory import Inventory
from tests.waiting import wait_until

pytestmark = [pytest.mark.kernel, pytest.mark.e2e, pytest.mark.full("sensor.ebpf", "sensor.http", "sensor.capture")]

KINDS = ("python", "go", "nginx")
HOST = "shop.example"
PLAIN_CALLS = 20
IDENTITY = f"Host: {HOST}\r\nAuthorization: Bearer of-the-hider-abcdefgh\r\n\r\n"
PLAIN = f"GET /orders/101 HTTP/1.1\r\nHost: {HOST}\r\n\r\n"
FIELDS = "".join(f"X-Pad-{number}: {'p' * 900}\r\n" for number in range(12))
ATTACK = "x%27%20UNION%20SELECT%20password%20FROM%20users%20--"
LONG = {
    "fields": f"GET /orders/71 HTTP/1.1\r\n{FIELDS}{IDENTITY}",
    "two spaces": f"GET  /orders/72 HTTP/1.1\r\n{IDENTITY}",
    "query": f"GET /orders/73?p={'x' * 8_200}&q={ATTACK} HTTP/1.1\r\n{IDENTITY}",
}
# nginx takes 8 KiB of a line, and Go no second space.
REFUSED = {("nginx", "query"), ("go", "two spaces")}


def ask(port: int, *heads: str) -> list[int]:
    """Statuses of the answers, over one connection."""
    statuses = []
    with socket.create_connection(("127.0.0.1", port), timeout=60) as client:
        answers = client.makefile("rb")
        for head in heads:
            client.sendall(head.encode("latin-1"))
            statuses.append(int(answers.readline().split()[1]))
            size = 0
            while (line := answers.readline().strip()) != b"":
                name, _, value = line.partition(b":")
                size = int(value) if name.lower() == b"content-length" else size
            answers.read(size)
    return statuses


@pytest.fixture(scope="module")
def ports(servers: Servers) -> dict[str, Server]:
    return {kind: servers.start(kind, "127.0.0.1") for kind in KINDS}


@pytest.fixture(scope="module")
def inventory(product: Product, ports: dict[str, Server]) -> Iterator[Inventory]:
    """Of a product that saw all of it."""
    _, address = product.start_collector()
    product.start_sensor(address)
    for kind, server in ports.items():
        assert set(ask(server.port, *[PLAIN] * PLAIN_CALLS)) == {200}
        for name, head in LONG.items():
            assert (kind, name) in REFUSED or ask(server.port, head) == [200]
    yield product.open_inventory(address)


@pytest.mark.parametrize("kind", KINDS)
def test_long_heads_are_read_with_host_credential_and_payload(
    inventory: Inventory, ports: dict[str, Server], kind: str
) -> None:
    port = ports[kind].port
    long_calls = sum((kind, name) not in REFUSED for name in LONG)
    wait_until(lambda: inventory.count_calls(port) == PLAIN_CALLS + long_calls, "all calls are in the inventory")
    (endpoint,) = inventory.read_endpoints(port)
    assert (endpoint.host, endpoint.template) == (HOST, "/orders/{order_id}")
    assert [calls for name, calls in endpoint.consumers if not name.startswith("address:")] == [long_calls]
    (item,) = [one for one in inventory.list_items("/endpoints") if one["id"] == endpoint.id]
    assert item["attacks"] == ((kind, "query") not in REFUSED)
