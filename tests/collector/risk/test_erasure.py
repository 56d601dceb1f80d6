"""`apidae erase` on a collector that runs and took calls of three consumers: nothing of the one is left in any byte on
disk, all of the others."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
from apidae.v1 import data_pb2

from collector.erasure import STRINGS_FIELD, find_mention, find_replacement
from collector.inventory.consumers.consumer import parse_consumer
from collector.log.base import Append
from collector.log.file_reader import FileLogReader
from collector.log.files import FileLog
from collector.log.segment import locate_segment
from tests.collector.detection.states import read_columns
from tests.collector.risk.judging import feed, start_collector
from tests.collector.running import RunningCollector, clean_environment
from tests.collector.wire_batches import make_batch
from tests.files import read_files

pytestmark = pytest.mark.store

CASES: list[dict[str, Any]] = [
    {"id": "erase-mine", "path": "/v1/orders/{n}", "client": "8.8.4.4", "headers": ["X-Api-Key: 9f8e7d6c5b4a392817"]},
    {"id": "erase-other", "path": "/v1/orders/{n}", "client": "9.9.9.1", "headers": ["X-Api-Key: 0a1b2c3d4e5f607182"]},
    {"id": "erase-address", "path": "/v1/news/{n}", "client": "8.8.8.1"},
]


@dataclass(frozen=True, slots=True)
class Running:
    """A collector, its data directory and the consumer of each case."""

    collector: RunningCollector
    directory: Path
    names: dict[str, str]

    def post(self, path: str, body: dict[str, Any]) -> httpx.Response:
        return httpx.post(f"http://{self.collector.ready['http']}/api/v1{path}", json=body, timeout=300)

    def erase(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from common.main import main; main()", "erase", *arguments]
        command += ["--url", f"http://{self.collector.ready['http']}"]
        return subprocess.run(
            command, capture_output=True, text=True, env=clean_environment(), timeout=300, check=False
        )

    def find_files(self, consumer: str) -> set[str]:
        """Files that hold a consumer, in any form that our files give it."""
        kind, _, value = consumer.partition(":")
        needles = [value.encode()]
        if kind in ("principal", "credential"):
            number = int(value, 16)
            needles += [number.to_bytes(8, "little"), number.to_bytes(8, "big"), str(number).encode()]
            needles.append(value.upper().encode())
        wanted = re.compile(b"|".join(re.escape(needle) + rb"(?![0-9])" for needle in needles))
        files = {path: _unpack(data) for path, data in read_files(self.directory).items()}
        return {str(path.relative_to(self.directory)) for path, data in files.items() if wanted.search(data)}


def _unpack(data: bytes) -> bytes:
    """What a compressed checkpoint holds; other files as they are."""
    return read_columns(data) if data.startswith(b"PK") else data


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    directory = tmp_path_factory.mktemp("erasure")
    collector = start_collector(directory)
    try:
        feed(collector, CASES)
        names = {}
        for one in collector.get("/endpoints?limit=500").json()["items"]:
            detail = collector.get(f"/endpoints/{one['id']}").json()
            names[one["service"]["workload"]] = detail["top_consumers"][0]["id"]
        yield Running(collector, directory / "data", names)
    finally:
        assert collector.stop() == 0


def test_who_is_blocked_is_erased_only_with_the_block(running: Running) -> None:
    mine, other = running.names["erase-mine"], running.names["erase-other"]
    for consumer in (mine, other):
        wish = {"consumer": consumer, "reason": f"{mine} knows {other}", "is_confirmed": True}
        assert running.post("/blocks", wish).status_code == 201
        rule = {"consumer": consumer, "note": f"not {mine}", "seconds": 3_600}
        assert running.post("/detection/known-good", rule).status_code in (200, 201)
        # Entries of the audit log that name it in their target, before, after and why.
        for name in (f"who is {consumer}", "the scraper"):
            assert running.post("/consumers/labels", {"consumer": consumer, "name": name}).status_code == 200
        view = {"list": "alerts", "name": f"of {consumer}", "query": urlencode({"consumer": consumer})}
        assert running.post("/views", view).status_code in (200, 201)
        assert running.collector.get(f"/exports/alerts.json?{view['query']}").status_code == 200
    assert any(name.startswith("state.db") for name in running.find_files(mine))
    refused = running.erase(mine)
    assert refused.returncode == 1 and "lift the block first" in refused.stderr
    assert any(name.startswith("state.db") for name in running.find_files(mine))


def test_one_goes_from_every_byte_and_the_others_stay(running: Running) -> None:
    mine, other = running.names["erase-mine"], running.names["erase-other"]
    before = running.find_files(mine)
    assert any(name.endswith(".wal") for name in before) and any(name.startswith("store/") for name in before)
    kept = len(running.find_files(other))
    erased = running.erase(mine, "--lift-blocks", "--reason", f"{mine} asked for it")
    assert erased.returncode == 0, erased.stderr
    found = dict(line.split(": ") for line in erased.stdout.splitlines())
    assert found["rows_minute"] != "0 rows" and found["known_good"] != "0 rows"
    assert found["log batches"] != "0" and found["blocks"] == "1" and found["detector subjects"] != "0"
    assert running.find_files(mine) == set()
    assert running.find_files(other) and kept
    ids = {one["id"] for one in running.collector.get("/consumers?limit=500").json()["items"]}
    assert other in ids and mine not in ids
    assert running.collector.get("/blocks").json()["items"][0]["consumer"] == other
    [entry] = [one for one in running.collector.get("/blocks/audit").json()["items"] if one["action"] == "erased"]
    assert entry["target"] == "principal:erased" and entry["why"] == "erased asked for it"
    entries = running.collector.get("/audit").json()["items"]
    blanked = {one["action"] for one in entries if one["is_erased"]}
    assert blanked == {"began", "lifted", "known-good.added", "label.set", "view.saved", "export.list"}
    assert running.collector.get("/audit/check").json()["fault"] == ""


def test_an_address_goes_too_and_nothing_is_found_twice(running: Running) -> None:
    address = running.names["erase-address"]
    assert running.find_files(address)
    for _ in range(2):
        answer = running.post("/erasures", {"consumer": address, "asked_by": "ada"})
        assert answer.status_code == 200, answer.text
    assert not any(answer.json()["rows"].values()) and answer.json()["log_batches"] == 0
    assert running.find_files(address) == set()
    assert running.collector.get("/endpoints?limit=500").json()["items"]


@pytest.mark.parametrize("consumer", ["ada", "principal:xyz", "other:", "address:"])
def test_what_names_nobody_is_one_sentence(running: Running, consumer: str) -> None:
    refused = running.erase(consumer)
    assert refused.returncode == 1
    assert len(refused.stderr.strip().splitlines()) == 1


def test_it_needs_the_token(tmp_path: Path) -> None:
    collector = RunningCollector(tmp_path / "data")
    try:
        url = f"http://{collector.ready['http']}/api/v1/erasures"
        assert httpx.post(url, json={"consumer": "address:8.8.8.8"}, timeout=60).status_code == 401
        token = (tmp_path / "data" / "api.token").read_text().strip()
        answer = httpx.post(
            url, json={"consumer": "address:8.8.8.8"}, headers={"authorization": f"Bearer {token}"}, timeout=300
        )
        assert answer.status_code == 200, answer.text
        assert not any(answer.json()["rows"].values())
    finally:
        assert collector.stop() == 0


@pytest.mark.parametrize(
    ("consumer", "text", "blanked"),
    [
        ("address:8.8.8.1", "address:8.8.8.1, 8.8.8.1:9 and 8.8.8.10", "erased, erased:9 and 8.8.8.10"),
        ("address:8.8.8.1", "8.8.8.1. 18.8.8.1:80", "erased. 18.8.8.1:80"),
        ("address:8.8.8.1", json.dumps([["8.8.8.1", 2], ["8.8.8.1.5", 1]]), '[["erased", 2], ["8.8.8.1.5", 1]]'),
        ("address:1::2", "1::2 not 1::2:3", "erased not 1::2:3"),
        ("principal:00112233445566aa", "principal:00112233445566aa.", "erased."),
        ("workload:shop/cart", "shop/cart by workload:shop/cart", "shop/cart by erased"),
    ],
)  # fmt: skip
def test_a_name_is_found_as_a_whole(consumer: str, text: str, blanked: str) -> None:
    mention = find_mention(parse_consumer(consumer))
    assert mention.pattern.sub("erased", text) == blanked
    assert re.sub(mention.sql, mention.sql_replacement, text) == blanked


def test_the_tag_is_that_of_the_wire() -> None:
    assert data_pb2.Batch.STRINGS_FIELD_NUMBER == STRINGS_FIELD


def test_erasure_blanks_damaged_batches_too_and_keeps_the_others_readable(tmp_path: Path) -> None:
    consumer, value = "credential:00000000000007d1", (0x7D1).to_bytes(8, "little")
    with closing(FileLog(tmp_path, readers=("store",))) as wal:
        for sequence in range(1, 4):
            payload = make_batch(sequence=sequence).SerializeToString()
            append = Append(node="n", boot_id="b", sequence=sequence, received_unix_ns=sequence, payload=payload)
            wal.append([append])
        path = locate_segment(tmp_path, wal.position.segment)
        content = bytearray(path.read_bytes())
        assert content.count(value) == 3
        content[len(content) // 3 + 8] ^= 1  # In the head of the second.
        path.write_bytes(content)
        assert wal.erase(*find_replacement(parse_consumer(consumer))) == 2
        assert path.read_bytes().count(value) == 0
        assert [entry.received_unix_ns for entry in FileLogReader(tmp_path, "store").read(until=wal.position)] == [1, 3]


def test_a_log_that_is_not_there_holds_nobody(tmp_path: Path) -> None:
    with closing(FileLog(tmp_path)) as log:
        assert log.erase(*find_replacement(parse_consumer("address:8.8.8.8"))) == 0
