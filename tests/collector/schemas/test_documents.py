"""Schemas over the API, and OpenAPI and Postman documents that others can read."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from collector.api.services import ApiSettings, Services
from collector.server.app import build_app
from collector.storage.embedded import EmbeddedStore
from tests.collector.api.client import TestClient
from tests.collector.api.fakes import MemoryAlerts
from tests.collector.inventory.seed import NOW, Seed, write_watch
from tests.collector.risk.traffic import make_jwt
from tests.collector.schemas.states import Node, tell_all
from tests.collector.states import create_state

pytestmark = pytest.mark.store


TOKEN = f"Authorization: Bearer {make_jwt('good', NOW)}"


def fill(store: EmbeddedStore) -> None:
    """A service with parameters of every place, bodies of several types, and operations."""
    seed = Seed()
    orders = seed.endpoint(1, "POST", "/orders/{order_id}")
    seed.calls(orders, 40, authentication=1 << 3, carriers="header authorization bearer")
    seed.calls(orders, 2, status_code=404)
    seed.calls(seed.endpoint(2, "GET", "/orders/{order_name}"), 7, status_code=204)
    seed.calls(seed.endpoint(3, "POST", "/graphql"), 30)
    seed.calls(seed.endpoint(4, "PROPFIND", "/files"), 3)
    seed.calls(seed.endpoint(5, "GET", "/wp-admin"), 3, status_code=404)
    seed.calls(
        seed.endpoint(6, "GET", "/orders", host="b.example"), 3, authentication=1 << 5, carriers="header x-shop-key"
    )
    seed.write(store)
    write_watch(store)
    nodes = [Node("a"), Node("b")]
    for number in range(8):
        nodes[number % 2].call(
            1, f"/orders/7?page={number}", "X-Tenant-Id: 4", "Cookie: session_id=a1", TOKEN, consumer=number,
            asked={"items": [{"sku": "x 1", "count": 1}]}, told={"id": number, "created_at": "2026-01-01T00:00:00Z"},
        )  # fmt: skip
        nodes[0].call(1, "/orders/7", told={"error": {"message": "no"}}, status=404)
        nodes[0].call(3, "/graphql", asked={"query": "query ListOrders { a }", "variables": {}}, told={"data": {}})
    nodes[0].call(6, "/orders?limit=3", "X-Shop-Key: k", told=[{"id": 1}])
    nodes[0].call(1, "/orders/7", asked={"name": "x y"}, media_type="application/x-www-form-urlencoded")
    store.insert_records("schemas", tell_all(nodes))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    store = EmbeddedStore(tmp_path_factory.mktemp("store"))
    fill(store)
    app = build_app(
        Services(
            store=store,
            state=create_state(),
            alerts=MemoryAlerts(),
            settings=ApiSettings(token="t", version="0.1.0", htmx_path=Path("/nonexistent")),
            clock=lambda: NOW,
            readiness=lambda: "",
            metrics=lambda _: (b"", "text/plain"),
        )
    )
    with TestClient(app, headers={"authorization": "Bearer t"}) as opened:
        yield opened
    store.close()


def test_one_endpoint(client: TestClient) -> None:
    answer = client.get("/api/v1/endpoints/ep0001/schema").json()
    parameters = {(one["place"], one["name"]): one for one in answer["parameters"]}
    assert parameters["query", "page"]["schema"] == {"type": "integer", "format": "int32"}
    assert parameters["query", "page"]["is_required"] is False
    assert {("path", "order_id"), ("header", "x-tenant-id"), ("cookie", "session_id")} <= parameters.keys()
    assert [(one["status_class"], one["samples"]) for one in answer["responses"]] == [(2, 8), (4, 8)]
    told = answer["responses"][0]["schema"]
    assert told["required"] == ["created_at", "id"]
    assert told["properties"]["created_at"] == {"type": "string", "format": "date-time"}
    assert [one["media_type"] for one in answer["requests"]] == [
        "application/json", "application/x-www-form-urlencoded"
    ]  # fmt: skip


def test_what_tokens_say_is_told_without_them(client: TestClient) -> None:
    answer = client.get("/api/v1/endpoints/ep0001/schema").json()
    assert answer["token_samples"] == 8 and answer["operations"] == []
    claims = {(one["claim"], one["value"]): one["sampled_calls"] for one in answer["tokens"]}
    assert claims == {("algorithm", "HS256"): 8, ("issuer", "id.example"): 8, ("lifetime", "900"): 8}
    page = client.get("/endpoints/ep0001").text
    assert "What tokens say" in page and "id.example" in page and "900 s at most" in page
    assert client.get("/api/v1/endpoints/ep0003/schema").json()["tokens"] == []


def test_operations_have_their_share_of_the_calls(client: TestClient) -> None:
    answer = client.get("/api/v1/endpoints/ep0003/schema").json()
    (operation,) = answer["operations"]
    assert (operation["name"], operation["sampled_calls"], operation["estimated_calls"]) == ("ListOrders", 8, 30)


def test_openapi_is_valid_and_holds_what_was_served(client: TestClient) -> None:
    document = client.get("/api/v1/services/orders:8080/openapi.json").json()
    OpenAPIV31SpecValidator(document).validate()
    assert set(document["paths"]) == {"/orders/{order_id}", "/graphql", "/orders"}
    item = document["paths"]["/orders/{order_id}"]
    assert set(item) == {"get", "post"}
    assert set(item["post"]["responses"]) == {"200", "404"}
    assert "content" not in item["get"]["responses"]["204"]
    schemes = document["components"]["securitySchemes"]
    assert schemes == {
        "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
        "header_x_shop_key": {"type": "apiKey", "in": "header", "name": "X-Shop-Key"},
    }
    assert item["post"]["security"] == [{"bearer": []}]
    names = {(one["in"], one["name"]) for one in document["paths"]["/orders"]["get"]["parameters"]}
    assert names == {("query", "limit")}, "a key is no parameter too"
    assert document["servers"] == [{"url": "http://b.example"}, {"url": "http://shop.example"}]


def test_postman(client: TestClient) -> None:
    collection: dict[str, Any] = client.get("/api/v1/services/orders:8080/postman.json").json()
    requests = [one["request"] for folder in collection["item"] for one in folder["item"]]
    assert len(requests) == 5  # Four endpoints, and the operation of one by itself.
    (order,) = [one for one in requests if one["method"] == "POST" and one["url"]["path"][0] == "orders"]
    assert order["url"]["path"] == ["orders", ":order_id"]
    assert order["auth"] == {
        "type": "bearer", "bearer": [{"key": "token", "value": "{{bearer_token}}", "type": "string"}]
    }  # fmt: skip
    (listed,) = [one for one in requests if one["method"] == "GET" and one["url"]["path"] == ["orders"]]
    assert listed["header"] == [{"key": "X-Shop-Key", "value": "{{header_x_shop_key}}", "disabled": False}]
    variables = {one["key"]: one["value"] for one in collection["variable"]}
    assert variables.keys() == {"baseUrl", "bearer_token", "header_x_shop_key"} and not variables["bearer_token"]
    assert order["url"]["variable"] == [{"key": "order_id", "value": "string"}]
    assert json.loads(order["body"]["raw"]) == {"items": [{"count": 0, "sku": "string"}]}


def test_services_and_what_is_none(client: TestClient) -> None:
    items = client.get("/api/v1/services").json()["items"]
    assert [(one["service"], one["endpoints"]) for one in items] == [("orders:8080", 6)]
    answer = client.get("/api/v1/services/nothing:1/openapi.json")
    assert answer.status_code == 404
    assert "nothing:1" in answer.json()["detail"]


def test_the_page_of_an_endpoint_shows_it(client: TestClient) -> None:
    page = client.get("/endpoints/ep0001").text
    assert "Parameters of the path" in page
    for shown in ("x-tenant-id", "items[].sku", "2xx response, application/json", "string (date-time)"):
        assert shown.lower() in page.lower()
    assert "ListOrders" in client.get("/endpoints/ep0003").text
