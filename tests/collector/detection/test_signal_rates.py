"""Rates in titles and sentences of volume alerts: of the time that has passed, at each second of a window."""

import re
from collections.abc import Iterator

import pytest

from collector.alerting.alert import AlertKind, AlertSignal, Basis, Direction
from collector.alerting.wording import report_signal
from collector.core.rates import RATE_SECONDS_MIN
from collector.detection.checkpoint import Checkpoint
from collector.detection.engine import Engine
from collector.log.base import Position
from tests.collector.detection.states import decode_state, encode_state
from tests.collector.detection.stream import START, Row, make_batch

RATE = 10
BEGIN = START + 100  # A window of 5 minutes.
SCRAPER = 99
_RATES = re.compile(r"([\d.,]+) calls/s")


def make_engine() -> Engine:
    """One that has seen two quiet clients for four hours."""
    engine = Engine()
    for time in range(BEGIN - 4 * 3_600, BEGIN, 60):
        engine.feed(make_batch([Row(route=1, consumer=one, window=time, calls=6) for one in (1, 2)]), time + 11)
    return engine


def scrape(engine: Engine, begin: int, seconds: int, *, step: int = 1) -> Iterator[tuple[int, AlertSignal]]:
    """Signals of a scraper whose sensor tells of each `step` of seconds when it is over."""
    for second in range(begin, begin + seconds, step):
        first, window = second * RATE, second // 10 * 10
        taken = sorted((number + 1) * 2_654_435_761 % 2**61 for number in range(first, first + RATE * step))
        row = Row(route=1, consumer=SCRAPER, window=window, calls=RATE * step, objects=tuple(taken))
        for signal in engine.feed(make_batch([row]), second + step):
            if isinstance(signal, AlertSignal) and signal.consumer.endswith(f"{SCRAPER:x}"):
                yield second + step, signal


def test_every_rate_of_a_scraper_is_its_own_at_each_second() -> None:
    """Also in the hour in the midst of which it began."""
    elapsed: dict[int, set[int]] = {}
    for now, signal in scrape(make_engine(), BEGIN, 1_000):
        report = report_signal(signal)
        observed = report.why.partition(", where ")[0]
        rates = [float(text.replace(",", "")) for text in _RATES.findall(f"{report.title} {observed}")]
        assert all(9 <= rate <= 11 for rate in rates), (now - BEGIN, report.title, report.why)
        assert 9 <= report.observed_rate <= 11 and report.measure == report.observed_rate
        assert len(rates) == (0 if signal.seconds < RATE_SECONDS_MIN else 1), report.why
        elapsed.setdefault(signal.window_seconds, set()).add(signal.elapsed_seconds)
    assert set(elapsed) == {10, 300, 3_600}
    assert all(len(seconds - {0}) >= 3 for seconds in elapsed.values()), "windows are judged while they are open"


def test_a_rate_is_of_the_time_since_the_first_call_of_the_window() -> None:
    """Also where the detectors started anew since, and where the window has ended."""
    engine, told = make_engine(), list[AlertSignal]()
    for second in range(BEGIN + 200, BEGIN + 330, 10):
        told += [signal for _, signal in scrape(engine, second, 10, step=10) if signal.window_seconds == 300]
        again = Engine()
        decode_state(encode_state(engine, Checkpoint(position=Position(1, 1), next_signal=1)), again)
        engine = again
    assert {one.window_start for one in told} == {BEGIN}
    assert {round(one.observed_rate) for one in told} == {RATE}


def make_signal(elapsed: int, *, window_seconds: int = 300) -> AlertSignal:
    return AlertSignal(
        kind=AlertKind.VOLUME_PAIR,
        direction=Direction.ABOVE,
        endpoint_id="e",
        endpoint_label="GET /orders/{order_id}",
        route_ids=(1,),
        consumer="address:192.0.2.7",
        window_start=BEGIN,
        window_seconds=window_seconds,
        calls=RATE * elapsed,
        expected_rate=0.5,
        threshold_rate=2.0,
        score=0.9,
        excess=1.0,
        basis=Basis.PEERS,
        novel_objects=0,
        peers=5,
        loss_ratio=0.0,
        elapsed_seconds=elapsed if elapsed < window_seconds else 0,
    )


@pytest.mark.parametrize("window_seconds", [10, 300])
def test_words_of_each_second_of_a_window(window_seconds: int) -> None:
    for elapsed in range(1, window_seconds + 1):
        report = report_signal(make_signal(elapsed, window_seconds=window_seconds))
        assert ("calls/s)" in report.why) == (elapsed >= RATE_SECONDS_MIN)
        assert report.title == "address:192.0.2.7 calls GET /orders/{order_id} far more than its other callers do"
        assert report.observed_rate == 10.0
    whole = report_signal(make_signal(window_seconds, window_seconds=window_seconds))
    assert " s of the " not in whole.why


def test_the_first_seconds_are_said_as_calls_with_what_the_whole_window_allows() -> None:
    assert report_signal(make_signal(2)).why == (
        "address:192.0.2.7 made 20 calls in 2 s of the 5 min from 22:15:00 UTC, where 150 were expected in all of it "
        "and 600 is the limit, compared with what the endpoint's other consumers do."
    )
    assert report_signal(make_signal(160)).why == (
        "address:192.0.2.7 made 1,600 calls in 160 s of the 5 min from 22:15:00 UTC (10.0 calls/s), where "
        "over all of it 30.0 calls/min was expected and 2.0 calls/s is the limit, compared with what the "
        "endpoint's other consumers do."
    )
