"""Unix sockets: made ones, the kernel's answer cut anywhere, and the running kernel's."""

import os
import socket
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.core.printable import NAME_BYTES_MAX
from sensor.enrich.hidden import MAX_LISTENERS, list_unix_listeners
from sensor.enrich.sockets import UnixSocket, dump_unix_sockets, parse_unix_sockets
from tests.sensor.enrich.test_sock_diag import attribute, message

LISTENING, CONNECTED, CLOSED = 10, 1, 7


def make(name: bytes, inode: int, state: int = LISTENING, kind: int = socket.SOCK_STREAM) -> UnixSocket:
    return UnixSocket(name=name, kind=kind, state=state, inode=inode, uid=0)


def test_listeners_with_what_is_connected_to_them() -> None:
    sockets = [
        make(b"/run/app.sock", 100),
        make(b"/run/app.sock", 101, CONNECTED),
        make(b"/run/app.sock", 102, CONNECTED),
        make(b"/run/log", 104, CLOSED, socket.SOCK_DGRAM),
        make(b"\0abstract name", 105, kind=socket.SOCK_SEQPACKET),
    ]
    found = [(one.path, one.inode, one.open_connections) for one in list_unix_listeners(sockets)]
    assert found == [("/run/app.sock", 100, 2), ("@abstract name", 105, 0)]


def test_listeners_are_bounded() -> None:
    assert len(list_unix_listeners(make(b"/run/%d" % n, n) for n in range(MAX_LISTENERS + 9))) == MAX_LISTENERS


def test_a_path_of_any_bytes_is_printable() -> None:
    (listener,) = list_unix_listeners([make(b"/run/\xff\x1b[31m\r" + b"\xfe" * 98, 7)])
    assert listener.path.startswith("/run/\\xff\\x1b[31m\\r\\xfe")
    assert listener.path.isprintable() and len(listener.path) <= NAME_BYTES_MAX


ANSWER = (
    message(20, struct.pack("=BBBBIQ", socket.AF_UNIX, 1, LISTENING, 0, 501, 1) + attribute(0, b"/run/a\0"))
    + message(
        20,
        struct.pack("=BBBBIQ", socket.AF_UNIX, 1, CONNECTED, 0, 502, 1)
        + attribute(0, b"\0b\0c")
        + attribute(7, struct.pack("=I", 1_000)),
    )
    + message(20, struct.pack("=BBBBIQ", socket.AF_UNIX, 1, CONNECTED, 0, 503, 1))
    + message(3, bytes(4))
)


def test_the_kernels_answer_is_read() -> None:
    first, second = parse_unix_sockets(ANSWER)
    assert first == UnixSocket(name=b"/run/a", kind=1, state=LISTENING, inode=501, uid=None)
    assert second == UnixSocket(name=b"\0b\0c", kind=1, state=CONNECTED, inode=502, uid=1_000)


@given(st.integers(0, len(ANSWER)), st.binary(max_size=8), st.integers(0, len(ANSWER)))
def test_a_cut_answer_is_read_as_far_as_it_goes(end: int, other: bytes, at: int) -> None:
    changed = ANSWER[:at] + other + ANSWER[at + len(other) :]
    assert len(list(parse_unix_sockets(changed[:end]))) <= 3


def test_this_kernels_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of a path that is made like a line of /proc/net/unix is no other socket."""
    path = b"x\n0: 2 0 10000 1 1 99 docker.sock"
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(path)
        listener.listen()
        client.connect(path)
        accepted, _ = listener.accept()
        with accepted:
            sockets = dump_unix_sockets()
        inode = os.fstat(listener.fileno()).st_ino
    (mine,) = [one for one in list_unix_listeners(sockets) if one.inode == inode]
    assert mine.open_connections == 1 and mine.path.endswith("\\n0: 2 0 10000 1 1 99 docker.sock")
    assert not [one for one in sockets if one.name == b"docker.sock"]
    assert {one.uid for one in sockets if one.inode == inode} == {os.getuid()}
