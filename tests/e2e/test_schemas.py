"""What APIs look like, end to end: parameters, schemas of bodies and GraphQL operations of a real server's calls, as
the API tells them; and that no value and no key that is one leaves the node."""

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import Product
from tests.e2e.inventory import read_port
from tests.e2e.served import JsonHandler, serve
from tests.e2e.test_bodies import dump_store, read_text
from tests.waiting import wait_for_equal, wait_until

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.e2e,
    pytest.mark.full("sensor.describe.schemas", "sensor.offload", "collector.schemas", "collector.specs"),
]

SECRETS = ("kanarienvogel@example.org", "Zwetschgenknoedel", "9f1c2d3e-0000-4000-8000-123456789abc", "ginevra")
CALLS = 11
DESCRIPTION = {
    "openapi": "3.0.3",
    "info": {"title": "Orders", "version": "4", "description": SECRETS[1]},
    "paths": {
        "/orders/{id}": {"get": {"summary": SECRETS[3], "responses": {"200": {"description": SECRETS[0]}}}},
        "/invoices": {"get": {"responses": {}}},
    },
}


class Handler(JsonHandler):
    """Orders, accounts by id, and GraphQL."""

    def do_GET(self) -> None:  # noqa: N802 - the name is http.server's.
        if self.path == "/openapi.json":
            self.send_json(DESCRIPTION)
            return
        order = {"id": 7, "email": SECRETS[0], "note": SECRETS[1], "lines": [{"price": 1.5, "sku": "x y"}]}
        accounts = {SECRETS[2]: {"balance": 1}, SECRETS[3]: {"balance": 2}}
        self.send_json({"order": order, "accounts": accounts})

    def do_POST(self) -> None:  # noqa: N802 - the name is http.server's.
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_json({"data": {"orders": []}})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serve(Handler) as number:
        yield number


def send_calls(port: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for number in range(CALLS):
        connection.request("GET", f"/orders/{number}?page={number}&email={SECRETS[0]}", headers={"X-Tenant-Id": "4"})
        connection.getresponse().read()
        connection.request("GET", "/openapi.json")
        connection.getresponse().read()
        question = json.dumps({"query": "query ListOrders { orders { id } }", "variables": {}})
        connection.request("POST", "/graphql", question, {"Content-Type": "application/json"})
        connection.getresponse().read()
    connection.close()


def test_schemas(product: Product, port: int) -> None:
    # Descriptions are read with the risk.
    collector, address = product.start_collector(constants={"collector.server.compose.RISK_SECONDS": 2})
    sensor = product.start_sensor(address)
    inventory = product.open_inventory(address)
    send_calls(port)

    def find(template: str) -> dict[str, Any] | None:
        for item in inventory.list_items("/endpoints", operations="exclude"):
            if read_port(item) == port and item["template"] == template:
                found: dict[str, Any] = inventory.get(f"/endpoints/{item['id']}/schema")
                return found if found["responses"] else None
        return None

    wait_until(lambda: find("/orders/{order_id}") is not None, "the schema of orders")
    wait_until(lambda: find("/graphql") is not None, "the schema of GraphQL")
    orders, graphql = find("/orders/{order_id}"), find("/graphql")
    assert orders is not None
    assert graphql is not None
    told = orders["responses"][0]["schema"]["properties"]
    assert told["order"]["properties"]["email"] == {"type": "string", "format": "email"}
    assert told["order"]["properties"]["lines"]["items"]["properties"]["price"] == {"type": "number"}
    assert "uuid" in told["accounts"]["x-apidae-keys"]
    assert {("query", "page"), ("query", "email"), ("header", "x-tenant-id"), ("path", "order_id")} <= {
        (one["place"], one["name"]) for one in orders["parameters"]
    }
    assert [(one["protocol"], one["kind"], one["name"]) for one in graphql["operations"]] == [
        ("graphql", "query", "ListOrders")
    ]

    # What the service says of itself is compared with what it does.
    wait_for_equal(lambda: find_status(inventory, port, "/graphql"), "shadow", "the description")
    assert find_status(inventory, port, "/orders/{order_id}") == "documented"
    (told_spec,) = inventory.get("/specs")["items"]
    assert (told_spec["title"], told_spec["operations"]) == ("Orders", 2)
    assert told_spec["source"].endswith("/openapi.json") and told_spec["source"].startswith("traffic ")

    # It is an endpoint of its own, which has all of the path's calls by its samples, and no more.
    def count(**filters: str) -> list[tuple[str, int]]:
        items = [one for one in inventory.list_items("/endpoints", **filters) if read_port(one) == port]
        return [(one["kind"], one["calls"]) for one in items]

    all_calls = [("http", CALLS)]
    wait_for_equal(lambda: count(operations="exclude", q="graphql"), all_calls, "all calls of GraphQL")
    assert count(operation="ListOrders") == [("graphql query", CALLS)]
    document = inventory.get(f"/services/{find_service(inventory, port)}/openapi.json")
    assert {"/orders/{order_id}", "/graphql"} <= set(document["paths"])
    texts = json.dumps([orders, graphql, document])
    assert sensor.stop() == 0, sensor.log_tail()
    assert collector.stop() == 0, collector.log_tail()
    texts += read_text(product.data_directory) + dump_store(product.data_directory / "store")
    texts += read_text(product.data_directory.parent / "sensor") + read_text(product.data_directory.parent / "logs")
    assert "ListOrders" in texts
    for secret in SECRETS:
        assert secret not in texts


def find_status(inventory: Any, port: int, template: str) -> str:
    """What descriptions say of an endpoint."""
    items = inventory.list_items("/endpoints", operations="exclude")
    return next(one["spec"]["status"] for one in items if (read_port(one), one["template"]) == (port, template))


def find_service(inventory: Any, port: int) -> str:
    """As /services lists it."""
    return next(item["service"] for item in inventory.get("/services")["items"] if item["port"] == port)


def test_operations_are_counted_as_they_were_asked_for(product: Product, port: int) -> None:
    """Twelve logins of 600 calls, at a client's full speed, of which the kernel matches most: the first heads of a
    route are all samples."""
    collector, address = product.start_collector()
    sensor = product.start_sensor(address)
    inventory = product.open_inventory(address)
    asked = ["LoginUser"] * 12 + ["ListOrders", "GetOrder", "GetOrder"] * 196
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    for name in asked:
        question = json.dumps({"query": f"query {name} {{ orders {{ id }} }}", "operationName": name})
        connection.request("POST", "/graphql", question, {"Content-Type": "application/json"})
        connection.getresponse().read()
    connection.close()

    def count() -> dict[str, int]:
        items = [one for one in inventory.list_items("/endpoints", operations="only") if read_port(one) == port]
        return {one["operation"]["name"]: one["calls"] for one in items}

    wait_until(lambda: sum(count().values()) >= 0.99 * len(asked), "the operations of all calls")
    found = count()
    # Which share of a second's calls an operation has is what samples say. Rarer ones are within 1 % of all calls.
    # Where the calls go on for more than a second, those of the next one may have a dozen samples: others are within a
    # half, and together as many as there were but for those on the edge of two seconds.
    bound = 0.01 * len(asked)
    assert sum(found.values()) == pytest.approx(len(asked), rel=0.05)
    assert found["LoginUser"] == pytest.approx(asked.count("LoginUser"), abs=bound)
    assert {name: pytest.approx(asked.count(name), rel=0.5) for name in set(asked)} == found
    assert sensor.stop() == 0 and collector.stop() == 0
