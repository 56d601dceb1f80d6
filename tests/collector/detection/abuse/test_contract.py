"""One suite for every abuse detector (collector/detection/abuse/detector.py), each in a case that it reports: what one
says is complete, the same each time, the same over a restart, taken back by what a person expects, and forgotten with
its subject. A detector without a case fails the first test."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import chain

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collector.alerting.alert import AbuseSignal, AlertKind
from collector.alerting.wording import report_signal
from collector.detection.abuse import (
    bola,
    credential_rotation,
    credential_stuffing,
    injection,
    scanning,
    unread_traffic,
)
from collector.detection.abuse.detector import AbuseDetector
from collector.detection.engine import Engine
from collector.detection.framework.state import Arrays
from tests.collector.detection.scene import AbuseScene
from tests.collector.detection.stream import START, Row

BEARER = 1 << 3
DAY = 86_400
PEOPLE = 30
ITEMS, LOGIN, ADMIN = 0, 9, 50
ACTOR = 99
OUTSIDE = "93.184.1.9"
ACTORS = (f"principal:{ACTOR:016x}", f"address:{OUTSIDE}")
Steps = list[list[Row]]


class Scene(AbuseScene):
    """Thirty people, each with three objects of its own, who call every four hours for three days and log in."""

    later = START + 3 * DAY

    def pass_history(self) -> None:
        for hour in range(0, 72, 4):
            self.feed(START + hour * 3_600, everybody())


def everybody() -> list[Row]:
    return [row for who in range(1, PEOPLE + 1) for row in call_honestly(who)]


def call_honestly(who: int) -> list[Row]:
    address = f"81.1.{who}.1"
    return [
        call(who, calls=3, objects=tuple(who * 10 + n for n in range(3)), address=address),
        Row(route=LOGIN, method="POST", address=address, passwords=1),
    ]


def call(who: int, **fields: object) -> Row:
    calls = fields.get("calls", 1)
    assert isinstance(calls, int)
    cost = {"microseconds": 20_000 * calls, "size": 2_000 * calls}
    known = {"route": ITEMS, "consumer": who, "authentication": BEARER, "address": OUTSIDE, **cost}
    return Row(**{**known, **fields})  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Rows of windows of 10 s that a detector tells of."""

    kind: AlertKind
    steps: Steps


def rotate(tokens: int) -> Steps:
    """One token after the other, each for two windows."""
    return [[call(5_000 + n // 2, credential=5_000 + n // 2)] for n in range(2 * tokens)]


CASES = {
    "enumeration": Case(
        kind=AlertKind.ENUMERATION,
        steps=[[call(ACTOR, calls=20, objects=tuple(range(9_000 + 20 * n, 9_020 + 20 * n)))] for n in range(12)],
    ),
    "mass_export": Case(kind=AlertKind.MASS_EXPORT, steps=[[call(ACTOR, records=250)] for _ in range(12)]),
    "credential_stuffing": Case(
        kind=AlertKind.CREDENTIAL_STUFFING,
        steps=[[Row(route=LOGIN, method="POST", address=OUTSIDE, status=401, calls=8)] for _ in range(12)],
    ),
    "scanning": Case(
        kind=AlertKind.SCANNING,
        steps=[[Row(route=100 + 9 * n + i, address=OUTSIDE, status=404) for i in range(9)] for n in range(12)],
    ),
    "credential_sharing": Case(
        kind=AlertKind.CREDENTIAL_SHARING,
        steps=[[call(ACTOR, address=f"93.{n}.{i}.1") for i in range(4)] for n in range(12)],
    ),
    "credential_rotation": Case(kind=AlertKind.CREDENTIAL_ROTATION, steps=rotate(60)),
    "resource_exhaustion": Case(
        kind=AlertKind.RESOURCE_EXHAUSTION, steps=[[call(ACTOR, calls=30, status=429)] for _ in range(12)]
    ),
    "resource_consumption": Case(
        kind=AlertKind.RESOURCE_CONSUMPTION, steps=[[call(ACTOR, calls=150)] for _ in range(12)]
    ),
    "query_cost": Case(
        kind=AlertKind.QUERY_COST, steps=[[call(ACTOR, method="POST", found=(7 * 64 + 20 + 8 * n,))] for n in range(5)]
    ),
    "tool_use": Case(
        kind=AlertKind.TOOL_LOOP, steps=[[call(ACTOR, method="POST", found=(12 * 64 + 20 + 8 * n,))] for n in range(5)]
    ),
    "bfla": Case(
        kind=AlertKind.BFLA, steps=[[call(ACTOR, route=ADMIN + n, status=403)] for n in range(12)]
    ),
    "bola": Case(
        kind=AlertKind.BOLA,
        steps=[[call(ACTOR, objects=(who * 10,)) for who in range(2 * n + 1, 2 * n + 3)] for n in range(12)],
    ),
    "injection": Case(
        kind=AlertKind.INJECTION, steps=[[call(ACTOR, payloads=(n << 8 | 1,))] for n in range(1, 13)]
    ),
    "mass_assignment": Case(
        kind=AlertKind.MASS_ASSIGNMENT,
        steps=[[call(ACTOR, found=(10 * 64 + 2 * n, 10 * 64 + 2 * n + 1))] for n in range(1, 6)],
    ),
    "unread_traffic": Case(
        kind=AlertKind.UNREAD_TRAFFIC,
        steps=[[Row(route=ITEMS, address=OUTSIDE, unread=60), *call_honestly(1)] for _ in range(12)],
    ),
}  # fmt: skip
UNYOUNG = {
    "resource_consumption",
    "injection",
    "tool_use",
    "credential_rotation",
}  # What needs no hour, or says nothing within it.

AT_ONCE = {"query_cost", "tool_use", "mass_assignment", "unread_traffic"}  # One row is enough.

every_detector = pytest.mark.parametrize("name", CASES)


@pytest.fixture(scope="module")
def history() -> bytes:
    scene = Scene()
    scene.pass_history()
    return scene.save()


@pytest.fixture
def make(history: bytes) -> Callable[[], Scene]:
    return lambda: Scene(history)


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A case after its last step, and the signals of each step. Tests only read it."""

    scene: Scene
    steps: list[list[AbuseSignal]]

    @property
    def signals(self) -> list[AbuseSignal]:
        return list(chain.from_iterable(self.steps))


@pytest.fixture(scope="module")
def played(history: bytes) -> Callable[[str], Played]:
    """Plays each case once for all tests."""

    @cache
    def play_case(name: str) -> Played:
        scene = Scene(history)
        steps = [play(scene, name, [step], Scene.later + 10 * n) for n, step in enumerate(CASES[name].steps)]
        return Played(scene=scene, steps=steps)

    return play_case


def play(scene: Scene, name: str, steps: Steps | None = None, start: int = 0) -> list[AbuseSignal]:
    """What the detector of a case says of its rows."""
    told = scene.run(CASES[name].steps if steps is None else steps, start=start)
    return [signal for signal in told if signal.kind is CASES[name].kind]


def state_of(engine: Engine, name: str) -> Arrays:
    return engine.detectors[f"abuse.{name}"].dump()


def test_every_detector_has_a_case() -> None:
    own = [one.name for one in Engine().detectors.values() if isinstance(one, AbuseDetector)]
    assert own == [f"abuse.{name}" for name in CASES]


@every_detector
def test_what_is_reported_is_complete(played: Callable[[str], Played], name: str) -> None:
    signals = played(name).signals
    assert signals
    for signal in signals:
        assert signal.count > signal.ceiling >= 0 and signal.calls > 0
        assert 60 <= signal.seconds <= 7 * DAY and signal.time >= Scene.later
        assert signal.consumer and not signal.is_notice and 0 <= signal.loss_ratio <= 1
        report = report_signal(signal)
        row = signal.kind.row
        assert row.unit in report.why and row.owasp in report.why
        assert report.advice and report.risk == row.owasp


@every_detector
def test_the_same_rows_are_reported_the_same(
    make: Callable[[], Scene], played: Callable[[str], Played], name: str
) -> None:
    assert play(make(), name) == played(name).signals


@every_detector
def test_a_restart_at_any_step_changes_nothing(
    make: Callable[[], Scene], played: Callable[[str], Played], name: str
) -> None:
    steps, whole = CASES[name].steps, played(name)
    first, before, last = make(), list[AbuseSignal](), 0
    for cut in range(1, len(steps), max(1, len(steps) // 6)):
        before += play(first, name, steps[last:cut], start=Scene.later + 10 * last)
        scene, last = Scene(first.save()), cut
        after = play(scene, name, steps[cut:], start=Scene.later + 10 * cut)
        # Which addresses took part lately is not kept.
        assert forget_sources(before + after) == forget_sources(whole.signals)
        one, other = state_of(scene.engine, name), state_of(whole.scene.engine, name)
        assert one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


@every_detector
def test_honest_people_are_never_told_of(make: Callable[[], Scene], name: str) -> None:
    assert play(make(), name, [everybody() for _ in range(12)]) == []


@every_detector
def test_in_the_first_hour_nobody_is_accused(name: str) -> None:
    scene = Scene()
    for n in range(3):
        scene.feed(START + 10 * n, everybody())
    signals = play(scene, name, start=START + 60)
    assert all(signal.is_notice for signal in signals) or name in ("injection", "tool_use")
    assert signals or name in UNYOUNG


@every_detector
def test_what_a_person_expects_is_told_no_more(make: Callable[[], Scene], name: str) -> None:
    scene, kind = make(), CASES[name].kind
    last = play(scene, name)[-1]
    other = next(one for one in AlertKind if one is not kind)
    assert other not in scene.engine.detectors[f"abuse.{name}"].kinds
    assert not scene.engine.expect(kind, last.endpoint_id, "principal:nobody", 0.0)
    assert scene.engine.expect(kind, last.endpoint_id, last.consumer, 0.0)
    assert play(scene, name, CASES[name].steps[-2:], start=Scene.later + 10 * len(CASES[name].steps)) == []


@pytest.mark.parametrize("name", [name for name in CASES if name not in AT_ONCE])
def test_a_forgotten_subject_leaves_nothing_behind(
    make: Callable[[], Scene], played: Callable[[str], Played], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crowd makes the tables forget an actor that its next row would tell of: neither it nor who takes its place has
    done anything yet. Of larger tables it is told."""
    count = next(n for n, signals in enumerate(played(name).steps, 1) if signals)
    last = CASES[name].steps[count - 1]
    scene = play_until(make(), name, count - 1)
    now = Scene.later + 10 * count
    told = [signal for number in range(5) for signal in scene.feed(now, crowd(number))] + scene.feed(now, last)
    assert [signal for signal in told if signal.kind is CASES[name].kind and signal.consumer in ACTORS]
    scene = make_small(monkeypatch)
    scene.pass_history()
    play_until(scene, name, count - 1)
    told = [signal for number in range(5) for signal in scene.feed(now, crowd(number))] + scene.feed(now, last)
    for number in range(8):
        told += scene.feed(now, [row for n in range(FEW // 8) for row in act_as(last, number * FEW + n)])
    accused = [signal for signal in told if signal.kind is CASES[name].kind and signal.consumer]
    assert accused == []


@every_detector
def test_state_is_bounded(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bola, "OBJECTS_MAX", FEW)
    scene = make_small(monkeypatch)
    sizes = []
    for n in range(12):
        scene.feed(START + 10 * n, crowd(n))
        sizes.append(sum(array.nbytes for key, array in state_of(scene.engine, name).items() if "names" not in key))
    assert sizes[-1] == sizes[5]


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_rows_are_judged_without_an_error_and_with_finite_numbers(data: st.DataObject) -> None:
    scene = Scene()
    time = START
    for _ in range(data.draw(st.integers(1, 4))):
        rows = data.draw(st.lists(_ROWS, min_size=1, max_size=20))
        for signal in scene.feed(time, rows):
            assert math.isfinite(signal.count) and signal.count > signal.ceiling >= 0
        time += data.draw(st.sampled_from([0, 10, 600, 3_600, 3 * DAY]))


FEW = 64
_ROWS = st.builds(
    Row,
    route=st.integers(0, 5),
    consumer=st.integers(0, 5),
    calls=st.integers(0, 2**40),
    objects=st.sets(st.integers(1, 2**64 - 1), max_size=5).map(lambda values: tuple(sorted(values))),
    address=st.sampled_from(["", "10.0.0.1", OUTSIDE, "2001:db8::1", "no address"]),
    length=st.sampled_from([1, 10, 60]),
    credential=st.integers(0, 2**64 - 1),
    status=st.sampled_from([0, 200, 304, 401, 403, 404, 429, 500, 503]),
    authentication=st.integers(0, 2**20 - 1),
    method=st.sampled_from(["GET", "POST"]),
    records=st.integers(0, 2**40),
    payloads=st.sets(st.integers(1, 2**40), max_size=3).map(lambda values: tuple(sorted(n << 8 | 1 for n in values))),
    microseconds=st.integers(0, 2**50),
    size=st.integers(0, 2**50),
    numbers=st.integers(0, 9),
    steps=st.integers(0, 9),
)


def forget_sources(signals: list[AbuseSignal]) -> list[AbuseSignal]:
    return [msgspec.structs.replace(signal, sources=()) for signal in signals]


def make_small(monkeypatch: pytest.MonkeyPatch) -> Scene:
    """One whose tables hold FEW subjects, the detectors' own too."""
    monkeypatch.setattr(credential_stuffing, "SOURCES_MAX", FEW)
    monkeypatch.setattr(scanning, "SOURCES_MAX", FEW)
    monkeypatch.setattr(credential_rotation, "SOURCES_MAX", FEW // 2)  # It evaluates the first of many newcomers.
    monkeypatch.setattr(credential_rotation, "SEATS_MAX", FEW)
    monkeypatch.setattr(injection, "SENDERS_MAX", FEW)
    monkeypatch.setattr(unread_traffic, "SOURCES_MAX", FEW)
    scene = Scene()
    scene.engine = Engine(endpoints_max=FEW, consumers_max=FEW, pairs_max=2 * FEW)
    return scene


def play_until(scene: Scene, name: str, count: int) -> Scene:
    """Of a case the first steps, of which nothing is reported."""
    for n, step in enumerate(CASES[name].steps[:count], 1):
        assert play(scene, name, [step], Scene.later + 10 * n) == []
    return scene


def act_as(step: list[Row], number: int) -> list[Row]:
    """The same by another one."""
    other = {"consumer": 20_000 + number, "address": f"86.{number // 250}.{number % 250}.1"}
    return [
        Row(
            **{name: getattr(row, name) for name in Row.__slots__}
            | (other if row.consumer else other | {"consumer": 0})
        )
        for row in step
    ]


def crowd(number: int) -> list[Row]:
    """Half as many newcomers as FEW, each with an address, an object, a payload, a miss and a refused login."""
    rows = []
    for n in range(FEW // 2):
        who, address = 10_000 + number * FEW + n, f"85.{number}.{n}.1"
        rows.append(call(who, address=address, credential=who, objects=(who,), payloads=(who << 8 | 1,)))
        rows.append(Row(route=500, address=address, status=404))
        rows.append(Row(route=LOGIN, method="POST", address=address, status=401))
    return rows
