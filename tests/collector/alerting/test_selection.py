"""Which alerts a receiver gets, quiet hours in every time zone, tickets that are made once; counts that add up."""

from dataclasses import fields, replace
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from collector.alerting.alert import AlertKind, AlertState, Severity
from collector.alerting.notifiers.delivery import HELD_ROOM, QUEUE_MAX, DeliveryCounts, Notifier
from collector.alerting.notifiers.outbox import Outbox
from collector.alerting.notifiers.selection import QuietHours, Selection
from collector.core.rates import LocalTime
from collector.storage.state.store import StateStore
from tests.collector.alerting.outboxes import Clock, add, deliver_all
from tests.collector.alerting.test_notifiers import Flaky, make_alert

BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = QuietHours(("Mon-Fri 20:00-07:00", "Sat,Sun 00:00-24:00"), LocalTime("Europe/Berlin"))
EVENING = datetime(2026, 11, 24, 21, 30, tzinfo=BERLIN).timestamp()  # A Tuesday.
MORNING = datetime(2026, 11, 25, 7, 0, tzinfo=BERLIN).timestamp()


def open_notifier(state: StateStore, clock: Clock, selection: Selection | None = None) -> tuple[Notifier, Flaky]:
    sender = Flaky()
    sender.is_away = False
    return Notifier(sender, Outbox(state, "one"), selection=selection, clock=clock), sender


def is_exact(notifier: Notifier) -> bool:
    """Each alert became one thing."""
    others = (
        getattr(notifier.counts, one.name) for one in fields(DeliveryCounts) if one.name not in ("seen", "retried")
    )
    return notifier.counts.seen == sum(others) + notifier.waiting


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), ["a1", "a2", "a3"]),
        (Selection(severity=Severity.MEDIUM), ["a1", "a2"]),
        (Selection(kinds=("enum*", "volume_pair")), ["a1", "a3"]),
        (Selection(services=("shop/*",)), ["a1", "a2"]),
        (Selection(namespaces=("pay",), severity=Severity.LOW), ["a3"]),
        (Selection(kinds=("enumeration",), namespaces=("pay",)), ["a3"]),
    ],
)
def test_a_receiver_gets_what_its_filters_fit(state: StateStore, selection: Selection, expected: list[str]) -> None:
    notifier, sender = open_notifier(state, Clock(90.0), selection)
    base = {"kind": AlertKind.ENUMERATION, "service": "shop/orders:80", "namespace": "shop"}
    add(
        notifier,
        state,
        make_alert(id="a1", severity=Severity.HIGH, **base),
        make_alert(id="a2", severity=Severity.MEDIUM, **base | {"kind": AlertKind.SENSOR_SILENT}),
        make_alert(id="a3", severity=Severity.LOW, **base | {"service": "pay/cards:80", "namespace": "pay"}),
    )
    deliver_all(notifier, Clock(90.0))
    assert [alert for alert, _ in sender.keys] == expected
    assert notifier.counts.filtered == 3 - len(expected) and is_exact(notifier)


def test_what_a_receiver_has_is_closed_though_its_filters_fit_it_no_longer(state: StateStore) -> None:
    clock = Clock(90.0)
    notifier, sender = open_notifier(state, clock, Selection(severity=Severity.MEDIUM))
    opened = make_alert(id="a1", severity=Severity.MEDIUM)
    add(notifier, state, opened)
    add(notifier, state, replace(opened, severity=Severity.LOW, state=AlertState.CLOSED))
    deliver_all(notifier, clock)
    assert [alert for alert, _ in sender.keys] == ["a1", "a1"] and is_exact(notifier)


@pytest.mark.parametrize(
    ("hour", "end"),
    [
        ((2026, 11, 24, 19, 59), None),
        ((2026, 11, 24, 20, 0), (2026, 11, 25, 7, 0)),
        ((2026, 11, 25, 6, 59), (2026, 11, 25, 7, 0)),
        ((2026, 11, 25, 7, 0), None),
        ((2026, 11, 27, 23, 0), (2026, 11, 30, 0, 0)),  # Friday's night is a part of the weekend, not of Monday.
        ((2026, 11, 29, 12, 0), (2026, 11, 30, 0, 0)),
    ],
)
def test_quiet_hours_end_by_the_clocks_of_the_place(hour: tuple[int, ...], end: tuple[int, ...] | None) -> None:
    found = NIGHT.find_end(datetime(*hour, tzinfo=BERLIN).timestamp())  # type: ignore[arg-type]
    assert found == (datetime(*end, tzinfo=BERLIN).timestamp() if end is not None else 0.0)  # type: ignore[arg-type]


def test_days_go_on_over_the_end_of_the_week() -> None:
    hours = QuietHours(("Sat-Mon 01:00-02:00",), LocalTime())
    assert hours.find_end(3 * 86_400 - 86_400 + 3_600) == 2 * 86_400 + 7_200  # Saturday, 1970-01-03.
    assert not hours.find_end(5 * 86_400 + 3_600)  # Tuesday.
    assert not QuietHours((), LocalTime()).find_end(0.0)


def test_quiet_hours_hold_what_is_not_grave(state: StateStore) -> None:
    clock = Clock(EVENING)
    notifier, sender = open_notifier(state, clock, Selection(quiet_hours=NIGHT))
    add(notifier, state, make_alert(id="low"), make_alert(id="brief"), make_alert(id="worse"))
    add(notifier, state, make_alert(id="grave", severity=Severity.HIGH))
    assert notifier.deliver_next() == 0.0 and notifier.deliver_next() == MORNING - EVENING
    assert [alert for alert, _ in sender.keys] == ["grave"]
    clock.now += 3_600
    add(notifier, state, make_alert(id="brief", state=AlertState.CLOSED))
    add(notifier, state, make_alert(id="worse", severity=Severity.HIGH))
    assert notifier.deliver_next() == 0.0 and notifier.deliver_next() == MORNING - clock.now
    assert [alert for alert, _ in sender.keys] == ["grave", "worse"]
    assert (notifier.counts.quiet, notifier.waiting) == (3, 1) and is_exact(notifier)
    clock.now = MORNING
    # A process that starts in the morning goes on with them.
    successor, later = open_notifier(state, clock, Selection(quiet_hours=NIGHT))
    deliver_all(successor, clock)
    assert [alert for alert, _ in later.keys] == ["low"]


def test_the_end_of_what_was_sent_before_quiet_hours_is_sent_after_them(state: StateStore) -> None:
    clock = Clock(EVENING - 7_200)
    notifier, sender = open_notifier(state, clock, Selection(quiet_hours=NIGHT))
    opened = make_alert(id="a1", severity=Severity.MEDIUM)
    add(notifier, state, opened)
    deliver_all(notifier, clock)
    clock.now = EVENING
    add(notifier, state, replace(opened, severity=Severity.LOW))
    add(notifier, state, replace(opened, severity=Severity.LOW, state=AlertState.CLOSED))
    assert (notifier.counts.quiet, notifier.waiting) == (1, 1)
    clock.now = MORNING
    deliver_all(notifier, clock)
    assert [alert for alert, _ in sender.keys] == ["a1", "a1"] and is_exact(notifier)


def test_what_is_held_leaves_room_for_what_is_grave(state: StateStore) -> None:
    clock = Clock(EVENING)
    notifier, _ = open_notifier(state, clock, Selection(quiet_hours=NIGHT))
    room = QUEUE_MAX - HELD_ROOM
    for first in range(0, room + 20, 20):
        add(notifier, state, *(make_alert(id=f"a{first + number}") for number in range(20)))
        clock.now += 20
    assert (notifier.waiting, notifier.counts.dropped) == (room, 20)
    add(notifier, state, make_alert(id="grave", severity=Severity.HIGH))
    assert notifier.waiting == room + 1 and is_exact(notifier)


def test_a_ticket_is_made_once(state: StateStore) -> None:
    clock = Clock(90.0)
    notifier, sender = open_notifier(state, clock)
    sender.takes_openings = True
    opened = make_alert(id="a1")
    add(notifier, state, opened)
    add(notifier, state, replace(opened, severity=Severity.HIGH))
    add(notifier, state, replace(opened, state=AlertState.CLOSED), make_alert(id="a2", state=AlertState.CLOSED))
    deliver_all(notifier, clock)
    assert [alert for alert, _ in sender.keys] == ["a1"] and notifier.counts.repeated == 3 and is_exact(notifier)


def test_a_ticket_waits_for_the_end_of_quiet_hours(state: StateStore) -> None:
    clock = Clock(EVENING)
    notifier, sender = open_notifier(state, clock, Selection(quiet_hours=NIGHT))
    sender.takes_openings = True
    add(notifier, state, make_alert(id="brief"), make_alert(id="worse"), make_alert(id="lasting"))
    add(notifier, state, make_alert(id="brief", state=AlertState.CLOSED))
    add(notifier, state, make_alert(id="worse", severity=Severity.HIGH))
    assert notifier.deliver_next() == 0.0 and notifier.deliver_next() == MORNING - EVENING
    clock.now = MORNING
    deliver_all(notifier, clock)
    assert [alert for alert, _ in sender.keys] == ["worse", "lasting"] and is_exact(notifier)


def test_what_is_held_is_replaced_whatever_the_rate(state: StateStore) -> None:
    clock = Clock(EVENING)
    notifier, _ = open_notifier(state, clock, Selection(quiet_hours=NIGHT))
    held = [make_alert(id=f"a{number}", severity=Severity.MEDIUM) for number in range(QUEUE_MAX - HELD_ROOM)]
    for first in range(0, len(held), 20):
        add(notifier, state, *held[first : first + 20])
        clock.now += 20
    add(notifier, state, *(replace(alert, severity=Severity.LOW) for alert in held))
    assert (notifier.waiting, notifier.counts.quiet, notifier.counts.dropped) == (len(held), len(held), 0)
    assert is_exact(notifier)


def test_the_end_of_what_a_receiver_has_is_sent_though_a_change_found_no_room(state: StateStore) -> None:
    clock = Clock(EVENING - 7_200)
    notifier, sender = open_notifier(state, clock, Selection(quiet_hours=NIGHT))
    opened = make_alert(id="a1", severity=Severity.MEDIUM)
    add(notifier, state, opened)
    deliver_all(notifier, clock)
    clock.now = EVENING
    add(notifier, state, *(make_alert(id=f"b{number}") for number in range(70)))  # More than go in a minute.
    add(notifier, state, replace(opened, severity=Severity.LOW))
    assert notifier.counts.limited == 11
    clock.now += 3_600
    add(notifier, state, replace(opened, kind=AlertKind.SENSOR_SILENT, severity=Severity.LOW))
    add(notifier, state, replace(opened, severity=Severity.LOW, state=AlertState.CLOSED))
    clock.now = MORNING
    deliver_all(notifier, clock)
    assert [alert for alert, _ in sender.keys].count("a1") == 2 and is_exact(notifier)


@pytest.mark.parametrize("is_other", [False, True])
def test_nothing_is_held_longer_than_quiet_hours_last(state: StateStore, is_other: bool) -> None:
    """Hours that the settings have no longer hold nothing, nor does a clock that was a year ahead."""
    clock = Clock(EVENING if is_other else EVENING + 364 * 86_400)
    notifier, _ = open_notifier(state, clock, Selection(quiet_hours=NIGHT))
    add(notifier, state, make_alert(id="a1"))
    clock.now = EVENING
    selection = Selection() if is_other else Selection(quiet_hours=NIGHT)
    successor, sender = open_notifier(state, clock, selection)
    assert successor.deliver_next() == 0.0 and [alert for alert, _ in sender.keys] == ["a1"]
