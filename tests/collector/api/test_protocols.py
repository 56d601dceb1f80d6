"""What HTTP/2, gRPC, WebSocket and server-sent events calls are, and whose credentials nobody saw: over the API."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from collector.api.services import ApiSettings, Services
from collector.server.app import build_app
from collector.storage.embedded import EmbeddedStore
from tests.collector.api.client import TestClient
from tests.collector.api.fakes import MemoryAlerts
from tests.collector.inventory.seed import NOW, Seed, write_watch
from tests.collector.states import create_state

pytestmark = pytest.mark.store

UNSEEN = 1 << 18
JWT = 8
NO_HISTOGRAM = {"duration": {"1": [], "2": []}}
GRPC, GRPC_WEB, CONNECT, WEBSOCKET = 1, 2, 3, 4


def make_seed() -> Seed:
    seed = Seed()
    get = seed.endpoint(1, "POST", "/shop.v1.Orders/Get")
    grpc = {"protocol_version": "2", "kind": GRPC, "request_content_type": "application/grpc"}
    seed.calls(get, 90, rpc_status=1, authentication=JWT, **grpc)
    seed.calls(get, 6, rpc_status=6, authentication=JWT, **grpc)  # NOT_FOUND
    seed.calls(get, 4, rpc_status=14, authentication=JWT, **grpc)  # INTERNAL
    watch = seed.endpoint(2, "POST", "/shop.v1.Orders/Watch")
    seed.calls(watch, 3, flags=1 << 11, authentication=UNSEEN, **grpc, **NO_HISTOGRAM)  # Told early: no status yet.
    ended = {"ended_later": 2, "streams": 2, "stream_duration_sum_us": 50_000_000, "counted_messages_calls": 2}
    seed.calls(
        watch, 0, rpc_status=1, flags=1 << 14, request_messages=2, response_messages=17, **grpc, **ended, **NO_HISTOGRAM
    )
    chat = seed.endpoint(3, "GET", "/chat")
    messages = {"counted_messages_calls": 1, "request_messages": 5, "response_messages": 8}
    lasting = {"streams": 1, "stream_duration_sum_us": 60_000_000, "time_to_first_byte_sum_us": 4_000}
    seed.calls(chat, 1, kind=WEBSOCKET, status_code=101, authentication=JWT, **messages, **lasting, **NO_HISTOGRAM)
    events = seed.endpoint(4, "GET", "/events")
    seed.calls(events, 2, response_content_type="text/event-stream", time_to_first_byte_sum_us=6_000, **NO_HISTOGRAM)
    plain = seed.endpoint(5, "GET", "/orders/{order_id}")
    seed.calls(plain, 10, authentication=JWT)
    seed.calls(plain, 30, authentication=UNSEEN, flags=1 << 5)
    seed.calls(plain, 5, protocol_version="2", authentication=JWT)
    busy = seed.endpoint(6, "GET", "/busy")
    seed.calls(busy, 8, authentication=UNSEEN, flags=1 << 5)
    buy = seed.endpoint(7, "POST", "/shop.v1.Orders/Buy")
    seed.calls(buy, 2, kind=CONNECT, rpc_status=1)
    seed.calls(buy, 1, kind=CONNECT, status_code=404)
    transfer = seed.endpoint(8, "POST", "/transfers")
    seed.calls(transfer, 40)
    seed.calls(transfer, 1, flags=1 << 10)  # Its end is read in two ways.
    return seed


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    store = EmbeddedStore(tmp_path_factory.mktemp("store"))
    make_seed().write(store)
    registry = write_watch(store)
    app = build_app(
        Services(
            store=store,
            state=create_state(),
            registry=registry,
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


@pytest.fixture(params=["1h", "24h", "7d"])
def by_template(client: TestClient, request: pytest.FixtureRequest) -> dict[str, Any]:
    """The list by each of the tables that answer for a span."""
    answer = client.get("/api/v1/endpoints", params={"since": request.param}).json()
    return {item["template"]: item for item in answer["items"]}


def test_a_method_of_grpc_has_its_names_and_statuses_and_its_errors_count(by_template: dict[str, Any]) -> None:
    get = by_template["/shop.v1.Orders/Get"]
    assert get["protocols"] == ["grpc"]
    assert get["rpc"] == {
        "system_name": "grpc", "service": "shop.v1.Orders", "method": "shop.v1.Orders/Get", "streaming": "unknown",
        "status_codes": {"OK": 90, "NOT_FOUND": 6, "INTERNAL": 4},
    }  # fmt: skip
    assert (get["status"]["2xx"], get["status"]["4xx"], get["status"]["5xx"]) == (90, 6, 4)
    assert get["authentication"]["coverage"] == 1
    assert by_template["/orders/{order_id}"]["rpc"] is None


def test_a_stream_has_the_time_it_was_open_and_no_latency(by_template: dict[str, Any]) -> None:
    watch, chat, events = (by_template[name] for name in ("/shop.v1.Orders/Watch", "/chat", "/events"))
    assert (watch["calls"], watch["streams"]) == (3, {"calls": 2, "open_seconds": 25.0})
    assert watch["rpc"]["streaming"] == "server_streaming"
    assert watch["rpc"]["status_codes"] == {"OK": 2}
    assert watch["messages"] == {"calls": 2, "request": 2, "response": 17}
    assert watch["has_unknown_fields"] and not watch["is_inferred"] and not watch["is_lossy"]
    assert (chat["protocols"], chat["streams"]["open_seconds"], chat["time_to_first_byte_ms"]) == (["websocket"], 60, 4)
    assert (chat["tier"], chat["status"]["2xx"]) == ("confirmed", 1)
    assert chat["messages"] == {"calls": 1, "request": 5, "response": 8}
    assert (events["protocols"], events["time_to_first_byte_ms"]) == (["server-sent events"], 3)
    assert all(one["latency_ms"] is None for one in (watch, chat, events))


def test_requests_that_end_in_two_ways_are_told(by_template: dict[str, Any]) -> None:
    transfer = by_template["/transfers"]
    assert (transfer["calls"], transfer["has_ambiguous_requests"], transfer["is_lossy"]) == (41, True, False)
    assert [name for name, one in by_template.items() if one["has_ambiguous_requests"]] == ["/transfers"]


def test_coverage_leaves_out_the_calls_that_nobody_saw_into(by_template: dict[str, Any]) -> None:
    plain, busy = by_template["/orders/{order_id}"]["authentication"], by_template["/busy"]["authentication"]
    assert (plain["coverage"], plain["unseen_calls"], plain["level"]) == (1, 30, "full")
    assert plain["kinds"] == {"bearer_jwt": 15}
    assert (busy["coverage"], busy["unseen_calls"], busy["level"], busy["kinds"]) == (None, 8, "unknown", {})


@pytest.mark.parametrize("since", ["1h", "24h", "7d"])
@pytest.mark.parametrize(
    ("asked", "templates"),
    [
        ({"protocol": "grpc"}, {"/shop.v1.Orders/Get", "/shop.v1.Orders/Watch"}),
        ({"protocol": "connect"}, {"/shop.v1.Orders/Buy"}),
        ({"protocol": "websocket"}, {"/chat"}),
        ({"protocol": "server-sent events"}, {"/events"}),
        ({"protocol": "http/2"}, {"/orders/{order_id}"}),
        ({"protocol": "http/1.1", "q": "order_id"}, {"/orders/{order_id}"}),
        ({"protocol": "grpc-web"}, set()),
        ({"auth": "full"}, {"/orders/{order_id}", "/shop.v1.Orders/Get", "/chat"}),
        ({"auth": "unknown"}, {"/busy", "/shop.v1.Orders/Watch"}),
    ],
)
def test_filters(client: TestClient, asked: dict[str, str], templates: set[str], since: str) -> None:
    answer = client.get("/api/v1/endpoints", params={**asked, "since": since}).json()
    assert {item["template"] for item in answer["items"]} == templates


def test_an_unknown_protocol_is_refused_by_name(client: TestClient) -> None:
    answer = client.get("/api/v1/endpoints", params={"protocol": "spdy"})
    assert answer.status_code == 422
    assert "spdy" in answer.json()["detail"]


def test_errors_of_grpc_are_in_the_series_and_of_its_consumers(client: TestClient) -> None:
    detail = client.get("/api/v1/endpoints/ep0001", params={"since": "1h"}).json()
    assert sum(point["errors"] for point in detail["series"]) == 4
    assert detail["top_consumers"][0]["errors"] == 4
    assert detail["status_codes"] == {"200": 100}


def test_the_page_shows_the_protocol_and_filters_by_it(client: TestClient) -> None:
    page = client.get("/endpoints", params={"protocol": "grpc"})
    assert page.status_code == 200
    assert "/shop.v1.Orders/Get" in page.text and "/chat" not in page.text
    assert '<option value="grpc" selected>gRPC</option>' in page.text
    detail = client.get("/endpoints/ep0001").text
    assert "shop.v1.Orders/Get" in detail and "NOT_FOUND" in detail and "INTERNAL" in detail
    assert "server streaming" in client.get("/endpoints/ep0002").text
    assert "Open" in client.get("/endpoints/ep0003").text
