"""Operations that share one path are endpoints of their own: in the list, by id, in filters, documents and risk; and
the calls of their endpoint stay what the kernel counted."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from collector.api.services import ApiSettings, Services
from collector.inventory.endpoints.endpoints import EndpointInventory
from collector.inventory.endpoints.predicates import ConsumerSql
from collector.risk.assessment import RiskAssessor
from collector.server.app import build_app
from collector.storage.embedded import EmbeddedStore
from collector.storage.state.store import StateStore
from tests.collector.api.client import TestClient
from tests.collector.api.fakes import MemoryAlerts
from tests.collector.inventory.seed import NOW, Seed
from tests.collector.schemas.states import Node, tell_all
from tests.collector.states import create_state

pytestmark = pytest.mark.store

CALLS = 400
BEARER = 1 << 3
# Code of an e-mail address and a name in a response.
EMAIL, NAME = 129, 131
LIST: dict[str, Any] = {"query": "query ListOrders { orders { id } }", "variables": {"limit": 3}}
PAY: dict[str, Any] = {"query": "mutation PayOrder { pay { id } }", "variables": {"order_id": 7}}
TOOL: dict[str, Any] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "tools/call",
    "params": {"name": "search_orders", "arguments": {"query": "x"}},
}
BALANCE = {"jsonrpc": "2.0", "id": 1, "method": "getBalance", "params": {"account_id": 1}}


def fill(store: EmbeddedStore) -> None:
    """GraphQL of two operations on two nodes, 15 and 5 of 20 samples; MCP, JSON-RPC and SOAP; and a plain endpoint."""
    seed = Seed()
    seed.calls(seed.endpoint(1, "POST", "/graphql"), CALLS, authentication=BEARER)
    seed.calls(seed.endpoint(2, "POST", "/mcp", host="tools.example"), 7)
    seed.calls(seed.endpoint(3, "POST", "/rpc"), 3)
    seed.calls(seed.endpoint(4, "POST", "/soap"), 5)
    seed.calls(seed.endpoint(5, "GET", "/orders"), 11)
    seed.calls(seed.endpoint(6, "POST", "/graphql", host="old.example"), 9, minutes_ago=600)
    seed.write(store)
    nodes = [Node("a"), Node("b")]
    for number in range(15):
        nodes[number % 2].call(
            1, "/graphql", asked=LIST, told={"data": {"orders": [{"id": 1, "email": "a@example.org"}]}},
            consumer=1 + number % 3, data=(EMAIL, NAME),
        )  # fmt: skip
    for number in range(5):
        told = {"errors": [{"message": "no"}]} if number == 0 else {"data": {"pay": {"id": number}}}
        nodes[1].call(1, "/graphql", asked=PAY, told=told, consumer=9, authentication=BEARER)
    nodes[0].call(2, "/mcp", asked=TOOL, told={"jsonrpc": "2.0", "id": 1, "result": {"items": []}})
    nodes[0].call(3, "/rpc", asked=BALANCE, told={"jsonrpc": "2.0", "id": 1, "result": {"balance": 3}})
    nodes[0].call(4, "/soap", "SOAPAction: urn:GetOrder")
    store.insert_records("schemas", tell_all(nodes))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    opened = EmbeddedStore(tmp_path_factory.mktemp("store"))
    fill(opened)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def client(store: EmbeddedStore) -> Iterator[TestClient]:
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


def ask(client: TestClient, **query: object) -> list[dict[str, Any]]:
    page = client.get("/api/v1/endpoints", params={"limit": 500, **query}).json()
    items: list[dict[str, Any]] = page["items"]
    assert page["total"] == len(items)
    return items


def name(item: dict[str, Any]) -> str:
    return item["operation"]["name"] if item["operation"] else f"{item['method']} {item['template']}"


def find(client: TestClient, operation: str) -> dict[str, Any]:
    (found,) = ask(client, operation=operation)
    return found


def test_the_list_has_them_beside_their_endpoints_whose_calls_are_all_calls(client: TestClient) -> None:
    for since in ("1h", "24h", "7d"):
        items = ask(client, since=since)
        calls = {name(item): item["calls"] for item in items if item["host"] != "old.example"}
        # 15 and 5 of 20 samples.
        assert calls == {
            "POST /graphql": CALLS, "ListOrders": 300, "PayOrder": 100, "GET /orders": 11, "POST /mcp": 7,
            "search_orders": 7, "POST /soap": 5, "GetOrder": 5, "POST /rpc": 3, "getBalance": 3,
        }  # fmt: skip
        assert [item["is_estimated"] for item in items] == [item["operation"] is not None for item in items]
        whole = ask(client, since=since, operations="exclude")
        assert sum(item["calls"] for item in whole if item["host"] != "old.example") == CALLS + 7 + 3 + 5 + 11
        assert {item["kind"] for item in whole} == {"http"}
    parents = {item["id"]: item for item in ask(client)}
    for item in ask(client, operations="only"):
        assert parents[item["operation"]["parent_id"]]["template"] == item["template"]


@pytest.mark.parametrize("sort", ["calls", "last_seen", "first_seen", "template", "p95", "errors", "consumers", "risk"])
def test_every_sort_pages_through_all_of_them(client: TestClient, sort: str) -> None:
    seen: list[str] = []
    cursor = ""
    while True:
        page = client.get("/api/v1/endpoints", params={"sort": sort, "limit": 3, "cursor": cursor}).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert len(seen) == len(set(seen)) == page["total"] == len(ask(client))


def test_filters(client: TestClient) -> None:
    assert {name(item) for item in ask(client, protocol="graphql")} == {"ListOrders", "PayOrder"}
    assert [name(item) for item in ask(client, protocol="mcp")] == ["search_orders"]
    assert [name(item) for item in ask(client, protocol="json-rpc")] == ["getBalance"]
    assert [name(item) for item in ask(client, protocol="soap")] == ["GetOrder"]
    assert [name(item) for item in ask(client, q="payorder graphql")] == ["PayOrder"]
    assert [name(item) for item in ask(client, host="tools.example", operations="only")] == ["search_orders"]
    assert {name(item) for item in ask(client, auth="bearer_jwt")} == {"POST /graphql", "PayOrder"}
    assert "ListOrders" in {name(item) for item in ask(client, auth="none")}
    assert ask(client, operation="ListOrders", operations="exclude") == []
    assert ask(client, operation="nothing") == []
    assert client.get("/api/v1/endpoints?operations=some").status_code == 422


def test_one_of_them(client: TestClient) -> None:
    listed, paid = find(client, "ListOrders"), find(client, "PayOrder")
    assert (listed["kind"], paid["kind"]) == ("graphql query", "graphql mutation")
    assert paid["operation"] == {
        "parent_id": "ep0001", "protocol": "graphql", "kind": "mutation", "name": "PayOrder",
        "sampled_calls": 5, "sampled_errors": 1, "samples": 20,
    }  # fmt: skip
    # What its own samples say, not its path's.
    assert (listed["authentication"]["level"], paid["authentication"]["level"]) == ("none", "full")
    assert paid["authentication"]["kinds"] == {"bearer_jwt": 100}
    # The greater of two nodes: who called both cannot be told.
    assert (listed["consumers"], paid["consumers"]) == (3, 1)
    assert {one["kind"] for one in listed["bodies"]["data"]} == {"email", "person_name"}
    assert paid["bodies"]["data"] == []
    assert (paid["latency_ms"], paid["latency_max_ms"], paid["time_to_first_byte_ms"]) == (None, None, None)
    assert sum(paid["status"].values()) == paid["calls"]
    detail = client.get(f"/api/v1/endpoints/{paid['id']}").json()
    assert {key: detail[key] for key in paid} == paid
    assert (detail["series"], detail["top_consumers"], detail["status_codes"]) == ([], [], {})
    assert [one["shape"] for one in detail["routes"]] == ["/graphql"]


def test_schemas_of_them(client: TestClient) -> None:
    own = client.get(f"/api/v1/endpoints/{find(client, 'ListOrders')['id']}/schema").json()
    (asked,), (told,) = own["requests"], own["responses"]
    assert asked["schema"]["properties"] == {"limit": {"type": "integer", "format": "int32"}}
    assert told["schema"]["properties"]["orders"]["items"]["properties"].keys() == {"id", "email"}
    assert own["operations"] == []
    whole = client.get("/api/v1/endpoints/ep0001/schema").json()
    assert [(one["name"], one["estimated_calls"]) for one in whole["operations"]] == [
        ("ListOrders", 300), ("PayOrder", 100)
    ]  # fmt: skip
    assert {"query", "variables"} <= whole["requests"][0]["schema"]["properties"].keys()
    assert whole["operations"][0]["endpoint_id"] == find(client, "ListOrders")["id"]


def test_documents(client: TestClient) -> None:
    document = client.get("/api/v1/services/orders:8080/openapi.json").json()
    OpenAPIV31SpecValidator(document).validate()
    shared = document["paths"]["/graphql"]["post"]["x-apidae-operations"]
    assert [(one["name"], one["shareOfCalls"]) for one in shared] == [("ListOrders", 0.75), ("PayOrder", 0.25)]
    assert shared[0]["parameters"]["properties"]["limit"]["type"] == "integer"
    assert document["paths"]["/graphql"]["post"]["x-apidae-calls"] == CALLS + 9
    collection = client.get("/api/v1/services/orders:8080/postman.json").json()
    names = {one["name"] for folder in collection["item"] for one in folder["item"]}
    assert {"POST /graphql", "POST /graphql ListOrders", "POST /mcp search_orders", "POST /rpc getBalance"} <= names


def test_pages(client: TestClient) -> None:
    paid = find(client, "PayOrder")
    assert f'href="/endpoints/{paid["id"]}' in client.get("/endpoints").text
    page = client.get(f"/endpoints/{paid['id']}").text
    assert "PayOrder" in page
    assert "estimated" in page
    assert "Busiest consumers" not in page
    assert f'href="/endpoints/{paid["id"]}' in client.get("/endpoints/ep0001").text


def test_risk_of_them_alarms_nobody_twice(store: EmbeddedStore, sqlite_state: StateStore, client: TestClient) -> None:
    reports: list[Any] = []
    inventory = EndpointInventory(reader=store, who=ConsumerSql())
    assessor = RiskAssessor(
        store=store, state=sqlite_state, endpoints=inventory, clock=lambda: NOW, alarm=reports.extend
    )
    assessor.look()
    listed = find(client, "ListOrders")
    assert listed["risk"] is not None
    found = assessor.table.read_findings([listed["id"]])[listed["id"]]
    rules = {one.rule for one in found}
    assert {one.url_template for one in found} == {"/graphql ListOrders"}
    # On the path most calls carry credentials; that one operation gives personal data without shows only there.
    assert "personal_data_without_authentication" in rules
    assert find(client, "PayOrder")["risk"] is not None
    operations = {item["id"] for item in ask(client, operations="only")}
    assert not operations & {report.endpoint_id for report in reports}
