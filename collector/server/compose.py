"""Makes the collector's objects once: log, store, writer, alerts, detectors, receiver, web application.

Only this module and `collector/server/run.py` know all packages. Everything is made here, but nothing runs yet.
"""

import logging
import threading
import time
import uuid
from dataclasses import dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from typing import IO

from collector.alerting.alert import Alert
from collector.alerting.detection import FILE_NAME as SENSITIVITY_FILE
from collector.alerting.detection import Detection, DetectionTable
from collector.alerting.lifecycle import Lifecycle
from collector.alerting.notifiers.build import Notifiers, build_notifiers
from collector.alerting.repository import AlertTable
from collector.alerting.service import AlertService
from collector.core.config import CollectorSettings
from collector.core.keys import (
    API_TOKEN_FILE,
    KEYS_FILE,
    SENSOR_TOKEN_FILE,
    InstallationKey,
    Token,
    load_installation_keys,
    load_token,
    read_token,
)
from collector.detection.changes.detector import ChangeDetector, FactTable
from collector.detection.changes.rules import StoredCallers
from collector.detection.process import READER_NAME as DETECTORS
from collector.detection.process import DetectorProcess
from collector.erasure import Eraser, TableEraser
from collector.inventory.changes import RetiredEndpoints
from collector.inventory.coverage.reader import CoverageInventory
from collector.inventory.endpoints.endpoints import EndpointInventory
from collector.inventory.endpoints.predicates import ConsumerSql
from collector.inventory.partners import PartnerNetworks
from collector.inventory.query import Versions
from collector.inventory.sensors import Watch
from collector.inventory.templates.catalogue import Catalogue
from collector.inventory.templates.editor import TemplateEditor
from collector.inventory.templates.mapping import EndpointMapping
from collector.kubernetes.watcher import ClusterWatcher
from collector.receiver.convert import check_protobuf
from collector.receiver.own_traffic import ProcessMark, open_process_mark
from collector.receiver.reader import WalReader
from collector.receiver.reports import CoverageRecord, FormerName, RevealBook, RevealedWord, WorkloadRecord
from collector.receiver.sensors import SensorRegistry, SensorStatus
from collector.receiver.wal import Wal
from collector.receiver.writer import StoreWriter
from collector.response.alert_actions import AlertActions
from collector.response.block_store import AuditLog, BlockStore
from collector.response.integrations import Integrations, compose_integrations
from collector.response.ladder import Ladder, LadderStep
from collector.response.preview import Previewer
from collector.response.responder import Responder
from collector.risk.assessment import RiskAssessor
from collector.schemas.service import SchemaQueue
from collector.specs.assessment import SpecAssessor
from collector.specs.table import SpecTable
from collector.storage.clickhouse import ClickHouseStore, open_server
from collector.storage.disk import DiskReserve, keep_reserve
from collector.storage.embedded import EmbeddedStore, lock_directory
from common.figures import Figure, make_gauges, total
from common.kubernetes.reflector import is_in_cluster
from common.settings import KubernetesUse

STORE_READER = "store"
WEBHOOK_SECRET_FILE = "webhook.secret"
BLOCKS_FILE = "blocks.json"
AUDIT_FILE = "audit.jsonl"
LADDER_FILE = "ladder.json"
APPROVAL_TOKEN_FILE = "approval.token"
CHECKPOINT_FILE = "detectors.checkpoint"
# Waiting for the store, from all sensors; past it the oldest coverage goes, for the next report repeats it.
REPORT_LIMIT = 100_000

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class ReportCounts:
    """What came between two flushes and found no room."""

    coverage_dropped: int = total("Rows of coverage that found no room; the next report has them again.")
    workloads_dropped: int = total("Facts of workloads that found no room; the next report has them again.")
    former_names_dropped: int = total("Former names of services that found no room; the next report has them again.")


@dataclass(slots=True, kw_only=True)
class Collector:
    """Everything that `collector/server/run.py` starts and stops."""

    settings: CollectorSettings
    version: str
    lock: IO[str]
    disk: DiskReserve
    wal: Wal
    store: ClickHouseStore
    writer: StoreWriter
    sensors: SensorRegistry
    reveals: RevealBook
    keys: tuple[InstallationKey, ...]
    process_mark: ProcessMark | None
    sensor_token: Token | None
    api_token: Token | None
    alert_service: AlertService
    detection: Detection
    detectors: DetectorProcess
    notifiers: Notifiers
    catalogue: Catalogue
    responder: Responder
    alert_actions: AlertActions
    integrations: Integrations
    approval_token: Token | None
    specs: SpecAssessor
    retired: RetiredEndpoints
    risks: RiskAssessor
    changes: ChangeDetector
    editor: TemplateEditor
    eraser: Eraser
    clusters: tuple[ClusterWatcher, ...] = ()
    coverage: list[CoverageRecord] = field(default_factory=list)
    workloads: dict[tuple[str, str, str, str], WorkloadRecord] = field(default_factory=dict)
    former_names: dict[tuple[str, str, str], FormerName] = field(default_factory=dict)
    words: list[RevealedWord] = field(default_factory=list)
    schemas: SchemaQueue = field(default_factory=SchemaQueue)
    reports: ReportCounts = field(default_factory=ReportCounts)

    def add_coverage(self, records: list[CoverageRecord]) -> None:
        """Keep for the next flush."""
        self.coverage += records
        excess = max(len(self.coverage) - REPORT_LIMIT, 0)
        self.reports.coverage_dropped += excess
        del self.coverage[:excess]

    def add_workloads(self, records: list[WorkloadRecord]) -> None:
        """Keep for the next flush; the newest of each node's."""
        for record in records:
            key = (record.cluster, record.namespace, record.workload, record.node)
            if key in self.workloads or len(self.workloads) < REPORT_LIMIT:
                self.workloads[key] = record
            else:
                self.reports.workloads_dropped += 1

    def add_former_names(self, names: list[FormerName]) -> None:
        """Keep for the next flush what was not told before."""
        for name in self.catalogue.choose_former_names(names):
            if len(self.former_names) < REPORT_LIMIT:
                self.former_names[name.cluster, name.node, name.former_name] = name
            else:
                self.reports.former_names_dropped += 1

    def add_words(self, words: list[RevealedWord]) -> None:
        """Keep for the next flush; at most what the reveal book asks, so bounded."""
        self.words += words

    def flush_reports(self) -> None:
        """Write sensors, coverage and words that came since. Blocks. Raises StoreError; coverage that failed comes with
        the next report, and words, which no sensor tells twice, stay for the next flush. While the disk has less than
        its reserve only sensors are written, which are few.
        """
        self.store.insert_records("sensors", self.sensors.take_changed())
        if self.disk.find_shortage():
            return
        coverage, self.coverage = self.coverage, []
        workloads, self.workloads = list(self.workloads.values()), {}
        former_names, self.former_names = list(self.former_names.values()), {}
        words = list(self.words)
        self.store.insert_records("coverage_rows", coverage)
        self.store.insert_records("workloads", workloads)
        self.schemas.flush(self.store)
        if former_names:
            self.store.insert_records("former_names", former_names)
            self.catalogue.take_former_names(former_names)
        if words:
            self.store.insert_records("revealed_words", words)
            self.catalogue.learn({word.hash: word.text for word in words})
            del self.words[: len(words)]

    def read_share(self) -> tuple[Figure, ...]:
        """What is like HTTP on all nodes since their sensors' starts, and what of it is read; for metrics. Raises
        StoreError.
        """
        coverage = CoverageInventory(reader=self.store, watch=Watch(reader=self.store, clock=time.time))
        share = coverage.read_coverage().cluster.share
        return make_gauges(
            (
                ("coverage_http_connections", "Connections that carry HTTP, of all nodes.", share.connections),
                (
                    "coverage_http_read_connections",
                    "Connections that carry HTTP and are read, of all nodes.",
                    share.read_connections,
                ),
                ("coverage_http_bytes", "Bytes of connections that carry HTTP, of all nodes.", share.bytes),
                (
                    "coverage_http_read_bytes",
                    "Bytes of connections that carry HTTP and are read, of all nodes.",
                    share.read_bytes,
                ),
            )
        )

    def close(self) -> None:
        """Release log, store and lock. Blocks."""
        self.store.close()
        self.wal.close()
        self.lock.close()


def compose_collector(settings: CollectorSettings) -> Collector:
    """Open everything in order; each step's error is one sentence (StoreError, KeyFileError, OSError, RuntimeError,
    ValueError).
    """
    check_protobuf()
    directory = settings.data_dir
    disk = keep_reserve(directory, settings.disk_reserve_bytes)
    lock = lock_directory(directory)
    clock = time.time
    keys = load_installation_keys(directory / KEYS_FILE, clock())
    # Before anything listens or connects.
    process_mark = open_process_mark(keys[0])
    if process_mark is not None:
        process_mark.watch_connections()
    sensor_token = None
    if settings.takes_tokens:
        sensor_token = _find_token(settings, settings.sensor_token_file, SENSOR_TOKEN_FILE)
    api_token = _find_token(settings, settings.api_token_file, API_TOKEN_FILE)

    def load_secret() -> str:
        return load_token(directory / WEBHOOK_SECRET_FILE).value

    notifiers = build_notifiers(
        settings.notifiers, cluster=settings.cluster, load_secret=load_secret, version=version("apidae"), clock=clock
    )
    wal_directory = directory / "wal"
    wal = Wal(
        wal_directory,
        readers=(STORE_READER, DETECTORS),
        essential=STORE_READER,
        find_shortage=disk.find_shortage,
    )
    store = open_store(settings, disk)
    reveals = RevealBook()
    versions = Versions(store, "endpoint_routes", "endpoint_aliases", clock=clock)
    catalogue = Catalogue(store, EndpointMapping(writer=store, take_version=versions.take), reveals)
    writer = StoreWriter(
        reader=WalReader(wal_directory, STORE_READER),
        store=store,
        log_id=wal.id,
        find_durable=lambda: wal.position,
        map_endpoints=catalogue.map_routes,
        find_shortage=disk.find_shortage,
    )
    sensors = SensorRegistry(clock)
    sensors.load(_load_sensors(store))
    audit = AuditLog(directory / AUDIT_FILE)
    responder = Responder(
        store=BlockStore(directory / BLOCKS_FILE),
        audit=audit,
        ladder=Ladder(directory / LADDER_FILE),
        previewer=Previewer(store),
        clock=clock,
        is_four_eyes=settings.require_second_approval,
    )
    integrations = compose_integrations(
        settings.integrations, responder, audit, cluster=settings.cluster, load_secret=load_secret, clock=clock
    )
    alert_actions = AlertActions(responder.take_alert)

    def answer(alert: Alert) -> None:
        if responder.ladder.find(alert.kind).step is not LadderStep.OBSERVE:
            notifiers.notify(alert)
        alert_actions.take(alert)

    # The alert service sends the detectors what a person expects, and they send it signals: the one made first asks by
    # name.
    made: list[DetectorProcess] = []
    detection = Detection(
        table=DetectionTable(store),
        path=directory / SENSITIVITY_FILE,
        configured=settings.sensitivity,
        clock=clock,
        new_id=lambda: uuid.uuid4().hex,
    )
    alert_service = AlertService(
        table=AlertTable(store),
        lifecycle=Lifecycle(new_id=lambda: uuid.uuid4().hex, find_budget=lambda: detection.budget),
        detection=detection,
        clock=clock,
        notify=answer,
        expect=lambda alert: made[0].expect(alert),
    )
    detectors = DetectorProcess(
        wal_directory=wal_directory,
        checkpoint_path=directory / CHECKPOINT_FILE,
        take=alert_service.take_signals,
        consumer_order=settings.consumer_order,
        time_zone=settings.time_zone,
    )
    made.append(detectors)
    changes = ChangeDetector(
        facts=FactTable(store),
        callers=StoredCallers(store, ConsumerSql(settings.consumer_order)),
        clock=clock,
        report=alert_service.take_found,
    )
    return Collector(
        settings=settings,
        version=version("apidae"),
        lock=lock,
        disk=disk,
        wal=wal,
        store=store,
        writer=writer,
        sensors=sensors,
        reveals=reveals,
        keys=keys,
        process_mark=process_mark,
        sensor_token=sensor_token,
        api_token=api_token,
        alert_service=alert_service,
        detection=detection,
        detectors=detectors,
        notifiers=notifiers,
        catalogue=catalogue,
        responder=responder,
        alert_actions=alert_actions,
        integrations=integrations,
        approval_token=load_token(directory / APPROVAL_TOKEN_FILE) if settings.require_second_approval else None,
        editor=TemplateEditor(store=store, names=catalogue, clock=clock),
        eraser=Eraser(
            wal=wal,
            writer=writer,
            store=store,
            tables=TableEraser(store, store.layout),
            erase_detected=detectors.erase,
            alert_service=alert_service,
            responder=responder,
            notified=notifiers.erase,
            lock=threading.Lock(),
        ),
        retired=RetiredEndpoints(store=store, clock=clock),
        specs=SpecAssessor(store=store, table=SpecTable(store, clock), paths=settings.spec_paths, clock=clock),
        risks=RiskAssessor(
            store=store,
            endpoints=EndpointInventory(
                reader=store,
                who=ConsumerSql(settings.consumer_order),
                partners=PartnerNetworks(settings.partner_networks),
            ),
            clock=clock,
            alarm=alert_service.take_reports,
            observe=changes.note,
        ),
        changes=changes,
        clusters=_compose_clusters(settings, store),
    )


def _compose_clusters(settings: CollectorSettings, store: ClickHouseStore) -> tuple[ClusterWatcher, ...]:
    """A watch for each cluster that is to be watched."""
    if settings.kubernetes is KubernetesUse.OFF:
        return ()
    watched: list[tuple[str, Path | None]] = []
    if settings.kubernetes is KubernetesUse.ON or settings.kubeconfig is not None or is_in_cluster():
        watched.append((settings.cluster, settings.kubeconfig))
    for other in settings.other_clusters:
        name, _, file = other.partition("=")
        watched.append((name, Path(file)))
    return tuple(ClusterWatcher(cluster=name, kubeconfig=file, store=store) for name, file in watched)


def _find_token(settings: CollectorSettings, given: Path | None, own: str) -> Token | None:
    """The operator's where a file is set, else our own; None without authentication. Raises KeyFileError."""
    if settings.no_auth:
        return None
    return load_token(settings.data_dir / own) if given is None else read_token(given)


def open_store(settings: CollectorSettings, disk: DiskReserve) -> ClickHouseStore:
    """The store that the settings name. Raises StoreError."""
    if settings.store_url is None:
        return EmbeddedStore(settings.data_dir / "store", disk=disk)
    return open_server(settings.store_url.get_secret_value())


def _load_sensors(store: ClickHouseStore) -> list[SensorStatus]:
    names = [column.name for column in fields(SensorStatus)]
    rows = store.query(f"SELECT {', '.join(names)} FROM sensors FINAL")
    return [SensorStatus(**dict(zip(names, row, strict=True))) for row in rows]
