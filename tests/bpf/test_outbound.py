"""Hosts that are called encrypted: seen where their own end is not on this node, which a sensor of one cgroup alone
shows: its client is in the cgroup, the server is not.
"""

import contextlib
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts.vm.images import find_images
from sensor.capture.packets.capture import PacketCapture
from sensor.core.clock import Clock
from sensor.coverage.row import CoverageRole, PortProtocol
from tests.bpf.cgroups import enter, find_own, remove
from tests.bpf.test_coverage import QUIC_INITIAL, find, has_connections
from tests.bpf.tls import client_context, make_certificate, serving_https
from tests.bpf.wire import connected, serving
from tests.waiting import DEADLINE_SECONDS

pytestmark = [pytest.mark.kernel, pytest.mark.full]

CALLS = 7
CLIENT = """
import socket, sys
from pathlib import Path
from tests.bpf.tls import client_context
cgroup, port, calls = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
Path(cgroup, "cgroup.procs").write_text("0")
with socket.create_connection(("127.0.0.1", port)) as plain:
    with client_context().wrap_socket(plain, server_hostname="pay.example") as client:
        for _ in range(calls):
            client.sendall(b"GET /5 HTTP/1.1\\r\\nHost: pay.example\\r\\n\\r\\n")
            while not client.recv(4096).endswith(b"xxxxx"):
                pass
"""
DATAGRAM_CLIENT = """
import socket, sys
from pathlib import Path
Path(sys.argv[1], "cgroup.procs").write_text("0")
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.connect(("127.0.0.1", int(sys.argv[2])))
client.settimeout(60)
for _ in range(2):
    client.send(bytes.fromhex(sys.argv[3]))
    client.recv(4096)
"""


@pytest.fixture(scope="module")
def cgroup(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cgroup of its own, empty again at the end."""
    home = find_own() / f"apidae_outbound_{os.getpid()}"
    home.mkdir()
    yield home
    remove(home)


@pytest.fixture(scope="module")
def narrow(cgroup: Path) -> Iterator[PacketCapture]:
    """A capture of that cgroup alone."""
    capture = PacketCapture.load(
        cgroup_path=cgroup, ring_bytes=1 << 20, is_root_cgroup=False, clock=Clock(), cache_directory=find_images()
    )
    yield capture
    capture.close()


def run_client(script: str, *arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], capture_output=True, timeout=DEADLINE_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr.decode()


def test_a_called_host_is_a_row_with_its_name(narrow: PacketCapture, cgroup: Path, tmp_path: Path) -> None:
    with serving_https(make_certificate(tmp_path), ssl.TLSVersion.TLSv1_3) as port:
        run_client(CLIENT, str(cgroup), str(port), str(CALLS))
        (count,) = find(narrow, port, lambda counts: sum(each.exchanges for each in counts) >= CALLS)
    assert (count.role, count.kind, count.address) == (CoverageRole.OUTBOUND, PortProtocol.ENCRYPTED, "127.0.0.1")
    assert (count.cgroup_id, count.connections, count.exchanges) == (cgroup.stat().st_ino, 1, CALLS)
    assert count.handshakes.server_names == (("pay.example", 1),)
    assert count.handshakes.versions == (("TLS 1.3", 1),)
    assert count.handshakes.peers == ()  # The peer is the row's address.


def test_a_server_that_its_client_reaches_through_the_listening_socket_is_no_called_host(
    narrow: PacketCapture, cgroup: Path, tmp_path: Path
) -> None:
    """With TCP_DEFER_ACCEPT the client's hello comes before there is a socket of the server's to look at."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(make_certificate(tmp_path))

    def answer(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as server:
            while server.recv(65_536):
                server.sendall(b"x")

    with enter(cgroup), serving(answer, options=((socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 5),)) as port:
        narrow.set_listening([port])
        with connected(port) as plain, client_context().wrap_socket(plain, server_hostname="h") as client:
            for _ in range(CALLS):
                client.sendall(b"y")
                client.recv(1)
        counts = find(narrow, port, lambda counts: sum(each.exchanges for each in counts) >= CALLS)
    assert {(count.role, count.kind) for count in counts} == {(CoverageRole.LISTENING, PortProtocol.ENCRYPTED)}


def test_a_host_called_by_quic_is_a_row(narrow: PacketCapture, cgroup: Path) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(DEADLINE_SECONDS)
        port = server.getsockname()[1]
        client = subprocess.Popen([sys.executable, "-c", DATAGRAM_CLIENT, str(cgroup), str(port), QUIC_INITIAL.hex()])
        with contextlib.closing(server):
            for _ in range(2):
                _, peer = server.recvfrom(2_000)
                server.sendto(QUIC_INITIAL, peer)
            assert client.wait(DEADLINE_SECONDS) == 0
            (count,) = find(narrow, port, has_connections(1))
    assert (count.role, count.kind, count.connections) == (CoverageRole.OUTBOUND, PortProtocol.QUIC, 1)
    # The first datagram of a flow counts with its answer only.
    assert count.bytes == 3 * len(QUIC_INITIAL)
