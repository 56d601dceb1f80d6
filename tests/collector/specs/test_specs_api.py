"""Descriptions over the API: upload, versions, report, filter, watched files, and that the page shows them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.api.app import ApiSettings, build_app
from collector.specs.keeper import SpecKeeper
from collector.specs.table import SpecTable
from collector.store.embedded import EmbeddedStore
from tests.collector.api.client import TestClient
from tests.collector.api.fakes import MemoryAlerts
from tests.collector.inventory.seed import NOW, Seed, write_watch

pytestmark = pytest.mark.store


def describe(*paths: str, version: str = "1", **operation: Any) -> str:
    return json.dumps(
        {
            "openapi": "3.1.0",
            "info": {"title": "Orders", "version": version},
            "paths": {path: {"get": {"responses": {"200": {"description": "ok"}}, **operation}} for path in paths},
        }
    )


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        self.now += 1
        return self.now


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("specs")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    store = EmbeddedStore(tmp_path_factory.mktemp("store"))
    seed = Seed()
    for number, (template, status) in enumerate(
        [("/orders", 200), ("/carts", 200), ("/admin", 200), ("/wp-login", 404), ("/openapi.json", 200)], 1
    ):
        seed.calls(seed.endpoint(number, "GET", template), 9, status_code=status)
    seed.write(store)
    write_watch(store)
    yield store
    store.close()


@pytest.fixture(scope="module")
def keeper(store: EmbeddedStore, files: Path) -> SpecKeeper:
    clock = Clock()
    return SpecKeeper(store=store, table=SpecTable(store, clock), paths=(files, Path("/nonexistent.yaml")), clock=clock)


@pytest.fixture(scope="module")
def client(store: EmbeddedStore, keeper: SpecKeeper) -> Iterator[TestClient]:
    app = build_app(
        store=store,
        alerts=MemoryAlerts(),
        settings=ApiSettings(token="t", version="0.1.0", htmx_path=Path("/nonexistent")),
        clock=Clock(),
        readiness=lambda: "",
        metrics=lambda: b"",
        specs=keeper,
    )
    with TestClient(app, headers={"authorization": "Bearer t"}) as opened:
        yield opened


def _list(client: TestClient, spec: str) -> list[str]:
    answer = client.get("/api/v1/endpoints", params={"spec": spec, "sort": "template"}).json()
    return [item["template"] for item in answer["items"]]


def test_life_of_a_description(client: TestClient, keeper: SpecKeeper, files: Path, store: EmbeddedStore) -> None:
    assert _list(client, "none") == ["/admin", "/carts", "/openapi.json", "/orders", "/wp-login"]
    first = {"document": describe("/orders", "/carts", "/invoices"), "service": "orders", "by": "ada"}
    uploaded = client.post("/api/v1/specs", json=first)
    assert uploaded.status_code == 200, uploaded.text
    assert (uploaded.json()["name"], uploaded.json()["operations"]) == ("Orders", 3)
    assert _list(client, "documented") == ["/carts", "/orders"]
    assert _list(client, "shadow") == ["/admin", "/openapi.json"]
    assert _list(client, "none") == ["/wp-login"]

    second = {"document": describe("/orders", version="2", security=[{"k": []}]), "service": "orders", "by": "ada"}
    assert client.post("/api/v1/specs", json=second).json()["versions"] == 2
    assert _list(client, "zombie") == ["/carts"]
    report = client.get("/api/v1/specs/Orders/report").json()
    assert [one["template"] for one in report["zombie"]] == ["/carts"]
    assert report["zombie"][0]["spec"]["reason"] == "only an older version (1) has it"
    assert report["orphan"] == []
    (orders,) = report["documented"]
    assert [one["kind"] for one in orders["drift"]] == ["weaker_authentication"]
    assert client.get(f"/api/v1/endpoints/{orders['id']}/spec").json()["drift"] == orders["drift"]
    found = client.get("/api/v1/endpoints", params={"spec": "documented"}).json()["items"][0]["spec"]
    assert (found["http_route"], found["requires_authentication"]) == ("/orders", True)
    assert "shadow" in client.get("/?spec=shadow").text
    assert [one["template"] for one in client.get("/api/v1/specs").json()["seen_in_traffic"]] == ["/openapi.json"]

    # The first text once more is the newest again; and a keeper that starts anew knows what was told.
    assert client.post("/api/v1/specs", json=first).json()["versions"] == 2
    assert client.get("/api/v1/specs/Orders/report").json()["orphan"][0]["http_route"] == "/invoices"
    assert SpecKeeper(store=store, table=SpecTable(store, Clock()), paths=(), clock=Clock()).look() == 0

    assert client.delete("/api/v1/specs/Orders").json() == {"name": "Orders"}
    assert _list(client, "shadow") == []
    assert client.delete("/api/v1/specs/Orders").status_code == 404

    (files / "shop.yaml").write_text("openapi: 3.0.3\npaths:\n  /orders:\n    get: {responses: {}}\n")
    (files / "broken.json").write_text("{")
    keeper.look()
    listed = client.get("/api/v1/specs").json()
    assert [(one["name"], one["uploaded_by"]) for one in listed["items"]] == [("shop", "file")]
    assert set(listed["file_errors"]) == {str(files / "broken.json"), "/nonexistent.yaml"}
    assert _list(client, "documented") == ["/orders"]


def test_what_is_refused(client: TestClient) -> None:
    answer = client.post("/api/v1/specs", json={"document": "{}", "by": "ada"})
    assert answer.status_code == 422
    assert "send OpenAPI 2.0" in answer.json()["detail"]
    assert client.get("/api/v1/specs/nothing/report").status_code == 404
    assert client.get("/api/v1/endpoints/nothing/spec").status_code == 404
