"""Identity on the running kernel: own cgroups, real listeners in own network namespaces, processes that move."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sensor.core.calls import WorkloadKind
from sensor.enrich.cgroup_tree import CgroupTree, find_cgroup2_mount
from sensor.enrich.identity import NodeIdentity
from sensor.enrich.listeners import ListenerTable
from sensor.enrich.processes import ProcessTable
from sensor.enrich.sockets import KernelSockets

pytestmark = pytest.mark.kernel

MOUNT = find_cgroup2_mount(Path("/proc/mounts").read_text())
if os.geteuid() != 0 or MOUNT is None:
    pytest.skip("needs root and a cgroup v2 mount", allow_module_level=True)

# Listens in the cgroup it starts in, says so, and waits for its standard input to close.
SERVER = """
import socket, sys
listener = socket.create_server(("127.0.0.1" if len(sys.argv) < 2 else sys.argv[1], 0))
print(listener.getsockname()[1], flush=True)
sys.stdin.read()
"""


@contextmanager
def cgroup(name: str) -> Iterator[Path]:
    """A cgroup of the v2 root, removed with its children; whatever is still in it goes back to the root first."""
    assert MOUNT is not None
    top = MOUNT / name.split("/")[0]
    directory = MOUNT / name
    directory.mkdir(parents=True)
    try:
        yield directory
    finally:
        for path in [*sorted((p for p in top.rglob("*") if p.is_dir()), reverse=True), top]:
            for pid in (path / "cgroup.procs").read_text().split():
                (MOUNT / "cgroup.procs").write_text(pid)
            path.rmdir()


@contextmanager
def server(
    script: Path, *prefix: str, into: Path | None = None, address: str = "127.0.0.1"
) -> Iterator[tuple[int, int]]:
    """(pid, port) of a running server that opened its listener in the cgroup `into`."""
    script.write_text(SERVER)

    def enter() -> None:
        if into is not None:
            (into / "cgroup.procs").write_text("0")

    command = [*prefix, sys.executable, str(script), address]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=enter)
    assert process.stdin is not None and process.stdout is not None
    try:
        yield process.pid, int(process.stdout.readline())
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(timeout=60)


def build_listeners() -> ListenerTable:
    processes = ProcessTable()
    return ListenerTable(KernelSockets(processes.network_namespaces), processes, clock=time.monotonic)


def build_identity() -> NodeIdentity:
    assert MOUNT is not None
    processes = ProcessTable()
    sockets = KernelSockets(processes.network_namespaces)
    return NodeIdentity(
        cluster="",
        node="host-1",
        cgroups=CgroupTree(MOUNT, clock=time.monotonic),
        listeners=ListenerTable(sockets, processes, clock=time.monotonic),
        sockets=sockets,
        processes=processes,
        name_container=lambda container_id, uid: container_id[:12],
        clock=time.monotonic,
    )


def test_cgroup_younger_than_the_index_has_a_path() -> None:
    assert MOUNT is not None
    tree = CgroupTree(MOUNT, clock=lambda: 0.0)
    tree.walk()
    with cgroup("apidae-test-young/a.service") as directory:
        assert tree.path(directory.stat().st_ino) == "/apidae-test-young/a.service"
    assert tree.path(MOUNT.stat().st_ino) == "/"


def test_kernel_reports_the_cgroup_in_which_a_listener_was_created(tmp_path: Path) -> None:
    with cgroup("apidae-test-born/orders.service") as born, server(tmp_path / "app.py", into=born) as (pid, port):
        listeners = build_listeners()
        listeners.refresh()
        found = [listener for listener in listeners.all() if listener.port == port]
        assert [(listener.cgroup_id, listener.address) for listener in found] == [(born.stat().st_ino, "127.0.0.1")]
        assert found[0].process is not None
        assert found[0].process.pid == pid


def test_listener_of_the_root_whose_process_moved_is_named_by_its_unit(tmp_path: Path) -> None:
    assert MOUNT is not None
    root_id = MOUNT.stat().st_ino
    with (
        cgroup("apidae-test-moved.slice/orders.service") as unit,
        server(tmp_path / "app.py", into=MOUNT) as (pid, port),
    ):
        (unit / "cgroup.procs").write_text(str(pid))
        service = build_identity().server(root_id, port, "127.0.0.1")[0]
        assert (service.workload, service.workload_kind) == ("orders.service", WorkloadKind.SYSTEMD_UNIT)


def test_listener_of_the_root_is_named_by_its_script_and_its_client_too(tmp_path: Path) -> None:
    assert MOUNT is not None
    root_id = MOUNT.stat().st_ino
    identity = build_identity()
    with server(tmp_path / "app.py", into=MOUNT) as (_, port):
        service = identity.server(root_id, port, "127.0.0.1")[0]
        if Path("/proc/self/cgroup").read_text().count("docker") == 0:
            assert (service.workload, service.workload_kind) == ("app.py", WorkloadKind.PROCESS)
        with socket.create_connection(("127.0.0.1", port)) as client:
            own = ProcessTable().process(os.getpid())
            assert own is not None
            assert identity.client_workload(root_id, *client.getsockname()) == identity.name_process(own)


def test_listeners_of_another_network_namespace_are_found(tmp_path: Path) -> None:
    namespace = f"apidae-test-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", namespace], check=True)
    try:
        subprocess.run(["ip", "-n", namespace, "link", "set", "lo", "up"], check=True)
        enter = ("ip", "netns", "exec", namespace)
        with (
            cgroup("apidae-test-netns.slice/orders.service") as unit,
            server(tmp_path / "app.py", *enter, into=unit) as (_, port),
        ):
            listeners = build_listeners()
            listeners.refresh()
            found = [listener for listener in listeners.all() if listener.port == port]
            assert len(found) == 1
            assert found[0].namespace != Path("/proc/self/ns/net").stat().st_ino
            assert found[0].process is not None
            assert found[0].process.cgroup_path == "/apidae-test-netns.slice/orders.service"
            assert build_identity().server(unit.stat().st_ino, port, "127.0.0.1")[0].workload == "orders.service"
    finally:
        subprocess.run(["ip", "netns", "del", namespace], check=True)


def test_dead_listener_keeps_the_name_of_its_first_call(tmp_path: Path) -> None:
    assert MOUNT is not None
    identity = build_identity()
    with server(tmp_path / "brief.py", into=MOUNT) as (_, port):
        first = identity.server(MOUNT.stat().st_ino, port, "127.0.0.1")[0]
    identity.refresh()
    assert identity.server(MOUNT.stat().st_ino, port, "127.0.0.1")[0] is first
    assert first.workload == "brief.py"
