"""What bodies hold, over the API and on the page: kinds of data with their shares, records with their basis."""

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

EMAIL, CARD, PASSWORD = 1, 10, 12
RESPONSE, OLD_RESPONSE = 128, 32  # Place, and as rows of before 0.2 have it.


def make_seed() -> Seed:
    seed = Seed()
    users = seed.endpoint(1, "GET", "/users")
    read = {"response_bodies_read": 8, "records_returned": 900, "records_measured": 160}
    seed.calls(users, 40, data={"1": [EMAIL + RESPONSE, CARD + RESPONSE], "2": [8, 2]}, **read)
    seed.calls(users, 2, minutes_ago=2, data={"1": [EMAIL + OLD_RESPONSE], "2": [2]}, response_bodies_read=2)
    login = seed.endpoint(2, "POST", "/login")
    counted = {"request_bodies_read": 4, "response_bodies_read": 4, "records_returned": 4, "records_measured": 4}
    seed.calls(login, 4, data={"1": [PASSWORD, 479], "2": [4, 4]}, **counted)
    seed.calls(seed.endpoint(3, "GET", "/unread"), 5)
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
    answer = client.get("/api/v1/endpoints", params={"since": request.param}).json()
    return {item["template"]: item["bodies"] for item in answer["items"]}


def test_kinds_come_with_the_share_of_bodies_that_held_them(by_template: dict[str, Any]) -> None:
    bodies = by_template["/users"]
    assert bodies["data_classes"] == ["contact", "financial"]
    assert [(one["kind"], one["side"], one["calls"], one["share"]) for one in bodies["data"]] == [
        ("email", "response", 10, 1.0),
        ("credit_card", "response", 2, 0.2),
    ]
    assert (bodies["responses_read"], bodies["requests_read"]) == (10, 0)


def test_records_say_how_they_are_known(by_template: dict[str, Any]) -> None:
    users, login = by_template["/users"], by_template["/login"]
    assert (users["records_returned"], users["records_measured"], users["records_basis"]) == (900, 160, "estimated")
    assert (login["records_returned"], login["records_measured"], login["records_basis"]) == (4, 4, "measured")


def test_requests_have_their_own_and_kinds_of_newer_sensors_are_left_out(by_template: dict[str, Any]) -> None:
    assert [(one["kind"], one["data_class"], one["side"]) for one in by_template["/login"]["data"]] == [
        ("password", "secret", "request")
    ]


def test_where_nothing_was_read_nothing_is_said(by_template: dict[str, Any]) -> None:
    assert by_template["/unread"] is None


def test_the_page_of_an_endpoint_shows_them(client: TestClient) -> None:
    page = client.get("/endpoints/ep0001", params={"since": "1h"}).text
    assert "Sensitive data" in page
    assert "E-mail address" in page
    assert "estimated, 160 counted" in page
    assert "Sensitive data" not in client.get("/endpoints/ep0003", params={"since": "1h"}).text
