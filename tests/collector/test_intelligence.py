"""The collector as a program: schemas that came over the stream, a description and a template edit survive kill -9."""

import json
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from apidae.v1 import stream_pb2

from sensor.export.messages import write_schemas
from tests.collector.running import RunningCollector, make_hello, talk, wrap
from tests.collector.schemas.states import Node
from tests.collector.server.test_collector import make_current
from tests.waiting import wait_until

pytestmark = pytest.mark.store

SPEC = {
    "openapi": "3.1.0",
    "info": {"title": "Shop", "version": "1"},
    "paths": {"/users/{id}": {"get": {"responses": {"200": {"description": "ok"}}}}},
}


def _post(collector: RunningCollector, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = httpx.post(f"http://{collector.ready['http']}/api/v1{path}", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def _find(collector: RunningCollector) -> dict[str, Any]:
    items = collector.get("/endpoints").json()["items"]
    return next((item for item in items if item["method"] == "GET"), {})


def test_all_of_it_survives(tmp_path: Path) -> None:
    collector = RunningCollector(tmp_path, "--no-auth")
    node = Node()
    for page in range(5):
        node.call(11, f"/users/7?page={page}", told={"id": page})
    schemas: list[stream_pb2.ConnectRequest] = [write_schemas(part) for part in node.book.take(1)]
    talk(collector.ready["grpc"], [make_hello(), wrap(make_current(1)), *schemas, *schemas])
    wait_until(lambda: bool(_find(collector)))
    _post(collector, "/specs", {"document": json.dumps(SPEC), "service": "web", "asked_by": "ada"})
    endpoint = _find(collector)
    assert (endpoint["spec"]["status"], endpoint["spec"]["http_route"]) == ("documented", "/users/{id}")
    _post(collector, f"/endpoints/{endpoint['id']}/rename", {"place": 1, "name": "account", "asked_by": "ada"})
    wait_until(lambda: bool(collector.get(f"/endpoints/{_find(collector)['id']}/schema").json()["responses"]))
    time.sleep(5)  # Several flushes of what waits: there is one each second.
    collector.kill()

    collector = RunningCollector(tmp_path, "--no-auth")
    wait_until(lambda: bool(_find(collector)))
    endpoint = _find(collector)
    assert endpoint["template"] == "/users/{account}"
    described = collector.get(f"/endpoints/{endpoint['id']}/schema").json()
    assert [(one["samples"], one["status_class"]) for one in described["responses"]] == [(5, 2)]
    assert ("query", "page") in {(one["place"], one["name"]) for one in described["parameters"]}
    document = collector.get("/services/web:8080/openapi.json").json()
    assert "/users/{account}" in document["paths"]
    (edit,) = collector.get("/template-edits").json()["items"]
    _post(collector, f"/template-edits/{edit['id']}/undo", {"asked_by": "bob"})
    assert _find(collector)["template"] == "/users/{user_id}"
    assert collector.stop() == 0
