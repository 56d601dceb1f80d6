"""The bench of ingest: its batches are the sensor's, and what two simulated sensors sent is in every table."""

import asyncio
from pathlib import Path

import pytest
from apidae.v1 import data_pb2

from scripts.bench_cases.ingest import Bench, Load, summarise_waits
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
