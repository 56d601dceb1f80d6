"""What a sensor sends at the edge of each type: it is stored, or counted and dropped, and every answer of the API goes
on. Nothing of it stops another node, the detectors or the next start."""

import random
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from collector.ui.pages import PAGES
from tests.collector.running import RunningCollector, list_acks, make_hello, talk, wrap
from tests.collector.wire_batches import make_batch
from tests.fuzz.wire import fill_numbers, make_message, make_messages
from tests.waiting import wait_until

pytestmark = pytest.mark.store

MESSAGES = 400


def read_metrics(collector: RunningCollector) -> dict[str, float]:
    lines = (line for line in collector.get("/metrics").text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def list_faults(collector: RunningCollector) -> list[str]:
    """Everything of the API and the pages that can be read without a body, and what of it fails."""
    found = []
    paths: dict[str, Any] = collector.get("/openapi.json").json()["paths"]
    endpoints = collector.get("/endpoints?limit=500").json()["items"]
    known = {
        "endpoint_id": [one["id"] for one in endpoints][:5],
        "block_id": [one["id"] for one in collector.get("/blocks").json()["items"]],
    }
    for path, methods in paths.items():
        if "get" not in methods:
            continue
        name = path[path.find("{") + 1 : path.find("}")] if "{" in path else ""
        for value in known.get(name, ["x"]) if name else [""]:
            address = f"http://{collector.ready['http']}{path.replace('{' + name + '}', value)}"
            with httpx.stream("GET", address, timeout=60) as answer:  # One of them ends with its reader.
                if answer.status_code >= 500:
                    found.append(f"{address}: {answer.status_code} {answer.read()[:200]!r}")
    pages = [page.path for page in PAGES if page.title]
    answers = {page: collector.get_page(page) for page in pages}
    found += [f"{page}: {answer.text[:200]}" for page, answer in answers.items() if answer.status_code >= 500]
    return found


def test_extreme_messages_end_nothing(tmp_path: Path) -> None:
    collector = RunningCollector(tmp_path, "--no-auth")
    address, now = collector.ready["grpc"], int(time.time())
    honest = wrap(make_batch(node="honest", base=now - 60))
    talk(address, [make_hello("honest"), honest])
    block = httpx.post(
        f"http://{collector.ready['http']}/api/v1/blocks",
        json={
            "consumer": "address:10.0.0.9",
            "seconds": 3_600,
            "reason": "test",
            "asked_by": "ada",
            "is_confirmed": True,
        },
        timeout=60,
    )
    assert block.status_code == 201, block.text
    order = random.Random(7)
    sent = [make_message(bytes([255]) + build().SerializeToString()) for build in make_messages("node-a", now).values()]
    sent += [make_message(order.randbytes(40), now=now, sequence=2 + number) for number in range(MESSAGES)]
    largest = [build() for build in make_messages("node-a", now).values()]
    for message in largest:
        if message.HasField("enforcement"):
            message.enforcement.blocks[0].id = block.json()["id"]
        fill_numbers(message, 2**64 - 1)
        for schema in message.schemas.schemas:
            schema.route_id = 11  # It was called.
    talk(address, [make_hello(), *sent, *largest])
    seen = read_metrics(collector)
    assert not {name: count for name, count in seen.items() if "messages_failed" in name}
    assert seen["apidae_collector_ingest_batches_durable_total"] > 10
    wait_until(lambda: len(collector.get("/sensors").json()["items"]) == 2)

    def is_stored() -> bool:
        counts = read_metrics(collector)
        return (
            counts["apidae_collector_writer_batches_stored_total"]
            >= counts["apidae_collector_ingest_batches_durable_total"]
        )

    wait_until(is_stored)
    wait_until(lambda: bool(collector.get("/coverage/ports").json()["items"]))
    assert list_faults(collector) == []
    counts = read_metrics(collector)
    for name in (
        "writer_errors",
        "housekeeping_errors",
        "writer_batches_refused",
        "detector_restarts",
        "records_refused",
    ):
        assert counts[f"apidae_collector_{name}_total"] == 0, (name, "".join(collector.errors)[-3_000:])
    collector.kill()
    again = RunningCollector(tmp_path, "--no-auth")
    try:
        assert list_acks(talk(again.ready["grpc"], [make_hello("honest"), honest]))[0].sequence == 1
        assert list_faults(again) == []
    finally:
        assert again.stop() == 0
