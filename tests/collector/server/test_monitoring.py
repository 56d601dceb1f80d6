"""What is wrong with one process of several becomes an alert that names it, whoever makes the alerts."""

from dataclasses import replace

import pytest

from collector.alerting.alert import Alert, AlertKind, AlertState
from collector.alerting.pending import PendingReports
from collector.alerting.self_monitoring import SelfFindings, StorageState, StorageWatch, look_at_claims
from collector.receiver.witness import DailyUse
from collector.server.monitoring import REPEAT_SECONDS, OwnReports
from collector.storage.base import StoreError
from collector.storage.state.store import StateStore
from tests.collector.alerting.test_pending import Member

NOW = 1_700_000_000.0
FULL = StorageState(shortage="The disk has 1 MB.")


def list_alerts(member: Member) -> dict[str, Alert]:
    member.service.look()
    return {alert.node: alert for alert in member.table.list(limit=9, after=None, silenced=())}


def count_waiting(state: StateStore) -> int:
    return len(PendingReports(state).list())


def test_trouble_of_each_process_is_an_alert_with_its_name_until_it_is_over(state: StateStore) -> None:
    holder = Member(state, "a")
    holder.service.restore()
    one, two = (OwnReports(PendingReports(state), name) for name in ("10.0.0.1:8080", "10.0.0.2:8080"))
    watch = StorageWatch()
    one.add([watch.look(StorageState(), NOW)], NOW)
    two.add([watch.look(FULL, NOW)], NOW)
    ((node, alert),) = list_alerts(holder).items()
    assert (node, alert.kind, alert.state) == ("10.0.0.2:8080", AlertKind.DISK_FULL, AlertState.OPEN)
    assert alert.title == "The collector's disk is nearly full, so it takes no rows (collector 10.0.0.2:8080)"
    one.add([watch.look(StorageState(), NOW + 1)], NOW + 1)
    assert list_alerts(holder)["10.0.0.2:8080"].state is AlertState.OPEN, "the other one's disk has room"
    two.add([watch.look(StorageState(), NOW + 2)], NOW + 2)
    assert list_alerts(holder)["10.0.0.2:8080"].state is AlertState.CLOSED


def test_the_only_process_has_no_name(state: StateStore) -> None:
    holder = Member(state, "a")
    holder.service.restore()
    OwnReports(holder.pending, "").add([StorageWatch().look(FULL, NOW)], NOW)
    assert list_alerts(holder)[""].title == "The collector's disk is nearly full, so it takes no rows"


def test_what_lasts_is_repeated_now_and_then_and_what_is_well_is_not_written(state: StateStore) -> None:
    own, watch = OwnReports(PendingReports(state), "a"), StorageWatch()
    for second in range(int(REPEAT_SECONDS) + 1):
        own.add([watch.look(FULL, NOW + second)], NOW + second)
    reports, first_look = 2, 2  # Two other kinds are well.
    assert count_waiting(state) == reports + first_look
    for second in range(20, 30):
        own.add([watch.look(StorageState(), NOW + second)], NOW + second)
    assert count_waiting(state) == reports + first_look + 1


def test_an_alert_of_the_life_before_is_over(state: StateStore) -> None:
    holder = Member(state, "a")
    holder.service.restore()
    OwnReports(holder.pending, "b").add([StorageWatch().look(FULL, NOW)], NOW)
    assert list_alerts(holder)["b"].state is AlertState.OPEN
    OwnReports(holder.pending, "b").add([StorageWatch().look(StorageState(), NOW + 60)], NOW + 60)
    assert list_alerts(holder)["b"].state is AlertState.CLOSED


def test_what_a_sensor_claims_at_one_process_is_not_over_at_another(state: StateStore) -> None:
    holder = Member(state, "a")
    holder.service.restore()
    claims, none = (look_at_claims([("node-1", use)], NOW) for use in (DailyUse(foreign={"web": None}), DailyUse()))
    one, two = (OwnReports(holder.pending, name) for name in "ab")
    one.add([claims], NOW)
    two.add([none], NOW)
    (alert,) = list_alerts(holder).values()
    assert (alert.kind, alert.node, alert.state) == (AlertKind.SENSOR_CLAIMS, "node-1", AlertState.OPEN)
    one.add([none], NOW + 1)
    assert list_alerts(holder)["node-1"].state is AlertState.CLOSED


def test_what_the_state_does_not_take_goes_with_the_next(state: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    own, watch = OwnReports(PendingReports(state), "a"), StorageWatch()

    def refuse(*_: object) -> None:
        raise StoreError("The state is away.")

    damaged = replace(FULL, damaged_bytes=9)
    with monkeypatch.context() as patch:
        patch.setattr(PendingReports, "add_reports", refuse)
        with pytest.raises(StoreError):
            own.add([watch.look(damaged, NOW)], NOW)
    own.add([SelfFindings(reports=(), healed=())], NOW + 1)
    found = {row.content.kind for row in PendingReports(state).list() if row.content is not None}
    assert {AlertKind.DISK_FULL, AlertKind.LOG_DAMAGED} <= found
