"""A volume alert of a real collector: the rows that its API gives sum to what the alert says was observed."""

import time
from pathlib import Path
from typing import Any

import pytest
from apidae.v1 import data_pb2

from tests.accuracy.volume import write_batch
from tests.collector.running import RunningCollector, list_acks, make_hello, talk, wrap
from tests.waiting import wait_until

pytestmark = pytest.mark.store

MINUTES, SURGE = 50, 44  # In every minute 20 calls, from the 44th on 2,000.


def send(collector: RunningCollector) -> None:
    """Rows of one endpoint, a minute each, by nobody known."""
    start = int(time.time()) // 60 * 60 - 60 * MINUTES
    messages: list[Any] = [make_hello("n")]
    for minute in range(MINUTES):
        batch = data_pb2.Batch.FromString(
            write_batch(start + 60 * minute, 2_000 if minute >= SURGE else 20, 60, minute + 1, principal=0)
        )
        batch.boot_id = "boot-1"
        messages.append(wrap(batch))
    assert len(list_acks(talk(collector.ready["grpc"], messages))) == MINUTES


def wait_for_rows(collector: RunningCollector) -> None:
    """Until the store has all that was sent."""
    whole = [SURGE * 20 + (MINUTES - SURGE) * 2_000]
    wait_until(
        lambda: [item["calls"] for item in collector.get("/endpoints").json()["items"]] == whole, "the rows are stored"
    )


def wait_for_alert(collector: RunningCollector) -> dict[str, Any]:
    found = wait_until(lambda: collector.get("/alerts?kind=volume_endpoint").json()["items"], "the alert")
    return dict(found[0])


def test_the_rows_behind_a_volume_alert_sum_to_what_was_observed(tmp_path: Path) -> None:
    collector = RunningCollector(tmp_path, "--no-auth")
    try:
        send(collector)
        wait_for_rows(collector)
        alert = wait_for_alert(collector)
        found = collector.get(f"/alerts/{alert['id']}/evidence").json()
        inside = [row for row in found["items"] if found["window"]["start"] <= row["start"] < found["window"]["end"]]
        assert found["is_aligned"] and found["notes"] == []
        assert sum(row["calls"] for row in inside) == found["window"]["calls"] == alert["calls"] >= 2_000
        assert found["window_calls_per_second"] == pytest.approx(alert["observed_rate"]) == found["observed"]
        assert found["observed"] > found["limit"] == alert["measure_limit"] > found["expected"]
        # What was ordinary before is there to compare.
        assert {row["calls"] for row in found["items"]} == {20, 2_000}
        asked = found["request"]
        path = (
            asked["path"].removeprefix("/api/v1") + "?" + "&".join(f"{k}={v}" for k, v in asked["parameters"].items())
        )
        assert collector.get(path).json()["items"] == found["items"]
    finally:
        assert collector.stop() == 0
