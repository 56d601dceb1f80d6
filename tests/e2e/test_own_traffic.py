"""Apidae's own traffic is excluded and counted: what its collector serves and calls, whatever is done with it; and
nobody else's is, whatever it is called."""

import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from collector.cli.top.snapshot import read_snapshot
from scripts.live.host import CollectorAddress, start_sensor
from scripts.live.program import Program
from tests.collector.running import RunningCollector
from tests.e2e.conftest import Product
from tests.e2e.enrolled import NODE, command, enroll, greet
from tests.e2e.inventory import Inventory, read_port
from tests.e2e.served import JsonHandler
from tests.sensor.export.sending import IDENTITY
from tests.waiting import wait_until

pytestmark = [pytest.mark.kernel, pytest.mark.e2e]
FULL = pytest.mark.full("sensor.describe", "sensor.enrich", "sensor.ebpf", "collector.receiver")

OWN = "Apidae's own traffic"
PAGES, EXPORTS, POSTS, STREAMS = 30, 5, 3, 3
FOREIGN_CALLS = 23
# A server that says in every way open to a program that it is Apidae: by its name, and by a memory file like the
# collector's.
IMPOSTOR = """
import json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Server", "apidae")
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

mark = os.memfd_create("apidae-" + 64 * "0")
server = HTTPServer(("127.0.0.1", 0), Handler)
print(json.dumps({"event": "ready", "port": server.server_address[1]}), flush=True)
server.serve_forever()
"""


class ReceiverHandler(JsonHandler):
    """Takes what a notifier posts, and ends the connection at once, as many receivers do."""

    protocol_version = "HTTP/1.0"

    def do_POST(self) -> None:  # noqa: N802 - the name is http.server's.
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.received += 1
        self.send_json({})

    def do_GET(self) -> None:  # noqa: N802 - the name is http.server's.
        self.send_json({})


class Receiver(ThreadingHTTPServer):
    """Counts what it received."""

    received = 0


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    server = Receiver(("127.0.0.1", 0), ReceiverHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def impostor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a program that is called `apidae`."""
    directory = tmp_path_factory.mktemp("impostor")
    (directory / "apidae").write_text(IMPOSTOR)
    program = Program("impostor", [sys.executable, str(directory / "apidae")], directory / "impostor.log")
    yield int(program.wait_for("ready", 60)["port"])
    program.stop()


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A collector with a notifier, what it posts to, and an impostor."""

    product: Product
    settings: Path
    receiver: Receiver
    impostor: int

    def start_collector(self, grpc_listen: str = "127.0.0.1:0") -> CollectorAddress:
        return self.product.start_collector("--config", str(self.settings), grpc_listen=grpc_listen)[1]

    def use(self, address: CollectorAddress) -> None:
        """What people and programs do with a collector, what it does by itself, and calls of others."""
        with httpx.Client(base_url=address.url, timeout=60) as client:
            for _ in range(PAGES):
                assert client.get("/").status_code == 200
                assert client.get("/api/v1/endpoints", params={"limit": 5}).status_code == 200
                assert client.get("/metrics").status_code == 200
                assert read_snapshot(client).error == ""
            for _ in range(EXPORTS):
                client.get("/api/v1/openapi.json")
                client.get(f"/api/v1/services/apidae:{self.impostor}/openapi.json")
            before = self.receiver.received
            for _ in range(POSTS):
                assert client.post("/api/v1/notifiers/webhook/test", json={"asked_by": "test"}).json()["outcome"]
            assert self.receiver.received == before + POSTS
        headers = {"User-Agent": "apidae", "X-Apidae": "own"}
        for port in (self.impostor, self.receiver.server_address[1]):
            for number in range(FOREIGN_CALLS):
                httpx.get(
                    f"http://127.0.0.1:{port}/orders/{1000 + number}", headers=headers, timeout=60
                ).raise_for_status()


@pytest.fixture(scope="module")
def stage(product: Product, receiver: Receiver, impostor: int, tmp_path_factory: pytest.TempPathFactory) -> Stage:
    settings = tmp_path_factory.mktemp("settings") / "collector.toml"
    url = f"http://127.0.0.1:{receiver.server_address[1]}/hook"
    settings.write_text(f'[[notifiers]]\nkind = "webhook"\nurl = "{url}"\n')
    return Stage(product=product, settings=settings, receiver=receiver, impostor=impostor)


def list_excluded(inventory: Inventory) -> dict[int, int]:
    """Calls that are excluded as Apidae's own, by the port that served them."""
    rows: list[dict[str, Any]] = inventory.list_items("/coverage/ports")
    own = [row for row in rows if row["protocol"] == "left_out" and row["address"] == OWN]
    assert all("Apidae serves or makes these calls" in row["reason"] for row in own)
    return {row["service"]["port"]: row["calls"] for row in own}


def list_methods(inventory: Inventory, port: int) -> dict[str, int]:
    """Calls of the endpoints of a port, by method."""
    items = [item for item in inventory.list_items("/endpoints") if read_port(item) == port]
    return {
        method: sum(one["calls"] for one in items if one["method"] == method) for method in {i["method"] for i in items}
    }


def test_own_traffic_is_excluded_and_counted_and_no_other_is(stage: Stage) -> None:
    address = stage.start_collector()
    sensor = stage.product.start_sensor(address)
    inventory = stage.product.open_inventory(address)
    http_port, grpc_port = (int(one.rpartition(":")[2]) for one in (address.http, address.grpc))
    receiver_port = stage.receiver.server_address[1]
    stage.use(address)
    # Another collector in its place, and a call before the sensor has greeted it.
    address = stage.start_collector(grpc_listen=address.grpc)
    stage.use(address)
    inventory = stage.product.open_inventory(address)
    own_ports = {http_port, grpc_port, int(address.http.rpartition(":")[2])}
    foreign = 2 * FOREIGN_CALLS
    wait_until(
        lambda: inventory.count_calls(stage.impostor) == foreign and inventory.count_calls(receiver_port) >= foreign,
        "calls of others in the inventory",
    )
    wait_until(
        lambda: (
            list_excluded(inventory).get(receiver_port, 0) >= 2 * POSTS
            and sum(list_excluded(inventory).values()) >= 2 * (5 * PAGES + 2 * EXPORTS + POSTS)
        ),
        "own calls counted as excluded",
    )
    assert sensor.stop() == 0, sensor.log_tail()
    endpoints = inventory.list_items("/endpoints")
    assert {read_port(item) for item in endpoints} & own_ports == set()
    assert list_methods(inventory, receiver_port) == {"GET": foreign}
    assert list_methods(inventory, stage.impostor) == {"GET": foreign}
    assert list_excluded(inventory)[receiver_port] == stage.receiver.received
    assert inventory.get("/specs")["items"] == []
    # Total, by whoever called: nothing of Apidae's own is in it.
    assert sum(one["calls"] for one in inventory.list_items("/consumers")) == 2 * foreign
    told = str([inventory.get(path) for path in ("/alerts", "/findings", "/incidents", "/services", "/exposure")])
    assert not [port for port in own_ports if f":{port}" in told or f"'port': {port}" in told]


@FULL
def test_what_the_collector_serves_is_excluded_by_system_calls_too(stage: Stage, tmp_path: Path) -> None:
    (tmp_path / "sensor.toml").write_text('capture = "syscalls"\n')
    address = stage.start_collector()
    sensor = stage.product.start_sensor(address, "--config", str(tmp_path / "sensor.toml"))
    inventory = stage.product.open_inventory(address)
    http_port = int(address.http.rpartition(":")[2])
    stage.use(address)
    wait_until(lambda: list_excluded(inventory).get(http_port, 0) >= 3 * PAGES, "pages counted as excluded")
    assert sensor.stop() == 0, sensor.log_tail()
    assert list_methods(inventory, http_port) == {}
    assert list_methods(inventory, stage.impostor).keys() == {"GET"}


@FULL
def test_the_port_behind_the_tls_of_grpc_is_excluded(capture_host: None, tmp_path: Path) -> None:
    with ExitStack() as ends:
        collector = RunningCollector(tmp_path / "data", "--sensor-auth", "certificate")
        ends.callback(collector.stop)
        address = CollectorAddress(grpc=collector.ready["grpc"], http=collector.ready["http"])
        token = command(tmp_path / "data", "enrollment", "create", "--node", IDENTITY.node)
        assert enroll(address.grpc, tmp_path / "state", token).returncode == 0
        sensor = start_sensor(address, tmp_path / "state", tmp_path, *NODE)
        ends.callback(sensor.stop)
        for _ in range(STREAMS):
            assert greet(address.grpc, tmp_path) == ""
        api_token = (tmp_path / "data" / "api.token").read_text().strip()

        def list_items(path: str) -> list[dict[str, Any]]:
            answer: list[dict[str, Any]] = collector.get(path, api_token).json()["items"]
            return answer

        ports = {int(one.rpartition(":")[2]) for one in (address.grpc, address.http)}

        def count_behind() -> int:
            rows = [row for row in list_items("/coverage/ports?limit=500") if row["address"] == OWN]
            return sum(row["calls"] for row in rows if row["service"]["port"] not in ports)

        wait_until(lambda: count_behind() >= STREAMS, "streams counted as excluded")
        assert sensor.stop() == 0, sensor.log_tail()
        # By the host that was dialled: who else runs here may have a stream of that name.
        assert not [item for item in list_items("/endpoints?limit=500") if item["host"] == address.grpc]
