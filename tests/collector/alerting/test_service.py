"""The alert life cycle and its tables against the real databases: what is written comes back, decisions hold, restarts
know them."""

import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import pytest
from sqlalchemy import select

from collector.alerting import repository
from collector.alerting.alert import (
    NOWHERE,
    AbuseSignal,
    Alert,
    AlertKind,
    AlertState,
    Basis,
    Confidence,
    Place,
    Report,
    Severity,
    Verdict,
    VerdictReach,
)
from collector.alerting.detection import Detection, DetectionTable, import_level
from collector.alerting.filter import ReportOutcome
from collector.alerting.lifecycle import Happening, Lifecycle
from collector.alerting.pending import PendingReports
from collector.alerting.repository import (
    AlertFilters,
    AlertPlace,
    AlertSort,
    AlertTable,
    save_alerts,
)
from collector.alerting.service import AlertService
from collector.alerting.silences import RULES_MAX, KnownGood, SilenceKind, show_alert
from collector.core.errors import ConflictError
from collector.core.kinds import ConsumerKind, Sensitivity
from collector.core.scope import Scope, use_scope
from collector.erasure import find_mention
from collector.inventory.consumers.consumer import ConsumerName
from collector.storage.base import Store, StoreError
from collector.storage.embedded import EmbeddedStore
from collector.storage.state.imports import import_file
from collector.storage.state.store import StateStore, upsert
from collector.storage.state.tables import METADATA
from collector.storage.state.tables.alerts import KNOWN_GOOD
from collector.trust.audit import AuditFilters, AuditLog, erase_mentions, make_entry
from tests.collector.alerting.test_lifecycle import make_report

pytestmark = pytest.mark.store


@pytest.fixture(scope="module")
def embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStore]:
    opened = EmbeddedStore(tmp_path_factory.mktemp("alerts"))
    yield opened
    opened.close()


@pytest.fixture
def store(embedded: EmbeddedStore) -> Store:
    """Without reports."""
    embedded.execute("TRUNCATE TABLE detector_reports")
    return embedded


@dataclass(slots=True)
class Office:
    """A desk with a clock that stands until moved, and what it told others."""

    store: Store
    state: StateStore
    ids: Iterator[int]
    now: float = field(default_factory=lambda: float(int(time.time())))  # The store drops rows past their retention.
    notified: list[Alert] = field(default_factory=list)
    taught: list[Alert] = field(default_factory=list)
    configured: Sensitivity = Sensitivity.NORMAL
    detection: Detection = field(init=False)
    labels: dict[str, str] = field(default_factory=dict)
    places: dict[int, Place] = field(default_factory=dict)  # By route.

    @property
    def table(self) -> AlertTable:
        return AlertTable(self.state)

    def open(self) -> AlertService:
        """A desk after a start of the collector."""
        detection = self.detection = Detection(
            table=DetectionTable(self.store, self.state),
            configured=self.configured,
            clock=lambda: self.now,
            new_id=lambda: f"r{next(self.ids):03d}",
        )
        desk = AlertService(
            table=self.table,
            detection=detection,
            find_place=lambda endpoint_id, route_ids: self.places.get(next(iter(route_ids), 0), NOWHERE),
            find_label=lambda consumer: self.labels.get(consumer, ""),
            lifecycle=Lifecycle(new_id=lambda: f"a{next(self.ids):03d}", find_budget=lambda: detection.budget),
            clock=lambda: self.now,
            notify=self.notified.append,
            expect=self.taught.append,
            pending=PendingReports(self.state),
        )
        desk.restore()
        return desk


@pytest.fixture
def office(store: Store, state: StateStore) -> Office:
    return Office(store, state, itertools.count(1))


def report_at(office: Office, n: int, **fields: object) -> Report:
    who = {"consumer": f"principal:{n:016x}", "endpoint_id": f"e{n}", "severity": Severity.HIGH}
    return make_report(**{**who, "window_start": office.now - 10, "window_end": office.now, **fields})  # type: ignore[arg-type]


def test_every_field_of_an_alert_survives_the_store(office: Office) -> None:
    desk = office.open()
    desk.take_reports(
        [
            report_at(
                office,
                1,
                route_ids=(1, 2**63 + 5),
                title='quote " and \u2028 and 100 %',
                calls=2**40,
                loss_ratio=0.25,
                score=0.75,
            )
        ]
    )
    (stored,) = desk.list_alerts(state=None, kind=None, limit=10, after=None)
    assert stored == show_alert(office.notified[0], None)
    assert desk.get_alert(stored.id) == stored
    assert desk.get_alert("nothing") is None


def test_pages_hold_each_alert_once_and_filters_hold(office: Office) -> None:
    desk = office.open()
    for n in range(23):
        desk.take_reports([report_at(office, n)])
        office.now += n % 2  # Some share their time: the id breaks the tie.
    seen: list[str] = []
    after: Alert | None = None
    while page := desk.list_alerts(state=AlertState.OPEN, kind=AlertKind.VOLUME_PAIR, limit=5, after=after):
        seen += [alert.id for alert in page]
        after = page[-1]
    assert seen == [f"a{n:03d}" for n in range(23, 0, -1)]
    assert list(desk.list_alerts(state=AlertState.CLOSED, kind=None, limit=5, after=None)) == []
    assert list(desk.list_alerts(state=None, kind=AlertKind.SENSOR_LAG, limit=5, after=None)) == []


def test_an_alert_is_shown_with_the_label_of_its_consumer_and_stored_without(office: Office) -> None:
    desk = office.open()
    desk.take_reports([report_at(office, 1, title="principal:0000000000000001 reads much")])
    [alert] = desk.list_alerts(limit=10)
    assert alert.consumer and alert.consumer_label == "" and alert.consumer in alert.title
    office.labels[alert.consumer] = "backup job"
    [named] = desk.list_alerts(limit=10)
    assert named.consumer_label == "backup job" and f"backup job ({alert.consumer})" in named.title
    acknowledged = desk.acknowledge(alert.id, by="ada")
    assert acknowledged is not None and acknowledged.consumer_label == "backup job"
    assert [row.title for row in office.table.list_restorable(0.0)] == [alert.title]


def test_an_alert_of_a_first_call_gets_its_service_and_nobody_is_notified_again(office: Office) -> None:
    desk = office.open()
    desk.take_reports([report_at(office, 1, endpoint_id="", route_ids=(7,))])
    desk.look()
    assert [alert.service for alert in desk.list_alerts(limit=10)] == [""]
    office.places[7] = Place(service="shop/mcp:80", namespace="shop", host="mcp.shop")
    office.now += 2
    desk.look()
    [alert] = desk.list_alerts(limit=10)
    assert (alert.service, alert.namespace, alert.host) == ("shop/mcp:80", "shop", "mcp.shop")
    assert len(office.notified) == 1


def test_newest_version_of_an_alert_holds(office: Office) -> None:
    desk = office.open()
    desk.take_reports([report_at(office, 1, observed_rate=10.0)])
    office.now += 61
    desk.take_reports([report_at(office, 1, observed_rate=30.0)])
    (alert,) = desk.list_alerts(state=None, kind=None, limit=10, after=None)
    assert (alert.observed_rate, alert.state) == (30.0, AlertState.OPEN)
    office.now += 3_600
    desk.take_reports([])
    (alert,) = desk.list_alerts(state=None, kind=None, limit=10, after=None)
    assert (alert.state, alert.closed_at) == (AlertState.CLOSED, office.now)


def test_acknowledgement_at_an_unmoved_clock_is_kept(office: Office) -> None:
    desk = office.open()
    desk.take_reports([report_at(office, 1)])
    changed = desk.acknowledge("a001", by="ann")
    assert changed is not None and changed.acknowledged_by == "ann"
    stored = desk.get_alert("a001")
    assert stored is not None and (stored.acknowledged_by, stored.acknowledged_at) == ("ann", office.now)
    assert desk.acknowledge("a999", by="ann") is None


def test_what_happens_after_the_clock_went_back_is_the_newest_version(office: Office) -> None:
    desk = office.open()
    lag = make_report(AlertKind.SENSOR_LAG, consumer="", endpoint_id="", node="n")
    desk.take_reports([lag, report_at(office, 1)])
    office.now -= 30
    desk.settle(AlertKind.SENSOR_LAG, "n")
    desk.take_reports([replace(report_at(office, 1), kind=AlertKind.ENUMERATION, title="Worse")])
    desk.mark_expected("a002", by="ada")
    office.now -= 30
    desk.unsilence("a002", by="ada")
    states = {alert.id: alert.state for alert in desk.list_alerts(state=None, kind=None, limit=10, after=None)}
    assert states == {"a001": AlertState.CLOSED, "a002": AlertState.OPEN}
    stored = desk.get_alert("a002")
    assert stored is not None
    assert (stored.title, stored.silence) == ("Worse", None)
    assert office.table.list_silences(office.now) == ()


def test_muted_subject_is_recorded_and_told_to_nobody_also_after_a_restart(office: Office) -> None:
    desk = office.open()
    desk.take_reports([report_at(office, 1)])
    desk.mute("a001", by="ann", until=office.now + 90_000)
    office.notified.clear()
    for _ in range(2):
        office.now += 7_200
        desk = office.open()
        desk.take_reports([])  # Closes the old one.
        office.now += 4_000  # Past what would be flapping.
        desk = office.open()
        desk.take_reports([report_at(office, 1)])
    assert len(desk.list_alerts(state=None, kind=None, limit=10, after=None)) == 3
    assert office.notified == []
    office.now += 90_000
    office.open().take_reports([report_at(office, 1)])
    assert [alert.id for alert in office.notified if alert.state is AlertState.OPEN] == ["a003"]


def test_expected_subject_is_taught_and_raises_nothing_until_taken_back(office: Office) -> None:
    desk = office.open()
    desk.take_reports([report_at(office, 1)])
    desk.mark_expected("a001", by="ann")
    assert [alert.id for alert in office.taught] == ["a001"]
    office.now += 7_200
    desk = office.open()
    desk.take_reports([])
    desk.take_reports([report_at(office, 1)])
    assert len(desk.list_alerts(state=None, kind=None, limit=10, after=None)) == 1
    desk.unsilence("a001", by="ann")
    office.now += 7_200
    desk.take_reports([report_at(office, 1)])
    assert len(desk.list_alerts(state=None, kind=None, limit=10, after=None)) == 2


def test_restart_goes_on_with_open_alerts(office: Office) -> None:
    office.open().take_reports([report_at(office, 1)])
    office.now += 61
    desk = office.open()
    desk.take_reports([report_at(office, 1)])
    assert [alert.id for alert in desk.list_alerts(state=None, kind=None, limit=10, after=None)] == ["a001"]


def test_what_the_store_did_not_take_is_kept_and_told_with_the_next(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = office.open()
    for _ in range(2):
        monkeypatch.setattr(AlertTable, "write", fail)
        with pytest.raises(StoreError):
            desk.take_reports([report_at(office, len(office.notified))])
        monkeypatch.undo()
        office.now += 1
        desk.take_reports([])
    ids = ["a001", "a002"]
    assert [alert.id for alert in office.notified] == ids
    assert sorted(alert.id for alert in desk.list_alerts(state=None, kind=None, limit=10, after=None)) == ids
    assert [[entry.happening for entry in desk.list_entries(one)] for one in ids] == [[Happening.OPENED]] * 2


def test_a_decision_on_what_the_store_did_not_take_is_one_on_what_it_is_now(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = office.open()
    desk.take_reports([report_at(office, 1)])
    office.now += 3_600
    monkeypatch.setattr(AlertTable, "write", fail)
    with pytest.raises(StoreError):
        desk.take_reports([])  # It is calm, and closes.
    monkeypatch.undo()
    office.now += 1
    desk.acknowledge("a001", by="ada")
    desk.take_reports([])
    stored = desk.get_alert("a001")
    assert stored is not None
    assert (stored.state, stored.acknowledged_by) == (AlertState.CLOSED, "ada")
    assert [alert.state for alert in office.notified] == [AlertState.OPEN, AlertState.CLOSED]


def fail(*_: object, **__: object) -> None:
    raise StoreError("The store is away.")


def test_every_decision_is_kept_with_who_and_when(office: Office) -> None:
    desk = office.open()
    desk.take_reports([report_at(office, 1)])
    desk.acknowledge("a001", by="ann")
    desk.mute("a001", by="bob", until=office.now + 60)
    muted, acknowledged = AuditLog(office.state).list_lines(AuditFilters(), limit=9)
    assert (acknowledged.action, acknowledged.by, acknowledged.target) == ("alert.acknowledge", "ann", "a001")
    assert (muted.action, muted.by, muted.target) == ("alert.mute", "bob", "a001")
    assert json.loads(muted.after) == {"silence": "muted", "by": "bob", "until": office.now + 60}
    happened = [(one.happening, one.why) for one in desk.list_entries("a001")]
    assert happened[1:] == [(Happening.ACKNOWLEDGED, "By ann."), (Happening.MUTED, "By bob.")]


def list_ids(desk: AlertService, state: AlertState | None) -> list[str]:
    return sorted(alert.id for alert in desk.list_alerts(state=state, kind=None, limit=50, after=None))


@pytest.mark.parametrize("kind", [SilenceKind.EXPECTED, SilenceKind.MUTED])
def test_what_is_silenced_is_listed_with_who_when_why_and_until_and_can_be_undone_also_after_a_restart(
    office: Office, kind: SilenceKind
) -> None:
    desk = office.open()
    desk.take_reports([report_at(office, 1), report_at(office, 2)])
    office.now += 1
    until = office.now + 9_000 if kind is SilenceKind.MUTED else None
    if until is None:
        desk.mark_expected("a001", by="ann", reason="The nightly export")
    else:
        desk.mute("a001", by="ann", until=until, reason="The nightly export")
    at = office.now
    for _ in range(2):
        shown = desk.get_alert("a001")
        assert shown is not None and shown.silence is not None
        assert (shown.state, shown.silence.kind, shown.silence.by) == (AlertState.SILENCED, kind, "ann")
        assert (shown.silence.at, shown.silence.reason, shown.silence.until) == (at, "The nightly export", until)
        assert [list_ids(desk, state) for state in AlertState] == [["a002"], ["a001"], []]
        assert sorted(list_ids(desk, None)) == ["a001", "a002"]
        desk = office.open()
    office.now += 1
    undone = desk.unsilence("a001", by="bob")
    assert undone is not None and (undone.state, undone.silence) == (AlertState.OPEN, None)
    for _ in range(2):
        assert list_ids(desk, AlertState.OPEN) == ["a001", "a002"]
        desk = office.open()
    happened = [entry.happening.value for entry in desk.list_entries("a001")]
    assert happened == ["opened", *(("mute", "unmute") if until else ("expect", "unexpect"))]
    with pytest.raises(ConflictError, match="not silenced"):
        desk.unsilence("a001", by="bob")
    assert desk.unsilence("a999", by="bob") is None


def test_an_alert_that_closed_while_it_was_silenced_stays_listed_until_the_silence_ends(office: Office) -> None:
    desk = office.open()
    desk.take_reports([report_at(office, 1)])
    desk.mute("a001", by="ann", until=office.now + 90_000)
    office.now += 7_200
    desk.take_reports([])
    shown = desk.get_alert("a001")
    assert shown is not None and shown.closed_at and shown.state is AlertState.SILENCED
    assert [list_ids(desk, state) for state in AlertState] == [[], ["a001"], []]
    office.now += 90_000
    assert [list_ids(desk, state) for state in AlertState] == [[], [], ["a001"]]
    assert [list_ids(office.open(), state) for state in AlertState] == [[], [], ["a001"]]


def test_the_newest_decision_on_a_subject_holds(office: Office) -> None:
    desk = office.open()
    desk.take_reports([report_at(office, 1)])
    desk.mark_expected("a001", by="ann")
    desk.mute("a001", by="bob", until=office.now + 600)
    desk.unsilence("a001", by="bob")
    desk.mark_expected("a001", by="cid")
    shown = office.open().get_alert("a001")
    assert shown is not None and shown.silence is not None
    assert (shown.silence.kind, shown.silence.by) == (SilenceKind.EXPECTED, "cid")


def test_a_silence_does_not_hide_what_another_detector_finds_of_the_same_actor(office: Office) -> None:
    """What was expected is the volume; that objects are enumerated is news."""
    desk = office.open()
    desk.take_reports([report_at(office, 1)])
    desk.mark_expected("a001", by="ann")
    assert list_ids(desk, AlertState.OPEN) == []
    office.now += 1
    worse = replace(report_at(office, 1), kind=AlertKind.ENUMERATION, severity=Severity.HIGH)
    office.notified.clear()
    desk.take_reports([worse])
    assert list_ids(desk, AlertState.OPEN) == ["a001"]
    assert list_ids(desk, AlertState.SILENCED) == []
    assert [alert.kind for alert in office.notified] == [AlertKind.ENUMERATION]
    desk.unsilence("a001", by="ann")  # What was said of the volume can be undone all the same.
    assert office.table.list_silences(office.now) == ()


def test_what_a_known_good_rule_matches_is_silenced_by_it_until_it_ends(office: Office) -> None:
    desk = office.open()
    report = report_at(office, 1)
    desk.take_reports([report, report_at(office, 2)])
    rule = office.detection.add_rule(
        by="ann", note="Our crawler", seconds=600, consumer=report.consumer, network="", workload="",
        endpoint_id=report.endpoint_id, kind="",
    )  # fmt: skip
    shown = desk.get_alert("a001")
    assert shown is not None and shown.silence is not None
    assert (shown.state, shown.silence.kind, shown.silence.reason) == (
        AlertState.SILENCED, SilenceKind.KNOWN_GOOD, "Our crawler",
    )  # fmt: skip
    assert [list_ids(desk, state) for state in AlertState] == [["a002"], ["a001"], []]
    with pytest.raises(ConflictError, match=rule.id):
        desk.unsilence("a001", by="bob")
    office.detection.end_rule(rule.id, by="bob")
    assert list_ids(desk, AlertState.OPEN) == ["a001", "a002"]


def test_an_incident_of_silenced_alerts_is_silenced(office: Office) -> None:
    desk = office.open()
    desk.take_reports([report_at(office, 1)])
    for state, act in ((AlertState.SILENCED, desk.mark_expected), (AlertState.OPEN, desk.unsilence)):
        act("a001", by="ann")
        incident = desk.get_incident("a001")
        assert incident is not None and incident.state is state
        for other in AlertState:
            found = desk.list_incidents(state=other, limit=9, after=None)
            assert [one.id for one in found] == (["a001"] if other is state else [])


def test_of_what_is_silenced_nobody_is_notified_but_of_the_end_of_what_was_expected(office: Office) -> None:
    desk = office.open()
    desk.take_reports([report_at(office, 1), report_at(office, 2)])
    desk.mark_expected("a001", by="ann")
    desk.mute("a002", by="ann", until=office.now + 90_000)
    office.notified.clear()
    office.now += 61
    desk.take_reports([report_at(office, 1), report_at(office, 2)])
    assert office.notified == []
    office.now += 7_200
    desk.take_reports([])
    assert [(alert.id, alert.state) for alert in office.notified] == [("a001", AlertState.CLOSED)]


def test_table_returns_nothing_restorable_that_closed_long_ago(office: Office) -> None:
    desk = office.open()
    desk.take_reports([report_at(office, 1)])
    office.now += 7_200
    desk.take_reports([])
    table = office.table
    assert [alert.id for alert in table.list_restorable(office.now - 1)] == ["a001"]
    assert table.list_restorable(office.now + 1) == ()
    old = table.get("a001")
    assert old is not None
    table.write(alerts=[replace(old, updated_at=office.now + 5, state=AlertState.OPEN)])
    assert [alert.id for alert in table.list_restorable(office.now + 10)] == ["a001"]


def test_incidents_hold_an_actors_alerts_and_their_timeline_also_after_a_restart(office: Office) -> None:
    desk = office.open()
    desk.take_reports([report_at(office, 1, risk="API1:2023", advice="Do it.", confidence=Confidence.HIGH)])
    office.now += 700  # The alert closes.
    desk.take_reports([report_at(office, 2)])
    office.now += 4_000
    desk = office.open()
    desk.take_reports([report_at(office, 1, title="again", risk="API4:2023")])
    desk.acknowledge("a003", by="ann")
    newest, older = desk.list_incidents(state=None, limit=10, after=None)
    assert (newest.id, older.id) == ("a002", "a001")
    assert (older.alerts, older.title, older.risks) == (2, "again", ("API1:2023", "API4:2023"))
    assert (older.actor, older.state, older.severity) == (f"principal:{1:016x}", AlertState.OPEN, Severity.HIGH)
    assert list(desk.list_incidents(state=None, limit=10, after=newest)) == [older]
    assert [found.id for found in desk.list_incidents(state=AlertState.CLOSED, limit=10, after=None)] == ["a002"]
    assert [alert.id for alert in desk.list_incident_alerts("a001")] == ["a003", "a001"]
    entries = desk.list_entries("a001")
    assert [(entry.alert_id, entry.happening) for entry in entries] == [
        ("a001", Happening.OPENED),
        ("a001", Happening.CLOSED),
        ("a003", Happening.OPENED),
        ("a003", Happening.ACKNOWLEDGED),
    ]
    assert entries[-1].why == "By ann."
    assert desk.get_incident("a001") == older
    assert desk.get_incident("a003") is None


def make_signal(n: int, count: int = 100) -> AbuseSignal:
    return AbuseSignal(
        kind=AlertKind.SCANNING,
        endpoint_id="",
        endpoint_label="",
        route_ids=(),
        consumer=f"address:198.51.100.{n}",
        time=1_700_000_000,
        seconds=60,
        count=count,
        ceiling=20,
        calls=count,
        basis=Basis.PEERS,
        is_notice=False,
        sources=(),
        loss_ratio=0.0,
    )


def test_rules_and_verdicts_hold_over_restarts_are_counted_and_written_down(office: Office) -> None:
    desk = office.open()
    named = {"consumer": "", "workload": "", "endpoint_id": "", "kind": ""}
    rule = office.detection.add_rule(by="ann", note="pentest", seconds=3_600, network="198.51.100.0/28", **named)
    desk.take_signals([make_signal(1), make_signal(2), make_signal(1), make_signal(99)])
    (alert,) = desk.list_alerts(state=None, kind=None, limit=10, after=None)
    assert (alert.consumer, alert.measure) == ("address:198.51.100.99", 100.0)
    assert alert.risk == "" and "OWASP" not in alert.why, "scanning is in no category"
    ((listed, hits),) = office.detection.list_rules()
    assert listed == rule
    assert hits is not None and (hits.reports, hits.subjects) == (3, 2)
    judged = desk.give_verdict(alert.id, by="bob", verdict=Verdict.FALSE_ALARM)
    assert judged is not None and (judged.verdict, judged.verdict_by) == (Verdict.FALSE_ALARM, "bob")
    office.now += 700
    desk = office.open()
    desk.take_signals([make_signal(1), make_signal(99, count=120)])
    assert office.detection.counts[ReportOutcome.KNOWN_GOOD] == office.detection.counts[ReportOutcome.FALSE_ALARM] == 1
    assert office.detection.end_rule(rule.id, by="ann").ended_by == "ann"
    with pytest.raises(ConflictError, match="not in force any more"):
        office.detection.end_rule(rule.id, by="ann")
    assert desk.give_verdict(alert.id, by="bob", verdict=Verdict.NONE) is not None
    office.now += 4_000
    desk = office.open()
    desk.take_signals([make_signal(1)])
    assert len(desk.list_alerts(state=None, kind=None, limit=10, after=None)) == 2
    assert [one.action for one in office.detection.list_decisions()] == ["end_known_good", "known_good"]
    happened = [entry.happening for entry in desk.list_entries(alert.incident_id)]
    assert {Happening.FALSE_ALARM, Happening.NO_VERDICT} <= set(happened)


def test_a_verdict_that_is_taken_back_leaves_those_on_others(office: Office) -> None:
    office.configured = Sensitivity.QUIET
    desk = office.open()
    desk.take_signals([make_signal(1)])
    office.now += 4_000
    desk.take_reports([])
    office.now += 90_000
    desk.take_signals([make_signal(1, count=200)])
    later, first = desk.list_alerts(state=None, kind=None, limit=10, after=None)
    assert later.consumer == first.consumer
    desk.give_verdict(first.id, by="bob", verdict=Verdict.CONFIRMED)
    for verdict in (Verdict.FALSE_ALARM, Verdict.NONE):
        desk.give_verdict(later.id, by="bob", verdict=verdict)
    office.now += 90_000
    mild = make_report(AlertKind.SCANNING, consumer=first.consumer, quietest=Sensitivity.PARANOID)
    desk.take_found([mild])
    assert office.detection.counts[ReportOutcome.TOO_QUIET] == 0
    office.open().take_found([mild])
    assert office.detection.counts[ReportOutcome.TOO_QUIET] == 0


def test_a_verdict_of_a_bound_analyst_holds_in_its_namespace_also_after_a_restart(office: Office) -> None:
    office.configured = Sensitivity.QUIET
    desk, scope = office.open(), Scope(namespaces=("shop",))
    loud = make_report(AlertKind.SCANNING, consumer="address:203.0.113.7", service="shop/cart:80", namespace="shop")
    mild = replace(loud, kind=AlertKind.ENUMERATION, quietest=Sensitivity.PARANOID)
    desk.take_found([loud])
    (alert,) = desk.list_alerts(state=None, kind=None, limit=10, after=None)
    with use_scope(scope):
        judged = desk.give_verdict(alert.id, by="ann", verdict=Verdict.CONFIRMED)
    assert judged is not None and judged.verdict_reach is VerdictReach.NAMESPACE
    for is_restarted in (False, True):
        desk = office.open() if is_restarted else desk
        before = office.detection.counts[ReportOutcome.TOO_QUIET]
        desk.take_found([mild, replace(mild, service="bank/pay:80", namespace="bank", endpoint_id="e2")])
        assert office.detection.counts[ReportOutcome.TOO_QUIET] == before + 1


def test_a_bound_analyst_changes_no_verdict_that_holds_everywhere(office: Office) -> None:
    desk, scope = office.open(), Scope(namespaces=("shop",))
    desk.take_found([make_report(AlertKind.SCANNING, service="shop/cart:80", namespace="shop")])
    (alert,) = desk.list_alerts(limit=10)
    with use_scope(scope):
        assert desk.give_verdict(alert.id, by="ann", verdict=Verdict.FALSE_ALARM) is not None
        assert desk.give_verdict(alert.id, by="ann", verdict=Verdict.NONE) is not None
    desk.give_verdict(alert.id, by="bob", verdict=Verdict.CONFIRMED)
    for verdict in Verdict:
        with use_scope(scope), pytest.raises(ConflictError, match="the verdict confirmed by bob, which holds everywh"):
            desk.give_verdict(alert.id, by="ann", verdict=verdict)
    assert desk.give_verdict(alert.id, by="bob", verdict=Verdict.NONE) is not None


def test_a_bound_analyst_silences_nobody_wherever_they_call(office: Office) -> None:
    desk, scope = office.open(), Scope(namespaces=("shop",))
    for address, endpoint_id in (("203.0.113.7", ""), ("203.0.113.8", "e1")):
        place = {"endpoint_id": endpoint_id, "service": "shop/cart:80", "namespace": "shop"}
        desk.take_found([make_report(AlertKind.SCANNING, consumer=f"address:{address}", **place)])
    alerts = {alert.endpoint_id: alert.id for alert in desk.list_alerts(limit=10)}
    with use_scope(scope):
        for silence in (
            lambda: desk.mute(alerts[""], by="ann", until=office.now + 60),
            lambda: desk.mark_expected(alerts[""], by="ann"),
        ):
            with pytest.raises(ConflictError, match=r"203\.0\.113\.7 wherever it calls, and you see only"):
                silence()
    desk.mute(alerts[""], by="bob", until=office.now + 60)
    with use_scope(scope), pytest.raises(ConflictError, match="you see only the namespace shop"):
        desk.unsilence(alerts[""], by="ann")
    assert office.taught == []
    with use_scope(scope):
        assert desk.mark_expected(alerts["e1"], by="ann") is not None
    assert [alert.id for alert in office.taught] == [alerts["e1"]]


def test_a_rule_in_force_outlives_any_number_of_short_ones_and_those_are_forgotten(office: Office) -> None:
    desk = office.open()
    named = {"consumer": "", "workload": "", "endpoint_id": "", "kind": ""}
    office.detection.add_rule(by="ann", note="pentest", seconds=86_400, network="198.51.100.0/24", **named)
    table = DetectionTable(office.store, office.state)
    office.now += 1
    short = [
        KnownGood(
            id=f"s{n}", note="n", kind="scanning", created_at=office.now, created_by="job",
            expires_at=office.now + 60, updated_at=office.now,
        )
        for n in range(2 * RULES_MAX)
    ]  # fmt: skip
    with office.state.write() as connection:
        upsert(connection, KNOWN_GOOD, [asdict(rule) for rule in short])
    office.now += 600
    desk = office.open()
    desk.take_signals([make_signal(1)])
    assert office.detection.counts[ReportOutcome.KNOWN_GOOD] == 1
    assert [one.note for one in table.read_decided().rules if one.holds(office.now)] == ["pentest"]
    for n in range(3):
        office.detection.add_rule(by="job", note="n", seconds=60, network=f"203.0.113.{n}/32", **named)
        office.now += 61
    assert len(office.detection._filter.rules) == 2


def test_level_and_rules_that_another_collector_changed_hold(office: Office) -> None:
    office.open()
    first = office.detection
    office.open()
    second = office.detection
    first.choose(Sensitivity.QUIET, by="ann")
    assert (second.describe().level, second.describe().changed_by) == (Sensitivity.QUIET, "ann")
    named = {"consumer": "", "workload": "", "endpoint_id": "", "kind": ""}
    rule = second.add_rule(by="bob", note="n", seconds=60, network="203.0.113.1/32", **named)
    first.end_rule(rule.id, by="ann")
    with pytest.raises(ConflictError):
        second.end_rule(rule.id, by="bob")


def test_the_level_of_a_file_of_an_earlier_version_is_imported(office: Office, tmp_path: Path) -> None:
    path = tmp_path / "sensitivity.json"
    path.write_text('{"level": "quiet", "configured": "normal", "at": 9.5, "by": "ann"}')
    import_file(office.state, path, import_level, office.now, damage="")
    office.open()
    level = office.detection.describe()
    assert (level.level, level.changed_at, level.changed_by) == (Sensitivity.QUIET, 9.5, "ann")
    assert not path.exists()


def test_a_chosen_level_holds_until_the_setting_changes(office: Office) -> None:
    desk = office.open()
    assert office.detection.describe().level is Sensitivity.NORMAL
    office.detection.choose(Sensitivity.QUIET, by="ann")
    desk.take_signals([make_signal(n) for n in range(3)])
    office.open()
    standing = office.detection.describe()
    assert (standing.level, standing.changed_by, standing.configured) == (Sensitivity.QUIET, "ann", Sensitivity.NORMAL)
    assert [one.high_a_day for one in standing.previews] == [3.0, 3.0, 3.0]
    office.configured = Sensitivity.PARANOID
    office.open()
    assert office.detection.describe().level is Sensitivity.PARANOID


def test_alerts_are_narrowed_sorted_by_severity_and_counted(office: Office) -> None:
    desk = office.open()
    shop = {"service": "shop/orders:8080", "namespace": "shop", "host": "shop.example"}
    grades = (Severity.LOW, Severity.HIGH, Severity.MEDIUM, Severity.HIGH)
    for n, severity in enumerate(grades, start=1):
        desk.take_reports([report_at(office, n, severity=severity, **(shop if n < 3 else {}))])
        office.now += 10
    assert [alert.id for alert in desk.list_alerts(limit=9)] == ["a004", "a003", "a002", "a001"]
    graded: list[str] = []
    after: AlertPlace | None = None
    while page := desk.list_alerts(limit=1, after=after, sort=AlertSort.SEVERITY):
        graded += [alert.id for alert in page]
        after = AlertPlace(opened_at=page[-1].opened_at, id=page[-1].id, severity=page[-1].severity)
    assert graded == ["a004", "a002", "a003", "a001"]
    first = desk.list_alerts(limit=9)[-1]
    asked: list[tuple[AlertFilters, list[str]]] = [
        ({"service": "shop/orders:8080"}, ["a002", "a001"]),
        ({"service": "orders"}, ["a002", "a001"]),
        ({"namespace": "shop", "severity": Severity.HIGH}, ["a002"]),
        ({"consumer": f"principal:{3:016x}"}, ["a003"]),
        ({"endpoint": "e4"}, ["a004"]),
        ({"confidence": Confidence.LOW}, []),
        ({"end": first.opened_at + 1}, ["a001"]),
        ({"start": office.now, "end": first.opened_at + 11}, ["a002", "a001"]),
    ]
    for filters, ids in asked:
        assert [alert.id for alert in desk.list_alerts(limit=9, **filters)] == ids, filters
    desk.mark_expected("a004", by="ann")
    assert desk.count_alerts() == {
        (AlertState.OPEN, Severity.HIGH): 1,
        (AlertState.OPEN, Severity.MEDIUM): 1,
        (AlertState.OPEN, Severity.LOW): 1,
        (AlertState.SILENCED, Severity.HIGH): 1,
    }
    assert desk.count_alerts(service="orders") == {
        (AlertState.OPEN, Severity.LOW): 1,
        (AlertState.OPEN, Severity.HIGH): 1,
    }
    assert desk.count_open() == {Severity.HIGH: 1, Severity.MEDIUM: 1, Severity.LOW: 1}
    office.now += 7_200
    desk.take_reports([])
    assert desk.list_alerts(limit=9, start=office.now + 1) == []
    assert len(desk.list_alerts(limit=9, start=office.now)) == 4


def test_an_alert_and_its_timeline_change_together_or_not_at_all(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = office.open()
    desk.take_reports([report_at(office, 1)])

    def fail_midway(connection: object, alerts: object) -> None:
        save_alerts(connection, alerts)  # type: ignore[arg-type]
        raise StoreError("The state is away.")

    monkeypatch.setattr(repository, "save_alerts", fail_midway)
    for act in (desk.acknowledge, desk.mark_expected):
        with pytest.raises(StoreError):
            act("a001", by="ann")
    monkeypatch.undo()
    (alert,) = office.open().list_alerts(limit=9)
    assert (alert.acknowledged_by, alert.state) == ("", AlertState.OPEN)
    assert [entry.happening for entry in desk.list_entries("a001")] == [Happening.OPENED]


def test_the_filter_of_an_endpoint_finds_alerts_by_its_routes_too(office: Office) -> None:
    desk = office.open()
    desk.take_reports([report_at(office, 1, route_ids=(7, 2**63 + 5)), report_at(office, 2, route_ids=(8,))])
    table = AlertTable(office.state, lambda endpoint_id: {"e9": (2**63 + 5,), "e2": ()}[endpoint_id])
    found = [table.list(limit=9, after=None, silenced=(), endpoint=endpoint) for endpoint in ("e9", "e2")]
    assert [[alert.id for alert in alerts] for alerts in found] == [["a001"], ["a002"]]
    assert [alert.route_ids for (alert,) in found] == [(7, 2**63 + 5), (8,)]


def test_what_is_past_its_retention_is_deleted_and_past_the_most_the_oldest(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = office.open()
    desk.take_reports([report_at(office, n) for n in range(3)])
    desk.mute("a001", by="ann", until=office.now + 60)
    assert office.table.expire(office.now, 400) == 0
    office.now += 7_200
    desk.take_reports([])
    office.now += 10
    desk.take_reports([report_at(office, 9)])
    monkeypatch.setattr(repository, "ALERTS_MAX", 1)
    assert office.table.expire(office.now, 400) == 2, "open alerts stay and do not count"
    assert desk.list_alerts(limit=9)[0].id == "a004"
    assert office.table.list_silences(0.0) == ()
    office.now += 400 * 86_400 + 1
    assert office.table.expire(office.now, 400) == 0
    assert (desk.list_alerts(limit=9), desk.list_entries("a004")) == ([], ())
    with office.state.read() as connection:
        kept = [table.name for table in METADATA.sorted_tables if connection.execute(select(table)).first()]
    assert kept == ["audit_entries", "table_writes"], "what people decided has a retention of its own"


def test_what_alerts_take_is_measured(office: Office) -> None:
    assert repository.measure_alerts(office.state, 400, office.now).span_seconds == 0
    office.open().take_reports([report_at(office, 1)])
    stored = repository.measure_alerts(office.state, 400, office.now + 86_400)
    assert (stored.rows, stored.span_seconds, stored.kept_seconds) == (1, 86_400, 400 * 86_400)
    assert stored.bytes == stored.bytes_a_day == office.state.measure_bytes() > 0


def test_a_consumer_is_erased_from_alerts_timelines_and_silences(office: Office) -> None:
    desk = office.open()
    named = report_at(office, 1, consumer="address:192.0.2.7", title="address:192.0.2.7 reads much")
    desk.take_reports(
        [named, report_at(office, 2, title="Much is read"), report_at(office, 3, why="As 192.0.2.7 did.")]
    )
    desk.mute("a001", by="ann", until=office.now + 60, reason="it is 192.0.2.7")
    desk.mute("a002", by="ann", until=office.now + 60, reason="it is 192.0.2.7")
    mention = find_mention(ConsumerName(kind=ConsumerKind.ADDRESS, value="192.0.2.7"))
    counts = office.table.erase("address:192.0.2.7", mention.pattern)
    with office.state.write() as connection:
        erased = make_entry(office.now, "ann", "erased", "address:erased")
        assert erase_mentions(connection, mention.pattern, erased) == 2
    assert counts == {"alerts": 2, "incident_entries": 4, "silences": 2}
    with office.state.read() as connection:
        rows = [str(row) for table in METADATA.sorted_tables for row in connection.execute(select(table))]
    assert not [row for row in rows if "192.0.2.7" in row]
    (left,) = office.table.list_silences(office.now)
    assert (left.alert_id, left.reason) == ("a002", "it is erased")
    assert AuditLog(office.state).check().fault == ""
