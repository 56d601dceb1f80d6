"""Findings by the API over the embedded store: by rule, the worst first, decided on together, undone, expired."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from collector.api.services import ApiSettings, Services
from collector.core.rows import Service
from collector.inventory.endpoints.endpoints import EndpointInventory
from collector.inventory.endpoints.predicates import ConsumerSql
from collector.inventory.partners import PartnerNetworks
from collector.risk.assessment import RiskAssessor
from collector.risk.finding import Evidence, Finding, Rule, Severity, open_service_finding
from collector.risk.rules import load_rules
from collector.server.app import build_app
from collector.storage.embedded import EmbeddedStore
from collector.storage.state.store import StateStore
from tests.collector.api.client import TestClient
from tests.collector.api.fakes import MemoryAlerts
from tests.collector.inventory.seed import NOW
from tests.collector.states import create_state

pytestmark = pytest.mark.store

# Of each rule so many, as many as the review of the console found: 117 in all.
COUNTS = {
    "credentials_in_clear": 61,
    "change_without_authentication": 38,
    "jwt_no_expiry": 9,
    "shadow_endpoint": 5,
    "personal_data_without_authentication": 4,
}
RULES = {rule.id: rule for rule, _ in load_rules()}


def seed_findings() -> list[Finding]:
    return [_make(RULES[name], number) for name, count in COUNTS.items() for number in range(count)]


def _make(rule: Rule, number: int) -> Finding:
    service = Service(
        cluster="", namespace="shop" if number % 2 else "pay", workload=f"w{number}", workload_kind=1, host_name="",
        port=80,
    )  # fmt: skip
    # One of the four leaks can be read from outside.
    is_worst = rule.id == "personal_data_without_authentication" and number == 2
    evidence = Evidence(why="Seen.", signs=("s",), severity=Severity.CRITICAL if is_worst else None)
    return open_service_finding(rule, evidence, service, NOW - 600)


@dataclass
class Console:
    """An API whose clock a test moves."""

    client: TestClient
    risks: RiskAssessor
    now: list[float]

    def get(self, path: str, **parameters: object) -> dict[str, Any]:
        answer = self.client.get(f"/api/v1{path}", params={name: str(one) for name, one in parameters.items()})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def post(self, path: str, **body: object) -> httpx.Response:
        return self.client.post(f"/api/v1{path}", json=body)

    def count_states(self, rule: str) -> dict[str, int]:
        [group] = self.get("/findings/groups", rule=rule)["items"]
        return {state: count for state, count in group["by_state"].items() if count}


@pytest.fixture
def console(tmp_path_factory: pytest.TempPathFactory, state: StateStore) -> Iterator[Console]:
    store, now = EmbeddedStore(tmp_path_factory.mktemp("store")), [NOW]
    endpoints = EndpointInventory(reader=store, who=ConsumerSql(), partners=PartnerNetworks(()))
    risks = RiskAssessor(
        store=store, state=state, endpoints=endpoints, clock=lambda: now[0], alarm=lambda reports: None
    )
    risks.table.save([], seed_findings(), [])
    services = Services(
        store=store,
        state=create_state(),
        alerts=MemoryAlerts(),
        settings=ApiSettings(token=None, version="0.1.0"),
        clock=lambda: now[0],
        readiness=lambda: "",
        metrics=lambda _: (b"", "text/plain"),
        risks=risks,
    )
    with TestClient(build_app(services), base_url="http://localhost") as client:
        yield Console(client, risks, now)
    store.close()


def test_117_findings_are_five_groups_and_the_critical_one_is_first(console: Console) -> None:
    found = console.get("/findings/groups")
    assert found["total"] == 5 and found["next_cursor"] is None
    shown = [(one["rule"], one["severity"], one["findings"]) for one in found["items"]]
    assert shown == [
        ("personal_data_without_authentication", "critical", 4),
        ("credentials_in_clear", "high", 61),
        ("change_without_authentication", "medium", 38),
        ("jwt_no_expiry", "medium", 9),
        ("shadow_endpoint", "low", 5),
    ]
    first, clear = found["items"][:2]
    assert first["by_severity"] == {"critical": 1, "high": 3, "medium": 0, "low": 0}
    assert clear["by_state"]["open"] == 61 and clear["services_total"] == 61 and len(clear["services"]) == 10
    assert clear["title"] == "Credentials over clear HTTP" and clear["endpoints"] == 0


def test_the_list_has_the_worst_first_and_pages_reach_each_finding_once(console: Console) -> None:
    seen, cursor = [], ""
    while True:
        page = console.get("/findings", limit=50, cursor=cursor)
        assert page["total"] == 117
        seen += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    ranks = [list(Severity).index(Severity(one["severity"])) for one in seen]
    assert ranks == sorted(ranks) and seen[0]["severity"] == "critical"
    assert len({one["id"] for one in seen}) == len(seen) == 117


def test_findings_are_narrowed(console: Console) -> None:
    def count(**filters: str) -> int:
        return int(console.get("/findings", **filters)["total"])

    assert count(namespace="pay") + count(namespace="shop") == 117
    assert count(service="shop/w1") == count(service="shop/w1:80") == 5
    assert count(owasp="API2:2023", severity="critical") == 1
    assert count(q="clear http w60") == 1
    assert console.get("/findings/groups", severity="low")["total"] == 1
    assert count(exposure="external") == count(risk_min="1") == count(method="get") == 0


def test_a_bulk_accept_of_a_group_writes_61_decisions_and_is_undone(console: Console) -> None:
    wish = {"state": "accepted", "note": "inside the mesh", "asked_by": "ada"}
    answer = console.post("/findings/decisions", **wish, filters={"rule": "credentials_in_clear"}, expected=61)
    assert answer.status_code == 200, answer.text
    decided = answer.json()
    assert len(decided["decided"]) == 61 and decided["unchanged"] == 0
    assert console.count_states("credentials_in_clear") == {"accepted": 61}
    for finding_id in decided["decided"]:
        found = console.get(f"/findings/{finding_id}")
        [change] = found["changes"]
        assert (change["actor"], change["note"]) == ("no-auth, asked by ada", "inside the mesh")
        assert change["decision_id"] == decided["id"] and found["finding"]["changed_by"] == change["actor"]
    assert console.get("/findings", state="open")["total"] == 117 - 61
    # One was decided on since: it stays.
    console.now[0] += 60
    one = decided["decided"][0]
    assert console.post(f"/findings/{one}/state", state="fixed", note="done").status_code == 200
    undone = console.post(f"/findings/decisions/{decided['id']}/undo", asked_by="bob").json()
    assert len(undone["decided"]) == 60 and undone["unchanged"] == 1 and one not in undone["decided"]
    assert console.count_states("credentials_in_clear") == {"open": 60, "fixed": 1}
    newest = console.get(f"/findings/{undone['decided'][0]}")["changes"][0]
    assert newest["note"] == "Undone: inside the mesh" and newest["actor"] == "no-auth, asked by bob"
    assert console.post("/findings/decisions/none/undo").status_code == 404


def test_an_undo_gives_back_the_state_before(console: Console) -> None:
    [one, *_] = console.get("/findings", rule="jwt_no_expiry")["items"]
    console.post(f"/findings/{one['id']}/state", state="accepted", note="partner")
    console.now[0] += 1
    body = {"state": "false_positive", "note": "wrong rule", "ids": [one["id"], one["id"]]}
    decision = console.post("/findings/decisions", **body).json()
    assert decision["decided"] == [one["id"]]
    console.now[0] += 1
    console.post(f"/findings/decisions/{decision['id']}/undo")
    assert console.get(f"/findings/{one['id']}")["finding"]["state"] == "accepted"


def test_a_decision_with_an_end_opens_again_after_it(console: Console) -> None:
    wish = {"state": "accepted", "note": "until the release", "seconds": 3_600}
    console.post("/findings/decisions", **wish, filters={"rule": "shadow_endpoint"})
    [one, *_] = console.get("/findings", rule="shadow_endpoint")["items"]
    assert one["decided_until"] is not None
    console.now[0] += 3_599
    console.risks.look()
    assert console.count_states("shadow_endpoint") == {"accepted": 5}
    console.now[0] += 2
    console.risks.look()
    assert console.count_states("shadow_endpoint") == {"open": 5}
    found = console.get(f"/findings/{one['id']}")
    assert found["finding"]["is_reopened"] and found["finding"]["decided_until"] is None
    assert found["changes"][0]["note"] == "The time of the decision is over."


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ({"filters": {"rule": "credentials_in_clear"}, "expected": 60}, 409, "61 findings match, not 60"),
        ({}, 422, "'ids' or by 'filters'"),
        ({"filters": {}}, 422, "'ids' or by 'filters'"),
        ({"filters": {"rule": "x"}, "ids": ["a"]}, 422, "one of both"),
        ({"filters": {"colour": "red"}}, 422, "does not exist"),
        ({"ids": ["a"] * 1_001}, 422, "ids"),
        ({"ids": ["a"], "state": "fixed", "seconds": 60}, 422, "'seconds'"),
        ({"ids": ["a"], "note": ""}, 422, "'note'"),
    ],
)
def test_a_decision_that_is_not_clear_changes_nothing(
    console: Console, body: dict[str, Any], status: int, words: str
) -> None:
    answer = console.post("/findings/decisions", **{"state": "accepted", "note": "n", **body})
    assert answer.status_code == status and words in answer.json()["detail"]
    assert console.get("/findings", state="open")["total"] == 117
