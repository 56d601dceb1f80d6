"""No daily budget holds a scraper back, whatever its severity: the first demo of a day and the next ones."""

import itertools

import msgspec
import numpy as np
import pytest

from collector.alerting.alert import AlertKind, Confidence, Severity
from collector.alerting.lifecycle import Lifecycle
from collector.alerting.wording import grade_signal, report_signal
from collector.core.kinds import Sensitivity
from collector.detection.engine import Engine
from tests.collector.detection.stream import START, Demo, Row, make_batch

SCRAPER = f"principal:{99:016x}"


@pytest.mark.parametrize("seed", range(3))
def test_first_signal_of_the_scraper_is_sure_and_medium(seed: int) -> None:
    signals = [signal for _, signal in Demo(seed=seed).run(Engine()) if signal.consumer == SCRAPER]
    report = report_signal(signals[0])
    assert report.is_sure and (report.severity, report.confidence) == (Severity.MEDIUM, Confidence.LOW)


def test_a_notice_of_a_scraper_is_sent_from_normal_on_and_an_accusation_at_every_level() -> None:
    signal = next(signal for _, signal in Demo(seed=1).run(Engine()) if signal.consumer == SCRAPER)
    assert signal.is_notice and report_signal(signal).quietest is Sensitivity.NORMAL
    accusation = report_signal(msgspec.structs.replace(signal, is_notice=False))
    assert (accusation.severity, accusation.quietest) == (Severity.HIGH, Sensitivity.QUIET)


def test_scraper_is_told_at_every_demo_of_a_day_whatever_the_budget() -> None:
    """Five demos, two hours apart, on one engine, each with a scraper of its own credential as a new start gives it."""
    engine, ids = Engine(), itertools.count(1)
    lifecycle = Lifecycle(new_id=lambda: f"a{next(ids)}", find_budget=lambda: 0.0)
    opened: list[tuple[str, str]] = []
    random = np.random.default_rng(3)
    for demo in range(5):
        begin = START + 7_200 * demo
        for window in range(6):
            at = begin + 10 * window
            rows = [
                Row(
                    route=route, consumer=client, window=at, calls=int(random.poisson(8)) + 1, objects=(client * 7 + 1,)
                )
                for route in (0, 1)
                for client in range(1, 5)
            ]
            if window >= 2:
                objects = tuple(random.integers(1, 2**60, 100).tolist())
                rows.append(Row(route=1, consumer=90 + demo, window=at, calls=100, objects=objects))
            for signal in engine.feed(make_batch(rows), at + 11):
                alert = lifecycle.take(report_signal(signal), at + 11)
                if alert is not None:
                    opened.append((alert.consumer, alert.severity))
        lifecycle.advance(begin + 7_100)
    scrapers = {f"principal:{90 + demo:016x}" for demo in range(5)}
    # They call from inside, of which too little is known for two days.
    assert {(who, severity) for who, severity in opened if who} == {(who, Severity.MEDIUM) for who in scrapers}


def test_drop_to_zero_of_a_busy_endpoint_is_at_most_low() -> None:
    engine, random = Engine(), np.random.default_rng(5)
    signals = []
    for minute in range(420):
        at = START + 60 * minute
        calls = int(random.poisson(300)) if minute < 390 else 0
        rows = [
            Row(route=0, consumer=1 + i, window=at, calls=max(calls // 10, 1), length=60)
            for i in range(10 if calls else 0)
        ]
        signals += engine.feed(make_batch([*rows, Row(route=5, consumer=50, window=at, calls=1, length=60)]), at + 61)
    drops = [signal for signal in signals if signal.window_start >= START + 60 * 390]
    assert {signal.kind for signal in drops} == {AlertKind.VOLUME_ENDPOINT}
    assert {grade_signal(signal) for signal in drops} == {Severity.LOW}
