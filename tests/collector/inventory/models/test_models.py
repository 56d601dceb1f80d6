"""Calls to models: what sensors reported, in the API, the export and the page."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from apidae.v1 import data_pb2, stream_pb2

from collector.core.kinds import ConsumerKind
from collector.erasure import TableEraser, find_mention
from collector.inventory.consumers.consumer import ConsumerName
from collector.inventory.models import states
from collector.inventory.models.states import read_model_sums
from collector.inventory.query import Since, span_since
from collector.receiver.columns import NAME_LIMIT_BYTES
from collector.receiver.models import USE_LIMIT
from collector.receiver.schemas import convert_schemas
from collector.storage.embedded import EmbeddedStore
from tests.collector.api.client import TestClient
from tests.collector.inventory.asking import open_client, read
from tests.collector.inventory.models.model_calls import (
    DIAGNOSIS,
    EMAIL,
    JWT,
    OUTSIDE_ADDRESS,
    REQUEST,
    RESPONSE,
    make_use,
    report_uses,
)
from tests.collector.inventory.seed import NOW, Seed

pytestmark = pytest.mark.store

SERVER, CLIENT = data_pb2.ROLE_SERVER, data_pb2.ROLE_CLIENT
PRICES = {
    "currency": "USD",
    "prices": [
        {"model": "gpt-4o-mini*", "input": 1.0, "output": 2.0, "cache_read": 0.5},
        {"model": "gpt-*", "provider": "openai", "input": 10.0, "output": 20.0},
    ],
}


def seed_endpoints() -> Seed:
    """A provider outside, a server inside that is watched, and the same as its client's sensor sees it."""
    seed = Seed()
    path = "/v1/chat/completions"
    outside = seed.endpoint(
        1, "POST", path, host="api.example.com", workload=OUTSIDE_ADDRESS, workload_kind=0, port=443
    )
    seed.calls(outside, 50, role=2, client_address="", client_workload="shop/agent")
    inside = seed.endpoint(2, "POST", path, host="models.ml", workload="models", namespace="ml", port=8000)
    seed.calls(inside, 10)
    called = seed.endpoint(3, "POST", path, host="models.ml", workload="10.1.0.7", workload_kind=0, port=8000)
    seed.calls(called, 10, role=2, client_address="", client_workload="shop/agent")
    unwatched = seed.endpoint(4, "POST", "/api/chat", host="box.lan", workload="10.1.0.8", workload_kind=0, port=11434)
    seed.calls(unwatched, 4, role=2, client_address="", client_workload="shop/agent")
    return seed


def fill(store: EmbeddedStore) -> None:
    """Two sensors, two hours."""
    seed_endpoints().write(store)
    sent = {REQUEST + EMAIL: 3, REQUEST + JWT: 1, RESPONSE + DIAGNOSIS: 2}
    agent = make_use("gpt-4o", 40, response_model="gpt-4o-2024-08-06", credential=77, data=sent, errors=2, streamed=30)
    cached = {"cache_read_tokens": 4_000, "counted": 8, "input_tokens": 8_000, "output_tokens": 800}
    own = {"role": SERVER, "client_workload": "", "client_address": "10.0.0.9", "provider": "vllm"}
    records = [
        *report_uses(1, agent, make_use("gpt-4o-mini", 10, client_workload="shop/search", **cached)),
        *report_uses(1, make_use("gpt-4o", 5, response_model="gpt-4o-2024-08-06", credential=78), node="node-b"),
        *report_uses(2, make_use("acme", 10, **own)),
        *report_uses(3, make_use("acme", 10, provider="vllm")),  # The same calls, by the client's sensor.
        *report_uses(4, make_use("_OTHER", 4, response_model="", provider="ollama", counted=0, input_tokens=0)),
    ]
    old = {"first_seen_unix_seconds": int(NOW) - 3 * 86_400, "last_seen_unix_seconds": int(NOW) - 2 * 86_400}
    records += report_uses(1, make_use("gpt-3", 7, **old), generation=9)
    store.insert_records("schemas", records)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    opened = EmbeddedStore(tmp_path_factory.mktemp("store"))
    fill(opened)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def client(store: EmbeddedStore) -> Iterator[TestClient]:
    with open_client(store) as opened:
        yield opened


def find(client: TestClient, model: str) -> Any:
    (item,) = read(client, f"models?model={quote(model)}")["items"]
    return item


@pytest.fixture
def priced(client: TestClient) -> Iterator[TestClient]:
    assert client.post("/api/v1/models/prices", json=PRICES).status_code == 200
    yield client
    client.post("/api/v1/models/prices", json={"prices": []})


def test_calls_of_all_sensors_are_summed_by_caller_and_model(client: TestClient) -> None:
    item = find(client, "gpt-4o")
    assert (item["caller"], item["provider"], item["operation"]) == ("workload:shop/agent", "openai", "chat")
    assert (item["calls"], item["errors"], item["streamed_calls"]) == (45, 2, 30)
    assert (item["input_tokens"], item["output_tokens"], item["tokens"]) == (45_000, 4_500, 49_500)
    assert item["response_models"] == ["gpt-4o-2024-08-06"]
    # Each key of the provider is a consumer of the inventory.
    assert item["consumers"] == ["credential:000000000000004d", "credential:000000000000004e"]


def test_the_destination_is_where_the_server_is(client: TestClient) -> None:
    found = {one["model"]: (one["destination"], one["server"]) for one in read(client, "models")["items"]}
    assert found["gpt-4o"] == ("outside", "api.example.com")
    assert found["acme"] == ("inside", "ml/models:8000")
    assert found["_OTHER"] == ("inside", "10.1.0.8:11434")


def test_a_call_that_was_seen_at_both_ends_counts_once(client: TestClient) -> None:
    item = find(client, "acme")
    assert (item["calls"], item["caller"], item["endpoint_ids"]) == (10, "address:10.0.0.9", ["ep0002"])


def test_only_calls_of_the_span_count(client: TestClient) -> None:
    assert read(client, "models?model=gpt-3")["total"] == 0
    assert find_since(client, "7d")["calls"] == 7
    assert read(client, "models?model=gpt-3&since=7d&end=2d")["total"] == 1
    assert read(client, "models?model=gpt-4o&since=7d&end=1d")["total"] == 0


def find_since(client: TestClient, since: str) -> Any:
    (item,) = read(client, f"models?model=gpt-3&since={since}")["items"]
    return item


def test_classes_of_data_are_those_of_prompts_and_of_answers(client: TestClient) -> None:
    item = find(client, "gpt-4o")
    assert (item["prompt_classes"], item["answer_classes"]) == (["contact", "secret"], ["health"])
    assert {(one["kind"], one["side"], one["calls"]) for one in item["data"]} == {
        ("email", "request", 3),
        ("jwt", "request", 1),
        ("diagnosis", "response", 2),
    }


@pytest.mark.parametrize(
    ("query", "models"),
    [
        ("destination=outside", ["gpt-4o", "gpt-4o-mini"]),
        ("destination=inside", ["_OTHER", "acme"]),
        ("provider=vllm", ["acme"]),
        ("operation=embeddings", []),
        ("caller=shop/search", ["gpt-4o-mini"]),
        ("caller=workload:shop/search", ["gpt-4o-mini"]),
        ("model=gpt-4o-2024-08-06", ["gpt-4o"]),
        ("data=request:secret", ["gpt-4o"]),
        ("data=response:secret", []),
        ("data=health", ["gpt-4o"]),
        ("q=agent+example", ["gpt-4o"]),
    ],
)
def test_filters_of_the_list(client: TestClient, query: str, models: list[str]) -> None:
    found = read(client, f"models?{query}")
    assert sorted(one["model"] for one in found["items"]) == models
    assert found["totals"]["calls"] == sum(one["calls"] for one in found["items"])
    for destination in ("outside", "inside"):
        sums = [one for one in found["items"] if one["destination"] == destination]
        for name in ("input_tokens", "output_tokens"):
            assert found["totals"][f"{destination}_{name}"] == sum(one[name] for one in sums)


def test_data_that_is_not_known_is_refused_in_one_sentence(client: TestClient) -> None:
    answer = client.get("/api/v1/models?data=smoke")
    assert answer.status_code == 422
    assert "request" in answer.json()["detail"]


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("sort", ["calls", "tokens", "cost", "errors", "last_seen"])
def test_the_list_has_pages_in_each_order(priced: TestClient, sort: str, order: str) -> None:
    items: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = read(priced, f"models?limit=1&sort={sort}&order={order}{cursor}")
        items += page["items"]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={quote(page['next_cursor'])}"
    assert sorted(one["model"] for one in items) == ["_OTHER", "acme", "gpt-4o", "gpt-4o-mini"]
    values = [-1 if one[sort] is None else one[sort] for one in items]
    assert values == sorted(values, reverse=order == "desc")


def test_without_prices_there_is_no_cost(client: TestClient) -> None:
    assert {one["cost"] for one in read(client, "models")["items"]} == {None}
    assert read(client, "models")["totals"]["cost"] is None
    assert "apidae set model-prices FILE" in client.get("/models").text


def test_the_cost_follows_the_first_price_that_fits(priced: TestClient) -> None:
    # 45,000 tokens of prompts at 10 a million, and 4,500 of answers at 20.
    assert find(priced, "gpt-4o")["cost"] == pytest.approx(0.45 + 0.09)
    # 4,000 plain ones at 1, 4,000 of the cache at 0.5, and 800 of answers at 2.
    assert find(priced, "gpt-4o-mini")["cost"] == pytest.approx(0.004 + 0.002 + 0.0016)
    assert find(priced, "acme")["cost"] is None
    totals = read(priced, "models")["totals"]
    assert totals["cost"] == pytest.approx(0.54 + 0.0076)
    assert (totals["priced_calls"], totals["currency"]) == (45 + 8, "USD")
    assert ">Cost<" in priced.get("/models").text


@pytest.mark.parametrize(
    ("price", "word"),
    [
        ({"model": "x", "input": -1, "output": 1}, "0.0 or more"),
        ({"model": "x", "input": 1}, "output"),
        ({"model": "", "input": 1, "output": 1}, "model"),
        ({"model": "x", "input": 1, "output": 1, "discount": 1}, "discount"),
    ],
)
def test_wrong_prices_are_refused_with_what_is_wrong(client: TestClient, price: dict[str, Any], word: str) -> None:
    answer = client.post("/api/v1/models/prices", json={"prices": [price]})
    assert answer.status_code == 422
    assert word in answer.json()["detail"]
    assert read(client, "models/prices")["prices"] == []


def test_the_list_is_exported(client: TestClient) -> None:
    lines = client.get("/api/v1/exports/models.csv").text.splitlines()
    assert len(lines) == 5
    assert any("gpt-4o," in line and "contact, secret" in line for line in lines)


def test_the_page_shows_who_sends_what_where(client: TestClient) -> None:
    page = client.get("/models").text
    assert all(text in page for text in ("shop/agent", "api.example.com", "secret", "ml/models:8000"))
    assert "tokens to outside" in page
    assert "inside <b>10k</b> tokens in" in client.get("/models?destination=inside").text
    assert client.get("/models?destination=smoke").status_code == 422
    assert "No call to a model matches" in client.get("/models?model=nothing").text


def test_sums_that_were_not_read_are_counted(store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read_model_sums(store, span_since(Since.DAY, NOW))
    monkeypatch.setattr(states, "SUMS_MAX", 2)
    cut = read_model_sums(store, span_since(Since.DAY, NOW))
    assert whole.left_out == 0
    assert cut.left_out > 0
    assert [one.calls for one in cut.sums] == [40, 10]


def test_uses_of_some_endpoints_alone_can_be_read(store: EmbeddedStore) -> None:
    found = read_model_sums(store, span_since(Since.DAY, NOW), endpoint_ids=["ep0002"])
    assert [(one.request_model, one.endpoint_id) for one in found.sums] == [("acme", "ep0002")]


def test_whatever_a_sensor_sends_is_bounded() -> None:
    hostile = make_use("x" * 200, 1, provider="<b>", operation="\n", client_workload="w" * 5_000, role=9)
    hostile.response_model = 'a"}]'
    hostile.calls = 2**64 - 1
    (record,) = report_uses(1, *[hostile] * (USE_LIMIT + 9))
    found = json.loads(record.operations)
    assert len(found) == USE_LIMIT
    one = found[0]
    assert {one[name] for name in ("request_model", "response_model", "provider", "operation")} == {"_OTHER"}
    assert (one["role"], one["calls"], len(one["client_workload"])) == (
        0,
        2**48 - 1,
        NAME_LIMIT_BYTES + len("workload:"),
    )


def test_a_state_of_another_part_has_no_uses() -> None:
    schema = stream_pb2.Schema(route_id=1, part=stream_pb2.SCHEMA_PART_OPERATIONS, model_uses=[make_use("x", 1)])
    (record,) = convert_schemas(stream_pb2.Schemas(schemas=[schema]), node="a", boot_id="b", now_unix_seconds=NOW)
    assert "x" not in record.operations


def test_an_erased_consumer_asked_nothing(store: EmbeddedStore) -> None:
    named = [make_use("gpt", 1, client_workload="", client_address=f"10.0.0.{last}") for last in (78, 7, 77)]
    store.insert_records("schemas", report_uses(1, *named, node="node-c"))
    consumer = ConsumerName(kind=ConsumerKind.ADDRESS, value="10.0.0.77")
    TableEraser(store, store.layout).erase(consumer, find_mention(consumer))
    ((text,),) = store.query("SELECT operations FROM schemas FINAL WHERE part = 250 AND node = 'node-c'")
    assert [one["client_address"] for one in json.loads(text)] == ["address:10.0.0.78", "address:10.0.0.7"]
