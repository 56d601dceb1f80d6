"""Signals and reports of other processes become alerts once, whoever ends in between."""

import itertools
from functools import partial

import pytest
from sqlalchemy import insert, update

from collector.alerting.alert import AlertKind, AlertState, Severity
from collector.alerting.detection import Detection, DetectionTable
from collector.alerting.lifecycle import Lifecycle
from collector.alerting.notifiers.delivery import Notifier
from collector.alerting.notifiers.outbox import Outbox
from collector.alerting.pending import PENDING_MAX, PendingReports, Settled, Write
from collector.alerting.repository import AlertTable
from collector.alerting.service import AlertService
from collector.core.kinds import Sensitivity
from collector.storage.base import LeaseLostError, StoreError
from collector.storage.state.leases import Fence, Leases
from collector.storage.state.store import StateStore
from collector.storage.state.tables.leases import LEASES
from collector.storage.state.tables.pending import PENDING_REPORTS
from tests.collector.alerting.test_lifecycle import make_report
from tests.collector.alerting.test_notifiers import Silent
from tests.collector.alerting.test_service import make_signal

NOW = 1_700_000_000.0


class NoReports:
    """A store that keeps no reports for previews; or is away."""

    is_away = False

    def insert_records(self, table: str, records: object) -> None:
        if self.is_away:
            raise StoreError("The store is away.")


class Member:
    """One collector of several that share a state. Its alerts are named after it."""

    def __init__(self, state: StateStore, name: str) -> None:
        numbers = itertools.count(1)
        self.leases = Leases(state, holder=name)
        self.store = NoReports()
        self.pending = PendingReports(state)
        self.table = AlertTable(state, begin=self.begin)
        detection = Detection(
            table=DetectionTable(self.store, state),  # type: ignore[arg-type]
            configured=Sensitivity.NORMAL,
            clock=lambda: NOW,
            new_id=lambda: name,
        )
        self.notified: list[str] = []
        self.notifier = Notifier(Silent(), Outbox(state, "silent"), clock=lambda: NOW)
        self.service = AlertService(
            table=self.table,
            lifecycle=Lifecycle(new_id=lambda: f"{name}{next(numbers)}", find_budget=lambda: 100.0),
            clock=lambda: NOW,
            prepare=lambda alerts: partial(self.notifier.add, alerts=alerts),
            notify=lambda alert: self.notified.append(alert.id),
            expect=lambda alert: None,
            detection=detection,
            pending=self.pending,
        )

    def find_fence(self) -> Fence:
        return self.leases.make_fence(self.leases.take(["jobs"])["jobs"])

    def begin(self) -> Write:
        return self.find_fence().write

    def list_alerts(self) -> list[str]:
        return sorted(alert.id for alert in self.table.list(limit=99, after=None, silenced=()))


def end_lease(state: StateStore) -> None:
    with state.write() as connection:
        connection.execute(update(LEASES).values(until=1.0))


def test_signals_become_alerts_once(state: StateStore) -> None:
    one = Member(state, "a")
    one.service.restore()
    assert one.pending.add_signals("s", 1, [make_signal(1), make_signal(2)])
    one.service.look()
    assert (one.list_alerts(), one.pending.list(), one.notified) == (["a1", "a2"], [], ["a1", "a2"])
    assert not one.pending.add_signals("s", 1, [make_signal(1), make_signal(2)]), "after a crash of the detectors"
    assert one.pending.add_signals("s", 2, [make_signal(2), make_signal(3)])
    one.service.look()
    assert one.list_alerts() == ["a1", "a2", "a3"]
    assert one.pending.add_signals("learned anew", 1, [make_signal(4)])
    one.service.look()
    assert one.list_alerts() == ["a1", "a2", "a3", "a4"]


def test_reports_and_ends_keep_their_order(state: StateStore) -> None:
    one = Member(state, "a")
    one.service.restore()
    report = make_report(kind=AlertKind.SENSOR_SILENT, node="n1", endpoint_id="", consumer="", severity=Severity.HIGH)
    one.pending.add_reports([report])
    one.pending.add_reports([], [Settled(AlertKind.SENSOR_SILENT, "n1")])
    one.service.take_pending()
    (alert,) = one.table.list(limit=9, after=None, silenced=())
    assert (alert.node, alert.state) == ("n1", AlertState.CLOSED)


def test_who_takes_over_goes_on_with_what_waits_and_what_is_open(state: StateStore) -> None:
    one, two = Member(state, "a"), Member(state, "b")
    one.service.restore()
    one.pending.add_signals("s", 1, [make_signal(1)])
    one.service.look()
    one.pending.add_signals("s", 2, [make_signal(1, count=400), make_signal(2)])
    end_lease(state)
    two.service.restore()
    two.service.look()
    assert two.list_alerts() == ["a1", "b1"], "the open alert grew, the other is new"
    with pytest.raises(LeaseLostError):
        one.service.take_reports([make_report(severity=Severity.HIGH)])
    assert two.list_alerts() == ["a1", "b1"] and one.notified == ["a1"]


def test_an_alert_is_kept_with_its_notification_or_not_at_all(
    state: StateStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = Member(state, "a")
    one.service.restore()
    one.pending.add_signals("s", 1, [make_signal(1)])

    def fail(*_: object, **__: object) -> None:
        raise StoreError("The disk is full.")

    monkeypatch.setattr(one.notifier, "add", fail)
    with pytest.raises(StoreError):
        one.service.take_pending()
    assert (one.list_alerts(), len(one.pending.list()), one.notified) == ([], 1, [])
    monkeypatch.undo()
    one.service.take_pending()
    assert (one.list_alerts(), one.pending.list(), one.notifier.waiting) == (["a1"], [], 1)
    two = Member(state, "b")
    two.service.restore()
    assert two.notifier.deliver_next() == 0.0 and two.notifier.counts.delivered == 1, "after a kill of the first"


def test_who_makes_no_alerts_shows_them_as_they_are_and_changes_none(state: StateStore) -> None:
    one, two = Member(state, "a"), Member(state, "b")
    one.service.restore()
    for n in (1, 2):
        one.pending.add_signals("s", n, [make_signal(n)])
        one.service.look()
        assert [alert.id for alert in two.service.list_alerts(limit=9)] == [f"a{m}" for m in range(n, 0, -1)]
    assert sum(two.service.count_open().values()) == 2
    one.service.mute("a1", by="ada", until=NOW + 60)
    shown = {alert.id: alert.state for alert in two.service.list_alerts(limit=9)}
    assert shown == {"a1": AlertState.SILENCED, "a2": AlertState.OPEN}
    assert sum(two.service.count_open().values()) == 1
    with pytest.raises(LeaseLostError):
        two.service.acknowledge("a2", by="bob")
    with pytest.raises(LeaseLostError):
        two.service.take_reports([make_report(severity=Severity.HIGH)])


def test_a_former_holder_takes_nothing_twice(state: StateStore) -> None:
    one, two = Member(state, "a"), Member(state, "b")
    one.service.restore()
    one.pending.add_signals("s", 1, [make_signal(1)])
    end_lease(state)
    two.service.restore()
    with pytest.raises(LeaseLostError):
        one.service.take_pending()
    two.service.take_pending()
    two.service.settle(AlertKind.SCANNING, "")
    end_lease(state)
    one.service.restore()
    one.service.take_pending()
    assert (one.list_alerts(), one.notified, two.notified) == (["b1"], [], ["b1", "b1"])
    assert not one.service.count_open(), "it had begun to make an alert of it"


def test_what_the_tables_do_not_take_is_taken_later(state: StateStore) -> None:
    one = Member(state, "a")
    one.service.restore()
    one.store.is_away = True
    one.pending.add_signals("s", 1, [make_signal(1)])
    with pytest.raises(StoreError):
        one.service.look()
    one.store.is_away = False
    one.service.look()
    assert one.list_alerts() == ["a1"]


def test_a_row_that_cannot_be_read_stops_nothing(state: StateStore, caplog: pytest.LogCaptureFixture) -> None:
    one = Member(state, "a")
    one.service.restore()
    with state.write() as connection:
        connection.execute(insert(PENDING_REPORTS), {"kind": "report", "content": b"\xc1"})
        connection.execute(insert(PENDING_REPORTS), {"kind": "of later", "content": b""})
    one.pending.add_signals("s", 1, [make_signal(1)])
    one.service.look()
    assert (one.list_alerts(), one.pending.list()) == (["a1"], [])
    assert "2 reports of another version cannot be read" in caplog.text


def test_detectors_wait_where_nobody_makes_alerts(state: StateStore) -> None:
    pending = PendingReports(state)
    with state.write() as connection:
        for number in (1, PENDING_MAX + 1):
            connection.execute(insert(PENDING_REPORTS), {"number": number, "kind": "report", "content": b""})
    with pytest.raises(StoreError, match="wait for the collector that makes alerts"):
        pending.add_signals("s", 1, [make_signal(1)])


def test_only_the_holder_of_the_detectors_lease_adds_signals(state: StateStore) -> None:
    leases, pending = Leases(state), PendingReports(state)
    fence = leases.make_fence(leases.take(["detect"])["detect"])
    assert pending.add_signals("s", 1, [make_signal(1)], fence.write)
    with state.write() as connection:
        connection.execute(update(LEASES).values(holder="another", epoch=2))
    with pytest.raises(LeaseLostError):
        pending.add_signals("s", 2, [make_signal(2)], fence.write)
    assert len(pending.list()) == 1
