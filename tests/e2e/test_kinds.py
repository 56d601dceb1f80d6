"""What calls are, from real servers to the inventory: gRPC with its statuses, gRPC-Web and Connect over HTTP/1.1,
server-sent events, WebSockets."""

import contextlib
import socket
import sys
import time
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from scripts.live.program import Program
from tests.e2e.application import HERE, READY_SECONDS
from tests.e2e.conftest import Product
from tests.e2e.inventory import read_port
from tests.waiting import DEADLINE_SECONDS, wait_until, wait_until_still

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.e2e,
    pytest.mark.full("sensor.http", "sensor.describe", "sensor.capture.http2"),
]

ADDRESS = "127.0.0.1"
STILL_SECONDS = 3.0
SERVICE = "/shop.v1.Orders"
GETS, NOT_FOUND, INTERNAL = 23, 7, 5
EVENTS = 3
CHATS = 2
# Calls of gRPC-Web and of Connect that are answered and that fail: no more than a route's first, whose bodies go up.
WEB, CONNECT = (13, 5), (11, 3)
OLD = (11, 4)  # Of a connection that the sensor joined late.
MESSAGES = 3
OPEN_SECONDS = 1.7
TOKEN = (("authorization", "Bearer abcdefgh12345678"),)


def call_grpc(port: int) -> None:
    """All of them with credentials."""
    options = [("grpc.use_local_subchannel_pool", 1)]  # Else the connection is shared with the old channel.
    with grpc.insecure_channel(f"{ADDRESS}:{port}", options=options) as channel:
        for name, count, status in (
            ("Get", GETS, grpc.StatusCode.OK),
            ("Fail", NOT_FOUND, grpc.StatusCode.NOT_FOUND),
            ("Break", INTERNAL, grpc.StatusCode.INTERNAL),
        ):
            method = channel.unary_unary(f"{SERVICE}/{name}")
            for _ in range(count):
                try:
                    method.with_call(b"m" * 40, timeout=DEADLINE_SECONDS, metadata=TOKEN)
                    assert status is grpc.StatusCode.OK
                except grpc.RpcError as error:
                    assert error.code() is status


class OldChannel:
    """A client that has said all its headers before the sensor starts; grpcio never says them again."""

    def __init__(self, port: int) -> None:
        self._channel = grpc.insecure_channel(f"{ADDRESS}:{port}")

    def call(self, gets: int, failures: int) -> None:
        for name, count in (("Get", gets), ("Fail", failures)):
            method = self._channel.unary_unary(f"{SERVICE}/{name}")
            for _ in range(count):
                with contextlib.suppress(grpc.RpcError):
                    method(b"m" * 40, timeout=DEADLINE_SECONDS)

    def close(self) -> None:
        self._channel.close()


def connect(port: int, path: bytes, *fields: bytes) -> socket.socket:
    client = socket.create_connection((ADDRESS, port), timeout=DEADLINE_SECONDS)
    client.sendall(b"GET %s HTTP/1.1\r\nHost: live.test\r\n%s\r\n" % (path, b"".join(f + b"\r\n" for f in fields)))
    return client


def listen_to_events(port: int) -> None:
    with connect(port, b"/events", b"Accept: text/event-stream") as client:
        data = b""
        while not data.endswith(b"0\r\n\r\n"):
            data += client.recv(4_096)


def chat(port: int) -> None:
    with connect(port, b"/chat", b"Upgrade: websocket", b"Connection: Upgrade") as client:
        assert client.recv(4_096).startswith(b"HTTP/1.1 101")
        for _ in range(MESSAGES):
            client.sendall(b"\x81\x85mask" + b"hello")
            assert client.recv(4_096)
        time.sleep(OPEN_SECONDS)
        client.shutdown(socket.SHUT_WR)
        while client.recv(4_096):  # Until the server has seen the end, and so the sensor.
            pass


def call_rpcs(port: int) -> None:
    """One after the other, as a browser would."""
    message = b"\0\0\0\0\x05hello"
    web = b"Content-Type: application/grpc-web+proto\r\nX-Grpc-Web: 1"
    connects = b"Content-Type: application/proto\r\nConnect-Protocol-Version: 1"
    for service, fields, counts in ((b"Web", web, WEB), (b"Connect", connects, CONNECT)):
        for method, count in zip((b"Get", b"Fail"), counts, strict=True):
            for _ in range(count):
                with socket.create_connection((ADDRESS, port), timeout=DEADLINE_SECONDS) as client:
                    line = b"POST /shop.v1.%bCarts/%b HTTP/1.1\r\nHost: live.test\r\n" % (service, method)
                    client.sendall(line + fields + b"\r\nContent-Length: %d\r\n\r\n" % len(message) + message)
                    while client.recv(4_096):
                        pass


def smuggle(port: int) -> None:
    """One request whose end two programs read differently, and in its flight what one of them takes for another."""
    with socket.create_connection((ADDRESS, port), timeout=DEADLINE_SECONDS) as client:
        framing = b"Content-Length: 62\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        smuggled = b"GET /smuggled HTTP/1.1\r\nHost: live.test\r\nX-Ignored: 1\r\n\r\n"
        client.sendall(b"POST /transfers HTTP/1.1\r\nHost: live.test\r\n" + framing + smuggled)
        while client.recv(4_096):
            pass


@pytest.fixture(scope="module")
def found(product: Product, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Endpoints of both servers by template."""
    directory = tmp_path_factory.mktemp("kinds")
    with contextlib.ExitStack() as stack:
        ports = []
        for name in ("app_grpc", "app_streams"):
            command = [sys.executable, str(HERE / f"{name}.py"), ADDRESS]
            program = Program(name, command, directory / f"{name}.log")
            stack.callback(program.stop)
            ports.append(int(program.wait_for("ready", READY_SECONDS)["port"]))
        old = OldChannel(ports[0])
        stack.callback(old.close)
        old.call(2, 2)
        _, address = product.start_collector()
        sensor = product.start_sensor(address)
        inventory = product.open_inventory(address)
        call_grpc(ports[0])
        old.call(*OLD)
        for _ in range(EVENTS):
            listen_to_events(ports[1])
        for _ in range(CHATS):
            chat(ports[1])
        call_rpcs(ports[1])
        smuggle(ports[1])
        assert sensor.stop() == 0, sensor.log_tail()
        expected = GETS + NOT_FOUND + INTERNAL + EVENTS + CHATS + sum((*OLD, *WEB, *CONNECT)) + 1
        with contextlib.suppress(AssertionError):
            wait_until(lambda: inventory.count_calls(*ports) >= expected, f"{expected} calls")
        wait_until_still(lambda: inventory.count_calls(*ports), STILL_SECONDS)
        items = [item for item in inventory.list_items("/endpoints") if read_port(item) in ports]
        by_template = {item["template"]: item for item in items}
        assert len(by_template) == len(items)
        yield by_template


@pytest.mark.parametrize(
    ("name", "status", "count", "shown"),
    [("Get", "OK", GETS, "2xx"), ("Fail", "NOT_FOUND", NOT_FOUND, "4xx"), ("Break", "INTERNAL", INTERNAL, "5xx")],
)
def test_a_method_shows_its_status_and_counts_by_it(
    found: dict[str, Any], name: str, status: str, count: int, shown: str
) -> None:
    item = found[f"{SERVICE}/{name}"]
    assert item["protocols"] == ["grpc"]
    assert (item["rpc"]["system_name"], item["rpc"]["service"]) == ("grpc", "shop.v1.Orders")
    assert item["rpc"]["method"] == f"shop.v1.Orders/{name}"
    assert item["rpc"]["status_codes"] == {status: count}
    assert (item["calls"], item["status"][shown]) == (count, count)


@pytest.mark.parametrize(
    ("template", "count", "protocol", "system", "status", "shown"),
    [
        ("WebCarts/Get", WEB[0], "grpc-web", "grpc", {"OK": WEB[0]}, "2xx"),
        ("WebCarts/Fail", WEB[1], "grpc-web", "grpc", {"NOT_FOUND": WEB[1]}, "4xx"),
        ("ConnectCarts/Get", CONNECT[0], "connect", "connectrpc", {"OK": CONNECT[0]}, "2xx"),
        ("ConnectCarts/Fail", CONNECT[1], "connect", "connectrpc", {}, "4xx"),  # Its code is in the body.
    ],
)
def test_rpcs_over_http1(
    found: dict[str, Any], template: str, count: int, protocol: str, system: str, status: dict[str, int], shown: str
) -> None:
    item = found[f"/shop.v1.{template}"]
    assert (item["calls"], item["protocols"], item["status"][shown]) == (count, [protocol], count)
    assert (item["rpc"]["system_name"], item["rpc"]["method"]) == (system, f"shop.v1.{template}")
    assert item["rpc"]["status_codes"] == status


def test_a_smuggled_request_is_no_call_and_the_one_around_it_is_marked(found: dict[str, Any]) -> None:
    assert found["/transfers"]["calls"] == 1
    assert "/smuggled" not in found
    assert [template for template, item in found.items() if item["has_ambiguous_requests"]] == ["/transfers"]


def test_credentials_of_grpc_are_seen(found: dict[str, Any]) -> None:
    authentication = found[f"{SERVICE}/Get"]["authentication"]
    assert (authentication["coverage"], authentication["unseen_calls"]) == (1, 0)


def test_calls_of_a_connection_joined_late_are_counted_and_hide_nothing(found: dict[str, Any]) -> None:
    item = found["/<unknown>"]
    assert item["calls"] == sum(OLD)
    assert item["has_unknown_fields"] and not item["is_lossy"]
    assert item["authentication"]["unseen_calls"] == item["status"]["2xx"]
    assert item["authentication"]["coverage"] is None
    assert found[f"{SERVICE}/Get"]["calls"] == GETS  # None is taken for one that is known.


def test_events_end_and_their_time_is_no_latency(found: dict[str, Any]) -> None:
    item = found["/events"]
    assert (item["calls"], item["protocols"]) == (EVENTS, ["server-sent events"])
    assert item["streams"]["calls"] == EVENTS
    assert item["streams"]["open_seconds"] == pytest.approx(2.5, abs=0.5)
    assert item["latency_ms"] is None
    assert item["time_to_first_byte_ms"] < 1_000


def test_a_websocket_is_a_kind_of_its_own(found: dict[str, Any]) -> None:
    item = found["/chat"]
    assert (item["calls"], item["protocols"]) == (CHATS, ["websocket"])
    assert item["latency_ms"] is None
    assert item["streams"]["calls"] == CHATS
    assert item["streams"]["open_seconds"] == pytest.approx(OPEN_SECONDS, abs=0.5)
    assert item["messages"] == {"calls": CHATS, "request": CHATS * MESSAGES, "response": CHATS * MESSAGES}
    assert item["request_bytes"] > CHATS * MESSAGES * 11
