"""A sensor's share of lost calls, and what is left of its certificate."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.inventory.query import CursorError
from collector.inventory.sensors import CaptureWay, Sensor, SensorInventory, SensorQuery, SensorState
from collector.receiver.sensor_status import SensorStatus


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


def make_inventory(count: int) -> SensorInventory:
    """Of that many sensors; each third one is behind."""
    statuses = [
        SensorStatus(node=f"node-{number:03}", state=1, last_health_at=100.0, lag_ms=number % 3 * 1_000)
        for number in range(count)
    ]
    return SensorInventory(clock=lambda: 101.0, list_statuses=lambda: statuses)


@pytest.mark.parametrize("is_ranked", [False, True])
@pytest.mark.parametrize("limit", [1, 7, 20, 500])
def test_pages_hold_every_sensor_once(is_ranked: bool, limit: int) -> None:
    inventory, rank = make_inventory(20), (lambda sensor: -sensor.lag_ms) if is_ranked else None
    cursor, found, pages = "", list[Sensor](), 0
    while pages == 0 or cursor:
        page = inventory.list_page(SensorQuery(limit=limit, cursor=cursor), rank)
        assert page.total == 20
        found += page.items
        cursor, pages = page.next_cursor or "", pages + 1
    assert pages == -(-20 // limit)
    assert found == sorted(inventory.list_sensors(), key=lambda one: (-one.lag_ms * is_ranked, one.node))


def test_a_cursor_of_another_list_is_refused() -> None:
    with pytest.raises(CursorError):
        make_inventory(3).list_page(SensorQuery(cursor="AAAA"))
