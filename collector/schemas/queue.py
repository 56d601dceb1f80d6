"""States of schemas on their way into the store: the newest of each key, until the next flush took them."""

from collections.abc import Sequence
from threading import Lock
from typing import Any, Final, Protocol

from collector.ingest.schemas import SchemaRecord

# Waiting for the store, from all sensors: some 200 MB at worst. A sensor tells each state again within ten minutes.
QUEUE_LIMIT: Final = 20_000


class Writer(Protocol):
    """The writing half of `collector.store.base.Store`."""

    def insert_records(self, table: str, records: Sequence[Any]) -> None:
        """Append records; raises StoreError."""
        ...


class SchemaQueue:
    """Thread-safe: the event loop adds, housekeeping flushes."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._waiting: dict[tuple[object, ...], SchemaRecord] = {}
        self.dropped = 0

    def add(self, records: Sequence[SchemaRecord]) -> None:
        """Keep the newest state of each key."""
        with self._lock:
            for record in records:
                known = self._waiting.get(record.key)
                if known is None and len(self._waiting) >= QUEUE_LIMIT:
                    self.dropped += 1
                elif known is None or known.version < record.version:
                    self._waiting[record.key] = record

    def flush(self, writer: Writer) -> None:
        """Write what waits. Blocks. Raises StoreError, and then it waits on."""
        with self._lock:
            taken, self._waiting = self._waiting, {}
        try:
            writer.insert_records("schemas", list(taken.values()))
        except Exception:
            self.add(list(taken.values()))
            raise
