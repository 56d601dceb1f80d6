"""Smuggling shapes in the kernel: never a second request, the call flagged, and the next honest request read.

The shapes are those of the stream reader's tests; each is sent before a smuggled request in the same flight.
"""

import socket
from contextlib import ExitStack

import pytest

from sensor.capture.packets.capture import PacketCapture
from sensor.ebpf.abi import Counter
from tests.bpf.conftest import Collect
from tests.bpf.test_http1_agreement import read_as_kernel
from tests.bpf.test_machine import Walk, walk
from tests.bpf.wire import connected, receive_exactly, request, response, send_parts, serving
from tests.sensor.http.smuggling import SMUGGLED, SMUGGLING

__all__ = ["walk"]

HONEST = request("GET", "/a")
ANSWER = response(200)


@pytest.mark.parametrize("name", SMUGGLING)
def test_the_framing_holds_at_each_shape(walk: Walk, name: str) -> None:
    prefix, _ = SMUGGLING[name]
    reading = read_as_kernel(walk, prefix + SMUGGLED, is_request=True)
    assert reading.is_held and reading.bodies == []


def in_step(connection: socket.socket) -> None:
    """Answers when the smuggled request is whole, then the honest one."""
    data = b""
    while not data.endswith(SMUGGLED[-20:]):
        data += connection.recv(65_536)
    connection.sendall(ANSWER)
    receive_exactly(connection, len(HONEST))
    connection.sendall(ANSWER)


@pytest.mark.kernel
@pytest.mark.parametrize("cut", [0, 7, -11])
def test_each_shape_is_one_flagged_call_in_the_kernel(capture: PacketCapture, collect: Collect, cut: int) -> None:
    """In one segment; cut in its request line; cut within the smuggled request."""
    before = capture.counters()[Counter.AMBIGUOUS]
    told = {}
    with ExitStack() as stack:
        ports = {}
        for name, (prefix, _) in SMUGGLING.items():
            port = ports[name] = stack.enter_context(serving(in_step))
            client = stack.enter_context(connected(port))
            data = prefix + SMUGGLED
            send_parts(client, *((data[:cut], data[cut:]) if cut else (data,)))
            receive_exactly(client, len(ANSWER))
            client.sendall(HONEST)
            receive_exactly(client, len(ANSWER))
            told[name] = [
                (
                    exchange.request_head.split(b" ")[1],
                    exchange.figures.status_code,
                    exchange.figures.request_bytes,
                    exchange.figures.is_ambiguous,
                )
                for exchange in collect(port, 2)
            ]
    sizes = {name: len(prefix) + len(SMUGGLED) for name, (prefix, _) in SMUGGLING.items()}
    assert told == {name: [(b"/", 200, sizes[name], True), (b"/a", 200, len(HONEST), False)] for name in SMUGGLING}
    assert capture.counters()[Counter.AMBIGUOUS] - before >= len(SMUGGLING)
