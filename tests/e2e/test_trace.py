"""`apidae trace` on a node with a plain server, one of TLS that is not read, one that speaks something else, and the
collector, whose calls are excluded: each line says the stages and why a call stops, and the fix. Lines of the page
docs/use/troubleshooting.md are those that are printed here.
"""

import contextlib
import http.client
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from scripts.demo.nginx import Nginx, find_nginx
from scripts.live.host import CollectorAddress
from scripts.live.program import Program
from sensor.agent.pause import SOCKET_NAME
from sensor.agent.trace import KERNEL_CACHE
from sensor.cli.trace import format_event
from tests.bpf.tls import client_context, make_certificate, serving_https
from tests.e2e.application import find_or_skip
from tests.e2e.conftest import OWN_PLACES, Product
from tests.e2e.served import JsonHandler, serve
from tests.waiting import DEADLINE_SECONDS, wait_until

pytestmark = [pytest.mark.kernel, pytest.mark.e2e]

ADDRESS = "127.0.0.1"
PAGE = Path(__file__).parents[2] / "docs" / "use" / "troubleshooting.md"
APIDAE = str(Path(sys.executable).with_name("apidae"))
CALLS = 3
HTTP2_CALLS = 7
KNOWN_CALLS = 101
LINES = 8  # The kernel tries the first segments of a connection before it knows that it is not HTTP.
GREETING = b"220 mail.example ESMTP\r\n"


class Orders(JsonHandler):
    """Answers every order."""

    def do_GET(self) -> None:  # noqa: N802
        self.send_json({"state": "paid"})


@contextlib.contextmanager
def serving_lines() -> Iterator[int]:
    """A server that speaks first and answers lines that are not HTTP; yields its port."""
    with socket.create_server((ADDRESS, 0)) as server:

        def answer() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = server.accept()
                    with client:
                        client.sendall(GREETING)
                        while client.recv(100):
                            client.sendall(GREETING)

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(DEADLINE_SECONDS)


@pytest.fixture(scope="module")
def address(product: Product) -> CollectorAddress:
    return product.start_collector()[1]


@pytest.fixture(scope="module")
def collector(product: Product, address: CollectorAddress) -> CollectorAddress:
    product.start_sensor(address, "--read-tls", "off")
    return address


class Trace:
    """What the sensor answers to one request."""

    def __init__(self, lines: BinaryIO) -> None:
        self._lines = lines
        self.events: list[dict[str, Any]] = []

    def wait_for(self, kind: str) -> dict[str, Any]:
        """The next event of this kind."""
        for line in self._lines:
            self.events.append(json.loads(line))
            if self.events[-1]["event"] == kind:
                return self.events[-1]
        raise AssertionError(f"the trace ended without {kind!r}: {self.events}")


@contextlib.contextmanager
def tracing(port: int, calls: int = 20, seconds: int = 60) -> Iterator[Trace]:
    """A trace that has begun, over the control socket as the command asks for it."""
    request = {"command": "trace", "port": port, "calls": calls, "seconds": seconds}
    with contextlib.ExitStack() as stack:
        trace = wait_until(lambda: begin_trace(request, stack), "the trace before this one has ended")
        assert trace is not None
        yield trace


def begin_trace(request: Mapping[str, object], stack: contextlib.ExitStack) -> Trace | None:
    """None where the sensor has not seen yet that the client of the trace before has gone."""
    channel = stack.enter_context(socket.socket(socket.AF_UNIX))
    channel.settimeout(DEADLINE_SECONDS)
    channel.connect(str(Path(os.environ[OWN_PLACES[1]]) / SOCKET_NAME))
    channel.sendall(json.dumps(request).encode() + b"\n")
    lines = stack.enter_context(channel.makefile("rb"))
    first = json.loads(lines.readline())
    if "another trace is on" in first.get("error", ""):
        return None
    assert first["event"] == "begin", first
    trace = Trace(lines)
    trace.events.append(first)
    return trace


def strip_figures(line: str) -> str:
    """A line without what differs from run to run: calls on both sides of a window's end are in two batches."""
    line = re.sub(r"batch \d+", "batch N", re.sub(r"^#\d+(?: to #\d+|(?:, #\d+)+)?", "#N", line))
    line = re.sub(r"as [0-9a-f]{16}", "as ID", line)
    line = re.sub(r"\d\d:\d\d:\d\d\.\d{3} 127\.0\.0\.1:\d+", "TIME CLIENT", line)
    return re.sub(r"[\d,]+ bytes", "N bytes", re.sub(r"\S+:\d{4,5}\b", "SERVICE", line))


def assert_documented(events: Iterable[Mapping[str, Any]]) -> None:
    """What people see of these events is in the page's examples, line by line."""
    documented = {strip_figures(line) for line in PAGE.read_text().splitlines()}
    printed = [line for event in events for line in format_event(event)]
    assert printed
    assert not [line for line in printed if strip_figures(line) not in documented]


def call(port: int, paths: Sequence[str], **headers: str) -> None:
    """One connection's calls."""
    with contextlib.closing(http.client.HTTPConnection(ADDRESS, port, timeout=DEADLINE_SECONDS)) as client:
        for path in paths:
            client.request("GET", path, headers=headers)
            client.getresponse().read()


def test_a_call_is_followed_from_the_kernel_to_the_tables(tmp_path: Path, collector: CollectorAddress) -> None:
    command = [APIDAE, "trace", "--json", "--calls", str(CALLS), "--url", collector.url]
    command += ["--run-dir", os.environ[OWN_PLACES[1]]]
    with serve(Orders) as port:
        program = Program("trace", [*command, "--port", str(port)], tmp_path / "trace.log")
        try:
            begin = program.wait_for("begin", DEADLINE_SECONDS)
            call(port, [f"/orders/{number}" for number in range(CALLS)])
            end = program.wait_for("end", DEADLINE_SECONDS)
            assert program.process.wait(DEADLINE_SECONDS) == 0
        finally:
            program.stop()
    events = [json.loads(line) for line in program.log_path.read_text().splitlines()]
    assert (begin["state"], begin["way"], begin["connected"]) == ("capturing", "packets", True)
    calls = [event for event in events if event["event"] == "call"]
    assert [one["number"] for one in calls] == [1, 2, 3]
    assert {(one["method"], one["template"], one["status"], one["version"], one["stage"]) for one in calls} == {
        ("GET", "/orders/{integer}", 200, "1.1", "aggregate")
    }
    assert len({one["client_port"] for one in calls}) == 1
    for kind, reason in (("sent", None), ("settled", "acknowledged"), ("stored", None)):
        found = [event for event in events if event["event"] == kind]
        assert sorted(number for one in found for number in one["numbers"]) == [1, 2, 3], kind
        assert {one.get("reason") for one in found} == {reason}
    assert end["sums"] == {"acknowledged": CALLS, "connections": 1, "read": CALLS, "sent": CALLS}
    assert_documented(events)


def test_tls_that_is_not_read_stops_at_the_kernel_and_names_the_setting(
    tmp_path: Path, collector: CollectorAddress
) -> None:
    def call_by_tls(port: int) -> None:
        client = http.client.HTTPSConnection(ADDRESS, port, timeout=DEADLINE_SECONDS, context=client_context())
        with contextlib.closing(client):
            client.request("GET", "/50")
            client.getresponse().read()

    def is_version_known(port: int) -> bool:
        with tracing(port) as trace:
            return any("Mostly TLS" in row.get("reason", "") for row in trace.events[0]["ports"])

    with serving_https(make_certificate(tmp_path), ssl.TLSVersion.TLSv1_3) as port:
        call_by_tls(port)  # The reason has the version once the sensor has read a handshake.
        wait_until(lambda: is_version_known(port), "the handshake is read")
        with tracing(port) as trace:
            call_by_tls(port)
            while not (stopped := trace.wait_for("port"))["connections"]:
                pass  # The last bytes of the connection before.
    assert trace.events[0]["read_tls"] is False
    assert (stopped["protocol"], stopped["stage"], stopped["connections"]) == ("encrypted", "kernel", 1)
    assert stopped["reason"].startswith("TLS: encrypted where the sensor reads")
    assert stopped["fix"].startswith("Set read_tls")
    assert_documented([stopped])


def test_what_is_not_http_stops_at_the_kernel(collector: CollectorAddress) -> None:
    with serving_lines() as port, tracing(port) as trace:
        with socket.create_connection((ADDRESS, port), timeout=DEADLINE_SECONDS) as client:
            for _ in range(LINES):
                assert client.recv(100) == GREETING
                client.sendall(b"HELO me\r\n")
        stopped = trace.wait_for("port")
    assert [event["event"] for event in trace.events] == ["begin", "port"]
    assert (stopped["protocol"], stopped["stage"], stopped["connections"]) == ("other", "kernel", 1)
    assert stopped["reason"].startswith("The first bytes are not HTTP.")
    assert_documented([stopped])


def test_excluded_calls_stop_where_they_are_described(collector: CollectorAddress) -> None:
    with serve(Orders) as port, tracing(port, calls=1) as trace:
        call(port, ["/live"], **{"User-Agent": "ELB-HealthChecker/2.0"})
        stopped, end = trace.wait_for("call"), trace.wait_for("end")
    assert (stopped["stage"], stopped["reason"].partition(":")[0]) == ("describe", "health checks")
    assert_documented([stopped])
    assert end["sums"] == {"connections": 1, "excluded": 1}


def test_the_collectors_own_port_is_excluded(collector: CollectorAddress) -> None:
    port = int(collector.http.rpartition(":")[2])
    with tracing(port, calls=1) as trace:
        call(port, ["/api/v1/sensors"])
        stopped = trace.wait_for("call")
    assert stopped["reason"].startswith("Apidae's own traffic: Excluded from the inventory")


def test_a_port_without_a_server_gets_the_next_step(collector: CollectorAddress) -> None:
    with socket.socket() as bound:
        bound.bind((ADDRESS, 0))
        with tracing(bound.getsockname()[1], seconds=1) as trace:
            end = trace.wait_for("end")
    assert end["advice"].startswith("Nothing that this sensor watches listens on port")


@pytest.mark.full("sensor.capture", "sensor.http")
def test_calls_of_http2_that_are_alike_are_each_followed(tmp_path: Path, collector: CollectorAddress) -> None:
    curl = find_or_skip("curl", "curl")
    if find_nginx() is None:
        pytest.skip("nginx is not installed: apt-get install nginx-light")
    with contextlib.ExitStack() as stack:
        server = Nginx(tmp_path / "nginx", "http2 on; location / { return 200 '{}'; }")
        stack.callback(server.stop)
        trace = stack.enter_context(tracing(server.port, calls=HTTP2_CALLS))
        urls = [f"http://{ADDRESS}:{server.port}/orders"] * HTTP2_CALLS
        command = [curl, "--silent", "--noproxy", "*", "--http2-prior-knowledge", *urls]
        subprocess.run(command, check=True, timeout=DEADLINE_SECONDS, stdout=subprocess.DEVNULL)
        end = trace.wait_for("end")
    calls = [event for event in trace.events if event["event"] == "call"]
    assert {(one["version"], one["template"], one["status"]) for one in calls} == {("2", "/orders", 200)}
    assert end["sums"] == {
        "acknowledged": HTTP2_CALLS, "connections": 1, "read": HTTP2_CALLS, "sent": HTTP2_CALLS,
    }  # fmt: skip


@pytest.mark.full("sensor.offload")
def test_calls_that_the_kernel_knows_are_followed_like_others(collector: CollectorAddress) -> None:
    with serve(Orders) as port:
        call(port, ["/orders/1"] * KNOWN_CALLS)  # From which the kernel knows the route.
        with tracing(port, calls=KNOWN_CALLS) as trace:
            call(port, ["/orders/1"] * KNOWN_CALLS)
            end = trace.wait_for("end")
    calls = [event for event in trace.events if event["event"] == "call"]
    assert f"packets, {KERNEL_CACHE}" in {one["way"] for one in calls}
    assert len({one["client_port"] for one in calls}) == 1
    assert {(one["template"], one["status"], one.get("reason")) for one in calls} == {("/orders/{integer}", 200, None)}
    assert end["sums"]["acknowledged"] == KNOWN_CALLS


# Last, for it starts other sensors than the module's.
@pytest.mark.full("sensor.capture")
@pytest.mark.parametrize(
    ("options", "way", "is_encrypted"),
    [(("--read-tls", "full"), "TLS", True), (("--capture", "syscalls"), "system calls", False)],
    ids=["TLS", "system calls"],
)
def test_the_way_of_capture_is_named(
    product: Product,
    address: CollectorAddress,
    tmp_path: Path,
    options: Sequence[str],
    way: str,
    is_encrypted: bool,
) -> None:
    with contextlib.ExitStack() as stack:
        if is_encrypted:
            port = stack.enter_context(serving_https(make_certificate(tmp_path), ssl.TLSVersion.TLSv1_3))
            client: http.client.HTTPConnection = http.client.HTTPSConnection(
                ADDRESS, port, timeout=DEADLINE_SECONDS, context=client_context()
            )
        else:
            port = stack.enter_context(serve(Orders))
            client = http.client.HTTPConnection(ADDRESS, port, timeout=DEADLINE_SECONDS)
        product.start_sensor(address, *options)
        trace = stack.enter_context(tracing(port, calls=1))
        stack.enter_context(contextlib.closing(client))

        def is_read() -> bool:
            """Whether a call was: the sensor finds processes of TLS a moment after its start."""
            client.request("GET", "/50")
            client.getresponse().read()
            return bool(inventory.read_endpoints(port))

        inventory = product.open_inventory(address)
        wait_until(is_read, "a call is in the inventory")
        found = trace.wait_for("call")
    assert (found["way"], found["method"], found["version"], found["status"]) == (way, "GET", "1.1", 200)
