"""The audit log: who stopped whom, when, why, and the result, in the state.

An entry is in the transaction of the decision that it records, and nothing of it changes. Only where a consumer is
erased its name is blanked. Entries go by age, and the oldest beyond `ENTRIES_MAX`.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Final

import msgspec
from sqlalchemy import Connection, delete, insert, select

from collector.core.feature import Feature, Job, Role
from collector.storage.state.erasing import blank_texts, find_mentions
from collector.storage.state.store import StateStore, read_row
from collector.storage.state.tables.response import AUDIT_ENTRIES
from common.figures import make_totals

ENTRIES_MAX: Final = 500_000  # Some 140 MB.
PRUNE_SECONDS: Final = 6 * 3_600.0  # Between two looks for entries that are too old.
_COLUMNS: Final = ("by", "target", "why")  # In which somebody may be named.
_ROWS: Final = 10_000  # In one statement.


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One decision. `time`: unix seconds."""

    time: float
    by: str
    action: str  # proposed, began, approved, rejected, lifted, expired, declined, ladder.
    block_id: str
    target: str
    why: str


class AuditLog:
    """Reads the log, and writes what is no decision on a block here. Methods raise StoreError."""

    def __init__(self, state: StateStore) -> None:
        self._state = state
        self._evicted_count = 0  # Entries that went because there were more than ENTRIES_MAX.

    def make_feature(self, clock: Callable[[], float], kept_days: int) -> Feature:
        """What the collector repeats and shows."""
        text = f"Entries of the audit log that were deleted because there were more than {ENTRIES_MAX:,}."
        return Feature(
            name="audit log",
            role=Role.JOBS,
            jobs=(Job(works=(lambda: self.prune(clock() - kept_days * 86_400),), seconds=PRUNE_SECONDS),),
            figures=lambda: make_totals([("audit_entries_evicted", text, self._evicted_count)]),
        )

    def add(self, entry: AuditEntry) -> None:
        """One more entry."""
        with self._state.write() as connection:
            add_entries(connection, [entry])

    def list_recent(self, limit: int) -> list[AuditEntry]:
        """The newest first."""
        newest = select(AUDIT_ENTRIES).order_by(AUDIT_ENTRIES.c.number.desc()).limit(limit)
        with self._state.read() as connection:
            return [read_row(AuditEntry, row) for row in connection.execute(newest)]

    def list_actions(self, action: str) -> set[tuple[str, str]]:
        """Of all entries with this action, the block and why."""
        entries = select(AUDIT_ENTRIES.c.block_id, AUDIT_ENTRIES.c.why).where(AUDIT_ENTRIES.c.action == action)
        with self._state.read() as connection:
            return {(row.block_id, row.why) for row in connection.execute(entries)}

    def prune(self, before: float) -> int:
        """Delete entries from before a unix time, and the oldest beyond what is kept at most. How many went by age."""
        newest = select(AUDIT_ENTRIES.c.number).order_by(AUDIT_ENTRIES.c.number.desc())
        with self._state.write() as connection:
            old = connection.execute(delete(AUDIT_ENTRIES).where(AUDIT_ENTRIES.c.time < before)).rowcount
            last = connection.execute(newest.offset(ENTRIES_MAX).limit(1)).scalar()
            if last is not None:
                beyond = connection.execute(delete(AUDIT_ENTRIES).where(AUDIT_ENTRIES.c.number <= last))
                self._evicted_count += beyond.rowcount
        return int(old)


def add_entries(connection: Connection, entries: Sequence[AuditEntry]) -> None:
    """Decisions of a transaction."""
    if entries:
        connection.execute(insert(AUDIT_ENTRIES), [asdict(entry) for entry in entries])


def erase_mentions(connection: Connection, pattern: re.Pattern[str]) -> int:
    """Blank a name that a pattern finds, in every entry; what was decided, when and by whom stays. How many entries
    that were."""
    named = find_mentions(connection, AUDIT_ENTRIES, _COLUMNS, pattern)
    for column in _COLUMNS if named else ():
        blank_texts(connection, AUDIT_ENTRIES, column, pattern)
    return len(named)


def import_audit(connection: Connection, content: bytes) -> int:
    """The lines of `audit.jsonl` of an earlier version, but for one that a crash cut. How many there were."""
    entries = []
    for line in content.splitlines():
        try:
            entries.append(msgspec.json.decode(line, type=AuditEntry))
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue
    for start in range(0, len(entries), _ROWS):
        add_entries(connection, entries[start : start + _ROWS])
    return len(entries)
