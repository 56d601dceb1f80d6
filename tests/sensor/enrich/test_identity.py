"""Names of services and clients on a plain host, from a fake /proc, fake sockets and a real directory as the cgroup
tree.
"""

from pathlib import Path
from typing import Any

import pytest

from sensor.core.calls import Hop, Service, WorkloadKind
from sensor.enrich.cgroup_tree import CgroupTree
from sensor.enrich.identity import FIRST_RETRY_SECONDS, UNKNOWN_WORKLOAD, NodeIdentity
from sensor.enrich.listeners import ListenerTable
from sensor.enrich.processes import ProcessTable
from tests.sensor.enrich.fakes import FakeClock, FakeProc, FakeSockets, make_socket

ID = "0123456789abcdef" * 4


class Node:
    """A node with its identity; a test adds cgroups, processes and sockets and asks."""

    def __init__(self, directory: Path, pods: Any = None) -> None:
        self.clock = FakeClock()
        self.tree = directory / "cgroup"
        self.tree.mkdir()
        (directory / "proc").mkdir()
        self.proc = FakeProc(directory / "proc")
        self.sockets = FakeSockets()
        processes = ProcessTable(self.proc.root)
        self.listeners = ListenerTable(self.sockets, processes, clock=self.clock)
        self.identity = NodeIdentity(
            cluster="",
            node="host-1",
            cgroups=CgroupTree(self.tree, clock=self.clock, min_walk_seconds=0.0),
            listeners=self.listeners,
            sockets=self.sockets,
            processes=processes,
            name_container=lambda container_id, uid: container_id[:12],
            clock=self.clock,
            pods=pods,
        )

    @property
    def root_id(self) -> int:
        return self.tree.stat().st_ino

    def add_cgroup(self, path: str) -> int:
        directory = self.tree / path.lstrip("/")
        directory.mkdir(parents=True)
        return directory.stat().st_ino

    def listen(
        self, port: int, inode: int, *, address: str = "0.0.0.0", cgroup_id: int | None = None, namespace: int = 1
    ) -> None:
        socket = make_socket(port, inode, address=address, cgroup_id=self.root_id if cgroup_id is None else cgroup_id)
        self.sockets.sockets.setdefault(namespace, []).append(socket)


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


def workload(service: Service) -> tuple[str, WorkloadKind]:
    return service.workload, service.workload_kind


def test_unit_of_the_cgroup_names_the_service(node: Node) -> None:
    cgroup_id = node.add_cgroup("/system.slice/orders.service")
    assert node.identity.server(cgroup_id, 8080, "10.0.0.5")[0] == Service(
        cluster="",
        namespace="",
        workload="orders.service",
        workload_kind=WorkloadKind.SYSTEMD_UNIT,
        host_name="host-1",
        port=8080,
    )


def test_container_of_the_cgroup_names_the_service(node: Node) -> None:
    cgroup_id = node.add_cgroup(f"/system.slice/docker-{ID}.scope")
    assert workload(node.identity.server(cgroup_id, 80, "172.17.0.2")[0]) == (ID[:12], WorkloadKind.CONTAINER)


def test_listener_of_the_root_is_named_by_its_program(node: Node) -> None:
    node.proc.add(70, executable="/usr/bin/python3.13", command_line="python3 app.py --token s3cret", sockets=(501,))
    node.listen(8080, 501)
    service = node.identity.server(node.root_id, 8080, "127.0.0.1")[0]
    assert workload(service) == ("app.py", WorkloadKind.PROCESS)
    assert node.identity.server(node.root_id, 8080, "127.0.0.1")[1] is Hop.ENDPOINT


def test_listener_opened_before_its_process_moved_is_named_by_where_it_is_now(node: Node) -> None:
    node.proc.add(70, sockets=(501,), cgroup="0::/system.slice/orders.service\n")
    node.listen(8080, 501)
    assert workload(node.identity.server(node.root_id, 8080, "127.0.0.1")[0]) == (
        "orders.service",
        WorkloadKind.SYSTEMD_UNIT,
    )


def test_socket_unit_is_named_by_the_service_that_took_its_socket(node: Node) -> None:
    cgroup_id = node.add_cgroup("/system.slice/orders.socket")
    node.proc.add(1, executable="/usr/lib/systemd/systemd", cgroup="0::/init.scope\n", sockets=(501,), start_ticks=1)
    node.listen(8080, 501, cgroup_id=cgroup_id)
    node.listen(8081, 502, cgroup_id=cgroup_id)
    node.proc.add(70, sockets=(501,), cgroup="0::/system.slice/orders.service\n")
    assert node.identity.server(cgroup_id, 8080, "10.0.0.5")[0].workload == "orders.service"
    assert node.identity.server(cgroup_id, 8081, "10.0.0.5")[0].workload == "orders.socket"


def test_hybrid_host_is_named_by_version_1_cgroups_and_told_apart_by_namespace(node: Node) -> None:
    """Docker on cgroup v1: every socket hangs in the v2 root, every container listens on 0.0.0.0:80."""
    for number, namespace in ((1, 11), (2, 12)):
        container_id = f"{number}" * 64
        cgroup = f"5:memory:/docker/{container_id}\n1:name=systemd:/docker/{container_id}\n0::/\n"
        node.proc.add(70 + number, sockets=(500 + number,), cgroup=cgroup)
        node.listen(80, 500 + number, namespace=namespace)
        node.sockets.addresses[namespace] = frozenset({"127.0.0.1", f"172.17.0.{number}"})
    assert node.identity.server(node.root_id, 80, "172.17.0.1")[0].workload == "1" * 12
    assert node.identity.server(node.root_id, 80, "172.17.0.2")[0].workload == "2" * 12


def test_prefork_parent_names_the_service(node: Node) -> None:
    node.proc.add(70, executable="/usr/sbin/nginx", sockets=(501,), start_ticks=10)
    node.proc.add(71, executable="/usr/sbin/worker", sockets=(501,), start_ticks=20)
    node.listen(80, 501)
    assert node.identity.server(node.root_id, 80, "10.0.0.5")[0].workload == "nginx"


def test_forwarding_program_is_a_hop(node: Node) -> None:
    node.proc.add(70, executable="/usr/sbin/haproxy", sockets=(501,))
    node.listen(80, 501)
    assert node.identity.server(node.root_id, 80, "10.0.0.5")[1] is Hop.PROXY


def test_first_sight_is_looked_up_at_once_and_then_from_memory(node: Node) -> None:
    node.listeners.refresh()
    node.proc.add(70, sockets=(501,))
    node.listen(8080, 501)
    first = node.identity.server(node.root_id, 8080, "127.0.0.1")[0]
    readings = node.sockets.readings
    assert first.workload == "orders"
    assert node.identity.server(node.root_id, 8080, "127.0.0.1")[0] is first
    assert node.sockets.readings == readings


def test_name_outlives_its_process_and_changes_with_the_next(node: Node) -> None:
    node.proc.add(70, sockets=(501,))
    node.listen(8080, 501)
    end = (node.root_id, 8080, "127.0.0.1")
    assert node.identity.server(*end)[0].workload == "orders"
    node.proc.remove(70)
    node.sockets.sockets.clear()
    node.identity.refresh()
    assert node.identity.server(*end)[0].workload == "orders"
    node.proc.add(71, executable="/usr/bin/baskets", sockets=(502,), start_ticks=900)
    node.listen(8080, 502)
    node.identity.refresh()
    assert node.identity.server(*end)[0].workload == "baskets"


def test_name_stays_while_the_process_stays(node: Node) -> None:
    node.proc.add(70, sockets=(501,))
    node.listen(8080, 501)
    end = (node.root_id, 8080, "127.0.0.1")
    first = node.identity.server(*end)[0]
    (node.proc.root / "70" / "cgroup").write_text("0::/system.slice/moved.service\n")
    node.identity.refresh()
    assert node.identity.server(*end)[0] is first


def test_unnamed_end_is_unknown_and_tried_again_later(node: Node) -> None:
    end = (node.root_id, 8080, "127.0.0.1")
    assert workload(node.identity.server(*end)[0]) == (UNKNOWN_WORKLOAD, WorkloadKind.UNSPECIFIED)
    node.proc.add(70, sockets=(501,))
    node.listen(8080, 501)
    readings = node.sockets.readings
    assert node.identity.server(*end)[0].workload == UNKNOWN_WORKLOAD
    assert node.sockets.readings == readings
    node.clock.now += FIRST_RETRY_SECONDS
    assert node.identity.server(*end)[0].workload == "orders"


def test_client_of_a_named_cgroup(node: Node) -> None:
    cgroup_id = node.add_cgroup("/system.slice/worker.service")
    assert node.identity.client_workload(cgroup_id, "10.0.0.5", 40_000) == "worker.service"
    assert node.sockets.readings == 0


def test_client_of_the_root_is_found_by_its_socket(node: Node) -> None:
    node.proc.add(80, executable="/usr/bin/curl", sockets=(601,))
    node.listen(40_000, 601, address="127.0.0.1")
    assert node.identity.client_workload(node.root_id, "127.0.0.1", 40_000) == "curl"


def test_a_client_is_not_taken_for_one_of_another_network_namespace(node: Node) -> None:
    """They have the same addresses on loopback."""
    session = node.add_cgroup("/user.slice/user-1000.slice/session-1.scope")
    node.proc.add(80, executable="/usr/bin/curl", sockets=(601, 603))
    node.proc.add(81, executable="/usr/bin/wrk", sockets=(602,), namespace=2)
    node.proc.add(82, executable="/usr/bin/ab", sockets=(604,), namespace=2)
    node.listen(40_000, 601, address="127.0.0.1")
    node.listen(40_000, 602, address="127.0.0.1", cgroup_id=session, namespace=2)
    node.listen(40_001, 603, address="127.0.0.1")
    node.listen(40_001, 604, address="127.0.0.1", namespace=2)
    assert node.identity.client_workload(node.root_id, "127.0.0.1", 40_000) == "curl"
    assert node.identity.client_workload(node.root_id, "127.0.0.1", 40_001) == "", "of two nobody is named"
    assert node.sockets.readings == 1


def test_client_that_is_gone_or_elsewhere_has_no_name(node: Node) -> None:
    assert node.identity.client_workload(node.root_id, "127.0.0.1", 40_000) == ""
    assert node.identity.client_workload(node.root_id, "127.0.0.1", 40_001) == ""
    assert node.sockets.readings == 1
    assert node.identity.client_workload(0, "192.0.2.1", 40_000) == ""
