"""Sends entries of the audit log to one notifier, in their order and in batches.

The log itself is the outbox: the state keeps up to which number the receiver has it. So no entry is kept twice, an
erasure reaches those that wait, and none is lost while the receiver is away. A batch is noted before it is sent. One
that was taken just before a kill is sent again as the same batch, with the same key.

written = delivered + filtered + failed + lost + those that wait, since the notifier got `audit`.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Final

from sqlalchemy import select

from collector.alerting.notifiers.delivery import DeliveryOutcome
from collector.storage.state.store import StateStore, insert_missing, upsert
from collector.storage.state.tables.notifications import AUDIT_FEEDS
from collector.trust.audit import AuditLine, AuditLog
from common.figures import Figure, list_figures, total

LOOK_SECONDS: Final = 5.0  # Between two looks for entries, which any collector may write.
BATCH_ENTRIES_MAX: Final = 100
BATCH_CHARACTERS_MAX: Final = 200_000  # One entry has 15,000 at most.
RETRY_SECONDS: Final = (1.0, 4.0, 16.0, 60.0)  # The last one again and again.
REFUSED_MAX: Final = 60  # Attempts, in an hour, after which a batch that is refused is skipped.

SendEntries = Callable[[Sequence[AuditLine], str], DeliveryOutcome]


@dataclass(slots=True)
class FeedCounts:
    """Of entries of the audit log."""

    audit_delivered: int = total("Entries of the audit log that a notifier's receiver took.")
    audit_filtered: int = total("Entries of the audit log that the notifier's `audit` does not include.")
    audit_failed: int = total("Entries of the audit log that the receiver refused for an hour.")
    audit_lost: int = total("Entries of the audit log that were deleted for their age before the receiver took them.")
    audit_retried: int = total("Attempts to deliver entries of the audit log that were repeated.")


@dataclass(frozen=True, slots=True)
class _Place:
    """`number`: up to which the receiver has the log; `until`: the last of the batch under way, 0 without one."""

    number: int
    until: int


class AuditFeed:
    """For one thread. Methods raise StoreError."""

    def __init__(self, state: StateStore, notifier: str, actions: Sequence[str], clock: Callable[[], float]) -> None:
        """`actions`: patterns with `*` and `?`. `clock` gives unix seconds."""
        self._state, self._notifier, self._actions, self._clock = state, notifier, tuple(actions), clock
        self._audit = AuditLog(state)
        self._due_at, self._attempts = 0.0, 0
        self.counts = FeedCounts()

    def deliver_next(self, send: SendEntries) -> float:
        """Send one batch, if there is one. Gives the seconds until there may be something to do again."""
        now = self._clock()
        if 0 < self._due_at - now <= RETRY_SECONDS[-1]:  # Else the clock went back.
            return self._due_at - now
        place = self._find_place()
        lines = self._audit.list_after(place.number, until=place.until, limit=BATCH_ENTRIES_MAX)
        if not lines:
            return self._skip(place)
        batch = _cut(lines)
        chosen = [line for line in batch if any(fnmatchcase(line.action, one) for one in self._actions)]
        last = batch[-1].number
        if chosen:
            if not place.until:
                self._keep(_Place(place.number, last))
            outcome = send(chosen, f"audit-{batch[0].number}-{last}")
            if outcome is not DeliveryOutcome.DELIVERED and not self._is_given_up(outcome):
                pause = RETRY_SECONDS[min(self._attempts, len(RETRY_SECONDS)) - 1]
                self._due_at = now + pause
                self.counts.audit_retried += 1
                return pause
            self.counts.audit_delivered += len(chosen) if outcome is DeliveryOutcome.DELIVERED else 0
            self.counts.audit_failed += len(chosen) if outcome is not DeliveryOutcome.DELIVERED else 0
        self._attempts, self._due_at = 0, 0.0
        self.counts.audit_filtered += len(batch) - len(chosen)
        self.counts.audit_lost += batch[0].number - place.number - 1
        self._keep(_Place(last, 0))
        return 0.0

    def count(self) -> dict[str, int]:
        """What became of entries, by name."""
        return asdict(self.counts)

    def list_figures(self, notifier: str) -> Sequence[Figure]:
        """For metrics."""
        return tuple(list_figures(self.counts, "notifier_", notifier=notifier))

    def _is_given_up(self, outcome: DeliveryOutcome) -> bool:
        self._attempts += 1
        return outcome is DeliveryOutcome.REFUSED and self._attempts >= REFUSED_MAX

    def _skip(self, place: _Place) -> float:
        """Nothing is there after a place: the batch under way was deleted, or the state is of a backup from before."""
        if place.until:
            self.counts.audit_lost += place.until - place.number
            self._keep(_Place(place.until, 0))
        elif (last := self._audit.find_last()) < place.number:
            self._keep(_Place(last, 0))
        return LOOK_SECONDS

    def _find_place(self) -> _Place:
        """A notifier that is new gets what is written from now on."""
        own = select(AUDIT_FEEDS).where(AUDIT_FEEDS.c.notifier == self._notifier)
        with self._state.read() as connection:
            row = connection.execute(own).first()
        if row is not None:
            return _Place(row.number, row.until)
        place = _Place(self._audit.find_last(), 0)
        with self._state.write() as connection:
            insert_missing(connection, AUDIT_FEEDS, [self._write(place)])
        return place

    def _keep(self, place: _Place) -> None:
        with self._state.write() as connection:
            upsert(connection, AUDIT_FEEDS, [self._write(place)])

    def _write(self, place: _Place) -> dict[str, object]:
        return {"notifier": self._notifier, "number": place.number, "until": place.until}


def _cut(lines: Sequence[AuditLine]) -> list[AuditLine]:
    """The first ones, one at least, as far as a batch has room."""
    batch: list[AuditLine] = []
    room = BATCH_CHARACTERS_MAX
    for line in lines:
        room -= sum(len(text) for text in (line.by, line.target, line.why, line.before, line.after))
        if batch and room < 0:
            break
        batch.append(line)
    return batch
