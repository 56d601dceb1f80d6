"""`apidae gate` end to end: what closes it, what a changed description would break and for whom, and both reports."""

import json
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import typer
from typer.testing import CliRunner, Result

from collector.api.services import ApiSettings, Services
from collector.cli.commands import register
from collector.cli.gate import CONDITIONS, Obstacle, make_junit, make_sarif
from collector.core.rows import Service
from collector.inventory.endpoints.endpoints import EndpointInventory
from collector.inventory.endpoints.predicates import ConsumerSql
from collector.inventory.partners import PartnerNetworks
from collector.risk.assessment import RiskAssessor
from collector.risk.finding import Evidence, Severity, open_service_finding
from collector.risk.rules import load_rules
from collector.server.app import build_app
from collector.storage.embedded import EmbeddedStore
from collector.ui.documentation.markdown import PATH, find_page
from tests.collector.api.client import TestClient
from tests.collector.api.fakes import MemoryAlerts
from tests.collector.cli.test_commands import Held
from tests.collector.inventory.seed import NOW, Seed
from tests.collector.schemas.states import Node
from tests.collector.states import create_state

pytestmark = pytest.mark.store

Run = Callable[..., Result]


def describe(version: str, **paths: dict[str, Any]) -> str:
    """One GET or POST a path; `responses` is added."""
    found = {
        f"/{path}": {method: {"responses": {"200": {}}, **operation} for method, operation in operations.items()}
        for path, operations in paths.items()
    }
    return json.dumps({"openapi": "3.1.0", "info": {"title": "Shop", "version": version}, "paths": found})


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    store, state = EmbeddedStore(tmp_path_factory.mktemp("store")), create_state()
    seed = Seed()
    orders = seed.endpoint(1, "GET", "/orders")
    seed.calls(orders, 40, client_address="10.0.0.7")
    seed.calls(orders, 2, client_address="10.0.0.8")
    seed.calls(seed.endpoint(2, "POST", "/carts"), 9, client_address="10.0.0.9")
    seed.calls(seed.endpoint(3, "GET", "/admin"), 3)  # Shadow before and after.
    seed.calls(seed.endpoint(4, "GET", "/wp-login"), 5, status_code=404)
    seed.write(store)
    node = Node()
    for _ in range(5):
        node.call(2, "/carts?page=1", asked={"item": 1})
    store.insert_records("schemas", node.tell())
    endpoints = EndpointInventory(reader=store, who=ConsumerSql(), partners=PartnerNetworks(()))
    risks = RiskAssessor(store=store, state=state, endpoints=endpoints, clock=lambda: NOW, alarm=lambda reports: None)
    rules = {rule.id: rule for rule, _ in load_rules()}
    service = Service(cluster="", namespace="pay", workload="cards", workload_kind=1, host_name="", port=80)
    found = [
        open_service_finding(rules["credentials_in_clear"], Evidence(why="Seen <b>.", signs=("s",)), service, NOW - ago)
        for ago in (600,)
    ]
    found.append(
        open_service_finding(
            rules["personal_data_without_authentication"],
            Evidence(why="All.", signs=("s",), severity=Severity.CRITICAL),
            service,
            NOW - 9 * 86_400,
        )
    )
    risks.table.save([], found, [])
    app = build_app(
        Services(
            store=store,
            state=state,
            alerts=MemoryAlerts(),
            settings=ApiSettings(token="t", version="0.1.0"),
            clock=lambda: NOW,
            readiness=lambda: "",
            metrics=lambda _: (b"", "text/plain"),
            risks=risks,
        )
    )
    with TestClient(app, headers={"authorization": "Bearer t"}) as opened:
        first = describe("1", orders={"get": {}}, carts={"post": {}})
        answer = opened.post("/api/v1/specs", json={"document": first, "service": "orders"})
        assert answer.status_code == 200, answer.text
        yield opened
    store.close()


@pytest.fixture
def gate(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(httpx, "Client", lambda **_: Held(client))
    app = typer.Typer()
    register(app)
    return lambda *words: CliRunner().invoke(app, ["gate", *words, "--token", "t"], env={"COLUMNS": "240"})


def read_rules(result: Result) -> list[str]:
    return [one["rule"] for one in json.loads(result.stdout)]


def test_severities_mean_that_or_worse(gate: Run) -> None:
    assert gate("--fail-on", "critical").exit_code == 3
    closed = gate("--fail-on", "high", "-o", "json")
    assert closed.exit_code == 3
    assert read_rules(closed) == ["personal_data_without_authentication", "credentials_in_clear"]
    new = gate("--fail-on", "high", "--since", "2d", "-o", "json")
    assert (new.exit_code, read_rules(new)) == (3, ["credentials_in_clear"])
    assert "Gate closed: 2 in the way by high." in closed.stderr
    elsewhere = gate("--fail-on", "high", "--namespace", "shop")
    assert elsewhere.exit_code == 0 and "Gate open: 0 in the way" in elsewhere.stderr


def test_drift_and_what_nobody_described(gate: Run) -> None:
    found = gate("--fail-on", "shadow,drift", "-o", "json")
    assert read_rules(found) == ["shadow_endpoint", "drift_undocumented_parameter"]
    assert gate("--fail-on", "shadow,drift", "--service", "pay/cards").exit_code == 0


@pytest.mark.parametrize(
    ("words", "status", "sentence"),
    [
        (("--fail-on", "grave"), 2, "--fail-on has 'grave'; use critical, high"),
        (("--fail-on", ","), 2, "--fail-on has no word"),
        (("--fail-on", "breaking"), 2, "name it by --description"),
        (("--since", "soon"), 2, "--since is 'soon': use"),
        (("--description", "/nonexistent"), 1, "The description /nonexistent cannot be read"),
    ],
)
def test_what_is_refused(gate: Run, words: tuple[str, ...], status: int, sentence: str) -> None:
    refused = gate(*words)
    assert refused.exit_code == status and sentence in refused.stderr


def test_a_changed_description_breaks_its_consumers(gate: Run, client: TestClient, tmp_path: Path) -> None:
    """An operation goes, calls need credentials that they do not have, a field and a parameter become required; what
    the description in force does not have either is no change."""
    file = tmp_path / "shop.json"
    same = describe("1", orders={"get": {}}, carts={"post": {}})
    file.write_text(same)
    assert gate("--fail-on", "breaking", "--description", str(file)).exit_code == 0

    file.write_text(describe("2", orders={"get": {}}))
    removed = gate("--fail-on", "breaking", "--description", str(file), "-o", "json")
    (one,) = json.loads(removed.stdout)
    assert (removed.exit_code, one["rule"], one["method"], one["path"]) == (
        3, "breaking_operation_removed", "POST", "/carts",
    )  # fmt: skip
    assert one["consumers"] == "address:10.0.0.9"
    assert "compared with version 1 in force, 1 broken" in removed.stderr

    body = {"type": "object", "required": ["item", "note"], "properties": {"item": {}, "note": {}}}
    stricter = {
        "requestBody": {"content": {"application/json": {"schema": body}}},
        "parameters": [{"in": "query", "name": "page"}, {"in": "query", "name": "size", "required": True}],
    }
    file.write_text(describe("2", orders={"get": {"security": [{"key": []}]}}, carts={"post": stricter}))
    answer = gate("--description", str(file), "--fail-on", "breaking", "-o", "json")
    found = {(one["rule"], one["path"], one["consumers"]) for one in json.loads(answer.stdout)}
    assert found == {
        ("breaking_weaker_authentication", "/orders", "address:10.0.0.7, address:10.0.0.8"),
        ("breaking_missing_parameter", "/carts", "address:10.0.0.9"),
        ("breaking_missing_field", "/carts", "address:10.0.0.9"),
    }
    # Nothing of it is in force.
    assert [one["version"] for one in client.get("/api/v1/specs").json()["items"]] == ["1"]


def test_a_description_that_is_the_first_of_its_name(gate: Run, tmp_path: Path) -> None:
    file = tmp_path / "new.json"
    file.write_text(describe("1", nothing={"get": {}}))
    words = ("--fail-on", "breaking", "--description", str(file), "--name", "New", "--service", "orders")
    answer = gate(*words, "-o", "json")
    assert "compared with calls alone" in answer.stderr
    assert answer.exit_code == 0  # The other description of this service still has its endpoints.
    file.write_text("{")
    assert "answered 422" in gate(*words).stderr


def test_reports_for_other_tools(gate: Run, tmp_path: Path) -> None:
    file, sarif, junit = (tmp_path / name for name in ("shop.json", "out.sarif", "out.xml"))
    file.write_text(describe("2", orders={"get": {}}))
    words = ("--fail-on", "high,zombie", "--description", str(file), "--sarif", str(sarif), "--junit", str(junit))
    assert gate(*words).exit_code == 3
    log = json.loads(sarif.read_text())
    (run,) = log["runs"]
    assert log["version"] == "2.1.0" and run["tool"]["driver"]["name"] == "Apidae"
    rules = [rule["id"] for rule in run["tool"]["driver"]["rules"]]
    assert rules == ["personal_data_without_authentication", "credentials_in_clear", "breaking_operation_removed"]
    assert [rules[one["ruleIndex"]] for one in run["results"]] == [one["ruleId"] for one in run["results"]]
    assert [one["level"] for one in run["results"]] == ["error", "error", "error"]
    assert run["results"][-1]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == str(file)
    assert len({one["partialFingerprints"]["apidae/v1"] for one in run["results"]}) == 3
    helped = {rule["id"]: rule["helpUri"].partition("8080")[2] for rule in run["tool"]["driver"]["rules"]}
    assert all(find_page(path.removeprefix(f"{PATH}/")) for path in helped.values()), helped

    top = ET.fromstring(junit.read_text())
    assert (top.get("tests"), top.get("failures")) == ("4", "3")
    by_suite = {suite.get("name"): len(suite.findall("testcase/failure")) for suite in top}
    assert by_suite == {"apidae high": 1, "apidae zombie": 0, "apidae breaking": 1, "apidae critical": 1}


def test_reports_hold_names_of_any_kind() -> None:
    hostile = Obstacle(
        id="a", condition="low", rule="r", title="t", severity="low", service="\x1b[31m\x00<svg>", method="GET",
        path="/\ud800&]]>", what="\x07",
    )  # fmt: skip
    read = ET.fromstring(make_junit([hostile], CONDITIONS).encode("utf-8"))
    assert "<svg>" in str(read.find(".//failure/..").get("classname"))  # type: ignore[union-attr]
    run = make_sarif([hostile], "http://collector/")["runs"][0]
    assert run["tool"]["driver"]["rules"][0]["helpUri"] == "http://collector/docs/findings/r"
    uri = run["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"]
    assert uri.isascii() and " " not in uri and "<" not in uri
