"""Reports of sensors, beside their calls, that wait to be written to the store: bounded, and flushed each second."""

from collections.abc import Iterable
from dataclasses import dataclass

from collector.inventory.templates.catalogue import Catalogue
from collector.receiver.reports import CoverageRecord, FormerName, RevealedWord, WorkloadRecord
from collector.receiver.sensors import SensorRegistry
from collector.schemas.service import SchemaQueue
from collector.storage.clickhouse import ClickHouseStore
from collector.storage.disk import DiskReserve
from common.figures import Figure, list_figures, make_totals, total

# Waiting for the store, from all sensors; past it the oldest coverage goes, for the next report repeats it.
REPORT_LIMIT = 100_000


@dataclass(slots=True)
class ReportCounts:
    """What came between two flushes and found no room."""

    coverage_dropped: int = total("Rows of coverage that found no room; the next report has them again.")
    workloads_dropped: int = total("Facts of workloads that found no room; the next report has them again.")
    former_names_dropped: int = total("Former names of services that found no room; the next report has them again.")


class ReportQueue:
    """The event loop adds, a thread flushes."""

    def __init__(
        self, store: ClickHouseStore, disk: DiskReserve, sensors: SensorRegistry, catalogue: Catalogue
    ) -> None:
        self._store = store
        self._disk = disk
        self._sensors = sensors
        self._catalogue = catalogue
        self._coverage: list[CoverageRecord] = []
        self._workloads: dict[tuple[str, str, str, str], WorkloadRecord] = {}
        self._former_names: dict[tuple[str, str, str], FormerName] = {}
        self._words: list[RevealedWord] = []
        self.schemas = SchemaQueue()
        self._counts = ReportCounts()

    def add_coverage(self, records: list[CoverageRecord]) -> None:
        """Keep for the next flush."""
        self._coverage += records
        excess = max(len(self._coverage) - REPORT_LIMIT, 0)
        self._counts.coverage_dropped += excess
        del self._coverage[:excess]

    def add_workloads(self, records: list[WorkloadRecord]) -> None:
        """Keep for the next flush; the newest of each node's."""
        for record in records:
            key = (record.cluster, record.namespace, record.workload, record.node)
            if key in self._workloads or len(self._workloads) < REPORT_LIMIT:
                self._workloads[key] = record
            else:
                self._counts.workloads_dropped += 1

    def add_former_names(self, names: list[FormerName]) -> None:
        """Keep for the next flush the names that are new."""
        for name in self._catalogue.choose_former_names(names):
            if len(self._former_names) < REPORT_LIMIT:
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
        self._store.insert_records("sensors", self._sensors.take_changed())
        if self._disk.find_shortage():
            return
        coverage, self._coverage = self._coverage, []
        workloads, self._workloads = list(self._workloads.values()), {}
        former_names, self._former_names = list(self._former_names.values()), {}
        words = list(self._words)
        self._store.insert_records("coverage_rows", coverage)
        self._store.insert_records("workloads", workloads)
        self.schemas.flush(self._store)
        if former_names:
            self._store.insert_records("former_names", former_names)
            self._catalogue.take_former_names(former_names)
        if words:
            self._store.insert_records("revealed_words", words)
            self._catalogue.learn({word.hash: word.text for word in words})
            del self._words[: len(words)]

    def figures(self) -> Iterable[Figure]:
        """For metrics."""
        text = "Schemas of routes that found no room before the next flush."
        return (*make_totals([("schemas_dropped", text, self.schemas.dropped)]), *list_figures(self._counts))
