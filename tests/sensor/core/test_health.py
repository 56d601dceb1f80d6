"""Accounts: seen = used + dropped at every moment, and metrics that say the same."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from common.figures import Figure
from sensor.core.config import CaptureWay
from sensor.core.health import HealthReport, MetricsCollector, StageCount, StageCounter
from sensor.core.state import SensorState

moves = st.lists(st.tuples(st.sampled_from(["use", "full", "late"]), st.integers(0, 1000)), max_size=30)


@given(moves, st.integers(0, 50))
def test_seen_is_used_plus_dropped(steps: list[tuple[str, int]], held: int) -> None:
    counter = StageCounter("spool")
    for kind, number in steps:
        counter.see(number)
        if kind == "use":
            counter.use(number)
        else:
            counter.drop(kind, number)
    counter.see(held)
    count = counter.count()
    assert count.seen == count.used + count.dropped_total == sum(number for _, number in steps)
    assert dict(count.dropped) == {
        kind: sum(n for k, n in steps if k == kind) for kind in ("full", "late") if any(k == kind for k, _ in steps)
    }
    assert counter.held == held


def test_a_double_account_shows() -> None:
    counter = StageCounter("aggregate")
    counter.see()
    counter.use()
    counter.drop("late")
    assert counter.held == -1


def make_report() -> HealthReport:
    return HealthReport(
        time_unix_ns=1,
        state=SensorState.CAPTURING,
        stages=(StageCount(stage="spool", seen=10, used=7, dropped=(("spool_full", 3),)),),
        lag_ms=2_500,
        spool_bytes=99,
        memory_bytes=1_000,
        cpu_ns=3_000_000_000,
        reason="",
        capture=CaptureWay.SYSCALLS,
        figures=(
            Figure(name="heads", documentation="Heads sent up", value=5, is_total=True),
            Figure(name="roots", documentation="Roots known", value=6, is_total=False),
        ),
    )


def test_metrics_say_what_health_says() -> None:
    registry = CollectorRegistry()
    registry.register(MetricsCollector(make_report))
    expected = {
        ("apidae_sensor_seen_total", 10.0, ("spool",)),
        ("apidae_sensor_used_total", 7.0, ("spool",)),
        ("apidae_sensor_dropped_total", 3.0, ("spool", "spool_full")),
        ("apidae_sensor_state", 1.0, ()),
        ("apidae_sensor_capture_by_system_calls", 1.0, ()),
        ("apidae_sensor_lag_seconds", 2.5, ()),
        ("apidae_sensor_spool_bytes", 99.0, ()),
        ("apidae_sensor_memory_bytes", 1000.0, ()),
        ("apidae_sensor_cpu_seconds_total", 3.0, ()),
        ("apidae_sensor_heads_total", 5.0, ()),
        ("apidae_sensor_roots", 6.0, ()),
    }
    samples = {(s.name, s.value, tuple(s.labels.values())) for family in registry.collect() for s in family.samples}
    assert samples == expected
