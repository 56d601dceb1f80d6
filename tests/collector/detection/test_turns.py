"""A service that is read in turns: its endpoints are read in part, and the rest is estimated without path and caller.
Nothing fails, and nothing falls."""

import numpy as np
import pytest

from collector.alerting.alert import AlertSignal, HealthSignal
from collector.core.kinds import NOT_READ
from collector.detection.engine import Engine
from collector.detection.framework.rows import FLAG_ENCRYPTED, FLAG_ESTIMATED, FLAG_OTHER
from tests.collector.detection.stream import START, Row, make_batch

TURNS = range(420, 480)  # Minutes in which the service is read in part.
OTHER = 77


def run(share: int, *, stops: bool = False) -> list[AlertSignal | HealthSignal]:
    """Nine hours of two endpoints with ten callers each; one call in `share` is read in turns. `stops`: with the turns
    the calls stop too."""
    engine, random = Engine(), np.random.default_rng(share)
    signals = []
    for minute in range(540):
        at = START + 60 * minute
        rows, estimated = [], 0
        for route in (0, 1):
            calls = 100 if stops and minute in TURNS else int(random.poisson(6_000))
            read = calls // share if minute in TURNS else calls
            estimated += calls - read
            rows += [
                Row(route=route, consumer=who, window=at, length=60, calls=read // 10, flags=FLAG_ENCRYPTED)
                for who in range(1, 11)
            ]
        if estimated:
            flags = FLAG_ENCRYPTED | FLAG_ESTIMATED | FLAG_OTHER
            rows.append(Row(route=OTHER, window=at, length=60, calls=estimated, status=NOT_READ, flags=flags))
        signals += engine.feed(make_batch(rows), at + 61)
    return [one for one in signals if isinstance(one, AlertSignal | HealthSignal)]


@pytest.mark.parametrize("share", [2, 6, 15])
def test_turns_are_no_outage_and_no_errors(share: int) -> None:
    assert run(share) == []


def test_a_fall_within_turns_is_seen() -> None:
    signals = [one for one in run(4, stops=True) if isinstance(one, AlertSignal)]
    assert signals and signals[0].loss_ratio == pytest.approx(0.75, abs=0.05)
