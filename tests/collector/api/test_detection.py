"""Detection over HTTP and by the commands: the level with previews, rules with expiry, verdicts, decisions."""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from typer.testing import CliRunner

from collector.alerting.alert import Alert, AlertState, Severity
from collector.alerting.detection import Detection, DetectionTable
from collector.alerting.lifecycle import Lifecycle
from collector.alerting.notifiers.delivery import DeliveryOutcome, Notifier, Sender
from collector.alerting.notifiers.outbox import Outbox
from collector.alerting.repository import AlertTable
from collector.alerting.service import AlertService
from collector.api.services import ApiSettings, Services
from collector.cli import client
from collector.cli.commands import register
from collector.core.kinds import Sensitivity
from collector.server.app import build_app
from collector.storage.embedded import EmbeddedStore
from collector.storage.state.store import StateStore, open_state
from tests.collector.alerting.test_service import make_signal
from tests.collector.api.client import TestClient

pytestmark = pytest.mark.store


class Recorder(Sender):
    """A sender that keeps what it gets, and answers with a set outcome."""

    name, target = "recorder", "http://127.0.0.1:9"

    def __init__(self) -> None:
        self.outcome = DeliveryOutcome.DELIVERED
        self.taken: list[Alert] = []

    def send(self, alert: Alert) -> DeliveryOutcome:
        self.taken.append(alert)
        return self.outcome


class Office:
    """An API over a store with one alert."""

    def __init__(self, store: EmbeddedStore, state: StateStore) -> None:
        ids = itertools.count(1)
        self.sender = Recorder()
        detection = Detection(
            table=DetectionTable(store, state),
            configured=Sensitivity.NORMAL,
            clock=time.time,
            new_id=lambda: f"r{next(ids)}",
        )
        self.desk = AlertService(
            table=AlertTable(state),
            lifecycle=Lifecycle(new_id=lambda: f"a{next(ids)}", find_budget=lambda: detection.budget),
            clock=time.time,
            notify=lambda _: None,
            expect=lambda _: None,
            detection=detection,
        )
        self.desk.restore()
        app = build_app(
            Services(
                store=store,
                state=state,
                alerts=self.desk,
                settings=ApiSettings(token=None, version="0.1.0", htmx_path=Path("/nonexistent")),
                clock=time.time,
                readiness=lambda: "",
                metrics=lambda _: (b"", "text/plain"),
                detection=(detection, self.desk),
                notifiers=[Notifier(self.sender, Outbox(state, "recorder"), clock=time.time)],
            )
        )
        self.client = TestClient(app, base_url="http://127.0.0.1:8080")

    def get(self, path: str) -> Any:
        answer = self.client.get(f"/api/v1/{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, status: int = 200, **body: object) -> Any:
        answer = self.client.post(f"/api/v1/{path}", json=body)
        assert answer.status_code == status, answer.text
        return answer.json()


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    state = open_state(tmp_path_factory.mktemp("database"))
    store = EmbeddedStore(tmp_path_factory.mktemp("detection"))
    yield Office(store, state)
    store.close()
    state.close()


def test_the_level_is_shown_with_previews_and_chosen(office: Office) -> None:
    office.desk.take_signals([make_signal(7)])
    shown = office.get("detection/sensitivity")
    assert (shown["level"], shown["changed_at"]) == ("normal", None)
    assert {one["level"]: one["alerts_a_day"] for one in shown["previews"]} == {
        "quiet": 1.0,
        "normal": 1.0,
        "paranoid": 1.0,
    }
    chosen = office.post("detection/sensitivity", level="quiet", asked_by="ann")
    assert (chosen["level"], chosen["configured"], chosen["changed_by"]) == ("quiet", "normal", "no-auth, asked by ann")
    refused = office.post("detection/sensitivity", status=422, level="loud")
    assert "quiet" in refused["detail"]


def test_a_rule_is_added_counts_and_ends(office: Office) -> None:
    rule = office.post("detection/known-good", note="crawler", network="198.51.100.0/28", seconds=600, asked_by="ann")
    assert rule["is_in_force"] is True
    office.desk.take_signals([make_signal(8)])
    (listed,) = office.get("detection/known-good")["items"]
    assert (listed["id"], listed["reports"], listed["created_by"]) == (rule["id"], 1, "no-auth, asked by ann")
    ended = office.post(f"detection/known-good/{rule['id']}/end", asked_by="bob")
    assert (ended["is_in_force"], ended["ended_by"]) == (False, "no-auth, asked by bob")
    assert "not in force" in office.post(f"detection/known-good/{rule['id']}/end", status=409)["detail"]
    assert "no rule 'nothing'" in office.post("detection/known-good/nothing/end", status=404)["detail"]
    assert "names nothing" in office.post("detection/known-good", status=422, note="x")["detail"]
    assert "'x'" in office.post("detection/known-good", status=422, note="x", network="x")["detail"]
    actions = [one["action"] for one in office.get("detection/decisions")["items"]]
    assert actions == ["end_known_good", "known_good", "sensitivity"]


def test_a_verdict_is_given_and_taken_back(office: Office) -> None:
    (alert,) = office.get("alerts")["items"]
    judged = office.post(f"alerts/{alert['id']}/verdict", verdict="confirmed", asked_by="ann")
    assert (judged["verdict"], judged["verdict_by"]) == ("confirmed", "no-auth, asked by ann")
    assert office.post(f"alerts/{alert['id']}/verdict", verdict="")["verdict"] == ""
    assert "no alert" in office.post("alerts/x/verdict", status=404, verdict="confirmed")["detail"]


def test_the_commands_ask_for_it(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    def exchange(self: client.Api, path: str, method: str, request: dict[str, Any], *_: object) -> dict[str, Any]:
        sent = office.client.request(method, f"/api/v1/{path}", **request)
        assert sent.status_code == 200, sent.text
        return dict(sent.json())

    monkeypatch.setattr(client.Api, "_exchange", exchange)
    app = typer.Typer()
    register(app)

    def call(*words: str) -> str:
        done = CliRunner().invoke(app, list(words))
        assert done.exit_code == 0, done.output
        return done.output

    assert "The level is paranoid, chosen by no-auth, asked by eve" in call(
        "set", "sensitivity", "paranoid", "--asked-by", "eve"
    )
    assert "paranoid" in call("get", "sensitivity", "-o", "csv")
    added = call("known-good", "add", "tests", "--workload", "ci/*", "--kind", "scanning", "--days", "2", "-o", "csv")
    identity = added.splitlines()[1].split(",")[0]
    assert "ci/*" in call("get", "known-good", "-o", "csv")
    assert f"{identity},False" in call("known-good", "end", identity, "-o", "csv")
    (alert,) = office.get("alerts")["items"]
    assert "false_alarm" in call("verdict", alert["id"], "false_alarm")
    assert "no verdict" in call("verdict", alert["id"], "none")


def test_the_page_shows_levels_and_rules_as_text_and_chooses(office: Office) -> None:
    office.post("detection/known-good", note="<script>x</script>", consumer="principal:00", asked_by="ann")
    page = office.client.get("/detection").text
    assert "<script>x" not in page
    assert "&lt;script&gt;x" in page
    assert page.count("<td>in force</td>") == 1
    answer = office.client.post("/detection/sensitivity", data={"level": "normal"}, follow_redirects=False)
    assert answer.status_code == 303
    assert office.get("detection/sensitivity")["level"] == "normal"
    assert office.client.post("/detection/sensitivity", data={"level": "x"}).status_code == 422
    identity = next(one["id"] for one in office.get("detection/known-good")["items"] if one["is_in_force"])
    office.client.post(f"/detection/known-good/{identity}/end")
    assert not any(one["is_in_force"] for one in office.get("detection/known-good")["items"])
    assert "/detection" in office.client.get("/").text


def test_a_notifier_is_tested_by_the_api_and_by_a_button(office: Office) -> None:
    assert office.post("notifiers/recorder/test", asked_by="ann") == {
        "outcome": "delivered", "meaning": "It took the test alert.",
    }  # fmt: skip
    assert "it may be: recorder" in office.post("notifiers/x/test", status=404, asked_by="ann")["detail"]
    page = office.client.get("/settings").text
    assert 'action="/settings/notifiers/recorder/test"' in page and "It took" not in page
    assert "It took the test alert." in office.client.post("/settings/notifiers/recorder/test").text
    office.sender.outcome = DeliveryOutcome.REFUSED
    assert "It refused the test alert" in office.client.post("/settings/notifiers/recorder/test").text
    assert office.client.post("/settings/notifiers/x/test").status_code == 404
    assert [(one.state, one.severity, one.why) for one in office.sender.taken] == [
        (AlertState.CLOSED, Severity.LOW, f"{who} asked for it.")
        for who in ("no-auth, asked by ann", "no-auth", "no-auth")
    ]
    (listed,) = office.get("notifiers")["items"]
    assert (listed["last_outcome"], listed["seen"]) == ("refused", 0)


def test_routes_of_an_alert_are_exact_and_as_endpoints_take_them(office: Office) -> None:
    office.desk.take_signals([msgspec.structs.replace(make_signal(77), route_ids=(2**64 - 1, 1))])
    listed = [one for one in office.get("alerts")["items"] if one["consumer"].endswith(".77")]
    assert [one["route_ids"] for one in listed] == [["f" * 16, "0" * 15 + "1"]]
