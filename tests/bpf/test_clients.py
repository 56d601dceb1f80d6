"""The kernel keeps which socket the client of a connection between two ends of this node has."""

import socket
import struct

import pytest

from sensor.capture.packets.capture import PacketCapture
from tests.bpf.conftest import Collect
from tests.bpf.test_capture import answering
from tests.bpf.wire import connected, receive_exactly, request, response, send_parts, serving

pytestmark = pytest.mark.kernel

SO_COOKIE = 57


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_servers_connection_leads_to_its_clients_socket(capture: PacketCapture, collect: Collect, host: str) -> None:
    asked, answer = request("GET", "/a"), response(200)
    with serving(answering([len(asked)], (answer,)), host=host) as port:
        with connected(port, host) as client:
            send_parts(client, asked)
            assert receive_exactly(client, len(answer)) == answer
            (cookie,) = struct.unpack("=Q", client.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8))
        (exchange,) = collect(port, 1)
    ends = (
        exchange.ends.local_address,
        exchange.ends.local_port,
        exchange.ends.remote_address,
        exchange.ends.remote_port,
    )
    assert exchange.ends.connection != cookie
    assert capture.find_client_socket(*ends) == cookie  # Also once it is closed.
    assert capture.find_client_socket(*ends[:3], exchange.ends.remote_port ^ 1) == 0
