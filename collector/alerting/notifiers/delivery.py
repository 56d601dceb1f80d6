"""Delivers alerts, whatever carries them: a bounded queue, a thread, retries with backoff, no repetition, and a rate.

seen = delivered + failed + dropped + limited + repeated + waiting. `try_notifier` sends one test alert at once and
gives its outcome.
"""

import logging
import queue
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Protocol, runtime_checkable

from collector.alerting.alert import Alert, AlertKind, AlertState, Confidence, Severity
from common.bounded import BoundedDict
from common.figures import total
from common.retry import Backoff
from common.token_bucket import TokenBucket

QUEUE_MAX = 1_000  # Alerts waiting; a full queue drops the newest and counts it.
ATTEMPTS_MAX = 5
FIRST_RETRY_SECONDS = 1.0
STOP_SECONDS = 10.0
RATE_A_MINUTE = 60  # Of alerts below high severity, a notifier; further ones are counted as limited.
_REMEMBERED_MAX = 10_000

logger = logging.getLogger(__name__)


class Outcome(StrEnum):
    """What became of one attempt."""

    DELIVERED = "delivered"
    UNANSWERED = "unanswered"  # Worth another attempt.
    REFUSED = "refused"  # It would be refused again.


class Carrier(Protocol):
    """Takes one alert somewhere. EDGE: the network."""

    name: str  # `webhook`, `syslog`, `alertmanager`.
    target: str  # For people: scheme, host and port, never a path, a query or a credential.
    takes_updates: bool  # Else only what changes its state, severity or kind is worth telling.

    def send(self, alert: Alert) -> Outcome:
        """One attempt; never raises for what the network does."""
        ...

    def close(self) -> None:
        """Let the connection go."""
        ...


@runtime_checkable
class Keeping(Protocol):
    """A carrier that keeps what it took."""

    def erase(self, pattern: re.Pattern[str]) -> int:
        """Blank what the pattern names; how often it was there. Raises OSError."""
        ...


@dataclass(slots=True)
class DeliveryCounts:
    """See the module for what adds up."""

    seen: int = total("Alerts that were opened, changed or closed, given to a notifier.")
    delivered: int = total("Alerts that a notifier's receiver took.")
    failed: int = total("Alerts given up: the receiver refused them, or did not answer the last attempt.")
    dropped: int = total("Alerts that found the notifier's queue full.")
    limited: int = total("Alerts beyond the most that a notifier sends a minute.")
    repeated: int = total("Alerts that were not sent again because nothing in them was new.")
    retried: int = total("Attempts to deliver an alert that were repeated.")


def make_backoff() -> Backoff:
    """Of one delivery: 1, 4, 16 and 60 s before attempts 2 to 5."""
    return Backoff(first_seconds=FIRST_RETRY_SECONDS, longest_seconds=60.0, factor=4.0)


class Notifier:
    """A queue and the thread that empties it into a carrier."""

    def __init__(self, carrier: Carrier, *, clock: Callable[[], float]) -> None:
        """`clock` gives unix seconds."""
        self._carrier = carrier
        self._queue: queue.Queue[Alert | None] = queue.Queue(QUEUE_MAX)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=carrier.name, daemon=True)
        self._told: BoundedDict[str, tuple[object, ...]] = BoundedDict(_REMEMBERED_MAX)
        self._room = TokenBucket(RATE_A_MINUTE / 60, RATE_A_MINUTE, clock)
        self._sending = threading.Lock()  # A test from outside, and the thread.
        self.counts = DeliveryCounts()
        self.last_outcome: Outcome | None = None

    @property
    def name(self) -> str:
        """Of the carrier."""
        return self._carrier.name

    @property
    def target(self) -> str:
        """Where it sends, without anything secret."""
        return self._carrier.target

    @property
    def waiting(self) -> int:
        """Alerts in the queue."""
        return self._queue.qsize()

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def notify(self, alert: Alert) -> None:
        """Queue one alert; never blocks. One thread calls it."""
        self.counts.seen += 1
        if self._is_repeated(alert):
            self.counts.repeated += 1
            return
        if self._is_limited(alert):
            self.counts.limited += 1
            self._told.pop(alert.id, None)  # Nobody was told: what goes on is told when there is room.
            return
        try:
            self._queue.put_nowait(alert)
        except queue.Full:
            self.counts.dropped += 1
            self._told.pop(alert.id, None)

    def stop(self) -> None:
        """End the thread after the attempt under way; what waits is not sent."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)
        self._carrier.close()

    def erase(self, pattern: re.Pattern[str]) -> int:
        """Send nothing that waits and names a consumer by this pattern, and blank what a file of ours holds of it; how
        many that were. Raises OSError."""
        with self._queue.mutex:
            waiting = self._queue.queue
            gone = [alert for alert in waiting if alert is not None and is_named(alert, pattern)]
            for alert in gone:
                waiting.remove(alert)
        self.counts.dropped += len(gone)
        return len(gone) + (self._carrier.erase(pattern) if isinstance(self._carrier, Keeping) else 0)

    def deliver(self, alert: Alert) -> bool:
        """Send one alert with retries; whether it arrived."""
        backoff = make_backoff()
        for attempt in range(ATTEMPTS_MAX):
            if attempt:
                self.counts.retried += 1
                if self._stopping.wait(backoff.next_seconds()):
                    break
            outcome = self.attempt(alert)
            if outcome is Outcome.DELIVERED:
                self.counts.delivered += 1
                return True
            if outcome is Outcome.REFUSED:
                break
        self.counts.failed += 1
        return False

    def attempt(self, alert: Alert) -> Outcome:
        """One attempt, now: what a person's test does too. Where a carrier cannot even ask (a host that is no name) it
        is refused: the thread goes on."""
        with self._sending:
            try:
                self.last_outcome = self._carrier.send(alert)
            except Exception as error:
                # Its type alone: the text may hold an address with a token.
                logger.error("notifier %s cannot send: %s", self.name, type(error).__name__)
                self.last_outcome = Outcome.REFUSED
            return self.last_outcome

    def _is_repeated(self, alert: Alert) -> bool:
        """Whether this was told already, for carriers that want changes only."""
        if self._carrier.takes_updates:
            return False
        told = (alert.state, alert.severity, alert.kind, alert.confidence)
        if self._told.get(alert.id) == told:
            return True
        self._told.renew(alert.id, told)
        return False

    def _is_limited(self, alert: Alert) -> bool:
        """Whether it is past the rate; what is grave, and the end of anything, never is."""
        if alert.severity is Severity.HIGH or alert.state is AlertState.CLOSED:
            return False
        return not self._room.take()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                alert = self._queue.get(timeout=0.5)
            except queue.Empty:
                continue
            if alert is not None:
                self.deliver(alert)


def is_named(alert: Alert, pattern: re.Pattern[str]) -> bool:
    """Whether an alert names a consumer by this pattern."""
    return any(pattern.search(text) for text in (alert.consumer, alert.title, alert.why))


MEANINGS: Final = {
    Outcome.DELIVERED: "It took the test alert.",
    Outcome.UNANSWERED: "It did not answer as it should; see that it runs and may be reached from the collector.",
    Outcome.REFUSED: "It refused the test alert; see its address and what it expects.",
}


def try_notifier(notifiers: Sequence[Notifier], name: str, *, by: str, now: float) -> Outcome | None:
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
        endpoint_id="",
        route_ids=(),
        consumer="",
        node="test",
        opened_at=now,
        updated_at=now,
        closed_at=now,
        window_start=now,
        window_end=now,
        observed_rate=0.0,
        expected_rate=0.0,
        threshold_rate=0.0,
        score=0.0,
        calls=0,
        loss_ratio=0.0,
        confidence=Confidence.LOW,
    )
