"""One consumer out of a collector that runs: each place in turn, in the order in which its name travels.

The log first, so that nobody reads the name anew; then the detectors, whose signals of before are taken meanwhile; then
the alerts in memory, what waits to be told, the blocks; the tables last, when nothing writes of it any more. What the
consumer does afterwards is known again. Thread-safe; one erasure at a time.
"""

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from collector.alerts.desk import AlertDesk
from collector.anomaly.process import DetectorProcess
from collector.erasure.log import erase_from_log
from collector.erasure.mention import find_mention
from collector.erasure.tables import TableEraser, check_consumer, find_credentials
from collector.errors import ConflictError
from collector.ingest.wal import Wal
from collector.inventory.consumer import ConsumerName
from collector.respond.responder import Erasing, Responder
from collector.store.base import Store
from collector.store.writer import StoreWriter

DETECTORS_SECONDS: Final = 120.0  # They may be in the midst of a backlog.

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Erased:
    """What was found and is gone, by place."""

    rows: dict[str, int]  # By table; rows deleted, or blanked.
    log_batches: int
    detector_subjects: int
    alerts: int  # Open and recent ones, of those in `rows`.
    notifications: int  # That waited to be told, or stood in a file of ours.
    blocks: int
    audit_lines: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Eraser:
    """The places. `notified` takes back what waits to be told of a pattern."""

    wal: Wal
    writer: StoreWriter
    store: Store
    tables: TableEraser
    detectors: DetectorProcess
    desk: AlertDesk
    responder: Responder
    notified: Callable[..., int]
    lock: threading.Lock

    def erase(self, consumer: ConsumerName, wish: Erasing) -> Erased:
        """Everywhere, and wait until it is so. Raises ValueError for who is nobody, ConflictError, StoreError,
        TimeoutError, OSError; after any of the last three another run does the rest.
        """
        check_consumer(consumer)
        mention = find_mention(consumer)
        if not self.lock.acquire(blocking=False):
            raise ConflictError("Another consumer is being erased; erase this one when that is done.")
        try:
            names = [consumer, *find_credentials(self.store, consumer)]
            hashes = {int(name.value, 16) for name in names if name.is_hash}
            # First, for it may refuse.
            blocks = self.responder.erase(consumer.id, mention.pattern, hashes, wish)
            with self.writer.pause(), self.wal.hold() as directory:
                batches = sum(erase_from_log(directory, name) for name in names)
            subjects = self.detectors.erase(consumer.id, DETECTORS_SECONDS)
            alerts = self.desk.erase(mention.pattern)
            notifications = self.notified(mention.pattern)
            rows = self.tables.erase(consumer, mention)
        finally:
            self.lock.release()
        logger.info("A consumer (%s) was erased by %s.", consumer.kind, wish.by)
        return Erased(
            rows=rows,
            log_batches=batches,
            detector_subjects=subjects,
            alerts=alerts,
            notifications=notifications,
            blocks=blocks.blocks,
            audit_lines=blocks.audit_lines,
        )
