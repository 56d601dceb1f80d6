"""Reports of sensors, beside their calls, that wait to be written to the store: bounded, and flushed each second."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

from collector.inventory.templates.catalogue import Catalogue
from collector.receiver.reports import CoverageRecord, FormerName, RevealedWord, WorkloadRecord
from collector.receiver.sensors import SensorRegistry
from collector.schemas.service import SchemaQueue
from collector.storage.base import Store, insert_most
from collector.storage.disk import DiskReserve
from common.figures import Figure, list_figures, make_totals, total

# Waiting for the store, from all sensors.
FORMER_NAME_LIMIT = 100_000


@dataclass(slots=True)
class ReportCounts:
    """What the store did not take."""

    records_refused: int = total("Reports of sensors, besides their calls, that the store could not take.")
    former_names_dropped: int = total("Former names of services that found no room; the next report has them again.")


class ReportQueue:
    """The event loop adds, a thread flushes."""

    def __init__(self, store: Store, disk: DiskReserve, sensors: SensorRegistry, catalogue: Catalogue) -> None:
        self._store = store
        self._disk = disk
        self._sensors = sensors
        self._catalogue = catalogue
        self._coverage: dict[str, list[CoverageRecord]] = {}  # By node; the newest of each.
        self._workloads: dict[str, list[WorkloadRecord]] = {}
        self._former_names: dict[tuple[str, str, str], FormerName] = {}
        self._words: list[RevealedWord] = []
        self.schemas = SchemaQueue()
        self._counts = ReportCounts()

    def add_coverage(self, node: str, records: list[CoverageRecord]) -> None:
        """Keep a node's report for the next flush, instead of its last one."""
        self._coverage[node] = records

    def add_workloads(self, node: str, records: list[WorkloadRecord]) -> None:
        """The same of its workloads."""
        self._workloads[node] = records

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

    def flush(self) -> None:
        """Write sensors, coverage and words that came since. Blocks. Raises StoreError; coverage that failed comes with
        the next report, and words, which no sensor sends twice, stay for the next flush. While the disk has less than
        its reserve only sensors are written, which are few.
        """
        self._insert("sensors", self._sensors.take_changed())
        if self._disk.find_shortage():
            return
        coverage, self._coverage = self._coverage, {}
        workloads, self._workloads = self._workloads, {}
        former_names, self._former_names = list(self._former_names.values()), {}
        words = list(self._words)
        self._insert("coverage_rows", list(chain.from_iterable(coverage.values())))
        self._insert("workloads", list(chain.from_iterable(workloads.values())))
        self.schemas.flush(self._insert)
        if former_names:
            self._insert("former_names", former_names)
            self._catalogue.take_former_names(former_names)
        if words:
            self._insert("revealed_words", words)
            self._catalogue.learn({word.hash: word.text for word in words})
            del self._words[: len(words)]

    def _insert(self, table: str, records: Sequence[Any]) -> None:
        """Raises StoreError."""
        self._counts.records_refused += insert_most(self._store, table, records)

    def figures(self) -> Iterable[Figure]:
        """For metrics."""
        text = "Schemas of routes that found no room before the next flush."
        return (*make_totals([("schemas_dropped", text, self.schemas.dropped)]), *list_figures(self._counts))
