"""Processes from a fake /proc: odd names, what has ended, what cannot be read, and the bounds."""

from pathlib import Path

import pytest

from sensor.enrich import processes
from sensor.enrich.processes import ProcessTable, parse_cgroups
from tests.sensor.enrich.fakes import FakeProc


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    return FakeProc(tmp_path)


def test_process_is_read(proc: FakeProc) -> None:
    proc.add(70, command="a) R 1 (b", start_ticks=123, cgroup="0::/system.slice/a.service\n")
    process = ProcessTable(proc.root).process(70)
    assert process is not None
    assert process.start_ticks == 123
    assert (process.name, process.executable) == ("orders", "orders")
    assert process.cgroup_path == "/system.slice/a.service"


def test_ended_process_is_none(proc: FakeProc) -> None:
    table = ProcessTable(proc.root)
    assert table.process(70) is None
    assert table.start_ticks(70) is None
    (proc.root / "71").mkdir()
    (proc.root / "71" / "stat").write_text("71 (x) S 1")
    assert table.process(71) is None


def test_version_1_paths_are_longest_first_and_once() -> None:
    text = b"5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n3:freezer:/\n1:name=systemd:/docker/abc/x\n0::/y\n"
    assert parse_cgroups(text) == ("/y", ("/docker/abc/x", "/docker/abc"))
    assert parse_cgroups(b"garbage\n\n:::\n") == ("/", ())


def test_no_byte_of_a_name_begins_another_line_of_cgroups() -> None:
    """A directory is called `a`, a form feed and `0::`, and has system.slice/nginx.service below it."""
    content = b"0::/user.slice/a\x0c0::/system.slice/nginx.service\n"
    assert parse_cgroups(content) == ("/user.slice/a\\x0c0::/system.slice/nginx.service", ())
    assert parse_cgroups(b"0::/a/\xff\xfe.service\n")[0] == "/a/\\xff\\xfe.service"


def test_owners_of_sockets(proc: FakeProc) -> None:
    proc.add(70, sockets=(501, 502))
    proc.add(71, sockets=(501, 999))
    (proc.root / "72").mkdir()
    scan = ProcessTable(proc.root).find_owners([501, 502, 503])
    assert scan.owners == {501: (70, 71), 502: (70,)}
    assert scan.unreadable_process_count == 1
    assert scan.left_out_count == 0


def test_descriptors_past_the_bound_are_counted_and_the_low_ones_read(
    proc: FakeProc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "MAX_DESCRIPTORS_PER_PROCESS", 2)
    proc.add(70, sockets=(501, 502, 503))
    scan = ProcessTable(proc.root).find_owners([501, 503])
    assert scan.owners == {501: (70,)}
    assert scan.left_out_count == 2


def test_one_process_a_namespace(proc: FakeProc) -> None:
    proc.add(70, namespace=1)
    proc.add(71, namespace=2)
    proc.add(72, namespace=1)
    assert ProcessTable(proc.root).network_namespaces() == {1: 70, 2: 71}


def test_absent_tree_is_empty(tmp_path: Path) -> None:
    assert ProcessTable(tmp_path / "absent").pids() == []


def test_one_holder_of_each_socket_is_enough(proc: FakeProc) -> None:
    proc.add(70, sockets=(501, 502))
    proc.add(71, sockets=(501, 999))
    table = ProcessTable(proc.root)
    assert table.find_any_owners([501, 502, 503], first=()) == {501: 71, 502: 70}  # The youngest first.
    assert table.find_any_owners([501], first=[70]) == {501: 70}
