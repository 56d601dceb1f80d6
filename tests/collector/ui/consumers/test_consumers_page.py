"""The pages of consumers: the list, one consumer with its label, links to it, and the form that keeps nothing."""

import re
from urllib.parse import quote

import pytest

from collector.core.keys import InstallationKey
from common.keyed_hash import hash_value
from tests.collector.api.client import TestClient
from tests.collector.api.test_consumers import ADA, JOB, SHOP, client, services

pytestmark = pytest.mark.store
__all__ = ["client", "services"]
SECRET = "4f9d2c81a77e4b02"
KEY = b"0123456789abcdef"


def link(consumer: str) -> str:
    return f'href="/consumers/{quote(consumer)}"'


def show(client: TestClient, path: str, status: int = 200) -> str:
    answer = client.get(path)
    assert answer.status_code == status, answer.text
    return answer.text


def test_the_list_links_each_consumer_and_filters(client: TestClient) -> None:
    text = show(client, "/consumers")
    assert all(link(one) in text for one in (ADA, JOB, SHOP)) and text.count("<h1>") == 1
    narrowed = show(client, "/consumers?namespace=money")
    assert link(JOB) not in narrowed and link(SHOP) in narrowed
    assert "'address' is 'orders'" in show(client, "/consumers?address=orders", 422).replace("&#39;", "'")
    assert "No consumer matches." in show(client, "/consumers?q=nobody")


def test_one_consumer_shows_what_it_did_and_gets_a_label(client: TestClient) -> None:
    text = show(client, f"/consumers/{ADA}")
    assert "/orders/{order_id}" in text and "shop/orders:8080" in text and "192.0.2.77" in text and "curl 11" in text
    assert "jwt subject" in text and f"apidae erase {ADA}" in text and "Calls" in text
    saved = client.post("/consumers/labels", data={"consumer": ADA, "name": "Ada <3", "note": "pays the bills"})
    assert saved.status_code == 200 and '<h1 class="identity">Ada &lt;3</h1>' in saved.text
    assert "pays the bills" in saved.text and "Named by no-auth" in saved.text
    assert "Ada &lt;3" in show(client, "/consumers") and "Ada &lt;3" in show(client, "/endpoints/ep0001")
    client.post("/consumers/labels", data={"consumer": ADA, "name": ""})
    assert "Ada" not in show(client, f"/consumers/{ADA}")


def test_alerts_are_shown_where_the_consumer_is_and_link_to_it(client: TestClient) -> None:
    assert 'href="/alerts/a1"' in show(client, f"/consumers/{JOB}")
    assert link(JOB) in show(client, "/alerts/a1")


def test_who_never_called_is_not_found_and_another_word_is_refused(client: TestClient) -> None:
    assert "No call of it" in show(client, "/consumers/principal:00000000000000ff", 404)
    assert client.get("/consumers/nobody").status_code == 422
    assert client.get("/consumers/identify", follow_redirects=False).headers["location"] == "/consumers"


def test_the_form_finds_who_it_is_and_the_answer_does_not_repeat_it(
    client: TestClient, services, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = InstallationKey(key_id=7, secret=KEY)
    monkeypatch.setattr(services.finder, "_list_keys", lambda: (key,))
    answer = client.post("/consumers/identify", data={"value": f"x-api-key: {SECRET}"})
    assert answer.status_code == 200 and "Nobody called with it" in answer.text and SECRET not in answer.text
    assert f"principal:{hash_value(KEY, SECRET.encode()):016x}" in answer.text
    assert answer.headers["cache-control"] == "no-store" and not answer.history
    # A hash that the seeded calls have stands for the token of who made them.
    monkeypatch.setattr("collector.inventory.consumers.identify.hash_value", lambda secret, text: 0x4D)
    found = client.post("/consumers/identify", data={"value": SECRET})
    assert link(ADA) in found.text and SECRET not in found.text
    assert "Paste a token" in client.post("/consumers/identify", data={"value": " "}).text
    form = re.search(r"<input[^>]*name=\"value\"[^>]*>", show(client, "/consumers"))
    assert form is not None and 'type="password"' in form[0] and 'autocomplete="off"' in form[0]
