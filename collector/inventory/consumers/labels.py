"""Labels that people give to consumers, because a keyed hash says nothing to them: a name, a note, who and when.

All are held in memory, for lists, alerts and notifications name many consumers. A name that is empty takes the label
away; the row goes with the next merge. An erasure of the consumer deletes it at once (collector/erasure.py).
"""

import threading
from collections.abc import Callable, Sequence
from typing import Final

from collector.core.errors import ConflictError
from collector.inventory.consumers.consumer import ConsumerLabel, ConsumerName
from collector.storage.base import Store
from collector.storage.records import select_records

LABELS_MAX: Final = 10_000
LABEL_CHARACTERS_MAX: Final = 80
_STEP_SECONDS: Final = 1e-5  # Between two versions of a row, at least.


class LabelBook:
    """Thread-safe. Methods raise StoreError where the labels were not read yet, and those that write."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()
        self._labels: dict[str, ConsumerLabel] | None = None

    def find(self, consumer: str) -> ConsumerLabel | None:
        """The label of a consumer, `kind:value`."""
        with self._lock:
            return self._read().get(consumer)

    def find_name(self, consumer: str) -> str:
        """The same as a text for people; empty where there is none."""
        label = self.find(consumer) if consumer else None
        return label.name if label is not None else ""

    def list_labels(self) -> Sequence[ConsumerLabel]:
        """All, by name."""
        with self._lock:
            return sorted(self._read().values(), key=lambda label: (label.name.lower(), label.consumer))

    def put(self, consumer: ConsumerName, *, name: str, note: str, by: str) -> ConsumerLabel:
        """Give a label in place of the one before; an empty name takes it away. Raises ConflictError where there are
        too many."""
        with self._lock:
            labels = self._read()
            known = labels.get(consumer.id)
            if known is None and name and len(labels) >= LABELS_MAX:
                raise ConflictError(f"There are {LABELS_MAX:,} labels, which is the most; take one away first.")
            changed_at = max(self._clock(), known.changed_at + _STEP_SECONDS if known is not None else 0.0)
            label = ConsumerLabel(
                consumer=consumer.id, name=name, note=note if name else "", changed_by=by, changed_at=changed_at
            )
            self._store.insert_records("consumer_labels", [label])
            labels.pop(consumer.id, None)
            if name:
                labels[consumer.id] = label
            return label

    def forget(self) -> None:
        """Read the table anew at the next question: somebody else changed it."""
        with self._lock:
            self._labels = None

    def _read(self) -> dict[str, ConsumerLabel]:
        if self._labels is None:
            rows = select_records(self._store, ConsumerLabel, "consumer_labels FINAL WHERE name != ''")
            self._labels = {row.consumer: row for row in rows}
        return self._labels
