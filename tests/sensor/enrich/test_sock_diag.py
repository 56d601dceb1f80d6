"""Netlink answers: built by hand as the kernel lays them out, whole and cut anywhere."""

import socket
import struct

from hypothesis import given
from hypothesis import strategies as st

from sensor.enrich.sockets import TcpSocket, parse_addresses, parse_kernel_tls, parse_sockets


def message(kind: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 2, 1, 0) + body


def attribute(kind: int, value: bytes) -> bytes:
    return (struct.pack("=HH", 4 + len(value), kind) + value).ljust((4 + len(value) + 3) & ~3, b"\0")


def socket_body(family: int, address: str, port: int, inode: int, cgroup_id: int | None) -> bytes:
    raw = socket.inet_pton(family, address).ljust(16, b"\0")
    tail = attribute(21, struct.pack("=Q", cgroup_id)) if cgroup_id is not None else b""
    return (
        struct.pack("=BBBB", family, 10, 0, 0)
        + struct.pack("!HH", port, 0)
        + raw
        + bytes(16)
        + struct.pack("=IQ", 0, 77)
        + struct.pack("=IIIII", 0, 0, 128, 0, inode)
        + attribute(8, b"\0")
        + tail
    )


ANSWER = (
    message(20, socket_body(socket.AF_INET, "10.0.0.5", 8080, 501, 4_242))
    + message(20, socket_body(socket.AF_INET6, "::", 80, 502, 1))
    + message(20, socket_body(socket.AF_INET6, "::ffff:10.0.0.6", 81, 503, None))
    + message(3, bytes(4))
)


def test_sockets_are_read() -> None:
    first, second, third = parse_sockets(ANSWER)
    assert first == TcpSocket(
        address="10.0.0.5",
        port=8080,
        remote_address="0.0.0.0",
        remote_port=0,
        inode=501,
        cookie=77,
        cgroup_id=4_242,
    )
    assert (second.address, second.port, second.inode, second.cgroup_id) == ("::", 80, 502, 1)
    assert (third.address, third.cgroup_id) == ("10.0.0.6", 0)


def test_addresses_are_read() -> None:
    head = struct.pack("=BBBBI", socket.AF_INET, 16, 0, 0, 2)
    peer, local = (socket.inet_pton(socket.AF_INET, text) for text in ("10.0.0.9", "10.0.0.5"))
    answer = message(20, head + attribute(1, peer) + attribute(2, local))
    answer += message(20, struct.pack("=BBBBI", socket.AF_INET6, 128, 0, 0, 1) + attribute(1, bytes(15) + b"\1"))
    assert list(parse_addresses(answer)) == ["10.0.0.5", "::1"]


@given(st.integers(0, len(ANSWER)))
def test_cut_answer_gives_whole_sockets_only(length: int) -> None:
    assert (
        list(parse_sockets(ANSWER[:length])) == list(parse_sockets(ANSWER))[: len(list(parse_sockets(ANSWER[:length])))]
    )


@given(st.binary(max_size=300))
def test_never_raises(answer: bytes) -> None:
    assert all(0 <= found.port < 65_536 for found in parse_sockets(answer))
    assert all(list(parse_addresses(answer)))


def test_kernel_tls_is_known_by_its_upper_layer() -> None:
    """As tcp_diag_put_ulp() lays it out: INET_DIAG_ULP_INFO (19) with INET_ULP_INFO_NAME (1)."""
    layer = attribute(19, attribute(1, b"tls\0") + attribute(2, bytes(8)))
    other = attribute(19, attribute(1, b"mptcp\0"))
    body = socket_body(socket.AF_INET, "10.0.0.5", 8443, 501, 4_242)
    answer = message(20, body + layer) + message(20, body + other) + message(20, body) + message(3, bytes(4))
    assert list(parse_kernel_tls(answer)) == [(4_242, 8443)]
    assert list(parse_kernel_tls(answer[:60])) == []
