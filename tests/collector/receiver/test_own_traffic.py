"""The mark of the collector's process, the cookies of its sockets, and where other nodes reach it."""

import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.core.keys import InstallationKey
from collector.receiver import own_traffic
from collector.receiver.own_traffic import (
    COOKIES_MAX,
    OwnEnd,
    OwnTraffic,
    ProcessMark,
    describe_own_traffic,
    open_process_mark,
)

KEY = InstallationKey(key_id=1, secret=b"k" * 16)
BOOT = "4e329f51-57b3-4b79-8a67-cab3c5dd05ea"


def list_held(name: str, pid: int | str = "self") -> list[Path]:
    """Descriptors of a process on a memory file."""
    found = []
    for path in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(path.readlink())
        except FileNotFoundError:  # It was closed since, as the one that lists them.
            continue
        if target == f"/memfd:{name} (deleted)":
            found.append(path)
    return found


def read_ring(mark: ProcessMark) -> tuple[int, list[int]]:
    """How many cookies were written, and those that are there."""
    (path,) = list_held(mark.name)
    count, *cookies = struct.unpack(f"={1 + COOKIES_MAX}Q", path.read_bytes())
    return count, [cookie for cookie in cookies if cookie]


@pytest.fixture
def mark() -> Iterator[ProcessMark]:
    mark = ProcessMark(KEY, BOOT)
    yield mark
    mark._ring.close()


def read_cookie(of: socket.socket) -> int:
    return int(struct.unpack("=Q", of.getsockopt(socket.SOL_SOCKET, 57, 8))[0])


def test_a_mark_is_the_same_at_each_start_and_another_with_each_key_and_boot(mark: ProcessMark) -> None:
    assert len(list_held(mark.name)) == 1
    again = ProcessMark(KEY, BOOT)
    assert again.name == mark.name and len(again.name) == len("apidae-") + 64
    others = [ProcessMark(InstallationKey(key_id=1, secret=b"K" * 16), BOOT), ProcessMark(KEY, BOOT.replace("4", "5"))]
    assert len({mark.name, *(other.name for other in others)}) == 3
    for one in (again, *others):
        one._ring.close()


def test_the_last_cookies_are_kept(mark: ProcessMark) -> None:
    with socket.socket() as first, socket.socket() as second:
        mark.note_socket(first)
        assert read_ring(mark) == (1, [read_cookie(first)])
        for _ in range(COOKIES_MAX):
            mark.note_socket(second)
        count, cookies = read_ring(mark)
        assert count == COOKIES_MAX + 1 and set(cookies) == {read_cookie(second)}


def test_sockets_are_noted_when_they_connect_and_only_those_of_the_internet(mark: ProcessMark) -> None:
    with socket.socket() as client, socket.socket(socket.AF_UNIX) as local, socket.socket() as closed:
        closed.close()
        for one, address in ((client, ("127.0.0.1", 9)), (local, "/nowhere"), (closed, ("127.0.0.1", 9))):
            mark._take_event("socket.connect", (one, address))
        mark._take_event("socket.bind", (client, ("127.0.0.1", 9)))
        assert read_ring(mark) == (1, [read_cookie(client)])


def test_ends_are_those_that_other_nodes_reach(mark: ProcessMark, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_traffic, "list_outgoing_addresses", lambda: ["10.0.0.9", "fd00::9"])
    listeners = [("127.0.0.1", 80), ("::1", 80), ("0.0.0.0", 7443), ("10.0.0.8", 8443)]
    ends = (
        OwnEnd(address="10.0.0.9", port=7443),
        OwnEnd(address="fd00::9", port=7443),
        OwnEnd(address="10.0.0.8", port=8443),
    )
    assert describe_own_traffic(mark, listeners) == OwnTraffic(boot_id=BOOT, process_mark=mark.name, ends=ends)
    assert describe_own_traffic(None, listeners) == OwnTraffic(ends=ends)
    assert mark.name not in repr(describe_own_traffic(mark, listeners))


def test_a_kernel_that_gives_no_memory_file_is_said_and_the_collector_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "memfd_create", refuse)
    assert open_process_mark(KEY) is None
    assert "cannot recognise this collector's own traffic (Operation not permitted), and will show it" in caplog.text
