"""Signing in and out, the theme, and what keeps other sites' pages away."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from starlette.requests import HTTPConnection

from collector.api.authenticator import COOKIE_NAME, LOGINS_MAX, SESSION_SECONDS, Authenticator, StrangerError
from collector.api.services import ApiSettings, Services
from collector.server.app import build_app
from collector.storage.state.store import StateStore
from collector.storage.state.tables.trust import SESSIONS
from collector.trust import sessions
from collector.trust.principal import Role, Scope
from collector.trust.sessions import SessionTable
from collector.trust.tokens import TokenTable
from tests.collector.api.client import TestClient
from tests.collector.api.fakes import MemoryAlerts, make_alert
from tests.collector.states import create_state

TOKEN = "correct-horse"
HERE = "http://127.0.0.1:8080"


class EmptyReader:
    """A store without a row."""

    def query_columns(self, sql: str, parameters: Mapping[str, Any] | None = None) -> dict[str, list[Any]]:
        return {}


@dataclass
class Clock:
    now: float = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Site:
    """A browser at the app: it keeps cookies and follows nothing."""

    client: TestClient
    clock: Clock
    alerts: MemoryAlerts = field(default_factory=MemoryAlerts)

    def sign_in(self, token: str = TOKEN, destination: str = "/") -> Any:
        return self.client.post("/login", data={"token": token, "next": destination})


def open_site(tmp_path: Path, token: str | None) -> Iterator[Site]:
    clock, alerts = Clock(), MemoryAlerts(make_alert("a1"))
    app = build_app(
        Services(
            store=EmptyReader(),
            state=create_state(),
            alerts=alerts,
            settings=ApiSettings(token=token, version="0.1.0", htmx_path=tmp_path / "none.js"),
            clock=clock,
            readiness=lambda: "",
            metrics=lambda _: (b"", "text/plain"),
        )
    )
    with TestClient(app, base_url=HERE, follow_redirects=False) as client:
        yield Site(client, clock, alerts)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    yield from open_site(tmp_path, TOKEN)


@pytest.fixture
def open_door(tmp_path: Path) -> Iterator[Site]:
    yield from open_site(tmp_path, None)


def test_a_stranger_is_sent_to_the_sign_in_and_back(site: Site) -> None:
    answer = site.client.get("/?q=orders&since=7d")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login?next=%2F%3Fq%3Dorders%26since%3D7d")
    page = site.client.get(answer.headers["location"])
    assert 'name="next" value="/?q=orders&amp;since=7d"' in page.text
    signed = site.sign_in(destination="/?q=orders&since=7d")
    assert (signed.status_code, signed.headers["location"]) == (303, "/?q=orders&since=7d")
    assert site.client.get("/components?q=orders").status_code == 200
    assert site.client.get("/api/v1/endpoints").status_code == 200


def test_a_part_of_the_page_leaves_it_when_the_session_ends(site: Site) -> None:
    answer = site.client.get("/?q=x", headers={"hx-request": "true"})
    assert (answer.status_code, answer.headers["hx-redirect"]) == (401, "/login?next=%2F%3Fq%3Dx")


def test_the_session_is_no_token_and_no_script_reads_it(site: Site) -> None:
    cookie = site.sign_in().headers["set-cookie"]
    assert TOKEN not in cookie
    assert cookie.startswith(f"{COOKIE_NAME}=")
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie


def test_a_wrong_token_opens_nothing(site: Site) -> None:
    answer = site.sign_in("wrong")
    assert answer.status_code == 401
    assert "not a valid API token" in answer.text
    assert "set-cookie" not in answer.headers
    assert site.client.get("/").status_code == 303


def test_a_session_ends_by_time_and_by_signing_out(site: Site) -> None:
    site.sign_in()
    site.clock.now += SESSION_SECONDS - 1
    assert site.client.get("/components").status_code == 200
    site.clock.now += 1
    assert site.client.get("/").status_code == 303
    assert "Sign out" not in site.client.get("/login").text
    site.sign_in()
    assert "Sign out" in site.client.get("/components").text
    assert site.client.post("/logout").headers["location"] == "/login"
    assert site.client.get("/").status_code == 303


@pytest.mark.parametrize("forged", ["", ".", "99999999999.", "\u00e9.\u00e9", "x." + "0" * 64])
def test_a_forged_session_opens_nothing(forged: str, sqlite_state: StateStore) -> None:
    authenticator = know(sqlite_state)
    assert authenticator.sign_in(TOKEN, "127.0.0.1")
    assert not is_known(authenticator, forged)


def test_who_signed_out_cannot_go_on_with_a_copy_of_the_cookie(site: Site) -> None:
    site.sign_in()
    session = site.client.cookies[COOKIE_NAME]
    site.client.post("/logout")
    copied = {"cookie": f"{COOKIE_NAME}={session}"}
    assert site.client.get("/api/v1/endpoints", headers=copied).status_code == 401


def test_two_sessions_of_one_second_end_apart(sqlite_state: StateStore) -> None:
    authenticator = know(sqlite_state)
    first, second = authenticator.sign_in(TOKEN, "127.0.0.1"), authenticator.sign_in(TOKEN, "127.0.0.1")
    assert first and second and first != second
    authenticator.sign_out(ask(cookie=first))
    assert not is_known(authenticator, first)
    assert is_known(authenticator, second)


def test_sessions_are_bounded_and_the_oldest_ends(sqlite_state: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "SESSIONS_MAX", 3)
    clock = Clock(0.0)
    authenticator = know(sqlite_state, clock=clock)
    opened = []
    for clock.now in (0.0, 1.0, 2.0, 3.0):
        opened.append(authenticator.sign_in(TOKEN, "127.0.0.1") or "")
    assert [is_known(authenticator, one) for one in opened] == [False, True, True, True]


def test_who_logs_in_again_and_again_ends_no_session_of_others(
    sqlite_state: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "ACTOR_SESSIONS_MAX", 3)
    monkeypatch.setattr(sessions, "SESSIONS_MAX", 5)
    clock = Clock()
    authenticator = know(sqlite_state, clock=clock)
    admin = authenticator.sign_in(TOKEN, "127.0.0.1") or ""
    _, token = authenticator.tokens.make("v", role=Role.VIEWER, scope=Scope(), expires_at=0.0, by="ada")
    opened = [authenticator.sign_in(token, "127.0.0.1") or "" for _ in range(LOGINS_MAX)]
    assert is_known(authenticator, admin) and is_known(authenticator, opened[-1])
    assert len(authenticator.sessions.list_open("token:v")) == 3


def test_logins_of_one_actor_have_a_pace(site: Site) -> None:
    assert [site.sign_in().status_code for _ in range(LOGINS_MAX)] == [303] * LOGINS_MAX
    answer = site.sign_in()
    assert answer.status_code == 429 and "page-session logged in too often" in answer.text
    own = {"authorization": f"Bearer {TOKEN}"}
    assert len(site.client.get("/api/v1/audit?action=session", headers=own).json()["items"]) == LOGINS_MAX
    made = site.client.post("/api/v1/tokens", json={"name": "v", "role": "viewer"}, headers=own).json()
    assert site.sign_in(made["token"]).status_code == 303
    site.clock.now += 10
    assert [site.sign_in().status_code for _ in range(2)] == [303, 429]


def test_every_collector_of_a_state_knows_the_sessions(state: StateStore) -> None:
    first, second = know(state), know(state)
    session = first.sign_in(TOKEN, "127.0.0.1") or ""
    assert is_known(second, session)
    second.sign_out(ask(cookie=session))
    assert not is_known(second, session)
    assert not is_known(know(state), session)


def test_a_token_that_another_collector_ended_opens_no_session(state: StateStore) -> None:
    first, second = know(state), know(state)
    made = {"scope": Scope(), "expires_at": 0.0, "by": "ada"}
    _, secret = first.tokens.make("ci", role=Role.ADMIN, **made)  # type: ignore[arg-type]
    first.tokens.make("root", role=Role.ADMIN, **made)  # type: ignore[arg-type]
    assert second.tokens.find(secret) and second.tokens.is_first_open
    first.tokens.revoke("ci", by="ada")
    first.tokens.switch_first(False, by="ada", has_login=False)
    assert second.sign_in(secret, "127.0.0.1") is None  # It may know both for a second.
    assert second.sign_in(TOKEN, "127.0.0.1") is None
    assert first.sessions.list_open() == []


def test_a_token_that_is_replaced_ends_its_sessions(sqlite_state: StateStore) -> None:
    session = know(sqlite_state).sign_in(TOKEN, "127.0.0.1") or ""
    assert is_known(know(sqlite_state), session)
    assert not is_known(know(sqlite_state, token="another-one"), session)


def test_the_state_holds_nothing_that_opens_a_page(sqlite_state: StateStore) -> None:
    session = know(sqlite_state).sign_in(TOKEN, "127.0.0.1") or ""
    with sqlite_state.read() as connection:
        (kept,) = connection.execute(select(SESSIONS.c.session_hash)).scalars()
    assert session not in kept
    assert not is_known(know(sqlite_state), kept)


def know(state: StateStore, *, token: str = TOKEN, clock: Callable[[], float] = lambda: 0.0) -> Authenticator:
    return Authenticator(token=token, clock=clock, sessions=SessionTable(state, clock), tokens=TokenTable(state, clock))


def is_known(authenticator: Authenticator, cookie: str) -> bool:
    try:
        return bool(authenticator.identify(ask(cookie=cookie)))
    except StrangerError:
        return False


def ask(*, cookie: str) -> HTTPConnection:
    headers = [(b"cookie", f"{COOKIE_NAME}={cookie}".encode("latin-1"))]
    return HTTPConnection({"type": "http", "headers": headers})


DESTINATIONS = ("//evil.example/", "https://evil.example/", "/\\evil.example", "/\r\nx: y", "")


@pytest.mark.parametrize("destination", DESTINATIONS)
def test_nobody_is_sent_to_another_site(site: Site, destination: str) -> None:
    assert site.sign_in(destination=destination).headers["location"] == "/"


def test_the_theme_stays_and_is_one_of_ours(site: Site) -> None:
    assert 'data-theme="auto"' in site.client.get("/login").text
    site.client.post("/theme", data={"theme": "dark", "next": "/login"})
    assert 'data-theme="dark"' in site.client.get("/login").text
    site.client.post("/theme", data={"theme": '"><script>'})
    assert 'data-theme="auto"' in site.client.get("/login").text


def test_a_form_has_a_limit(site: Site) -> None:
    assert site.client.post("/login", data={"token": "x" * 5_000}).status_code == 413


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "same-origin"}, 303),
        ({"sec-fetch-site": "none"}, 303),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://[broken"}, 403),
        ({"origin": HERE}, 303),
        ({}, 303),
    ],
)
def test_other_sites_change_nothing(open_door: Site, headers: dict[str, str], status: int) -> None:
    answer = open_door.client.post("/alerts/a1/acknowledge", headers=headers)
    assert answer.status_code == status
    assert (open_door.alerts.alerts["a1"].acknowledged_by == "no-auth") == (status == 303)


def test_who_did_it_is_the_credential_whatever_a_request_says(site: Site) -> None:
    path, claim = "/api/v1/alerts/a1/acknowledge", {"asked_by": "apidae"}
    answer = site.client.post(path, json=claim, headers={"authorization": f"Bearer {TOKEN}"})
    assert answer.json()["acknowledged_by"] == "api-token, asked by apidae"
    site.sign_in()
    assert site.client.post(path, json=claim).json()["acknowledged_by"] == "page-session, asked by apidae"
    site.client.post("/alerts/a1/acknowledge")
    assert site.alerts.alerts["a1"].acknowledged_by == "page-session"
    forged = site.client.post(path, json={"by": "apidae"})
    assert forged.status_code == 422 and "by" in forged.text


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8080", 200),
        ("localhost", 200),
        ("[::1]:8080", 200),
        ("rebound.example:8080", 421),
        ("127.0.0.1.example", 421),
        ("", 421),
    ],
)
def test_without_authentication_only_loopback_names_are_answered(open_door: Site, host: str, status: int) -> None:
    assert open_door.client.get("/components", headers={"host": host}).status_code == status


def test_an_action_needs_the_session_and_must_exist(site: Site) -> None:
    assert site.client.post("/alerts/a1/mute").status_code == 401
    site.sign_in()
    assert site.client.post("/alerts/a1/delete").status_code == 404
    assert site.client.post("/alerts/a9/mute").status_code == 404
    asked = {"next": "/?q=x", "confirmed": "yes"}
    assert site.client.post("/alerts/a1/mute", data=asked).headers["location"] == "/alerts/a1?next=%2F%3Fq%3Dx"
    assert site.alerts.silences["a1"].until == site.clock.now + 86_400
    assert site.client.post("/alerts/a1/unsilence", data={"next": "/?q=x"}).headers["location"] == "/?q=x"
