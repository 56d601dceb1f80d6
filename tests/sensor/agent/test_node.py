"""What the node tells besides calls, put together as in a running sensor."""

from pathlib import Path

import pytest

from sensor.agent.node import Node
from sensor.core.clock import Clock
from sensor.core.config import SensorSettings
from sensor.core.health import Failures
from sensor.coverage.limits import Restraint
from sensor.coverage.row import PortCount, PortProtocol
from sensor.ebpf.abi import Counter
from sensor.enrich.cgroup_tree import CgroupScope
from sensor.enrich.containers import Container, ContainerImage
from sensor.enrich.hidden import HiddenReading, UnixListener
from sensor.enrich.kubernetes.pod import Pod
from sensor.enrich.listeners import Listener, ListenerTable
from sensor.enrich.processes import Process
from sensor.enrich.user_files import ReadFile
from tests.sensor.scopes import watch_cgroup, watch_host


def test_images_are_told_without_kubernetes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    container = Container(name="web", image=ContainerImage(name="nginx"))
    monkeypatch.setattr("sensor.enrich.node.read_container", lambda container_id, uid, read, root: container)
    cgroup = tmp_path / f"cgroup/system.slice/docker-{'ab' * 32}.scope"
    cgroup.mkdir(parents=True)
    settings = SensorSettings(
        collector="127.0.0.1:1",
        kubernetes="off",
        cluster="east",
        zone="eu-1a",
        state_dir=tmp_path,
        proc_path=tmp_path,
    )
    node = Node(settings, watch_host(tmp_path / "cgroup"), Clock(), Failures())
    assert node.workloads() == []
    assert node.identity.server(cgroup.stat().st_ino, 80, "10.0.0.5")[0].workload == "web"
    (told,) = node.workloads()
    assert (told.cluster, told.zone, told.workload, told.kind) == ("east", "eu-1a", "web", "Container")


def test_a_container_of_a_user_is_named_by_the_users_own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def read_container(container_id: str, uid: int | None, *, read: ReadFile, root: Path) -> Container:
        asked.append((container_id, uid))
        return Container(name="shop-db")

    monkeypatch.setattr("sensor.enrich.node.read_container", read_container)
    scope = f"user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{'ab' * 32}.scope/container"
    cgroup = tmp_path / "cgroup" / scope
    cgroup.mkdir(parents=True)
    settings = SensorSettings(collector="127.0.0.1:1", kubernetes="off", state_dir=tmp_path, proc_path=tmp_path)
    node = Node(settings, watch_host(tmp_path / "cgroup"), Clock(), Failures())
    assert node.identity.server(cgroup.stat().st_ino, 80, "10.0.0.5")[0].workload == "shop-db"
    assert asked == [("ab" * 32, 1000)]


SERVICE, OTHER = "shop.slice/orders.service", "shop.slice/users.service"


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    """Two services, each with its process."""
    mount = tmp_path / "cgroup"
    for pid, name in ((10, SERVICE), (11, OTHER)):
        (mount / name).mkdir(parents=True)
        (mount / name / "cgroup.procs").write_text(f"{pid}\n")
    return mount


def make_listener(cgroup: Path, port: int) -> Listener:
    return Listener(
        address="0.0.0.0",
        port=port,
        inode=port,
        cookie=port,
        cgroup_id=cgroup.stat().st_ino,
        namespace=1,
        process=None,
        holder_count=1,
    )


def make_node(directory: Path, scope: CgroupScope, monkeypatch: pytest.MonkeyPatch) -> Node:
    """Each service listens on TCP, UDP and a unix socket, and has a connection of kernel TLS."""
    mount = directory / "cgroup"
    listeners = [make_listener(mount / SERVICE, 80), make_listener(mount / OTHER, 81)]
    monkeypatch.setattr(ListenerTable, "all", lambda table: listeners)
    settings = SensorSettings(collector="127.0.0.1:1", kubernetes="off", state_dir=directory, proc_path=directory)
    node = Node(settings, scope, Clock(), Failures())
    node._pids = scope.read_pids() or frozenset()
    node._hidden.reading = HiddenReading(
        unix=tuple(
            (UnixListener(path=f"/run/{name}", inode=pid, open_connections=2), make_process(pid, name))
            for pid, name in ((10, "orders"), (11, "users"))
        ),
        datagrams=(make_listener(mount / SERVICE, 443), make_listener(mount / OTHER, 443)),
        kernel_tls=(((make_listener(mount / OTHER, 81).cgroup_id, 81), 5),),
    )
    return node


def make_process(pid: int, name: str) -> Process:
    return Process(pid=pid, start_ticks=1, name=name, executable=name, cgroup_path="/", cgroup_v1_paths=())


def cover(node: Node) -> set[tuple[str, PortProtocol]]:
    counts = [PortCount(port=port, kind=PortProtocol.HTTP, connections=1, bytes=1) for port in (80,)]
    rows = node.cover(counts, dict.fromkeys(Counter, 0), Restraint(held_seconds=0, limits=()), {})
    return {
        (row.service.workload if row.protocol is not PortProtocol.UNIX else row.address, row.protocol) for row in rows
    }


def test_what_is_outside_the_scope_is_not_reported(
    tmp_path: Path, mount: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = make_node(tmp_path, watch_cgroup(mount / SERVICE, mount), monkeypatch)
    assert node.ports() == [80]
    assert [server.workload for server in node.servers()] == ["orders.service"]
    assert cover(node) == {
        ("orders.service", PortProtocol.HTTP),
        ("orders.service", PortProtocol.QUIC),
        ("/run/orders", PortProtocol.UNIX),
    }
    everything = make_node(tmp_path, watch_host(mount), monkeypatch)
    assert everything.ports() == [80, 81]
    assert cover(everything) > cover(node)
    assert {("users.service", PortProtocol.SILENT), ("node", PortProtocol.KERNEL_TLS)} <= cover(everything)


def test_pods_outside_the_scope_are_not_reported(tmp_path: Path, mount: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, outside = (f"{number}0000000-0000-4000-8000-000000000000" for number in (1, 2))
    for uid in (inside, outside):
        (mount / f"kubepods.slice/{uid[0]}.slice/pod{uid}").mkdir(parents=True)
    node = make_node(tmp_path, watch_cgroup(mount / "kubepods.slice/1.slice", mount), monkeypatch)
    node._cgroups.walk()
    pods = [make_pod(uid) for uid in (inside, outside)]
    assert [pod.uid for pod in node._list_pods(pods)] == [inside]


def make_pod(uid: str) -> Pod:
    return Pod(
        uid=uid,
        object_uid=uid,
        namespace="shop",
        name="orders",
        workload="orders",
        workload_kind="Deployment",
        labels=(),
        watch="",
        is_host_network=False,
        addresses=(),
        containers=(),
    )


def test_a_watched_cgroup_that_is_gone_ends_the_sensor(
    tmp_path: Path, mount: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = make_node(tmp_path, watch_cgroup(mount / SERVICE, mount), monkeypatch)
    assert node.find_lost_scope() == make_node(tmp_path, watch_host(mount), monkeypatch).find_lost_scope() == ""
    (mount / SERVICE).rename(mount / "before")
    assert f"{mount / SERVICE} is gone" in node.find_lost_scope()
