"""A caller that called day and night and falls silent is told; who stops for a reason that others share, or was
followed, is not."""

import numpy as np
import pytest

from collector.alerting.alert import AlertKind, AlertSignal, Basis, Direction, Severity, Signal
from collector.alerting.wording import report_signal
from collector.detection.engine import Engine
from collector.detection.volume.silence import CALLERS_MAX, DAYS_MIN
from tests.collector.detection.scene import EngineScene
from tests.collector.detection.stream import START, Row, make_batch

HOUR, DAY = 3_600, 86_400
HISTORY_DAYS = 10
BEGIN = START // DAY * DAY  # A Tuesday.
PARTNER, OFFICE = 1, 2  # One calls day and night, one on weekdays only.
SOLE = 3  # Calls an endpoint that nobody else calls, too.
CALLERS = range(1, 17)
ENDPOINTS = 4
CALLS = 300  # Of each caller in an hour.


class Scene(EngineScene):
    """Sixteen callers of four endpoints, each at two (one at a fifth), by the hour; `state` is of ten days: it is a
    Friday."""

    def __init__(self, state: bytes = b"") -> None:
        super().__init__(state)
        self.time = BEGIN + HISTORY_DAYS * DAY if state else BEGIN
        self.random = np.random.default_rng(3)

    def run(
        self, hours: int, *, factors: dict[int, float] | None = None, lost: int = 0, lost_elsewhere: int = 0
    ) -> list[AlertSignal]:
        """`factors`: of callers that call less, or of others that call now. `lost_elsewhere`: on a node of which others
        are seen. What is told of falls of consumers."""
        signals: list[Signal] = []
        factors = factors or {}
        for _ in range(hours):
            is_weekend = (self.time // DAY + 4) % 7 in (0, 6)
            rows = []
            for caller in sorted({*CALLERS, *factors}):
                own = factors.get(caller, 1.0) * (0.0 if caller == OFFICE and is_weekend else 1.0)
                mean = CALLS / 2 * own * self.random.lognormal(0, 0.2, 2)
                called = [caller % ENDPOINTS, (caller + 1) % ENDPOINTS]
                if caller == SOLE:
                    called, mean = [*called, ENDPOINTS], np.append(mean, CALLS / 3 * own)
                routes = zip(called, self.random.poisson(mean), strict=True)
                rows += [
                    Row(route=route, consumer=caller, window=self.time, length=HOUR, calls=int(calls))
                    for route, calls in routes
                    if calls
                ]
            batch = make_batch(rows, lost=lost)
            signals += self.engine.feed(batch, self.time + HOUR) if rows else self.engine.advance(self.time)
            if lost_elsewhere:
                other = Row(route=ENDPOINTS + 1, consumer=99, window=self.time, length=HOUR)
                batch = make_batch([other], node="another", lost=lost_elsewhere)
                signals += self.engine.feed(batch, self.time + HOUR)
            self.time += HOUR
        return [signal for signal in signals if is_fall(signal)]  # type: ignore[misc]


def is_fall(signal: Signal) -> bool:
    return isinstance(signal, AlertSignal) and bool(signal.consumer) and signal.direction is Direction.BELOW


def name(caller: int) -> str:
    return f"principal:{caller:016x}"


@pytest.fixture(scope="module")
def history() -> tuple[bytes, list[AlertSignal]]:
    scene = Scene()
    told = scene.run(HISTORY_DAYS * 24)
    return scene.save(), told


@pytest.fixture
def scene(history: tuple[bytes, list[AlertSignal]]) -> Scene:
    return Scene(history[0])


def test_calm_weeks_and_their_weekends_tell_nothing(history: tuple[bytes, list[AlertSignal]], scene: Scene) -> None:
    assert history[1] == []
    assert scene.run(14 * 24) == []


@pytest.mark.parametrize(("factor", "hours"), [(0.0, 2), (0.05, 3)])
def test_caller_that_falls_silent_is_told(scene: Scene, factor: float, hours: int) -> None:
    begin = scene.time
    # An hour closes with the next one.
    assert scene.run(hours, factors={PARTNER: factor}) == []
    told = scene.run(4, factors={PARTNER: factor})
    first = told[0]
    assert {signal.consumer for signal in told} == {name(PARTNER)}
    assert (first.kind, first.direction, first.basis) == (AlertKind.VOLUME_CONSUMER, Direction.BELOW, Basis.SEASON)
    assert (first.window_start, first.window_seconds) == (begin + (hours - 1) * HOUR, HOUR)
    assert first.observed_rate < first.threshold_rate < first.expected_rate < 1.2 * CALLS / HOUR
    report = report_signal(first)
    assert (report.severity, report.risk, report.is_above) == (Severity.LOW, "", False)
    assert report.title == f"{name(PARTNER)} calls the API far less than usual"
    assert report.advice == "See whether the caller still runs, and reaches the service."
    assert f"made {first.calls:,} calls in the 1 h from" in report.why


def test_an_hour_and_a_fall_to_a_fifth_are_not_told(scene: Scene) -> None:
    assert scene.run(1, factors={PARTNER: 0.0}) + scene.run(6) == []
    assert scene.run(12, factors={PARTNER: 0.2}) == []


def test_silence_is_told_once_and_its_return_and_the_next_pause_are_not(scene: Scene) -> None:
    told = scene.run(5 * 24, factors={PARTNER: 0.0})
    assert told and max(signal.window_start for signal in told) - told[0].window_start < DAY
    assert scene.run(24) + scene.run(12, factors={PARTNER: 0.0}) == []


def test_weekend_rest_is_told_of_who_never_rests_alone(scene: Scene) -> None:
    scene.run(5 * 24)  # To the second Wednesday.
    assert scene.run(10 * 24, factors={}) == []
    at_weekend = scene.run(8, factors={PARTNER: 0.0, OFFICE: 1.0})
    assert (scene.time // DAY + 4) % 7 in (0, 6) and {signal.consumer for signal in at_weekend} == {name(PARTNER)}


def test_holiday_that_several_have_is_nobodys_fall(scene: Scene) -> None:
    away = dict.fromkeys((1, 3, 5, 7), 0.0)
    assert scene.run(24, factors=away) == []
    # Who alone does not come back afterwards was excused as well.
    assert scene.run(24, factors={PARTNER: 0.0}) == []


def test_holiday_teaches_nothing(scene: Scene) -> None:
    assert scene.run(24, factors=dict.fromkeys(range(1, 9), 0.0)) == []
    scene.run(4 * 24)
    told = scene.run(8, factors={PARTNER: 0.0})
    assert {signal.consumer for signal in told} == {name(PARTNER)}


def test_sensor_that_is_away_and_lost_calls_are_no_fall(scene: Scene) -> None:
    assert scene.run(6, factors=dict.fromkeys(CALLERS, 0.0)) + scene.run(6) == []
    assert not scene.engine.silence.dump()["rows.state"].any()  # Nor is anybody excused for it.
    assert scene.run(6, factors={PARTNER: 0.0}, lost=500) == []


def test_loss_of_another_node_hides_no_fall(scene: Scene) -> None:
    told = scene.run(6, factors={PARTNER: 0.0}, lost_elsewhere=2**39)
    assert {signal.consumer for signal in told} == {name(PARTNER)}
    assert scene.engine.losses.nodes.ratios("another", scene.time - HOUR)[0] > 0.5


def test_caller_whose_endpoints_fall_is_left_to_them(scene: Scene) -> None:
    fallen = {caller: 0.3 for caller in CALLERS if caller % ENDPOINTS != 3}
    assert scene.run(12, factors=fallen | {PARTNER: 0.05}) == []


def test_key_that_was_changed_is_no_fall(scene: Scene) -> None:
    assert scene.run(48, factors={PARTNER: 0.0, PARTNER + 8 * 4: 1.0}) == []


@pytest.mark.parametrize("offset", [1, 2])  # One of its two endpoints in common, and none.
def test_new_caller_elsewhere_does_not_follow(scene: Scene, offset: int) -> None:
    assert scene.run(4, factors={PARTNER: 0.0, PARTNER + 8 * 4 + offset: 1.0})


def test_endpoint_that_falls_with_it_excuses_only_who_mostly_calls_there(scene: Scene) -> None:
    begin = scene.time
    told = scene.run(6, factors={SOLE: 0.0})
    assert {signal.consumer for signal in told} == {name(SOLE)} and told[0].window_start == begin + HOUR
    endpoints, hours = scene.engine.subjects.endpoints, scene.engine.endpoints.windowed[3_600]
    fallen = hours.was_reported(endpoints.live(), begin)
    assert np.count_nonzero(fallen) == 1  # That only it calls.


def test_half_a_day_is_a_persons_but_for_a_workload() -> None:
    scene = Scene()
    for _ in range(15):
        scene.run(12, factors={PARTNER: 0.0})
        scene.run(12)
    parts = scene.engine.dump()
    rows = "detectors.silence.rows.is_workload"
    parts = {**parts, rows: np.ones_like(parts[rows])}
    told = []
    for is_workload in (False, True):
        other = Scene()
        other.engine.load(parts if is_workload else scene.engine.dump())
        other.time = scene.time
        told.append(other.run(18, factors={PARTNER: 0.0}))
    assert told[0] == [] and {signal.consumer for signal in told[1]} == {name(PARTNER)}


def test_who_stopped_before_it_was_judged_is_not_told() -> None:
    """On weekdays a person, at weekends steady; away since a Wednesday."""
    scene = Scene()
    for day in range(15):
        is_weekday = (scene.time // DAY + 4) % 7 not in (0, 6)
        assert scene.run(12, factors={PARTNER: 0.0} if is_weekday else {}) + scene.run(12) == [], day
    assert scene.run(5 * 24, factors={PARTNER: 0.0}) == []
    assert (scene.time // DAY + 4) % 7 == 1  # The weekend is over.


def test_first_days_are_not_judged() -> None:
    young = Scene()
    young.run((DAYS_MIN[0] - 1) * 24)
    assert young.run(6, factors={PARTNER: 0.0}) == []


def test_restart_in_between_changes_nothing(history: tuple[bytes, list[AlertSignal]], scene: Scene) -> None:
    other = Scene(history[0])
    before = [one.run(2, factors={PARTNER: 0.0}) for one in (scene, other)]
    other.restart()
    after = [one.run(6, factors={PARTNER: 0.0}) for one in (scene, other)]
    assert before[0] == before[1] and after[0] == after[1] != []


def test_what_a_person_expects_is_told_no_more(scene: Scene) -> None:
    told = scene.run(4, factors={PARTNER: 0.0})
    assert scene.engine.expect(AlertKind.VOLUME_CONSUMER, "", told[0].consumer, 0.0)
    assert scene.run(24, factors={PARTNER: 0.0}) == []


def test_callers_are_bounded_and_the_busiest_are_kept() -> None:
    engine, crowd = Engine(), CALLERS_MAX + 500
    for hour in range(4):
        rows = [
            Row(route=0, consumer=caller, window=BEGIN + hour * HOUR, length=HOUR, calls=60 + caller)
            for caller in range(1, crowd + 1)
        ]
        engine.feed(make_batch(rows), BEGIN + (hour + 1) * HOUR)
    assert len(engine.silence) == CALLERS_MAX
    kept = engine.silence.dump()["rows.slot"]
    names = {engine.subjects.consumers.name(int(slot)).consumer for slot in kept}
    assert names == {name(caller) for caller in range(501, crowd + 1)}
