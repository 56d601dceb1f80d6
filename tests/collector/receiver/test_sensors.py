"""The registry: what a sensor said last, what changed, and its bound."""

from dataclasses import replace

import pytest

import collector.receiver.sensors
from collector.receiver.sensors import Greeting, HealthReport, SensorRegistry, SensorStatus, StageAccount


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


REPORT = HealthReport(
    state=2,
    reason="paused",
    capture="syscalls",
    fallback_reason="no cgroup v2 is mounted",
    lag_ms=1_500,
    spool_bytes=1,
    memory_bytes=2,
    cpu_ns=3,
    account=StageAccount(seen_calls=15, lost_calls=1, stages='[{"stage": "x"}]'),
)


def greet(registry: SensorRegistry, node: str = "a", boot_id: str = "b", cluster: str = "c") -> None:
    greeting = Greeting(
        cluster=cluster,
        node=node,
        boot_id=boot_id,
        key_id=5,
        version="1",
        kernel_release="6",
        policy_epoch=3,
        features=frozenset(),
        name=node,
    )
    registry.record_hello(greeting, 900.0)


def test_what_was_last_said_holds() -> None:
    clock = Clock()
    registry = SensorRegistry(clock)
    greet(registry)
    clock.now = 105.0
    registry.record_health("a", REPORT)
    registry.record_health("a", replace(REPORT, account=None))  # Its stages are as before.
    clock.now = 107.0
    registry.record_batch("a")
    (status,) = registry.list_statuses()
    assert (status.seen_calls, status.lost_calls, status.first_seen, status.last_heard_at) == (15, 1, 100.0, 107.0)
    assert status.is_paused and status.lag_seconds == 1.5 and status.version == "1"
    assert status.certificate_not_after == 900.0
    assert (status.capture, status.fallback_reason) == ("syscalls", "no cgroup v2 is mounted")
    greet(registry)
    assert not registry.list_statuses()[0].is_paused


def test_an_account_is_of_one_process() -> None:
    registry = SensorRegistry(Clock())
    greet(registry)
    registry.record_health("a", REPORT)
    greet(registry)
    assert registry.list_statuses()[0].seen_calls == 15
    greet(registry, boot_id="another")
    (status,) = registry.list_statuses()
    assert (status.seen_calls, status.lost_calls, status.stages) == (0, 0, "[]")


def test_changes_are_taken_once() -> None:
    registry = SensorRegistry(Clock())
    registry.load([SensorStatus(node="old", first_seen=5.0, seen_calls=7)])
    assert registry.take_changed() == []
    registry.record_batch("old")
    greet(registry, "new")
    assert [(s.node, s.seen_calls, s.first_seen) for s in registry.take_changed()] == [
        ("new", 0, 100.0),
        ("old", 7, 5.0),
    ]
    assert registry.take_changed() == []


def test_sensors_past_the_limit_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector.receiver.sensors, "SENSOR_LIMIT", 2)
    registry = SensorRegistry(Clock())
    for node in "abc":
        greet(registry, node)
    greet(registry, "a")
    assert [status.node for status in registry.list_statuses()] == ["a", "b"]
    assert registry.unlisted == 1


def test_nodes_of_two_clusters_that_have_one_name_are_two() -> None:
    clock = Clock()
    registry = SensorRegistry(clock)

    def connect(cluster: str) -> str:
        name = registry.find_name("node-1", cluster)
        greet(registry, name, cluster=cluster)
        registry.record_health(name, replace(REPORT, state=1))
        return name

    assert [connect("east"), connect("west"), connect("east"), connect("west")] == ["node-1", "west/node-1"] * 2
    assert connect("") == "-/node-1"
    assert [(one.node, one.cluster) for one in registry.list_statuses()] == [
        ("-/node-1", ""),
        ("node-1", "east"),
        ("west/node-1", "west"),
    ]
    # After a restart it is the same.
    again = SensorRegistry(clock)
    again.load(registry.list_statuses())
    assert again.find_name("node-1", "west") == "west/node-1"


@pytest.mark.parametrize(("state", "seconds", "name"), [(3, 0, "a"), (1, 601, "a"), (2, 0, "new/a"), (1, 599, "new/a")])
def test_a_cluster_that_got_another_name_keeps_its_nodes(state: int, seconds: float, name: str) -> None:
    """A sensor that was paused lives; one that has stopped or long been silent may be the same."""
    clock = Clock()
    registry = SensorRegistry(clock)
    greet(registry)
    registry.record_health("a", replace(REPORT, state=state))
    clock.now += seconds
    assert registry.find_name("a", "new") == name
