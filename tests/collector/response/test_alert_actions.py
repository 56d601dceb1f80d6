"""Alerts on their way to the responder: all that wait go together, and one that could not be answered goes again."""

import threading
from collections.abc import Sequence

import pytest

from collector.alerting.alert import Alert
from collector.response.alert_actions import AGAIN_SECONDS, PATIENCE_SECONDS, AlertActions
from tests.collector.api.fakes import make_alert


class Taker:
    """Knows a client after some questions."""

    def __init__(self, unknown: int, expected: int = 1) -> None:
        self._unknown, self._expected = unknown, expected
        self.taken: list[list[str]] = []
        self.is_done = threading.Event()

    def take_alerts(self, alerts: Sequence[Alert]) -> list[Alert]:
        self.taken.append([alert.id for alert in alerts])
        count = sum(map(len, self.taken))
        if count >= self._expected:
            self.is_done.set()
        return list(alerts) if len(self.taken) <= self._unknown else []


def test_alerts_that_wait_go_together_the_newest_state_of_each() -> None:
    taker = Taker(unknown=0, expected=2)
    actions = AlertActions(taker.take_alerts, lambda: [make_alert("left")])
    for number in (1, 2, 1):
        actions.take(make_alert(f"x{number}"))
    actions.start()
    assert taker.is_done.wait(60)
    actions.stop()
    assert taker.taken == [["x1", "x2", "left"]] and actions.dropped_count == 0


def test_an_alert_before_its_calls_are_stored_is_answered() -> None:
    taker = Taker(unknown=2, expected=3)
    actions = AlertActions(taker.take_alerts)
    actions.start()
    actions.take(make_alert("x1"))
    assert taker.is_done.wait(60)
    actions.stop()
    assert taker.taken == [["x1"]] * 3 and actions.dropped_count == 0


def test_it_is_given_up_after_a_while(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    taker = Taker(unknown=1_000)
    actions = AlertActions(taker.take_alerts, monotonic=lambda: now[0])
    actions._answer({"x1": make_alert("x1")})
    actions._answer({})  # Too soon.
    assert taker.taken == [["x1"]]
    now[0] = AGAIN_SECONDS
    actions._answer({})
    assert (len(actions._again), actions.dropped_count) == (1, 0)
    now[0] = PATIENCE_SECONDS
    actions._answer({})
    assert (len(actions._again), actions.dropped_count) == (0, 1)
    assert "Nothing is proposed for alert x1" in caplog.text and len(taker.taken) == 3
