"""Requests that ask for too much or write what is not theirs, through the running product: an alert with the number or
the field's name, and no value outside the node."""

import http.client
import json
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import Product
from tests.e2e.inventory import Inventory
from tests.e2e.served import JsonHandler, serve
from tests.e2e.test_bodies import read_text
from tests.waiting import wait_for_equal, wait_until

pytestmark = [pytest.mark.kernel, pytest.mark.e2e]

PEOPLE = 40
MARK = "zwetschge"  # Of every value that attackers send.


class Handler(JsonHandler):
    """GraphQL, and profiles whose every field can be written."""

    def do_POST(self) -> None:  # noqa: N802 - the name is http.server's.
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_json({"data": {"me": {"id": 1}}} if self.path == "/graphql" else {"role": "user", "level": 1, **sent})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serve(Handler) as number:
        yield number


def post(port: int, path: str, key: str, document: object) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", path, json.dumps(document), {"X-Api-Key": key, "Content-Type": "application/json"})
    connection.getresponse().read()
    connection.close()


def find_alerts(inventory: Inventory) -> dict[str, dict[str, object]]:
    found = inventory.list_items("/alerts")
    return {str(alert["kind"]): alert for alert in found if alert["kind"] in ("query_cost", "mass_assignment")}


def test_contents_of_requests_are_reported_with_numbers_and_names_and_no_values(product: Product, port: int) -> None:
    collector, address = product.start_collector()
    sensor = product.start_sensor(address, constants={"sensor.agent.pipeline.BODY_FIRST_SAMPLES": 1_000})
    inventory = product.open_inventory(address)
    for who in range(PEOPLE):
        post(port, "/graphql", f"honest-{who}", {"query": "query Me { me { id name friends { id } } }"})
        post(port, "/profile", f"honest-{who}", {"name": f"n{who}", "city": "Ulm"})
    wait_until(lambda: inventory.count_calls(port) >= 2 * PEOPLE, "honest calls in the inventory")
    assert find_alerts(inventory) == {}
    logins = " ".join(f'a{n}: login(password: "{MARK}{n}") {{ token }}' for n in range(200))
    post(port, "/graphql", "guesser", {"query": f"mutation {{ {logins} }}"})
    post(port, "/profile", "climber", {"name": MARK, "role": f"{MARK}-admin"})
    wait_for_equal(lambda: len(find_alerts(inventory)), 2, "both attackers reported")
    alerts = find_alerts(inventory)
    title = str(alerts["query_cost"]["title"])
    assert "181 selections of one field at POST " in title and "/graphql of " in title
    assert "no other caller sends (`role`)" in str(alerts["mass_assignment"]["title"])
    assert "the answer has the value that was sent" in str(alerts["mass_assignment"]["why"])
    assert [alerts[kind]["risk"] for kind in ("query_cost", "mass_assignment")] == ["API4:2023", "API3:2023"]
    assert sensor.stop() == 0, sensor.log_tail()
    assert collector.stop() == 0, collector.log_tail()
    directory = product.data_directory.parent
    for place in (directory / "sensor", product.data_directory, directory / "logs"):
        assert MARK not in read_text(place)
