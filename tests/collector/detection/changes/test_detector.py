"""The watch over time: budget and levels, known good, restarts, failures, and what is kept and erased."""

from typing import Any

import pytest

from collector.alerting.alert import AlertKind, Severity
from collector.alerting.filter import ReportOutcome
from collector.core.kinds import Sensitivity
from collector.erasure import TableEraser, find_mention
from collector.inventory.consumers.consumer import parse_consumer
from collector.storage.embedded import EmbeddedStore
from tests.collector.detection.changes.office import BEARER, CARDS, DAY, EMPTY, HOUR, NAMED, PUBLIC, Office

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
    names = {row[0] for row in office.store.query("SELECT detail FROM change_facts WHERE kind = 'consumer'")}
    assert names == {"address:8.8.8.8", "address:9.9.9.1"}
    consumer = parse_consumer("address:8.8.8.8")
    assert consumer is not None
    counts = TableEraser(office.store, office.store.layout).erase(consumer, find_mention(consumer))
    assert counts["change_facts"] == 1
    names = {row[0] for row in office.store.query("SELECT detail FROM change_facts WHERE kind = 'consumer'")}
    assert names == {"address:9.9.9.1"}


def test_facts_outlive_the_rows_of_calls_while_they_are_seen(office: Office) -> None:
    known = office.endpoint(1, "/orders/{order_id}")
    office.learn((known, {**CARDS, **BEARER}))
    office.now += 31 * DAY
    office.call((known, {**CARDS, **BEARER}))
    rows = office.store.query("SELECT kind, detail, min(seen_at), max(seen_at) FROM change_facts GROUP BY 1, 2")
    renewed = {(row[0], row[1]) for row in rows if row[3] == office.now}
    assert renewed == {
        *(("start", ""), ("service", ""), ("endpoint", ""), ("data", ""), ("data", "financial")),
        ("consumer", "inside:"),
    }
    assert office.told == []
