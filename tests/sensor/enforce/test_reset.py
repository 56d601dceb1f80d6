"""A connection of our own is reset by the kernel: both ends see it at once."""

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sensor.enforce.reset import UNKNOWN_COOKIE, Connection, Resetter, find_obstacle, write_request

SO_COOKIE = 57
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs CAP_NET_ADMIN")


def connect() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), 2)
        server, _ = listener.accept()
    return client, server


def name(server: socket.socket) -> Connection:
    (local, local_port), (remote, remote_port) = server.getsockname(), server.getpeername()
    return Connection(
        cookie=int.from_bytes(server.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8), "little"),
        cgroup_id=1,
        family=4,
        local_address=socket.inet_aton(local),
        local_port=local_port,
        remote_address=socket.inet_aton(remote),
        remote_port=remote_port,
    )


@ROOT
def test_both_ends_are_told_and_others_are_not() -> None:
    assert find_obstacle() == ""
    resetter = Resetter(Path("/proc"), dict)
    (client, server), (other, other_server) = connect(), connect()
    with client, server, other, other_server:
        connection = name(server)
        assert resetter.reset(connection)
        for end in (client, server):
            with pytest.raises(ConnectionError):
                end.recv(1)
        assert resetter.reset(connection)  # It is gone, which is what was wanted.
        other.send(b"x")
        assert other_server.recv(1) == b"x"
    resetter.close()


@ROOT
@pytest.mark.parametrize(("missing", "needed"), [("sys_admin", "CAP_SYS_ADMIN"), ("net_admin", "CAP_NET_ADMIN")])
def test_who_cannot_reset_everywhere_is_told_what_is_missing(missing: str, needed: str) -> None:
    ask = "from sensor.enforce.reset import find_obstacle; print(find_obstacle())"
    without = ["setpriv", f"--bounding-set=-{missing}", f"--inh-caps=-{missing}", sys.executable, "-c", ask]
    told = subprocess.run(without, capture_output=True, text=True, check=True, timeout=60).stdout
    assert needed in told and "a client must not hang" in told


@ROOT
def test_a_connection_of_unknown_cookie_is_found_by_its_ends_and_never_its_listener() -> None:
    resetter = Resetter(Path("/proc"), dict)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), 2)
        server, _ = listener.accept()
        with client, server:
            connection = replace(name(server), cookie=UNKNOWN_COOKIE)
            assert resetter.reset(connection)
            with pytest.raises(ConnectionError):
                client.recv(1)
        resetter.reset(connection)  # The kernel would find who listens.
        with socket.create_connection(listener.getsockname(), 2):
            listener.accept()[0].close()
    resetter.close()


@ROOT
def test_another_cookie_is_another_socket() -> None:
    resetter = Resetter(Path("/proc"), dict)
    client, server = connect()
    with client, server:
        assert not resetter.reset(replace(name(server), cookie=1))
        client.send(b"x")
        assert server.recv(1) == b"x"
    resetter.close()


def test_the_request_is_as_the_kernel_lays_it_out() -> None:
    request = write_request(
        Connection(
            cookie=0x1122334455667788,
            cgroup_id=0,
            family=6,
            local_address=bytes(range(16)),
            local_port=80,
            remote_address=bytes(16),
            remote_port=1,
        )
    )
    assert len(request) == 72 and int.from_bytes(request[:4], "little") == 72
    assert request[16] == socket.AF_INET6 and request[24:28] == b"\0\x50\0\1"
    assert request[28:44] == bytes(range(16)) and request[64:] == (0x1122334455667788).to_bytes(8, "little")
