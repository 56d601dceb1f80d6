"""Who is let into functions of staff is told, and staff, new staff inside, and customers of customers are not."""

from dataclasses import replace

import pytest

from collector.alerting.alert import AbuseSignal, AlertKind, Severity
from collector.alerting.wording import ANSWERED, report_signal
from collector.inventory.consumers.consumer import PRINCIPAL_KINDS
from tests.collector.detection.scene import AbuseScene
from tests.collector.detection.stream import ADMINISTRATION, START, Row

BEARER = 1 << 3
DAY = 86_400
PEOPLE = 40
INBOX, REFUNDS = 50, 51  # Of staff, who call from inside.
ADMIN = ADMINISTRATION + 1  # Of staff, who call from outside.
SETTINGS = 70  # What few customers ever open.
PASSWORD = 71
THIEF = 7


class Scene(AbuseScene):
    """Forty customers and three of staff, for three days."""

    later = START + 3 * DAY

    def pass_history(self) -> None:
        for hour in range(0, 72, 4):
            self.feed(START + hour * 3_600, [*customers(), *staff()])


def customers() -> list[Row]:
    rows = [call(who) for who in range(1, PEOPLE + 1)]
    return [*rows, call(1, SETTINGS), call(1, PASSWORD)]


def staff() -> list[Row]:
    inside = [call(who, route, "10.0.4.7") for who in (101, 102) for route in (INBOX, REFUNDS)]
    return [*inside, call(103, ADMIN), call(103)]


def call(who: int, route: int = 0, address: str = "", status: int = 200) -> Row:
    return Row(route=route, consumer=who, authentication=BEARER, address=address or f"81.1.{who}.1", status=status)


@pytest.fixture(scope="module")
def history() -> bytes:
    scene = Scene()
    scene.pass_history()
    return scene.save()


@pytest.fixture
def scene(history: bytes) -> Scene:
    return Scene(history)


def told(scene: Scene, *rows: Row, times: int = 6, start: int = 0) -> list[AbuseSignal]:
    signals = scene.run(([*rows] for _ in range(times)), start=start, step=60)
    return [signal for signal in signals if signal.kind is AlertKind.BFLA]


@pytest.mark.parametrize("route", [INBOX, ADMIN])
def test_a_customer_who_is_let_into_functions_of_staff_is_told(scene: Scene, route: int) -> None:
    signal = told(scene, call(THIEF, route))[0]
    assert (signal.consumer, signal.detail, signal.count) == (f"principal:{THIEF:016x}", ANSWERED, 3)
    report = report_signal(signal)
    assert (report.severity, report.risk) == (Severity.MEDIUM, "API5:2023")
    assert "until then staff alone was let in" in report.why


def test_it_is_told_over_a_restart(scene: Scene) -> None:
    assert told(scene, call(THIEF, INBOX), times=2) == []
    scene.restart()
    assert told(scene, call(THIEF, INBOX), times=1, start=Scene.later + 120)


def test_one_or_two_calls_are_not_told(scene: Scene) -> None:
    assert told(scene, call(THIEF, INBOX), times=2) == []


def test_staff_and_new_staff_inside_are_not_told(scene: Scene) -> None:
    new = [call(104, route, "10.0.4.9") for route in (INBOX, REFUNDS)]
    assert told(scene, *staff(), call(103, INBOX), *new, times=30) == []


def test_a_customer_who_opens_what_few_do_is_not_told(scene: Scene) -> None:
    assert told(scene, call(THIEF, SETTINGS), call(THIEF, PASSWORD), times=30) == []


def test_a_function_is_learnt_for_two_days(scene: Scene) -> None:
    new = ADMIN + 1
    assert told(scene, call(103, new), call(8, new), times=30) == []
    scene.run([[call(103, new)]], start=Scene.later + 2 * DAY)
    assert told(scene, call(8, new), times=6, start=Scene.later + 2 * DAY + 60) == []
    assert told(scene, call(9, new), times=6, start=Scene.later + 2 * DAY + 600)


@pytest.mark.parametrize("kind", ["session", "token"])
def test_who_logs_in_anew_is_not_told_where_staff_calls_from_outside(scene: Scene, kind: str) -> None:
    number = next(number for number, name in PRINCIPAL_KINDS.items() if name == kind)
    assert told(scene, replace(call(203, ADMIN), principal_kind=number), times=6) == []
    assert told(scene, replace(call(204, INBOX), principal_kind=number), times=6, start=Scene.later + 600)


def test_where_customers_have_administrators_of_their_own_none_is_told(scene: Scene) -> None:
    tenants = ADMIN + 2
    for day in range(4):
        many = [call(who) for who in range(200, 600)]
        scene.run([many, [call(who, tenants) for who in range(10, 18)]], start=Scene.later + day * DAY)
    assert told(scene, call(THIEF, tenants), times=30, start=Scene.later + 4 * DAY) == []


def test_who_was_told_is_told_no_more_after_a_day(scene: Scene) -> None:
    assert told(scene, call(THIEF, INBOX), times=3)
    scene.run([customers()], start=Scene.later + DAY)
    assert told(scene, call(THIEF, INBOX), times=30, start=Scene.later + DAY + 100) == []
