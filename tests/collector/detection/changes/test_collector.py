"""A new endpoint through a collector that runs: calls by the sensor's own code, a restart, then the API, the page of
the alert and the rows behind it. That two days have passed meanwhile is written into the facts."""

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

from collector.storage.state.store import open_state
from collector.storage.state.tables.changes import CHANGE_FACTS
from tests.collector.risk.judging import feed, start_collector
from tests.collector.risk.traffic import Sensor
from tests.collector.running import make_hello, talk, wrap
from tests.waiting import wait_until

pytestmark = pytest.mark.store

KNOWN: dict[str, Any] = {"id": "shop", "path": "/v1/orders/{n}", "client": "8.8.4.4", "jwt": "good"}
PEOPLE = [{"email": "ada@example.org", "first_name": "Ada", "last_name": "Lovelace"}]
FRESH: dict[str, Any] = {"id": "shop", "path": "/v1/people", "client": "8.8.4.4", "answer": PEOPLE}


def test_a_new_endpoint_is_told_by_a_running_collector(tmp_path: Path) -> None:
    collector = start_collector(tmp_path)
    try:
        feed(collector, [KNOWN])
        wait_until(lambda: _read_kinds(tmp_path) >= {"start", "service", "endpoint"}, "facts of what was evaluated")
        assert _list_new(collector) == []
    finally:
        assert collector.stop() == 0
    state = open_state(tmp_path / "data")
    with state.write() as connection:
        connection.execute(update(CHANGE_FACTS).values(first_seen=CHANGE_FACTS.c.first_seen - 172_800))
    state.close()
    collector = start_collector(tmp_path)
    try:
        sensor = Sensor([FRESH["id"]], node="node-b")
        sensor.see(FRESH)
        batches = [wrap(batch) for batch in sensor.flush()]
        talk(collector.ready["grpc"], [make_hello("node-b"), *batches])  # Another node: its batches are no repeats.
        (alert,) = wait_until(lambda: _list_new(collector), "the alert of what is new")
        assert alert["title"].endswith("answers at GET /v1/people, which is new")
        assert (alert["risk"], alert["severity"]) == ("API9:2023", "medium")
        page = collector.get_page(f"/alerts/{alert['id']}").text
        assert "answers at GET /v1/people" in page and "See which release brought it" in page
        behind = collector.get(f"/alerts/{alert['id']}/evidence").json()
        assert sum(row["calls"] for row in behind["items"]) == 12
        rungs = {rung["kind"]: rung["step"] for rung in collector.get("/ladder").json()["items"]}
        assert rungs["new_endpoint"] == rungs["missing_authentication"] == "alert"
    finally:
        assert collector.stop() == 0


def _read_kinds(directory: Path) -> set[str]:
    """Kinds of facts in the state of a collector that runs."""
    with contextlib.closing(sqlite3.connect(directory / "data" / "state.db")) as connection:
        return {kind for (kind,) in connection.execute("SELECT kind FROM change_facts")}


def _list_new(collector: Any) -> list[dict[str, Any]]:
    return list(collector.get("/alerts?kind=new_endpoint").json()["items"])
