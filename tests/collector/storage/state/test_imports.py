"""What earlier versions kept in tables of ClickHouse is in the state after the first start."""

import time
from collections.abc import Iterator
from dataclasses import fields, make_dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from collector.alerting.alert import Alert, AlertKind, AlertState, Confidence, Severity, Verdict
from collector.alerting.detection import DetectionDecision, DetectionTable, import_decisions
from collector.alerting.imports import import_alerts
from collector.alerting.lifecycle import Happening, IncidentEntry, Lifecycle
from collector.alerting.repository import AlertTable
from collector.alerting.silences import KnownGood, SilenceKind
from collector.core.rows import Route
from collector.inventory.changes import RetiredEndpoints, import_retired
from collector.inventory.consumers.consumer import ConsumerLabel
from collector.inventory.consumers.labels import LabelBook, import_labels
from collector.inventory.templates.mapping import EndpointName, Place
from collector.inventory.templates.table import TemplateTable, import_templates
from collector.inventory.views import SavedView, ViewTable, import_views
from collector.storage.embedded import EmbeddedStore
from collector.storage.state.imports import OLD_TABLES, drop_old_tables, import_once
from collector.storage.state.store import StateStore
from tests.collector.alerting.test_lifecycle import make_report

pytestmark = pytest.mark.store
BEFORE = Path(__file__).with_name("tables_0_2_0.sql").read_text()
FIRST = (Path(__file__).parents[1] / "tables_0_1_0.sql").read_text()
NOW = float(int(time.time()))  # The oldest version drops what is past its retention.


@pytest.fixture
def old(embedded: EmbeddedStore) -> Iterator[EmbeddedStore]:
    yield embedded
    drop_old_tables(embedded)


def make(store: EmbeddedStore, text: str) -> None:
    """The old tables of a version."""
    for statement in text.split(";\n"):
        if any(f" {name} (" in statement for name in OLD_TABLES):
            store.execute(statement)


def run(state: StateStore, store: EmbeddedStore) -> None:
    import_once(state, store, "alerts", import_alerts, NOW)


def open_alert(n: int, **fields: Any) -> Any:
    ids = iter([f"a{n}"])
    alert = Lifecycle(new_id=lambda: next(ids)).take(make_report(severity=Severity.HIGH, endpoint_id=f"e{n}"), NOW + n)
    assert alert is not None
    return replace(alert, **fields)


def write_before(alert: Alert) -> Any:
    """As the earlier version had it, whose verdicts held everywhere."""
    values = {field.name: getattr(alert, field.name) for field in fields(alert) if field.name != "verdict_reach"}
    return make_dataclass("AlertBefore", values)(**values)


def test_alerts_timelines_decisions_and_silences_are_imported_once(state: StateStore, old: EmbeddedStore) -> None:
    make(old, BEFORE)
    alert = open_alert(
        1, route_ids=(1, 2**64 - 1), nodes=("n1", "n2"), service="shop/orders:80", verdict=Verdict.CONFIRMED,
        verdict_at=NOW, verdict_by="ada",
    )  # fmt: skip
    other = open_alert(2)
    old.insert_records("alerts", [write_before(alert), write_before(other)])
    closed = replace(other, state=AlertState.CLOSED, closed_at=NOW + 9, updated_at=NOW + 9)
    old.insert_records("alerts", [write_before(closed)])
    entry = IncidentEntry(
        incident_id="a1", time=NOW + 1, alert_id="a1", happening=Happening.OPENED, kind=alert.kind,
        severity=alert.severity, title=alert.title, why=alert.why,
    )  # fmt: skip
    old.insert_records("incident_entries", [entry])
    old.execute(
        "INSERT INTO alert_mutes (subject, updated_at, muted_until, is_expected, actor, alert_id, reason) VALUES "
        f"('{alert.subject}', {NOW}, NULL, true, 'ada', 'a1', 'ours'), "
        f"('{other.subject}', {NOW}, {NOW + 60}, false, 'bob', 'a2', ''), "
        f"('{other.subject}', {NOW + 1}, NULL, false, 'bob', 'a2', '')"
    )
    table = AlertTable(state)
    for _ in range(2):
        run(state, old)
        assert table.get("a1") == alert
        closed = table.get("a2")
        assert closed is not None and (closed.state, closed.closed_at) == (AlertState.CLOSED, NOW + 9)
        assert table.list_entries("a1") == (entry,)
        (silence,) = table.list_silences(NOW)
        assert (silence.kind, silence.by, silence.reason, silence.until) == (SilenceKind.EXPECTED, "ada", "ours", None)
    assert old.query("SELECT count() FROM alerts FINAL") == [(2,)], "they are kept aside"


def test_those_of_0_1_0_get_what_they_lack(state: StateStore, old: EmbeddedStore) -> None:
    make(old, FIRST)
    old.execute(
        "INSERT INTO alerts (id, kind, state, severity, title, why, endpoint_id, route_ids, consumer, opened_at, "
        f"updated_at) VALUES ('a1', 'object_probing', 'open', 'high', 't', 'w', 'e', [7], 'address:a|b', {NOW}, {NOW})"
    )
    old.execute(
        "INSERT INTO alert_mutes (subject, updated_at, muted_until, is_expected, actor) VALUES "
        f"('object_probing|e|address:a|b|', {NOW}, NULL, true, 'ada'), ('nonsense', {NOW}, NULL, true, 'ada')"
    )
    run(state, old)
    table = AlertTable(state)
    alert = table.get("a1")
    assert alert is not None
    assert (alert.kind, alert.incident_id, alert.confidence) == (AlertKind.BOLA, "a1", Confidence.MEDIUM)
    assert [one.id for one in table.list_incidents(state=None, limit=9, after=None, silenced=())] == ["a1"]
    (silence,) = table.list_silences(NOW)
    assert silence.subject == alert.subject and silence.alert_id == "a1"


def test_a_store_without_old_tables_has_nothing_to_import(state: StateStore, old: EmbeddedStore) -> None:
    run(state, old)
    assert AlertTable(state).list(limit=9, after=None, silenced=()) == ()


def test_rules_and_decisions_on_detection_are_imported_once(state: StateStore, old: EmbeddedStore) -> None:
    make(old, BEFORE)
    rule = KnownGood(
        id="r1", note="ours", kind="bola", created_at=NOW, created_by="ada", expires_at=NOW + 60, updated_at=NOW
    )
    ended = replace(rule, ended_at=NOW + 1, ended_by="bob", updated_at=NOW + 1)
    old.insert_records("known_good", [ended])
    old.insert_records("known_good", [rule])
    decision = DetectionDecision(time=NOW, actor="ada", action="known_good", subject="r1", note="ours")
    old.insert_records("detection_decisions", [decision])
    table = DetectionTable(old, state)
    for _ in range(2):
        import_once(state, old, "decisions", import_decisions, NOW)
        assert table.list_rules() == (ended,)
        assert table.list_decisions() == (decision,)


def test_views_and_labels_are_imported_once_without_those_that_were_taken_away(
    state: StateStore, old: EmbeddedStore
) -> None:
    make(old, BEFORE)
    old.execute(
        "INSERT INTO list_views VALUES ('v1', 'endpoints', 'Writes', 'method=POST', 'ada', 5, false, 1), "
        "('v2', 'endpoints', 'Gone', 'method=PUT', 'ada', 5, false, 1), "
        "('v2', 'endpoints', 'Gone', 'method=PUT', 'bob', 6, true, 2)"
    )
    old.execute(
        "INSERT INTO consumer_labels (consumer, name, note, changed_by, changed_at) VALUES "
        "('address:a', 'First', '', 'ada', 5), ('address:a', 'Second', 'n', 'bob', 6), "
        "('address:b', 'Gone', '', 'ada', 5), ('address:b', '', '', 'ada', 6)"
    )
    views, labels = ViewTable(state, lambda: NOW), LabelBook(state, lambda: NOW)
    import_once(state, old, "views", import_views, NOW)
    import_once(state, old, "labels", import_labels, NOW)
    saved = SavedView(id="v1", list="endpoints", name="Writes", query="method=POST", by="ada", time=5.0)
    assert [view for view in views.list_views() if not view.is_built_in] == [saved]
    label = ConsumerLabel(consumer="address:a", name="Second", note="n", changed_by="bob", changed_at=6.0)
    assert labels.list_labels() == [label]
    assert views.delete("v1", by="ada") is not None
    import_once(state, old, "views", import_views, NOW)
    assert all(view.is_built_in for view in views.list_views())


def test_names_words_and_edits_are_imported_and_later_names_hold(state: StateStore, old: EmbeddedStore) -> None:
    make(old, BEFORE)
    for version, template in ((2_000, "/users/{old}"), (1_800_000_000_000_000, "/users/{account}")):
        old.execute(
            "INSERT INTO endpoint_routes (route_id, version, endpoint_id, service, workload, host, method, "
            f"url_template) VALUES ({2**64 - 1}, {version}, 'e{version}', 'web', 'web', 'h', 'GET', '{template}')"
        )
    old.execute("INSERT INTO endpoint_aliases VALUES ('e2000', 1800000000000000, 18446744073709551615)")
    old.execute(f"INSERT INTO revealed_words VALUES ({2**63 + 1}, 'me', 1, toDateTime({int(NOW)}))")
    places = '[{"open": true, "texts": ["me"], "hashes": [18446744073709551615]}]'
    old.execute(
        "INSERT INTO template_edits (id, version, kind, workload, host, method, places, url_template, by, time) VALUES "
        f"('x1', 1, 'rename', 'web', 'h', 'GET', '{places}', "
        f"'/users/{{account}}', 'ada', toDateTime({int(NOW)}))"
    )
    import_once(state, old, "templates", import_templates, NOW)
    table = TemplateTable(state, old)
    newest, names = table.list_names()
    assert (newest, names) == (1_800_000_000_000_000, {2**64 - 1: "e1800000000000000"})
    assert table.read_words() == {2**63 + 1: "me"} and table.copy_names() == 0
    edit = table.read_edits()["x1"]
    place = Place(is_open=True, texts=frozenset({"me"}), hashes=frozenset({2**64 - 1}))
    assert (edit.places, edit.template, edit.time, edit.exact_since) == ((place,), "/users/{account}", int(NOW), None)
    route = Route(
        route_id=2**64 - 1, service=edit.service, host="h", method="GET", segments=(), has_trailing_slash=False
    )
    table.write_names([(route, EndpointName(endpoint_id="later", template="/later"))], names)
    assert old.query("SELECT endpoint_id, version FROM endpoint_routes FINAL") == [("later", newest + 1)]
    aliases = "SELECT endpoint_id, route_id FROM endpoint_aliases FINAL ORDER BY endpoint_id"
    assert old.query(aliases) == [("e1800000000000000", 2**64 - 1), ("e2000", 2**64 - 1)]
    for name in ("endpoint_routes", "endpoint_aliases"):
        old.execute(f"TRUNCATE TABLE {name}")


def test_retired_endpoints_are_imported_without_those_that_came_back(state: StateStore, old: EmbeddedStore) -> None:
    make(old, BEFORE)
    old.execute(
        "INSERT INTO endpoint_tombstones (endpoint_id, version, service, url_template, calls, authenticated_calls, "
        "judged_calls, first_seen, last_seen, days, is_back) VALUES "
        """('e1', 1, 'web', '/old', 7, 2, 4, 100, 200, '{"86400": 7}', 0), """
        "('e2', 1, 'web', '/back', 7, 2, 4, 100, 200, '{}', 0), ('e2', 2, '', '', 0, 0, 0, 0, 0, '{}', 1)"
    )
    import_once(state, old, "retired endpoints", import_retired, NOW)
    (one,) = RetiredEndpoints(store=old, state=state, clock=lambda: NOW).list_retired()
    assert (one.id, one.template, one.calls, one.authentication_coverage) == ("e1", "/old", 7, 0.5)
    assert (one.first_seen, one.last_seen, one.days, one.operation) == (100, 200, {86_400: 7}, None)
