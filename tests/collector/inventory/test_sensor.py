"""A sensor's share of lost calls, and what is left of its certificate."""

from hypothesis import given
from hypothesis import strategies as st

from collector.inventory.sensors import CaptureWay, Sensor, SensorState


def make_sensor(seen_calls: int, lost_calls: int, certificate_left_seconds: float | None = None) -> Sensor:
    return Sensor(
        node="node-1",
        cluster="",
        boot_id="b",
        state=SensorState.CAPTURING,
        version="0.1.0",
        kernel_release="6.12",
        key_id=1,
        policy_epoch=1,
        policy_refusal="",
        is_connected=True,
        certificate_not_after=None if certificate_left_seconds is None else 1e9 + certificate_left_seconds,
        certificate_left_seconds=certificate_left_seconds,
        first_seen=0.0,
        last_report_at=0.0,
        lag_ms=0,
        spool_bytes=0,
        memory_bytes=0,
        cpu_seconds=0.0,
        seen_calls=seen_calls,
        lost_calls=lost_calls,
        stages=(),
        reason="",
        capture=CaptureWay.CGROUP_SKB,
        fallback_reason="",
    )


def test_the_lost_are_among_the_seen() -> None:
    assert make_sensor(1_000, 100).loss_ratio == 0.1
    assert make_sensor(0, 0).loss_ratio == 0.0


def test_days_that_are_left_of_its_certificate() -> None:
    days = [make_sensor(0, 0, seconds).certificate_left_days for seconds in (None, 30 * 86_400, 3_600 * 10, -86_400)]
    assert days == [None, 30.0, 0.4, -1.0]


@given(st.integers(0, 2**63), st.integers(0, 2**63))
def test_a_ratio_is_a_ratio(seen: int, lost: int) -> None:
    assert 0.0 <= make_sensor(seen, lost).loss_ratio <= 1.0
