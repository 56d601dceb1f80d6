"""Hands alerts to the responder in a thread of its own, because a check queries the store and alerting must not wait.
All that wait are handed over together: a storm of alerts is some questions, and not some for each.

Alerts are made of calls that may not be in the store yet. If the client of an alert is unknown there, the alert is
taken again until it is known, or until `PATIENCE_SECONDS` are over.
"""

import contextlib
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
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

    def __init__(
        self,
        act: Callable[[Sequence[Alert]], Sequence[Alert]],
        list_left: Callable[[], Sequence[Alert]] = tuple,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`act` is `Responder.take_alerts`: it gives the alerts that it is to get again, and never raises. `list_left`
        gives alerts that an earlier process may have left unanswered."""
        self._act, self._list_left = act, list_left
        self._monotonic = monotonic
        self._looked_at = float("-inf")  # At those that are to be taken again.
        self._waiting: queue.Queue[Alert | None] = queue.Queue(WAITING_MAX)
        self._again: dict[str, tuple[Alert, float]] = {}  # By id: the newest, and until when.
        self._thread = threading.Thread(target=self._run, name="alert-actions", daemon=True)
        self.dropped_count = 0

    def start(self) -> None:
        """Begin. Raises StoreError."""
        for alert in self._list_left():
            self.take(alert)
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
        while True:
            alerts = self._collect()
            if alerts is None:
                return
            self._answer(alerts)

    def _collect(self) -> dict[str, Alert] | None:
        """All that wait, the newest state of each; once one is there, or it is time to take some again. None: the
        end."""
        found: dict[str, Alert] = {}
        with contextlib.suppress(queue.Empty):
            alert = self._waiting.get(timeout=AGAIN_SECONDS if self._again else None)
            while alert is not None:
                found[alert.id] = alert
                alert = self._waiting.get_nowait()
            if not found:
                return None
            self._waiting.put(None)  # The end, after these.
        return found

    def _answer(self, alerts: dict[str, Alert]) -> None:
        """These, and those that are to be taken again."""
        now = self._monotonic()
        waiting: dict[str, tuple[Alert, float]] = {}
        if now - self._looked_at >= AGAIN_SECONDS:
            self._looked_at, waiting, self._again = now, self._again, {}
        taken = {alert_id: alert for alert_id, (alert, _) in waiting.items()} | alerts
        for alert in self._act(tuple(taken.values())) if taken else ():
            _, until = waiting.get(alert.id, (alert, now + PATIENCE_SECONDS))
            if now >= until or len(self._again) >= WAITING_MAX:
                self.dropped_count += 1
                logger.warning(
                    "Nothing is proposed for alert %s: it had no answer in %.0f s", alert.id, PATIENCE_SECONDS
                )
            else:
                self._again[alert.id] = alert, until
