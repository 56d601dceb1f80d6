"""What is told of containers, up to the message."""

import pytest

from sensor.enrich import containers as module
from sensor.enrich.containers import Container, ContainerImage, ContainerTable
from sensor.export.messages import write_coverage


def make_table(**known: Container) -> ContainerTable:
    return ContainerTable(lambda container_id, uid: known[container_id])


def make_container(name: str, tag: str) -> Container:
    image = ContainerImage(name="nginx", tags=(tag,), repo_digests=("nginx@sha256:" + "cd" * 32,))
    return Container(name=name, image=image)


def test_images_travel_with_the_coverage() -> None:
    table = make_table(a=make_container("web", "1.27"), b=Container(name="db"))
    assert (table.workloads(cluster="", zone=""), table.name("a"), table.name("b")) == ([], "web", "db")
    facts = table.workloads(cluster="east", zone="eu-1a")
    (told,) = write_coverage([], facts, time_unix_ns=1).coverage.workloads
    assert (told.cluster, told.namespace, told.workload, told.kind) == ("east", "", "web", "Container")
    assert (told.zone, told.pods) == ("eu-1a", 0)
    assert list(told.labels) == [
        "container.image.name=nginx",
        "container.image.tags=1.27",
        "container.image.repo_digests=nginx@sha256:" + "cd" * 32,
    ]


def test_a_container_that_takes_a_name_takes_its_image() -> None:
    table = make_table(a=make_container("web", "1.27"), b=make_container("web", "1.28"))
    for container_id in ("a", "b", "a"):
        table.name(container_id)
    (facts,) = table.workloads(cluster="", zone="")
    assert ("container.image.tags", "1.28") in facts.labels


def test_they_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WORKLOADS_MAX", 2)
    table = make_table(**{name: make_container(name, "1") for name in "abc"})
    for name in "abc":
        table.name(name)
    assert [facts.workload for facts in table.workloads(cluster="", zone="")] == ["b", "c"]
