"""Hands alerts to the responder in a thread of its own, because a preview queries the store and alerting must not wait.

Alerts are made of calls that may not be in the store yet. If the client of an alert is unknown there, the alert is
taken again until it is known, or until `PATIENCE_SECONDS` are over.
"""

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from typing import Final

from collector.alerting.alert import Alert
from collector.core.feature import Feature, Role
from common.figures import make_totals

logger = logging.getLogger(__name__)

WAITING_MAX: Final = 1_000
AGAIN_SECONDS: Final = 0.25
PATIENCE_SECONDS: Final = 30.0


class AlertActions:
    """A bounded queue and its thread. An alert that finds no room is counted, and proposes nothing."""

    def __init__(self, act: Callable[[Alert], bool], monotonic: Callable[[], float] = time.monotonic) -> None:
        """`act` is `Responder.take_alert`: where it gives False it gets the alert again. It never raises."""
        self._act = act
        self._monotonic = monotonic
        self._waiting: queue.Queue[Alert | None] = queue.Queue(WAITING_MAX)
        self._again: dict[str, tuple[Alert, float]] = {}  # By id: the newest, and until when.
        self._thread = threading.Thread(target=self._run, name="alert-actions", daemon=True)
        self.dropped_count = 0

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after what waits."""
        self._waiting.put(None)
        self._thread.join()

    @property
    def feature(self) -> Feature:
        """What the collector starts and shows."""
        text = "Alerts for which no block was proposed: too many, or too late."
        return Feature(
            name="answers to alerts",
            role=Role.JOBS,
            start=self.start,
            stop=self.stop,
            figures=lambda: make_totals([("alert_answers_dropped", text, self.dropped_count)]),
        )

    def take(self, alert: Alert) -> None:
        """Does not block."""
        try:
            self._waiting.put_nowait(alert)
        except queue.Full:
            self.dropped_count += 1

    def _run(self) -> None:
        looked = self._monotonic()
        while True:
            with contextlib.suppress(queue.Empty):
                alert = self._waiting.get(timeout=AGAIN_SECONDS if self._again else None)
                if alert is None:
                    return
                _, until = self._again.pop(alert.id, (alert, self._monotonic() + PATIENCE_SECONDS))
                self._take(alert, until)
            if self._again and self._monotonic() - looked >= AGAIN_SECONDS:
                looked = self._monotonic()
                self._take_again()

    def _take(self, alert: Alert, until: float) -> None:
        if self._act(alert):
            return
        if self._monotonic() >= until or len(self._again) >= WAITING_MAX:
            self.dropped_count += 1
            logger.warning("Nothing is proposed for alert %s: its client's calls are not in the store", alert.id)
            return
        self._again[alert.id] = alert, until

    def _take_again(self) -> None:
        waiting, self._again = self._again, {}
        for alert, until in waiting.values():
            self._take(alert, until)
