"""What the kernel counts of each port: whose it is, what it carries, how much, and how sure."""

import contextlib
import http.client
import socket
import ssl
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sensor.capture.packets.capture import PacketCapture
from sensor.coverage.row import CoverageRole, PortCount, PortProtocol
from sensor.ebpf.abi import PEER_KEY, ConnectionKind, Counter
from sensor.ebpf.bpf_syscall import read_batch
from tests.bpf.cgroups import in_cgroup
from tests.bpf.recognised import drain, own_cgroup_id
from tests.bpf.tls import client_context, make_certificate, serving_https
from tests.bpf.wire import connected, receive_exactly, request, response, serving
from tests.waiting import DEADLINE_SECONDS

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("counted_anew")]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls"))


def find(capture: PacketCapture, port: int, is_done: Callable[[list[PortCount]], bool] = bool) -> list[PortCount]:
    """The counts of a port, once they are as expected (or as they are after a while)."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        drain(capture)
        found = [count for count in capture.coverage() if count.port == port]
        if is_done(found) or time.monotonic() > deadline:
            return found
        time.sleep(0.02)


def has_connections(wanted: int) -> Callable[[list[PortCount]], bool]:
    return lambda counts: sum(count.connections for count in counts) >= wanted


def has_exchanges(wanted: int) -> Callable[[list[PortCount]], bool]:
    return lambda counts: sum(count.exchanges for count in counts) >= wanted


def answer_once(connection: socket.socket) -> None:
    while connection.recv(65536):
        connection.sendall(response(200))


def test_a_port_shared_by_two_services_has_a_row_for_each(capture: PacketCapture) -> None:
    sent, answer = request("GET", "/a"), response(200)
    with contextlib.ExitStack() as stack:
        with in_cgroup("one") as cgroup:
            one = cgroup.stat().st_ino
            port = stack.enter_context(serving(answer_once, host="127.0.0.1"))
        with in_cgroup("two") as cgroup:
            two = cgroup.stat().st_ino
            assert stack.enter_context(serving(answer_once, host="127.0.0.2", port=port)) == port
        for host, count in (("127.0.0.1", 2), ("127.0.0.2", 3)):
            for _ in range(count):
                with connected(port, host) as client:
                    client.sendall(sent)
                    receive_exactly(client, len(answer))
    found = find(capture, port, has_connections(5))
    assert {count.cgroup_id: (count.connections, count.calls) for count in found} == {one: (2, 2), two: (3, 3)}


def test_calls_of_a_connection_that_stays_are_counted(capture: PacketCapture) -> None:
    with serving(answer_once) as port, connected(port) as client:
        for _ in range(40):
            client.sendall(request("GET", "/a"))
            receive_exactly(client, len(response(200)))
        (count,) = find(capture, port, lambda counts: bool(counts) and counts[0].calls >= 32)
        assert count.calls >= 32
    (count,) = find(capture, port, lambda counts: counts[0].calls >= 40)
    assert (count.calls, count.connections, count.joined_late, count.lost_calls) == (40, 1, 0, 0)
    assert count.cgroup_id == own_cgroup_id()


def make_calls(port: int, calls: int, *, body: bytes = b"", size: int = 20, host: str = "localhost") -> None:
    client = http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=client_context())
    client._create_connection = lambda address, *rest: socket.create_connection(("127.0.0.1", port), 10)  # type: ignore[attr-defined]
    client.host = host
    with contextlib.closing(client):
        for _ in range(calls):
            client.request("POST" if body else "GET", f"/{size}", body=body or None)
            client.getresponse().read()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(("body", "size"), [(b"", 20), (b"b" * 40_000, 60_000)], ids=["small", "large"])
def test_calls_of_https_are_estimated(
    capture: PacketCapture,
    certificate: Path,
    version: ssl.TLSVersion,
    body: bytes,
    size: int,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """HTTP/1.1 with keep-alive takes turns, so the estimate is the truth; where a body is sent while the server's
    tickets of TLS 1.3 come, a connection may be one more."""
    calls = (1, 7, 23)
    with serving_https(certificate, version) as port:
        for count in calls:
            make_calls(port, count, body=body, size=size)
        wanted = sum(calls) * (len(body) + size)
        (found,) = find(capture, port, lambda counts: has_exchanges(sum(calls))(counts) and counts[0].bytes > wanted)
    with capsys.disabled():
        print(f"\n{version.name}: {found.exchanges} estimated of {sum(calls)} calls, {len(calls)} connections", end="")
    assert (found.kind, found.connections, found.joined_late) == (PortProtocol.ENCRYPTED, len(calls), 0)
    assert sum(calls) <= found.exchanges <= sum(calls) + (len(calls) if body else 0)
    assert found.bytes > wanted


def test_a_handshake_says_who_is_called_and_what_was_chosen(capture: PacketCapture, certificate: Path) -> None:
    with serving_https(certificate, ssl.TLSVersion.TLSv1_3) as port:
        make_calls(port, 1, host="api.example.com")
        for _ in range(4):  # Within the second: not looked at.
            make_calls(port, 1, host="other.example.com")
        (found,) = find(capture, port, has_connections(5))
    heard = found.handshakes
    assert heard.count == 1
    assert heard.server_names == (("api.example.com", 1),)
    assert heard.protocols == (("http/1.1", 1),)
    assert heard.versions == (("TLS 1.3", 1),)
    assert heard.cipher_suites[0][0].startswith("TLS_")
    assert heard.peers == (("127.0.0.1", 1),)


def test_only_handshakes_without_calls(capture: PacketCapture, certificate: Path) -> None:
    with serving_https(certificate, ssl.TLSVersion.TLSv1_3) as port:
        for _ in range(3):
            with (
                socket.create_connection(("127.0.0.1", port)) as client,
                client_context().wrap_socket(client) as encrypted,
            ):
                encrypted.settimeout(0.1)
                with contextlib.suppress(TimeoutError):
                    encrypted.recv(1)  # The server's tickets come, and nothing else.
        (found,) = find(capture, port, has_connections(3))
    assert (found.connections, found.exchanges) == (3, 0)


def talk_records(client: socket.socket, server: socket.socket, *turns: tuple[bytes, bytes]) -> None:
    for asked, answered in turns:
        for sender, receiver, data in ((client, server, asked), (server, client, answered)):
            if data:
                sender.sendall(data)
                receive_exactly(receiver, len(data))


def record(kind: int, size: int) -> bytes:
    return struct.pack("!BHH", kind, 0x0303, size) + b"x" * size


WEBSOCKETS_SIZE = 1_024
CLIENT_HELLO = struct.pack("!BHHB", 0x16, 0x0301, 40, 1) + b"x" * 39
SERVER_HELLO = struct.pack("!BHHB", 0x16, 0x0303, 40, 2) + b"x" * 39


@contextlib.contextmanager
def both_ends(port: int = 0) -> Iterator[tuple[socket.socket, socket.socket, int]]:
    with (
        socket.create_server(("127.0.0.1", port)) as listener,
        socket.create_connection(listener.getsockname()) as client,
    ):
        server, _ = listener.accept()
        with server:
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield client, server, listener.getsockname()[1]


def test_http2s_own_talk_is_no_call(capture: PacketCapture) -> None:
    with both_ends() as (client, server, port):
        talk_records(
            client,
            server,
            (CLIENT_HELLO, SERVER_HELLO + record(0x17, 900)),
            (record(0x14, 1) + record(0x17, 53), record(0x17, 250)),  # Finished; tickets.
            (record(0x17, 26), record(0x17, 26)),  # Settings acknowledged.
            (record(0x17, 120), record(0x17, 500)),  # A call.
            (record(0x17, 30), record(0x17, 60)),  # Window update.
            (record(0x17, 34), record(0x17, 34)),  # Ping.
            (record(0x17, 30) + record(0x17, 80), record(0x17, 500)),  # A call behind a window update.
            (record(0x17, 19), record(0x17, 19)),  # Alert.
        )
    (found,) = find(capture, port, has_connections(1))
    assert found.exchanges == 2


def test_turns_of_an_upgraded_connection_are_no_exchanges(capture: PacketCapture) -> None:
    """From the moment that what reads TLS knows; a later connection of the port counts as before."""
    turn = (record(0x17, 120), record(0x17, 500))
    with both_ends() as (client, server, port):
        talk_records(client, server, (CLIENT_HELLO, SERVER_HELLO), *[turn] * 20)
        packed = socket.inet_aton("127.0.0.1") + bytes(12)
        key = PEER_KEY.pack(own_cgroup_id(), packed, client.getsockname()[1], 4, ConnectionKind.UPGRADED)
        capture.update("websockets", {key: b"\1"})
        talk_records(client, server, *[turn] * 300)
    (found,) = find(capture, port, lambda counts: bool(counts) and counts[0].bytes > 300 * 620)
    upgraded = found.exchanges
    assert upgraded <= 20
    assert read_batch(capture.maps["websockets"], PEER_KEY.size, 1, WEBSOCKETS_SIZE) == []
    with both_ends(port) as (client, server, _):
        talk_records(client, server, (CLIENT_HELLO, SERVER_HELLO), *[turn] * 23)
    (found,) = find(capture, port, has_exchanges(upgraded + 23))
    assert (found.exchanges, found.connections) == (upgraded + 23, 2)


def test_a_connection_older_than_the_sensor_joins_late(capture: PacketCapture) -> None:
    with both_ends() as (client, server, port):
        capture.set_listening([port])
        capture.detach()
        talk_records(client, server, (CLIENT_HELLO, SERVER_HELLO))
        capture.attach()
        talk_records(client, server, (record(0x17, 120), record(0x17, 500)), (record(0x17, 120), record(0x17, 500)))
    (found,) = find(capture, port, has_connections(1))
    assert (found.connections, found.joined_late, found.kind) == (1, 1, PortProtocol.ENCRYPTED)
    assert 1 <= found.exchanges <= 2


def test_who_serves_an_older_connection_is_decided_once_ports_are_known(capture: PacketCapture) -> None:
    """A sensor is on the hooks before it has read which ports of its node are listened on."""
    turn = (record(0x17, 120), record(0x17, 500))
    with both_ends() as (client, server, port):
        capture.detach()
        talk_records(client, server, (CLIENT_HELLO, SERVER_HELLO))
        capture.update("listening", {bytes(4): b"\0"})
        capture.attach()
        talk_records(client, server, *[turn] * 5)
        assert not any(port in (count.port, client.getsockname()[1]) for count in capture.coverage())
        capture.set_listening([port])
        capture.update("listening", {bytes(4): b"\1"})
        talk_records(client, server, *[turn] * 5)
    (found,) = find(capture, port, has_connections(1))
    assert (found.role, found.kind, found.joined_late) == (CoverageRole.LISTENING, PortProtocol.ENCRYPTED, 1)
    assert 4 <= found.exchanges <= 5


def test_http_that_joins_late_is_marked(capture: PacketCapture) -> None:
    with both_ends() as (client, server, port):
        capture.detach()
        talk_records(client, server, (request("GET", "/a"), response(200)))
        capture.attach()
        talk_records(client, server, (request("GET", "/a"), response(200)), (request("GET", "/b"), response(200)))
    (found,) = find(capture, port, has_connections(1))
    assert (found.kind, found.joined_late, found.calls) == (PortProtocol.HTTP, 1, 2)


QUIC_INITIAL = b"\xc3\x00\x00\x00\x01" + b"q" * 1195
QUIC_SHORT = b"\x45" + b"q" * 99


def test_quic_flows_are_counted(capture: PacketCapture) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        client_ports = set()
        for _ in range(3):
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.connect(("127.0.0.1", port))
                client_ports.add(client.getsockname()[1])
                client.send(QUIC_INITIAL)
                _, peer = server.recvfrom(2_000)
                server.sendto(QUIC_INITIAL, peer)
                client.recv(2_000)
                client.send(QUIC_SHORT)
                server.recv(2_000)
        found = find(capture, port, has_connections(3))
        quic_ports = {count.port for count in capture.coverage() if count.kind is PortProtocol.QUIC}
    (count,) = found
    assert (count.kind, count.connections, count.joined_late) == (PortProtocol.QUIC, 3, 0)
    assert count.bytes == 3 * (2 * len(QUIC_INITIAL) + len(QUIC_SHORT))
    assert count.cgroup_id == own_cgroup_id()
    assert not client_ports & quic_ports


def test_other_datagrams_are_not(capture: PacketCapture) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client,
    ):
        server.bind(("127.0.0.1", 0))
        for first in range(256):
            client.sendto(bytes([first]) + b"\x12\x34\x56\x78" + b"d" * 40, server.getsockname())
            server.recv(100)
        assert find(capture, server.getsockname()[1], lambda _: True) == []


def test_quic_over_ipv6(capture: PacketCapture) -> None:
    with (
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as server,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client,
    ):
        server.bind(("::1", 0))
        client.sendto(QUIC_INITIAL, server.getsockname())
        server.recv(2_000)
        (count,) = find(capture, server.getsockname()[1])
        assert (count.kind, count.connections, count.bytes) == (PortProtocol.QUIC, 1, len(QUIC_INITIAL))


def test_every_handshake_is_reported_or_refused(capture: PacketCapture, certificate: Path) -> None:
    before = capture.counters()
    with serving_https(certificate, ssl.TLSVersion.TLSv1_3) as port:
        make_calls(port, 1)
        find(capture, port, has_connections(1))
    after = capture.counters()
    told = after[Counter.HELLOS] - before[Counter.HELLOS]
    assert told >= 1
