"""The outbox of one notifier: notifications that wait in the state, and what its receiver was notified of.

A notification is written in the transaction that keeps its alert, and deleted after the receiver took it. So none is
lost when the collector is killed, and another collector goes on with them. One that was taken just before a kill is
sent again. Its key is the same then, and a receiver can drop it.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from sqlalchemy import Connection, case, delete, func, insert, select, update

from collector.alerting.alert import Alert, LabelledAlert
from collector.storage.state.store import StateStore, upsert
from collector.storage.state.tables.notifications import NOTIFICATIONS, NOTIFIED

HELD_SECONDS_MAX: Final = 7 * 86_400.0  # Quiet hours are shorter than a week.


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """One notification; `attempts` have failed. It is sent at `due_at` (unix seconds) or later. `is_held`: quiet hours
    of its receiver are not over."""

    number: int
    alert: Alert
    attempts: int
    due_at: float
    is_held: bool

    @property
    def key(self) -> str:
        """The same in each attempt, and of no other notification."""
        return f"{self.alert.id}-{self.number}"


class Outbox:
    """Methods raise StoreError. Those with a connection are part of its transaction."""

    def __init__(self, state: StateStore, notifier: str) -> None:
        self._state = state
        self._notifier = notifier

    def add(
        self,
        connection: Connection,
        alert: Alert,
        news: str,
        now: float,
        *,
        held_until: float = 0.0,
        is_first: bool = False,
    ) -> None:
        """Let a notification wait; none is sent before `held_until`. `is_first`: the receiver knows nothing of it."""
        row = {
            "notifier": self._notifier,
            "content": msgspec.msgpack.encode(alert),
            "attempts": 0,
            "due_at": max(now, held_until),
            "alert_id": alert.id,
            "held_until": held_until,
            "is_first": is_first,
        }
        connection.execute(insert(NOTIFICATIONS), row)
        upsert(connection, NOTIFIED, [{"alert_id": alert.id, "notifier": self._notifier, "news": news}])

    def withdraw(self, connection: Connection, alert: Alert, now: float) -> list[bool]:
        """Take back those of an alert that are held; of each whether it was the first."""
        own = (NOTIFICATIONS.c.notifier == self._notifier) & (NOTIFICATIONS.c.held_until > now)
        held = own & (NOTIFICATIONS.c.alert_id == alert.id)
        found = [row.is_first for row in connection.execute(select(NOTIFICATIONS.c.is_first).where(held))]
        if found:
            connection.execute(delete(NOTIFICATIONS).where(held))
        return found

    def note(self, connection: Connection, alert: Alert, news: str | None) -> None:
        """The newest that the receiver has of an alert; None: it never heard of it."""
        own = (NOTIFIED.c.alert_id == alert.id) & (NOTIFIED.c.notifier == self._notifier)
        if news is None:
            connection.execute(delete(NOTIFIED).where(own))
        else:
            upsert(connection, NOTIFIED, [{"alert_id": alert.id, "notifier": self._notifier, "news": news}])

    def list_news(self, connection: Connection, alerts: Sequence[Alert]) -> dict[str, str]:
        """What was the newest of each of these, by id."""
        own = NOTIFIED.c.alert_id.in_([alert.id for alert in alerts]) & (NOTIFIED.c.notifier == self._notifier)
        rows = connection.execute(select(NOTIFIED.c.alert_id, NOTIFIED.c.news).where(own))
        return {row.alert_id: row.news for row in rows}

    def count_in(self, connection: Connection) -> int:
        """How many wait."""
        own = select(func.count()).where(NOTIFICATIONS.c.notifier == self._notifier)
        return int(connection.execute(own).scalar_one())

    def count(self) -> int:
        """How many wait."""
        with self._state.read() as connection:
            return self.count_in(connection)

    def find_oldest(self, now: float) -> Waiting | None:
        """The one that is to be sent next; those that are held come after all others, by the end of that. What this
        version cannot read is deleted."""
        own = select(NOTIFICATIONS).where(NOTIFICATIONS.c.notifier == self._notifier)
        is_held = NOTIFICATIONS.c.held_until.between(now, now + HELD_SECONDS_MAX)  # Else the clock went back.
        held = case((is_held, NOTIFICATIONS.c.held_until), else_=0.0)
        oldest = own.order_by(held, NOTIFICATIONS.c.number).limit(1)
        while True:
            with self._state.read() as connection:
                row = connection.execute(oldest).first()
            if row is None:
                return None
            alert = _read(row.content)
            if alert is not None:
                return Waiting(
                    number=row.number,
                    alert=alert,
                    attempts=row.attempts,
                    due_at=row.due_at,
                    is_held=now < row.held_until <= now + HELD_SECONDS_MAX,
                )
            self.remove(row.number)

    def postpone(self, number: int, attempts: int, due_at: float) -> None:
        """An attempt failed."""
        one = update(NOTIFICATIONS).where(NOTIFICATIONS.c.number == number)
        with self._state.write() as connection:
            connection.execute(one.values(attempts=attempts, due_at=due_at))

    def remove(self, number: int) -> None:
        """The receiver has it, or never will."""
        with self._state.write() as connection:
            connection.execute(delete(NOTIFICATIONS).where(NOTIFICATIONS.c.number == number))

    def erase(self, pattern: re.Pattern[str]) -> int:
        """Delete those that name a consumer by this pattern, or cannot be read; how many."""
        own = select(NOTIFICATIONS.c.number, NOTIFICATIONS.c.content)
        with self._state.write() as connection:
            rows = connection.execute(own.where(NOTIFICATIONS.c.notifier == self._notifier)).all()
            gone = [row.number for row in rows if (alert := _read(row.content)) is None or is_named(alert, pattern)]
            connection.execute(delete(NOTIFICATIONS).where(NOTIFICATIONS.c.number.in_(gone)))
        return len(gone)


def is_named(alert: Alert, pattern: re.Pattern[str]) -> bool:
    """Whether an alert names a consumer by this pattern."""
    return any(pattern.search(text) for text in (alert.consumer, alert.title, alert.why))


def _read(content: bytes) -> Alert | None:
    try:
        return msgspec.msgpack.decode(content, type=LabelledAlert)
    except (ValueError, msgspec.MsgspecError):
        return None
