"""Alerts on their way to the responder: one whose client is not stored yet is taken again until it is."""

import threading

from collector.alerting.alert import Alert
from collector.response.alert_actions import PATIENCE_SECONDS, AlertActions
from tests.collector.api.fakes import make_alert


class Taker:
    """Knows a client after some questions."""

    def __init__(self, unknown: int) -> None:
        self._unknown = unknown
        self.taken: list[str] = []
        self.is_done = threading.Event()

    def take_alert(self, alert: Alert) -> bool:
        self.taken.append(alert.id)
        if self.taken.count(alert.id) > self._unknown:
            self.is_done.set()
            return True
        return False


def test_an_alert_before_its_calls_are_stored_is_answered() -> None:
    taker = Taker(unknown=2)
    answers = AlertActions(taker.take_alert)
    answers.start()
    answers.take(make_alert("x1"))
    assert taker.is_done.wait(60)
    answers.stop()
    assert taker.taken == ["x1"] * 3 and answers.dropped_count == 0


def test_it_is_given_up_after_a_while() -> None:
    now = [0.0]
    answers = AlertActions(Taker(unknown=1_000).take_alert, monotonic=lambda: now[0])
    answers._take(make_alert("x1"), PATIENCE_SECONDS)
    answers._take_again()
    assert (len(answers._again), answers.dropped_count) == (1, 0)
    now[0] = PATIENCE_SECONDS
    answers._take_again()
    assert (len(answers._again), answers.dropped_count) == (0, 1)
