"""`apidae erase` on a collector that took calls of two consumers: nothing of the one is left, all of the other."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from apidae.v1 import data_pb2

from collector.erasure.log import STRINGS_FIELD, erase_from_log
from collector.ingest.convert import convert_bytes
from collector.ingest.segment import decode_frames, find_segments, locate_segment
from collector.inventory.consumer import parse_consumer
from collector.rows import RowBatch
from collector.store.embedded import EmbeddedStore
from tests.collector.risk.judging import feed, start_collector
from tests.collector.running import clean_environment

pytestmark = pytest.mark.store

CASES: list[dict[str, Any]] = [
    {"id": "erase-mine", "path": "/v1/orders/{n}", "client": "8.8.4.4", "headers": ["X-Api-Key: 9f8e7d6c5b4a392817"]},
    {"id": "erase-other", "path": "/v1/orders/{n}", "client": "9.9.9.1", "headers": ["X-Api-Key: 0a1b2c3d4e5f607182"]},
    {"id": "erase-address", "path": "/v1/news/{n}", "client": "8.8.8.1"},
]


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """The data directory of a collector that ended, and the consumer of each case."""
    directory = tmp_path_factory.mktemp("erasure")
    collector = start_collector(directory)
    try:
        feed(collector, CASES)
        names = {}
        for one in collector.get("/endpoints?limit=500").json()["items"]:
            detail = collector.get(f"/endpoints/{one['id']}").json()
            names[one["service"]["workload"]] = detail["top_consumers"][0]["id"]
        deadline = time.monotonic() + 40
        while not (directory / "data" / "detectors.checkpoint").exists() and time.monotonic() < deadline:
            time.sleep(0.2)
    finally:
        assert collector.stop() == 0
    return directory / "data", names


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from sensor.main import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=clean_environment(), timeout=120, check=False)


def _list_names(path: Path) -> set[str]:
    with np.load(path, allow_pickle=False) as archive:
        names = [msgspec.msgpack.decode(archive[name].tobytes()) for name in archive.files if name.endswith("/names")]
    return {one["consumer"] for several in names for one in several.values() if isinstance(one, dict)}


def _count_logged(directory: Path, consumer: str) -> tuple[int, int]:
    """Batches of the log that still convert, and bytes that are the consumer's."""
    kind, _, value = consumer.partition(":")
    needle = int(value, 16).to_bytes(8, "little") if kind in ("principal", "credential") else value.encode()
    batches = hits = 0
    for number in find_segments(directory):
        content = locate_segment(directory, number).read_bytes()
        entries, is_damaged = decode_frames(content, number, 0)
        assert not is_damaged
        hits += content.count(needle)
        batches += sum(isinstance(convert_bytes(one.payload, one.received_unix_ns / 1e9), RowBatch) for one in entries)
    return batches, hits


@pytest.mark.parametrize("case", ["erase-mine", "erase-address"])
def test_one_goes_and_the_other_stays(stopped: tuple[Path, dict[str, str]], case: str) -> None:
    directory, names = stopped
    mine, other = names[case], names["erase-other"]
    wal = directory / "wal"
    before, hits = _count_logged(wal, mine)
    assert before and hits and _count_logged(wal, other)[1]
    assert {mine, other} <= _list_names(directory / "detectors.checkpoint")
    erased = _run("erase", mine, "--data-dir", str(directory))
    assert erased.returncode == 0, erased.stderr
    assert "rows_minute: 0 rows" not in erased.stdout and "log: 0" not in erased.stdout
    assert _count_logged(wal, mine) == (before, 0)
    assert _count_logged(wal, other)[1]
    kept = _list_names(directory / "detectors.checkpoint")
    assert mine not in kept and other in kept
    store = EmbeddedStore(directory / "store")
    try:
        found = store.query("SELECT DISTINCT lower(hex(principal)), client_address FROM rows_minute")
        assert mine.partition(":")[2] not in {text.lower() for row in found for text in row}
        assert other.partition(":")[2] in {row[0] for row in found}
        assert store.query("SELECT sum(calls) FROM routes_day")[0][0] >= 36
    finally:
        store.close()
    again = _run("erase", mine, "--data-dir", str(directory))
    assert "rows_minute: 0 rows" in again.stdout and "log: 0 batches" in again.stdout


@pytest.mark.parametrize("consumer", ["ada", "principal:xyz", "other:"])
def test_what_names_nobody_is_one_sentence(stopped: tuple[Path, dict[str, str]], consumer: str) -> None:
    refused = _run("erase", consumer, "--data-dir", str(stopped[0]))
    assert refused.returncode == 1
    assert len(refused.stderr.strip().splitlines()) == 1


def test_the_tag_is_that_of_the_wire() -> None:
    assert data_pb2.Batch.STRINGS_FIELD_NUMBER == STRINGS_FIELD


def test_a_log_that_is_not_there_holds_nobody(tmp_path: Path) -> None:
    assert erase_from_log(tmp_path, parse_consumer("address:8.8.8.8")) == 0
