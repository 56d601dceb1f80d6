"""An upgrade from the version before, with its own programs: the collector first, or the sensors first.

Calls are made before, between and after the steps, and while no collector runs. At the end every endpoint has exactly
the calls that were made, and alerts keep their ids.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from scripts.live.host import CollectorAddress, start_collector, start_sensor
from scripts.live.program import Program
from scripts.ports import take_port
from tests.e2e.earlier import Earlier, unpack_earlier
from tests.e2e.inventory import Inventory
from tests.e2e.served import JsonHandler, serve
from tests.e2e.test_attacks import PROBES, call
from tests.waiting import wait_for_equal, wait_until, wait_until_still

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.e2e,
    pytest.mark.full("sensor.export", "collector.log", "collector.receiver", "collector.storage", "collector.alerting"),
]

ORDERS, SEARCH = "/orders/{order_id}", "/search"
STILL_SECONDS = 3.0  # The collector writes what it has within one.


class Shop(JsonHandler):
    """Answers everything."""

    def do_GET(self) -> None:  # noqa: N802 - the name is http.server's.
        self.send_json({"items": []})


class Installation:
    """A collector and a sensor of one version or the other, on one data and one state directory."""

    def __init__(self, earlier: Earlier, cache: Path, directory: Path, stack: ExitStack) -> None:
        self.earlier = earlier
        self._cache = cache
        self._directory = directory
        self._stack = stack
        self._grpc_listen = f"127.0.0.1:{take_port()}"
        self._running: dict[str, Program] = {}
        self.sent: Counter[str] = Counter()  # Calls by template.
        self.port = stack.enter_context(serve(Shop))

    def start_collector(self, *, is_earlier: bool) -> Inventory:
        """Instead of the one that ran; its API."""
        self.stop("collector")
        data = self._directory / "data"
        if is_earlier:
            program, address = self.earlier.start_collector(data, self._make_log(), self._grpc_listen)
        else:
            logs = self._make_log().with_suffix("")
            logs.mkdir()
            program, address = start_collector(data, logs, grpc_listen=self._grpc_listen)
        self._keep("collector", program)
        inventory = Inventory(address.url)
        self._stack.callback(inventory.close)
        return inventory

    def start_sensor(self, *, is_earlier: bool) -> None:
        """Instead of the one that ran."""
        self.stop("sensor")
        collector, state = CollectorAddress(grpc=self._grpc_listen, http=""), self._directory / "state"
        if is_earlier:
            program = self.earlier.start_sensor(collector, state, self._make_log(), self._cache)
        else:
            logs = self._make_log().with_suffix("")
            logs.mkdir()
            program = start_sensor(collector, state, logs)
        self._keep("sensor", program)

    def stop(self, name: str) -> None:
        """As an upgrade does it: with SIGTERM."""
        if name in self._running:
            assert self._running.pop(name).stop() == 0

    def _keep(self, name: str, program: Program) -> None:
        self._running[name] = program
        self._stack.callback(program.stop)

    def _make_log(self) -> Path:
        return self._directory / f"log-{len(list(self._directory.iterdir()))}.txt"

    def call(self, orders: int, searches: int = 0) -> None:
        """Calls of one client, and of one that sends payloads of attacks."""
        for number in range(orders):
            call(self.port, f"/orders/{number}", "shopper")
        for probe in PROBES[:searches]:
            call(self.port, f"/search?q={quote(probe)}", "prober")
        self.sent += Counter({ORDERS: orders, SEARCH: searches})

    def wait_for_all(self, inventory: Inventory) -> None:
        """Every endpoint has the calls that were made, no more and no fewer."""
        wait_for_equal(lambda: self._count(inventory), dict(self.sent), "calls by endpoint are those that were made")

    def check_last(self, inventory: Inventory) -> None:
        """The same of the end: also once the sensor has sent all that it kept, and nothing changes any more. Else calls
        that come twice could come after the look."""
        self.wait_for_all(inventory)
        self.stop("sensor")
        assert wait_until_still(lambda: self._count(inventory), STILL_SECONDS) == dict(self.sent)

    def _count(self, inventory: Inventory) -> dict[str, int]:
        items = inventory.list_items("/endpoints")
        return {item["template"]: item["calls"] for item in items if item["service"]["port"] == self.port}


def list_alerts(inventory: Inventory) -> dict[str, str]:
    """Kinds of alerts by id, of attacks: others may come with time."""
    items: list[dict[str, Any]] = inventory.get("/alerts")["items"]
    return {item["id"]: item["kind"] for item in items if item["kind"] == "injection"}


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> Earlier:
    return unpack_earlier(tmp_path_factory.mktemp("earlier"))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compiled programs of the earlier sensor."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def installation(capture_host: None, earlier: Earlier, cache: Path, tmp_path: Path) -> Iterator[Installation]:
    with ExitStack() as stack:
        yield Installation(earlier, cache, tmp_path, stack)


def test_the_collector_first_loses_and_doubles_no_call_and_keeps_alerts(installation: Installation) -> None:
    inventory = installation.start_collector(is_earlier=True)
    installation.start_sensor(is_earlier=True)
    installation.call(orders=7, searches=len(PROBES))
    installation.wait_for_all(inventory)
    before = wait_until(lambda: list_alerts(inventory), "the attacker raises an alert")
    installation.stop("collector")
    installation.call(orders=5)  # Nobody takes these rows: the sensor keeps them.
    inventory = installation.start_collector(is_earlier=False)
    installation.call(orders=3)
    installation.wait_for_all(inventory)
    assert list_alerts(inventory) == before
    installation.start_sensor(is_earlier=False)
    installation.call(orders=11)
    installation.check_last(inventory)
    assert list_alerts(inventory) == before


def test_the_sensor_first_loses_and_doubles_no_call(installation: Installation) -> None:
    inventory = installation.start_collector(is_earlier=True)
    installation.start_sensor(is_earlier=True)
    installation.call(orders=7)
    installation.wait_for_all(inventory)
    installation.stop("collector")
    installation.call(orders=5)
    installation.start_sensor(is_earlier=False)  # It sends what the earlier one left in the spool.
    inventory = installation.start_collector(is_earlier=True)
    installation.call(orders=3)
    installation.wait_for_all(inventory)
    inventory = installation.start_collector(is_earlier=False)
    installation.call(orders=11)
    installation.check_last(inventory)
