"""Crowds that one new software makes, through the whole engine: stolen keys in one script's hands are told, apps'
releases and those who always read what is new are not."""

from collections.abc import Callable

import pytest

from collector.alerting.alert import AbuseSignal, AlertKind, Severity
from collector.alerting.wording import report_signal
from tests.collector.detection.scene import AbuseScene
from tests.collector.detection.stream import START, Row

DAY = 86_400
PEOPLE = 60
APP, RELEASE, SCRIPT = "okhttp 00000001", "okhttp 00000002", "python-requests 00000003"


class Scene(AbuseScene):
    """Sixty people who come back to three objects each with the app, every four hours for three days."""

    later = START + 3 * DAY

    def pass_history(self, software: str = APP, read: Callable[[int, int], tuple[int, ...]] | None = None) -> None:
        for hour in range(0, 72, 4):
            self.feed(START + hour * 3_600, everybody(software, read or own, hour))


def everybody(software: str, read: Callable[[int, int], tuple[int, ...]], step: int, people: int = PEOPLE) -> list[Row]:
    return [call(who, software, read(who, step)) for who in range(1, people + 1)]


def call(who: int, software: str, objects: tuple[int, ...]) -> Row:
    return Row(
        route=0,
        consumer=who,
        address=f"81.1.{who}.1",
        authentication=1 << 3,
        calls=len(objects),
        objects=objects,
        software=software,
    )


def own(who: int, step: int) -> tuple[int, ...]:
    return tuple(who * 10 + n for n in range(3))


def others(who: int, step: int) -> tuple[int, ...]:
    return (100_000 + who * 1_000 + step,)


@pytest.fixture(scope="module")
def history() -> bytes:
    scene = Scene()
    scene.pass_history()
    return scene.save()


@pytest.fixture
def scene(history: bytes) -> Scene:
    return Scene(history)


def steal(software: str, steps: int = 8, people: int = PEOPLE) -> list[list[Row]]:
    """So many new objects that software alone tells of them: 60 in 10 s and 480 in all at the most."""
    return [everybody(software, others, 1_000 + step, people) for step in range(steps)]


def enumerations(signals: list[AbuseSignal]) -> list[AbuseSignal]:
    return [signal for signal in signals if signal.kind is AlertKind.ENUMERATION]


def test_a_script_that_many_took_up_is_told_by_name(scene: Scene) -> None:
    first = enumerations(scene.run(steal(SCRIPT)))[0]
    assert first.consumer == "" and first.time - Scene.later <= 20 and first.count <= 180
    assert SCRIPT in first.detail and not first.is_notice
    report = report_signal(first)
    assert report.severity is Severity.MEDIUM and SCRIPT in report.why


def test_with_their_own_software_it_is_as_without(scene: Scene) -> None:
    assert enumerations(scene.run(steal(APP, steps=4))) == []


def test_a_release_that_everybody_takes_up_is_none(scene: Scene) -> None:
    assert scene.run(everybody(RELEASE, own, step) for step in range(60)) == []


def test_who_always_reads_what_is_new_may_take_up_another_program() -> None:
    scene = Scene()
    scene.pass_history(read=others)
    assert enumerations(scene.run(steal(RELEASE, steps=4))) == []


def test_who_mostly_comes_back_to_what_is_known_is_no_crowd(scene: Scene) -> None:
    """A release that shows one thing more with each page."""
    pages = [everybody(RELEASE, lambda who, n: own(who, n) + others(who, n), step) for step in range(4)]
    assert enumerations(scene.run(pages)) == []


def test_few_are_no_crowd(scene: Scene) -> None:
    assert enumerations(scene.run(steal(SCRIPT, steps=20, people=25))) == []


def test_software_that_sensors_begin_to_tell_is_not_taken_up() -> None:
    scene = Scene()
    scene.pass_history(software="")
    assert enumerations(scene.run(steal(SCRIPT, steps=4))) == []


def test_newcomers_are_no_crowd(scene: Scene) -> None:
    came = [[call(5_000 + who, APP, others(who, step)) for who in range(PEOPLE)] for step in range(2)]
    went_on = [[call(5_000 + who, SCRIPT, others(who, step)) for who in range(PEOPLE)] for step in range(2, 6)]
    assert enumerations(scene.run(came + went_on)) == []


def test_each_with_another_software_stays_within_bounds(scene: Scene) -> None:
    """Who changes it with each call is told by the endpoint's ceiling if at all, and fills no table."""
    for step in range(8):
        scene.feed(Scene.later + 10 * step, [call(who, f"x{step}-{who}", own(who, 0)) for who in range(1, 61)] * 20)
    state = scene.engine.detectors["abuse.enumeration"].dump()
    sizes = [array.nbytes for name, array in state.items() if "adopters" in name]
    assert sum(sizes) < 1 << 20


def test_a_restart_in_between_changes_nothing(history: bytes) -> None:
    whole, cut = Scene(history), Scene(history)
    expected = enumerations(whole.run(steal(SCRIPT)))
    before = cut.run(steal(SCRIPT)[:1])
    cut.restart()
    after = cut.run(steal(SCRIPT)[1:], start=Scene.later + 10)
    assert [signal.detail for signal in enumerations(before + after)] == [signal.detail for signal in expected] != []


def test_what_a_person_expects_is_told_no_more(scene: Scene) -> None:
    told = enumerations(scene.run(steal(SCRIPT, steps=4)))[-1]
    assert scene.engine.expect(told.kind, told.endpoint_id, "", 0.0)
    more = [everybody(SCRIPT, others, 2_000 + step) for step in range(2)]
    assert enumerations(scene.run(more, start=Scene.later + 40)) == []
