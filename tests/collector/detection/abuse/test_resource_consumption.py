"""Who takes most of what an endpoint gives is told, in time or bytes; who is merely busy, or slow like all, is not."""

import pytest

from collector.alerting.alert import AlertKind, Basis, Severity
from collector.alerting.wording import report_signal
from tests.collector.detection.scene import AbuseScene
from tests.collector.detection.stream import START, Row

PEOPLE = 20
STEP = 600
HISTORY = 12 * 3_600
LATER = START + HISTORY
MILLISECONDS, BYTES = 20, 2_000  # Of an ordinary call.
THIEF = 99


def call(who: int, calls: int = 1, *, slower: float = 1, larger: float = 1, route: int = 1) -> Row:
    return Row(
        route=route, consumer=who, authentication=1, address=f"81.1.{who % 250}.1", calls=calls,
        microseconds=int(calls * MILLISECONDS * 1_000 * slower), size=int(calls * BYTES * larger),
    )  # fmt: skip


class Scene(AbuseScene):
    """Twenty people who each call an endpoint every ten minutes, for twelve hours."""

    later = LATER

    def pass_history(self) -> None:
        for second in range(0, HISTORY, STEP):
            self.feed(START + second, people())


@pytest.fixture(scope="module")
def history() -> bytes:
    scene = Scene()
    scene.pass_history()
    return scene.save()


@pytest.fixture
def scene(history: bytes) -> Scene:
    return Scene(history)


def people(**cost: float) -> list[Row]:
    return [call(who, **cost) for who in range(1, PEOPLE + 1)]


def flood(steps: int = 12, calls: int = 100) -> list[list[Row]]:
    return [[call(THIEF, calls)] for _ in range(steps)]


def test_a_flood_that_nothing_turns_away_is_told_with_observed_and_expected(scene: Scene) -> None:
    signals = scene.run(flood())
    assert {(signal.kind, signal.consumer) for signal in signals} == {
        (AlertKind.RESOURCE_CONSUMPTION, f"principal:{THIEF:016x}")
    }
    first = signals[0]
    assert first.time <= LATER + 60 and first.count > first.ceiling == 300
    report = report_signal(first)
    assert report.severity is Severity.HIGH and report.risk == "API4:2023"
    assert report.title.startswith(f"principal:{THIEF:016x} takes most of what GET /things1/")
    seconds = first.calls * MILLISECONDS / 1_000
    assert f"server time: {seconds:.1f} s, " in report.why and "% of what the endpoint gave" in report.why
    assert "to all together 0.6 s at the most before" in report.why  # Twenty calls, and those before that count yet.


@pytest.mark.parametrize(("cost", "measure"), [({"slower": 40.0}, "server time"), ({"larger": 40.0}, "response bytes")])
def test_few_expensive_calls_are_told_by_what_they_cost(scene: Scene, cost: dict[str, float], measure: str) -> None:
    few = [[call(THIEF, 3, **cost), call(n % PEOPLE + 1)] for n in range(25)]
    signals = scene.run(few)
    assert [signal.kind for signal in signals][:1] == [AlertKind.RESOURCE_CONSUMPTION]
    assert signals[0].detail.startswith(measure) and signals[0].calls <= 60


def test_as_many_ordinary_calls_are_not(scene: Scene) -> None:
    assert scene.run([[call(THIEF, 3), call(n % PEOPLE + 1)] for n in range(25)]) == []


def test_where_all_calls_take_long_nobody_took_more(scene: Scene) -> None:
    trouble = [[*people(slower=50), call(THIEF, 4, slower=60)] for _ in range(60)]
    assert scene.run(trouble) == []
    alone = [[call(THIEF, 4, slower=60)] for _ in range(60)]  # Nobody else called: who knows why it takes long?
    assert scene.run(alone, start=LATER + 4 * 3_600) == []


def test_a_crowd_takes_little_each(scene: Scene) -> None:
    crowd = [[call(1_000 + 40 * n + one, 5) for one in range(40)] for n in range(20)]
    assert scene.run(crowd) == []


def test_a_busy_caller_among_busy_callers_is_not_told(scene: Scene) -> None:
    busy = [[call(THIEF, 40), *(call(who, 4) for who in range(1, PEOPLE + 1))] for _ in range(30)]
    assert scene.run(busy) == []  # A third.


def test_endpoints_that_few_call_or_that_are_new_say_nothing(scene: Scene) -> None:
    few = [[call(who, route=2) for who in range(1, 6)] for _ in range(60)]
    new = [[call(who, route=3) for who in range(1, PEOPLE + 1)] for _ in range(10)]
    assert scene.run(few, step=STEP) == scene.run(new, start=LATER + 60 * STEP, step=STEP) == []
    later = LATER + 70 * STEP
    assert scene.run([[call(THIEF, 100, route=route) for route in (2, 3)] for _ in range(12)], start=later) == []


def test_what_goes_on_every_night_is_known_from_the_third_on(scene: Scene) -> None:
    told = []
    for night in range(5):
        start = LATER + night * 86_400
        told.append(len(scene.run(flood(60, 200), start=start)))
        scene.run((people() for _ in range(60)), start=start + 3_600, step=STEP)
    assert [bool(count) for count in told] == [True, True, False, False, False]


def test_what_a_person_expects_is_ordinary(scene: Scene) -> None:
    endpoint = scene.run(flood())[0].endpoint_id
    assert scene.engine.expect(AlertKind.RESOURCE_CONSUMPTION, endpoint, f"principal:{THIEF:016x}", 0.0)
    assert scene.run(flood(), start=LATER + 3 * 3_600) == []


def test_who_was_told_raises_no_bar_for_the_next_one(scene: Scene) -> None:
    scene.run(flood(40, 200))
    other = [[call(THIEF + 1, 60)] for _ in range(12)]
    signals = scene.run(other, start=LATER + 3_600)
    assert {signal.consumer for signal in signals} == {f"principal:{THIEF + 1:016x}"} and signals[0].ceiling == 300


def test_a_flood_goes_through_a_checkpoint(scene: Scene) -> None:
    assert scene.run(flood(2)) == []
    scene.restart()
    signals = scene.run(flood(), start=LATER + 20)
    assert signals[0].time <= LATER + 60
    assert signals[0].basis is Basis.PEERS or signals[0].basis is Basis.PRIOR


def test_many_bursts_raise_the_installations_bar(scene: Scene) -> None:
    """Half of the people burst, one an hour: those that stand out no more than the others are held back."""
    told = [
        scene.run([[call(one, 60)] for _ in range(12)], start=LATER + n * 3_600) != []
        for n, one in enumerate(range(1, 11))
    ]
    assert told[0] and not any(told[-5:])
    assert scene.engine.held_back_count > 0
