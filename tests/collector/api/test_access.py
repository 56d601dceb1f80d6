"""Who may enter: nobody without the token or a session, whatever is asked for, but for a few named paths."""

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message

from collector.api.access import Access, RequestLimits
from collector.api.authenticator import COOKIE_NAME, Authenticator
from collector.core.budget import BudgetBook
from collector.trust.principal import Principal, Role, Scope, Way, find_principal
from collector.trust.sessions import SessionTable
from collector.trust.tokens import TokenTable
from tests.collector.api.client import TestClient
from tests.collector.http_serving import TOKEN, make_app
from tests.collector.states import create_state

WITH_TOKEN = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with TestClient(make_app(), base_url="http://127.0.0.1", follow_redirects=False) as opened:
        yield opened


@pytest.fixture(scope="module")
def authenticator() -> Authenticator:
    return know(TOKEN)


def know(token: str | None) -> Authenticator:
    state = create_state()
    sessions, tokens = SessionTable(state, lambda: 0.0), TokenTable(state, lambda: 0.0)
    return Authenticator(token=token, clock=lambda: 0.0, sessions=sessions, tokens=tokens)


def test_every_operation_needs_the_token(client: TestClient) -> None:
    described = client.get("/api/v1/openapi.json", headers=WITH_TOKEN).json()["paths"]
    operations = [(method.upper(), path) for path, methods in described.items() for method in methods]
    refused = {}
    for method, path in operations:
        answer = client.request(method, re.sub(r"\{.*?\}", "x", path), content=b"{")
        if answer.status_code == 401:
            assert answer.headers["www-authenticate"] == 'Bearer realm="apidae"'
            assert answer.headers["content-type"] == "application/problem+json"
        else:
            refused[path] = answer.status_code
    assert len(operations) > 25
    assert refused == {"/api/v1/healthz": 200, "/api/v1/readyz": 200}


PAGES = ("/", "/coverage", "/endpoints/x", "/incidents/x", "/alerts/x", "/nothing", "//x", "/static")
PUBLIC = ("/login", "/logout", "/theme", "/healthz", "/readyz", "/api/v1/healthz", "/api/v1/readyz")


@pytest.mark.parametrize("path", PAGES)
def test_a_person_is_sent_to_the_sign_in_and_a_form_is_refused(client: TestClient, path: str) -> None:
    answer = client.get(f"http://127.0.0.1{path}")
    assert (answer.status_code, answer.headers["location"].split("=")[0]) == (303, "/login?next")
    assert client.post(f"http://127.0.0.1{path}", data={"a": "b"}).status_code == 401


@pytest.mark.parametrize("path", ["/metrics", "/api/v1/metrics", "/api/v1/openapi.json", "/api/v1/nothing", "/api/v1/"])
def test_a_program_is_told_that_it_needs_the_token(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 401
    for wrong in ("Bearer x", "Bearer", "Basic eDp5", f"Bearer {TOKEN}x", "\u00ff"):
        headers = {"authorization": wrong.encode("latin-1")}
        assert client.get(path, headers=headers).status_code == 401  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/api/v1/healthz", "/login", "/static/apidae.css"])
def test_what_needs_no_token(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 200


@given(rest=st.text(max_size=30), method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "X"]))
def test_no_path_leads_past_the_token(authenticator: Authenticator, rest: str, method: str) -> None:
    """Nothing behind it is called, and no body is read, for whatever is asked."""
    calls: list[Any] = []

    async def app(*_: Any) -> None:
        calls.append(_)

    async def receive() -> Message:
        calls.append("read")
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        pass

    layer = Access(app, authenticator=authenticator, budgets=BudgetBook(), limits=RequestLimits())
    scope = {"type": "http", "method": method, "path": f"/{rest}", "query_string": b"", "headers": []}
    coroutine = layer(scope, receive, send)
    with pytest.raises(StopIteration):
        coroutine.send(None)
    assert not calls or scope["path"] in PUBLIC or rest.startswith("static/")


@pytest.mark.parametrize(("scheme", "value"), [("https", "max-age=31536000"), ("http", None)])
def test_only_a_page_that_came_by_tls_asks_for_tls(scheme: str, value: str | None) -> None:
    with TestClient(make_app(), base_url=f"{scheme}://127.0.0.1", follow_redirects=False) as opened:
        for path in ("/login", "/api/v1/healthz", "/api/v1/endpoints"):
            assert opened.get(path).headers.get("strict-transport-security") == value


def find_principals(token: str | None, headers: dict[str, str], path: str = "/api/v1/endpoints") -> Principal | None:
    """Whose a request is to the application behind the layer."""
    found: list[Principal | None] = []

    async def app(*_: Any) -> None:
        found.append(find_principal())

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        pass

    authenticator = know(token)
    headers |= {"cookie": f"{COOKIE_NAME}={authenticator.sign_in(TOKEN, '')}"} if headers.pop("cookie", "") else {}
    layer = Access(app, authenticator=authenticator, budgets=BudgetBook(), limits=RequestLimits())
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": raw}
    asyncio.run(layer(scope, receive, send))
    return found[0]


@pytest.mark.parametrize(
    ("token", "headers", "actor", "way"),
    [
        (TOKEN, WITH_TOKEN, "api-token", Way.FIRST_TOKEN),
        (TOKEN, {"cookie": "signed in"}, "page-session", Way.FIRST_TOKEN),
        (None, {}, "no-auth", Way.NO_AUTH),
    ],
)
def test_every_request_has_a_principal(token: str | None, headers: dict[str, str], actor: str, way: Way) -> None:
    principal = Principal(actor=actor, role=Role.ADMIN, scope=Scope(), way=way)
    assert find_principals(token, dict(headers)) == principal


def test_what_needs_no_token_has_no_principal() -> None:
    assert find_principals(TOKEN, dict(WITH_TOKEN), "/login") is None
