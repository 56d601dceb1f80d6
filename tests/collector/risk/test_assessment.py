"""Risk through the running parts: minute rows in the store, a look of the assessor, then API, CLI texts and alerts."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import delete, update

from collector.alerting.alert import AlertKind, Report
from collector.api.services import ApiSettings, Services
from collector.inventory.endpoints.bodies import LOGIN
from collector.inventory.endpoints.endpoints import EndpointInventory
from collector.inventory.endpoints.predicates import ConsumerSql
from collector.risk.assessment import RiskAssessor
from collector.risk.finding import FindingChange, FindingState, decide
from collector.risk.repository import import_findings
from collector.server.app import build_app
from collector.storage.base import LeaseLostError
from collector.storage.embedded import EmbeddedStore
from collector.storage.state.imports import import_once
from collector.storage.state.leases import Leases
from collector.storage.state.store import StateStore
from collector.storage.state.tables.findings import ENDPOINT_PASTS, FINDING_CHANGES, FINDINGS
from tests.collector.api.client import TestClient
from tests.collector.api.fakes import MemoryAlerts
from tests.collector.inventory.seed import NOW, Seed
from tests.collector.states import create_state
from tests.figures import read_values

pytestmark = pytest.mark.store

RESPONSE = 128
EMAIL, PERSON_NAME, ADDRESS, IBAN, CARD, PASSWORD = 1, 3, 4, 9, 10, 12
NAMED = {"data": {"1": [RESPONSE + EMAIL, RESPONSE + PERSON_NAME], "2": [5, 5]}, "response_bodies_read": 5}
PUBLIC = {"client_address": "8.8.8.8"}
BEARER = {"authentication": 1 << 3}


@dataclass(slots=True)
class Desk:
    """What the assessor and the API talk to, over one store; `now` may be moved."""

    store: EmbeddedStore
    state: StateStore
    now: float = NOW
    reports: list[Report] = field(default_factory=list)
    assessor: RiskAssessor = field(init=False)
    client: TestClient = field(init=False)

    def __post_init__(self) -> None:
        self.assessor = RiskAssessor(
            store=self.store,
            state=self.state,
            endpoints=EndpointInventory(reader=self.store, who=ConsumerSql()),
            clock=lambda: self.now,
            alarm=self.reports.extend,
        )
        app = build_app(
            Services(
                store=self.store,
                state=create_state(),
                alerts=MemoryAlerts(),
                settings=ApiSettings(token="t", version="0.1.0", htmx_path=Path("/nonexistent")),
                clock=lambda: self.now,
                readiness=lambda: "",
                metrics=lambda _: (b"", "text/plain"),
                risks=self.assessor,
            )
        )
        self.client = TestClient(app, headers={"authorization": "Bearer t"})

    def get(self, path: str, **asked: str) -> Any:
        answer = self.client.get(f"/api/v1/{path}", params=asked)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def decide(self, finding: str, state: str, note: str = "by design") -> Any:
        answer = self.client.post(
            f"/api/v1/findings/{finding}/state", json={"state": state, "asked_by": "ada", "note": note}
        )
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
def desk(tmp_path: Path, sqlite_state: StateStore) -> Iterator[Desk]:
    store = EmbeddedStore(tmp_path / "store")
    yield Desk(store, sqlite_state)
    store.close()


def _open_users(desk: Desk, **columns: Any) -> None:
    seed = Seed()
    seed.calls(seed.endpoint(1, "GET", "/users/{user_id}"), 10, **{**NAMED, **PUBLIC, **columns})
    seed.write(desk.store)


def test_open_personal_data_is_found_scored_and_alarmed(desk: Desk) -> None:
    _open_users(desk, object_numeric_calls=10, object_monotonic_steps=8)
    seed = Seed()
    seed.calls(seed.endpoint(2, "GET", "/health"), 10)
    seed.write(desk.store)
    assert desk.assessor.look() == 2
    risk = desk.get("endpoints/ep0001/risk")
    assert risk["level"] == "critical"
    by_rule = {one["rule"]: one for one in risk["findings"]}
    assert by_rule.keys() == {"personal_data_without_authentication", "guessable_objects"}
    assert by_rule["personal_data_without_authentication"]["severity"] == "critical"
    assert "email and person name" in by_rule["personal_data_without_authentication"]["why"]
    assert [report.kind for report in desk.reports] == [AlertKind.UNAUTHENTICATED_SENSITIVE_DATA]
    sound = desk.get("endpoints/ep0002/risk")
    assert sound["level"] == "minimal" and sound["findings"] == []
    listed = desk.get("endpoints", sort="risk")["items"]
    assert [one["risk"]["score"] for one in listed] == [risk["score"], sound["score"]]
    page = desk.client.get("/endpoints/ep0001").text
    assert "Personal data without authentication" in page and f"Risk {risk['score']} of 100" in page
    assert read_values(desk.assessor.figures())["findings/open"] == 2


def test_every_term_recomputes(desk: Desk) -> None:
    """The score follows from what the API says of the terms alone."""
    _open_users(desk)
    desk.assessor.look()
    risk = desk.get("endpoints/ep0001/risk")
    base = 1.0
    for term in risk["terms"][:-1]:
        base *= term["weight"]
    assert risk["base"] == pytest.approx(base, abs=2e-3)
    assert risk["score"] == round(100 * (1 - (1 - risk["base"]) * (1 - risk["terms"][-1]["weight"])))
    for term in risk["terms"]:
        assert term["score_if_lowered"] <= risk["score"]
        assert term["evidence"] and term["lower"]


def test_credentials_and_no_exposure_make_it_small(desk: Desk) -> None:
    _open_users(desk, **BEARER, client_address="10.0.0.9")
    desk.assessor.look()
    risk = desk.get("endpoints/ep0001/risk")
    assert risk["findings"] == [] and risk["level"] in ("minimal", "low")


@pytest.mark.parametrize(
    ("kinds", "severity", "level", "alert"),
    [
        ((PERSON_NAME, ADDRESS), "high", "high", AlertKind.RISK_SCORE),
        ((PERSON_NAME, EMAIL, IBAN), "critical", "critical", AlertKind.UNAUTHENTICATED_SENSITIVE_DATA),
    ],
)
@pytest.mark.parametrize("records", [0, 40])
def test_callers_from_private_addresses_do_not_hide_an_open_export(
    desk: Desk, kinds: tuple[int, ...], severity: str, level: str, alert: AlertKind, records: int
) -> None:
    data = {"1": [RESPONSE + kind for kind in kinds], "2": [5] * len(kinds)}
    _open_users(desk, client_address="10.0.0.9", data=data, records_returned=records)
    desk.assessor.look()
    risk = desk.get("endpoints/ep0001/risk")
    (finding,) = (one for one in risk["findings"] if one["rule"] == "personal_data_without_authentication")
    assert (finding["severity"], risk["exposure"], risk["level"]) == (severity, "internal", level)
    assert [report.kind for report in desk.reports] == [alert]


def test_open_password_hashes_are_critical_and_a_registration_is_not_open(desk: Desk) -> None:
    seed = Seed()
    hashes = {"data": {"1": [RESPONSE + PASSWORD], "2": [5]}, "response_bodies_read": 5, "client_address": "10.0.0.9"}
    seed.calls(seed.endpoint(1, "GET", "/users"), 5, **hashes)
    made = {"1": [64 + PASSWORD, RESPONSE + PASSWORD, LOGIN], "2": [5, 5, 5]}
    seed.calls(seed.endpoint(2, "PUT", "/accounts/{account_id}"), 5, **{**hashes, "data": made})
    seed.write(desk.store)
    desk.assessor.look()
    found = {one["endpoint_id"]: (one["rule"], one["severity"]) for one in desk.get("findings")["items"]}
    assert found == {"ep0001": ("secrets_in_response", "critical"), "ep0002": ("secrets_in_response", "high")}
    levels = {one["id"]: one["risk"]["level"] for one in desk.get("endpoints")["items"]}
    assert levels == {"ep0001": "high", "ep0002": "medium"}
    assert [report.endpoint_id for report in desk.reports] == ["ep0001"]


def test_an_endpoint_is_assessed_until_what_comes_late_is_there(desk: Desk) -> None:
    """Its schemas, and the proof of its credentials, may come minutes after its last call."""
    _open_users(desk)
    assert desk.assessor.look() == 1
    desk.now += 200
    assert desk.assessor.look() == 1
    desk.now += 400
    assert desk.assessor.look() == 0


def test_accepted_stays_until_it_grows(desk: Desk) -> None:
    _open_users(desk)
    desk.assessor.look()
    (before,) = desk.get("findings")["items"]
    score = desk.get("endpoints/ep0001/risk")["score"]
    desk.now += 1
    assert desk.decide(before["id"], "accepted")["state"] == "accepted"
    assert desk.get("endpoints/ep0001/risk")["score"] < score
    desk.reports.clear()
    desk.now += 60
    desk.assessor.look()
    assert desk.reports == []
    assert desk.get("findings", state="accepted")["items"][0]["note"] == "by design"
    seed = Seed()
    grown = {"data": {"1": [RESPONSE + CARD], "2": [5]}, "response_bodies_read": 5}
    endpoint = seed.endpoint(1, "GET", "/users/{user_id}")
    seed.endpoints.clear()
    seed.calls(endpoint, 5, minutes_ago=-1, **{**PUBLIC, **grown})
    seed.write(desk.store)
    desk.now += 60
    desk.assessor.look()
    finding = next(one for one in desk.get("findings")["items"] if one["id"] == before["id"])
    assert (finding["state"], finding["is_reopened"]) == ("open", True)
    assert "credit_card" in finding["note"]
    changes = desk.get(f"findings/{before['id']}")["changes"]
    assert [one["state"] for one in changes] == ["open", "accepted", "open"]
    assert [one["actor"] for one in changes] == ["apidae", "api-token, asked by ada", "apidae"]


def test_fixed_opens_again_only_by_later_calls(desk: Desk) -> None:
    _open_users(desk)
    desk.assessor.look()
    (finding,) = desk.get("findings")["items"]
    assert desk.decide(finding["id"], "fixed", "release 7")["state"] == "fixed"
    desk.now += 60
    desk.assessor.look()
    assert desk.get("findings")["items"][0]["state"] == "fixed"
    seed = Seed()
    endpoint = seed.endpoint(1, "GET", "/users/{user_id}")
    seed.endpoints.clear()
    seed.calls(endpoint, 5, minutes_ago=-3, **{**NAMED, **PUBLIC})
    seed.write(desk.store)
    desk.now += 240
    desk.assessor.look()
    (again,) = desk.get("findings")["items"]
    assert (again["state"], again["is_reopened"]) == ("open", True)


def test_what_calls_show_no_more_is_fixed(desk: Desk) -> None:
    seed = Seed()
    endpoint = seed.endpoint(1, "GET", "/users/{user_id}")
    seed.calls(endpoint, 10, minutes_ago=23 * 60, **{**NAMED, **PUBLIC})
    seed.calls(endpoint, 1, **BEARER)
    seed.write(desk.store)
    desk.assessor.look()
    (finding,) = desk.get("findings")["items"]
    assert finding["state"] == "open"
    seed = Seed()
    seed.calls(endpoint, 10, minutes_ago=-3 * 60, **{**NAMED, **BEARER})
    seed.write(desk.store)
    desk.now += 3 * 3_600 + 60
    desk.assessor.look()
    (finding,) = desk.get("findings")["items"]
    assert (finding["state"], finding["changed_by"]) == ("fixed", "apidae")


def test_internal_reached_from_outside_says_since_when(desk: Desk) -> None:
    seed = Seed()
    endpoint = seed.endpoint(1, "GET", "/ledger/{ledger_id}")
    seed.calls(endpoint, 10, minutes_ago=5, **BEARER)
    seed.write(desk.store)
    desk.assessor.look()
    assert desk.get("endpoints/ep0001/risk")["exposure"] == "internal"
    seed = Seed()
    seed.calls(endpoint, 2, minutes_ago=-119, **BEARER, **PUBLIC)
    seed.write(desk.store)
    desk.now += 7_200
    desk.assessor.look()
    (finding,) = desk.get("findings")["items"]
    assert finding["rule"] == "internal_reached_from_outside"
    assert "since" in finding["why"] and "8.8.8.8" in finding["why"]


def test_a_login_that_went_is_found(desk: Desk) -> None:
    seed = Seed()
    endpoint = seed.endpoint(1, "GET", "/accounts/{account_id}")
    seed.calls(endpoint, 60, minutes_ago=5, **BEARER)
    seed.write(desk.store)
    desk.assessor.look()
    assert desk.get("findings")["items"] == []
    seed = Seed()
    seed.calls(endpoint, 40, minutes_ago=-29)
    seed.write(desk.store)
    desk.now += 1_800
    desk.assessor.look()
    (finding,) = desk.get("findings", state="open")["items"]
    assert finding["rule"] == "missing_authentication"


def test_a_decision_on_nothing_is_refused(desk: Desk) -> None:
    answer = desk.client.post("/api/v1/findings/none/state", json={"state": "fixed", "asked_by": "a", "note": "b"})
    assert answer.status_code == 404
    answer = desk.client.post("/api/v1/findings/none/state", json={"state": "fixed", "asked_by": "a"})
    assert answer.status_code == 422 and "note" in answer.text


def test_lists_of_endpoints_follow_the_findings_of_the_state(desk: Desk) -> None:
    """A process may end between its two writes, and an earlier version kept no rules with the record."""
    _open_users(desk)
    desk.assessor.look()
    table = desk.assessor.table
    asked = {"finding": "personal_data_without_authentication"}
    assert [one["id"] for one in desk.get("endpoints", **asked)["items"]] == ["ep0001"]
    record = table.read_risks(["ep0001"])["ep0001"]
    table.save([replace(record, open_rules=(), open_findings=1)], [], [])
    assert desk.get("endpoints", **asked)["items"] == [] and table.list_stale() == ["ep0001"]
    desk.now += 3 * 3_600  # Nobody called it since.
    again = Desk(desk.store, desk.state, now=desk.now)
    assert again.assessor.look() == 0
    assert table.read_risks(["ep0001"])["ep0001"] == record and table.list_stale() == []
    assert [one["id"] for one in desk.get("endpoints", **asked)["items"]] == ["ep0001"]


def test_a_past_is_written_where_it_changed(desk: Desk) -> None:
    _open_users(desk)
    desk.assessor.look()
    written = desk.state.count_writes(["endpoint_pasts"])
    (past,) = desk.assessor.table.read_pasts(["ep0001", "ep0002"]).values()
    assert (past.exposure, past.computed_at) == ("external", NOW)
    desk.now += 60
    assert desk.assessor.look() == 1
    assert desk.state.count_writes(["endpoint_pasts"]) == written
    desk.now += 86_400
    desk.assessor.reassess(["ep0001"])
    assert desk.state.count_writes(["endpoint_pasts"]) == written + 1
    desk.assessor.table.expire(desk.now + 401 * 86_400)
    assert desk.assessor.table.read_pasts(["ep0001"]) == desk.assessor.table.read_findings(["ep0001"]) == {}


def test_who_was_succeeded_decides_nothing(desk: Desk) -> None:
    _open_users(desk)
    desk.assessor.look()
    table = desk.assessor.table
    (found,) = table.read_findings(["ep0001"])["ep0001"]
    first, second = Leases(desk.state, holder="first"), Leases(desk.state, holder="second")
    fence = first.make_fence(first.take(["jobs"])["jobs"])
    table.write_by(fence.write)
    desk.decide(found.id, "accepted")
    second.take(["jobs"])
    with pytest.raises(LeaseLostError):
        desk.assessor.decide(found.id, FindingState.OPEN, by="ada", note="late")
    assert table.list_changes(found.id)[0].state is FindingState.ACCEPTED


def test_findings_of_an_earlier_version_are_imported_once(desk: Desk) -> None:
    _open_users(desk)
    desk.assessor.look()
    table = desk.assessor.table
    (found,) = table.read_findings(["ep0001"])["ep0001"]
    decided = decide(found, FindingState.ACCEPTED, "ada", "by design", NOW + 9)
    changes = [
        FindingChange(finding_id=found.id, time=one.changed_at, state=one.state, actor=one.changed_by, note=one.note)
        for one in (found, decided)
    ]
    with desk.state.write() as connection:
        for one in (FINDINGS, FINDING_CHANGES, ENDPOINT_PASTS):
            connection.execute(delete(one))
    for statement in EARLIER.split(";\n"):
        desk.store.execute(statement)
    desk.store.insert_records("findings", [decided])
    desk.store.insert_records("findings", [found])
    desk.store.insert_records("finding_changes", changes)
    for _ in range(2):
        import_once(desk.state, desk.store, "findings", import_findings, NOW)
        assert table.get_findings([found.id]) == [decided]
        assert table.list_changes(found.id) == changes[::-1]
        assert table.read_pasts(["ep0001"])["ep0001"].exposure == "external"
    with desk.state.write() as connection:
        connection.execute(update(FINDINGS).values(rule="of an earlier version"))
    (group,) = desk.get("findings/groups")["items"]
    assert (group["rule"], group["title"], group["endpoints"]) == ("of an earlier version", found.title, 1)


EARLIER = """
CREATE TABLE findings (
    id String, endpoint_id String, rule LowCardinality(String), severity LowCardinality(String),
    owasp LowCardinality(String), state LowCardinality(String), title String, why String, advice String,
    signs Array(String), first_seen Float64, last_seen Float64, updated_at Float64, changed_at Float64,
    changed_by String, note String, is_reopened Bool, decided_until Float64, method LowCardinality(String),
    host LowCardinality(String), url_template String, service LowCardinality(String),
    version UInt64 MATERIALIZED toUInt64(updated_at * 1000000)
) ENGINE = ReplacingMergeTree(version) ORDER BY (endpoint_id, id);
CREATE TABLE finding_changes (
    finding_id String, time Float64, state LowCardinality(String), actor String, note String, decision_id String
) ENGINE = MergeTree ORDER BY (finding_id, time)"""
