"""Objects in order: said of an alert that something else raised, never a reason for one."""

import msgspec
import pytest

from collector.alerting.alert import AlertKind, AlertSignal, Basis, Confidence
from collector.alerting.wording import report_signal
from collector.detection.engine import Engine
from tests.collector.detection.abuse.test_abuse import LATER, Scene, user
from tests.collector.detection.stream import START, Row, make_batch


@pytest.fixture(scope="module")
def history() -> bytes:
    scene = Scene()
    scene.pass_history()
    return scene.save()


@pytest.fixture
def scene(history: bytes) -> Scene:
    return Scene(history)


def walk(steps: int, *, windows: int = 6, first: int = 0) -> list[list[Row]]:
    """Twenty objects that numbers name in each window, of which so many follow right on the one before."""
    return [
        [user(99, calls=20, objects=tuple(10_000 + n * 20 + i for i in range(20)), numbers=20, steps=steps)]
        for n in range(first, first + windows)
    ]


def test_a_walk_by_numbers_is_said_and_makes_sure(scene: Scene) -> None:
    first = scene.run(walk(19))[0]
    assert first.kind is AlertKind.ENUMERATION
    made = 20 * ((first.time - LATER) // 10 + 1)
    assert first.walk == f"{made * 19 // 20} of {made} calls went to the number right after or before the last one"
    report = report_signal(msgspec.structs.replace(first, basis=Basis.PRIOR))
    assert f"In order: {first.walk}." in report.why
    assert report.confidence is Confidence.HIGH
    unordered = msgspec.structs.replace(first, basis=Basis.PRIOR, walk="")
    assert report_signal(unordered).confidence is Confidence.MEDIUM
    notice = msgspec.structs.replace(first, is_notice=True)
    assert report_signal(notice).confidence is Confidence.LOW


@pytest.mark.parametrize("steps", [0, 1, 15])
def test_numbers_without_order_are_no_walk(scene: Scene, steps: int) -> None:
    signals = scene.run(walk(steps))
    assert [signal.kind for signal in signals[:1]] == [AlertKind.ENUMERATION]
    assert {signal.walk for signal in signals} == {""}


def test_order_alone_raises_nothing(scene: Scene) -> None:
    """Somebody goes through thirty orders, one after the other, and back and forth."""
    assert scene.run([user(7, objects=(60_000 + n % 30,), numbers=1, steps=1)] for n in range(120)) == []


def test_a_walk_goes_through_a_checkpoint(scene: Scene) -> None:
    assert scene.run(walk(20, windows=2)) == []
    resumed = Scene(scene.save()).run(walk(20, first=2), start=LATER + 20)
    assert resumed[0].walk.startswith("60 of 60 ")


def test_the_volume_detectors_say_it_too() -> None:
    """In the first hour they are who names a thief."""
    engine, told = Engine(), []
    for n in range(60):
        crowd = [user(number, objects=(number,), numbers=1) for number in range(1, 20)]
        thief = [user(99, calls=104, objects=tuple(range(n * 104, n * 104 + 104)), numbers=104, steps=103)]
        rows = [*crowd, *(thief if n >= 30 else [])]
        timed = [
            Row(**{name: getattr(row, name) for name in Row.__slots__} | {"window": START + 10 * n}) for row in rows
        ]
        told += [s for s in engine.feed(make_batch(timed), START + 10 * n + 11) if isinstance(s, AlertSignal)]
    pairs = [signal for signal in told if signal.kind is AlertKind.VOLUME_PAIR]
    assert pairs and pairs[0].walk.startswith("103 of 104 calls")
    assert f"In order: {pairs[0].walk}." in report_signal(pairs[0]).why
