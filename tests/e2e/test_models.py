"""Model APIs end to end: who asks which model with how many tokens, also of streams far longer than what is copied of a
body, with classes of data in prompts and answers; and no text of either leaves the node."""

import json
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.e2e.conftest import Product
from tests.e2e.inventory import Inventory
from tests.e2e.test_bodies import dump_store, read_text
from tests.sensor.describe.schemas.providers import AWS_EVENTS, EVENTS, LINES, ModelExchange, make_model_exchanges
from tests.waiting import wait_for_equal

pytestmark = [
    pytest.mark.kernel,
    pytest.mark.e2e,
    pytest.mark.full("sensor.describe.schemas", "sensor.describe.bodies", "collector.inventory.models"),
]

# In prompts, arguments and results of tools, names of files, answers, and texts that become vectors.
SECRETS = ("kanarienvogel", "Zwetschgenknoedel", "Ginevra", "quittengelee.pdf", "ginevra@example.org")
TEXT = " ".join(SECRETS)
# Its streams have more than 64 KiB: some 200 bytes for each four characters.
LONG_TEXT = " ".join([TEXT] * 50)
CALLS = 3
COUNTS = ("input_tokens", "output_tokens", "cache_read_tokens", "reasoning_tokens")


class ModelHandler(BaseHTTPRequestHandler):
    """Answers each request as the provider does; streams message by message."""

    protocol_version = "HTTP/1.1"
    exchange: ModelExchange

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        exchange = self.exchange
        self.send_response(200)
        self.send_header("Content-Type", exchange.media_type)
        for line in exchange.head:
            self.send_header(*line.split(": "))
        if exchange.media_type not in (EVENTS, LINES, AWS_EVENTS):
            self.send_header("Content-Length", str(len(exchange.answer)))
            self.end_headers()
            self.wfile.write(exchange.answer)
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for part in split(exchange):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *values: object) -> None:
        """Nothing."""


def split(exchange: ModelExchange) -> Iterator[bytes]:
    """The messages of a stream; frames at any place."""
    answer, end = exchange.answer, {EVENTS: b"\n\n", LINES: b"\n"}.get(exchange.media_type)
    if end is None:
        return (answer[at : at + 300] for at in range(0, len(answer), 300))
    return (part + end for part in answer.removesuffix(end).split(end))


@contextmanager
def serve(exchange: ModelExchange) -> Iterator[int]:
    """Its port, on loopback."""
    handler = type("Handler", (ModelHandler,), {"exchange": exchange})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def ask(port: int, exchange: ModelExchange) -> None:
    """One call, as the provider's client for Python writes it, on a connection of its own."""
    body = json.dumps(exchange.asked, separators=(",", ":"), ensure_ascii=False).encode()
    lines = (
        f"POST {exchange.path} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        "Accept: application/json",
        "Content-Type: application/json",
        "Authorization: Bearer sk-test-0123456789abcdef",
        f"Content-Length: {len(body)}",
        "Connection: close",
    )
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.sendall("\r\n".join((*lines, "", "")).encode())
        client.sendall(body)
        received = 0
        while data := client.recv(1 << 16):
            received += len(data)
        assert received > len(exchange.answer)


def list_known(inventory: Inventory, ports: Mapping[str, int]) -> dict[str, Any]:
    """What is known of each server: provider, operation, model, and the tokens of a call. Of some calls the program of
    the client is known, and of others its address. The first calls of a route may not be counted (tally.py)."""
    found: dict[str, Any] = {}
    names = {f":{port}": name for name, port in ports.items()}
    for one in inventory.list_items("/models"):
        name = names.get(one["server"][one["server"].rfind(":") :])
        if name is not None:
            assert 0 < one["counted_calls"] == one["calls"] <= CALLS
            assert one["errors"] == 0
            told = one["provider"], one["operation"], one["model"], one["streamed_calls"] > 0
            found[name] = (*told, *(one[count] / one["calls"] for count in COUNTS))
    return found


def expect(exchange: ModelExchange) -> Any:
    usage = exchange.usage
    counts = usage.input_tokens, usage.output_tokens, usage.cache_read_tokens, usage.reasoning_tokens
    # Nobody called the host of a provider: only servers that leave a mark in their answers are known.
    provider = exchange.provider if exchange.provider in ("ollama", "vllm", "litellm") else "_OTHER"
    return (provider, exchange.operation, exchange.request_model, exchange.is_streamed, *counts)


def test_models(product: Product) -> None:
    collector, address = product.start_collector()
    # All calls at once: none is to be refused.
    sensor = product.start_sensor(address, "--body-bytes-per-second", str(64 << 20))
    inventory = product.open_inventory(address)
    exchanges = {**make_model_exchanges(TEXT)}
    exchanges |= {f"long {name}": one for name, one in make_model_exchanges(LONG_TEXT).items() if one.is_streamed}
    assert sum(len(one.answer) > 1 << 16 for one in exchanges.values()) == 9
    with ExitStack() as stack:
        ports = {name: stack.enter_context(serve(one)) for name, one in exchanges.items()}
        for name, port in ports.items():
            for _ in range(CALLS):
                ask(port, exchanges[name])
        expected = {name: expect(one) for name, one in exchanges.items()}
        wait_for_equal(lambda: list_known(inventory, ports), expected, "models and tokens")
    listed = inventory.list_items("/models")
    of_chat = [one for one in listed if one["server"].endswith(f":{ports['openai chat']}")]
    assert {(one["kind"], one["side"]) for one in of_chat[0]["data"]} == {("email", "request"), ("email", "response")}

    texts = json.dumps(listed) + json.dumps(inventory.list_items("/endpoints"))
    assert sensor.stop() == 0, sensor.log_tail()
    assert collector.stop() == 0, collector.log_tail()
    texts += read_text(product.data_directory) + dump_store(product.data_directory / "store")
    texts += read_text(product.data_directory.parent / "sensor") + read_text(product.data_directory.parent / "logs")
    assert "gpt-4o" in texts
    for secret in (*SECRETS, "sk-test-0123456789"):
        assert secret not in texts
