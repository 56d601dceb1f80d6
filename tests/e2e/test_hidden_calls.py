"""Clients that hide calls from the sensor. In long heads, in odd request lines and behind a granted CONNECT they are
read as others are; of pipelined ones each is read or counted as lost, and an alert names the client."""

import socket
import threading
from collections.abc import Iterator
from typing import BinaryIO

import pytest

from tests.e2e.application import Server, Servers
from tests.e2e.conftest import Product
from tests.e2e.inventory import Inventory
from tests.waiting import wait_for_equal, wait_until

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
TUNNEL = f"CONNECT /orders/1 HTTP/1.1\r\nHost: {HOST}\r\n\r\n"
TUNNELLED_CALLS = 100
HIDERS = {"nginx": "127.0.0.2", "go": "127.0.0.3"}
TRAINS, TRAIN_CALLS = 10, 900


def ask(port: int, *flights: str, source: str = "127.0.0.1") -> list[int]:
    """Statuses of the answers, over one connection. A flight is one request or many, which are sent at once."""
    statuses = []
    with socket.create_connection(("127.0.0.1", port), timeout=60, source_address=(source, 0)) as client:
        answers = client.makefile("rb")
        for flight in flights:
            sender = threading.Thread(target=client.sendall, args=(flight.encode("latin-1"),))
            sender.start()
            statuses += [read_answer(answers) for _ in range(flight.count("\r\n\r\n"))]
            sender.join()
    return statuses


def read_answer(answers: BinaryIO) -> int:
    status, size = int(answers.readline().split()[1]), 0
    while (line := answers.readline().strip()) != b"":
        name, _, value = line.partition(b":")
        size = int(value) if name.lower() == b"content-length" else size
    answers.read(size)
    return status


@pytest.fixture(scope="module")
def ports(servers: Servers) -> dict[str, Server]:
    return {kind: servers.start(kind, "127.0.0.1") for kind in KINDS}


@pytest.fixture(scope="module")
def tunnels(servers: Servers) -> dict[str, Server]:
    return {kind: servers.start(kind, "127.0.0.1") for kind in ("python", "go")}


@pytest.fixture(scope="module")
def pipelined(servers: Servers) -> dict[str, Server]:
    return {kind: servers.start(kind, "127.0.0.1") for kind in HIDERS}


@pytest.fixture(scope="module")
def inventory(
    product: Product, ports: dict[str, Server], tunnels: dict[str, Server], pipelined: dict[str, Server]
) -> Iterator[Inventory]:
    """Of a product that saw all of it."""
    _, address = product.start_collector()
    product.start_sensor(address)
    for kind, server in ports.items():
        assert set(ask(server.port, *[PLAIN] * PLAIN_CALLS)) == {200}
        for name, head in LONG.items():
            assert (kind, name) in REFUSED or ask(server.port, head) == [200]
    for server in tunnels.values():
        statuses = ask(server.port, TUNNEL, *(f"GET /orders/{number} HTTP/1.1\r\n{IDENTITY}" for number in range(100)))
        assert statuses == [200] * (TUNNELLED_CALLS + 1)
    for kind, server in pipelined.items():
        assert set(ask(server.port, *[PLAIN] * PLAIN_CALLS)) == {200}
        assert ask(server.port, *[PLAIN * TRAIN_CALLS] * TRAINS, source=HIDERS[kind]) == [200] * TRAINS * TRAIN_CALLS
    yield product.open_inventory(address)


@pytest.mark.parametrize("kind", KINDS)
def test_long_heads_are_read_with_host_credential_and_payload(
    inventory: Inventory, ports: dict[str, Server], kind: str
) -> None:
    port = ports[kind].port
    long_calls = sum((kind, name) not in REFUSED for name in LONG)
    wait_for_equal(lambda: inventory.count_calls(port), PLAIN_CALLS + long_calls, "all calls are in the inventory")
    (endpoint,) = inventory.read_endpoints(port)
    assert (endpoint.host, endpoint.template) == (HOST, "/orders/{order_id}")
    assert [calls for name, calls in endpoint.consumers if not name.startswith("address:")] == [long_calls]
    (item,) = [one for one in inventory.list_items("/endpoints") if one["id"] == endpoint.id]
    assert item["attacks"] == ((kind, "query") not in REFUSED)


@pytest.mark.parametrize("kind", ["python", "go"])
def test_calls_behind_a_granted_connect_are_read(inventory: Inventory, tunnels: dict[str, Server], kind: str) -> None:
    port = tunnels[kind].port
    wait_for_equal(lambda: inventory.count_calls(port), TUNNELLED_CALLS + 1, "all calls are in the inventory")
    found = {(one.method, one.template): one.calls for one in inventory.read_endpoints(port)}
    assert found["GET", "/orders/{order_id}"] == TUNNELLED_CALLS


@pytest.mark.parametrize("kind", list(HIDERS))
def test_pipelined_calls_are_read_or_lost_and_their_client_is_named(
    inventory: Inventory, pipelined: dict[str, Server], kind: str
) -> None:
    port, sent = pipelined[kind].port, PLAIN_CALLS + TRAINS * TRAIN_CALLS

    def count_lost() -> int:
        rows = inventory.list_items("/coverage/ports")
        return sum(row["lost_calls"] for row in rows if row["service"]["port"] == port and row["role"] == "listening")

    def is_complete() -> bool:
        found = inventory.count_calls(port) + count_lost()
        return abs(found - sent) <= 0.03 * sent

    wait_until(is_complete, "each call is read or lost")

    def find() -> list[dict[str, object]]:
        return [
            one
            for one in inventory.list_items("/alerts")
            if one["kind"] == "unread_traffic" and f":{port}," in str(one["title"])
        ]

    # What is unread goes with the rows of the next calls of its service.
    wait_until(lambda: bool(ask(port, PLAIN)) and bool(find()), "the alert")
    (alert,) = find()
    assert alert["consumer"] == f"address:{HIDERS[kind]}"
