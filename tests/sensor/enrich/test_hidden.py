"""What no hook sees, of the running node: this process's own sockets are found with their owner."""

import ctypes
import os
import socket
import struct
from pathlib import Path

import pytest

from sensor.ebpf.bpf_syscall import count_sockmap_programs, create_object
from sensor.enrich.hidden import REREAD_SECONDS, HiddenTable
from sensor.enrich.processes import ProcessTable
from tests.sensor.enrich.fakes import FakeClock


@pytest.fixture
def as_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("visiting network namespaces needs root")


def test_sockets_are_found_with_their_owner_and_read_once_a_minute(tmp_path: Path, as_root: None) -> None:
    clock = FakeClock()
    table = HiddenTable(ProcessTable(), clock=clock, count_sockmaps=lambda: 7)
    path = tmp_path / "app.sock"
    with (
        socket.socket(socket.AF_UNIX) as listener,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams,
    ):
        listener.bind(str(path))
        listener.listen()
        datagrams.bind(("127.0.0.1", 0))
        port = datagrams.getsockname()[1]
        table.refresh()
    (found,) = [owner for socket_, owner in table.reading.unix if socket_.path == str(path)]
    assert found is not None and found.pid == os.getpid()
    owners = [one.process.pid for one in table.reading.datagrams if one.port == port and one.process is not None]
    assert os.getpid() in owners
    assert table.reading.sockmap_programs == 7
    table.refresh()
    assert any(socket_.path == str(path) for socket_, _ in table.reading.unix)  # Not read again yet.
    clock.now += REREAD_SECONDS
    table.refresh()
    assert not any(socket_.path == str(path) for socket_, _ in table.reading.unix)


def load_redirecting_program() -> int:
    """The smallest program of type sk_skb: `return SK_PASS`; its fd. Raises OSError."""
    instructions = ctypes.create_string_buffer(
        struct.pack("<BBhi", 0xB7, 0, 0, 1) + struct.pack("<BBhi", 0x95, 0, 0, 0)
    )
    licence = ctypes.create_string_buffer(b"GPL")
    addresses = (ctypes.addressof(instructions), ctypes.addressof(licence))
    attributes = struct.pack("<IIQQIIQII16sII", 14, 2, *addresses, 0, 0, 0, 0, 0, b"redirects", 0, 0)
    return create_object(5, attributes)


def test_sockmap_programs_are_counted(as_root: None) -> None:
    before = count_sockmap_programs()
    fd = load_redirecting_program()
    try:
        assert count_sockmap_programs() == before + 1
    finally:
        os.close(fd)
