"""The forms of the settings on who may enter, and the page of one's own account: as a browser without scripts."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from collector.api.authenticator import COOKIE_NAME
from tests.collector.api.test_session import TOKEN, Site, open_site
from tests.collector.api.test_users import FIRST, create


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    for opened in open_site(tmp_path, TOKEN):
        opened.sign_in()
        yield opened


def find_secret(text: str) -> str:
    found = re.findall(r'<code id="new-token" data-copy>(apidae_[^<]+)</code>', text)
    assert len(found) == 1, text
    return str(found[0])


def read_faults(text: str) -> dict[str, str]:
    """Sentences beside fields, by the id of the field."""
    return dict(re.findall(r'<span class="fault" id="([a-z-]+)-fault" role="alert">(.*?)</span>', text))


def list_sessions(site: Site, actor: str) -> list[str]:
    """Ids of open ones."""
    items = site.client.get("/api/v1/sessions?all=true", headers=FIRST).json()["items"]
    return [one["id"] for one in items if one["actor"] == actor]


def test_a_token_is_made_by_a_form_and_its_secret_is_shown_once(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    sent = {"name": " ci ", "role": "analyst", "clusters": "", "namespaces": "shop, east/bank", "days": "30"}
    answer = site.client.post("/settings/tokens", data=sent)
    assert answer.status_code == 201 and answer.headers["cache-control"] == "no-store"
    secret = find_secret(answer.text)
    me = site.client.get("/api/v1/me", headers={"authorization": f"Bearer {secret}"}).json()
    assert (me["actor"], me["role"], me["namespaces"]) == ("token:ci", "analyst", ["shop", "east/bank"])
    (token,) = site.client.get("/api/v1/tokens").json()["items"]
    assert (token["made_by"], token["expires_at"]) == ("page-session", "2027-02-14T08:00:00Z")
    page = site.client.get("/settings").text
    assert secret not in page + caplog.text + str(answer.headers) + site.client.get("/api/v1/audit").text
    assert "shop, east/bank" in page


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"name": "a b"}, ("token-name", "The field &#39;name&#39; is &#39;a b&#39;; use 1 to 60 letters, digits")),
        ({"name": ""}, ("token-name", "The field &#39;name&#39; is missing")),
        ({"name": "taken"}, ("token-name", "There is a token &#39;taken&#39; already; revoke it, or choose another")),
        ({"days": "soon"}, ("token-days", "is &#39;soon&#39;; use a whole number.")),
        ({"days": "9999"}, ("token-days", "use 3660 or less")),
        ({"role": "owner"}, ("token-role", "is &#39;owner&#39;; use one of &#39;viewer&#39;")),
        ({"namespaces": "x" * 321}, ("token-namespaces", "use names of 1 to 320 printable characters")),
    ],
)
def test_a_wrong_token_keeps_what_was_typed_and_says_why_at_the_field(
    site: Site, changed: dict[str, str], fault: tuple[str, str]
) -> None:
    create(site.client, "taken")
    sent = {"name": "fine", "role": "viewer", "clusters": "west", "namespaces": "", "days": "7"} | changed
    answer = site.client.post("/settings/tokens", data=sent)
    assert answer.status_code in (409, 422)
    faults = read_faults(answer.text)
    assert list(faults) == [fault[0]] and fault[1] in faults[fault[0]]
    assert 'name="clusters" type="text" value="west"' in answer.text
    assert len(site.client.get("/api/v1/tokens").json()["items"]) == 1


def test_a_token_is_revoked_by_its_button(site: Site) -> None:
    own = create(site.client, "ci")
    assert 'action="/settings/tokens/revoke"' in site.client.get("/settings").text
    answer = site.client.post("/settings/tokens/revoke", data={"name": "ci"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/settings#people-title")
    assert site.client.get("/api/v1/me", headers=own).status_code == 401
    assert site.client.post("/settings/tokens/revoke", data={"name": "ci"}).status_code == 303


def test_a_binding_is_set_and_removed_by_forms(site: Site) -> None:
    sent = {"kind": "group", "name": "on call", "role": "responder", "clusters": "east", "namespaces": ""}
    assert site.client.post("/settings/role-bindings", data=sent).status_code == 303
    (binding,) = site.client.get("/api/v1/role-bindings").json()["items"]
    assert (binding["name"], binding["role"], binding["clusters"]) == ("on call", "responder", ["east"])
    wrong = site.client.post("/settings/role-bindings", data=sent | {"name": " "})
    assert wrong.status_code == 422 and list(read_faults(wrong.text)) == ["binding-name"]
    page = site.client.get("/settings").text
    assert 'action="/settings/role-bindings/remove"' in page and "group on call" in page
    gone = site.client.post("/settings/role-bindings/remove", data={"kind": "group", "name": "on call"})
    assert gone.status_code == 303
    assert site.client.get("/api/v1/role-bindings").json()["items"] == []


def test_the_first_token_is_switched_by_forms(site: Site) -> None:
    refused = site.client.post("/settings/first-token", data={"is_on": "no"})
    assert refused.status_code == 409 and "only way in of an admin" in refused.text
    root = create(site.client, "root", role="admin", days=0)
    assert site.client.post("/settings/first-token", data={"is_on": "no"}).status_code == 303
    assert site.client.get("/settings").status_code == 303  # To the sign-in: the page's own session ended with it.
    site.sign_in(root["authorization"][7:])
    page = site.client.get("/settings").text
    assert 'id="first-on"' in page and 'id="first-off"' not in page
    site.client.post("/settings/first-token", data={"is_on": "yes"})
    assert site.client.get("/api/v1/me", headers=FIRST).status_code == 200


def test_an_admin_signs_others_out_one_page_or_everywhere(site: Site) -> None:
    own = create(site.client, "ops")["authorization"][7:]
    admin = {"cookie": f"{COOKIE_NAME}={site.client.cookies[COOKIE_NAME]}"}
    for _ in range(3):
        site.sign_in(own)
    site.client.cookies.clear()
    first = list_sessions(site, "token:ops")[0]
    page = site.client.get("/settings", headers=admin).text
    assert page.count('name="actor" value="token:ops"') == 3 and 'name="actor" value="page-session"' not in page
    for sent, left in (({"id": first, "next": "/settings"}, 2), ({"actor": "token:ops"}, 0)):
        assert site.client.post("/sessions/end", data=sent, headers=admin).status_code == 303
        assert len(list_sessions(site, "token:ops")) == left
    assert len(list_sessions(site, "page-session")) == 1


def test_everybody_has_a_page_of_the_own_account_and_signs_out_everywhere(site: Site) -> None:
    own = create(site.client, "ada", namespaces=["shop"])["authorization"][7:]
    other = create(site.client, "bob")["authorization"][7:]
    site.sign_in(other)
    bob = site.client.cookies[COOKIE_NAME]
    site.sign_in(own)
    page = site.client.get("/me").text
    assert "token:ada" in page and "the namespace shop" in page and "bob" not in page
    assert "/settings" not in page and 'href="/me">Account</a>' in site.client.get("/components").text
    (foreign,) = list_sessions(site, "token:bob")
    assert site.client.post("/sessions/end", data={"id": foreign}).status_code == 403
    assert site.client.post("/sessions/end", data={"actor": "token:bob"}).status_code == 403
    answer = site.client.post("/sessions/end", data={"next": "/login"})
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert site.client.get("/me").status_code == 303
    assert site.client.get("/api/v1/me", headers={"cookie": f"{COOKIE_NAME}={bob}"}).status_code == 200


@pytest.mark.parametrize("path", ["tokens", "tokens/revoke", "first-token", "role-bindings", "role-bindings/remove"])
def test_only_an_admin_sends_the_forms_and_no_other_site_does(site: Site, path: str) -> None:
    sent = {"name": "x", "role": "admin", "kind": "user", "is_on": "no"}
    foreign = site.client.post(f"/settings/{path}", data=sent, headers={"sec-fetch-site": "cross-site"})
    assert foreign.status_code == 403 and "another site" in foreign.text
    for more in ({"role": "responder"}, {"role": "admin", "namespaces": ["shop"]}):
        site.sign_in(create(site.client, f"t{len(more)}", **more)["authorization"][7:])
        assert site.client.post(f"/settings/{path}", data=sent).status_code == 403
    assert site.client.get("/api/v1/role-bindings", headers=FIRST).json()["items"] == []
