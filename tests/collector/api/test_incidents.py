"""Incidents and notifiers over the API, and incidents on the page; what a foreign name holds stays text."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from collector.alerting.notifiers.delivery import Notifier
from collector.alerting.notifiers.http import HttpSender
from collector.alerting.notifiers.outbox import Outbox
from collector.alerting.notifiers.templates import write_json
from collector.api.services import ApiSettings, Services
from collector.server.app import build_app
from collector.storage.state.store import StateStore
from tests.collector.api.client import TestClient
from tests.collector.api.fakes import MemoryAlerts, make_alert
from tests.collector.states import create_state

HOSTILE = "<script>alert(1)</script>"


class EmptyReader:
    """A store without a row."""

    def query_columns(self, sql: str, parameters: Mapping[str, Any] | None = None) -> dict[str, list[Any]]:
        return {}


@pytest.fixture
def client(sqlite_state: StateStore) -> TestClient:
    alerts = MemoryAlerts(
        make_alert("a1", incident_id="i1", risk="API1:2023", advice="Do it.", title=HOSTILE),
        make_alert("a2", incident_id="i1"),
        make_alert("a3", incident_id="i2"),
    )
    transport = httpx.MockTransport(lambda _: httpx.Response(400))
    sender = HttpSender("alertmanager", "http://am:9093", write_json("alertmanager"), transport=transport)
    app = build_app(
        Services(
            store=EmptyReader(),
            state=create_state(),
            alerts=alerts,
            settings=ApiSettings(token=None, version="0.1.0", htmx_path=Path("/nonexistent")),
            clock=lambda: 1_800_000_000.0,
            readiness=lambda: "",
            metrics=lambda _: (b"", "text/plain"),
            notifiers=[Notifier(sender, Outbox(sqlite_state, "alertmanager"), clock=lambda: 0.0)],
        )
    )
    return TestClient(app, base_url="http://127.0.0.1:8080")


def test_incidents_are_paged_and_shown_whole(client: TestClient) -> None:
    page = client.get("/api/v1/incidents", params={"limit": 1}).json()
    assert [item["id"] for item in page["items"]] == ["i2"]
    rest = client.get("/api/v1/incidents", params={"limit": 1, "cursor": page["next_cursor"]}).json()
    assert [(item["id"], item["alerts"]) for item in rest["items"]] == [("i1", 2)]
    assert rest["next_cursor"] is None
    whole = client.get("/api/v1/incidents/i1").json()
    assert [alert["id"] for alert in whole["alerts"]] == ["a1", "a2"]
    assert whole["alerts"][0]["risk"] == "API1:2023"
    assert [entry["happening"] for entry in whole["timeline"]] == ["opened", "opened"]


def test_an_unknown_incident_and_a_foreign_cursor_are_refused_in_words(client: TestClient) -> None:
    answer = client.get("/api/v1/incidents/nothing")
    assert (answer.status_code, "look it up in /api/v1/incidents" in answer.json()["detail"]) == (404, True)
    assert client.get("/api/v1/incidents", params={"cursor": "x"}).status_code == 422


def test_the_page_of_an_incident_shows_its_timeline_and_runs_nothing(client: TestClient) -> None:
    page = client.get("/incidents/i1")
    assert page.status_code == 200
    assert 'id="timeline"' in page.text
    assert HOSTILE not in page.text
    assert "&lt;script&gt;" in page.text
    assert client.get("/incidents/nothing").status_code == 404


def test_notifiers_are_listed_and_tested(client: TestClient) -> None:
    (told,) = client.get("/api/v1/notifiers").json()["items"]
    assert (told["name"], told["target"], told["seen"], told["last_outcome"]) == (
        "alertmanager",
        "http://am:9093",
        0,
        None,
    )
    answer = client.post("/api/v1/notifiers/alertmanager/test", json={"asked_by": "ann"}).json()
    assert answer["outcome"] == "refused"
    assert client.get("/api/v1/notifiers").json()["items"][0]["last_outcome"] == "refused"
    missing = client.post("/api/v1/notifiers/pager/test", json={"asked_by": "ann"})
    assert (missing.status_code, "it may be: alertmanager" in missing.json()["detail"]) == (404, True)
