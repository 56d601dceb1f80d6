"""A service that is called more, or less, over all its endpoints is told against its own past; calm days are not."""

import numpy as np
import pytest
from msgspec.structs import replace as replace_signal

from collector.alerting.alert import Alert, AlertKind, AlertSignal, Direction, Severity, Signal
from collector.alerting.lifecycle import Lifecycle
from collector.alerting.wording import report_signal
from collector.detection.volume.service_volume import GRACE_SECONDS
from tests.collector.detection.scene import EngineScene
from tests.collector.detection.stream import START, Row, make_batch

ENDPOINTS, CALLS = 24, 15  # Of each endpoint in five minutes, on average over the day.
STEP, DAY = 300, 86_400
HISTORY_DAYS = 7
BEGIN = START // DAY * DAY


class Scene(EngineScene):
    """24 endpoints of one service, day and night; `state` is of a week."""

    def __init__(self, state: bytes = b"", endpoints: int = ENDPOINTS) -> None:
        super().__init__(state)
        self.time, self.endpoints = BEGIN + HISTORY_DAYS * DAY if state else BEGIN, endpoints
        self.random = np.random.default_rng(5)

    def run(self, steps: int, *, factor: float = 1.0, only: tuple[int, ...] = ()) -> list[Signal]:
        """All endpoints, or `only` some, are called `factor` times as often."""
        signals: list[Signal] = []
        for _ in range(steps):
            rhythm = 1 + 0.5 * np.sin(2 * np.pi * (self.time % DAY) / DAY)
            rows = []
            for route in range(self.endpoints):
                own = factor if not only or route in only else 1.0
                calls = int(self.random.poisson(CALLS * rhythm * own * self.random.lognormal(0, 0.1)))
                if calls:
                    rows.append(Row(route=route, window=self.time, length=STEP, calls=calls))
            fed = self.engine.feed(make_batch(rows), self.time + STEP) if rows else self.engine.advance(self.time)
            signals += fed
            self.time += STEP
        return signals


@pytest.fixture(scope="module")
def history() -> tuple[bytes, list[Signal]]:
    scene = Scene()
    signals = scene.run(HISTORY_DAYS * DAY // STEP)
    return scene.save(), signals


@pytest.fixture
def scene(history: tuple[bytes, list[Signal]]) -> Scene:
    return Scene(history[0])


def of_service(signals: list[Signal]) -> list[AlertSignal]:
    return [s for s in signals if isinstance(s, AlertSignal) and s.kind is AlertKind.VOLUME_SERVICE]


def tell(signals: list[Signal]) -> list[Alert]:
    """All alerts of the signals, as they were at last."""
    ids = iter(range(100))
    life, alerts = Lifecycle(new_id=lambda: str(next(ids))), dict[str, Alert]()
    for signal in signals:
        report = report_signal(signal)
        for alert in (*life.advance(report.window_end), life.take(report, report.window_end)):
            if alert is not None:
                alerts[alert.id] = alert
    return list(alerts.values())


def test_calm_days_tell_nothing(history: tuple[bytes, list[Signal]], scene: Scene) -> None:
    assert of_service(history[1]) == []
    assert of_service(scene.run(3 * DAY // STEP)) == []


@pytest.mark.parametrize("hours", [0, 8, 19])
def test_service_whose_endpoints_all_rise_by_little_is_told(scene: Scene, hours: int) -> None:
    scene.run(hours * 3_600 // STEP)
    begin = scene.time
    signals = scene.run(4, factor=1.6)
    assert {signal.kind for signal in signals} == {AlertKind.VOLUME_SERVICE}  # No endpoint by itself.
    first = of_service(signals)[0]
    assert (first.direction, first.service, first.endpoints) == (Direction.ABOVE, "shop:8000", ENDPOINTS)
    assert begin <= first.window_start <= begin + STEP and first.window_seconds == STEP
    assert 1.2 * first.expected_rate < first.threshold_rate < first.observed_rate
    assert len(first.route_ids) == ENDPOINTS
    report = report_signal(first)
    assert (report.severity, report.risk) == (Severity.LOW, "API4:2023")
    assert report.title == "shop:8000 is called far more than usual"
    assert f"shop:8000 ({ENDPOINTS} endpoints together) had {first.calls:,} calls in the 5 min" in report.why


def test_service_that_goes_silent_is_told_and_joins_what_is_told_of_its_endpoints(scene: Scene) -> None:
    begin = scene.time
    signals = scene.run(12, factor=0.0)
    first = of_service(signals)[0]
    assert (first.direction, first.calls, first.window_start) == (Direction.BELOW, 0, begin)
    report = report_signal(first)
    assert (report.severity, report.risk) == (Severity.MEDIUM, "")
    assert report.title == "shop:8000 is called far less than usual"
    (alone,) = tell(list(of_service(signals)))
    assert (alone.kind, alone.severity) == (AlertKind.VOLUME_SERVICE, Severity.MEDIUM)
    alerts = tell(signals)
    together = [alert for alert in alerts if "shop:8000 is called far less" in f"{alert.title} {alert.why}"]
    assert len(together) == 1


def test_service_that_falls_far_is_told(scene: Scene) -> None:
    first = of_service(scene.run(4, factor=0.3))[0]
    assert first.direction is Direction.BELOW
    assert first.observed_rate < first.threshold_rate < first.expected_rate


def test_endpoint_that_rises_alone_is_no_service(scene: Scene) -> None:
    signals = scene.run(6, factor=25, only=(3,))
    assert {signal.kind for signal in signals} == {AlertKind.VOLUME_ENDPOINT}


@pytest.mark.parametrize("is_first", [True, False])
def test_alert_of_an_endpoint_and_of_its_service_are_one(scene: Scene, is_first: bool) -> None:
    service = of_service(scene.run(4, factor=1.6))[0]
    own = replace_signal(service, kind=AlertKind.VOLUME_ENDPOINT, endpoint_id="other", route_ids=service.route_ids[5:6])
    (alert,) = tell([own, service] if is_first else [service, own])
    assert alert.kind is (AlertKind.VOLUME_ENDPOINT if is_first else AlertKind.VOLUME_SERVICE)
    assert "Also: " in alert.why
    elsewhere = replace_signal(own, route_ids=(9_999,))
    assert len(tell([elsewhere, service])) == 2
    below = replace_signal(own, direction=Direction.BELOW)
    assert len(tell([below, service])) == 2


def test_endpoints_that_are_told_after_their_service_join_its_alert(scene: Scene) -> None:
    signals = scene.run(6, factor=8.0)
    own = {signal.endpoint_id for signal in signals if signal.kind is AlertKind.VOLUME_ENDPOINT}
    assert len(own) > 3
    (alert,) = tell(signals)
    assert alert.kind is AlertKind.VOLUME_SERVICE


def test_level_that_stays_is_one_alert_and_then_ordinary(scene: Scene) -> None:
    begin = scene.time
    signals = of_service(scene.run(4 * DAY // STEP, factor=1.6))
    (alert,) = tell(list(signals))
    assert alert.kind is AlertKind.VOLUME_SERVICE
    assert max(signal.window_start for signal in signals) < begin + 12 * 3_600


def test_first_days_and_a_service_of_one_endpoint_tell_nothing() -> None:
    young = Scene()
    assert of_service(young.run((GRACE_SECONDS - 7_200) // STEP)) == []
    assert of_service(young.run(10, factor=0.0)) == []
    single = Scene(endpoints=1)
    single.run(3 * DAY // STEP)
    assert single.run(12, factor=0.0) and len(single.engine.services.table) == 0


def test_restart_in_between_changes_nothing(history: tuple[bytes, list[Signal]], scene: Scene) -> None:
    other = Scene(history[0])
    before = [scene.run(2, factor=1.6), other.run(2, factor=1.6)]
    other.restart()
    after = [scene.run(6, factor=1.6), other.run(6, factor=1.6)]
    assert before[0] == before[1] and after[0] == after[1]
    assert len(tell([*before[1], *after[1]])) == 1


def test_what_a_person_expects_is_told_no_more(scene: Scene) -> None:
    first = of_service(scene.run(4, factor=2.0))[0]
    assert not scene.engine.expect(AlertKind.VOLUME_SERVICE, "unknown", "", 1.0)
    assert scene.engine.expect(AlertKind.VOLUME_SERVICE, first.endpoint_id, "", first.observed_rate)
    scene.run(1, factor=2.0)
    assert of_service(scene.run(10, factor=2.0)) == []
