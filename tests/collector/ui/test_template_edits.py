"""Template edits on an endpoint's page: each button does as the API does, says what was wrong, needs a session."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.api.services import ApiSettings, Services
from collector.server.app import build_app
from tests.collector.api.client import TestClient
from tests.collector.api.fakes import MemoryAlerts
from tests.collector.inventory.seed import NOW as SEED_NOW
from tests.collector.inventory.seed import Seed
from tests.collector.inventory.test_edits import INTEGER, Installation, installation, literal

pytestmark = pytest.mark.store
__all__ = ["installation"]


@pytest.fixture
def client(installation: Installation) -> Iterator[TestClient]:
    """/users/{user_id}, /users/me and /users/you, called; `page` of the first is shown to whoever signed in."""
    seed = Seed()
    for segments in (
        (literal("users"), INTEGER),
        (literal("users"), literal("me")),
        (literal("users"), literal("you")),
    ):
        route_id = installation.add(*segments)
        seed.calls(seed.endpoint(route_id, "GET", "/unused"), 5)
    seed.endpoints.clear()  # The catalogue has named them.
    seed.write(installation.store)
    app = build_app(
        Services(
            store=installation.store,
            state=installation.state,
            alerts=MemoryAlerts(),
            settings=ApiSettings(token="t", version="0", htmx_path=Path("/none")),
            clock=lambda: SEED_NOW,
            readiness=lambda: "",
            metrics=lambda _: (b"", "text/plain"),
            editor=installation.editor,
        )
    )
    with TestClient(app, follow_redirects=False) as opened:
        yield opened


def sign_in(client: TestClient) -> None:
    assert client.post("/login", data={"token": "t", "next": "/"}).status_code == 303


def test_a_stranger_changes_nothing(client: TestClient, installation: Installation) -> None:
    name = installation.endpoint(1)
    for action in ("rename", "split", "merge", "pin", "undo"):
        assert client.post(f"/endpoints/{name}/{action}", data={"place": "1", "name": "account"}).status_code == 401
    assert installation.editor.list_edits() == ()
    # Nor does another site's form in a browser that has a session.
    sign_in(client)
    elsewhere = {"origin": "https://elsewhere.example", "sec-fetch-site": "cross-site"}
    assert client.post(f"/endpoints/{name}/pin", headers=elsewhere).status_code == 403
    assert installation.editor.list_edits() == ()


def test_buttons(client: TestClient, installation: Installation) -> None:
    sign_in(client)
    name = installation.endpoint(1)
    page = client.get(f"/endpoints/{name}").text
    assert "Its values have the shape of integer" in page
    assert "no value whose text is known can be split off" in page
    for other in (2, 3):
        answer = client.post(f"/endpoints/{name}/merge", data={"other": installation.endpoint(other), "name": "who"})
        assert (answer.status_code, answer.headers["location"]) == (303, f"/endpoints/{name}#edits-title")
        name = installation.endpoint(1)
    assert set(installation.templates().values()) == {"/users/{who}"}
    assert "<option>me</option>" in client.get(f"/endpoints/{name}").text
    assert client.post(f"/endpoints/{name}/split", data={"place": "1", "value": "me"}).status_code == 303
    assert installation.templates()[2] == "/users/me"
    assert client.post(f"/endpoints/{name}/rename", data={"place": "1", "name": "person"}).status_code == 303
    assert installation.templates()[1] == "/users/{person}"
    # The id that it had before leads to it.
    page = client.get(f"/endpoints/{name}").text
    assert "/users/{person}" in page
    assert page.count("<button>Undo</button>") == 4
    for edit in installation.editor.list_edits():
        assert client.post(f"/endpoints/{name}/undo", data={"edit": edit.id}).status_code == 303
    assert installation.templates() == {1: "/users/{user_id}", 2: "/users/me", 3: "/users/you"}
    assert client.post(f"/endpoints/{installation.endpoint(1)}/pin").status_code == 303
    assert installation.editor.list_edits()[0].by == "page-session"


@pytest.mark.parametrize(
    ("action", "form", "sentence"),
    [
        ("rename", {"place": "1", "name": "no name"}, "give it letters, digits and _"),
        ("rename", {"place": "0", "name": "account"}, "is no parameter"),
        ("rename", {"name": "account"}, "is no parameter"),
        ("split", {"place": "1", "value": "me"}, "none is known"),
        ("merge", {"other": "nothing"}, "There is no endpoint"),
        ("undo", {"edit": "nothing"}, "There is no edit"),
    ],
)
def test_what_cannot_be_done_is_said_on_the_page(
    client: TestClient, installation: Installation, action: str, form: dict[str, str], sentence: str
) -> None:
    sign_in(client)
    answer = client.post(f"/endpoints/{installation.endpoint(1)}/{action}", data=form)
    assert answer.status_code == 422
    assert sentence in answer.text.replace("&#39;", "'")
    assert installation.editor.list_edits() == ()


def test_there_is_no_other_action(client: TestClient, installation: Installation) -> None:
    sign_in(client)
    assert client.post(f"/endpoints/{installation.endpoint(1)}/destroy").status_code == 404
