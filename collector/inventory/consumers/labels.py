"""Labels that people give to consumers, because a keyed hash says nothing to them: a name, a note, who and when.

All are held in memory, for lists, alerts and notifications name many consumers. A name that is empty takes the label
away. An erasure of the consumer deletes it (collector/erasure.py).
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Final

from sqlalchemy import Connection, delete, func, select

from collector.core.errors import ConflictError
from collector.inventory.consumers.consumer import ConsumerLabel, ConsumerName
from collector.storage.records import read_record
from collector.storage.state.cache import StateCache
from collector.storage.state.erasing import blank_texts
from collector.storage.state.imports import OldRows
from collector.storage.state.store import StateStore, lock_table, read_row, upsert
from collector.storage.state.tables.inventory import CONSUMER_LABELS
from collector.trust.audit import add_entries, make_entry

LABELS_MAX: Final = 10_000
LABEL_CHARACTERS_MAX: Final = 80


class LabelBook:
    """Thread-safe. Methods raise StoreError."""

    def __init__(self, state: StateStore, clock: Callable[[], float]) -> None:
        self._state = state
        self._clock = clock
        self._labels = StateCache(state, (CONSUMER_LABELS.name,), _read_labels)

    def find(self, consumer: str) -> ConsumerLabel | None:
        """The label of a consumer, `kind:value`."""
        return self._labels.recall().get(consumer)

    def find_name(self, consumer: str) -> str:
        """The same as a text for people; empty where there is none."""
        label = self.find(consumer) if consumer else None
        return label.name if label is not None else ""

    def find_consumers(self, words: str) -> list[str]:
        """Those whose label has these words in it, in capitals or not."""
        wanted = words.lower()
        return [label.consumer for label in self._labels.recall().values() if wanted in label.name.lower()]

    def list_labels(self) -> Sequence[ConsumerLabel]:
        """All, by name."""
        return sorted(self._labels.recall().values(), key=lambda label: (label.name.lower(), label.consumer))

    def put(self, consumer: ConsumerName, *, name: str, note: str, by: str) -> ConsumerLabel:
        """Give a label in place of the one before; an empty name takes it away. Raises ConflictError where there are
        too many."""
        label = ConsumerLabel(
            consumer=consumer.id, name=name, note=note if name else "", changed_by=by, changed_at=self._clock()
        )
        with self._state.write() as connection:
            lock_table(connection, CONSUMER_LABELS)
            old = connection.execute(select(CONSUMER_LABELS).where(CONSUMER_LABELS.c.consumer == consumer.id)).first()
            others = select(func.count()).where(CONSUMER_LABELS.c.consumer != consumer.id)
            if name and connection.execute(others).scalar_one() >= LABELS_MAX:
                raise ConflictError(f"There are {LABELS_MAX:,} labels, which is the most; take one away first.")
            if name:
                upsert(connection, CONSUMER_LABELS, [asdict(label)])
            else:
                connection.execute(delete(CONSUMER_LABELS).where(CONSUMER_LABELS.c.consumer == consumer.id))
            entry = make_entry(
                label.changed_at,
                by,
                "label.set" if name else "label.removed",
                consumer.id,
                before=None if old is None else {"name": old.name, "note": old.note},
                after={"name": name, "note": note} if name else None,
            )
            add_entries(connection, [entry])
        self._labels.look()
        return label

    def erase(self, consumer: str, pattern: re.Pattern[str]) -> dict[str, int]:
        """Delete the label of a consumer, and blank its name by the pattern in notes; rows by table."""
        with self._state.write() as connection:
            gone = connection.execute(delete(CONSUMER_LABELS).where(CONSUMER_LABELS.c.consumer == consumer)).rowcount
            blanked = blank_texts(connection, CONSUMER_LABELS, "note", pattern)
        self._labels.look()
        return {CONSUMER_LABELS.name: gone + blanked}


def import_labels(connection: Connection, rows: OldRows) -> None:
    """Labels that an earlier version kept in ClickHouse. Raises StoreError."""
    for labels in rows.read("consumer_labels", lambda row: read_record(ConsumerLabel, row)):
        upsert(connection, CONSUMER_LABELS, [asdict(label) for label in labels if label.name])


def _read_labels(connection: Connection) -> Mapping[str, ConsumerLabel]:
    return {row.consumer: read_row(ConsumerLabel, row) for row in connection.execute(select(CONSUMER_LABELS))}
