"""Every class of payload in every part of a request reaches the collector as evidence, at a low rate, on endpoints and
of callers that the sensor already knows, within seconds; and ordinary calls beside them leave none."""

import http.client
import json
import time
from collections.abc import Iterator
from typing import Final
from urllib.parse import quote

import pytest

from tests.e2e.conftest import Product
from tests.e2e.inventory import Inventory
from tests.e2e.served import JsonHandler, serve
from tests.sensor.describe.attacks.payloads import PAYLOADS as ESCAPED
from tests.waiting import DEADLINE_SECONDS, wait_until

pytestmark = [pytest.mark.kernel, pytest.mark.e2e, pytest.mark.full("sensor.describe.attacks")]

HONEST_CALLS: Final = 30  # More than the first calls of a route, which are all looked at.
BODY_PAUSE_SECONDS: Final = 1.1  # Of one route a body is read each second.
FORMS: Final = 4  # Routes that take bodies.
AGENT: Final = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36"
PAYLOADS: Final = {**ESCAPED, "splitting": "a\r\nSet-Cookie: b=c"}  # Line ends are escaped by where it stands.
PARTS: Final = ("path", "query", "header", "cookie")
# Of fields that the kernel passes over by name; an address has no mark that it could see.
UNREAD_FIELDS: Final = ("User-Agent", "Referer")
UNREAD_CLASSES: Final = tuple(kind for kind in PAYLOADS if kind != "ssrf")


class Handler(JsonHandler):
    """Answers everything with the same."""

    def do_GET(self) -> None:  # noqa: N802 - the name is http.server's.
        self.send_json({"items": []})

    def do_POST(self) -> None:  # noqa: N802 - the name is http.server's.
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_json({"ok": True})


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serve(Handler) as number:
        yield number


class Caller:
    """Somebody with a key, who begins a connection for each call unless told to keep it."""

    def __init__(self, port: int, key: str, *, is_kept: bool = False) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        self._key, self._is_kept = key, is_kept

    def call(self, target: str, body: str | None = None, **headers: str) -> None:
        named = {"X-Api-Key": self._key, "Cookie": "lang=de", "User-Agent": AGENT, "Referer": "http://h/a?b=c%20d"}
        if body is not None:
            named["Content-Type"] = "application/json"
        self._connection.request("GET" if body is None else "POST", target, body, named | headers)
        self._connection.getresponse().read()
        if not self._is_kept:
            self.close()

    def close(self) -> None:
        self._connection.close()


def write_line(payload: str) -> str:
    """As the value of a field, which has no line ends."""
    return payload.replace("\r\n", "%0d%0a")


def attack(port: int, part: str, number: int, payload: str) -> None:
    """One request, by a caller of its own."""
    caller = Caller(port, f"{part}-{number}")
    if part == "path":
        caller.call(f"/files/{quote(payload, safe='')}")
    elif part == "query":
        caller.call(f"/search?q={quote(payload)}")
    elif part == "header":
        caller.call("/search?q=pear", **{"X-Note": write_line(payload)})
    elif part == "cookie":
        caller.call("/search?q=pear", Cookie=f"lang=de; theme={quote(payload)}")
    else:
        if number % FORMS == 0:
            time.sleep(BODY_PAUSE_SECONDS)
        caller.call(f"/orders/v{number % FORMS}", json.dumps({"name": payload, "count": 1}))


def count_attackers(inventory: Inventory) -> int:
    return sum(item["attacks"] > 0 for item in inventory.list_items("/consumers"))


def count_attacks(inventory: Inventory) -> int:
    return sum(int(item["attacks"]) for item in inventory.list_items("/consumers"))


def await_attackers(inventory: Inventory, expected: int, what: str) -> int:
    """Until so many are told, neither more nor less; gives their number."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while count_attackers(inventory) < expected and time.monotonic() < deadline:
        time.sleep(0.2)
    assert count_attackers(inventory) == expected, what
    return expected


def wait_until_quiet(inventory: Inventory) -> None:
    """Until the number of attackers stays for two seconds: rows leave each second where they are new."""
    before = -1
    while before != (before := count_attackers(inventory)):
        time.sleep(2.0)


def test_every_class_in_every_part_is_evidence_within_seconds(product: Product, port: int) -> None:
    _, address = product.start_collector()
    product.start_sensor(address)
    inventory = product.open_inventory(address)
    for number in range(HONEST_CALLS):
        honest = Caller(port, f"honest-{number % 4}")
        honest.call(f"/search?q=pear+{number}")
        honest.call(f"/files/{number}")
        for form in range(FORMS):
            honest.call(f"/orders/v{form}", json.dumps({"name": f"Ann O'Neil {number}", "count": number}))
    known = {
        (field, kind): Caller(port, f"{field}-{kind}", is_kept=field == "Referer")
        for field in UNREAD_FIELDS
        for kind in UNREAD_CLASSES
    }
    for _ in range(3):
        for caller in known.values():
            caller.call("/search?q=pear")
    calls = (2 + FORMS) * HONEST_CALLS + 3 * len(known)
    wait_until(lambda: inventory.count_calls(port) >= calls, "all calls in the inventory")
    assert count_attackers(inventory) == 0
    for (field, kind), caller in known.items():
        caller.call("/search?q=pear", **{field: write_line(PAYLOADS[kind])})
        caller.close()
    expected = await_attackers(inventory, len(known), "by fields that are passed over")
    for part in PARTS:
        for number, payload in enumerate(PAYLOADS.values()):
            attack(port, part, number, payload)
        expected = await_attackers(inventory, expected + len(PAYLOADS), f"by {part}")
    assert count_attacks(inventory) == expected
    # A body is read where its route has a sample, each second at the most: the same callers send theirs again.
    deadline = time.monotonic() + DEADLINE_SECONDS
    while count_attackers(inventory) < expected + len(PAYLOADS) and time.monotonic() < deadline:
        for number, payload in enumerate(PAYLOADS.values()):
            attack(port, "body", number, payload)
        wait_until_quiet(inventory)
    await_attackers(inventory, expected + len(PAYLOADS), "by body")
    # Each sent one payload, which no answer confirms: evidence, and no alert.
    assert not [alert for alert in inventory.list_items("/alerts") if alert["kind"] == "injection"]
