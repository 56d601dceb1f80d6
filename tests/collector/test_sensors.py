"""The registry: what a sensor said last, what changed, and its bound."""

import pytest

import collector.sensors
from collector.sensors import HealthReport, SensorRegistry, SensorStatus


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


REPORT = HealthReport(
    state=2, reason="paused", lag_ms=1_500, spool_bytes=1, memory_bytes=2, cpu_ns=3, stages='[{"stage": "x"}]'
)


def greet(registry: SensorRegistry, node: str = "a") -> None:
    registry.record_hello(node, cluster="c", boot_id="b", version="1", kernel_release="6")


def test_words_of_one_sensor_add_up() -> None:
    clock = Clock()
    registry = SensorRegistry(clock)
    greet(registry)
    clock.now = 105.0
    registry.record_health("a", REPORT)
    clock.now = 107.0
    registry.record_batch("a", seen_calls=10, lost_calls=1)
    registry.record_batch("a", seen_calls=5, lost_calls=0)
    (status,) = registry.list_statuses()
    assert (status.seen_calls, status.lost_calls, status.first_seen, status.last_heard_at) == (15, 1, 100.0, 107.0)
    assert status.is_paused and status.lag_seconds == 1.5 and status.version == "1"
    greet(registry)
    assert not registry.list_statuses()[0].is_paused


def test_changes_are_taken_once() -> None:
    registry = SensorRegistry(Clock())
    registry.load([SensorStatus(node="old", first_seen=5.0, seen_calls=7)])
    assert registry.take_changed() == []
    registry.record_batch("old", seen_calls=1, lost_calls=0)
    greet(registry, "new")
    assert [(s.node, s.seen_calls, s.first_seen) for s in registry.take_changed()] == [
        ("new", 0, 100.0),
        ("old", 8, 5.0),
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
