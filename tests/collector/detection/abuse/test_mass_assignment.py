"""A caller who writes a field that hardly anybody writes is reported with its name; a release and staff are not."""

import pytest

from collector.alerting.alert import AbuseSignal, AlertKind, Severity
from collector.alerting.wording import report_signal
from collector.inventory.endpoints.bodies import EXTRA_FIELD, PLACE_SIZE, SET_FIELD
from common.privileges import number_name
from tests.collector.detection.scene import AbuseScene
from tests.collector.detection.stream import START, Row

BEARER = 1 << 3
THIEF = 99


def write(who: int, *names: str, taken: bool = False, address: str = "") -> Row:
    place = SET_FIELD if taken else EXTRA_FIELD
    return Row(
        route=1, method="PATCH", consumer=who, authentication=BEARER, address=address or f"81.1.{who % 250}.1",
        found=tuple(sorted(place * PLACE_SIZE + number_name(name) for name in names)),
    )  # fmt: skip


@pytest.fixture
def scene() -> AbuseScene:
    scene = AbuseScene()
    scene.later = START + 3 * 86_400
    scene.feed(START, [write(who) for who in range(1, 60)])
    scene.feed(scene.later - 600, [write(who) for who in range(1, 60)])
    return scene


def run(scene: AbuseScene, *rows: Row, start: int = 0) -> list[AbuseSignal]:
    return scene.run([[row] for row in rows], start=start)


def test_a_field_that_took_effect_is_high_and_named(scene: AbuseScene) -> None:
    (signal,) = run(scene, write(THIEF, "role", taken=True))
    assert signal.kind is AlertKind.MASS_ASSIGNMENT and not signal.is_notice
    report = report_signal(signal)
    assert report.severity is Severity.HIGH and report.risk == "API3:2023"
    assert report.title.endswith("writes fields at PATCH /things1/{things1_id} that no other caller sends (`role`)")
    assert "the answer has the value that was sent" in report.why


def test_a_field_whose_effect_was_not_seen_is_medium(scene: AbuseScene) -> None:
    (signal,) = run(scene, write(THIEF, "isAdmin", "balance"))
    report = report_signal(signal)
    assert report.severity is Severity.MEDIUM and "`admin`, `balance`" in report.title and signal.count == 2


def test_a_field_without_a_name_in_the_list_is_reported_as_such(scene: AbuseScene) -> None:
    (signal,) = run(scene, write(THIEF, "warp_factor", taken=True))
    assert "(a field that answers have)" in report_signal(signal).title


def test_each_field_is_reported_once_and_again_when_it_takes_effect(scene: AbuseScene) -> None:
    assert len(run(scene, *(write(THIEF, "role") for _ in range(5)))) == 1
    scene.restart()
    start = scene.later + 7_200
    assert len(run(scene, write(THIEF, "role"), write(THIEF, "role", taken=True), start=start)) == 1
    assert len(run(scene, write(THIEF, "role", taken=True), write(THIEF, "paid"), start=start + 60)) == 1


def test_after_a_release_two_are_named_and_then_nobody(scene: AbuseScene) -> None:
    assert len(run(scene, *(write(who, "discount") for who in range(1, 50)))) == 2


def test_staff_is_a_notice_unless_the_field_took_effect(scene: AbuseScene) -> None:
    (tried,) = run(scene, write(7, "role", address="10.3.3.3"))
    assert not tried.is_notice  # It called from outside before.
    (inside,) = run(scene, write(THIEF, "tier", address="10.3.3.4"), start=scene.later + 60)
    assert inside.is_notice and report_signal(inside).severity is Severity.LOW


def test_what_a_person_allows_is_not_reported(scene: AbuseScene) -> None:
    (signal,) = run(scene, write(THIEF, "role"))
    assert scene.engine.expect(AlertKind.MASS_ASSIGNMENT, signal.endpoint_id, signal.consumer, 0.0)
    assert run(scene, write(THIEF, "role", taken=True), start=scene.later + 60) == []
    assert len(run(scene, write(THIEF, "admin"), start=scene.later + 120)) == 1
