"""Login at a real OpenID provider on loopback: the whole way of a browser, what it needs, and what it refuses."""

import asyncio
import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc.jwk import RSAKey
from oidc_provider_mock import User, init_app
from starlette.requests import HTTPConnection
from werkzeug.serving import make_server

from collector.api.authenticator import COOKIE_NAME, LOGINS_MAX, Authenticator
from collector.api.services import ApiSettings, Services
from collector.core.config import OidcSettings
from collector.server.app import build_app
from collector.trust.audit import AuditFilters
from collector.trust.bindings import BindingKind
from collector.trust.oidc import (
    ASK_SECONDS,
    ASKING_MAX,
    DOWN_SECONDS,
    METADATA_SECONDS,
    LoginError,
    OidcLogin,
    make_ticket_key,
)
from collector.trust.principal import Principal, Role, Scope
from tests.collector.api.client import TestClient
from tests.collector.api.fakes import MemoryAlerts
from tests.collector.api.test_session import HERE, Clock, EmptyReader
from tests.collector.states import create_state
from tests.virtual_time import run_in_virtual_time

ADA, BOB = "ada@example.com", "bob@example.com"
PEOPLE = (
    User(sub="1", claims={"email": ADA, "email_verified": True, "groups": ["/oncall", "staff"]}),
    User(sub="2", claims={"email": BOB, "email_verified": True, "groups": ["staff"]}),
    User(sub="3", claims={"email": ADA, "email_verified": False, "groups": ["/oncall"]}),
    User(sub="4", claims={"groups": ["/oncall"]}),
    User(sub="5", claims={"email": ADA, "groups": ["/oncall"]}),
)


@dataclass
class ProviderKeys:
    """With which the provider signs, and which it publishes; None: its own."""

    signing: RSAKey | None = None
    published: RSAKey | None = None


@pytest.fixture(scope="module")
def provider_keys() -> ProviderKeys:
    return ProviderKeys()


@pytest.fixture
def keys(provider_keys: ProviderKeys) -> Iterator[ProviderKeys]:
    yield provider_keys
    provider_keys.signing = provider_keys.published = None


@pytest.fixture(scope="module")
def issuer(provider_keys: ProviderKeys) -> Iterator[str]:
    import flask

    app = flask.Flask("provider")
    init_app(app, require_nonce=True, user_claims=PEOPLE)
    app.secret_key = b"of this test"
    own: list[RSAKey] = []

    @app.before_request
    def choose_key() -> None:
        storage = flask.g.oidc_provider_mock_storage
        own.append(storage.jwk)
        is_list = flask.request.path == "/jwks"
        storage.jwk = (provider_keys.published if is_list else provider_keys.signing) or own[0]

    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@dataclass
class Browser:
    client: TestClient
    services: Services

    def leave(self, destination: str = "/alerts?state=open") -> str:
        """To the provider; its address."""
        answer = self.client.get("/login/oidc", params={"next": destination})
        assert answer.status_code == 303, answer.text
        return str(answer.headers["location"])

    def authorize(self, address: str, sub: str) -> str:
        """Log in there; the path of the way back."""
        answer = httpx.post(address, data={"sub": sub}, timeout=60)
        assert answer.status_code in (302, 303), answer.text
        return str(answer.headers["location"]).removeprefix(HERE)

    def log_in(self, sub: str) -> httpx.Response:
        return self.client.get(self.authorize(self.leave(), sub))


def make_login(issuer: str, clock: Clock | None = None) -> OidcLogin:
    settings = OidcSettings(issuer=issuer, client_id="apidae")
    return OidcLogin(
        settings, public_url=HERE, ticket_key=make_ticket_key(), secret="s", monotonic=clock or Clock(1_000.0)
    )


@contextlib.contextmanager
def open_browser(issuer: str, asked: str = "", public_url: str = "", clock: Clock | None = None) -> Iterator[Browser]:
    login = make_login(asked or issuer, clock)
    services = Services(
        store=EmptyReader(),  # type: ignore[arg-type]
        state=create_state(),
        alerts=MemoryAlerts(),
        settings=ApiSettings(
            token="correct-horse", version="0.1.0", htmx_path=Path("/nonexistent"), public_url=public_url
        ),
        clock=lambda: 1_800_000_000.0,
        readiness=lambda: "",
        metrics=lambda _: (b"", "text/plain"),
        login=login,
    )
    with TestClient(build_app(services), base_url=HERE, follow_redirects=False) as client:
        yield Browser(client, services)


@pytest.fixture
def browser(issuer: str) -> Iterator[Browser]:
    with open_browser(issuer) as opened:
        yield opened


def bind(browser: Browser, kind: BindingKind, name: str, role: Role, scope: Scope = Scope()) -> None:  # noqa: B008
    browser.services.bindings.put(kind, name, role=role, scope=scope, by="api-token")


def test_a_person_goes_to_the_provider_with_pkce_and_comes_back_signed_in(browser: Browser) -> None:
    bind(browser, BindingKind.GROUP, "/oncall", Role.RESPONDER, Scope(namespaces=("shop",)))
    address = browser.leave()
    asked = {name: values[0] for name, values in parse_qs(urlsplit(address).query).items()}
    assert asked["code_challenge_method"] == "S256" and len(asked["code_challenge"]) == 43
    assert asked["redirect_uri"] == f"{HERE}/login/callback" and asked["scope"] == "openid profile email"
    assert asked["nonce"] and asked["state"] and asked["nonce"] != asked["state"]
    answer = browser.client.get(browser.authorize(address, "1"))
    assert answer.status_code == 200, answer.text
    assert '<meta http-equiv="refresh" content="0;url=/alerts?state=open">' in answer.text
    cookies = answer.headers.get_list("set-cookie")
    session = next(one for one in cookies if one.startswith(COOKIE_NAME))
    assert "HttpOnly" in session and "SameSite=strict" in session
    me = browser.client.get("/api/v1/me").json()
    assert me == {"actor": f"oidc:{ADA}", "role": "responder", "clusters": [], "namespaces": ["shop"], "way": "oidc"}
    entry = browser.services.audit.list_lines(AuditFilters(action="session.began"), limit=9)[0]
    assert (entry.by, entry.way) == (f"oidc:{ADA}", "oidc")


def test_without_a_binding_nobody_enters(browser: Browser) -> None:
    bind(browser, BindingKind.GROUP, "/oncall", Role.ADMIN)
    answer = browser.log_in("2")
    assert answer.status_code == 403 and f"{BOB} has no role here" in answer.text
    assert browser.client.get("/api/v1/me").status_code == 401


@pytest.mark.parametrize(
    ("sub", "sentence"), [("3", "verified your mail"), ("4", "no usable claim"), ("5", "verified your mail")]
)
def test_a_name_that_the_provider_did_not_check_is_nobody(browser: Browser, sub: str, sentence: str) -> None:
    bind(browser, BindingKind.GROUP, "/oncall", Role.ADMIN)
    bind(browser, BindingKind.USER, ADA, Role.ADMIN)
    answer = browser.log_in(sub)
    assert answer.status_code == 403 and sentence in answer.text


def test_the_own_binding_decides_before_those_of_groups_and_the_highest_of_these(browser: Browser) -> None:
    bind(browser, BindingKind.GROUP, "staff", Role.VIEWER)
    bind(browser, BindingKind.GROUP, "/oncall", Role.ANALYST)

    def find(name: str, groups: tuple[str, ...]) -> Principal | None:
        with browser.services.state.write() as connection:
            return browser.services.bindings.find_principal(connection, name, groups)

    found = find(ADA, ("staff", "/oncall"))
    assert found is not None and found.role is Role.ANALYST
    bind(browser, BindingKind.USER, ADA, Role.VIEWER)
    found = find(ADA, ("staff", "/oncall"))
    assert found is not None and found.role is Role.VIEWER
    assert find(BOB, ()) is None


def test_sessions_end_with_the_binding_that_let_them_in_and_others_stay(browser: Browser) -> None:
    bind(browser, BindingKind.GROUP, "/oncall", Role.ANALYST)
    bind(browser, BindingKind.GROUP, "staff", Role.VIEWER)
    assert browser.log_in("1").status_code == 200
    bind(browser, BindingKind.GROUP, "staff", Role.RESPONDER, Scope(clusters=("east",)))
    assert browser.client.get("/api/v1/me").status_code == 401  # The highest role is another one now.
    assert browser.log_in("1").status_code == 200
    bind(browser, BindingKind.USER, BOB, Role.ADMIN)
    assert browser.client.get("/api/v1/me").json()["role"] == "responder"
    browser.services.bindings.remove(BindingKind.GROUP, "staff", by="api-token")
    assert browser.client.get("/api/v1/me").status_code == 401
    actions = [one.action for one in browser.services.audit.list_lines(AuditFilters(action="binding"), limit=9)]
    assert actions[:3] == ["binding.removed", "binding.created", "binding.changed"]


def test_a_binding_that_goes_while_somebody_logs_in_opens_nothing(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    bind(browser, BindingKind.GROUP, "/oncall", Role.ADMIN)
    begin = browser.services.authenticator.begin_session

    def begin_late(*given: Any, **more: Any) -> Any:
        browser.services.bindings.remove(BindingKind.GROUP, "/oncall", by="api-token")
        return begin(*given, **more)

    monkeypatch.setattr(browser.services.authenticator, "begin_session", begin_late)
    assert browser.log_in("1").status_code == 403
    assert browser.services.authenticator.sessions.list_open() == []


def test_logins_of_one_person_have_a_pace(browser: Browser) -> None:
    bind(browser, BindingKind.GROUP, "staff", Role.VIEWER)
    for _ in range(LOGINS_MAX):
        browser.services.authenticator.begin_session(lambda _: None, ADA, (), "")
    answer = browser.log_in("1")
    assert answer.status_code == 429 and f"oidc:{ADA} logged in too often" in answer.text
    assert browser.log_in("2").status_code == 200


def test_a_session_of_another_provider_opens_nothing(browser: Browser) -> None:
    bind(browser, BindingKind.GROUP, "/oncall", Role.ADMIN)
    browser.log_in("1")
    known, cookie = browser.services.authenticator, browser.client.cookies[COOKIE_NAME]
    request = HTTPConnection({"type": "http", "headers": [(b"cookie", f"{COOKIE_NAME}={cookie}".encode())]})
    assert known.find_session(request) is not None
    for issuer in ("https://login.example/realms/new", ""):
        other = Authenticator(
            token="correct-horse", clock=known._clock, sessions=known.sessions, tokens=known.tokens, issuer=issuer
        )
        assert other.find_session(request) is None


def test_an_answer_to_another_login_opens_nothing(browser: Browser, issuer: str) -> None:
    bind(browser, BindingKind.GROUP, "/oncall", Role.ADMIN)
    back = browser.authorize(browser.leave(), "1")
    browser.leave()  # Its ticket replaces the first one.
    answer = browser.client.get(back)
    assert answer.status_code == 403 and "not to this login" in answer.text
    browser.client.cookies.clear()
    answer = browser.client.get(back)
    assert answer.status_code == 403 and "began in another browser" in answer.text
    with open_browser(issuer) as other:  # Another collector with another key.
        ticket = browser.client.cookies.get("apidae_login") or "forged"
        assert other.client.get(back, headers={"cookie": f"apidae_login={ticket}"}).status_code == 403


def test_a_code_works_once(browser: Browser) -> None:
    bind(browser, BindingKind.GROUP, "/oncall", Role.ADMIN)
    address = browser.leave()
    ticket = {"cookie": f"apidae_login={browser.client.cookies['apidae_login']}"}
    back = browser.authorize(address, "1")
    assert browser.client.get(back, headers=ticket).status_code == 200
    browser.client.cookies.clear()
    assert browser.client.get(back, headers=ticket).status_code == 403


@pytest.mark.parametrize("destination", ["//evil.example/", "https://evil.example/", "/\\evil.example"])
def test_the_way_back_leads_to_no_other_site(browser: Browser, destination: str) -> None:
    bind(browser, BindingKind.GROUP, "/oncall", Role.ADMIN)
    answer = browser.client.get(browser.authorize(browser.leave(destination), "1"))
    assert re.findall(r'content="0;url=(.*?)"', answer.text) == ["/"]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/other", "does not say how it is asked (status 404), so oidc.issuer may be wrong"),
        ("/", "calls itself &#39;ISSUER&#39;, so oidc.issuer is to be corrected"),
        (None, "is away (ConnectError)"),
    ],
)
def test_a_provider_that_is_away_or_another_is_asked_once_in_some_seconds(
    issuer: str, path: str | None, said: str
) -> None:
    clock = Clock(1_000.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = f"http://127.0.0.1:{server.getsockname()[1]}"
    url = closed if path is None else f"{issuer}{path}"  # At the former nobody listens any more.
    with open_browser(url, clock=clock) as browser:
        login = browser.services.login
        assert login is not None
        made: list[Any] = []
        make = login._make_client
        login._make_client = lambda: made.append(make()) or made[-1]  # type: ignore[func-returns-value, method-assign]
        for _ in range(5):
            answer = browser.client.get("/login/oidc?next=/alerts")
            assert answer.status_code == 502
            sentence = f"The provider at {url} {said.replace('ISSUER', issuer)}; try again in 10 s, or sign in"
            assert sentence in answer.text
            assert 'name="token"' in answer.text and 'value="/alerts"' in answer.text
        assert len(made) == 1
        clock.now += DOWN_SECONDS
        browser.client.get("/login/oidc")
        assert len(made) == 2


class HangingClient:
    """Of a provider that takes a connection and says nothing."""

    async def load_server_metadata(self) -> None:
        await asyncio.Event().wait()


def test_logins_that_wait_for_the_provider_are_bounded_in_number_and_time() -> None:
    async def begin_many() -> None:
        loop, login = asyncio.get_running_loop(), make_login("https://login.example")
        login._make_client = HangingClient  # type: ignore[method-assign]
        waiting = [asyncio.create_task(login.begin("/")) for _ in range(ASKING_MAX)]
        await asyncio.sleep(0)
        with pytest.raises(LoginError, match=r"8 logins wait for the provider at https://login\.example already"):
            await login.begin("/")
        began = loop.time()
        outcomes = await asyncio.gather(*waiting, return_exceptions=True)
        assert loop.time() - began == pytest.approx(ASK_SECONDS)
        assert {type(one) for one in outcomes} == {LoginError} and "no answer in 10 s" in str(outcomes[0])
        with pytest.raises(LoginError, match="no answer in 10 s"):
            await login.begin("/")
        assert loop.time() - began == pytest.approx(ASK_SECONDS)

    run_in_virtual_time(begin_many())


@pytest.mark.parametrize("names", [(None, None), ("first", "second"), ("same", "same")], ids=str)
def test_a_provider_that_changes_its_key_lets_people_in_and_the_old_key_does_not(
    browser: Browser, keys: ProviderKeys, names: tuple[str | None, str | None]
) -> None:
    bind(browser, BindingKind.GROUP, "/oncall", Role.VIEWER)
    old, new = (RSAKey.generate_key(parameters={"kid": name} if name else None) for name in names)
    keys.signing = keys.published = old
    assert browser.log_in("1").status_code == 200
    keys.signing = keys.published = new
    answer = browser.log_in("1")
    assert answer.status_code == 200, answer.text
    keys.signing = old
    answer = browser.log_in("1")
    assert answer.status_code == 403 and "The login at the provider failed (" in answer.text


def test_keys_that_a_provider_took_back_are_forgotten_without_a_login(issuer: str, keys: ProviderKeys) -> None:
    clock = Clock(1_000.0)
    with open_browser(issuer, clock=clock) as browser:
        bind(browser, BindingKind.GROUP, "/oncall", Role.VIEWER)
        old = RSAKey.generate_key()
        keys.signing = keys.published = old
        assert browser.log_in("1").status_code == 200
        keys.published = RSAKey.generate_key()
        assert browser.log_in("1").status_code == 200  # Nobody asked for the keys since.
        clock.now += METADATA_SECONDS
        assert browser.log_in("1").status_code == 403


@pytest.mark.parametrize(("public_url", "is_secure"), [("https://apidae.example", True), (HERE, False), ("", False)])
def test_behind_a_proxy_that_ends_tls_nothing_goes_without_it(issuer: str, public_url: str, is_secure: bool) -> None:
    with open_browser(issuer, public_url=public_url) as browser:
        bind(browser, BindingKind.GROUP, "/oncall", Role.VIEWER)
        begun = browser.client.get("/login/oidc")
        ticket = {"cookie": begun.headers["set-cookie"].partition(";")[0]}
        ended = browser.client.get(browser.authorize(begun.headers["location"], "1"), headers=ticket)
        by_token = browser.client.post("/login", data={"token": "correct-horse"})
        session = next(one for one in ended.headers.get_list("set-cookie") if one.startswith(COOKIE_NAME))
        cookies = [begun.headers["set-cookie"], session, by_token.headers["set-cookie"]]
        assert [("; Secure" in one) for one in cookies] == [is_secure] * 3
        asked = {answer.headers.get("strict-transport-security") for answer in (begun, ended, by_token)}
        assert asked == {"max-age=31536000" if is_secure else None}


def test_a_flood_of_answers_that_nobody_asked_for_slows_nobody(browser: Browser) -> None:
    bind(browser, BindingKind.GROUP, "/oncall", Role.ADMIN)
    answers = [browser.client.get("/login/callback?code=x&state=y").status_code for _ in range(40)]
    assert answers == [403] * 40
    assert browser.client.post("/login", data={"token": "wrong"}).status_code == 401
    assert browser.log_in("1").status_code == 200
