"""Transcripts of alerts' lives: what comes in and when, what comes out."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import replace

import pytest

from collector.alerting.alert import NOWHERE, AlertKind, AlertState, Place, Report, Severity
from collector.alerting.lifecycle import FLAP_SECONDS, INCIDENT_SECONDS, PLACE_SECONDS, Happening, Lifecycle


def make_lifecycle(budget: int = 2) -> Lifecycle:
    ids = itertools.count(1)
    return Lifecycle(new_id=lambda: f"a{next(ids)}", find_budget=lambda: float(budget))


def make_report(kind: AlertKind = AlertKind.VOLUME_PAIR, **fields: object) -> Report:
    base = Report(
        kind=kind,
        severity=Severity.MEDIUM,
        title=f"{kind} title",
        why="Why.",
        calm_seconds=120,
        window_start=0,
        window_end=10,
        endpoint_id="" if kind is AlertKind.VOLUME_CONSUMER else "e1",
        consumer="" if kind is AlertKind.VOLUME_ENDPOINT else "c1",
        observed_rate=10,
        expected_rate=1,
    )
    return replace(base, **fields)  # type: ignore[arg-type]


def test_opens_updates_at_a_bounded_rate_and_closes_after_calm() -> None:
    life = make_lifecycle()
    opened = life.take(make_report(), 0)
    assert opened is not None and (opened.id, opened.state) == ("a1", AlertState.OPEN)
    assert [life.take(make_report(window_end=t), t) for t in (10, 20, 59)] == [None] * 3
    updated = life.take(make_report(observed_rate=20), 61)
    assert updated is not None and (updated.id, updated.observed_rate) == ("a1", 20)
    assert life.advance(180) == []
    (closed,) = life.advance(181)
    assert (closed.id, closed.state, closed.closed_at) == ("a1", AlertState.CLOSED, 181)


PLACE = Place(service="shop/mcp:80", namespace="shop", host="mcp.shop")


def test_an_alert_gets_its_service_once_that_is_known() -> None:
    life, asked = make_lifecycle(9), []
    life.take(make_report(endpoint_id="", route_ids=(7,)), 0)
    life.take(make_report(endpoint_id="e2", consumer="c2", service="shop/known:80"), 0)
    life.take(make_report(AlertKind.VOLUME_CONSUMER, consumer="c3"), 0)

    def find(endpoint_id: str, route_ids: Sequence[int]) -> Place:
        asked.append((endpoint_id, route_ids))
        return NOWHERE if len(asked) == 1 else PLACE

    assert life.place(find, 1) == []
    (placed,) = life.place(find, 3)
    assert (placed.service, placed.namespace, placed.host, placed.updated_at) == ("shop/mcp:80", "shop", "mcp.shop", 3)
    assert life.place(find, 4) == []
    assert asked == [("", (7,))] * 2
    # What was reported before that has no service, and takes none away.
    updated = life.take(make_report(endpoint_id="", route_ids=(7,), window_end=90), 90)
    assert updated is not None and (updated.service, updated.window_end) == ("shop/mcp:80", 90)


def test_the_service_of_an_alert_is_not_looked_for_for_ever() -> None:
    life = make_lifecycle()
    life.take(make_report(endpoint_id="", route_ids=(7,)), 0)
    assert life.place(lambda endpoint_id, route_ids: PLACE, PLACE_SECONDS + 1) == []


def test_what_was_told_too_soon_is_said_later_and_does_not_keep_the_alert_open() -> None:
    """A thief takes 60 objects, 90 and 140 within a minute, and is gone."""
    life = make_lifecycle()
    for now, count in ((0, 60), (20, 90), (50, 140)):
        report = make_report(AlertKind.ENUMERATION, measure=count, why=f"{count} objects.", window_end=now)
        taken = life.take(report, now)
        assert (taken is None) == (now > 0)
        life.take(make_report(AlertKind.VOLUME_ENDPOINT, measure=7), now)  # Of the endpoint: says nothing of whom.
    life.take_entries()
    assert life.advance(59) == []
    (updated,) = life.advance(62)
    assert (updated.measure, updated.window_end, updated.why) == (140, 50, "140 objects. Also: volume_endpoint title.")
    assert [entry.happening for entry in life.take_entries()] == [Happening.GREW]
    assert life.advance(130) == []
    (closed,) = life.advance(170)  # 120 s after the last report.
    assert (closed.state, closed.measure) == (AlertState.CLOSED, 140)


def test_flapping_is_one_alert_and_a_repeated_report_does_not_open_it_again() -> None:
    life = make_lifecycle()
    life.take(make_report(), 0)
    life.advance(200)
    assert life.take(make_report(), 210) is None
    again = life.take(make_report(window_end=220), 220)
    assert again is not None and (again.id, again.state, again.closed_at) == ("a1", AlertState.OPEN, None)
    life.advance(400)
    life.advance(400 + FLAP_SECONDS)
    later = life.take(make_report(window_end=9_000), 9_000)
    assert later is not None and later.id == "a2"


def test_one_scraper_is_one_alert_named_by_the_most_specific() -> None:
    life = make_lifecycle()
    life.take(make_report(AlertKind.VOLUME_ENDPOINT), 0)
    joined = life.take(make_report(AlertKind.VOLUME_PAIR), 1)
    assert joined is not None
    assert (joined.id, joined.kind, joined.consumer) == ("a1", AlertKind.VOLUME_PAIR, "c1")
    assert "Also: volume_endpoint title" in joined.why
    consumer = life.take(make_report(AlertKind.VOLUME_CONSUMER), 2)
    assert consumer is not None and (consumer.id, consumer.kind) == ("a1", AlertKind.VOLUME_PAIR)
    life.take(make_report(AlertKind.VOLUME_PAIR, endpoint_id="e2"), 3)
    assert [alert.id for alert in life.open_alerts] == ["a1"]
    life.take(make_report(AlertKind.VOLUME_PAIR, endpoint_id="e2", consumer="c2"), 4)
    assert [alert.id for alert in life.open_alerts] == ["a1", "a2"]


def test_budget_holds_back_and_counts_what_is_not_high() -> None:
    life = make_lifecycle(budget=2)
    for n in range(5):
        life.take(make_report(consumer=f"c{n}", endpoint_id=f"e{n}"), n)
        life.take(make_report(consumer=f"c{n}", endpoint_id=f"e{n}"), n + 0.5)
    assert len(life.open_alerts) == 2
    assert life.suppressed_count == 3
    risen = life.take(make_report(consumer="c4", endpoint_id="e4", severity=Severity.HIGH), 10)
    assert risen is not None and risen.severity is Severity.HIGH
    silent = life.take(make_report(AlertKind.SENSOR_SILENT, consumer="", endpoint_id="", node="n"), 11)
    assert silent is not None
    assert life.take(make_report(consumer="c3", endpoint_id="e3"), 86_500) is not None


def test_restart_keeps_ids_and_budget() -> None:
    life = make_lifecycle()
    alert = life.take(make_report(), 0)
    assert alert is not None
    other = make_lifecycle(budget=1)
    other.restore([alert])
    assert other.take(make_report(consumer="c9", endpoint_id="e9"), 50) is None
    updated = other.take(make_report(window_end=100), 100)
    assert updated is not None and updated.id == alert.id


def test_a_restart_says_nothing_twice_of_what_had_joined() -> None:
    """What the detectors tell again after a crash, and the next of it."""
    life = make_lifecycle()
    reports = [make_report(), make_report(AlertKind.VOLUME_CONSUMER), make_report(AlertKind.VOLUME_ENDPOINT)]
    alert = [life.take(report, 0) for report in reports][-1]
    assert alert is not None
    assert alert.why == "Why. Also: volume_consumer title; volume_endpoint title."
    after = make_lifecycle()
    after.restore([alert])
    again = [after.take(report, 70) for report in reports][-1]
    assert again is not None
    assert (again.id, again.why) == (alert.id, alert.why)
    assert after.take_entries() == []
    enumeration = after.take(make_report(AlertKind.ENUMERATION, title="More", why="Or so."), 80)
    assert enumeration is not None
    assert enumeration.why == "Or so. Also: volume_consumer title; volume_endpoint title; volume_pair title."


@pytest.mark.parametrize(
    ("kind", "window_seconds", "calm_seconds"),
    [
        (AlertKind.VOLUME_ENDPOINT, 3_600, 10_800),  # Told every hour while it lasts.
        (AlertKind.ERRORS, 300, 900),
        (AlertKind.VOLUME_PAIR, 10, 600),
        (AlertKind.ENUMERATION, 604_800, 3_600),
        (AlertKind.NEW_ENDPOINT, 0, 86_400),
        (AlertKind.SENSOR_LAG, 45, 600),
    ],
)
def test_a_restart_closes_nothing_before_it_is_calm(kind: AlertKind, window_seconds: int, calm_seconds: int) -> None:
    life = make_lifecycle()
    alert = life.take(make_report(kind, window_start=1_000, window_end=1_000 + window_seconds), 5_000)
    assert alert is not None
    after = make_lifecycle()
    after.restore([alert])
    assert after.advance(5_000 + calm_seconds - 1) == []
    assert len(after.advance(5_000 + calm_seconds)) == 1


def test_after_a_restart_what_had_joined_opens_the_same_alert_again() -> None:
    life = make_lifecycle()
    for report in (make_report(), make_report(AlertKind.VOLUME_CONSUMER)):
        life.take(report, 0)
    (closed,) = life.advance(700)
    after = make_lifecycle()
    after.restore([closed])
    assert after.take(make_report(AlertKind.VOLUME_CONSUMER, window_end=5), 750) is None  # Told again.
    again = after.take(make_report(AlertKind.VOLUME_CONSUMER, window_end=800), 800)
    assert again is not None
    assert (again.id, again.opened_at, again.state) == (closed.id, closed.opened_at, AlertState.OPEN)


def test_a_clock_that_was_a_year_ahead_holds_back_nothing_afterwards() -> None:
    life, ahead, now = make_lifecycle(), 1_000_000.0 + 365 * 86_400, 1_000_000.0
    silent = make_report(AlertKind.SENSOR_SILENT, consumer="", endpoint_id="", node="n", window_end=ahead)
    assert life.take(silent, ahead) is not None
    assert life.settle(AlertKind.SENSOR_SILENT, "n", ahead) is not None
    for number in range(2):
        assert life.take(make_report(consumer=f"c{number}", endpoint_id=f"e{number}"), ahead) is not None
    assert life.advance(now) == []
    assert life.take(replace(silent, window_end=now), now) is not None
    assert life.take(make_report(consumer="c9", endpoint_id="e9"), now) is None  # The budget of this day.
    assert {alert.consumer for alert in life.advance(now + 120)} == {"c0", "c1", ""}
    assert life.take(make_report(consumer="c9", endpoint_id="e9"), now + 86_401) is not None


def test_healed_sensor_closes_at_once() -> None:
    life = make_lifecycle()
    life.take(make_report(AlertKind.SENSOR_LAG, consumer="", endpoint_id="", node="n"), 0)
    closed = life.settle(AlertKind.SENSOR_LAG, "n", 5)
    assert closed is not None and closed.closed_at == 5
    assert life.settle(AlertKind.SENSOR_LAG, "n", 6) is None


def test_alerts_of_one_actor_are_one_incident_with_a_timeline() -> None:
    life = make_lifecycle(budget=9)
    first = life.take(make_report(), 0)
    life.take(make_report(AlertKind.ENUMERATION, title="takes objects", endpoint_id="e2"), 5)
    life.advance(200)
    later = life.take(make_report(AlertKind.SCANNING, endpoint_id="", window_end=9_000), 9_000)
    other = life.take(make_report(consumer="c2", endpoint_id="e3"), 9_001)
    assert first is not None and later is not None and other is not None
    assert [first.incident_id, later.incident_id, other.incident_id] == ["a1", "a1", other.id]
    told = [(entry.incident_id, entry.alert_id, entry.happening, entry.time) for entry in life.take_entries()]
    assert told == [
        ("a1", "a1", Happening.OPENED, 0),
        ("a1", "a1", Happening.JOINED, 5),
        ("a1", "a1", Happening.CLOSED, 200),
        ("a1", "a2", Happening.OPENED, 9_000),
        ("a3", "a3", Happening.OPENED, 9_001),
    ]
    assert life.take_entries() == []


def test_an_actor_silent_for_longer_than_a_day_begins_a_new_incident_and_restores_remember() -> None:
    life = make_lifecycle()
    alert = life.take(make_report(), 0)
    (closed,) = life.advance(200)
    assert alert is not None
    again = make_lifecycle(budget=9)
    again.restore([closed])
    same = again.take(make_report(window_end=80_000), 80_000)
    assert same is not None and same.incident_id == "a1"
    again.advance(81_000)
    new = again.take(make_report(window_end=180_000), 81_000 + INCIDENT_SECONDS + 1)
    assert new is not None and new.incident_id == new.id


def test_an_erased_consumer_is_forgotten_and_the_others_are_not() -> None:
    life = make_lifecycle(budget=9)
    for number, consumer in enumerate(("address:8.8.8.1", "address:8.8.8.10", "address:8.8.8.1")):
        life.take(make_report(consumer=consumer, title=f"{consumer} read", endpoint_id=f"e{number}"), number)
    assert life.take(make_report(consumer="address:8.8.8.1", endpoint_id="e9", window_end=70), 70) is not None
    assert life.erase(re.compile(r"8\.8\.8\.1(?!\d)")) == 1
    assert [alert.consumer for alert in life.open_alerts] == ["address:8.8.8.10"]
    assert all("8.8.8.1 " not in entry.title for entry in life.take_entries())
    again = life.take(make_report(consumer="address:8.8.8.1", endpoint_id="e9"), 80)
    assert again is not None and again.incident_id == again.id
