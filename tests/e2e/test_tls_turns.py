"""A server over TLS that makes more calls than are read: it is read in turns, its routes' calls and those that are
estimated are together what was made, and its neighbour, who runs the same library, is read always.
"""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from scripts.bench_cases.harming.load import Round, run_wrk, write_script
from scripts.demo.nginx import Nginx, find_nginx
from tests.bpf.wire import serving
from tests.e2e.application import Servers
from tests.e2e.certificates import Certificate
from tests.e2e.conftest import Product
from tests.e2e.inventory import Inventory
from tests.e2e.wire import RawClient
from tests.waiting import DEADLINE_SECONDS, wait_until, wait_until_still

pytestmark = [pytest.mark.kernel, pytest.mark.e2e, pytest.mark.full("sensor.capture.tls", "sensor.ebpf")]

ADDRESS = "127.0.0.1"
# Far below what wrk makes on any machine that runs the tests.
CALLS_PER_SECOND, CALLS_BURST = 100, 250
CONNECTIONS = 8
LOAD_SECONDS = 24
# The governor waits 20 s before it reads less; its budget is far below what these calls take.
GOVERNED_SECONDS = 45
LITTLE_CORE_SHARE = 0.004
STILL_SECONDS = 4.0
NEIGHBOUR_REST_SECONDS = 0.25
# Of the neighbour's calls, those that may fall into the moment in which it gets probes of its own, and back.
NEIGHBOUR_MISSED = 2
CLOSE_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Observed:
    """What was made, and what is told of it in the end; `reasons` are the coverage's while it was made."""

    load: Round
    hot: list[dict[str, Any]]  # Endpoints.
    row: dict[str, Any]  # Of the coverage.
    reasons: set[str]
    neighbour_made: int
    neighbour_read: int


@pytest.fixture(scope="module")
def tls_servers(tmp_path_factory: pytest.TempPathFactory, certificate: Certificate) -> Iterator[Servers]:
    running = Servers(tmp_path_factory.mktemp("servers"), certificate)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def observed(
    product: Product, tls_servers: Servers, certificate: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> Observed:
    directory = tmp_path_factory.mktemp("turns")
    hot, neighbour = (tls_servers.start(kind, ADDRESS).port for kind in ("nginx", "python"))
    _, address = product.start_collector()
    config = directory / "sensor.toml"
    config.write_text(f"read_tls = 'full'\nheads_per_second = {CALLS_PER_SECOND}\n")
    sensor = product.start_sensor(address, "--config", str(config))
    inventory = product.open_inventory(address)
    wait_until(lambda: "libssl" in sensor.log_path.read_text(), "the library is found")
    time.sleep(1.0)
    script, loads = write_script(directory / "load.lua", pace_ms=2), list[Round]()
    url = f"https://{ADDRESS}:{hot}"
    thread = threading.Thread(target=lambda: loads.append(run_wrk(url, CONNECTIONS, LOAD_SECONDS, script)))
    thread.start()
    made, reasons = 0, set[str]()
    context = ssl.create_default_context(cafile=str(certificate.authority))
    while thread.is_alive():
        with RawClient(ADDRESS, neighbour, tls=context) as client:
            assert client.call("GET", "/orders/7").status == 200
        made += 1
        reasons.add(str(read_row(inventory, hot).get("reason", "")))
        time.sleep(NEIGHBOUR_REST_SECONDS)
    wait_until_still(lambda: inventory.count_calls(hot, neighbour), STILL_SECONDS)
    assert sensor.stop() == 0, sensor.log_tail()
    wait_until_still(lambda: inventory.count_calls(hot, neighbour), STILL_SECONDS)
    endpoints = inventory.list_items("/endpoints", operations="exclude")
    return Observed(
        load=loads[0],
        hot=[one for one in endpoints if one["service"]["port"] == hot],
        row=read_row(inventory, hot),
        reasons=reasons,
        neighbour_made=made,
        neighbour_read=inventory.count_calls(neighbour),
    )


def read_row(inventory: Inventory, port: int) -> dict[str, Any]:
    """What the coverage says of a port that is read."""
    rows = inventory.list_items("/coverage/ports")
    return next((row for row in rows if row["service"]["port"] == port and row["protocol"] == "https"), {})


def test_calls_that_are_read_and_estimated_are_those_that_were_made(observed: Observed) -> None:
    calls = {one["template"]: one["calls"] for one in observed.hot}
    assert observed.load.errors == 0
    assert sum(calls.values()) == pytest.approx(observed.load.calls, rel=CLOSE_SHARE), calls
    read = calls.get("/orders/{order_id}", 0)
    assert CALLS_PER_SECOND * LOAD_SECONDS / 4 < read < observed.load.calls / 2, calls


def test_what_was_not_read_is_marked(observed: Observed) -> None:
    marks = {one["template"]: one["is_estimated"] for one in observed.hot}
    assert marks.pop("/orders/{order_id}") is False
    assert set(marks.values()) == {True}, marks


def test_the_coverage_says_so(observed: Observed) -> None:
    assert any("% of the time, and other calls are estimated" in reason for reason in observed.reasons)
    row = observed.row
    assert row["calls"] + row["estimated_calls"] == pytest.approx(observed.load.calls, rel=CLOSE_SHARE)


def test_its_neighbour_is_read_always(observed: Observed) -> None:
    assert observed.neighbour_made - NEIGHBOUR_MISSED <= observed.neighbour_read <= observed.neighbour_made


UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
FRAME = b"\x81\x85abcdhello"  # Text of a client, masked.
ECHO = b"\x81\x05hello"
SOCKETS, LATE_SOCKETS = 3, 1  # Opened before the load, and in the midst of it.
MESSAGE_GAP_SECONDS = 0.005
NGINX_SOCKETS = """
        location /orders/ {{ return 200 '{{}}'; }}
        location /ws {{
            proxy_pass http://127.0.0.1:{port};
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
        }}
"""


def echo_frames(connection: socket.socket) -> None:
    """A WebSocket's server that answers each of `FRAME` with one of its own."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += connection.recv(4_096)
    connection.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: x\r\n\r\n"
    )
    while connection.recv(len(FRAME)):
        connection.sendall(ECHO)


class Talk:
    """A WebSocket over TLS whose client asks and waits for the answer, again and again."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        plain = socket.create_connection((ADDRESS, port), timeout=DEADLINE_SECONDS)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = context.wrap_socket(plain, server_hostname=ADDRESS)
        self._socket.sendall(f"GET /ws HTTP/1.1\r\nHost: {ADDRESS}\r\n{UPGRADE}\r\n".encode())
        assert self._socket.recv(4_096).startswith(b"HTTP/1.1 101")
        self.messages = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._is_over.wait(MESSAGE_GAP_SECONDS):
            self._socket.sendall(FRAME)
            assert self._socket.recv(len(ECHO)) == ECHO
            self.messages += 1

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join()
        self._socket.close()


def test_messages_of_websockets_are_not_estimated_as_calls(
    product: Product, certificate: Certificate, tmp_path: Path
) -> None:
    """Of sockets whose upgrade was read, and of one that was opened while nobody looked."""
    if find_nginx() is None:
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    _, address = product.start_collector()
    config = tmp_path / "sensor.toml"
    config.write_text(f"read_tls = 'full'\nheads_per_second = {CALLS_PER_SECOND}\n")
    files = f"ssl_certificate {certificate.certificate}; ssl_certificate_key {certificate.key};"
    with serving(echo_frames) as upstream:
        nginx = Nginx(tmp_path / "nginx", files + NGINX_SOCKETS.format(port=upstream), listen="ssl reuseport")
        sensor = product.start_sensor(address, "--config", str(config))
        inventory = product.open_inventory(address)
        wait_until(lambda: "libssl" in sensor.log_path.read_text(), "the library is found")
        time.sleep(1.0)
        context = ssl.create_default_context(cafile=str(certificate.authority))
        talks = [Talk(nginx.port, context) for _ in range(SOCKETS)]
        script, loads = write_script(tmp_path / "load.lua", pace_ms=16), list[Round]()
        url = f"https://{ADDRESS}:{nginx.port}"
        thread = threading.Thread(target=lambda: loads.append(run_wrk(url, CONNECTIONS, LOAD_SECONDS, script)))
        thread.start()
        wait_until(lambda: "estimated" in str(read_row(inventory, nginx.port).get("reason", "")), "it is read in turns")
        talks += [Talk(nginx.port, context) for _ in range(LATE_SOCKETS)]
        thread.join()
        for talk in talks:
            talk.stop()
        wait_until_still(lambda: inventory.count_calls(nginx.port), STILL_SECONDS)
        assert sensor.stop() == 0, sensor.log_tail()
        wait_until_still(lambda: inventory.count_calls(nginx.port), STILL_SECONDS)
        nginx.stop()
    messages, counted = sum(talk.messages for talk in talks), inventory.count_calls(nginx.port)
    assert messages > loads[0].calls / 2, "there are enough of them to tell"
    assert counted == pytest.approx(loads[0].calls, rel=2 * CLOSE_SHARE), f"{messages} messages"


def test_the_sensor_reads_less_where_its_budget_is_used(product: Product, tls_servers: Servers, tmp_path: Path) -> None:
    """Calls within `heads_per_second` of the process, and beyond the sensor's processor time: none is lost."""
    port = tls_servers.start("nginx", ADDRESS).port
    _, address = product.start_collector()
    config = tmp_path / "sensor.toml"
    config.write_text(f"read_tls = 'full'\ncapture_budget_core_share = {LITTLE_CORE_SHARE}\n")
    sensor = product.start_sensor(address, "--config", str(config))
    inventory = product.open_inventory(address)
    wait_until(lambda: "libssl" in sensor.log_path.read_text(), "the library is found")
    time.sleep(1.0)
    script, loads = write_script(tmp_path / "load.lua", pace_ms=16), list[Round]()
    url = f"https://{ADDRESS}:{port}"
    thread = threading.Thread(target=lambda: loads.append(run_wrk(url, CONNECTIONS, GOVERNED_SECONDS, script)))
    thread.start()
    reasons = set[str]()
    while thread.is_alive():
        reasons.add(str(read_row(inventory, port).get("reason", "")))
        time.sleep(NEIGHBOUR_REST_SECONDS)
    assert loads[0].errors == 0
    assert any("processor time is at its budget" in reason for reason in reasons), reasons
    assert sensor.stop() == 0, sensor.log_tail()
    wait_until_still(lambda: inventory.count_calls(port), STILL_SECONDS)
    assert inventory.count_calls(port) == pytest.approx(loads[0].calls, rel=CLOSE_SHARE)
