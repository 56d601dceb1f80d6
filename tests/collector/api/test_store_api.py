"""The API and the page against the embedded store: what a client gets for real rows."""

import base64
import json
from collections.abc import Iterator
from datetime import datetime
from html import escape
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from collector.api.services import ApiSettings, Services
from collector.inventory.templates.table import EndpointAliasRecord
from collector.server.app import build_app
from collector.storage.embedded import EmbeddedStore
from tests.collector.api.client import TestClient
from tests.collector.api.fakes import MemoryAlerts, make_alert
from tests.collector.inventory.seed import FALLBACK_REASON, NOW, Seed, write_watch
from tests.collector.states import create_state

pytestmark = pytest.mark.store

TOKEN = "correct-horse"
HOSTILE = '<script>alert("x")</script>'
SORTS = ("calls", "last_seen", "first_seen", "template", "p95", "errors", "authentication", "consumers")


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    store = EmbeddedStore(tmp_path_factory.mktemp("store"))
    seed = Seed()
    orders = seed.endpoint(1, "GET", "/orders/{order_id}")
    login = seed.endpoint(2, "POST", "/login", workload="auth")
    guess = seed.endpoint(3, "GET", "/wp-admin")
    charges = seed.endpoint(4, "GET", "/v1/charges", host="api.pay.example", workload="api.pay.example")
    twin = seed.endpoint(5, "GET", "/orders/{order_id}", workload="10.0.0.7")
    hostile = seed.endpoint(6, "GET", f"/{HOSTILE}", host=HOSTILE)
    seed.calls(orders, 100, principal=77, principal_kind=1, authentication=8, objects=[1, 2, 3], objects_count=3)
    seed.calls(orders, 20, minutes_ago=5)
    seed.calls(orders, 5, status_code=500)
    seed.calls(login, 50)
    seed.calls(guess, 7, status_code=404)
    seed.calls(charges, 9, role=2, client_workload="orders")
    seed.calls(twin, 100, role=2)
    seed.calls(hostile, 1)
    seed.write(store)
    store.insert_records("endpoint_aliases", [EndpointAliasRecord(endpoint_id="former", version=1, route_id=1)])
    registry = write_watch(store)
    app = build_app(
        Services(
            store=store,
            state=create_state(),
            registry=registry,
            alerts=MemoryAlerts(make_alert("a1"), make_alert("a2", title=HOSTILE, opened_at=NOW - 90)),
            settings=ApiSettings(token=TOKEN, version="0.1.0", htmx_path=Path("/nonexistent")),
            clock=lambda: NOW,
            readiness=lambda: "",
            metrics=lambda _: (b"", "text/plain"),
        )
    )
    with TestClient(app, headers={"authorization": f"Bearer {TOKEN}"}) as opened:
        yield opened
    store.close()


def test_counts_calls_once_and_says_what_was_seen(client: TestClient) -> None:
    answer = client.get("/api/v1/endpoints").json()
    by_id = {item["id"]: item for item in answer["items"]}
    assert answer["total"] == len(by_id) == 5
    assert "ep0005" not in by_id  # Seen at the client, and its server is watched.
    orders = by_id["ep0001"]
    assert (orders["calls"], orders["status"]["2xx"], orders["status"]["5xx"]) == (125, 120, 5)
    assert orders["authentication"]["coverage"] == pytest.approx(100 / 120)
    assert orders["consumers"] == 2
    assert by_id["ep0003"]["tier"] == "probed"
    assert by_id["ep0004"]["seen_at"] == "client"


@pytest.mark.parametrize("since", ["24h", "7d"])
@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("sort", SORTS)
def test_pages_hold_every_endpoint_once_in_one_order(client: TestClient, sort: str, order: str, since: str) -> None:
    asked = {"sort": sort, "order": order, "since": since}
    whole = [item["id"] for item in client.get("/api/v1/endpoints", params=asked).json()["items"]]
    paged, cursor = [], ""
    while cursor is not None:
        answer = client.get("/api/v1/endpoints", params={**asked, "limit": 1, "cursor": cursor}).json()
        paged += [item["id"] for item in answer["items"]]
        cursor = answer["next_cursor"]
    assert paged == whole
    assert len(set(paged)) == 5


LISTS = (
    *(("endpoints", {"sort": sort}) for sort in SORTS),
    ("consumers", {}),
    ("calls", {"address": "10.0.0.9", "start": "1970-01-01T00:00:00Z", "end": "2105-12-31T00:00:00Z"}),
    ("alerts", {}),
)


@pytest.mark.parametrize(("path", "asked"), LISTS)
def test_a_cursor_that_somebody_made_is_a_page_or_refused(client: TestClient, path: str, asked: dict[str, str]) -> None:
    given = {**asked, "limit": "1"}
    word = client.get(f"/api/v1/{path}", params=given).json()["next_cursor"]
    question, _, name = json.loads(base64.urlsafe_b64decode(word + "=="))
    values = (0, -1, 1e308, -1e308, 2**63, 2**64, 1e-300, True, None, "x", "\ud800", "\x00", [], "9" * 400)
    made = [*((value, name) for value in values), *((0, text) for text in ("", "\ud800", "\x00", "x" * 1_000))]
    for parts in made:
        forged = base64.urlsafe_b64encode(json.dumps([question, *parts]).encode()).decode().rstrip("=")
        answer = client.get(f"/api/v1/{path}", params={**given, "cursor": forged})
        assert answer.status_code in (200, 422), (parts, answer.text)


@pytest.mark.parametrize(
    ("asked", "ids"),
    [
        ({"q": "ORDERS get"}, {"ep0001", "ep0003", "ep0006"}),
        ({"method": "post"}, {"ep0002"}),
        ({"service": "auth"}, {"ep0002"}),
        ({"service": "auth:8080"}, {"ep0002"}),
        ({"host": "api.pay.example"}, {"ep0004"}),
        ({"tier": "probed"}, {"ep0003"}),
        ({"auth": "none"}, {"ep0002", "ep0004", "ep0006"}),
        ({"auth": "partial"}, {"ep0001"}),
        ({"auth": "unknown"}, {"ep0003"}),
        ({"auth": "bearer_jwt"}, {"ep0001"}),
        ({"q": "%' OR 1=1 --"}, set()),
    ],
)
def test_filters(client: TestClient, asked: dict[str, str], ids: set[str]) -> None:
    answer = client.get("/api/v1/endpoints", params=asked).json()
    assert {item["id"] for item in answer["items"]} == ids
    assert answer["total"] == len(ids)


def test_endpoint_detail(client: TestClient) -> None:
    detail = client.get("/api/v1/endpoints/ep0001", params={"since": "1h"}).json()
    assert detail["series_step_seconds"] == 60
    assert [point["calls"] for point in detail["series"]] == [20, 105]
    assert detail["status_codes"] == {"200": 120, "500": 5}
    assert detail["top_consumers"][0]["id"] == "principal:000000000000004d"
    assert detail["top_consumers"][0]["objects"] == 3
    assert detail["routes"][0]["shape"] == "/orders/{integer}"


@pytest.mark.parametrize("other_id", [f"{1:016x}", "former"])
def test_an_endpoint_is_found_by_a_former_id_and_by_a_route(client: TestClient, other_id: str) -> None:
    by_other = client.get(f"/api/v1/endpoints/{other_id}", params={"since": "1h"}).json()
    assert by_other == client.get("/api/v1/endpoints/ep0001", params={"since": "1h"}).json()
    assert client.get("/api/v1/endpoints/zz", params={"since": "1h"}).status_code == 404


def test_consumers(client: TestClient) -> None:
    items = client.get("/api/v1/consumers").json()["items"]
    assert [item["id"] for item in items] == ["principal:000000000000004d", "address:10.0.0.9"]
    for item in items:
        found = client.get(f"/api/v1/consumers/{quote(item['id'])}").json()
        assert found["calls"] == item["calls"] == sum(touched["calls"] for touched in found["touched"])


def test_sensors(client: TestClient) -> None:
    (sensor,) = client.get("/api/v1/sensors").json()["items"]
    assert all(stage["is_balanced"] for stage in sensor["stages"])
    assert sensor["loss_ratio"] == 0.015
    assert sensor["certificate_left_days"] == 27.0
    left = datetime.fromisoformat(sensor["certificate_not_after"]).timestamp() - NOW
    assert left == 27 * 86_400
    assert "27 d left" in client.get("/sensors").text


def test_a_sensor_that_fell_back_to_system_calls_says_so_and_why(client: TestClient) -> None:
    (sensor,) = client.get("/api/v1/sensors").json()["items"]
    assert (sensor["capture"], sensor["fallback_reason"]) == ("syscalls", FALLBACK_REASON)
    assert '<a href="/sensors/node-1">node-1</a>: It lost 1.5% of its calls' in client.get("/").text
    own = client.get("/sensors/node-1").text
    assert "It captures by system calls: " in own and escape(FALLBACK_REASON) in own
    assert f'<span class="badge warn" title="{escape(FALLBACK_REASON)}">syscalls</span>' in client.get("/sensors").text


def test_alerts_and_what_people_decide(client: TestClient) -> None:
    first = client.get("/api/v1/alerts", params={"limit": 1}).json()
    second = client.get("/api/v1/alerts", params={"limit": 1, "cursor": first["next_cursor"]}).json()
    assert [first["items"][0]["id"], second["items"][0]["id"], second["next_cursor"]] == ["a1", "a2", None]
    seen = client.post("/api/v1/alerts/a2/acknowledge", json={"asked_by": "ann"}).json()
    assert seen["acknowledged_by"].endswith(", asked by ann")
    muted = client.post("/api/v1/alerts/a2/mute", json={"seconds": 60, "asked_by": "ann", "reason": "Known"}).json()
    assert (muted["state"], muted["silence"]["kind"], muted["silence"]["reason"]) == ("silenced", "muted", "Known")
    assert client.post("/api/v1/alerts/a9/expected", json={}).status_code == 404


@pytest.mark.parametrize("path", ["/", "/endpoints", "/endpoints/ep0006", "/endpoints/ep0001?since=7d"])
def test_pages_escape_what_attackers_choose(client: TestClient, path: str) -> None:
    client.cookies.clear()
    answer = client.get(path)
    assert answer.status_code == 200
    assert "<script>alert" not in answer.text
    assert " style=" not in answer.text
    assert answer.text.count("<script") == 1  # Without htmx installed there is ours alone.
    assert "default-src 'none'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    ("asked", "named"),
    [
        ({"lim": "1"}, "'lim' does not exist"),
        ({"limit": "0"}, "'limit' is '0'; use 1 or more"),
        ({"sort": "x"}, "use one of 'calls'"),
        ({"cursor": "!!"}, "'cursor' is '!!'"),
    ],
)
def test_refusals_name_thing_value_and_fix(client: TestClient, asked: dict[str, str], named: str) -> None:
    answer = client.get("/api/v1/endpoints", params=asked)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert named in answer.json()["detail"]


@pytest.mark.parametrize("header", ["", "Bearer wrong", "Basic abc", "Bearer ", f"bearer{TOKEN}"])
@pytest.mark.parametrize("path", ["endpoints", "consumers", "alerts", "coverage", "sensors", "metrics", "openapi.json"])
def test_nothing_without_the_token(client: TestClient, path: str, header: str) -> None:
    answer = client.get(f"/api/v1/{path}", headers={"authorization": header})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert "token" in answer.json()["detail"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    asked=st.dictionaries(
        st.sampled_from(
            ["q", "method", "service", "host", "tier", "auth", "sort", "order", "limit", "cursor", "since", "x"]
        ),
        st.one_of(st.text(max_size=30), st.sampled_from(["1", "none", "probed", "asc", "p95", "7d"])),
        max_size=4,
    )
)
def test_no_query_breaks_it(client: TestClient, asked: dict[str, str]) -> None:
    for path in ("/api/v1/endpoints", "/api/v1/consumers", "/", "/endpoints"):
        assert client.get(path, params=asked).status_code in (200, 422)
