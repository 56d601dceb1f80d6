"""Which calls are Apidae's own: proven by the memory file that a process holds, and by the cookies in it."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.core.keys import InstallationKey
from collector.receiver.own_traffic import ProcessMark
from sensor.core.calls import Exchange, Role
from sensor.enrich.cgroup_tree import CgroupTree
from sensor.enrich.listeners import ListenerTable
from sensor.enrich.own_traffic import (
    ENDS_MAX,
    FOREIGN_SECONDS,
    NOTHING_OWN,
    OWN_SECONDS,
    CollectorTraffic,
    OwnProcesses,
    OwnTraffic,
    read_boot_id,
    read_collector_traffic,
    read_own_cookies,
)
from sensor.enrich.processes import ProcessTable
from tests.sensor.describe.filter.test_filter import make_pod_exchange
from tests.sensor.enrich.fakes import FakeClock, FakeProc, FakeSockets, make_socket

BOOT = "4e329f51-57b3-4b79-8a67-cab3c5dd05ea"
OTHER_BOOT = "00000000-57b3-4b79-8a67-cab3c5dd05ea"
MARK = "apidae-" + 64 * "5"
TOLD = CollectorTraffic(boot_id=BOOT, process_mark=MARK, ends=(("10.0.0.9", 8443),))
COLLECTOR, FOREIGN, SENSOR = 70, 80, 90
HOST_NAMESPACE, POD_NAMESPACE = 1, 2
CGROUP, OTHER_CGROUP = 7, 8


class Node:
    """A host whose sensor is process 90; a collector is added by each test."""

    def __init__(self, root: Path) -> None:
        self.proc = FakeProc(root)
        self.proc.add(1)
        self.proc.add(SENSOR, executable="/usr/bin/python3")
        (root / "self").symlink_to(str(SENSOR))
        self.sockets = FakeSockets()
        self.clock = FakeClock()
        self.processes = ProcessTable(root)
        self.listeners = ListenerTable(self.sockets, self.processes, clock=self.clock)
        cgroups = CgroupTree(None, clock=self.clock)
        self.own = OwnTraffic(self.listeners, self.processes, cgroups, clock=self.clock, boot_id=BOOT)
        self.asked: list[tuple[str, int, str, int]] = []

    def add(self, pid: int, *, port: int, inode: int, mark: str = "", namespace: int = HOST_NAMESPACE) -> None:
        """A process that listens on a port."""
        self.proc.add(pid, sockets=(inode,), namespace=namespace)
        if mark:
            (self.proc.root / str(pid) / "fd" / "9").symlink_to(f"/memfd:{mark} (deleted)")
        self.sockets.sockets.setdefault(namespace, []).append(make_socket(port, inode, cgroup_id=CGROUP))

    def remove(self, pid: int, port: int) -> None:
        self.proc.remove(pid)
        for sockets in self.sockets.sockets.values():
            sockets[:] = [one for one in sockets if one.port != port]

    def refresh(self) -> None:
        self.listeners.refresh()
        self.own.refresh()

    def find_client(self, *ends: str | int) -> int:
        self.asked.append(ends)  # type: ignore[arg-type]
        return 0


@pytest.fixture
def node(tmp_path: Path) -> Node:
    node = Node(tmp_path)
    node.own.identify(TOLD)
    node.own.set_client_finder(node.find_client)
    return node


def make_call(port: int, **fields: object) -> Exchange:
    return make_pod_exchange(cgroup_id=CGROUP, local_port=port, local_address="127.0.0.1", **fields)


def test_what_the_marked_process_serves_is_own_from_its_first_call_on(node: Node) -> None:
    node.add(COLLECTOR, port=8080, inode=501, mark=MARK)
    node.add(FOREIGN, port=80, inode=502)
    assert node.own.is_own(make_call(8080))  # Nothing was read before.
    assert not node.own.is_own(make_call(80))
    assert node.own.cgroup_ids == {CGROUP}


@pytest.mark.parametrize("mark", ["", "apidae", "apidae-" + 64 * "0", f"{MARK}0"])
def test_a_process_that_is_called_apidae_is_not_own(node: Node, mark: str) -> None:
    node.add(COLLECTOR, port=8080, inode=501, mark=MARK)
    node.proc.add(FOREIGN, executable="/usr/bin/apidae", command="apidae", sockets=(502,))
    if mark:
        (node.proc.root / str(FOREIGN) / "fd" / "9").symlink_to(f"/memfd:{mark} (deleted)")
    node.sockets.sockets[HOST_NAMESPACE].append(make_socket(80, 502, cgroup_id=CGROUP))
    head = b"GET / HTTP/1.1\r\nHost: apidae\r\nUser-Agent: apidae\r\n\r\n"
    assert not node.own.is_own(make_call(80, request_head=head))


def test_this_sensors_own_listener_is_own_without_a_mark(node: Node) -> None:
    node.own.identify(NOTHING_OWN)
    (node.proc.root / str(SENSOR) / "fd" / "3").symlink_to("socket:[503]")
    node.sockets.sockets[HOST_NAMESPACE] = [make_socket(9_400, 503, cgroup_id=CGROUP)]
    assert node.own.is_own(make_call(9_400))


def test_a_collector_that_was_started_again_is_known_before_it_greets(node: Node) -> None:
    node.add(COLLECTOR, port=8080, inode=501, mark=MARK)
    node.refresh()
    assert node.own.is_own(make_call(8080))
    node.remove(COLLECTOR, 8080)
    node.add(COLLECTOR + 1, port=8081, inode=511, mark=MARK)
    node.clock.now += 1.0
    assert node.own.is_own(make_call(8081))


def test_an_own_end_stays_own_until_another_listens_there(node: Node) -> None:
    node.add(COLLECTOR, port=8080, inode=501, mark=MARK)
    assert node.own.is_own(make_call(8080))
    node.remove(COLLECTOR, 8080)
    node.clock.now += 10.0
    node.refresh()
    assert node.own.is_own(make_call(8080))  # A call of before its end may still be on its way.
    node.add(FOREIGN, port=8080, inode=502)
    node.clock.now += OWN_SECONDS
    assert not node.own.is_own(make_call(8080))


def test_who_shares_an_own_port_is_seen_by_the_next_reading(node: Node) -> None:
    node.add(COLLECTOR, port=8080, inode=501, mark=MARK)
    assert node.own.is_own(make_call(8080))
    node.add(FOREIGN, port=8080, inode=502)
    node.refresh()
    assert not node.own.is_own(make_call(8080))


def test_a_listener_whose_process_cannot_be_seen_is_not_own(node: Node) -> None:
    node.add(COLLECTOR, port=8080, inode=501, mark=MARK)
    node.sockets.sockets[HOST_NAMESPACE].append(make_socket(8080, 599, cgroup_id=CGROUP))
    assert not node.own.is_own(make_call(8080))


def test_without_an_address_all_listeners_of_the_port_must_be_own(node: Node) -> None:
    node.add(COLLECTOR, port=8080, inode=501, mark=MARK)
    node.refresh()
    assert node.own.is_own_end(CGROUP, 8080, "")
    assert not node.own.is_own_end(OTHER_CGROUP, 8080, "")
    node.add(FOREIGN, port=8080, inode=502, namespace=POD_NAMESPACE)
    node.refresh()
    assert not node.own.is_own_end(CGROUP, 8080, "")


def test_a_mark_of_another_kernel_proves_nothing_here(node: Node) -> None:
    node.add(COLLECTOR, port=8080, inode=501, mark=MARK)
    node.own.identify(CollectorTraffic(boot_id=OTHER_BOOT, process_mark=MARK, ends=TOLD.ends))
    assert not node.own.is_own(make_call(8080))


def test_calls_to_a_collector_of_another_node_are_own_by_its_address_and_port(node: Node) -> None:
    node.own.identify(CollectorTraffic(boot_id=OTHER_BOOT, process_mark=MARK, ends=TOLD.ends))
    to_collector = {"role": Role.CLIENT, "remote_address": "10.0.0.9", "remote_port": 8443}
    assert node.own.is_own(make_call(40_000, **to_collector))
    assert not node.own.is_own(make_call(40_000, **{**to_collector, "remote_port": 8444}))
    assert not node.own.is_own(make_call(40_000, **{**to_collector, "remote_address": "10.0.0.8"}))
    # What is served here at the same numbers is somebody else's.
    assert not node.own.is_own(make_call(8443, remote_address="10.0.0.9", remote_port=8443))


def test_a_caller_is_asked_for_only_in_the_cgroups_of_apidae_and_at_addresses_of_the_node(node: Node) -> None:
    node.add(COLLECTOR, port=8080, inode=501, mark=MARK)
    node.add(FOREIGN, port=80, inode=502)
    node.refresh()
    assert not node.own.is_own(make_call(80, peer_cgroup_id=OTHER_CGROUP, remote_address="127.0.0.1"))
    assert not node.own.is_own(make_call(80, peer_cgroup_id=CGROUP, remote_address="2001:db8::1"))
    assert node.asked == []
    assert not node.own.is_own(make_call(80, peer_cgroup_id=CGROUP, remote_address="127.0.0.1", remote_port=5))
    assert node.asked == [("127.0.0.1", 80, "127.0.0.1", 5)]


def test_callers_from_a_network_namespace_of_the_collectors_alone_are_own(node: Node) -> None:
    node.sockets.addresses[POD_NAMESPACE] = frozenset({"10.244.0.5", "127.0.0.1", "fe80::1"})
    node.add(COLLECTOR, port=8080, inode=501, mark=MARK, namespace=POD_NAMESPACE)
    node.add(FOREIGN, port=80, inode=502)
    node.refresh()
    assert node.own.is_own(make_call(80, remote_address="10.244.0.5"))
    assert not node.own.is_own(make_call(80, remote_address="fe80::1"))
    node.add(FOREIGN + 1, port=15_001, inode=503, namespace=POD_NAMESPACE)
    node.refresh()
    assert not node.own.is_own(make_call(80, remote_address="10.244.0.5"))


def test_a_process_whose_tls_is_read_is_asked_itself(node: Node) -> None:
    node.add(COLLECTOR, port=8080, inode=501, mark=MARK)
    node.add(FOREIGN, port=80, inode=502)
    away = {"role": Role.CLIENT, "remote_address": "192.0.2.7", "remote_port": 443}
    assert node.own.is_own(make_call(40_000, process=COLLECTOR, **away))
    assert node.own.is_own(make_call(40_000, process=SENSOR, **away))
    assert not node.own.is_own(make_call(40_000, process=FOREIGN, **away))
    # Another process has its number now.
    node.remove(COLLECTOR, 8080)
    node.proc.add(COLLECTOR, start_ticks=200)
    node.clock.now += FOREIGN_SECONDS
    assert not node.own.is_own(make_call(40_000, process=COLLECTOR, **away))


def test_what_a_collector_says_is_taken_as_far_as_it_can_be_used() -> None:
    ends = [("10.0.0.9", 8443), ("::ffff:10.0.0.9", 8443), ("fd00::9", 1), ("10.0.0.9", 0), ("10.0.0.9", 65_536)]
    shared = [("127.0.0.1", 80), ("0.0.0.0", 80), ("fe80::1", 80), ("224.0.0.1", 80), ("localhost", 80)]
    told = read_collector_traffic(boot_id=BOOT, process_mark=MARK, ends=[*ends, *shared])
    assert told == CollectorTraffic(boot_id=BOOT, process_mark=MARK, ends=(("10.0.0.9", 8443), ("fd00::9", 1)))
    assert "5555" not in repr(told)
    for boot_id, mark in ((BOOT, ""), (BOOT, "x"), (BOOT, MARK + "/../"), ("", MARK), ("x" * 36, MARK)):
        assert read_collector_traffic(boot_id=boot_id, process_mark=mark, ends=[]) == NOTHING_OWN
    many = [(f"10.0.{number // 250}.{number % 250 + 1}", 80) for number in range(2 * ENDS_MAX)]
    assert len(read_collector_traffic(boot_id="", process_mark="", ends=many).ends) == ENDS_MAX


# With processes and sockets of this machine.

# Holds the mark, connects to a port as often as it is told, and says the cookies of its sockets.
CHILD = """
import socket, sys
from collector.core.keys import InstallationKey
from collector.receiver.own_traffic import ProcessMark

mark = ProcessMark(InstallationKey(key_id=1, secret=bytes(16)), sys.argv[1])
mark.watch_connections()
print(mark.name, flush=True)
for line in sys.stdin:
    with socket.create_connection(("127.0.0.1", int(line))) as client:
        print(int.from_bytes(client.getsockopt(socket.SOL_SOCKET, 57, 8), sys.byteorder), flush=True)
"""


class Child:
    """A process with the collector's own code for its mark."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", CHILD, BOOT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.pid, self.mark = self._process.pid, self._process.stdout.readline().strip()

    def connect(self, port: int) -> int:
        """The cookie of a socket that is closed again."""
        assert self._process.stdin is not None and self._process.stdout is not None
        print(port, file=self._process.stdin, flush=True)
        return int(self._process.stdout.readline())

    def stop(self) -> None:
        self._process.communicate()


@pytest.fixture
def child() -> Iterator[Child]:
    child = Child()
    yield child
    child.stop()


@pytest.fixture
def listener() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_the_mark_of_a_collectors_process_is_found_with_the_cookies_of_its_closed_sockets(
    child: Child, listener: int
) -> None:
    own = OwnProcesses(ProcessTable(), clock=FakeClock())
    assert child.mark == ProcessMark(InstallationKey(key_id=1, secret=bytes(16)), BOOT).name
    assert not own.is_own(child.pid)
    own.set_mark(child.mark)
    first = child.connect(listener)
    assert own.is_own(child.pid)
    assert not own.is_own(os.getppid())
    second = child.connect(listener)
    assert own.has_connected(first) and own.has_connected(second)
    assert not own.has_connected(second + 1_000_000)
    child.stop()
    own.forget_ended()
    assert own.has_connected(second)


def test_sockets_of_this_process_are_known_by_their_cookies(listener: int) -> None:
    with socket.create_connection(("127.0.0.1", listener)) as client:
        cookie = int.from_bytes(client.getsockopt(socket.SOL_SOCKET, 57, 8), sys.byteorder)
        assert cookie in read_own_cookies()
    assert cookie not in read_own_cookies()


def test_the_kernels_boot_id_is_read() -> None:
    assert read_collector_traffic(boot_id=read_boot_id(), process_mark=MARK, ends=[]).boot_id == read_boot_id() != ""
