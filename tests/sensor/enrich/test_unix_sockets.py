"""/proc/net/unix: made lines, and the running kernel's."""

import socket
from pathlib import Path

from sensor.core.printable import NAME_BYTES_MAX
from sensor.enrich.hidden import MAX_LISTENERS, parse_unix

TABLE = b"""Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 100 /run/app.sock
0000000000000000: 00000003 00000000 00000000 0001 03 101 /run/app.sock
0000000000000000: 00000003 00000000 00000000 0001 03 102 /run/app.sock
0000000000000000: 00000003 00000000 00000000 0001 03 103
0000000000000000: 00000002 00000000 00000000 0002 01 104 /run/log
0000000000000000: 00000002 00000000 00010000 0005 01 105 @abstract name
0000000000000000: 00000002 00000000 zzz 0001 01 106 /broken
cut
"""


def test_listeners_with_what_is_connected_to_them() -> None:
    found = [(listener.path, listener.inode, listener.open_connections) for listener in parse_unix(TABLE.splitlines())]
    assert found == [("/run/app.sock", 100, 2), ("@abstract name", 105, 0)]


def test_listeners_are_bounded() -> None:
    line = b"0000000000000000: 00000002 00000000 00010000 0001 01 %d /run/%d"
    assert len(parse_unix(line % (n, n) for n in range(MAX_LISTENERS + 9))) == MAX_LISTENERS


def test_a_path_of_any_bytes_is_printable() -> None:
    line = b"0000000000000000: 00000002 00000000 00010000 0001 01 7 /run/\xff\x1b[31m\r" + b"\xfe" * 98
    (listener,) = parse_unix([line])
    assert listener.path.startswith("/run/\\xff\\x1b[31m\\r\\xfe")
    assert listener.path.isprintable() and len(listener.path) <= NAME_BYTES_MAX


def test_this_kernels_table(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(path))
        listener.listen()
        client.connect(str(path))
        accepted, _ = listener.accept()
        with accepted, Path("/proc/net/unix").open("rb") as lines:
            found = {one.path: one.open_connections for one in parse_unix(lines)}
    assert found[str(path)] == 1
