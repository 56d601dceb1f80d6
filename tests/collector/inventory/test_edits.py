"""Template edits: each does what it says, survives a restart, later learning and new routes, and can be undone."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from collector.api.services import ApiSettings, Services
from collector.core.errors import ConflictError, UnknownError
from collector.core.rows import Route, Segment, Service
from collector.inventory.templates.catalogue import Catalogue
from collector.inventory.templates.editor import TemplateEditor
from collector.inventory.templates.mapping import Edit, EditedEndpoint, EditError
from collector.inventory.templates.table import TemplateTable
from collector.receiver.reports import RevealBook
from collector.server.app import build_app
from collector.storage.arrow import build_routes
from collector.storage.embedded import EmbeddedStore
from tests.collector.api.client import TestClient
from tests.collector.api.fakes import MemoryAlerts
from tests.collector.states import create_state

pytestmark = pytest.mark.store

NOW = int(time.time())
SERVICE = Service(cluster="", namespace="", workload="web", workload_kind=1, host_name="h", port=80)
INTEGER = Segment(3, "", 0, 0)
FOLDED = Segment(10, "", 0, 0)


def literal(text: str) -> Segment:
    return Segment(1, text, 0, 0)


def word(number: int, text: str = "") -> Segment:
    return Segment(2, text, number, 4)


class Installation:
    """A catalogue over a store, which can be started anew."""

    def __init__(self, store: EmbeddedStore) -> None:
        self.store = store
        self.state = create_state()
        self.number = 0
        self.now = NOW
        self.start()

    def clock(self) -> float:
        self.now += 1
        return self.now

    def start(self) -> None:
        table = TemplateTable(self.state, self.store)
        self.catalogue = Catalogue(self.store, table, RevealBook())
        self.editor = TemplateEditor(store=self.store, table=table, names=self.catalogue, clock=self.clock)

    def add(self, *segments: Segment, method: str = "GET", first_seen: int = NOW) -> int:
        self.number += 1
        route = Route(
            route_id=self.number, service=SERVICE, host="h", method=method, segments=segments, has_trailing_slash=False
        )
        self.store.insert_arrow("routes", build_routes([(route, first_seen)]))
        self.catalogue.map_routes([route])
        return self.number

    def templates(self) -> dict[int, str]:
        return dict(self.store.query("SELECT route_id, url_template FROM endpoint_routes FINAL ORDER BY route_id"))

    def endpoint(self, route_id: int) -> str:
        return self.catalogue.list_endpoints()[route_id]


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    store = EmbeddedStore(tmp_path)
    yield Installation(store)
    store.close()


def test_rename_holds_over_a_restart_and_for_routes_that_come_later(installation: Installation) -> None:
    one, other = installation.add(literal("users"), INTEGER), installation.add(literal("users"), literal("me"))
    former = installation.endpoint(one)
    edit = installation.editor.rename(former, place=1, name="account", by="ada")
    assert installation.templates() == {one: "/users/{account}", other: "/users/me"}
    installation.start()
    later = installation.add(literal("users"), Segment(4, "", 0, 0))
    assert installation.catalogue.group(is_all=True) == 0
    assert installation.templates()[later] == "/users/{account}"
    assert installation.store.query(
        "SELECT count() FROM endpoint_aliases FINAL WHERE endpoint_id = {id:String}", {"id": former}
    ) == [(1,)]
    undone = installation.editor.undo(edit.id, by="bob")
    assert (undone.undone_by, installation.templates()[one]) == ("bob", "/users/{user_id}")
    assert installation.endpoint(one) == installation.endpoint(later) == former
    with pytest.raises(ConflictError, match="undone before, by bob"):
        installation.editor.undo(edit.id, by="bob")


def test_what_is_decided_after_the_clock_was_put_back_holds(installation: Installation) -> None:
    """The store keeps the newest version: undone in memory, the edit was there again after the next start."""
    one = installation.add(literal("users"), INTEGER)
    edit = installation.editor.rename(installation.endpoint(one), place=1, name="account", by="ada")
    installation.now -= 86_400
    installation.editor.undo(edit.id, by="bob")
    assert installation.templates()[one] == "/users/{user_id}"
    former = installation.endpoint(one)
    installation.start()
    assert [one.undone_by for one in installation.editor.list_edits()] == ["bob"]
    assert (installation.templates()[one], installation.endpoint(one)) == ("/users/{user_id}", former)


def test_split_says_since_when_it_is_exact(installation: Installation) -> None:
    merged = [
        installation.add(literal("users"), word(n, text), first_seen=NOW - n) for n, text in ((1, "me"), (2, "x"))
    ]
    endpoints = [installation.endpoint(route) for route in merged]
    first = installation.editor.merge(endpoints, name="", by="ada")
    assert set(installation.templates().values()) == {"/users/{user_name}"}
    both = installation.endpoint(merged[0])
    split = installation.editor.split(both, place=1, value="me", by="ada")
    assert installation.templates() == {merged[0]: "/users/me", merged[1]: "/users/{user_name}"}
    assert (split.exact_since, split.note) == (NOW - 1, "")
    installation.editor.undo(first.id, by="ada")
    # As learned, which knows the text of a word from the reveal only.
    assert installation.templates() == {merged[0]: "/users/me", merged[1]: "/users/{word}"}


def test_a_split_beside_folded_calls_is_not_exact(installation: Installation) -> None:
    installation.add(literal("tags"), FOLDED)
    known = installation.add(literal("tags"), word(7, "new"))
    routes = [installation.endpoint(route) for route in (1, known)]
    if routes[0] != routes[1]:
        installation.editor.merge(routes, name="tag", by="ada")
    split = installation.editor.split(installation.endpoint(known), place=1, value="new", by="ada")
    assert split.exact_since is None
    assert "folded" in split.note


def test_pin_holds_against_learning(installation: Installation) -> None:
    routes = [installation.add(literal("things"), word(n)) for n in range(1, 3)]
    before = installation.templates()
    pinned: Edit = installation.editor.pin(installation.endpoint(routes[0]), by="ada")
    more = [installation.add(literal("things"), word(100 + n), literal("parts")) for n in range(12)]
    installation.catalogue.group(is_all=True)
    assert installation.templates()[routes[0]] == before[routes[0]] == pinned.template
    assert installation.templates()[more[0]] != pinned.template


def test_merge_is_of_what_was_named_only(installation: Installation) -> None:
    routes = [installation.add(literal("reports"), literal(text)) for text in ("daily", "weekly", "orders")]
    merged = installation.editor.merge([installation.endpoint(route) for route in routes[:2]], name="period", by="ada")
    assert merged.template == "/reports/{period}"
    assert list(installation.templates().values()) == ["/reports/{period}", "/reports/{period}", "/reports/orders"]


def test_an_edit_is_undone_once_whoever_asks_at_the_same_moment(installation: Installation) -> None:
    route = installation.add(literal("users"), INTEGER)
    edit = installation.editor.rename(installation.endpoint(route), place=1, name="account", by="ada")
    started = threading.Barrier(8, timeout=60)

    def undo(_: int) -> bool:
        started.wait()
        try:
            installation.editor.undo(edit.id, by="bob")
        except ConflictError:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(undo, range(8))) == 1
    assert [one.undone_by for one in installation.editor.list_edits()] == ["bob"]


def test_what_cannot_be_done_is_said(installation: Installation) -> None:
    users = installation.add(literal("users"), INTEGER)
    post = installation.add(literal("users"), INTEGER, method="POST")
    long = installation.add(literal("users"), INTEGER, literal("orders"))
    ids = {route: installation.endpoint(route) for route in (users, post, long)}
    editor = installation.editor
    for work, named in (
        (
            lambda: editor.rename(ids[users], place=0, name="a", by="x"),
            r"Segment 0 of /users/\{user_id\} is no parameter",
        ),
        (lambda: editor.rename(ids[users], place=1, name="a b", by="x"), "The name is 'a b'"),
        (lambda: editor.split(ids[users], place=1, value="7", by="x"), "ids are kept as kinds only"),
        (lambda: editor.split(ids[users], place=1, value="a/b", by="x"), "one segment"),
        (lambda: editor.merge([ids[users], ids[post]], name="", by="x"), "different services, hosts or methods"),
        (lambda: editor.merge([ids[users], ids[long]], name="", by="x"), "different numbers of segments"),
        (lambda: editor.merge([ids[users]], name="", by="x"), "name 2 to"),
    ):
        with pytest.raises(EditError, match=named):
            work()
    with pytest.raises(UnknownError, match="no endpoint 'nothing'"):
        editor.pin("nothing", by="x")
    with pytest.raises(UnknownError, match="no edit 'nothing'"):
        editor.undo("nothing", by="x")
    assert editor.list_edits() == ()


def test_over_the_api(installation: Installation) -> None:
    route = installation.add(literal("users"), INTEGER)
    app = build_app(
        Services(
            store=installation.store,
            state=installation.state,
            alerts=MemoryAlerts(),
            settings=ApiSettings(token="t", version="0.1.0", htmx_path=Path("/nonexistent")),
            clock=installation.clock,
            readiness=lambda: "",
            metrics=lambda _: (b"", "text/plain"),
            editor=installation.editor,
        )
    )
    with TestClient(app, headers={"authorization": "Bearer t"}) as client:
        endpoint = installation.endpoint(route)
        renamed = client.post(
            f"/api/v1/endpoints/{endpoint}/rename", json={"place": 1, "name": "account", "asked_by": "ada"}
        )
        assert (renamed.status_code, renamed.json()["template"]) == (200, "/users/{account}")
        edit = renamed.json()["id"]
        assert (
            client.post(f"/api/v1/template-edits/{edit}/undo", json={"asked_by": "bob"}).json()["undone_by"]
            == "api-token, asked by bob"
        )
        assert [one["kind"] for one in client.get("/api/v1/template-edits").json()["items"]] == ["rename"]
        refused = client.post("/api/v1/endpoints/nothing/pin", json={"asked_by": "ada"})
        assert (refused.status_code, "no endpoint" in refused.json()["detail"]) == (404, True)


def test_a_template_with_a_whole_path_is_not_edited(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    segments = (literal("files"), literal("2024"), literal("a.pdf"))
    route = Route(route_id=1, service=SERVICE, host="h", method="GET", segments=segments, has_trailing_slash=False)
    found = EditedEndpoint(template="/files/{path}", routes=[route], first_seen={1: NOW})
    monkeypatch.setattr(installation.catalogue, "find_edited", lambda endpoint_id: found)
    edits = (
        lambda: installation.editor.rename("1", place=1, name="file", by="ada"),
        lambda: installation.editor.split("1", place=1, value="2024", by="ada"),
        lambda: installation.editor.pin("1", by="ada"),
        lambda: installation.editor.merge(["1", "2"], name="", by="ada"),
    )
    for edit in edits:
        with pytest.raises(EditError, match="takes several segments as one value"):
            edit()
    assert installation.editor.list_values("1", place=1) == []


def test_a_renamed_template_keeps_its_trailing_slash(
    installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    route = Route(
        route_id=1,
        service=SERVICE,
        host="h",
        method="GET",
        segments=(literal("users"), INTEGER),
        has_trailing_slash=True,
    )
    found = EditedEndpoint(template="/users/{user_id}/", routes=[route], first_seen={1: NOW})
    monkeypatch.setattr(installation.catalogue, "find_edited", lambda endpoint_id: found)
    assert installation.editor.rename("1", place=1, name="account", by="ada").template == "/users/{account}/"
