"""Delivers alerts to each receiver: a bounded queue, a thread, retries with backoff, no repetition, and a rate.

seen = delivered + failed + dropped + limited + repeated + waiting. `try_notifier` sends one test alert at once and
gives its outcome.
"""

import logging
import queue
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Generic, TypeVar

from collector.alerting.alert import Alert, AlertKind, AlertState, Confidence, Severity
from common.bounded import BoundedDict
from common.figures import total
from common.retry import Backoff
from common.token_bucket import TokenBucket

ItemT = TypeVar("ItemT")
QUEUE_MAX = 1_000  # Alerts waiting; a full queue drops the newest and counts it.
ATTEMPTS_MAX = 5
FIRST_RETRY_SECONDS = 1.0
STOP_SECONDS = 10.0
RATE_A_MINUTE = 60  # Of alerts below high severity, a notifier; further ones are counted as limited.
_REMEMBERED_MAX = 10_000

logger = logging.getLogger(__name__)


class DeliveryOutcome(StrEnum):
    """What became of one attempt."""

    DELIVERED = "delivered"
    UNANSWERED = "unanswered"  # Worth another attempt.
    REFUSED = "refused"  # It would be refused again.


class Sender(ABC):
    """Sends one alert to one receiver. EDGE: the network."""

    name: str  # Of the notifier, as in the API: `webhook`, `syslog`.
    target: str  # For people: scheme, host and port, never a path, a query or a credential.
    takes_updates = False  # Else it gets only what changes an alert's state, severity, kind or confidence.

    @abstractmethod
    def send(self, alert: Alert) -> DeliveryOutcome:
        """One attempt; never raises for what the network does."""

    def erase(self, pattern: re.Pattern[str]) -> int:
        """Blank what the pattern names in a file that it keeps; how often it was there. Raises OSError."""
        return 0

    def close(self) -> None:  # noqa: B027
        """Close the connection, where one stays open."""


class DeliveryQueue(Generic[ItemT]):
    """A bounded queue and the thread that empties it."""

    def __init__(self, name: str, items_max: int, deliver: Callable[[ItemT], object]) -> None:
        """`deliver` takes one item; what it raises is logged."""
        self._name, self._deliver = name, deliver
        self._queue: queue.Queue[ItemT] = queue.Queue(items_max)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.stopping = threading.Event()

    @property
    def waiting(self) -> int:
        """Items in the queue."""
        return self._queue.qsize()

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, item: ItemT) -> bool:
        """Whether there was room; never blocks."""
        try:
            self._queue.put_nowait(item)
        except queue.Full:
            return False
        return True

    def remove(self, is_gone: Callable[[ItemT], bool]) -> int:
        """Take items back; how many they were."""
        with self._queue.mutex:
            gone = [item for item in self._queue.queue if is_gone(item)]
            for item in gone:
                self._queue.queue.remove(item)
        return len(gone)

    def attempt(self, send: Callable[[], DeliveryOutcome]) -> tuple[DeliveryOutcome | None, int]:
        """The outcome of the last attempt, up to five with 1, 4, 16 and 60 s between them, and how many were repeated.
        None: the queue was stopped meanwhile."""
        backoff = Backoff(first_seconds=FIRST_RETRY_SECONDS, longest_seconds=60.0, factor=4.0)
        outcome = send()
        for repeated in range(1, ATTEMPTS_MAX):
            if outcome is not DeliveryOutcome.UNANSWERED:
                return outcome, repeated - 1
            if self.stopping.wait(backoff.next_seconds()):
                return None, repeated
            outcome = send()
        return outcome, ATTEMPTS_MAX - 1

    def stop(self) -> None:
        """End the thread after the attempt under way; what waits is not sent."""
        self.stopping.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)

    def _run(self) -> None:
        while not self.stopping.is_set():
            try:
                item = self._queue.get(timeout=0.5)
            except queue.Empty:
                continue
            try:
                self._deliver(item)
            except Exception:
                logger.exception("%s: a delivery failed; the next one is tried", self._name)


@dataclass(slots=True)
class DeliveryCounts:
    """seen = delivered + failed + dropped + limited + repeated + waiting."""

    seen: int = total("Alerts that were opened, changed or closed, given to a notifier.")
    delivered: int = total("Alerts that a notifier's receiver took.")
    failed: int = total("Alerts given up: the receiver refused them, or did not answer the last attempt.")
    dropped: int = total("Alerts that found the notifier's queue full.")
    limited: int = total("Alerts beyond the most that a notifier sends a minute.")
    repeated: int = total("Alerts that were not sent again because nothing in them was new.")
    retried: int = total("Attempts to deliver an alert that were repeated.")


class Notifier:
    """A receiver with its queue."""

    def __init__(self, sender: Sender, *, name: str = "", clock: Callable[[], float]) -> None:
        """`name`: that of the sender where it is empty. `clock` gives unix seconds."""
        self._sender = sender
        self._queue = DeliveryQueue(name or sender.name, QUEUE_MAX, self.deliver)
        self._sent: BoundedDict[str, tuple[object, ...]] = BoundedDict(_REMEMBERED_MAX)
        self._room = TokenBucket(RATE_A_MINUTE / 60, RATE_A_MINUTE, clock)
        self._sending = threading.Lock()  # A test from outside, and the thread.
        self.name, self.target = name or sender.name, sender.target
        self.counts = DeliveryCounts()
        self.last_outcome: DeliveryOutcome | None = None

    @property
    def waiting(self) -> int:
        """Alerts in the queue."""
        return self._queue.waiting

    def start(self) -> None:
        """Begin to deliver."""
        self._queue.start()

    def notify(self, alert: Alert) -> None:
        """Queue one alert; never blocks. One thread calls it."""
        self.counts.seen += 1
        if self._is_repeated(alert):
            self.counts.repeated += 1
            return
        is_limited = self._is_limited(alert)
        if not is_limited and self._queue.put(alert):
            return
        self.counts.limited += is_limited
        self.counts.dropped += not is_limited
        self._sent.pop(alert.id, None)  # The next change of the alert is sent when there is room.

    def stop(self) -> None:
        """End after the attempt under way; what waits is not sent."""
        self._queue.stop()
        self._sender.close()

    def erase(self, pattern: re.Pattern[str]) -> int:
        """Send nothing that waits and names a consumer by this pattern, and blank what a file of ours holds of it; how
        many that were. Raises OSError."""
        count = self._queue.remove(lambda alert: is_named(alert, pattern))
        self.counts.dropped += count
        return count + self._sender.erase(pattern)

    def deliver(self, alert: Alert) -> bool:
        """Send one alert with retries; whether it arrived."""
        outcome, repeated = self._queue.attempt(lambda: self.attempt(alert))
        is_delivered = outcome is DeliveryOutcome.DELIVERED
        self.counts.retried += repeated
        self.counts.delivered += is_delivered
        self.counts.failed += not is_delivered
        return is_delivered

    def attempt(self, alert: Alert) -> DeliveryOutcome:
        """One attempt, now: what a person's test does too. Where a sender cannot even ask (a host that is no name) it
        is refused."""
        with self._sending:
            try:
                self.last_outcome = self._sender.send(alert)
            except Exception as error:
                # Its type alone: the text may hold an address with a token.
                logger.error("notifier %s cannot send: %s", self.name, type(error).__name__)
                self.last_outcome = DeliveryOutcome.REFUSED
            return self.last_outcome

    def _is_repeated(self, alert: Alert) -> bool:
        """Whether nothing in it is new, for senders that take changes only."""
        if self._sender.takes_updates:
            return False
        news = (alert.state, alert.severity, alert.kind, alert.confidence)
        if self._sent.get(alert.id) == news:
            return True
        self._sent.renew(alert.id, news)
        return False

    def _is_limited(self, alert: Alert) -> bool:
        """Whether it is past the rate; what is grave, and the end of anything, never is."""
        if alert.severity is Severity.HIGH or alert.state is AlertState.CLOSED:
            return False
        return not self._room.take()


def is_named(alert: Alert, pattern: re.Pattern[str]) -> bool:
    """Whether an alert names a consumer by this pattern."""
    return any(pattern.search(text) for text in (alert.consumer, alert.title, alert.why))


MEANINGS: Final = {
    DeliveryOutcome.DELIVERED: "It took the test alert.",
    DeliveryOutcome.UNANSWERED: "It did not answer as it should; see that it runs and that the collector can reach it.",
    DeliveryOutcome.REFUSED: "It refused the test alert; see its address and what it expects.",
}


def try_notifier(notifiers: Sequence[Notifier], name: str, *, by: str, now: float) -> DeliveryOutcome | None:
    """Send one of them a test alert, once; None where there is none of this name. Waits for the answer, 5 s at the
    most. `now` in unix seconds."""
    found = next((notifier for notifier in notifiers if notifier.name == name), None)
    return found.attempt(make_test_alert(by, now)) if found is not None else None


def make_test_alert(by: str, now: float) -> Alert:
    """A closed alert of low severity, so that it stays open nowhere."""
    return Alert(
        id=f"test-{int(now)}",
        kind=AlertKind.SENSOR_SILENT,
        state=AlertState.CLOSED,
        severity=Severity.LOW,
        title="Test of a notifier: nothing happened",
        why=f"{by} asked for it.",
        node="test",
        opened_at=now,
        updated_at=now,
        closed_at=now,
        window_start=now,
        window_end=now,
        score=0.0,
        confidence=Confidence.LOW,
    )
