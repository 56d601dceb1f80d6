"""Servers of the Model Context Protocol as assets: what sensors reported, in the API, the export and the pages."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any
from urllib.parse import quote

import pytest

from collector.core.kinds import ConsumerKind
from collector.erasure import TableEraser, find_mention
from collector.inventory import mcp, mcp_states
from collector.inventory.consumers.consumer import ConsumerName
from collector.inventory.endpoints.endpoints import EndpointInventory
from collector.inventory.endpoints.predicates import ConsumerSql
from collector.inventory.mcp import McpInventory
from collector.inventory.mcp_states import find_answering, read_routes, read_states
from collector.inventory.query import Since, span_since
from collector.receiver.schemas import SchemaRecord
from collector.storage.embedded import EmbeddedStore
from tests.collector.api.client import TestClient
from tests.collector.inventory.asking import open_client, read
from tests.collector.inventory.mcp_server import INTRODUCTION, ask, make_tool, tell_server
from tests.collector.inventory.seed import NOW, Seed
from tests.collector.schemas.states import Node, tell_all

pytestmark = pytest.mark.store

MARKER = "canary-7f3a"
TOOLS = [make_tool(name, MARKER) for name in ("get_forecast", "get_alerts")]


def fill(store: EmbeddedStore) -> None:
    """One server of each transport."""
    seed = Seed()
    seed.calls(seed.endpoint(1, "POST", "/mcp"), 7)
    seed.calls(seed.endpoint(2, "GET", "/files/sse", host="files.example"), 2)
    seed.calls(seed.endpoint(3, "POST", "/files/messages/", host="files.example"), 5)
    seed.calls(seed.endpoint(4, "POST", "/orders"), 3)
    seed.calls(seed.endpoint(5, "POST", "/stock", host="stock.example"), 3)
    seed.calls(seed.endpoint(6, "GET", "/orders"), 3)
    seed.write(store)
    nodes = [Node("a"), Node("b")]
    for node in nodes:
        ask(node, 1, "initialize", INTRODUCTION)
    ask(nodes[1], 1, "server/discover", {"supportedVersions": ["2025-06-18"], "capabilities": {}})
    ask(nodes[0], 1, "tools/list", {"tools": TOOLS})
    ask(nodes[0], 1, "prompts/list", {"prompts": [{"name": "greet"}]})
    for node in nodes:
        ask(node, 1, "tools/call", {"content": []}, params={"name": "get_forecast", "arguments": {"city": MARKER}})
    ask(nodes[0], 1, "tools/call", {"content": []}, params={"name": "get_alerts"}, address="10.0.0.10")
    ask(nodes[0], 2, "", {"tools": [make_tool("read_file")]}, verb="GET")
    ask(nodes[0], 3, "tools/call", None, params={"name": "read_file"}, status=202)
    ask(nodes[0], 4, "tools/call", {"id": 7}, params={"name": "get_alerts"})  # It takes whatever comes.
    records = tell_all(nodes)
    assert not any(MARKER in record.fields + record.operations for record in records)
    store.insert_records("schemas", [*records, *tell_replicas()])


def make_item(name: str, last_seen: float, *pins: tuple[str, float]) -> dict[str, Any]:
    """As a sensor reports one that it saw for a day, with pins and when each was listed last."""
    times = {"first_seen": int(last_seen) - 86_400, "last_seen": int(last_seen)}
    return {
        "kind": 1,
        "name": name,
        "id": f"{len(name):016x}",
        "description": "d",
        "schema": "s",
        "arguments": [],
        "hints": [False, None, None],
        "pins": [[pin, "s", int(last) - 86_400, int(last)] for pin, last in pins or [("d", last_seen)]],
        "pins_left_out": 2,
        **times,
    }


def tell_replicas() -> list[SchemaRecord]:
    """Two nodes of which one has another key and an older list, and could not read the newest to its end."""
    base = {"name": "", "version": "2", "protocol_versions": [], "transports": [1], "pin_version": 1, "left_out": 0}
    old = {
        **base,
        "key_id": 1,
        "items": [make_item("get_stock", NOW - 9_000, ("bad", NOW - 20_000), ("d", NOW - 9_000))],
        "lists": [{"kind": 1, "read": int(NOW) - 9_000, "unread": int(NOW) - 60, "unread_count": 1, "left_out": 3}],
    }
    old["items"].append(make_item("drop_stock", NOW - 9_000))
    new = {
        **base,
        "key_id": 2,
        "items": [make_item("get_stock", NOW - 300, ("e", NOW - 300))],
        "lists": [{"kind": 1, "read": int(NOW) - 300, "unread": 0, "unread_count": 0, "left_out": 0}],
    }
    record = next(one for one in tell_server(5, ["get_stock"]) if one.part == 240)
    return [
        replace(record, node=node, fields=json.dumps(state), operations="[]")
        for node, state in (("a", old), ("b", new))
    ]


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


def find(client: TestClient, path: str) -> Any:
    (listed,) = [one for one in read(client, "mcp/servers")["items"] if one["path"] == path]
    return read(client, f"mcp/servers/{listed['id']}")


def test_a_server_is_listed_with_what_it_says_of_itself(client: TestClient) -> None:
    server = find(client, "/mcp")
    assert (server["name"], server["version"]) == ("weather-server", "1.2.0")
    assert server["protocol_versions"] == ["2025-06-18"]
    assert (server["transports"], server["tools"], server["prompts"]) == (["streamable_http"], 2, 1)
    assert (server["calls"], server["clients"]) == (7, 2)
    assert server["sessions"] == 2  # What is asked without a session begins none.
    tool = next(one for one in server["items"] if one["name"] == "get_forecast")
    assert tool["arguments"] == [{"name": "city", "type": "string", "is_required": True}]
    assert (tool["sampled_calls"], tool["clients"]) == (2, 1)


def test_a_caller_alone_makes_no_server(client: TestClient) -> None:
    assert {one["path"] for one in read(client, "mcp/servers")["items"]} == {"/mcp", "/files/", "/stock"}


def test_a_server_has_the_id_of_its_endpoint_and_is_known_as_long(client: TestClient) -> None:
    server = find(client, "/mcp")
    assert server["id"] == server["endpoint_ids"][0] == "ep0001"
    first_seen = datetime.fromisoformat(server["first_seen"]).timestamp()
    assert first_seen == NOW - 3 * 86_400  # Beyond the span.
    # By whichever of its endpoints.
    files = find(client, "/files/")
    assert {read(client, f"mcp/servers/{one}")["id"] for one in files["endpoint_ids"]} == {files["id"]}


def test_all_pins_of_all_sensors_are_kept_with_their_keys(client: TestClient) -> None:
    item = find(client, "/stock")["items"][0]
    assert [(one["description_hash"], one["key_id"]) for one in item["pins"]] == [("e", 2), ("d", 1), ("bad", 1)]
    assert item["changed_at"] is None  # Hashes of one key say so.


def test_a_tool_that_a_later_whole_list_lacks_is_no_longer_listed(client: TestClient) -> None:
    server = find(client, "/stock")
    assert [(one["name"], one["is_listed"]) for one in server["items"]] == [("get_stock", True), ("drop_stock", False)]
    assert server["tools"] == 1
    assert read(client, "mcp/servers?tool=drop_stock")["total"] == 0


def test_what_is_not_said_of_a_tool_is_null_and_may_destroy(client: TestClient) -> None:
    item = find(client, "/stock")["items"][0]
    assert (item["is_destructive"], item["may_destroy"]) == (None, True)


def test_a_list_that_was_not_read_is_shown(client: TestClient) -> None:
    server = find(client, "/stock")
    assert server["left_out"] == 3
    assert datetime.fromisoformat(server["unread_at"]).timestamp() == int(NOW) - 60
    page = client.get(f"/mcp/{server['id']}").text
    assert 'id="unread"' in page
    assert 'id="left-out"' in page
    assert 'id="unread"' not in client.get(f"/mcp/{find(client, '/mcp')['id']}").text


def test_only_routes_with_a_state_are_read_in_full(store: EmbeddedStore) -> None:
    asked: list[tuple[str, object]] = []

    class Watched:
        def query_columns(self, sql: str, parameters: Mapping[str, Any] | None = None) -> dict[str, list[Any]]:
            asked.append((sql, (parameters or {}).get("routes")))
            return store.query_columns(sql, parameters)

    reader = Watched()
    assert {one.route_id for one in read_states(reader, read_routes(reader))} == {1, 2, 3, 4, 5}
    full = [routes for sql, routes in asked if "fields, toUnixTimestamp(time) AS told_at FROM schemas" in sql]
    assert full == [[1, 2, 3, 4, 5]]


def test_endpoints_that_answered_as_servers_are_found_among_those_that_are_asked(store: EmbeddedStore) -> None:
    paths = {one.endpoint_id: one.path for one in read_states(store, read_routes(store))}
    assert {paths[one] for one in find_answering(store, list(paths))} == {"/mcp", "/files/sse", "/stock"}
    assert [paths[one] for one in find_answering(store, [next(iter(paths))])] == ["/mcp"]
    assert find_answering(store, []) == frozenset()


def test_servers_and_routes_beyond_what_is_read_are_counted(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = McpInventory(reader=store, endpoints=EndpointInventory(reader=store, who=ConsumerSql()))
    span = span_since(Since.DAY, NOW)
    whole = servers.read_all(span)
    monkeypatch.setattr(mcp, "ENDPOINTS_MAX", 1)
    cut = servers.read_all(span)
    assert whole.left_out == 0
    assert len(cut.servers) + cut.left_out == len(whole.servers)
    monkeypatch.setattr(mcp_states, "_SIZES", mcp_states._SIZES.replace(str(mcp_states.ROUTES_MAX), "1"))
    routes = read_routes(store)
    assert len(routes.groups) == 1
    assert routes.left_out > 1


def test_callers_of_what_is_no_server_are_not_measured(store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mcp, "ENDPOINTS_MAX", 4)
    endpoints = EndpointInventory(reader=store, who=ConsumerSql())
    servers = McpInventory(reader=store, endpoints=endpoints).read_all(span_since(Since.DAY, NOW))
    assert {one.path for one in servers.servers} == {"/mcp", "/files/", "/stock"}


def test_a_sensor_whose_clock_is_ahead_saw_nothing_later_than_the_collector_got_it() -> None:
    state = {
        "key_id": 1,
        "name": "",
        "version": "",
        "protocol_versions": [],
        "transports": [],
        "items": [make_item("get_stock", NOW + 90_000)],
        "lists": [{"kind": 1, "read": int(NOW) + 90_000, "unread": int(NOW) + 90_000, "left_out": 0}],
    }
    place = {"endpoint_id": "e", "cluster": "", "service": "s", "path": "/mcp", "first_seen": int(NOW)}

    class Told:
        def query_columns(self, sql: str, parameters: Mapping[str, Any] | None = None) -> dict[str, list[Any]]:
            rows: dict[str, dict[str, Any]] = {"sum(": {"size": 1, "routes": 1}, "n.route_id": place}
            found = next((row for sign, row in rows.items() if sign in sql), None)
            row = found or {"fields": json.dumps(state), "told_at": int(NOW)}
            return {name: [value] for name, value in {"route_id": 1, **row}.items()}

    reader = Told()
    (known,) = read_states(reader, read_routes(reader))
    assert [(one.read_at, one.unread_at) for one in known.lists] == [(int(NOW), int(NOW))]
    assert [(pin.first_seen, pin.last_seen) for item in known.items for pin in item.pins] == [(int(NOW), int(NOW))]


def test_texts_that_sensors_did_not_keep_are_counted(store: EmbeddedStore) -> None:
    items = [item for state in read_states(store, read_routes(store)) if state.path == "/stock" for item in state.items]
    assert [one.pins_left_out for one in items] == [2, 2, 2]


def test_who_uses_a_tool_is_summed_over_sensors(client: TestClient) -> None:
    uses = [(one["consumer"], one["name"], one["sampled_calls"]) for one in find(client, "/mcp")["uses"]]
    assert uses == [("address:10.0.0.9", "get_forecast", 2), ("address:10.0.0.10", "get_alerts", 1)]
    by_tool = {one["name"]: one["consumers"] for one in find(client, "/mcp")["items"] if one["kind"] == "tool"}
    assert by_tool == {"get_forecast": ["address:10.0.0.9"], "get_alerts": ["address:10.0.0.10"]}


def test_both_paths_of_the_older_transport_are_one_server(client: TestClient) -> None:
    server = find(client, "/files/")
    assert (server["transports"], server["calls"], len(server["endpoint_ids"])) == (["sse"], 7, 2)
    assert [(one["name"], one["sampled_calls"]) for one in server["items"]] == [("read_file", 1)]
    # Answers come elsewhere than their calls: nobody knows whether those failed.
    assert server["items"][0]["sampled_errors"] is server["uses"][0]["sampled_errors"] is None


@pytest.mark.parametrize(
    ("query", "paths"),
    [
        ("tool=get_alerts", ["/mcp"]),
        ("transport=sse", ["/files/"]),
        ("q=weather", ["/mcp"]),
        ("auth=none", ["/files/", "/mcp", "/stock"]),
        ("exposure=external", []),
    ],
)
def test_filters_of_the_list(client: TestClient, query: str, paths: list[str]) -> None:
    assert sorted(one["path"] for one in read(client, f"mcp/servers?{query}")["items"]) == paths


def test_the_list_has_pages(client: TestClient) -> None:
    first = read(client, "mcp/servers?limit=1")
    second = read(client, f"mcp/servers?limit=1&cursor={first['next_cursor']}")
    third = read(client, f"mcp/servers?limit=1&cursor={second['next_cursor']}")
    assert first["total"] == 3
    paths = [page["items"][0]["path"] for page in (first, second, third)]
    assert sorted(paths) == ["/files/", "/mcp", "/stock"]
    assert third["next_cursor"] is None


def test_the_list_is_exported(client: TestClient) -> None:
    text = client.get("/api/v1/exports/mcp/servers.csv").text
    assert "weather-server" in text
    assert len(text.splitlines()) == 4


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("kind=prompt", ["greet"]),
        ("may_destroy=true&q=stock", ["drop_stock", "get_stock"]),
        ("may_destroy=false", ["greet"]),
        ("q=orders+forecast", ["get_forecast"]),
        ("server=ep0003", ["read_file"]),
        ("exposure=external", []),
    ],
)
def test_tools_of_all_servers_are_a_list(client: TestClient, query: str, names: list[str]) -> None:
    found = read(client, f"mcp/tools?{query}")
    assert sorted(one["item"]["name"] for one in found["items"]) == sorted(names)
    assert found["total"] == len(names)


def test_tools_of_all_servers_have_pages_and_an_export(client: TestClient) -> None:
    names, cursor = [], ""
    while True:
        page = read(client, f"mcp/tools?limit=2{cursor}")
        names += [one["item"]["id"] for one in page["items"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={quote(page['next_cursor'])}"
    assert len(names) == page["total"]
    lines = client.get("/api/v1/exports/mcp/tools.csv").text.splitlines()
    assert len(lines) == 1 + page["total"]
    assert any("get_forecast" in line and "address:10.0.0.9" in line for line in lines)


def test_an_unknown_server_is_refused_in_one_sentence(client: TestClient) -> None:
    answer = client.get("/api/v1/mcp/servers/nothing")
    assert answer.status_code == 404
    assert "'nothing'" in answer.json()["detail"]


def test_pages_show_the_list_and_a_server(client: TestClient) -> None:
    server = find(client, "/mcp")
    assert "weather-server" in client.get("/mcp").text
    page = client.get(f"/mcp/{server['id']}").text
    assert all(text in page for text in ("get_forecast", "10.0.0.9", "2025-06-18"))
    assert client.get("/mcp?transport=smoke").status_code == 422
    assert "No MCP server matches" in client.get("/mcp?tool=nothing").text


def test_an_erased_consumer_uses_nothing(store: EmbeddedStore) -> None:
    node = Node("c")
    for address in ("10.0.0.78", "10.0.0.7", "10.0.0.77"):
        ask(node, 1, "tools/call", {"content": []}, params={"name": "get_alerts"}, address=address)
    store.insert_records("schemas", node.tell())
    consumer = ConsumerName(kind=ConsumerKind.ADDRESS, value="10.0.0.77")
    TableEraser(store, store.layout).erase(consumer, find_mention(consumer))
    ((text,),) = store.query("SELECT operations FROM schemas FINAL WHERE part = 241 AND node = 'c'")
    assert [one["client_address"] for one in json.loads(text)] == ["address:10.0.0.78", "address:10.0.0.7"]
