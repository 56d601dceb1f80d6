"""What is expected or muted, by API, command line and page, beside the terminal: they agree which alerts are open, who
silenced the others, and how that is undone; also after a restart."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape, unescape
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
from typer.testing import CliRunner, Result

from collector.alerting.alert import AlertKind, Confidence, Severity
from collector.alerting.notifiers.templates import list_facts
from collector.alerting.service import AlertService
from collector.api.services import ApiSettings, Services
from collector.cli import findings
from collector.cli.commands import register
from collector.cli.top.snapshot import read_snapshot
from collector.core.kinds import Sensitivity
from collector.server.app import build_app
from collector.storage.base import Store
from collector.storage.state.store import StateStore
from tests.collector.alerting.test_service import Office, embedded, report_at, store  # noqa: F401
from tests.collector.api.client import TestClient
from tests.collector.cli.test_commands import Held

pytestmark = pytest.mark.store

HERE = "http://127.0.0.1:8080"
HOSTILE = "<b>nightly</b> export"


@dataclass
class Site:
    """A collector with one alert of high severity and one of medium, and those who look at it."""

    office: Office
    desk: AlertService
    client: TestClient
    monkeypatch: pytest.MonkeyPatch

    def restart(self) -> None:
        self.desk = self.office.open()
        self.client = make_client(self.office, self.desk)

    def run(self, *words: str) -> Result:
        self.monkeypatch.setattr(httpx, "Client", lambda **_: Held(self.client))
        app = typer.Typer()
        register(app)
        return CliRunner().invoke(app, [*words, "--url", HERE], env={"COLUMNS": "300"})

    def list_open(self) -> dict[str, list[str]]:
        """Ids of open alerts by who says so."""
        listed = json.loads(self.run("get", "alerts", "-o", "json").stdout)
        filtered = json.loads(self.run("get", "alerts", "--state", "open", "-o", "json").stdout)
        return {
            "api": sorted(item["id"] for item in self.ask(state="open")),
            "command": sorted(item["id"] for item in listed if item["state"] == "open"),
            "filtered": sorted(item["id"] for item in filtered),
            "page": sorted(set(re.findall(r'id="acknowledge-(\w+)"', self.client.get("/").text))),
            "list": sorted(set(re.findall(r'id="alert-(\w+)"', self.client.get("/alerts").text))),
            "terminal": sorted(alert.id for alert in read_snapshot(self.client).open_alerts),
        }

    def ask(self, **asked: str) -> list[dict[str, Any]]:
        return list(self.client.get("/api/v1/alerts", params=asked).json()["items"])


def make_client(office: Office, desk: AlertService) -> TestClient:
    app = build_app(
        Services(
            store=office.store,
            state=office.state,
            alerts=desk,
            settings=ApiSettings(token=None, version="0.1.0", htmx_path=Path("/nonexistent")),
            clock=lambda: office.now,
            readiness=lambda: "",
            metrics=lambda _: (b"", "text/plain"),
        )
    )
    return TestClient(app, base_url=HERE, follow_redirects=False)


@pytest.fixture
def site(
    store: Store,  # noqa: F811
    sqlite_state: StateStore,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Site]:
    numbers = iter(range(1, 1_000))
    office = Office(store, sqlite_state, numbers, configured=Sensitivity.NORMAL)
    desk = office.open()
    desk.take_reports([report_at(office, 1, severity=Severity.HIGH), report_at(office, 2, severity=Severity.MEDIUM)])
    yield Site(office, desk, make_client(office, desk), monkeypatch)


def silence_by_api(site: Site) -> None:
    answer = site.client.post("/api/v1/alerts/a001/expected", json={"asked_by": "ann", "reason": HOSTILE})
    assert (answer.status_code, answer.json()["state"]) == (200, "silenced")


def undo_by_api(site: Site) -> None:
    assert site.client.post("/api/v1/alerts/a001/unsilence", json={"asked_by": "bob"}).json()["state"] == "open"


def silence_by_command(site: Site) -> None:
    shown = site.run("silence", "a001", "--asked-by", "ann", "--reason", HOSTILE)
    assert (shown.exit_code, shown.stdout) == (0, "a001: expected until `apidae unsilence a001`\n")


def undo_by_command(site: Site) -> None:
    assert site.run("unsilence", "a001", "--asked-by", "bob").stdout == "a001: open\n"


def silence_by_page(site: Site) -> None:
    asked = {"next": "/", "reason": HOSTILE}
    question = site.client.post("/alerts/a001/expected", data=asked)
    assert (question.status_code, "Is this expected?" in question.text) == (200, True)
    assert site.list_open()["page"] == ["a001", "a002"]  # Nothing was done yet.
    fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', question.text))
    done = site.client.post("/alerts/a001/expected", data={**asked, "next": "/", "confirmed": fields["confirmed"]})
    assert (done.status_code, done.headers["location"]) == (303, "/alerts/a001?next=%2F")
    there = site.client.get(done.headers["location"]).text
    assert 'role="status"' in there and 'id="unsilence-a001"' in there


def undo_by_page(site: Site) -> None:
    done = site.client.post("/alerts/a001/unsilence", data={"next": "/alerts?state=silenced"})
    assert (done.status_code, done.headers["location"]) == (303, "/alerts?state=silenced")


WAYS = {
    "api": (silence_by_api, undo_by_api, "no-auth, asked by ann"),
    "command": (silence_by_command, undo_by_command, "no-auth, asked by ann"),
    "page": (silence_by_page, undo_by_page, "no-auth"),
}


@pytest.mark.parametrize(("silence", "undo", "by"), WAYS.values(), ids=WAYS)
def test_all_agree_that_an_expected_alert_is_not_open_who_said_so_and_that_it_is_open_once_undone(
    site: Site, silence: Callable[[Site], None], undo: Callable[[Site], None], by: str
) -> None:
    assert {tuple(ids) for ids in site.list_open().values()} == {("a001", "a002")}
    silence(site)
    for _ in range(2):
        assert {tuple(ids) for ids in site.list_open().values()} == {("a002",)}
        (item,) = site.ask(state="silenced")
        assert item["id"] == "a001"
        assert {name: item["silence"][name] for name in ("kind", "by", "reason", "until")} == {
            "kind": "expected", "by": by, "reason": HOSTILE, "until": None,
        }  # fmt: skip
        listed = site.client.get("/alerts?state=silenced").text
        assert 'id="unsilence-a001"' in listed and HOSTILE not in listed
        text = " ".join(re.sub(r"<[^>]+>", "", unescape(listed).replace(HOSTILE, "REASON")).split())
        assert f"expected by {by} now, until it is undone: REASON" in text
        shown = site.run("get", "alerts", "--state", "silenced").stdout
        assert "a001" in shown and "expected" in shown and by in shown
        site.restart()
    undo(site)
    for _ in range(2):
        assert {tuple(ids) for ids in site.list_open().values()} == {("a001", "a002")}
        assert site.ask(state="silenced") == []
        site.restart()


def test_only_what_is_grave_is_asked_about_first(site: Site) -> None:
    assert "Silence…" in site.client.get("/alerts/a001").text and "Silence…" not in site.client.get("/alerts/a002").text
    done = site.client.post("/alerts/a002/mute", data={"next": "/"})
    assert (done.status_code, done.headers["location"]) == (303, "/alerts/a002?next=%2F")
    (item,) = site.ask(state="silenced")
    assert (item["id"], item["silence"]["kind"], item["silence"]["by"]) == ("a002", "muted", "no-auth")
    question = site.client.post("/alerts/a001/mute", data={"next": "https://evil.example/"})
    assert (question.status_code, "Silence this alert for 1 d?" in question.text) == (200, True)
    assert "evil.example" not in question.text


def test_what_is_not_silenced_and_what_a_rule_silences_cannot_be_undone_there(site: Site) -> None:
    answer = site.client.post("/api/v1/alerts/a001/unsilence", json={})
    assert (answer.status_code, answer.json()["detail"]) == (
        409, "Alert a001 is not silenced; there is nothing to undo.",
    )  # fmt: skip
    assert site.client.post("/alerts/a001/unsilence", data={}).status_code == 409
    assert site.run("unsilence", "a001").exit_code == 1
    assert site.client.post("/api/v1/alerts/a999/unsilence", json={}).status_code == 404
    rule = site.office.detection.add_rule(
        by="ann", note="Ours", seconds=600, consumer="", network="", workload="", endpoint_id="",
        kind=AlertKind.VOLUME_PAIR.value,
    )  # fmt: skip
    assert {tuple(ids) for ids in site.list_open().values()} == {()}
    answer = site.client.post("/api/v1/alerts/a001/unsilence", json={})
    assert (answer.status_code, rule.id in answer.json()["detail"]) == (409, True)
    listed = site.client.get("/alerts?state=silenced").text
    assert "known good" in listed and "unsilence-a001" not in listed
    site.office.detection.end_rule(rule.id, by="ann")
    assert {tuple(ids) for ids in site.list_open().values()} == {("a001", "a002")}


def test_the_page_silences_for_as_long_as_it_is_asked_and_keeps_the_reason_over_the_confirmation(site: Site) -> None:
    asked = {"expiry": "3600", "reason": HOSTILE, "next": "/alerts/a001"}
    question = site.client.post("/alerts/a001/silence", data=asked).text
    assert "Silence this alert for 1 h?" in question and f'name="reason" value="{escape(HOSTILE)}"' in question
    done = site.client.post("/alerts/a001/silence", data={**asked, "confirmed": "yes"})
    assert done.headers["location"] == "/alerts/a001?next=%2Falerts%2Fa001"
    (item,) = site.ask(state="silenced")
    assert (item["silence"]["kind"], item["silence"]["reason"]) == ("muted", HOSTILE)
    for wrong in ("", "59", "x", "99999999999"):
        assert site.client.post("/alerts/a002/silence", data={"expiry": wrong}).status_code == 422


def test_at_a_terminal_the_command_asks_first_about_what_is_grave(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(findings, "has_terminal", lambda: True)
    assert site.run("silence", "a001").exit_code == 1  # Nobody answers.
    assert site.ask(state="silenced") == []
    assert site.run("silence", "a001", "--confirm").exit_code == 0
    assert site.run("silence", "a002").exit_code == 0
    assert {item["id"] for item in site.ask(state="silenced")} == {"a001", "a002"}


def test_a_mute_says_until_when_and_ends_by_itself(site: Site) -> None:
    shown = site.run("silence", "a001", "--hours", "2", "--reason", "Load test")
    assert shown.stdout.startswith("a001: muted until 20")
    (item,) = site.ask(state="silenced")
    assert item["silence"]["until"] is not None
    assert "for 2 h more: Load test" in " ".join(site.client.get("/alerts/a001").text.split())
    site.office.now += 7_300
    assert site.ask(state="silenced") == []


def test_the_list_says_what_is_wrong_with_a_question(site: Site) -> None:
    assert site.client.get("/alerts?state=gone").status_code == 422
    assert "No alert is closed." in site.client.get("/alerts?state=closed").text
    assert site.client.get("/api/v1/alerts", params={"state": "gone"}).status_code == 422


def test_severity_and_confidence_are_two_fields_wherever_an_alert_is_shown(site: Site) -> None:
    """A notice that says that it is high is stored and shown as medium, after a restart too."""
    site.desk.take_reports([report_at(site.office, 3, severity=Severity.HIGH, confidence=Confidence.LOW)])
    site.restart()
    (item,) = [one for one in site.ask(state="open") if one["confidence"] == "low"]
    assert item["severity"] == "medium"
    page = site.client.get("/alerts").text
    rows = {one: page[page.index(f"alert-{one}") :].partition("</tr>")[0] for one in (item["id"], "a001")}
    for name, severity, confidence in ((item["id"], "medium", "low"), ("a001", "high", "high")):
        assert f">{severity}</span>" in rows[name] and f">{confidence}</td>" in rows[name]
    header, *lines = site.run("get", "alerts", "-o", "csv").stdout.splitlines()
    shown = [dict(zip(header.split(","), line.split(","), strict=False)) for line in lines]
    assert {("medium", "low"), ("high", "high")} <= {(one["severity"], one["confidence"]) for one in shown}
    assert "confidence" in site.run("get", "alerts").stdout.lower()
    alert = site.desk.get_alert(item["id"])
    assert alert is not None
    assert {("Severity", "medium"), ("Confidence", "low")} <= set(list_facts(alert))
