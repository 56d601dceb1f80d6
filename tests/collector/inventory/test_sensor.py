"""A sensor's loss out of its stages: seen = used + dropped, so the lost are among the seen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.inventory.sensor import Sensor, SensorState, StageCount


def make_sensor(*stages: StageCount) -> Sensor:
    return Sensor(
        node="node-1",
        cluster="",
        boot_id="b",
        state=SensorState.CAPTURING,
        version="0.1.0",
        kernel_release="6.12",
        is_connected=True,
        first_seen=0.0,
        last_report_at=0.0,
        lag_ms=0,
        spool_bytes=0,
        memory_bytes=0,
        cpu_seconds=0.0,
        stages=stages,
        reason="",
    )


def make_stage(stage: str, seen: int, **dropped: int) -> StageCount:
    return StageCount(stage=stage, seen=seen, used=seen - sum(dropped.values()), dropped=dropped)


def test_what_any_stage_drops_is_lost_once():
    sensor = make_sensor(
        make_stage("kernel", 1_000, ring_full=60),
        make_stage("exchange", 940, request_head_lost=40),
        make_stage("spool", 9),
    )
    assert (sensor.seen_calls, sensor.lost_calls, sensor.loss_ratio) == (1_000, 100, 0.1)


@pytest.mark.parametrize("stages", [(), (make_stage("spool", 10, spool_full=10),)])
def test_before_capture_nothing_is_lost_of_nothing(stages):
    assert make_sensor(*stages).loss_ratio == 0.0


@given(st.lists(st.tuples(st.sampled_from(["kernel", "spool"]), st.integers(0, 99), st.integers(0, 99)), max_size=4))
def test_a_ratio_is_a_ratio(accounts):
    stages = [make_stage(name, used + lost, reason=lost) for name, used, lost in accounts]
    assert 0.0 <= make_sensor(*stages).loss_ratio <= 1.0
