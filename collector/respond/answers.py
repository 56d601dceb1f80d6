"""Alerts on their way to the responder, in a thread of their own: a preview asks the store, the desk must not wait."""

import queue
import threading
from typing import Final, Protocol

from collector.alerts.alert import Alert

WAITING_MAX: Final = 1_000


class AlertTaker(Protocol):
    """`collector.respond.responder.Responder`, or a fake."""

    def take_alert(self, alert: Alert) -> None:
        """Never raises."""
        ...


class Answers:
    """A bounded queue and its thread. What does not fit is counted: such an alert is told and proposes nothing."""

    def __init__(self, taker: AlertTaker) -> None:
        self._taker = taker
        self._waiting: queue.Queue[Alert | None] = queue.Queue(WAITING_MAX)
        self._thread = threading.Thread(target=self._run, name="answers", daemon=True)
        self.dropped_count = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after what waits."""
        self._waiting.put(None)
        self._thread.join()

    def take(self, alert: Alert) -> None:
        """Does not block."""
        try:
            self._waiting.put_nowait(alert)
        except queue.Full:
            self.dropped_count += 1

    def _run(self) -> None:
        while (alert := self._waiting.get()) is not None:
            self._taker.take_alert(alert)
