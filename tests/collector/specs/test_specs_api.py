"""Descriptions over the API: upload, versions, report, filter, watched files, and that the page shows them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from apidae.v1 import stream_pb2

from collector.api.services import ApiSettings, Services
from collector.receiver.schemas import convert_schemas
from collector.server.app import build_app
from collector.specs.assessment import SpecAssessor
from collector.specs.fit import Extent
from collector.specs.table import VERSIONS_MAX, SpecTable, import_specs
from collector.storage.embedded import EmbeddedStore
from collector.storage.state.imports import drop_old_tables, import_once
from collector.storage.state.store import StateStore
from tests.collector.api.client import TestClient
from tests.collector.api.fakes import MemoryAlerts
from tests.collector.inventory.seed import NOW, Seed, write_watch
from tests.collector.states import create_state

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
def kept() -> StateStore:
    """The state of all tests."""
    return create_state()


@pytest.fixture(scope="module")
def assessor(store: EmbeddedStore, kept: StateStore, files: Path) -> SpecAssessor:
    table = SpecTable(kept, Clock())
    return SpecAssessor(store=store, table=table, paths=(files, Path("/nonexistent.yaml")))


@pytest.fixture(scope="module")
def client(store: EmbeddedStore, kept: StateStore, assessor: SpecAssessor) -> Iterator[TestClient]:
    app = build_app(
        Services(
            store=store,
            state=kept,
            alerts=MemoryAlerts(),
            settings=ApiSettings(token="t", version="0.1.0", htmx_path=Path("/nonexistent")),
            clock=Clock(),
            readiness=lambda: "",
            metrics=lambda _: (b"", "text/plain"),
            specs=assessor,
        )
    )
    with TestClient(app, headers={"authorization": "Bearer t"}) as opened:
        yield opened


def _list(client: TestClient, spec: str) -> list[str]:
    answer = client.get("/api/v1/endpoints", params={"spec": spec, "sort": "template"}).json()
    return [item["template"] for item in answer["items"]]


def test_life_of_a_description(
    client: TestClient, assessor: SpecAssessor, files: Path, store: EmbeddedStore, kept: StateStore
) -> None:
    assert _list(client, "none") == ["/admin", "/carts", "/openapi.json", "/orders", "/wp-login"]
    first = {"document": describe("/orders", "/carts", "/invoices"), "service": "orders", "asked_by": "ada"}
    uploaded = client.post("/api/v1/specs", json=first)
    assert uploaded.status_code == 200, uploaded.text
    assert (uploaded.json()["name"], uploaded.json()["operations"]) == ("Orders", 3)
    assert _list(client, "documented") == ["/carts", "/orders"]
    assert _list(client, "shadow") == ["/admin", "/openapi.json"]
    assert _list(client, "none") == ["/wp-login"]

    second = {
        "document": describe("/orders", version="2", security=[{"k": []}]),
        "service": "orders",
        "asked_by": "ada",
    }
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

    # The first text once more is the newest again; and an assessor that starts anew knows what was written.
    assert client.post("/api/v1/specs", json=first).json()["versions"] == 2
    assert client.get("/api/v1/specs/Orders/report").json()["orphan"][0]["http_route"] == "/invoices"
    assert SpecAssessor(store=store, table=SpecTable(kept, Clock()), paths=()).look() == 0

    # Whatever the clock says, what comes later holds.
    early = SpecTable(kept, lambda: 1.0)
    for table, document in ((early, first["document"]), (SpecTable(kept, lambda: 0.5), second["document"])):
        table.upload(name="Early", document=str(document), service="", source="api", by="ada")
    assert [one.version for one in early.list_specs() if one.name == "Early"] == ["2"]
    assert SpecTable(kept, lambda: 0.5).delete("Early", by="ada")
    assert not early.delete("Early", by="ada")

    assert client.delete("/api/v1/specs/Orders").json() == {"name": "Orders"}
    assert _list(client, "shadow") == []
    assert client.delete("/api/v1/specs/Orders").status_code == 404

    (files / "shop.yaml").write_text("openapi: 3.0.3\npaths:\n  /orders:\n    get: {responses: {}}\n")
    (files / "broken.json").write_text("{")
    assessor.look()
    listed = client.get("/api/v1/specs").json()
    assert [(one["name"], one["uploaded_by"]) for one in listed["items"]] == [("shop", "file")]
    assert set(listed["file_errors"]) == {str(files / "broken.json"), "/nonexistent.yaml"}
    assert _list(client, "documented") == ["/orders"]


def test_what_is_refused(client: TestClient) -> None:
    answer = client.post("/api/v1/specs", json={"document": "{}", "asked_by": "ada"})
    assert answer.status_code == 422
    assert "send OpenAPI 2.0" in answer.json()["detail"]
    assert client.get("/api/v1/specs/nothing/report").status_code == 404
    assert client.get("/api/v1/endpoints/nothing/spec").status_code == 404


def _serve(store: EmbeddedStore, clock: Clock, *paths: str, version: int, route: int = 5, **operation: Any) -> None:
    """A sensor saw /openapi.json, which is route 5 here."""
    schema = stream_pb2.Schema(
        route_id=route, part="SCHEMA_PART_DESCRIPTION", generation=1, version=version,
        document=describe(*paths, version=str(version), **operation),
    )  # fmt: skip
    message = stream_pb2.ConnectRequest.FromString(
        stream_pb2.ConnectRequest(schemas=stream_pb2.Schemas(schemas=[schema])).SerializeToString()
    )
    records = convert_schemas(message.schemas, node="a", boot_id="b", now_unix_seconds=clock())
    store.insert_records("schemas", records)


def test_a_description_that_a_service_serves_counts_where_no_other_does(
    client: TestClient, assessor: SpecAssessor, store: EmbeddedStore
) -> None:
    clock = Clock()
    for one in client.get("/api/v1/specs").json()["items"]:
        client.delete(f"/api/v1/specs/{one['name']}")
    _serve(store, clock, "/orders", "/carts", "/openapi.json", version=1)
    assessor.look()
    (item,) = client.get("/api/v1/specs").json()["items"]
    assert item["source"] == "traffic shop.example/openapi.json" and item["operations"] == 3
    assert item["service"] == "orders:8080" and item["uploaded_by"] == "apidae"
    assert _list(client, "documented") == ["/carts", "/openapi.json", "/orders"] and _list(client, "shadow") == [
        "/admin"
    ]
    (schema,) = [one for one in client.get("/api/v1/endpoints").json()["items"] if one["template"] == "/openapi.json"]
    assert client.get(f"/api/v1/endpoints/{schema['id']}/schema").status_code == 200
    _serve(store, clock, "/orders", version=2)  # A newer text: what only the older one has is a zombie.
    assessor.look()
    assert _list(client, "zombie") == ["/carts", "/openapi.json"]
    body = {"document": describe("/orders", "/admin"), "service": "orders", "asked_by": "ada"}
    given = client.post("/api/v1/specs", json=body).json()["name"]
    assert _list(client, "documented") == ["/admin", "/orders"] and _list(client, "zombie") == []
    assert _list(client, "shadow") == ["/carts", "/openapi.json"]
    client.delete(f"/api/v1/specs/{given}")
    assert _list(client, "documented") == ["/orders"]
    name = client.get("/api/v1/specs").json()["items"][0]["name"]
    assert client.delete(f"/api/v1/specs/{name}").status_code == 200
    assessor.look()
    assert client.get("/api/v1/specs").json()["items"] == []  # Taken out, it stays out,
    _serve(store, clock, "/carts", version=3)
    assessor.look()
    assert [one["versions"] for one in client.get("/api/v1/specs").json()["items"]] == [1]  # until it is another.
    store.insert_records(
        "schemas",
        convert_schemas(
            stream_pb2.Schemas(
                schemas=[stream_pb2.Schema(route_id=5, part="SCHEMA_PART_DESCRIPTION", version=4, document="{")]
            ),
            node="a", boot_id="b", now_unix_seconds=clock() + 10,
        ),
    )  # fmt: skip
    assessor.look()
    assert "JSON" in client.get("/api/v1/specs").json()["traffic_errors"]["shop.example/openapi.json"]


def test_a_description_of_any_name_can_be_compared_and_removed(client: TestClient) -> None:
    for name in ("../../../etc/x", "a/b/report", "50% of <it>"):
        body = {"document": describe("/orders"), "name": name, "service": "orders", "asked_by": "ada"}
        assert client.post("/api/v1/specs", json=body).status_code == 200
        place = f"/api/v1/specs/{quote(name, safe='')}"
        assert client.get(f"{place}/report").json()["name"] == name
        assert client.delete(place).status_code == 200


def test_a_document_that_passes_through_a_service_is_only_seen_until_its_calls_come(
    client: TestClient, assessor: SpecAssessor, store: EmbeddedStore, kept: StateStore
) -> None:
    clock, seed = Clock(), Seed()
    own = [seed.endpoint(20, "GET", "/login", workload="portal"), seed.endpoint(21, "GET", "/me", workload="portal")]
    orders = [
        seed.endpoint(22 + number, "GET", template, workload="portal")
        for number, template in enumerate(("/orders", "/orders/{order_id}"))
    ]
    seed.endpoint(24, "GET", "/openapi.json", workload="portal", host="portal.example")
    for one in own:
        seed.calls(one, 50)
    seed.write(store)
    never = tuple(f"/invoices/{number}" for number in range(5))
    paths = ("/orders", "/orders/{id}", *never)
    _serve(store, clock, *paths, version=1, route=24)
    assessor.look()

    def list_portal(status: str) -> list[str]:
        found = client.get("/api/v1/endpoints", params={"spec": status, "service": "portal:8080"}).json()["items"]
        return sorted(one["template"] for one in found)

    def get_item() -> dict[str, Any]:
        items: list[dict[str, Any]] = client.get("/api/v1/specs").json()["items"]
        return next(one for one in items if one["service"] == "portal:8080")

    name = get_item()["name"]
    assert (get_item()["is_in_force"], get_item()["fit"]) == (
        False,
        "Only seen: 0 of the 100 calls of portal:8080 match it, and 0 of its 7 operations are called there. "
        "Half of either is needed; upload it if it describes portal:8080.",
    )
    assert (list_portal("shadow"), list_portal("none")) == ([], ["/login", "/me"])
    assert client.get(f"/api/v1/specs/{name}/report").json() == {
        "name": name, "documented": [], "shadow": [], "zombie": [], "orphan": []
    }  # fmt: skip

    later = Seed(endpoints=[])
    for one in orders:
        later.calls(one, 60)
    later.write(store)
    assessor.look()
    assert (get_item()["is_in_force"], get_item()["fit"]) == (True, "120 of the 220 calls of portal:8080 match it.")
    assert (list_portal("documented"), list_portal("shadow")) == (["/orders", "/orders/{order_id}"], ["/login", "/me"])
    orphans = client.get(f"/api/v1/specs/{name}/report").json()["orphan"]
    assert [one["http_route"] for one in orphans] == list(never)

    def call_own(calls: int) -> bool:
        more = Seed(endpoints=[])
        more.calls(own[0], calls, minutes_ago=2)
        more.write(store)
        assessor.look()
        return bool(get_item()["is_in_force"])

    assert call_own(60), "120 of 280: it stays above a third"
    again = SpecAssessor(store=store, table=SpecTable(kept, clock), paths=())
    again.look()
    assert again.results[name].extent is Extent.SERVICE, "a collector that starts anew knows that it was in force"
    assert not call_own(100), "120 of 380"
    assert (list_portal("shadow"), list_portal("documented")) == ([], [])

    given = client.post(
        "/api/v1/specs", json={"document": describe(*paths), "service": "portal", "asked_by": "ada"}
    ).json()
    assert (given["is_in_force"], given["fit"]) == (True, "")
    assert list_portal("shadow") == ["/login", "/me"]
    client.delete(f"/api/v1/specs/{given['name']}")
    client.delete(f"/api/v1/specs/{name}")


def test_versions_that_are_not_compared_with_take_no_memory(kept: StateStore) -> None:
    """A pipeline uploads one with each build."""
    table = SpecTable(kept, Clock())
    others = len(table.list_revisions())
    for number in range(VERSIONS_MAX + 3):
        document = describe("/built", version=str(number))
        table.upload(name="Built", document=document, service="", source="api", by="ci")
    built = [one.spec.version for one in table.list_revisions() if one.name == "Built"]
    assert built == [str(VERSIONS_MAX + 2 - number) for number in range(VERSIONS_MAX)]
    assert len(table._parsed) == VERSIONS_MAX + others
    assert table.delete("Built", by="ada") and len(table.list_revisions()) == len(table._parsed) == others


def test_descriptions_are_kept_on_both_databases(state: StateStore) -> None:
    table, other = SpecTable(state, Clock()), SpecTable(state, Clock())  # As of two processes.
    first, second = describe("/a"), describe("/b", version="2")
    for document in (first, second, first):
        table.upload(name="A", document=document, service="a", source="api", by="ada")
        assert len(other.list_revisions()) == len(table.list_revisions())
    (listed,) = other.list_specs()
    assert (listed.versions, listed.version, listed.bytes) == (2, "1", len(first))
    assert (
        other.delete("A", by="ada") and not table.delete("A", by="ada") and not table.was_deleted("A", describe("/c"))
    )
    assert table.was_deleted("A", first) and table.was_deleted("A", second) and table.list_revisions() == ()
    table.keep_extents({"A": Extent.PART, "B": Extent.SERVICE})
    table.keep_extents({"A": Extent.SERVICE})
    assert other.read_extents() == {"A": Extent.SERVICE}


def test_descriptions_of_an_earlier_version_are_imported_once(store: EmbeddedStore, sqlite_state: StateStore) -> None:
    for statement in EARLIER.split(";\n"):
        store.execute(statement)
    try:
        older, newer = describe("/a", version="1"), describe("/a", version="2")
        rows = [("A", "d1", older, 0, 5), ("A", "d2", newer, 0, 9), ("B", "d3", "", 1, 7)]
        for name, digest, document, is_deleted, version in rows:
            store.execute(
                "INSERT INTO specs VALUES ({name:String}, {digest:String}, 'a', 'api', 'ada', {document:String}, "
                f"{is_deleted}, toDateTime64('2026-11-01 00:00:00', 3, 'UTC'), {version})",
                {"name": name, "digest": digest, "document": document},
            )
        store.execute("INSERT INTO spec_fits VALUES ('A', 'part', 1), ('B', 'none', 2)")
        table = SpecTable(sqlite_state, Clock())
        for _ in range(2):
            import_once(sqlite_state, store, "API descriptions", import_specs, NOW)
            (listed,) = table.list_specs()
            assert (listed.name, listed.version, listed.versions, listed.time) == ("A", "2", 2, 1_793_491_200)
            assert table.read_extents() == {"A": Extent.PART}
    finally:
        drop_old_tables(store)


EARLIER = """
CREATE TABLE specs (
    name String, digest String, service String, source String, uploaded_by String, document String CODEC(ZSTD),
    is_deleted UInt8, time DateTime64(3, 'UTC'), version UInt64
) ENGINE = ReplacingMergeTree(version) ORDER BY (name, digest);
CREATE TABLE spec_fits (
    name String, extent LowCardinality(String), version UInt64
) ENGINE = ReplacingMergeTree(version) ORDER BY name"""
