"""A service that fetches what its callers name, through the running product: the fetch of an inner address becomes an
alert within seconds, and no host that a request named leaves the node."""

import http.client
import time
from collections.abc import Iterator
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from tests.e2e.conftest import Product
from tests.e2e.inventory import Inventory
from tests.e2e.served import JsonHandler, serve
from tests.e2e.test_bodies import read_text
from tests.waiting import wait_for_equal, wait_until

pytestmark = [pytest.mark.kernel, pytest.mark.e2e]

SECRET = "/mirabelle"  # Of the inner address.
WAIT_SECONDS = 2


class Inner(JsonHandler):
    def do_GET(self) -> None:  # noqa: N802 - the name is http.server's.
        self.send_json({"inner": True})


class Preview(JsonHandler):
    """Fetches `url`, and asks its own sidecar at each call."""

    sidecar = 0

    def do_GET(self) -> None:  # noqa: N802 - the name is http.server's.
        parts = urlsplit(self.path)
        fetch(self.sidecar, "/allow")
        asked = urlsplit(parse_qs(parts.query).get("url", [""])[0])
        if parts.path == "/preview" and asked.port:
            fetch(asked.port, asked.path)
        self.send_json({"ok": True})


def fetch(port: int, target: str, key: str = "") -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", target, headers={"X-Api-Key": key} if key else {})
    connection.getresponse().read()
    connection.close()


@pytest.fixture(scope="module")
def ports() -> Iterator[tuple[int, int, int]]:
    with serve(Inner) as inner, serve(Inner) as sidecar, serve(Preview) as preview:
        Preview.sidecar = sidecar
        yield preview, sidecar, inner


def find_alerts(inventory: Inventory) -> list[dict[str, object]]:
    return [alert for alert in inventory.list_items("/alerts") if alert["kind"] in ("ssrf", "injection")]


def test_a_fetch_of_an_inner_address_that_a_request_named_is_reported(
    product: Product, ports: tuple[int, int, int]
) -> None:
    preview, _, inner = ports
    collector, address = product.start_collector()
    names = "sensor.describe.attacks.ssrf."
    sensor = product.start_sensor(
        address, constants={names + "LEARNING_NS": 0, names + "WAIT_NS": WAIT_SECONDS * 10**9}
    )
    inventory = product.open_inventory(address)
    for number in range(20):
        fetch(preview, f"/list?page={number}", f"honest-{number % 4}")
    # Names of what the service calls anyway, and of what it does not call.
    fetch(preview, f"/login?back=http://127.0.0.1:{inner}/", "honest-1")
    wait_until(lambda: inventory.count_calls(preview) >= 21, "honest calls in the inventory")
    assert find_alerts(inventory) == []
    time.sleep(WAIT_SECONDS + 0.5)  # What follows within it is ascribed to the honest request as well.
    fetch(preview, f"/preview?url={quote(f'http://0x7f.1:{inner}{SECRET}', safe='')}", "thief")
    wait_until(lambda: bool(find_alerts(inventory)), "the fetch reported")
    (alert,) = find_alerts(inventory)
    assert (alert["kind"], alert["risk"]) == ("ssrf", "API7:2023")
    assert "the service then called the host inside that the request named" in str(alert["why"])

    def count_confirmed() -> int:
        found = [item for item in inventory.list_items("/consumers") if item["id"] == alert["consumer"]]
        return sum(item["attacks_confirmed"] for item in found)

    # An alert may come half a second before the rows that led to it.
    wait_for_equal(count_confirmed, 1, "the attack in the inventory")
    assert sensor.stop() == 0, sensor.log_tail()
    assert collector.stop() == 0, collector.log_tail()
    directory = product.data_directory.parent
    for place in (directory / "sensor", product.data_directory, directory / "logs"):
        assert "0x7f.1" not in read_text(place)
