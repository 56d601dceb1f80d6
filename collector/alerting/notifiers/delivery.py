"""Delivers alerts to each receiver: a bounded outbox in the state, a thread, retries, no repetition, and a rate.

seen = delivered + failed + filtered + quiet + dropped + limited + repeated + waiting, over all starts and collectors.
`try_notifier` sends one test alert at once and gives its outcome.
"""

import logging
import queue
import re
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Final, Generic, Protocol, TypeVar

from sqlalchemy import Connection

from collector.alerting.alert import Alert, AlertKind, AlertState, Confidence, Severity
from collector.alerting.notifiers.outbox import Outbox
from collector.alerting.notifiers.selection import Selection
from collector.storage.base import StoreError
from collector.trust.audit import AuditLine, AuditLog, make_entry
from common.figures import Figure, total
from common.retry import Backoff
from common.token_bucket import TokenBucket

ItemT = TypeVar("ItemT")
QUEUE_MAX = 1_000  # Alerts waiting; a full queue drops the newest and counts it.
HELD_ROOM: Final = QUEUE_MAX // 2  # Of it, what quiet hours leave to alerts that are sent at once.
ATTEMPTS_MAX = 5
FIRST_RETRY_SECONDS = 1.0
STOP_SECONDS = 10.0
RATE_A_MINUTE = 60  # Of alerts below high severity, a notifier; further ones are counted as limited.
RETRY_SECONDS: Final = (1.0, 4.0, 16.0, 60.0)  # Between attempts at a notification.
STORE_AGAIN_SECONDS = 5.0

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
    takes_openings = False  # It makes a ticket of each alert: one message, when it opens.

    @abstractmethod
    def send(self, alert: Alert) -> DeliveryOutcome:
        """One attempt; never raises for what the network does."""

    def send_keyed(self, alert: Alert, key: str) -> DeliveryOutcome:
        """As `send`, with a key that is the same in each attempt, for receivers that take one."""
        return self.send(alert)

    def send_entries(self, entries: Sequence[AuditLine], key: str) -> DeliveryOutcome:
        """One attempt at entries of the audit log, as `send_keyed`."""
        return DeliveryOutcome.REFUSED

    def erase(self, pattern: re.Pattern[str]) -> int:
        """Blank what the pattern names in a file that it keeps; how often it was there. Raises OSError."""
        return 0

    def close(self) -> None:  # noqa: B027
        """Close the connection, where one stays open."""


class Feed(Protocol):
    """Entries of the audit log for one notifier (collector/alerting/notifiers/audit_feed.py)."""

    def deliver_next(self, send: Callable[[Sequence[AuditLine], str], DeliveryOutcome]) -> float:
        """One batch; the seconds until there may be another one. Raises StoreError."""

    def count(self) -> dict[str, int]:
        """What became of entries, by name."""

    def list_figures(self, notifier: str) -> Sequence[Figure]:
        """For metrics."""


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
    """seen = delivered + failed + filtered + quiet + dropped + limited + repeated + waiting."""

    seen: int = total("Alerts that were opened, changed or closed, given to a notifier.")
    delivered: int = total("Alerts that a notifier's receiver took.")
    failed: int = total("Alerts given up: the receiver refused them, or did not answer the last attempt.")
    filtered: int = total("Alerts that the notifier's severity, kinds, services or namespaces do not include.")
    quiet: int = total("Alerts of quiet hours that were over or replaced before these ended.")
    dropped: int = total("Alerts that found the notifier's queue full.")
    limited: int = total("Alerts beyond the most that a notifier sends a minute.")
    repeated: int = total("Alerts that were not sent again because nothing in them was new.")
    retried: int = total("Attempts to deliver an alert that were repeated.")


class Notifier:
    """A receiver with its outbox, and the thread that empties it in order."""

    def __init__(
        self,
        sender: Sender,
        outbox: Outbox,
        *,
        name: str = "",
        selection: Selection | None = None,
        feed: Feed | None = None,
        clock: Callable[[], float],
    ) -> None:
        """`name`: that of the sender where it is empty. `selection`: which alerts it gets and when; all at once where
        there is none. `feed`: of the audit log, where it gets entries of it. `clock` gives unix seconds."""
        self._sender = sender
        self._selection = selection or Selection()
        self._outbox = outbox
        self._clock = clock
        self._room = TokenBucket(RATE_A_MINUTE / 60, RATE_A_MINUTE, clock)
        self._sending = threading.Lock()  # A test from outside, and the thread.
        self._added = DeliveryCounts()  # In a transaction that is not kept yet.
        self._has_more = threading.Event()
        self._is_stopping = False
        self.name, self.target = name or sender.name, sender.target
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self.counts = DeliveryCounts()
        self.feed = feed
        self.last_outcome: DeliveryOutcome | None = None

    @property
    def waiting(self) -> int:
        """Alerts in the outbox. Raises StoreError."""
        return self._outbox.count()

    def start(self) -> None:
        """Begin to deliver, with what waits from before."""
        self._thread.start()

    def add(self, connection: Connection, alerts: Sequence[Alert]) -> None:
        """Let alerts wait, in the transaction that keeps them; `wake` is called once it is kept. One thread calls both.
        Raises StoreError."""
        added = self._added = DeliveryCounts()  # Those of a transaction that failed were not.
        known = self._outbox.list_news(connection, alerts)
        room = QUEUE_MAX - self._outbox.count_in(connection)
        now = self._clock()
        for alert in alerts:
            added.seen += 1
            news = "|".join((alert.state, alert.severity, alert.kind, alert.confidence))
            is_known = alert.id in known
            if not is_known and not self._selection.has(alert):
                added.filtered += 1
                continue
            if not self._sender.takes_updates and not self._sender.takes_openings and known.get(alert.id) == news:
                added.repeated += 1
                continue
            withdrawn = self._outbox.withdraw(connection, alert, now)
            added.quiet += len(withdrawn)
            room += len(withdrawn)
            is_first = any(withdrawn) or not is_known
            is_closed = alert.state is AlertState.CLOSED
            if any(withdrawn) and is_closed:
                added.quiet += 1
                self._outbox.note(connection, alert, None)
                known.pop(alert.id, None)
                continue
            if self._sender.takes_openings and (is_closed or not is_first):
                added.repeated += 1
                continue
            hold = self._selection.find_hold(alert, now)
            # What takes the place of one that was held had its turn.
            is_limited = not withdrawn and self._is_limited(alert)
            if not is_limited and room > (HELD_ROOM if hold else 0):
                room -= 1
                known[alert.id] = news
                self._outbox.add(connection, alert, news, now, held_until=hold, is_first=is_first)
                continue
            added.limited += is_limited
            added.dropped += not is_limited
            # The next change of the alert is sent when there is room, and so is its end where it was heard of.
            self._outbox.note(connection, alert, None if is_first else "")
            if is_first:
                known.pop(alert.id, None)
            else:
                known[alert.id] = ""

    def wake(self) -> None:
        """What was added is kept: deliver it."""
        for one in fields(DeliveryCounts):
            setattr(self.counts, one.name, getattr(self.counts, one.name) + getattr(self._added, one.name))
        self._added = DeliveryCounts()
        self._has_more.set()

    def stop(self) -> None:
        """End after the attempt under way; what waits is delivered after the next start."""
        self._is_stopping = True
        self._has_more.set()
        if self._thread.is_alive():
            self._thread.join(STOP_SECONDS)
        self._sender.close()

    def erase(self, pattern: re.Pattern[str]) -> int:
        """Send nothing that waits and names a consumer by this pattern, and blank what a file of ours holds of it; how
        many that were. Raises OSError, StoreError."""
        count = self._outbox.erase(pattern)
        self.counts.dropped += count
        return count + self._sender.erase(pattern)

    def deliver_next(self) -> float | None:
        """One attempt at the oldest that waits, if it is due. Gives the seconds until there is something to do again;
        None where nothing waits. Raises StoreError."""
        now = self._clock()
        waiting = self._outbox.find_oldest(now)
        if waiting is None:
            return None
        # Quiet hours may be others by now.
        if waiting.is_held and self._selection.find_hold(waiting.alert, now):
            return waiting.due_at - now
        if 0 < waiting.due_at - now <= RETRY_SECONDS[-1]:  # Else the clock went back.
            return waiting.due_at - now
        outcome = self.attempt(waiting.alert, waiting.key)
        attempts = waiting.attempts + 1
        if outcome is DeliveryOutcome.UNANSWERED and attempts < ATTEMPTS_MAX:
            self._outbox.postpone(waiting.number, attempts, now + RETRY_SECONDS[attempts - 1])
            self.counts.retried += 1
            return RETRY_SECONDS[attempts - 1]
        self._outbox.remove(waiting.number)
        self.counts.delivered += outcome is DeliveryOutcome.DELIVERED
        self.counts.failed += outcome is not DeliveryOutcome.DELIVERED
        return 0.0

    def attempt(self, alert: Alert, key: str = "") -> DeliveryOutcome:
        """One attempt, now: what a person's test does too. Where a sender cannot even ask (a host that is no name) it
        is refused."""
        with self._sending:
            self.last_outcome = self._try(lambda: self._sender.send_keyed(alert, key))
            return self.last_outcome

    def send_entries(self, entries: Sequence[AuditLine], key: str) -> DeliveryOutcome:
        """The same of entries of the audit log."""
        with self._sending:
            return self._try(lambda: self._sender.send_entries(entries, key))

    def _try(self, send: Callable[[], DeliveryOutcome]) -> DeliveryOutcome:
        try:
            return send()
        except Exception as error:
            # Its type alone: the text may hold an address with a token.
            logger.error("notifier %s cannot send: %s", self.name, type(error).__name__)
            return DeliveryOutcome.REFUSED

    def _run(self) -> None:
        while not self._is_stopping:
            self._has_more.clear()
            try:
                pause = self.deliver_next()
                if self.feed is not None:
                    look = self.feed.deliver_next(self.send_entries)
                    pause = look if pause is None else min(pause, look)
            except StoreError as error:
                logger.warning("%s: what waits cannot be read or deleted (%s)", self.name, error)
                pause = STORE_AGAIN_SECONDS
            if not self._is_stopping:
                self._has_more.wait(pause)

    def _is_limited(self, alert: Alert) -> bool:
        """Whether it is past the rate; what is grave, and the end of anything, never is."""
        if alert.severity is Severity.HIGH or alert.state is AlertState.CLOSED:
            return False
        return not self._room.take()


MEANINGS: Final = {
    DeliveryOutcome.DELIVERED: "It took the test alert.",
    DeliveryOutcome.UNANSWERED: "It did not answer as it should; see that it runs and that the collector can reach it.",
    DeliveryOutcome.REFUSED: "It refused the test alert; see its address and what it expects.",
}


def try_notifier(
    notifiers: Sequence[Notifier], name: str, *, by: str, now: float, audit: AuditLog
) -> DeliveryOutcome | None:
    """Send one of them a test alert, once; None where there is none of this name. Waits for the answer, 5 s at the
    most. `now` in unix seconds."""
    found = next((notifier for notifier in notifiers if notifier.name == name), None)
    if found is None:
        return None
    outcome = found.attempt(make_test_alert(by, now))
    audit.add(make_entry(now, by, "notifier.tested", name, after={"outcome": outcome}))
    return outcome


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
