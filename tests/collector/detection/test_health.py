"""Endpoints that fail or slow down against their own past are told, once a service; what is ordinary is not."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest

from collector.alerting.alert import AlertKind, AlertState, HealthMeasure, HealthSignal, Severity
from collector.alerting.lifecycle import Lifecycle
from collector.alerting.wording import report_signal
from collector.core.kinds import NOT_READ
from collector.detection.engine import Engine
from tests.collector.detection.scene import EngineScene
from tests.collector.detection.stream import START, Row, make_batch

ROUTES, PEOPLE = 3, 4
STEP = 60
HISTORY = 90 * STEP
BEGIN = START // 3_600 * 3_600
LATER = BEGIN + HISTORY
MILLISECONDS = 20


def minute(
    time: int, *, failing: dict[int, float] | None = None, status: int = 500, slower: dict[int, float] | None = None,
    who: Iterable[int] = range(PEOPLE), calls: int = 10,
) -> list[Row]:  # fmt: skip
    """Rows of a minute at three endpoints of one service: the share `failing` of calls by route, and how much
    `slower` they are."""
    rows = []
    random = np.random.default_rng(time)
    for route in range(ROUTES):
        for person in range(PEOPLE):
            failed = round(calls * (failing or {}).get(route, 0.0)) if person in who else 0
            factor = (slower or {}).get(route, 1.0) if person in who else 1.0
            took = (calls - failed) * MILLISECONDS * 1_000 * factor * random.lognormal(0, 0.1)
            common = {"route": route, "consumer": person + 1, "window": time, "address": f"81.1.{person}.1"}
            if failed:
                rows.append(Row(calls=failed, status=status, microseconds=failed * 1_000, **common))
            if calls > failed:
                rows.append(Row(calls=calls - failed, microseconds=int(took), **common))
    return rows


class Scene(EngineScene):
    """Three endpoints and their callers, minute by minute; `state` is of an hour and a half in which nothing fails."""

    def __init__(self, state: bytes = b"") -> None:
        super().__init__(state)
        self.time = LATER if state else BEGIN

    def run(self, minutes: int, **what: object) -> list[HealthSignal]:
        signals = []
        for _ in range(minutes):
            rows = minute(self.time, **what)  # type: ignore[arg-type]
            signals += self.engine.feed(make_batch(rows), self.time + 11)
            self.time += STEP
        return [signal for signal in signals if isinstance(signal, HealthSignal)]


@pytest.fixture(scope="module")
def history() -> bytes:
    scene = Scene()
    scene.run(HISTORY // STEP)
    return scene.save()


@pytest.fixture
def scene(history: bytes) -> Scene:
    return Scene(history)


def open_alerts(signals: list[HealthSignal]) -> list[object]:
    life = Lifecycle(new_id=iter("abcdefgh").__next__)
    for signal in signals:
        life.take(report_signal(signal), signal.window_start + signal.window_seconds)
    return list(life.open_alerts)


def test_endpoint_whose_calls_begin_to_fail_is_told_within_two_minutes_with_shares(scene: Scene) -> None:
    assert scene.run(5) == []
    signals = scene.run(3, failing={1: 0.5})
    assert {signal.measure for signal in signals} == {HealthMeasure.SERVER_ERRORS}
    first = signals[0]
    assert (first.kind, first.window_start, first.window_seconds) == (AlertKind.ERRORS, LATER + 5 * STEP, 60)
    assert (first.endpoint_label, first.endpoints, first.calls) == ("GET /things1/{things1_id}", 1, 40)
    assert first.observed == 0.5 and first.expected < 0.02 and 0.02 < first.threshold < 0.5
    report = report_signal(first)
    assert report.severity is Severity.MEDIUM
    assert report.title == "GET /things1/{things1_id} of shop:8000 fails far more than usual"
    assert "20 of 40 calls (50.0%) were server errors" in report.why


def test_calls_that_were_not_read_are_no_errors_and_in_no_share(scene: Scene) -> None:
    """A hundred times as many as the others, as of a process that is read in turns."""

    def run(minutes: int, **what: object) -> list[HealthSignal]:
        told: list[HealthSignal] = []
        for _ in range(minutes):
            unread = [Row(route=route, window=scene.time, calls=4_000, status=NOT_READ) for route in range(ROUTES)]
            closed = scene.engine.feed(make_batch(unread), scene.time + 11)
            told += [signal for signal in closed if isinstance(signal, HealthSignal)] + scene.run(1, **what)
        return told

    assert run(6) == []
    first = run(3, failing={1: 0.5})[0]
    assert (first.measure, first.calls, first.observed) == (HealthMeasure.SERVER_ERRORS, 40, 0.5)


def test_limit_that_is_said_is_what_is_told_from(history: bytes) -> None:
    """A minute in which an endpoint failed a little less than the limit says is not told, a little more is."""
    told = {}
    for failed in range(0, 101, 4):
        made = Scene(history)
        signals = made.run(1, failing={1: failed / 100}, calls=100) + made.run(2, calls=100)
        told[failed / 100] = [signal for signal in signals if signal.window_seconds == 60]
    shares = [share for share, signals in told.items() if signals]
    limit = told[shares[0]][0].threshold
    assert shares[0] - 0.04 < limit <= shares[0]
    assert shares == [share for share in told if share >= shares[0]]


def test_service_whose_endpoints_all_fail_is_one_alert(scene: Scene) -> None:
    signals = scene.run(1, failing={2: 0.6}) + scene.run(8, failing=dict.fromkeys(range(ROUTES), 0.6))
    assert {signal.endpoint_id for signal in signals} == {signals[0].endpoint_id}
    (alert,) = open_alerts(signals)
    assert alert.title == "3 endpoints of shop:8000 fail far more than usual"


def test_alert_of_a_failing_service_goes_on_over_a_restart(scene: Scene) -> None:
    before = scene.run(4, failing=dict.fromkeys(range(ROUTES), 0.6))
    scene.restart()
    after = scene.run(6, failing=dict.fromkeys(range(ROUTES), 0.6))
    assert len(open_alerts(before + after)) == 1
    assert after[-1].endpoints == ROUTES


def test_failure_that_ended_is_not_told_again_by_longer_windows(scene: Scene) -> None:
    told = scene.run(3, failing={1: 0.5})
    later = scene.run(130)
    assert told
    assert [signal for signal in later if signal.window_start > LATER + 5 * STEP or signal.window_seconds > 60] == []


def test_errors_that_are_usual_are_not_told_and_many_more_are() -> None:
    scene = Scene()
    assert scene.run(120, failing={1: 0.2}) == []
    assert scene.run(30, failing={1: 0.3}) == []
    assert scene.run(8, failing={1: 0.8})


def test_share_that_stays_is_one_alert_and_is_usual_after_some_hours(scene: Scene) -> None:
    signals = scene.run(24 * 60, failing={1: 0.3})
    assert len({signal.endpoint_id for signal in signals}) == 1
    assert max(signal.window_start for signal in signals) < LATER + 12 * 3_600
    life, ids = Lifecycle(new_id=lambda: str(len(opened))), dict[str, None]()
    opened: list[str] = []
    for signal in signals:
        now = signal.window_start + signal.window_seconds
        closed = life.advance(now)
        assert not [alert for alert in closed if alert.state is AlertState.OPEN]
        alert = life.take(report_signal(signal), now)
        if alert is not None and alert.id not in ids:
            ids[alert.id] = None
            opened.append(alert.id)
    assert opened == ["0"]


def test_client_errors_are_told_where_several_get_them_and_no_abuse_kinds(scene: Scene) -> None:
    assert scene.run(4, failing={1: 0.9}, status=404) == []
    assert scene.run(4, failing={1: 0.9}, status=422, who=[2]) == []
    signals = scene.run(4, failing={1: 0.9}, status=422)
    assert {signal.measure for signal in signals} == {HealthMeasure.CLIENT_ERRORS}
    assert "several callers" in report_signal(signals[0]).why


def test_one_caller_whose_requests_all_fail_is_no_failing_endpoint(scene: Scene) -> None:
    assert scene.run(6, failing={1: 1.0}, who=[2]) == []


def test_slower_endpoint_is_told_by_five_minutes_with_durations(scene: Scene) -> None:
    assert scene.run(5) == []
    signals = scene.run(12, slower={0: 4.0})
    first = signals[0]
    assert (first.kind, first.measure, first.window_seconds) == (AlertKind.LATENCY, HealthMeasure.LATENCY, 300)
    assert 50_000 < first.observed < 90_000 and 18_000 < first.expected < 22_000
    report = report_signal(first)
    assert report.title == "GET /things0/{things0_id} of shop:8000 takes far longer than usual"
    assert "ms was expected" in report.why


def test_service_that_slows_down_is_one_alert_and_errors_of_it_join(scene: Scene) -> None:
    every = range(ROUTES)
    signals = scene.run(15, slower=dict.fromkeys(every, 4.0), failing=dict.fromkeys(every, 0.5))
    assert {signal.kind for signal in signals} == {AlertKind.ERRORS, AlertKind.LATENCY}
    assert len({signal.endpoint_id for signal in signals}) == 1
    assert len(open_alerts(signals)) == 1


def test_release_that_made_it_slower_is_usual_after_some_hours(scene: Scene) -> None:
    signals = scene.run(24 * 60, slower={0: 3.0})
    assert signals
    assert max(signal.window_start for signal in signals) < LATER + 12 * 3_600


def test_drift_one_slow_caller_and_few_calls_are_not_told(scene: Scene) -> None:
    for n in range(40):
        assert scene.run(5, slower={0: 1.02**n}) == []
    assert scene.run(20, slower={1: 4.0}, who=[2]) == []
    assert scene.run(20, slower={1: 4.0}, calls=1, who=[1, 2]) == []


def test_what_a_person_expects_is_told_no_more(scene: Scene) -> None:
    signals = scene.run(7, slower={0: 4.0}, failing={0: 0.5})
    assert signals
    for kind in (AlertKind.ERRORS, AlertKind.LATENCY):
        assert scene.engine.expect(kind, signals[0].endpoint_id, "", 0.0)
    scene.run(6, slower={0: 4.0}, failing={0: 0.5})
    assert scene.run(20, slower={0: 4.0}, failing={0: 0.5}) == []


def test_state_of_before_is_read_and_errors_are_learnt_anew(scene: Scene) -> None:
    parts = {name: state for name, state in scene.engine.dump().items() if not name.startswith("health.")}
    scene.engine = Engine()
    scene.engine.load(parts)
    assert scene.run(20) == []
    assert scene.run(3, failing={1: 0.5})


def test_caller_who_joins_a_failing_service_does_not_take_its_alert_over(scene: Scene) -> None:
    life = Lifecycle(new_id=iter("abcdefgh").__next__)
    signal = scene.run(4, failing={1: 0.5})[-1]
    life.take(report_signal(signal), LATER)
    abuse = report_signal(signal)
    life.take(replace(abuse, kind=AlertKind.VOLUME_PAIR, consumer="principal:1"), LATER + 1)
    assert [alert.kind for alert in life.open_alerts] == [AlertKind.ERRORS, AlertKind.VOLUME_PAIR]
