"""The watch over time: budget and levels, known good, restarts, failures, and what is kept and erased."""

from dataclasses import replace
from typing import Any

import pytest

from collector.alerting.alert import AlertKind, Severity
from collector.alerting.filter import ReportOutcome
from collector.core.kinds import Sensitivity
from collector.detection.changes.detector import FactTable, import_facts
from collector.detection.changes.rules import Fact, FactKind
from collector.storage.embedded import EmbeddedStore
from collector.storage.state.imports import drop_old_tables, import_once
from collector.storage.state.store import StateStore
from tests.collector.detection.changes.office import BEARER, CARDS, DAY, EMPTY, HOUR, NAMED, PUBLIC, Office
from tests.collector.inventory.seed import NOW

pytestmark = pytest.mark.store


def test_low_changes_are_told_to_the_paranoid_alone_and_counted(embedded: EmbeddedStore, office: Office) -> None:
    office.level = Sensitivity.NORMAL
    office.start()
    known = office.endpoint(1, "/orders/{order_id}")
    office.learn((known, {}))
    office.call((office.endpoint(2, "/export"), BEARER))
    assert office.alerts() == [] and len(office.told) == 1
    assert office.detection.counts[ReportOutcome.TOO_QUIET] == 1
    office.now += HOUR
    office.call((office.endpoint(3, "/people"), {**NAMED, **PUBLIC}))
    alert = office.the_alert(AlertKind.NEW_ENDPOINT)
    assert alert.severity is Severity.MEDIUM
    assert "Personal data for callers without credentials: GET /people." in alert.why


def test_changes_share_the_installations_budget(office: Office) -> None:
    office.level = Sensitivity.NORMAL
    office.start()
    known = [office.endpoint(n, f"/a{n}", workload=f"service{n}") for n in range(1, 6)]
    office.learn(*((one, {**EMPTY, **BEARER}) for one in known))
    office.call(*((one, {**CARDS, **BEARER}) for one in known))
    assert len(office.told) == 5 and len(office.alerts()) == 2
    assert office.desk.suppressed_count == 3


def test_known_good_holds(office: Office) -> None:
    rule = {"consumer": "", "network": "", "workload": "", "endpoint_id": ""}
    office.detection.add_rule(by="ada", note="canary", seconds=9 * DAY, kind="missing_authentication", **rule)
    office.lose_login()
    assert office.alerts() == [] and office.detection.counts[ReportOutcome.KNOWN_GOOD] == 1


def test_a_restart_neither_repeats_nor_forgets(office: Office) -> None:
    known = office.endpoint(1, "/orders/{order_id}")
    office.learn((known, {**EMPTY, **BEARER}))
    office.start()
    fresh = office.endpoint(2, "/export")
    office.call((fresh, BEARER), (known, {**CARDS, **BEARER}))
    assert {alert.kind for alert in office.alerts()} == {AlertKind.NEW_ENDPOINT, AlertKind.NEW_DATA_CLASS}
    office.now += HOUR
    office.start()
    office.call((fresh, BEARER), (known, {**CARDS, **BEARER}))
    assert len(office.told) == 2
    office.call((office.endpoint(3, "/import"), BEARER))
    assert len(office.alerts()) == 2  # The one of this day goes on.
    assert {alert.measure for alert in office.alerts()} == {1, 2}


def test_what_could_not_be_told_is_told_at_the_next_look(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    known = office.endpoint(1, "/orders/{order_id}")
    office.learn((known, {}))
    with monkeypatch.context() as patched:
        patched.setattr(office.desk, "take_found", _fail)
        with pytest.raises(RuntimeError):
            office.call((office.endpoint(2, "/export"), BEARER))
    assert office.alerts() == []
    office.look()
    assert office.the_alert(AlertKind.NEW_ENDPOINT).endpoint_id == "ep0002"


def _fail(_: Any) -> None:
    raise RuntimeError


def test_an_erased_consumer_is_in_no_fact(office: Office) -> None:
    known = office.endpoint(1, "/payroll/{id}")
    office.learn((known, {**NAMED, "client_address": "8.8.8.8"}), (known, {**NAMED, "client_address": "9.9.9.1"}))
    office.now += 2.2 * DAY
    office.call((known, {**NAMED, "client_address": "8.8.8.8"}), (known, {**NAMED, "client_address": "9.9.9.1"}))
    assert _list_consumers(office) == {"address:8.8.8.8", "address:9.9.9.1"}
    assert FactTable(office.state).erase("address:8.8.8.8") == {"change_facts": 1}
    assert _list_consumers(office) == {"address:9.9.9.1"}


def _list_consumers(office: Office) -> set[str]:
    return {fact.detail for fact in FactTable(office.state).read(["ep0001"]) if fact.kind is FactKind.CONSUMER}


def test_facts_are_kept_newest_first_found_and_forgotten_on_both_databases(state: StateStore) -> None:
    table = FactTable(state)
    known = Fact(kind=FactKind.DATA, subject="ep1", detail="personal", scope="shop", first_seen=1.0, seen_at=1.0)
    told = replace(known, detail="financial", anchor="ep1", seen_at=2.0, told_at=2.0)
    table.save([known, told])
    table.save([replace(known, seen_at=NOW, key_id=2**32 - 1)])
    assert {fact.detail: (fact.seen_at, fact.key_id) for fact in table.read(["ep1", "ep2"])} == {
        "personal": (NOW, 2**32 - 1),
        "financial": (2.0, 0),
    }
    assert table.read_told(FactKind.DATA, ["shop"], 1.5) == [told]
    assert table.read_told(FactKind.DATA, ["shop"], 2.0) == table.read_told(FactKind.DATA, ["pay"], 1.5) == []
    table.expire(NOW)
    assert [fact.detail for fact in table.read(["ep1"])] == ["personal"]


def test_facts_of_an_earlier_version_are_imported_once(embedded: EmbeddedStore, sqlite_state: StateStore) -> None:
    embedded.execute(
        """CREATE TABLE change_facts (
            kind LowCardinality(String), subject String, detail String, scope String, label String, anchor String,
            first_seen Float64, seen_at Float64, told_at Float64, key_id UInt32,
            version UInt64 MATERIALIZED toUInt64(seen_at * 1000000)
        ) ENGINE = ReplacingMergeTree(version) ORDER BY (subject, kind, detail)"""
    )
    try:
        old = Fact(kind=FactKind.LOGIN, subject="ep1", scope="shop", first_seen=NOW, seen_at=NOW, key_id=2**32 - 1)
        embedded.insert_records("change_facts", [replace(old, seen_at=NOW + 9)])
        embedded.insert_records("change_facts", [old])
        for _ in range(2):
            import_once(sqlite_state, embedded, "known facts", import_facts, NOW)
            assert FactTable(sqlite_state).read(["ep1"]) == [replace(old, seen_at=NOW + 9)]
    finally:
        drop_old_tables(embedded)


def test_facts_outlive_the_rows_of_calls_while_they_are_seen(office: Office) -> None:
    known = office.endpoint(1, "/orders/{order_id}")
    office.learn((known, {**CARDS, **BEARER}))
    office.now += 31 * DAY
    office.call((known, {**CARDS, **BEARER}))
    subjects = ["", "ep0001", *{fact.scope for fact in FactTable(office.state).read(["ep0001"])}]
    facts = FactTable(office.state).read(subjects)
    renewed = {(fact.kind, fact.detail) for fact in facts if fact.seen_at == office.now}
    assert renewed == {
        *(("start", ""), ("service", ""), ("endpoint", ""), ("data", ""), ("data", "financial")),
        ("consumer", "inside:"),
    }
    assert office.told == []
