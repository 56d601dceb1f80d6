"""A collector that is killed over a shared log."""

import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.collector.running import RunningCollector, list_acks, make_hello, talk, wrap
from tests.collector.wire_batches import make_batch
from tests.waiting import wait_until

pytestmark = pytest.mark.store


@pytest.mark.parametrize("kind", ["postgresql", pytest.param("kafka", marks=pytest.mark.full)])
def test_a_killed_collector_stores_and_evaluates_each_batch_once_and_erases_from_its_log(
    tmp_path: Path, kind: str, new_postgresql: Callable[[], str], request: pytest.FixtureRequest
) -> None:
    state_url = new_postgresql()
    url = state_url if kind == "postgresql" else request.getfixturevalue("kafka_url")
    settings = tmp_path / "collector.toml"
    settings.write_text(f'state_url = "{state_url}"\nlog_url = "{url}"\n')
    flags = ("--no-auth", "--config", str(settings))
    base = int(time.time()) - 60

    def send(collector: RunningCollector, *sequences: int) -> None:
        batches = [wrap(make_batch(sequence=sequence, base=base)) for sequence in sequences]
        assert len(list_acks(talk(collector.ready["grpc"], [make_hello(), *batches]))) > 0

    def count_calls(collector: RunningCollector) -> int:
        return sum(item["calls"] for item in collector.get("/endpoints").json()["items"])

    # Nothing is stored before the kill.
    slow = {f"collector.receiver.writer.{name}_SECONDS": 600.0 for name in ("WATCHED", "UNWATCHED", "HURRIED")}
    first = RunningCollector(tmp_path / "data", *flags, constants=slow)
    send(first, 1, 2, 3)
    first.kill()
    again = RunningCollector(tmp_path / "data", *flags)
    try:
        send(again, 2, 3, 4)
        wait_until(lambda: count_calls(again) == 4 * 6)
        wait_until(lambda: "apidae_collector_log_batches_duplicate_total 2.0" in again.get("/metrics").text)
        assert not (tmp_path / "data" / "wal").exists()
        wait_until(lambda: "apidae_collector_detector_calls_used_total 24.0" in again.get("/metrics").text)
        wish = {"consumer": "credential:00000000000007d1", "asked_by": "ada"}
        erased = httpx.post(f"http://{again.ready['http']}/api/v1/erasures", json=wish, timeout=120)
        assert erased.status_code == 200, erased.text
        # Of Kafka's nothing is changed.
        assert erased.json()["log_batches"] == (6 if kind == "postgresql" else 0)
    finally:
        assert again.stop() == 0
