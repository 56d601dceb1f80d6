"""What the node tells besides calls, put together as in a running sensor."""

from pathlib import Path

import pytest

from sensor.clock import Clock
from sensor.config import SensorSettings
from sensor.enrich.container_files import Container
from sensor.enrich.container_image import ContainerImage
from sensor.node import Node


def test_images_are_told_without_kubernetes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    container = Container(name="web", image=ContainerImage(name="nginx"))
    monkeypatch.setattr("sensor.enrich.node.read_container", lambda container_id, uid, root: container)
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
    node = Node(settings, tmp_path / "cgroup", Clock())
    assert node.workloads() == []
    assert node.identity.service(cgroup.stat().st_ino, 80, "10.0.0.5").workload == "web"
    (told,) = node.workloads()
    assert (told.cluster, told.zone, told.workload, told.kind) == ("east", "eu-1a", "web", "Container")


def test_a_container_of_a_user_is_named_by_the_users_own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def read(container_id: str, uid: int | None, root: Path) -> Container:
        asked.append((container_id, uid))
        return Container(name="shop-db")

    monkeypatch.setattr("sensor.enrich.node.read_container", read)
    scope = f"user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{'ab' * 32}.scope/container"
    cgroup = tmp_path / "cgroup" / scope
    cgroup.mkdir(parents=True)
    settings = SensorSettings(collector="127.0.0.1:1", kubernetes="off", state_dir=tmp_path, proc_path=tmp_path)
    node = Node(settings, tmp_path / "cgroup", Clock())
    assert node.identity.service(cgroup.stat().st_ino, 80, "10.0.0.5").workload == "shop-db"
    assert asked == [("ab" * 32, 1000)]
