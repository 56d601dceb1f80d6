"""No page shows a control that its reader may not use: every form, button, field and link of every page, for each role
and for one that is bound to a namespace. Pages are found as a reader finds them, by their links."""

from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from html.parser import HTMLParser
from urllib.parse import parse_qsl, unquote, urljoin, urlsplit

import pytest
from fastapi import FastAPI

from collector.alerting.alert import AlertState
from collector.api.permissions import PUBLIC, explain_refusal, find_permission
from collector.core.kinds import Sensitivity
from collector.response.block import BlockState
from collector.trust.bindings import BindingKind
from collector.trust.principal import Principal, Role, Scope, Way
from tests.collector.api.canaries import PLACES, Installation, open_installation
from tests.collector.api.client import TestClient
from tests.collector.api.principals import become, list_routes

pytestmark = [pytest.mark.store, pytest.mark.full("collector.api", "collector.ui")]

BOUND = Scope(namespaces=(PLACES[0].namespace,))
READERS = [(role, scope) for scope in (Scope(), BOUND) for role in Role]
PAGES_OF_ROUTE = 3  # Lists link to themselves with every filter.
OWN = "http://testserver"
FIELDS = frozenset({"input", "select", "textarea", "button"})
# Pages that a reader comes to by a form or a bookmark.
ENTRANCES = (
    "/",
    "/endpoints?q=p",
    "/map?namespace=x",
    "/alerts?state=silenced",
    "/components",
    f"/endpoints/{PLACES[0].endpoint_id}",
)
# Shown in the answer to a decision alone.
AFTERWARDS = frozenset({"POST /findings/decisions/{decision_id}/undo", "POST /login"})


@dataclass
class Controls(HTMLParser):
    """What one page offers: (method, address), and fields that belong to no form."""

    address: str
    calls: set[tuple[str, str]] = field(default_factory=set)
    lost: list[str] = field(default_factory=list)
    forms: set[str] = field(default_factory=set)
    asked: list[tuple[str, str]] = field(default_factory=list)  # Fields that name their form.
    method: str = ""  # Of the form that is open.

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Note what it can ask for."""
        has = {name: value or "" for name, value in attributes}
        for name in ("get", "post", "put", "patch", "delete"):
            if f"hx-{name}" in has:
                self._call(name, has[f"hx-{name}"])
        if tag == "a" and "href" in has:
            self._call("get", has["href"])
        if tag == "form":
            self.method = has.get("method", "get")
            self.forms.add(has.get("id", ""))
            self._call(self.method, has.get("action", self.address))
        if tag in FIELDS:
            if "formaction" in has:
                self._call(has.get("formmethod", self.method), has["formaction"])
            if "form" in has:
                self.asked.append((has["form"], f"{tag} {has}"))
            elif not self.method and has.get("type") != "button" and not has.keys() & {"popovertarget", "hidden"}:
                self.lost.append(f"{tag} {has}")

    def handle_endtag(self, tag: str) -> None:
        """A form ends."""
        if tag == "form":
            self.method = ""

    def list_lost(self) -> list[str]:
        """Fields outside of a form, and those that name one which is not there."""
        return self.lost + [text for name, text in self.asked if name not in self.forms]

    def _call(self, method: str, address: str) -> None:
        whole = urlsplit(urljoin(f"{OWN}{self.address}", address))
        if f"{whole.scheme}://{whole.netloc}" == OWN:
            self.calls.add((method.upper(), f"{whole.path}?{whole.query}" if whole.query else whole.path))


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    with open_installation(tmp_path_factory.mktemp("controls")) as opened:
        _add_decisions(opened)
        yield opened


def _add_decisions(installation: Installation) -> None:
    """What pages show buttons beside: decisions that can be undone, tokens, bindings, sessions."""
    services = installation.services
    become(services, Role.ADMIN, Scope())
    names = installation.name(PLACES[0])
    known = services.authenticator
    known.tokens.make("ci", role=Role.VIEWER, scope=Scope(), expires_at=0.0, by="test")
    services.bindings.put(BindingKind.GROUP, "staff", role=Role.VIEWER, scope=BOUND, by="test")
    somebody = Principal(actor="somebody", role=Role.VIEWER, scope=Scope(), way=Way.TOKEN)
    for _ in range(2):
        known.sessions.begin(lambda _: somebody, until=services.clock() + 3_600, address="127.0.0.1")
    assert services.detection is not None and services.responder is not None
    services.responder.take_alerts(services.alerts.list_alerts(limit=100, state=AlertState.OPEN))
    assert any(one.state is BlockState.PROPOSED for one in services.responder.list_blocks())
    services.detection[0].choose(Sensitivity.PARANOID, by="test")
    with TestClient(installation.app, follow_redirects=False) as client:
        sent = {"note": "A scanner.", "consumer": names["consumer_id"], "days": "7"}
        assert client.post("/detection/known-good", data=sent).status_code == 303
        metered = {"add": names["endpoint_id"]}
        assert client.post("/settings/metrics", data=metered).status_code == 303


@pytest.fixture(scope="module")
def client(installation: Installation) -> Iterator[TestClient]:
    with TestClient(installation.app, headers={"accept": "text/html, */*"}, follow_redirects=False) as opened:
        yield opened


def name_route(app: FastAPI, method: str, address: str) -> str:
    """The path in the table of permissions of the route that answers; empty where none does."""
    path = unquote(urlsplit(address).path)
    for router in app.routes:
        for context in router.effective_route_contexts():  # type: ignore[attr-defined]
            if method in context.methods and context.path_regex.match(path):
                return str(context.original_route.path_format)
    return ""


@dataclass
class Crawl:
    """What one reader finds."""

    controls: set[str] = field(default_factory=set)
    wrong: set[str] = field(default_factory=set)
    pages: int = 0


def crawl(installation: Installation, client: TestClient, role: Role, scope: Scope) -> Crawl:
    """Pages that a reader reaches by links: of each route some, with other parameters."""
    become(installation.services, role, scope)
    reader = Principal(actor="somebody", role=role, scope=scope, way=Way.TOKEN)
    found, waiting, counts, seen = Crawl(), deque(ENTRANCES), Counter[str](), set[tuple[str, ...]]()
    while waiting:
        address = waiting.popleft()
        route = name_route(installation.app, "GET", address)
        place = (route, *sorted(name for name, _ in parse_qsl(urlsplit(address).query)))
        if f"GET {route}" in PUBLIC or address.startswith(("/api/", "/metrics")):
            continue
        if place in seen or counts[route] == PAGES_OF_ROUTE:
            continue
        seen.add(place)
        counts[route] += 1
        answer = client.get(address)
        assert answer.status_code < 500 and answer.status_code != 403, (address, answer.text[:300])
        if answer.is_redirect:
            waiting.append(answer.headers["location"])
            continue
        found.pages += 1
        controls = Controls(address)
        controls.feed(answer.text)
        found.wrong |= {f"{address}: a field without a form: {one}" for one in controls.list_lost()}
        for method, target in controls.calls:
            short = name_route(installation.app, method, target)
            permission = find_permission(method, short)
            found.controls.add(f"{method} {short}")
            if not short:
                found.wrong.add(f"{address}: {method} {target} leads nowhere")
            elif permission is not None and (reason := explain_refusal(reader, permission)):
                found.wrong.add(f"{address}: {method} {target}: {reason}")
            elif method == "GET":
                waiting.append(target)
    return found


@pytest.fixture(scope="module")
def find(installation: Installation, client: TestClient) -> Callable[[Role, Scope], Crawl]:
    """What a reader finds, once."""
    return cache(lambda role, scope: crawl(installation, client, role, scope))


@pytest.mark.parametrize(("role", "scope"), READERS, ids=lambda one: str(one) if isinstance(one, Role) else one.word())
def test_no_page_shows_a_control_that_its_reader_may_not_use(
    find: Callable[[Role, Scope], Crawl], role: Role, scope: Scope
) -> None:
    found = find(role, scope)
    assert found.pages > 20
    assert not found.wrong, "\n".join(sorted(found.wrong))


def test_the_crawl_meets_every_form_that_there_is(
    installation: Installation, find: Callable[[Role, Scope], Crawl]
) -> None:
    """Else the test above would not look at it."""
    found = find(Role.ADMIN, Scope())
    forms = {
        f"POST {short}" for method, path, short in list_routes(installation.app) if (method, path) == ("POST", short)
    }
    assert sorted(forms - found.controls - AFTERWARDS) == []
