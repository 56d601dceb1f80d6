"""What a node with one server of each kind is told of itself: nginx in the clear, HTTPS, HTTP/2 in the clear, a unix
socket, a listener of QUIC, and one that nobody calls.

Everything that listens is there before the sensor; all calls are made after it captures; counts are primes.
"""

import contextlib
import http.client
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from scripts.demo.nginx import Nginx, find_nginx
from scripts.ports import take_port
from tests.bpf.tls import client_context, make_certificate, serving_https
from tests.e2e.application import Servers, find_or_skip
from tests.e2e.conftest import Product
from tests.e2e.inventory import Inventory
from tests.e2e.wire import RawClient
from tests.waiting import DEADLINE_SECONDS, wait_until

pytestmark = [pytest.mark.kernel, pytest.mark.e2e]

ADDRESS = "127.0.0.1"
PLAIN_CALLS, TLS_CALLS, TLS_CONNECTIONS, HTTP2_CALLS, FLOWS = 23, 13, 3, 7, 5
QUIC_INITIAL = b"\xc3\x00\x00\x00\x01" + b"q" * 1195
HTTP2 = "http2 on; location / { return 200 '{}'; }"


@dataclass(slots=True, kw_only=True)
class Seen:
    """The ports of the servers, and what the collector says of them at the end."""

    ports: dict[str, int]
    unix_path: str
    rows: list[dict[str, Any]]
    coverage: dict[str, Any]
    history: dict[str, Any]
    metrics: str

    def rows_of(self, name: str) -> dict[str, dict[str, Any]]:
        """Rows of a port by protocol, listening ends only."""
        return {
            row["protocol"]: row
            for row in self.rows
            if row["service"]["port"] == self.ports[name] and row["role"] == "listening"
        }


@contextlib.contextmanager
def serving_unix(path: Path) -> Iterator[None]:
    """A unix socket with one connection open."""
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(path))
        listener.listen()
        client.connect(str(path))
        accepted, _ = listener.accept()
        with accepted:
            yield


@contextlib.contextmanager
def serving_datagrams() -> Iterator[int]:
    """A UDP socket that answers what comes; yields its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((ADDRESS, 0))
        server.settimeout(0.2)
        is_over = threading.Event()

        def answer() -> None:
            while not is_over.is_set():
                with contextlib.suppress(TimeoutError):
                    data, peer = server.recvfrom(2_000)
                    server.sendto(data, peer)

        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            is_over.set()
            thread.join()


def call_https(port: int) -> None:
    for _ in range(TLS_CONNECTIONS):
        client = http.client.HTTPSConnection(ADDRESS, port, timeout=DEADLINE_SECONDS, context=client_context())
        client.sock = client_context().wrap_socket(
            socket.create_connection((ADDRESS, port), timeout=DEADLINE_SECONDS), server_hostname="api.shop.example"
        )
        with contextlib.closing(client):
            for _ in range(TLS_CALLS):
                client.request("GET", "/50")
                client.getresponse().read()


def call_http2(port: int) -> None:
    curl = find_or_skip("curl", "curl")
    urls = [f"http://{ADDRESS}:{port}/{number}" for number in range(HTTP2_CALLS)]
    command = [curl, "--silent", "--noproxy", "*", "--http2-prior-knowledge", *urls]
    subprocess.run(command, check=True, timeout=DEADLINE_SECONDS)


def call_datagrams(port: int) -> None:
    for _ in range(FLOWS):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(DEADLINE_SECONDS)
            client.connect((ADDRESS, port))
            client.send(QUIC_INITIAL)
            client.recv(2_000)


@pytest.fixture(scope="module")
def seen(
    product: Product, servers: Servers, tmp_path_factory: pytest.TempPathFactory, capture_host: None
) -> Iterator[Seen]:
    """Starts all servers, then the product, makes the calls, and reads the report until all of them are in it."""
    if find_nginx() is None:
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    directory = tmp_path_factory.mktemp("coverage")
    unix_path = directory / "app.sock"
    with ExitStack() as stack:
        plain = servers.start("nginx", ADDRESS)
        clear = Nginx(directory / "http2", HTTP2)
        stack.callback(clear.stop)
        stack.enter_context(serving_unix(unix_path))
        silent = stack.enter_context(socket.create_server((ADDRESS, 0)))
        ports = {
            "plain": plain.port,
            "tls": stack.enter_context(serving_https(make_certificate(directory), ssl.TLSVersion.TLSv1_3)),
            "http2": clear.port,
            "quic": stack.enter_context(serving_datagrams()),
            "silent": silent.getsockname()[1],
        }
        _, address = product.start_collector()
        metrics_port = take_port()
        product.start_sensor(address, "--read-tls", "off", "--metrics-listen", f"{ADDRESS}:{metrics_port}")
        inventory = product.open_inventory(address)
        client = RawClient(ADDRESS, ports["plain"])
        for number in range(PLAIN_CALLS):
            client.call("GET", f"/orders/{number}")
        client.close()
        call_https(ports["tls"])
        call_http2(ports["http2"])
        call_datagrams(ports["quic"])
        seen = Seen(ports=ports, unix_path=str(unix_path), rows=[], coverage={}, history={}, metrics="")
        with contextlib.suppress(AssertionError):  # Each test says what is missing of its own.
            wait_until(lambda: not read(seen, inventory), "every server in the report")
            # Hours are a table of their own, which the store writes after the rows.
            wait_until(lambda: read_history(seen, inventory) >= HTTP_CONNECTIONS, "their connections by hour")
        seen.coverage = inventory.get("/coverage")
        seen.metrics = httpx.get(f"http://{ADDRESS}:{metrics_port}/metrics", timeout=60).text
        yield seen


HTTP_CONNECTIONS = 1 + TLS_CONNECTIONS + 1
EXPECTED = (
    ("plain", "http", "calls", PLAIN_CALLS),
    ("tls", "encrypted", "estimated_calls", TLS_CALLS * TLS_CONNECTIONS),
    ("http2", "http2", "calls", HTTP2_CALLS),
    ("quic", "quic", "connections", FLOWS),
)


def read(seen: Seen, inventory: Inventory) -> list[str]:
    """What the report does not have yet of what was sent."""
    seen.rows = inventory.list_items("/coverage/ports")
    found = [
        (name, figure, seen.rows_of(name).get(protocol, {}).get(figure, 0), wanted)
        for name, protocol, figure, wanted in EXPECTED
    ]
    return [f"{name}: {figure} {has} of {wanted}" for name, figure, has, wanted in found if has < wanted]


def read_history(seen: Seen, inventory: Inventory) -> int:
    """Connections like HTTP of all hours."""
    seen.history = inventory.get("/coverage/history")
    return count_history(seen)


def count_history(seen: Seen) -> int:
    """The same of what was read; the test may go on over the end of an hour."""
    return sum(point["share"]["connections"] for point in seen.history["points"])


def test_http_is_read_and_its_calls_are_counted(seen: Seen) -> None:
    row = seen.rows_of("plain")["http"]
    assert (row["reading"], row["is_http_like"], row["reason"]) == ("read", True, "")
    assert (row["connections"], row["calls"], row["joined_late"], row["lost_calls"]) == (1, PLAIN_CALLS, 0, 0)
    assert row["service"]["workload"] == "nginx"


def test_https_says_what_it_is_and_how_much(seen: Seen) -> None:
    row = seen.rows_of("tls")["encrypted"]
    assert (row["reading"], row["is_http_like"], row["connections"]) == ("unreadable", True, TLS_CONNECTIONS)
    assert row["estimated_calls"] == TLS_CALLS * TLS_CONNECTIONS
    heard = row["handshakes"]
    assert list(heard["server_names"]) == ["api.shop.example"]
    assert list(heard["protocols"]) == ["http/1.1"]
    assert list(heard["versions"]) == ["TLS 1.3"]
    assert heard["weaknesses"] == {}
    assert "TLS" in row["reason"]


def test_http2_in_the_clear_is_read(seen: Seen) -> None:
    row = seen.rows_of("http2")["http2"]
    assert (row["connections"], row["calls"]) == (1, HTTP2_CALLS)
    assert (row["reading"], row["is_http_like"], row["reason"]) == ("read", True, "")


def test_quic_is_listed_with_flows_and_bytes(seen: Seen) -> None:
    row = seen.rows_of("quic")["quic"]
    assert (row["reading"], row["connections"]) == ("unreadable", FLOWS)
    assert row["bytes"] == FLOWS * 2 * len(QUIC_INITIAL)
    assert not row["is_http_like"]  # Not on port 443.


def test_unix_socket_is_listed_and_never_seen(seen: Seen) -> None:
    (row,) = [row for row in seen.rows if row["address"] == seen.unix_path]
    assert (row["protocol"], row["reading"], row["connections"]) == ("unix", "unseen", 1)
    assert row["service"]["workload"] not in ("", "unknown")


def test_silent_port_is_listed(seen: Seen) -> None:
    assert [row["reading"] for row in seen.rows_of("silent").values()] == ["silent"]


def test_the_number_is_what_the_rows_say(seen: Seen) -> None:
    counted = [row for row in seen.rows if row["is_http_like"] and row["role"] == "listening"]
    share = seen.coverage["cluster"]["share"]
    read_rows = [row for row in counted if row["reading"] == "read"]
    # Both were asked one after the other, and servers of others may have been called meanwhile.
    assert share["connections"] >= sum(row["connections"] for row in counted) > 0
    assert share["read_connections"] >= sum(row["connections"] for row in read_rows) > 0
    assert 0 < share["read_connections_ratio"] < 1
    assert count_history(seen) >= HTTP_CONNECTIONS


def test_metrics_have_it_too(seen: Seen) -> None:
    assert "apidae_sensor_coverage_http_connections_total" in seen.metrics
    assert "apidae_sensor_coverage_estimated_calls_total" in seen.metrics
