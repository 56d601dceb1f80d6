"""What APIs return, end to end: lists of records in every coding, cut ones, requests with passwords; and that no value
of them is anywhere outside the node: wire (as the collector logs it), store, API, spool, logs."""

import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from tests.bpf.test_http2 import play, whole
from tests.bpf.test_http2_bodies import BACKWARD, FORWARD, OPENING, Said, Talk, frames
from tests.e2e.conftest import Product
from tests.e2e.inventory import read_port
from tests.e2e.served import serve
from tests.files import read_files
from tests.sensor.describe.bodies.messages import ENCODERS, chunk
from tests.waiting import wait_until

pytestmark = [pytest.mark.kernel, pytest.mark.e2e]

# API words, which stay words: a path by coding, plain and below /api chunked.
PATHS = {
    "identity": "/orders",
    "gzip": "/users",
    "deflate": "/products",
    "br": "/payments",
    "zstd": "/accounts",
    "long": "/customers",
}
SAMPLES = 11  # Calls of each route; the first 20 are all read.
LATER = 211  # Calls of one route that are not, but for one a second.
SECRETS = ("kanarienvogel@example.org", "correct-horse-battery", "4111 1111 1111 1111", "Zwetschgenknoedel")
CONFIG = """
body_bytes_per_second = 100000000
capture_budget_core_share = 8
ring_bytes = 67108864
"""
DUMP = """
import sys
from pathlib import Path
from collector.storage.embedded import EmbeddedStore
from collector.storage.clickhouse import TABLES
store = EmbeddedStore(Path(sys.argv[1]))
for table in TABLES:
    print(table.name, store.query(f"SELECT * EXCEPT('_state$') FROM {table.name}"))
store.close()
"""


def make_records(count: int) -> bytes:
    """A list in an envelope."""
    return json.dumps(
        {"items": [{"id": i, "email": f"{i}.{SECRETS[0]}", "note": SECRETS[3]} for i in range(count)], "total": count}
    ).encode()


class Handler(BaseHTTPRequestHandler):
    """Lists of `?n=` records at PATHS; `/status`, `/login`, and a page at `/help`."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None: ...

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if path == "/status":
            self._send(json.dumps({"id": 1, "card": SECRETS[2], "lines": [1, 2, 3]}).encode())
        elif path == "/help":
            self._send(f"<p>{SECRETS[0]}</p>".encode(), media_type="text/html")
        else:
            coding = next(name for name, end in PATHS.items() if path.endswith(end))
            body = make_records(int(query.removeprefix("n=")))
            is_plain = coding in ("identity", "long")
            self._send(
                body if is_plain else ENCODERS[coding](body),
                coding="" if is_plain else coding,
                is_chunked=path.startswith("/api"),
            )

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._send(b'{"ok": true}')

    def _send(
        self, body: bytes, *, coding: str = "", media_type: str = "application/json", is_chunked: bool = False
    ) -> None:
        self.send_response(200)
        self.send_header("Content-Type", media_type)
        if coding:
            self.send_header("Content-Encoding", coding)
        if is_chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(chunk(body) if is_chunked else body)


@dataclass(slots=True, kw_only=True)
class Seen:
    """What came of the calls, by method and template."""

    bodies: dict[str, Any]
    streams: dict[str, Any]  # Of HTTP/2.
    texts: dict[str, str]  # Where a secret could be, by name.


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serve(Handler) as number:
        yield number


def send_calls(port: int) -> None:
    """All of them, over one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def call(method: str, target: str, body: bytes | None = None) -> None:
        connection.request(method, target, body, {"Content-Type": "application/json"} if body else {})
        connection.getresponse().read()

    for number in range(SAMPLES):
        for coding, path in PATHS.items():
            if coding != "long":
                call("GET", f"{path}?n={number * 3}")
                call("GET", f"/api{path}?n={number * 3}")
        call("GET", "/status")
        call("GET", "/help")
        call("POST", "/login", make_login(number))
        call("GET", f"{PATHS['long']}?n={2_000 + number}")  # Longer than what is copied.
    for number in range(LATER):
        call("GET", f"{PATHS['identity']}?n={number % 37}")
    connection.close()


@pytest.fixture(scope="module")
def listener() -> Iterator[socket.socket]:
    """Of HTTP/2; what is said there is written by `send_streams`."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


def send_streams(listener: socket.socket) -> None:
    """Lists in gzip, and logins with a password, each over a connection of its own, whose first 20 are samples."""
    for path, request, coding in ((b"/orders", b"{}", "gzip"), (b"/login", make_login(0), "")):
        talk, said = Talk(), Said(OPENING)
        for number in range(SAMPLES):
            stream, body = 1 + 2 * number, make_records(number * 3)
            told = ENCODERS[coding](body) if coding else body
            said.append((FORWARD, talk.ask(stream, *frames(stream, request), path=path)))
            answer = talk.answer(stream, *frames(stream, told), coding=coding.encode() or b"identity")
            said.append((BACKWARD, answer))
        with socket.create_connection(listener.getsockname(), timeout=60) as client:
            server, _ = listener.accept()
            with server:
                play(said, (client, server), whole)


def make_login(number: int) -> bytes:
    """With a password."""
    return json.dumps({"password": SECRETS[1], "n": number}).encode()


def dump_store(directory: Path) -> str:
    """Every row of every table, by a process of its own."""
    done = subprocess.run([sys.executable, "-c", DUMP, str(directory)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-1000:]
    return done.stdout


def read_text(directory: Path) -> str:
    """All files below as one text, a character a byte."""
    return "".join(data.decode("latin-1") for data in read_files(directory).values())


@pytest.fixture(scope="module")
def seen(product: Product, port: int, listener: socket.socket, tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """Makes the calls, ends the sensor and then the collector, and collects all that they left."""
    config = tmp_path_factory.mktemp("config") / "sensor.toml"
    config.write_text(CONFIG)
    collector, address = product.start_collector()
    constants = {"sensor.agent.pipeline.BODY_SAMPLE_NS": 3600 * 10**9}
    sensor = product.start_sensor(address, "--config", str(config), constants=constants)
    inventory = product.open_inventory(address)
    send_calls(port)
    send_streams(listener)
    calls, stream_port = SAMPLES * 14 + LATER, listener.getsockname()[1]
    assert sensor.stop() == 0, sensor.log_tail()
    wait_until(lambda: inventory.count_calls(port) >= calls, f"{calls} calls in the inventory")
    wait_until(lambda: inventory.count_calls(stream_port) >= 2 * SAMPLES, "the calls of HTTP/2")
    streams = [item for item in inventory.list_items("/endpoints") if read_port(item) == stream_port]
    items = [item for item in inventory.list_items("/endpoints") if read_port(item) == port]
    texts = {"api": json.dumps([*items, *streams, *(inventory.get(f"/endpoints/{item['id']}") for item in items)])}
    assert collector.stop() == 0, collector.log_tail()
    texts["state, spool and logs of the sensor"] = read_text(product.data_directory.parent / "sensor")
    texts["data of the collector, with its log of what came over the wire"] = read_text(product.data_directory)
    texts["rows of the store"] = dump_store(product.data_directory / "store")
    texts["logs"] = read_text(product.data_directory.parent / "logs")
    return Seen(bodies=index_bodies(items), streams=index_bodies(streams), texts=texts)


def index_bodies(items: list[dict[str, Any]]) -> dict[str, Any]:
    """By method and template."""
    return {f"{item['method']} {item['template']}": item["bodies"] for item in items}


EXACT = sum(number * 3 for number in range(SAMPLES))


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
@pytest.mark.parametrize("below", ["", "/api"])
def test_of_samples_the_number_of_records_is_exact(seen: Seen, coding: str, below: str) -> None:
    bodies = seen.bodies[f"GET {below}{PATHS[coding]}"]
    assert (bodies["responses_read"], bodies["records_basis"]) == (SAMPLES, "measured")
    assert bodies["records_returned"] == bodies["records_measured"] == EXACT
    (found,) = bodies["data"]
    assert (found["kind"], found["side"], found["calls"]) == ("email", "response", SAMPLES - 1)


def test_between_samples_it_is_estimated_and_says_so(seen: Seen) -> None:
    bodies = seen.bodies[f"GET {PATHS['identity']}"]
    true = EXACT + sum(number % 37 for number in range(LATER))
    assert bodies["records_basis"] == "estimated"
    assert bodies["responses_read"] < SAMPLES + LATER
    assert EXACT <= bodies["records_measured"] < bodies["records_returned"]
    assert abs(bodies["records_returned"] / true - 1) < 0.05


def test_a_response_longer_than_the_copy_is_estimated(seen: Seen) -> None:
    bodies = seen.bodies[f"GET {PATHS['long']}"]
    true = sum(2_000 + number for number in range(SAMPLES))
    assert (bodies["records_measured"], bodies["records_basis"]) == (0, "estimated")
    assert abs(bodies["records_returned"] / true - 1) < 0.05
    assert [one["kind"] for one in bodies["data"]] == ["email"]


def test_objects_requests_and_pages(seen: Seen) -> None:
    one, login = seen.bodies["GET /status"], seen.bodies["POST /login"]
    assert (one["records_returned"], one["data_classes"]) == (SAMPLES, ["financial"])
    assert [(found["kind"], found["side"]) for found in login["data"]] == [("password", "request")]
    assert login["requests_read"] == SAMPLES
    page = seen.bodies["GET /help"]
    assert [(found["kind"], found["side"]) for found in page["data"]] == [("email", "response")]
    assert page["records_returned"] == 0  # A page is read, and has no records.


def test_bodies_of_http2(seen: Seen) -> None:
    orders, login = seen.streams["POST /orders"], seen.streams["POST /login"]
    for bodies in (orders, login):
        assert (bodies["responses_read"], bodies["records_basis"]) == (SAMPLES, "measured")
        assert bodies["records_returned"] == bodies["records_measured"] == EXACT
    assert [(found["kind"], found["side"]) for found in orders["data"]] == [("email", "response")]
    found = {(one["kind"], one["side"]) for one in login["data"]}
    assert found == {("password", "request"), ("email", "response")}
    assert login["requests_read"] == SAMPLES


def test_no_value_is_anywhere(seen: Seen) -> None:
    for place, text in seen.texts.items():
        assert len(text) > 100, place
        for secret in SECRETS:
            assert secret not in text, place
