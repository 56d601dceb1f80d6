"""Named tokens and sessions over the API and the sign-in: who enters as whom, and what ends when."""

import base64
import csv
import io
import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
from typer.testing import CliRunner, Result

from collector.api import exports
from collector.api.authenticator import COOKIE_NAME
from collector.cli.commands import register
from collector.trust.guesses import GUESSES_MAX
from collector.ui.audit.page import list_facts
from tests.collector.api.client import TestClient
from tests.collector.api.test_session import TOKEN, Site, open_site

FIRST = {"authorization": f"Bearer {TOKEN}"}


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    yield from open_site(tmp_path, TOKEN)


def create(client: TestClient, name: str, headers: dict[str, str] = FIRST, **more: Any) -> dict[str, str]:
    answer = client.post("/api/v1/tokens", json={"name": name, "role": "viewer"} | more, headers=headers)
    assert answer.status_code == 201, answer.text
    return {"authorization": f"Bearer {answer.json()['token']}"}


def test_a_named_token_enters_as_itself_until_it_is_revoked(site: Site) -> None:
    own = create(site.client, "ci", namespaces=["shop"], days=30)
    assert site.client.get("/api/v1/me", headers=own).json() == {
        "actor": "token:ci",
        "role": "viewer",
        "clusters": [],
        "namespaces": ["shop"],
        "way": "token",
    }
    listed = site.client.get("/api/v1/tokens", headers=FIRST)
    assert own["authorization"][7:] not in listed.text
    (token,) = listed.json()["items"]
    assert (token["name"], token["made_by"], token["is_expired"]) == ("ci", "api-token", False)
    assert token["last_used_at"] is not None and token["expires_at"] > token["made_at"]
    assert site.client.delete("/api/v1/tokens/ci", headers=FIRST).status_code == 200
    assert site.client.get("/api/v1/me", headers=own).status_code == 401
    assert site.client.delete("/api/v1/tokens/ci", headers=FIRST).status_code == 404


def test_only_an_admin_of_everything_sees_and_makes_tokens(site: Site) -> None:
    for name, more in {"v": {}, "r": {"role": "responder"}, "a": {"role": "admin", "clusters": ["east"]}}.items():
        own = create(site.client, name, **more)
        assert site.client.get("/api/v1/tokens", headers=own).status_code == 403
        body = {"name": "mine", "role": "admin"}
        refused = site.client.post("/api/v1/tokens", json=body, headers=own)
        assert refused.status_code == 403 and f"token:{name}" in refused.json()["detail"]
        assert site.client.put("/api/v1/first-token", json={"is_on": False}, headers=own).status_code == 403
        assert site.client.get("/api/v1/sessions?all=true", headers=own).status_code == 403
        assert site.client.post("/api/v1/sessions/end", json={"actor": "page-session"}, headers=own).status_code == 403


def test_a_page_that_is_signed_in_with_a_token_acts_as_it_and_ends_with_it(site: Site) -> None:
    own = create(site.client, "ops", role="admin")
    assert site.sign_in(own["authorization"][7:]).status_code == 303
    assert site.client.get("/api/v1/me").json()["actor"] == "token:ops"
    site.client.post("/alerts/a1/acknowledge")
    assert site.alerts.alerts["a1"].acknowledged_by == "token:ops"
    site.client.delete("/api/v1/tokens/ops", headers=FIRST)
    assert site.client.get("/api/v1/me").status_code == 401


def test_a_page_lasts_no_longer_than_the_token_that_opened_it(site: Site) -> None:
    own = create(site.client, "short", role="admin", days=1)
    site.clock.now += 86_400 - 60
    site.sign_in(own["authorization"][7:])
    assert site.client.get("/api/v1/me").status_code == 200
    site.clock.now += 60
    assert site.client.get("/api/v1/me").status_code == 401


def test_who_signs_out_everywhere_is_out_everywhere(site: Site) -> None:
    own = create(site.client, "ops", role="admin")
    cookies = []
    for token in (TOKEN, own["authorization"][7:], own["authorization"][7:]):
        site.client.cookies.clear()
        site.sign_in(token)
        cookies.append({"cookie": f"{COOKIE_NAME}={site.client.cookies[COOKIE_NAME]}"})
    site.client.cookies.clear()
    listed = site.client.get("/api/v1/sessions", headers=own).json()["items"]
    assert [one["actor"] for one in listed] == ["token:ops"] * 2
    assert len(site.client.get("/api/v1/sessions?all=true", headers=FIRST).json()["items"]) == 3
    assert site.client.delete(f"/api/v1/sessions/{listed[0]['id']}", headers=own).json() == {"ended": 1}
    assert site.client.post("/api/v1/sessions/end", json={}, headers=own).json() == {"ended": 1}
    assert [site.client.get("/api/v1/me", headers=one).status_code for one in cookies] == [200, 401, 401]
    other = site.client.post("/api/v1/sessions/end", json={"actor": "page-session"}, headers=FIRST)
    assert other.json() == {"ended": 1}
    assert site.client.get("/api/v1/me", headers=cookies[0]).status_code == 401
    ended = site.client.get("/api/v1/audit?action=session.ended", headers=FIRST).json()["items"]
    assert [(one["by"], json.loads(one["before"])) for one in ended] == [
        ("api-token", {"actor": "page-session", "sessions": 1}),
        ("token:ops", {"actor": "token:ops", "sessions": 1}),
        ("token:ops", {"actor": "token:ops", "sessions": 1}),
    ]


def test_the_first_token_goes_off_and_comes_back_by_another_admin(site: Site) -> None:
    refused = site.client.put("/api/v1/first-token", json={"is_on": False}, headers=FIRST)
    assert refused.status_code == 409 and "only way in of an admin" in refused.json()["detail"]
    root = create(site.client, "root", role="admin", days=0)
    site.sign_in()
    assert site.client.put("/api/v1/first-token", json={"is_on": False}, headers=root).status_code == 200
    assert site.client.get("/api/v1/me").status_code == 401  # The session that it opened.
    assert site.client.get("/api/v1/me", headers=FIRST).status_code == 401
    assert site.sign_in().status_code == 401
    assert site.client.put("/api/v1/first-token", json={"is_on": True}, headers=root).status_code == 200
    assert site.client.get("/api/v1/me", headers=FIRST).json()["actor"] == "api-token"


def test_a_session_from_before_a_sign_in_is_never_the_one_after_it(site: Site) -> None:
    site.client.cookies.set(COOKIE_NAME, "planted")
    answer = site.sign_in()
    assert "planted" not in answer.headers["set-cookie"]
    assert site.client.get("/api/v1/me", headers={"cookie": f"{COOKIE_NAME}=planted"}).status_code == 401


def test_wrong_tokens_are_slowed_and_a_right_one_always_enters(site: Site) -> None:
    own = create(site.client, "ci")
    wrong = [
        site.client.get("/api/v1/me", headers={"authorization": f"Bearer {number}"}).status_code
        for number in range(GUESSES_MAX)
    ]
    assert wrong == [401] * len(wrong)
    answer = site.sign_in("another")
    assert answer.status_code == 429 and "Too many wrong tokens" in answer.text
    assert site.client.get("/api/v1/me", headers={"authorization": "Bearer x"}).headers["retry-after"] == "2"
    assert site.client.get("/api/v1/me", headers=own).status_code == 200  # Its first request.
    assert site.sign_in().status_code == 303
    site.clock.now += 2
    assert site.client.get("/api/v1/me", headers={"authorization": "Bearer x"}).status_code == 401


def test_a_program_that_repeats_an_expired_token_slows_nobody(site: Site) -> None:
    expired = create(site.client, "old", days=1)
    site.clock.now += 86_400
    asked = [site.client.get("/api/v1/me", headers=expired).status_code for _ in range(GUESSES_MAX + 10)]
    assert asked == [401] * len(asked)
    assert site.client.get("/api/v1/me", headers={"authorization": "Bearer x"}).status_code == 401


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"name": "a b", "role": "viewer"}, "name"),
        ({"name": "x", "role": "owner"}, "role"),
        ({"name": "x", "role": "viewer", "days": -1}, "days"),
        ({"name": "x", "role": "viewer", "namespaces": [""]}, "namespaces"),
        ({"name": "x"}, "role"),
    ],
)
def test_a_wrong_token_is_one_sentence(site: Site, body: dict[str, Any], word: str) -> None:
    answer = site.client.post("/api/v1/tokens", json=body, headers=FIRST)
    assert answer.status_code == 422 and word in answer.json()["detail"]


def test_the_audit_log_is_listed_by_page_and_checked(site: Site) -> None:
    for number in range(3):
        create(site.client, f"t{number}", asked_by="ada")
    site.client.delete("/api/v1/tokens/t1", headers=FIRST)
    asked = {"actor": "api-token", "action": "token", "limit": "2"}
    answer = site.client.get("/api/v1/audit", params=asked, headers=FIRST).json()
    page = answer["items"]
    assert [(one["action"], one["target"], one["way"]) for one in page] == [
        ("token.revoked", "t1", "first token"),
        ("token.created", "t2", "first token"),
    ]
    more = site.client.get("/api/v1/audit", params=asked | {"cursor": answer["next_cursor"]}, headers=FIRST)
    assert [one["target"] for one in more.json()["items"]] == ["t1", "t0"] and more.json()["next_cursor"] is None
    for number in (1e300, 2.0**63, 0.0, -1.0):
        question, _, last = json.loads(base64.urlsafe_b64decode(answer["next_cursor"] + "=="))
        word = base64.urlsafe_b64encode(json.dumps([question, number, last]).encode()).decode().rstrip("=")
        for path in ("/api/v1/audit", "/audit"):
            refused = site.client.get(path, params=asked | {"cursor": word}, headers=FIRST)
            assert refused.status_code == 422 and "cursor" in refused.text
    file = site.client.get("/api/v1/exports/audit.jsonl", params=asked, headers=FIRST)
    assert [json.loads(line)["target"] for line in file.text.splitlines()] == ["t1", "t2", "t1", "t0"]
    shown = site.client.get("/audit", params=asked, headers=FIRST | {"accept": "text/html"}).text
    assert "token.revoked" in shown and "cursor=" in shown and "/api/v1/exports/audit.csv?actor=api-token" in shown
    assert '<span class="quiet-text">role</span> viewer' in shown
    check = site.client.get("/api/v1/audit/check", headers=FIRST).json()
    assert (check["fault"], check["entries"]) == ("", 5)
    viewer = create(site.client, "v")
    for path in ("audit", "audit/check", "role-bindings"):
        assert site.client.get(f"/api/v1/{path}", headers=viewer).status_code == 403


def test_the_settings_show_tokens_and_sessions_to_an_admin_alone(site: Site) -> None:
    viewer, admin = create(site.client, "named-one"), create(site.client, "root", role="admin")
    site.sign_in(admin["authorization"][7:])
    page = site.client.get("/settings").text
    assert "named-one" in page and "token:root" in page and "Nobody is bound to a role." in page
    assert viewer["authorization"][7:] not in page
    site.sign_in(viewer["authorization"][7:])
    assert "root" not in site.client.get("/settings").text


def test_before_and_after_of_an_entry_are_words() -> None:
    told = json.dumps({"until": 1_827_635_430.0, "is_confirmed": True, "services": [], "ids": ["a", "b"], "by": ""})
    assert list(list_facts(told)) == [
        ("until", "", 1_827_635_430.0),
        ("is confirmed", "yes", None),
        ("ids", "a, b", None),
    ]
    assert list(list_facts("")) == [] and list(list_facts("7 days")) == [("", "7 days", None)]


class Held:
    """`httpx.Client(...)` of a command, answered by the application in this process."""

    def __init__(self, client: TestClient) -> None:
        self._client = client

    def __enter__(self) -> TestClient:
        return self._client

    def __exit__(self, *_: object) -> None:
        """The fixture closes it."""


def test_commands_list_export_and_check_the_audit_log(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        create(site.client, f"t{number}")
    monkeypatch.setattr(exports, "ROWS_MAX", 2)
    monkeypatch.setattr(httpx, "Client", lambda **_: Held(site.client))
    commands = typer.Typer()
    register(commands)

    def run(*words: str) -> Result:
        result = CliRunner().invoke(commands, [*words, "--url", "http://127.0.0.1", "--token", TOKEN])
        assert result.exit_code == 0, result.output
        return result

    listed = json.loads(run("get", "audit", "--action", "token.created", "--all", "-o", "json").stdout)
    assert [one["target"] for one in listed] == ["t4", "t3", "t2", "t1", "t0"]
    run("audit", "export", "--action", "token", str(tmp_path / "a.jsonl"))
    lines = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert lines == listed
    assert stat.S_IMODE((tmp_path / "a.jsonl").stat().st_mode) == 0o600
    run("audit", "export", "--action", "token", "--format", "csv", str(tmp_path / "a.csv"))
    rows = list(csv.DictReader(io.StringIO((tmp_path / "a.csv").read_text())))
    assert [row["target"] for row in rows] == ["t4", "t3", "t2", "t1", "t0"]
    exported = json.loads(run("get", "audit", "--action", "export", "--all", "-o", "json").stdout)
    assert [json.loads(one["after"])["rows"] for one in exported] == [1, 2, 2] * 2
    assert "All 11 entries are there. The last is 11:" in run("audit", "check").stdout
