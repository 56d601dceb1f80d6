"""WebSockets over TLS of an OpenSSL server: duration, messages, bytes and client as of those in the clear."""

import contextlib
import socket
import ssl
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from scripts.live.program import Program
from tests.e2e.application import HERE, READY_SECONDS
from tests.e2e.certificates import Certificate
from tests.e2e.conftest import Product
from tests.e2e.inventory import read_port
from tests.waiting import DEADLINE_SECONDS, wait_until, wait_until_still

pytestmark = [pytest.mark.kernel, pytest.mark.e2e, pytest.mark.full("sensor.capture.tls", "sensor.http")]

ADDRESS = "127.0.0.1"
STILL_SECONDS = 3.0
CHATS, MESSAGES = 2, 3
FRAME, ANSWER = b"\x81\x85mask" + b"hello", b"\x81\x05hello"
OPEN_SECONDS = 1.7


def chat(port: int, context: ssl.SSLContext | None) -> None:
    """As test_kinds.py does; with a context over TLS."""
    plain = socket.create_connection((ADDRESS, port), timeout=DEADLINE_SECONDS)
    with context.wrap_socket(plain, server_hostname=ADDRESS) if context is not None else plain as client:
        client.sendall(b"GET /chat HTTP/1.1\r\nHost: live.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        assert client.recv(4_096).startswith(b"HTTP/1.1 101")
        for _ in range(MESSAGES):
            client.sendall(FRAME)
            assert client.recv(4_096) == ANSWER
        time.sleep(OPEN_SECONDS)
        if isinstance(client, ssl.SSLSocket):
            with contextlib.suppress(OSError):
                client.unwrap()
        else:
            client.shutdown(socket.SHUT_WR)
            while client.recv(4_096):
                pass


def test_websockets_over_tls_have_what_those_in_the_clear_have(
    product: Product, certificate: Certificate, tmp_path: Path
) -> None:
    pair = (str(certificate.certificate), str(certificate.key))
    context = ssl.create_default_context(cafile=str(certificate.authority))
    with contextlib.ExitStack() as stack:
        ports = []
        for name, files in (("plain", ()), ("tls", pair)):
            command = [sys.executable, str(HERE / "app_streams.py"), ADDRESS, *files]
            program = Program(name, command, tmp_path / f"{name}.log")
            stack.callback(program.stop)
            ports.append(int(program.wait_for("ready", READY_SECONDS)["port"]))
        config = tmp_path / "sensor.toml"
        config.write_text('read_tls = "full"\n')
        _, address = product.start_collector()
        sensor = product.start_sensor(address, "--config", str(config))
        inventory = product.open_inventory(address)
        wait_until(lambda: "libssl" in sensor.log_path.read_text(), "the library is found")
        for port, tls in zip(ports, (None, context), strict=True):
            for _ in range(CHATS):
                chat(port, tls)
        wait_until(lambda: inventory.count_calls(*ports) >= 2 * CHATS, "all are reported at their 101")
        assert sensor.stop() == 0, sensor.log_tail()
        wait_until_still(lambda: inventory.count_calls(*ports), STILL_SECONDS)
        items = {read_port(item): item for item in inventory.list_items("/endpoints") if read_port(item) in ports}

    def describe(port: int) -> dict[str, Any]:
        names = ("template", "calls", "protocols", "latency_ms", "messages", "request_bytes", "response_bytes")
        return {name: items[port][name] for name in names} | {"streams": items[port]["streams"]["calls"]}

    plain, tls = map(describe, ports)
    assert tls == plain
    assert tls["messages"] == {"calls": CHATS, "request": CHATS * MESSAGES, "response": CHATS * MESSAGES}
    assert items[ports[1]]["streams"]["open_seconds"] == pytest.approx(OPEN_SECONDS, abs=0.5)
