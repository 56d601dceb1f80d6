"""The composition of the room."""

from pathlib import Path

from sensor.core.calls import WorkloadKind
from sensor.enrich.node import build_node
from tests.sensor.enrich.fakes import FakeClock
from tests.sensor.enrich.test_container_files import ID, write_docker


def test_identity_is_built_over_given_trees(tmp_path: Path) -> None:
    (tmp_path / "cgroup/system.slice/orders.service").mkdir(parents=True)
    (tmp_path / "proc").mkdir()
    tables = build_node(
        cluster="c", node="host-1", cgroup_mount=tmp_path / "cgroup", proc=tmp_path / "proc", clock=FakeClock()
    )
    cgroup_id = (tmp_path / "cgroup/system.slice/orders.service").stat().st_ino
    service = tables.identity.server(cgroup_id, 80, "10.0.0.5")[0]
    assert (service.workload, service.workload_kind) == ("orders.service", WorkloadKind.SYSTEMD_UNIT)
    assert all(listener.process is None for listener in tables.listeners.all())


def test_containers_are_told_with_their_images(tmp_path: Path) -> None:
    cgroup = tmp_path / f"cgroup/system.slice/docker-{ID}.scope"
    cgroup.mkdir(parents=True)
    (tmp_path / "proc").mkdir()
    write_docker(tmp_path / "host/var/lib/docker", image="nginx:1.27")
    tables = build_node(
        cluster="c",
        node="host-1",
        cgroup_mount=tmp_path / "cgroup",
        proc=tmp_path / "proc",
        host_root=tmp_path / "host",
        clock=FakeClock(),
    )
    service = tables.identity.server(cgroup.stat().st_ino, 80, "10.0.0.5")[0]
    tables.reader.close()
    assert (service.workload, service.workload_kind) == ("shop-web-1", WorkloadKind.CONTAINER)
    (told,) = tables.containers.workloads(cluster="c", zone="")
    assert (told.workload, dict(told.labels)["container.image.name"]) == (service.workload, "nginx")
