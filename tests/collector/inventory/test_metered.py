"""Endpoints get metrics of their own by their id or by a rule, from the API, the command line and the page."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import typer
from typer.testing import CliRunner

from collector.api.services import ApiSettings, Services
from collector.cli.commands import register
from collector.core.errors import ConflictError
from collector.inventory.endpoints.endpoints import EndpointInventory
from collector.inventory.endpoints.predicates import ConsumerSql
from collector.inventory.endpoints.spec_status import EndpointSpec, SpecStatus
from collector.inventory.traffic import metered as metering
from collector.inventory.traffic.meter import CallMeter
from collector.inventory.traffic.metered import MeteredEndpoints
from collector.server.app import build_app
from collector.specs.assessment import _make_record
from collector.storage.embedded import EmbeddedStore
from collector.storage.state.store import StateStore
from tests.collector.api.client import TestClient
from tests.collector.api.fakes import MemoryAlerts
from tests.collector.cli.test_commands import Held
from tests.collector.inventory.seed import NOW, Seed
from tests.collector.inventory.test_meter import add, find, read
from tests.collector.states import create_state
from tests.collector.wire_batches import make_batch

pytestmark = pytest.mark.store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    opened = EmbeddedStore(tmp_path_factory.mktemp("metered"))
    seed = Seed()
    seed.calls(seed.endpoint(11, "GET", "/orders/{order_id}"), 100)
    seed.calls(seed.endpoint(12, "POST", "/orders"), 5)
    seed.calls(seed.endpoint(13, "GET", "/health"), 50)
    seed.write(opened)
    yield opened
    opened.close()


@pytest.fixture
def client(store: EmbeddedStore) -> Iterator[TestClient]:
    app = build_app(
        Services(
            store=store,
            state=create_state(),
            alerts=MemoryAlerts(),
            settings=ApiSettings(token=None, version="0.1.0", htmx_path=Path("/nonexistent")),
            clock=lambda: NOW,
            readiness=lambda: "",
            metrics=lambda _: (b"", "text/plain"),
        )
    )
    with TestClient(app, base_url="http://127.0.0.1") as opened:
        yield opened


def make_metered(state: StateStore, store: EmbeddedStore) -> MeteredEndpoints:
    endpoints = EndpointInventory(reader=store, who=ConsumerSql())
    return MeteredEndpoints(state=state, reader=store, endpoints=endpoints, clock=lambda: NOW)


def find_ids(store: EmbeddedStore) -> dict[str, str]:
    return dict(store.query("SELECT concat(method, ' ', url_template), endpoint_id FROM endpoint_routes FINAL"))  # type: ignore[arg-type]


def test_the_chosen_come_first_and_the_rule_fills_what_is_left(
    state: StateStore, store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metering, "ENDPOINTS_MAX", 2)
    ids, metered = find_ids(store), make_metered(state, store)
    assert metered.resolve().items == ()
    metered.change(add=[ids["POST /orders"]], query="sort=calls&limit=7", by="ada")
    found = metered.resolve()
    assert [(one.template, one.is_chosen) for one in found.items] == [("/orders", True), ("/orders/{order_id}", False)]
    assert set(found.routes) == {11, 12} and metered.read().query == "sort=calls"
    with pytest.raises(ConflictError, match="3 endpoints would have metrics"):
        metered.change(add=[ids["GET /health"], ids["GET /orders/{order_id}"]], by="ada")
    with pytest.raises(ValueError, match="there is no endpoint 'nothing'"):
        metered.change(add=["nothing"], by="ada")
    metered.change(remove=[ids["POST /orders"]], query="", by="ada")
    assert metered.resolve().items == ()


def test_a_described_endpoint_has_the_path_of_its_description(store: EmbeddedStore) -> None:
    ids, metered = find_ids(store), make_metered(create_state(), store)
    spec = EndpointSpec(status=SpecStatus.DOCUMENTED, http_route="/orders/{orderId}")
    store.insert_records("endpoint_specs", [_make_record(ids["GET /orders/{order_id}"], spec, 1)])
    metered.change(query="sort=calls", by="ada")
    described = {11: "/orders/{orderId}", 12: "", 13: ""}
    assert {route: key.route for route, key in metered.resolve().routes.items()} == described


def test_a_rule_that_names_an_erased_consumer_goes(state: StateStore, store: EmbeddedStore) -> None:
    metered = make_metered(state, store)
    metered.change(query="q=10.0.0.9", by="ada")
    assert metered.erase(re.compile("10.0.0.8")) == {"metered_endpoints": 0}
    assert metered.erase(re.compile("10.0.0.9")) == {"metered_endpoints": 1}
    assert metered.read().query == ""


def test_the_meter_follows_the_choice(store: EmbeddedStore) -> None:
    metered, meter = make_metered(create_state(), store), CallMeter()
    (job,) = metered.make_feature(meter).jobs
    metered.change(query="method=POST", by="ada")
    job.works[0]()
    add(meter, make_batch(rows=4))
    found = read(meter).values()
    assert find(found, "endpoint_calls_total", url_template="/orders", http_request_method="POST") == 2 + 4
    assert find(found, "metered_endpoints") == 1
    metered.change(query="", by="ada")
    job.works[0]()
    assert find(read(meter).values(), "metered_endpoints") == 0


def test_the_api_and_the_command_choose(
    client: TestClient, store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(httpx, "Client", lambda **_: Held(client))
    app = typer.Typer()
    register(app)
    ids = find_ids(store)

    def run(*words: str) -> list[str]:
        result = CliRunner().invoke(app, [*words, "--url", "http://127.0.0.1", "-o", "json"])
        assert result.exit_code == 0, result.output
        return [one["template"] for one in json.loads(result.stdout)]

    assert run("set", "metric-endpoint", ids["GET /health"]) == ["/health"]
    assert run("set", "metric-rule", "method=POST") == ["/health", "/orders"]
    assert run("set", "metric-endpoint", ids["GET /health"], "--off") == ["/orders"]
    assert run("get", "metric-endpoints") == ["/orders"]
    shown = client.get("/api/v1/metrics/endpoints").json()
    assert (shown["query"], shown["maximum"], shown["items"][0]["is_chosen"]) == ("method=POST", 200, False)
    refused = client.post("/api/v1/metrics/endpoints", json={"query": "riskk=1"})
    assert refused.status_code == 422 and "riskk" in refused.json()["detail"]
    missing = client.post("/api/v1/metrics/endpoints", json={"add": ["nothing"]})
    assert (missing.status_code, missing.json()["detail"]) == (
        422,
        "There is no endpoint 'nothing'; look it up in /api/v1/endpoints.",
    )


def test_the_page_chooses(client: TestClient, store: EmbeddedStore) -> None:
    ids = find_ids(store)
    for form in ({"query": "method=POST"}, {"add": ids["GET /health"]}):
        assert client.post("/settings/metrics", data=form).status_code in (200, 303)
    page = client.get("/settings").text
    assert "/health" in page and 'value="method=POST"' in page
    refused = client.post("/settings/metrics", data={"query": "riskk=1"})
    assert refused.status_code == 422 and "riskk" in refused.text
    client.post("/settings/metrics", data={"remove": ids["GET /health"]})
    assert [one["template"] for one in client.get("/api/v1/metrics/endpoints").json()["items"]] == ["/orders"]
