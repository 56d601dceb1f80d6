"""Reports of sensors, beside their calls, that wait to be written to the store: bounded, and only what changed.

Words and former names are written each second, for people wait for the names of endpoints. Coverage, workloads and
schemas are written every five seconds at most, for an insert costs some 10 ms however few rows it has. Coverage and
workloads, which change all the time, wait for half a minute while nobody looks. Three may follow each other sooner, so
that a new sensor is seen at once.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from threading import Lock
from typing import Any

from collector.core.feature import Feature, Job, Role
from collector.inventory.templates.catalogue import Catalogue
from collector.receiver.reports import (
    PORT_LIMIT,
    WORKLOAD_LIMIT,
    CoverageRecord,
    FormerName,
    RevealedWord,
    WorkloadRecord,
)
from collector.receiver.writer import UNWATCHED_SECONDS
from collector.schemas.offers import SchemaOffers
from collector.schemas.service import SchemaQueue
from collector.storage.base import Store, StoreError, insert_most
from collector.storage.disk import DiskReserve
from common.bounded import BoundedDict
from common.figures import Figure, list_figures, make_totals, total
from common.token_bucket import TokenBucket

# Waiting for the store, from all sensors.
FORMER_NAME_LIMIT = 100_000
FLUSH_SECONDS = 5.0
FLUSH_BURST = 3


@dataclass(slots=True)
class ReportCounts:
    """What the store did not take."""

    records_refused: int = total("Reports of sensors, besides their calls, that the store could not take.")
    former_names_dropped: int = total("Former names of services that found no room; the next report has them again.")


class ReportQueue:
    """The event loop adds, a thread flushes."""

    def __init__(
        self,
        store: Store,
        disk: DiskReserve,
        catalogue: Catalogue,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._disk = disk
        self._catalogue = catalogue
        self._lock = Lock()  # Of the next two.
        self._coverage: dict[str, _Ports] = {}  # By node; the newest of each port.
        self._workloads: dict[str, BoundedDict[tuple[str, ...], WorkloadRecord]] = {}
        self._former_names: dict[tuple[str, str, str], FormerName] = {}
        self._words: list[RevealedWord] = []
        self.schemas = SchemaQueue()
        self.schema_offers = SchemaOffers(store, self.schemas)
        self._counts = ReportCounts()
        self._flushes = TokenBucket(1 / FLUSH_SECONDS, FLUSH_BURST, clock)
        self._unwatched_flushes = TokenBucket(1 / UNWATCHED_SECONDS, FLUSH_BURST, clock)
        self.is_watched: Callable[[], bool] = lambda: True  # Whether somebody looks at what is written.

    def add_coverage(self, node: str, records: list[CoverageRecord], is_difference: bool) -> None:
        """Keep a node's report for the next flush: a whole one instead of what waits, a difference beside it."""
        if is_difference and not records:
            return
        with self._lock:
            self._coverage[node] = _join_ports(self._coverage.get(node) if is_difference else None, records)

    def add_workloads(self, node: str, records: list[WorkloadRecord]) -> None:
        """Keep the newest of each workload of a node."""
        if records:
            with self._lock:
                waiting = self._workloads.setdefault(node, BoundedDict(WORKLOAD_LIMIT))
                for record in records:
                    waiting[record.cluster, record.namespace, record.workload] = record

    def add_former_names(self, names: list[FormerName]) -> None:
        """Keep for the next flush the names that are new."""
        for name in self._catalogue.choose_former_names(names):
            if len(self._former_names) < FORMER_NAME_LIMIT:
                self._former_names[name.cluster, name.node, name.former_name] = name
            else:
                self._counts.former_names_dropped += 1

    def add_words(self, words: list[RevealedWord]) -> None:
        """Keep for the next flush; at most what the reveal book asks, so bounded."""
        self._words += words

    def flush_due(self) -> None:
        """What is to be written and asked for this second. Blocks. Raises StoreError."""
        if self._is_due():
            self.flush()
        elif not self._disk.find_shortage():
            self._flush_names()
        if not self._disk.find_shortage():
            self.schema_offers.answer()

    def _is_due(self) -> bool:
        if self.schemas:
            return self._flushes.take()
        if not self._coverage and not self._workloads:
            return False
        return (self._flushes if self.is_watched() else self._unwatched_flushes).take()

    @property
    def feature(self) -> Feature:
        """What the collector repeats and shows. The last are written when all streams have ended."""
        return Feature(
            name="reports",
            role=Role.INGEST,
            stop=self._flush_last,
            jobs=(Job(works=(self.flush_due,)),),
            figures=self.figures,
        )

    def _flush_last(self) -> None:
        with suppress(StoreError):
            self.flush()

    def flush(self) -> None:
        """Write everything that came since, unless the disk has less than its reserve. Blocks. Raises StoreError; what
        failed stays for the next flush."""
        if self._disk.find_shortage():
            return
        self._flush_names()
        self._flush_coverage()
        with self._lock:
            workloads, self._workloads = self._workloads, {}
        try:
            self._insert("workloads", list(chain.from_iterable(one.values() for one in workloads.values())))
        except StoreError:
            with self._lock:
                self._workloads = {**workloads, **self._workloads}
            raise
        self.schemas.flush(self._insert)

    def _flush_coverage(self) -> None:
        with self._lock:
            coverage, self._coverage = self._coverage, {}
        try:
            self._insert("coverage_rows", list(chain.from_iterable(one.values() for one in coverage.values())))
        except StoreError:
            with self._lock:
                for node, ports in coverage.items():
                    newer = self._coverage.get(node)
                    if newer is None or _find_report(newer) == _find_report(ports):
                        self._coverage[node] = _join_ports(ports, newer.values() if newer is not None else ())
            raise

    def _flush_names(self) -> None:
        former_names, self._former_names = list(self._former_names.values()), {}
        words = list(self._words)
        if former_names:
            self._catalogue.take_former_names(former_names)
        if words:
            self._catalogue.learn(words)
            del self._words[: len(words)]

    def _insert(self, table: str, records: Sequence[Any]) -> None:
        """Raises StoreError."""
        self._counts.records_refused += insert_most(self._store, table, records)

    def figures(self) -> Iterable[Figure]:
        """For metrics."""
        text = "Schemas of routes that found no room before the next flush; their sensors offer them again."
        return (
            *make_totals([("schemas_dropped", text, self.schemas.dropped)]),
            *list_figures(self._counts),
            *self.schema_offers.figures(),
        )


_Ports = BoundedDict[tuple[Any, ...], CoverageRecord]


def _join_ports(waiting: _Ports | None, records: Iterable[CoverageRecord]) -> _Ports:
    """Rows beside those that wait; of one port the newest."""
    joined = waiting if waiting is not None else _Ports(PORT_LIMIT)
    for record in records:
        joined.renew(record.key, record)
    return joined


def _find_report(ports: _Ports) -> datetime | None:
    """When the whole report came that rows belong to."""
    return next((record.report_time for record in ports.values()), None)
