"""The registry: what a sensor said last, what changed, and its bound."""

import pytest

import collector.sensors
from collector.sensors import HealthReport, SensorRegistry, SensorStatus


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


REPORT = HealthReport(
    state=2,
    reason="paused",
    lag_ms=1_500,
    spool_bytes=1,
    memory_bytes=2,
    cpu_ns=3,
    seen_calls=15,
    lost_calls=1,
    stages='[{"stage": "x"}]',
)


def greet(registry: SensorRegistry, node: str = "a", boot_id: str = "b") -> None:
    registry.record_hello(
        node,
        cluster="c",
        boot_id=boot_id,
        version="1",
        kernel_release="6",
        key_id=5,
        policy_epoch=3,
        certificate_not_after=900.0,
    )


def test_what_was_last_said_holds() -> None:
    clock = Clock()
    registry = SensorRegistry(clock)
    greet(registry)
    clock.now = 105.0
    registry.record_health("a", REPORT)
    clock.now = 107.0
    registry.record_batch("a")
    (status,) = registry.list_statuses()
    assert (status.seen_calls, status.lost_calls, status.first_seen, status.last_heard_at) == (15, 1, 100.0, 107.0)
    assert status.is_paused and status.lag_seconds == 1.5 and status.version == "1"
    assert status.certificate_not_after == 900.0
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
    monkeypatch.setattr(collector.sensors, "SENSOR_LIMIT", 2)
    registry = SensorRegistry(Clock())
    for node in "abc":
        greet(registry, node)
    greet(registry, "a")
    assert [status.node for status in registry.list_statuses()] == ["a", "b"]
    assert registry.forgotten == 1
