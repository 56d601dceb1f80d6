"""What connections carried and no call explains is counted by client, however it is hidden; accidents are not."""

import socket
import time
from collections.abc import Callable

import pytest

from sensor.capture.packets.capture import PacketCapture
from sensor.coverage.unread import UnreadCount, UnreadEnd, UnreadReason
from tests.bpf.recognised import drain
from tests.bpf.wire import connected, request, response, serving
from tests.waiting import DEADLINE_SECONDS

pytestmark = pytest.mark.kernel

GET, ANSWER = request("GET", "/accounts/7"), response(200)
# A request to a server that splits its line at any white space of Unicode, as Python's does.
HIDDEN = GET.replace(b" /", b"\x1c/")


def answer_all(connection: socket.socket) -> None:
    """One answer for each empty line that a client sends, each in a segment of its own."""
    rest = b""
    while data := connection.recv(65_536):
        rest += data
        while b"\r\n\r\n" in rest:
            rest = rest.partition(b"\r\n\r\n")[2]
            connection.sendall(ANSWER)


def read_unread(capture: PacketCapture, port: int) -> dict[UnreadReason, UnreadCount]:
    """Of a port, by reason."""
    ends = {end: count for end, count in capture.unread().items() if end.port == port}
    assert all(end == UnreadEnd(end.cgroup_id, port, "127.0.0.1", end.reason) for end in ends)
    return {end.reason: count for end, count in ends.items()}


def wait_for(capture: PacketCapture, port: int, is_enough: Callable[[dict[UnreadReason, UnreadCount]], bool]) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not is_enough(found := read_unread(capture, port)):
        assert time.monotonic() < deadline, found
        time.sleep(0.01)


def ask(client: socket.socket, data: bytes) -> None:
    client.sendall(data)
    received = b""
    while len(received) < len(ANSWER):
        more = client.recv(65_536)
        assert more, f"closed after {len(received)} bytes"
        received += more


def test_calls_behind_a_fault_are_counted_by_their_answers(capture: PacketCapture) -> None:
    drain(capture)
    with serving(answer_all) as port:
        capture.set_listening([port])
        with connected(port) as client:
            ask(client, GET)
            for _ in range(23):
                ask(client, HIDDEN)
        wait_for(capture, port, lambda found: UnreadReason.POSITION in found)
        time.sleep(0.1)
        assert read_unread(capture, port) == {UnreadReason.POSITION: UnreadCount(23, 23 * len(HIDDEN))}


def test_connections_that_begin_with_no_request_are_counted(capture: PacketCapture) -> None:
    drain(capture)
    with serving(answer_all) as port:
        capture.set_listening([port])
        for _ in range(7):
            with connected(port) as client:
                ask(client, HIDDEN)
        wait_for(capture, port, lambda found: bool(found) and found[UnreadReason.NOT_HTTP].calls == 7)
        assert read_unread(capture, port) == {UnreadReason.NOT_HTTP: UnreadCount(7, 7 * len(HIDDEN))}


def test_a_lone_line_of_http_0_9_is_counted(capture: PacketCapture) -> None:
    """Its answer has no head, so nothing of the call is read."""
    drain(capture)

    def serve(connection: socket.socket) -> None:
        connection.recv(100)
        connection.sendall(b"<html>")

    with serving(serve) as port:
        capture.set_listening([port])
        for _ in range(3):
            with connected(port) as client:
                client.sendall(b"GET /old\r\n")
                assert client.recv(100) == b"<html>"
        wait_for(capture, port, lambda found: bool(found) and found[UnreadReason.NOT_HTTP].calls == 3)


def test_what_a_server_refuses_is_no_hidden_call(capture: PacketCapture) -> None:
    """Who sends it garbage hides nothing."""
    drain(capture)
    refusal = response(400)

    def refuse(connection: socket.socket) -> None:
        while connection.recv(65_536):
            connection.sendall(refusal)

    with serving(refuse) as port:
        capture.set_listening([port])
        for data in (HIDDEN, b"SSH-2.0-scan\r\n", GET):
            with connected(port) as client:
                for _ in range(5):
                    client.sendall(data)
                    assert client.recv(1_000) == refusal
                    client.sendall(HIDDEN)
                    assert client.recv(1_000) == refusal
        time.sleep(0.2)
        found = read_unread(capture, port)
        assert sum(count.calls for count in found.values()) == 0 and found[UnreadReason.POSITION].bytes


def test_what_servers_and_clients_do_by_accident_is_not_counted(capture: PacketCapture) -> None:
    """An answer to nobody (408), a client that says nothing, an aborted head, calls of all kinds."""
    drain(capture)
    turns = iter((answer_all, lambda connection: connection.sendall(response(408))))

    def serve(connection: socket.socket) -> None:
        next(turns)(connection)

    with serving(serve) as port:
        capture.set_listening([port])
        with connected(port) as client:
            ask(client, GET)
            ask(client, request("POST", "/x", body=b"1" * 5_000))
            client.sendall(b"GET /half")
        with connected(port) as client:
            assert client.recv(1_000) == response(408)
        time.sleep(0.1)
        assert read_unread(capture, port) == {}
