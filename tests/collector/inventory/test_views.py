"""Views: saved once, shown to everybody, in the API, on the command line and on the page."""

import json
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path

import httpx
import pytest
import typer
from typer.testing import CliRunner

from collector.api.services import ApiSettings, Services
from collector.api.views import VIEWED_LISTS
from collector.cli.commands import register
from collector.cli.lists import VIEWED
from collector.erasure import find_mention
from collector.inventory.consumers.consumer import parse_consumer
from collector.inventory.views import VIEWS_MAX, ViewTable, list_built_in, read_query
from collector.server.app import build_app
from collector.storage.embedded import EmbeddedStore
from collector.storage.state.store import StateStore
from tests.collector.api.client import TestClient
from tests.collector.api.fakes import MemoryAlerts
from tests.collector.cli.test_commands import Held
from tests.collector.inventory.seed import NOW, Seed
from tests.collector.states import create_state

pytestmark = pytest.mark.store


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    store = EmbeddedStore(tmp_path_factory.mktemp("views"))
    seed = Seed()
    seed.calls(seed.endpoint(1, "GET", "/orders/{order_id}"), 100)
    seed.calls(seed.endpoint(2, "POST", "/orders"), 5)
    seed.write(store)
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
    store.close()


@pytest.fixture
def apidae(client: TestClient, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(httpx, "Client", lambda **_: Held(client))
    app = typer.Typer()
    register(app)
    return lambda *words: CliRunner().invoke(app, [*words, "--url", "http://127.0.0.1"], env={"COLUMNS": "220"})


def names(client: TestClient, list_name: str = "endpoints") -> list[str]:
    return [one["name"] for one in client.get("/api/v1/views", params={"list": list_name}).json()["items"]]


def test_open_personal_data_comes_first() -> None:
    first = list_built_in()[0]
    assert first.name == "Personal data without authentication from outside"
    assert read_query(first.query) == {
        "data": "response:personal",
        "auth": "none",
        "exposure": "external",
        "sort": "risk",
    }


@pytest.mark.parametrize("view", list_built_in(), ids=lambda view: view.name)
def test_a_built_in_view_is_a_query_of_its_list(client: TestClient, view) -> None:
    VIEWED_LISTS[view.list].model_validate(read_query(view.query))
    if view.list == "endpoints":
        assert client.get(f"/api/v1/endpoints?{view.query}").status_code == 200
        assert client.get(view.path).status_code == 200


def test_the_command_line_knows_the_lists_that_have_views() -> None:
    assert tuple(VIEWED_LISTS) == VIEWED


def test_a_view_is_saved_replaced_and_deleted_with_who_and_when(client: TestClient) -> None:
    body = {"list": "endpoints", "name": "Writes", "query": "method=POST&limit=5&cursor=&sort=calls", "asked_by": "ada"}
    saved = client.post("/api/v1/views", json=body).json()
    assert (saved["query"], saved["by"]) == ("method=POST&sort=calls", "no-auth, asked by ada")
    assert saved["path"] == "/endpoints?method=POST&sort=calls" and saved["time"] is not None
    assert names(client)[-1] == "Writes"
    client.post("/api/v1/views", json={**body, "query": "method=PUT"})
    assert [one["query"] for one in client.get("/api/v1/views?list=endpoints").json()["items"]][-1] == "method=PUT"
    assert "Writes" not in names(client, "findings")
    assert client.delete(f"/api/v1/views/{saved['id']}").json()["name"] == "Writes"
    assert "Writes" not in names(client)
    assert client.delete(f"/api/v1/views/{saved['id']}").status_code == 404


@pytest.mark.parametrize(
    ("change", "status", "sentence"),
    [
        ({"query": "colour=red"}, 422, "'colour' does not exist"),
        ({"query": "exposure=outside"}, 422, "use one of 'external'"),
        ({"list": "cats"}, 422, "use one of endpoints"),
        ({"name": ""}, 422, "1 characters or more"),
        ({"name": "High risk"}, 409, "comes with the product"),
    ],
)
def test_a_view_that_cannot_be_is_refused(
    client: TestClient, change: dict[str, str], status: int, sentence: str
) -> None:
    body = {"list": "endpoints", "name": "Mine", "query": "auth=none"}
    answer = client.post("/api/v1/views", json={**body, **change})
    assert (answer.status_code, sentence in answer.json()["detail"]) == (status, True), answer.text
    assert "Mine" not in names(client)


def test_a_built_in_view_stays(client: TestClient) -> None:
    assert client.delete(f"/api/v1/views/{list_built_in()[0].id}").status_code == 409


def test_views_are_bounded(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("collector.inventory.views.VIEWS_MAX", len(list_built_in()))
    answer = client.post("/api/v1/views", json={"list": "endpoints", "name": "More", "query": "auth=none"})
    assert answer.status_code == 409 and "delete one first" in answer.json()["detail"]
    assert len(list_built_in()) < VIEWS_MAX


def test_the_page_saves_shows_and_deletes_a_view(client: TestClient) -> None:
    page = client.get("/endpoints?method=POST&cursor=").text
    assert '<input type="hidden" name="query" value="method=POST">' in page
    form = {"list": "endpoints", "name": "Written", "query": "method=POST"}
    saved = client.post("/views", data=form, follow_redirects=False)
    assert (saved.status_code, saved.headers["location"]) == (303, "/endpoints?method=POST")
    page = client.get(saved.headers["location"]).text
    assert "View: Written" in page and "Save view" not in page
    assert 'href="/api/v1/exports/endpoints.csv?method=POST"' in page
    view = client.get("/api/v1/views?list=endpoints").json()["items"][-1]
    assert f'action="/views/{view["id"]}/delete"' in client.get("/views").text
    assert client.post(f"/views/{view['id']}/delete", follow_redirects=False).status_code == 303
    assert "Written" not in names(client)
    refused = client.post("/views", data={**form, "name": "High risk"})
    assert refused.status_code == 422 and "comes with the product" in refused.text


def test_the_first_view_is_in_the_menu_of_the_list(client: TestClient) -> None:
    first = list_built_in()[0]
    page = client.get("/endpoints").text
    assert first.name in page
    assert f"View: {first.name}" in client.get(first.path).text


def test_a_chip_removes_its_filter_and_keeps_the_others(client: TestClient) -> None:
    page = client.get("/endpoints?method=POST&namespace=shop&sort=risk&start=2h").text
    links = re.findall(r'<span class="chip">([^<]*)<a href="([^"]*)"', page)
    assert [(words.strip(), unescape(link)) for words, link in links] == [
        ("method POST", "/endpoints?namespace=shop&sort=risk&start=2h"),
        ("namespace shop", "/endpoints?method=POST&sort=risk&start=2h"),
        ("from 2h", "/endpoints?method=POST&namespace=shop&sort=risk"),
    ]


def test_the_command_line_saves_uses_and_deletes_a_view(apidae) -> None:
    assert apidae("set", "view", "Orders that change", "method=POST&q=orders", "--list", "endpoints").exit_code == 0
    listed = json.loads(apidae("get", "views", "--list", "endpoints", "-o", "json").stdout)
    assert listed[-1]["name"] == "Orders that change"
    shown = apidae("get", "endpoints", "--view", "orders that change", "-o", "json")
    assert [one["id"] for one in json.loads(shown.stdout)] == ["ep0002"]
    other = apidae("get", "endpoints", "--view", "Orders that change", "--method", "GET", "-o", "json")
    assert [one["id"] for one in json.loads(other.stdout)] == ["ep0001"]
    assert apidae("set", "view", "Orders that change", "--delete").exit_code == 0
    missing = apidae("get", "endpoints", "--view", "Orders that change")
    assert (missing.exit_code, "apidae get views --list endpoints" in missing.stderr) == (1, True)


def test_an_erasure_deletes_views_that_name_the_consumer(state: StateStore) -> None:
    table = ViewTable(state, lambda: NOW)
    table.save("alerts", "One client", {"consumer": "address:10.0.0.9"}, by="ada")
    kept = table.save("alerts", "Another", {"consumer": "address:10.0.0.90"}, by="ada")
    mention = find_mention(parse_consumer("address:10.0.0.9"))
    assert table.erase(mention.pattern) == {"views": 1}
    assert [view for view in table.list_views() if not view.is_built_in] == [kept]
