"""The bench of ingest: its batches are the sensor's, and what two simulated sensors sent is in every table."""

import asyncio
from pathlib import Path

import pytest
from apidae.v1 import data_pb2

from scripts.bench_cases.ingest import Bench, Load, summarise_waits
from scripts.bench_cases.ingesting.capacity import NodeFigures, UnitCosts, list_installations, solve
from scripts.bench_cases.ingesting.recording import WINDOWS_RECORDED, Recording
from scripts.bench_cases.ingesting.templates import TEMPLATES, WINDOW_SECONDS, NodeGroup

WINDOW_START = 1_900_000_000


def test_a_recording_is_the_same_each_time_and_another_for_another_group() -> None:
    first, again, other = (Recording(NodeGroup(TEMPLATES["light"], number)) for number in (0, 0, 1))
    seconds = range(WINDOWS_RECORDED * WINDOW_SECONDS)
    assert [first.list_batches(second) for second in seconds] == [again.list_batches(second) for second in seconds]
    assert [first.list_batches(second) for second in seconds] != [other.list_batches(second) for second in seconds]


def test_a_batch_is_played_under_the_name_number_and_time_of_its_sender() -> None:
    recording = Recording(NodeGroup(TEMPLATES["light"], 0))
    recorded = next(batch for second in range(WINDOW_SECONDS) for batch in recording.list_batches(second))
    payload = recorded.address(node="node-7", boot_id="b" * 32, sequence=9, key_id=2, window_start=WINDOW_START)
    batch = data_pb2.Batch.FromString(payload)
    assert (batch.node, batch.boot_id, batch.sequence, batch.key_id) == ("node-7", "b" * 32, 9, 2)
    assert WINDOW_START - WINDOW_SECONDS <= batch.base_time_unix_seconds <= WINDOW_START + WINDOW_SECONDS
    assert len(batch.rows.route) == recorded.rows
    assert sum(batch.rows.calls) == recorded.calls


def test_waits_are_summarised_in_milliseconds() -> None:
    assert summarise_waits([0.001 * number for number in range(1, 101)]) == {"p50": 50, "p95": 96, "max": 100}


def test_costs_of_a_batch_and_a_row_follow_from_two_loads() -> None:
    batch, row = solve([(100.0, 1_500.0), (50.0, 15_000.0)], [0.04, 0.16])
    assert (batch * 1e6, row * 1e6) == pytest.approx((252.63, 9.825), rel=1e-3)


def test_a_cost_that_noise_makes_negative_is_nothing_and_the_other_bears_all() -> None:
    assert solve([(100.0, 1_500.0), (10.0, 150.0 * 11)], [0.1, 0.2]) == (0.0, 0.2 / 1_650)


def test_an_installation_is_the_sum_of_its_units() -> None:
    costs = UnitCosts(
        idle_cores=0.005,
        active_cores=0.015,
        stream_us_a_second=50.0,
        batch_us=0.0,
        row_us=10.0,
        batch_of_14_rows_us=140.0,
        row_of_200_us=10.0,
        rest_mb=350,
        stream_kb=100,
        row_bytes=100.0,
        minute_row_bytes=90.0,
        hour_row_bytes=80.0,
    )
    figures = dict.fromkeys(("small", "node"), NodeFigures(batches=1.0, rows=5.0, minute_keys=100, hour_keys=1_000))
    (small,) = [line for line in list_installations(costs, figures) if line["installation"] == "1000 nodes, small"]
    assert small["streams_mb"] == 100
    assert small["cores"] == 0.12  # 0.02 in any case, 0.05 of streams and 0.05 of rows.
    assert small["log_gb_an_hour"] == 1.8
    assert (small["minutes_gb"], small["hours_gb"]) == (25.9, 172.8)


@pytest.mark.store
def test_what_two_sensors_sent_is_acknowledged_and_in_every_table(tmp_path: Path) -> None:
    bench = Bench(tmp_path, groups=2)

    async def run() -> tuple[dict[str, object], dict[str, object]]:
        async with bench.fleet:
            load = Load(name="light", sensors=2, template="light", flood_batches=20)
            return await bench.measure(load), await bench.compare_totals()

    try:
        figures, totals = asyncio.run(run())
    finally:
        bench.collector.stop()
    assert figures["streams"] == 2
    assert figures["unacknowledged_batches"] == 0
    assert totals["is_exact"], totals
    assert totals["acknowledged_calls"] == totals["judged_calls"] != 0
