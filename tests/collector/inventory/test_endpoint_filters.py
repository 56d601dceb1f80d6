"""Each filter of the list of endpoints finds the seeded endpoints that it should, in the API, on the command line and
on the page."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

import httpx
import pytest
import typer
from typer.testing import CliRunner

from collector.api.services import ApiSettings, Services
from collector.cli.commands import register
from collector.inventory.endpoints.endpoints import EndpointInventory
from collector.inventory.endpoints.predicates import ConsumerSql
from collector.risk.assessment import RiskAssessor
from collector.server.app import build_app
from collector.storage.embedded import EmbeddedStore
from collector.storage.state.store import StateStore
from tests.collector.api.client import TestClient
from tests.collector.api.fakes import MemoryAlerts
from tests.collector.cli.test_commands import Held
from tests.collector.conftest import empty
from tests.collector.inventory.seed import NOW, Seed
from tests.collector.states import create_state

pytestmark = pytest.mark.store

REQUEST, RESPONSE = 64, 128
EMAIL, PERSON_NAME, SSN, JWT = 1, 3, 6, 13
PUBLIC = {"client_address": "8.8.8.8"}
BEARER = {"authentication": 1 << 3}
DAY = 86_400
# "Which endpoints return personal data without authentication and are reachable from outside?"
OPEN_PERSONAL = {"data": "response:personal", "auth": "none", "exposure": "external"}


def found(*codes: int) -> dict[str, object]:
    """Columns of calls whose bodies held these kinds."""
    held = {"data": {"1": list(codes), "2": [5] * len(codes)}}
    return {**held, "response_bodies_read": 5, "request_bodies_read": 5}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, sqlite_database: StateStore) -> Iterator[TestClient]:
    store = EmbeddedStore(tmp_path_factory.mktemp("filters"))
    seed = Seed()
    person = found(RESPONSE + EMAIL, RESPONSE + PERSON_NAME)
    users = seed.endpoint(1, "GET", "/users/{user_id}", first_seen=NOW - 3_600)
    customers = seed.endpoint(2, "GET", "/customers/{customer_id}")
    inside = seed.endpoint(3, "GET", "/staff/{staff_id}")
    guarded = seed.endpoint(4, "GET", "/me")
    plain = seed.endpoint(5, "GET", "/products")
    signup = seed.endpoint(6, "POST", "/newsletter", namespace="web", workload="front")
    token = seed.endpoint(7, "GET", "/debug")
    seed.calls(users, 40, **person, **PUBLIC)
    seed.calls(customers, 30, **found(RESPONSE + SSN), **PUBLIC)
    seed.calls(inside, 20, **person)
    seed.calls(guarded, 20, **person, **PUBLIC, **BEARER)
    seed.calls(plain, 10, **PUBLIC)
    seed.calls(plain, 2, status_code=503, **PUBLIC)
    seed.calls(plain, 2, minutes_ago=26 * 60, **found(RESPONSE + SSN))
    seed.calls(signup, 10, **found(REQUEST + EMAIL, REQUEST + PERSON_NAME), **PUBLIC)
    seed.calls(token, 5, minutes_ago=200, **found(RESPONSE + JWT))
    seed.calls(token, 1, minutes_ago=201, status_code=429)
    seed.write(store)
    assessor = RiskAssessor(
        store=store,
        state=empty(sqlite_database),
        endpoints=EndpointInventory(reader=store, who=ConsumerSql()),
        clock=lambda: NOW,
        alarm=lambda reports: None,
    )
    assessor.look()
    assessor.reassess([token.id])
    app = build_app(
        Services(
            store=store,
            state=create_state(),
            alerts=MemoryAlerts(),
            settings=ApiSettings(token=None, version="0.1.0", htmx_path=Path("/nonexistent")),
            clock=lambda: NOW,
            readiness=lambda: "",
            metrics=lambda _: (b"", "text/plain"),
            risks=assessor,
        )
    )
    with TestClient(app, base_url="http://127.0.0.1") as opened:
        yield opened
    store.close()


def list_numbers(client: TestClient, **asked: str) -> set[int]:
    """Route numbers of what the API lists."""
    answer = client.get("/api/v1/endpoints", params=asked)
    assert answer.status_code == 200, answer.text
    ids = [item["id"] for item in answer.json()["items"]]
    assert answer.json()["total"] == len(ids) == len(set(ids))
    return {int(name.removeprefix("ep")) for name in ids}


def ago(seconds: float) -> str:
    return datetime.fromtimestamp(NOW - seconds, UTC).isoformat()


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (OPEN_PERSONAL, {1, 2}),
        ({"data": "personal"}, {1, 2, 3, 4, 6}),
        ({"data": "ssn"}, {2}),
        ({"data": "request:contact"}, {6}),
        ({"data": "secret"}, {7}),
        ({"data": "any"}, {1, 2, 3, 4, 6, 7}),
        ({"data": "health"}, set()),
        ({"data": "secret", "since": "1h"}, set()),  # Found, but not in this span.
        ({"data": "secret", "start": ago(4 * 3_600), "end": ago(3 * 3_600)}, {7}),
        ({"data": "ssn", "start": ago(27 * 3_600), "end": ago(25 * 3_600)}, {5}),  # Before the last assessment's day.
        ({"exposure": "internal"}, {3, 7}),
        ({"exposure": "unknown"}, set()),
        ({"risk_min": "0"}, {1, 2, 3, 4, 5, 6, 7}),
        ({"risk_min": "100"}, set()),
        ({"finding": "personal_data_without_authentication", "exposure": "external"}, {1, 2}),
        ({"finding": "no_such_rule"}, set()),
        ({"finding": "critical", "data": "ssn"}, {2}),
        ({"namespace": "web"}, {6}),
        ({"method": "post", "data": "personal"}, {6}),
        ({"status": "5xx"}, {5}),
        ({"status": "503"}, {5}),
        ({"status": "429"}, {7}),
        ({"status": "4xx"}, {7}),
        ({"status": "2xx", "auth": "full"}, {4}),
        ({"status": "aborted"}, set()),
        ({"first_seen_since": "2h"}, {1}),
        ({"first_seen_since": ago(2 * DAY), "data": "any"}, {1}),
        ({"last_seen_since": "2h"}, {1, 2, 3, 4, 5, 6}),
        ({"last_seen_before": ago(7_200)}, {7}),
        ({"start": "2h"}, {1, 2, 3, 4, 5, 6}),
        ({"start": ago(4 * 3_600), "end": ago(3 * 3_600)}, {7}),
        ({"start": ago(4 * 3_600), "end": "3h", "status": "4xx"}, {7}),
        ({"since": "1h", "end": "3h"}, {7}),
        ({"start": "30d", "end": "20d"}, set()),
        ({"start": "10d", "end": "9d"}, set()),
    ],
)
def test_a_filter_finds_the_seeded_endpoints(client: TestClient, asked: dict[str, str], expected: set[int]) -> None:
    assert list_numbers(client, **asked) == expected


@pytest.mark.parametrize("sort", ["risk", "first_seen", "consumers", "p95", "template", "authentication"])
def test_pages_of_a_filtered_list_hold_each_endpoint_once(client: TestClient, sort: str) -> None:
    asked = {"data": "personal", "exposure": "external", "last_seen_since": "2h", "sort": sort, "limit": "1"}
    cursor, met = "", []
    while cursor is not None:
        answer = client.get("/api/v1/endpoints", params={**asked, "cursor": cursor}).json()
        assert answer["total"] == 4
        met += [item["id"] for item in answer["items"]]
        cursor = answer["next_cursor"]
    assert sorted(met) == ["ep0001", "ep0002", "ep0004", "ep0006"]
    whole = client.get("/api/v1/endpoints", params={**asked, "limit": "50"}).json()["items"]
    assert met == [item["id"] for item in whole]


def test_one_query_finds_open_personal_data_in_the_api_on_the_command_line_and_on_the_page(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert list_numbers(client, **OPEN_PERSONAL) == {1, 2}
    monkeypatch.setattr(httpx, "Client", lambda **_: Held(client))
    app = typer.Typer()
    register(app)
    words = [word for name, value in OPEN_PERSONAL.items() for word in (f"--{name}", value)]
    shown = CliRunner().invoke(app, ["get", "endpoints", *words, "-o", "json", "--url", "http://127.0.0.1"])
    assert [item["id"] for item in json.loads(shown.stdout)] == ["ep0001", "ep0002"]
    page = client.get(f"/endpoints?{urlencode(OPEN_PERSONAL)}").text
    assert set(re.findall(r"/endpoints/(ep\d+)", page)) == {"ep0001", "ep0002"}


@pytest.mark.parametrize(
    ("asked", "sentence"),
    [
        ({"data": "persons"}, "a kind such as ssn"),
        ({"data": "cookie:ssn"}, "request, response, path, query, header"),
        ({"exposure": "outside"}, "use one of 'external'"),
        ({"risk_min": "101"}, "use 100 or less"),
        ({"status": "6xx"}, "use one of 2xx"),
        ({"first_seen_since": "2 hours"}, "a span before now (30m, 2h, 7d, 2w)"),
        ({"start": "2026-13-29"}, "there is no such time"),
        ({"start": "1h", "end": "2h"}, "`start` is not before `end`"),
    ],
)
def test_a_filter_says_what_it_takes(client: TestClient, asked: dict[str, str], sentence: str) -> None:
    answer = client.get("/api/v1/endpoints", params=asked)
    assert (answer.status_code, sentence in answer.json()["detail"]) == (422, True), answer.text
    page = client.get("/endpoints", params=asked)
    assert page.status_code == 422
