"""A damaged log, a nearly full disk and tables that are behind are alerts, and heal."""

from dataclasses import replace

import pytest

from collector.alerting.alert import AlertKind, Severity
from collector.alerting.self_monitoring import StorageState, StorageStatus, StorageWatch

NOW = 1_000_000.0
WELL = StorageState()
HEALED = {(AlertKind.DISK_FULL, ""), (AlertKind.CLOCK_WRONG, ""), (AlertKind.STORE_BEHIND, "")}


def test_damage_is_reported_once_and_again_when_there_is_more() -> None:
    watch = StorageWatch()
    assert watch.look(WELL, NOW).reports == ()
    damaged = StorageState(damaged_bytes=4_711, lost_batches=1, recovered_batches=279)
    (report,) = watch.look(damaged, NOW).reports
    assert (report.kind, report.severity) == (AlertKind.LOG_DAMAGED, Severity.HIGH)
    assert report.title == "The collector's log was damaged (batches lost: 1 at most)"
    assert report.why == (
        "Since the collector's start, bytes of the log that were damaged: 4,711; batches after them that were "
        "recovered: 279; batches that were lost: 1 at most."
    )
    assert watch.look(replace(damaged, recovered_batches=290), NOW + 1).reports == ()
    (report,) = watch.look(replace(damaged, lost_batches=3), NOW + 2).reports
    assert "batches lost: 3 at most" in report.title


def test_damage_that_only_the_detectors_met_is_reported_until_their_process_begins_anew() -> None:
    watch = StorageWatch()
    (report,) = watch.look(StorageState(undetected_batches=2), NOW).reports
    assert (report.kind, report.title) == (
        AlertKind.LOG_DAMAGED,
        "The collector's log was damaged (batches lost: 2 at most)",
    )
    assert report.why.endswith("Batches that the detectors did not evaluate: 2 at most.")
    assert watch.look(WELL, NOW + 1).reports == ()


@pytest.mark.parametrize(
    ("state", "kind", "status", "words"),
    [
        (
            StorageState(shortage="No room.", is_failing=True, lag_seconds=900),
            "disk_full",
            "disk_full",
            "No room. Sensors keep",
        ),
        (StorageState(clock_fault="No."), "clock_wrong", "clock_wrong", "No. Sensors keep"),
        (StorageState(lag_seconds=61), "store_behind", "behind", "not in the tables came 61 s ago."),
        (
            StorageState(lag_seconds=61, is_failing=True),
            "store_behind",
            "failing",
            "came 61 s ago. The tables take no rows",
        ),
    ],
)
def test_state_is_an_alert_until_it_heals(state: StorageState, kind: str, status: str, words: str) -> None:
    watch = StorageWatch()
    found = watch.look(state, NOW)
    (report,) = found.reports
    assert (report.kind, state.status) == (kind, status) and words in report.why
    assert {healed for healed, _ in found.healed} == {one for one, _ in HEALED} - {report.kind}
    assert set(watch.look(WELL, NOW + 1).healed) == HEALED


def test_damaged_parts_are_reported_once_and_named_on_the_page_until_they_are_gone() -> None:
    watch = StorageWatch()
    (report,) = watch.look(StorageState(rebuilt_parts=2), NOW).reports
    assert report.title == "Tables of the collector were damaged (parts lost: 0; rebuilt: 2)"
    lost = StorageState(lost_parts=tuple(f"rows_minute/{part}_1_1_0" for part in range(7)), rebuilt_parts=2)
    assert lost.trouble.endswith("rows_minute/4_1_1_0 and 2 more.") and lost.status is StorageStatus.OK
    (report,) = watch.look(lost, NOW + 1).reports
    assert (report.kind, report.severity) == (AlertKind.TABLE_DAMAGED, Severity.HIGH)
    assert "in the folder `detached` of its table: rows_minute/0_1_1_0," in report.why
    assert watch.look(lost, NOW + 2).reports == () and watch.look(WELL, NOW + 3).reports == ()


def test_sentence_on_the_page_says_what_is_wrong_at_once() -> None:
    assert (WELL.trouble, WELL.status) == ("", StorageStatus.OK)
    assert StorageState(lag_seconds=59).trouble == ""
    away = StorageState(state_fault="The state is away.", is_failing=True)
    assert (away.trouble, away.status) == ("The state is away.", StorageStatus.STATE_FAILING)
    failing = StorageState(is_failing=True)
    assert failing.trouble == "The tables take no rows; the collector's log says why."
    assert failing.status is StorageStatus.FAILING
    assert StorageWatch().look(failing, NOW).reports == ()  # It may be over in a moment.
