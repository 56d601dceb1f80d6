"""What the collector does at intervals beside its work: tables, keys, certificates, silent sensors, its own storage,
the disk cap.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial

from collector.alerts.expiry import ExpiryWatch
from collector.alerts.silence import SilenceWatch
from collector.alerts.storage import StorageState, StorageWatch
from collector.compose import Collector
from collector.entrance import Entrance
from collector.ingest.service import IngestService
from collector.interval import Interval
from collector.keys import KEYS_FILE, load_installation_keys
from collector.store.retention import enforce_cap

FLUSH_SECONDS = 1.0
CAP_SECONDS = 60.0
# Routes are looked at among their siblings soon after they came, and all of them now and then, for calls tell more.
GROUP_SECONDS = 10.0
GROUP_ALL_SECONDS = 600.0
BURY_SECONDS = 3_600.0  # How often endpoints that are gone are looked for.

logger = logging.getLogger(__name__)


class Housekeeping:
    """`run` goes on until it is cancelled; what goes wrong is given to `on_error`, and it goes on."""

    def __init__(
        self,
        *,
        collector: Collector,
        entrance: Entrance,
        ingest: IngestService,
        storage: Callable[[], StorageState],
        on_error: Callable[[Exception], None],
    ) -> None:
        self._collector = collector
        self._entrance = entrance
        self._ingest = ingest
        self._read_storage = storage
        self._on_error = on_error
        self._silence = SilenceWatch()
        self._storage = StorageWatch()
        self._expiry = ExpiryWatch(collector.settings.sensor_certificate_seconds)
        self._keys = collector.keys
        self.evicted_rows = 0

    async def run(self) -> None:
        """Each second: sensors, ports and words into the store, silent sensors and the storage's state into alerts,
        another key to the sensors. Each minute: disk cap, old segments. Each ten seconds, new routes among their
        siblings. As often as risk is judged, API descriptions before it and what changed after it.
        """
        collector = self._collector
        cap, group = Interval(CAP_SECONDS), Interval(GROUP_SECONDS)
        risk = Interval(collector.settings.risk_interval_seconds)
        group_all = Interval(GROUP_ALL_SECONDS, is_late=True)
        bury = Interval(BURY_SECONDS)
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self._do(collector.flush_reports)
            await self._do(self._watch)
            await self._do(collector.responder.tick)
            await self._do(self._read_keys)
            await self._do(self._entrance.look)
            self._entrance.apply(self._ingest)
            if self._keys != self._ingest.keys:
                self._ingest.change_keys(self._keys)
            if group.take():
                await self._do(partial(collector.catalogue.group, is_all=group_all.take()))
            if bury.take():
                await self._do(collector.graveyard.look)
            if risk.take():
                await self._do(collector.specs.look)
                await self._do(collector.risks.look)
                await self._do(collector.changes.look)
            if cap.take():
                await self._do(self._enforce_cap)

    async def _do(self, work: Callable[[], object]) -> None:
        try:
            await asyncio.to_thread(work)
        except Exception as error:
            self._on_error(error)

    def _watch(self) -> None:
        """What is wrong with sensors, certificates and storage, into alerts."""
        sensors, now = self._collector.sensors.list_statuses(), time.time()
        for findings in (
            self._storage.look(self._read_storage(), now),
            self._silence.look(sensors, now),
            self._expiry.look(sensors, self._entrance.list_validities(), now),
        ):
            if findings.reports:
                self._collector.desk.take_reports(findings.reports)
            for kind, node in findings.healed:
                self._collector.desk.settle(kind, node)

    def _read_keys(self) -> None:
        """Keys of a rotation, and of its end. A file that cannot be read leaves those in use."""
        self._keys = load_installation_keys(self._collector.settings.data_dir / KEYS_FILE, time.time())

    def _enforce_cap(self) -> None:
        settings = self._collector.settings
        if settings.store_url is None:
            gone = enforce_cap(
                self._collector.store, limit_bytes=settings.disk_limit_bytes, now_unix_seconds=time.time()
            )
            self.evicted_rows += sum(eviction.rows for eviction in gone)
            for eviction in gone:
                logger.warning("The disk cap removed %d rows of %s.", eviction.rows, eviction.table_name)
