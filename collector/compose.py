"""The collector's objects, put together once: log, store, writer, alerts, detectors, ingest, web application.

Only this module and `collector/run.py` know all rooms. Everything here is made but nothing runs yet.
"""

import logging
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from importlib.metadata import version
from pathlib import Path
from threading import Lock
from typing import IO, Any

from collector.alerts.alert import Alert
from collector.alerts.desk import AlertDesk
from collector.alerts.lifecycle import Lifecycle
from collector.alerts.repository import AlertTable
from collector.alerts.webhook import Webhook, WebhookSettings
from collector.anomaly.process import READER_NAME as DETECTORS
from collector.anomaly.process import DetectorProcess
from collector.config import CollectorSettings
from collector.ingest.convert import check_protobuf
from collector.ingest.reader import WalReader
from collector.ingest.reports import CoverageRecord, RevealedWord
from collector.ingest.reveal import RevealBook
from collector.ingest.wal import Wal
from collector.inventory.mapping import EndpointMapping
from collector.keys import (
    API_TOKEN_FILE,
    KEYS_FILE,
    SENSOR_TOKEN_FILE,
    InstallationKey,
    Token,
    load_installation_keys,
    load_token,
    read_token,
)
from collector.rows import Route, Segment, Service
from collector.sensors import SensorRegistry, SensorStatus
from collector.store.clickhouse import ClickHouseStore, open_server
from collector.store.embedded import EmbeddedStore, lock_directory
from collector.store.writer import StoreWriter

STORE_READER = "store"
WEBHOOK_SECRET_FILE = "webhook.secret"
# Waiting for the store, from all sensors; past it the oldest coverage goes, for the next report repeats it.
REPORT_LIMIT = 100_000

logger = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class Collector:
    """Everything that `collector/run.py` starts and stops."""

    settings: CollectorSettings
    version: str
    lock: IO[str]
    wal: Wal
    store: ClickHouseStore
    writer: StoreWriter
    sensors: SensorRegistry
    reveals: RevealBook
    keys: tuple[InstallationKey, ...]
    sensor_token: Token | None
    api_token: Token | None
    desk: AlertDesk
    detectors: DetectorProcess
    webhook: Webhook | None
    naming: "Naming"
    coverage: list[CoverageRecord] = field(default_factory=list)
    words: list[RevealedWord] = field(default_factory=list)
    coverage_dropped: int = 0

    def add_coverage(self, records: list[CoverageRecord]) -> None:
        """Keep for the next flush."""
        self.coverage += records
        excess = max(len(self.coverage) - REPORT_LIMIT, 0)
        self.coverage_dropped += excess
        del self.coverage[:excess]

    def add_words(self, words: list[RevealedWord]) -> None:
        """Keep for the next flush; at most what the reveal book asks, so bounded."""
        self.words += words

    def flush_reports(self) -> None:
        """Write sensors, coverage and words that came since. Blocks. Raises StoreError; what failed comes with the
        next report.
        """
        coverage, self.coverage = self.coverage, []
        words, self.words = self.words, []
        self.store.insert_records("sensors", self.sensors.take_changed())
        self.store.insert_records("coverage", coverage)
        if words:
            self.store.insert_records("revealed_words", words)
            self.naming.learn({word.hash: word.text for word in words})

    def close(self) -> None:
        """Release log, store and lock. Blocks."""
        self.store.close()
        self.wal.close()
        self.lock.close()


class Naming:
    """The inventory's mapping behind a lock, remembered for the detectors: the writer's thread maps, the flush
    renames.
    """

    def __init__(self, store: ClickHouseStore, mapping: EndpointMapping, reveals: RevealBook) -> None:
        """Takes up what the store holds. Raises StoreError."""
        self._store = store
        self._mapping = mapping
        self._reveals = reveals
        self._lock = Lock()
        self._endpoints: dict[int, str] = dict(store.query("SELECT route_id, endpoint_id FROM endpoint_routes FINAL"))
        self.changes = 1
        words = store.query("SELECT hash, text FROM revealed_words FINAL")
        self._mapping.learn_words({int(word): str(text) for word, text in words})
        known = {int(word) for word, _ in words}
        hidden = self._select_routes("arrayExists((k, t) -> k = 2 AND t = '', segment_kind, segment_text)", {})
        self._reveals.add_routes(hidden)
        self._reveals.forget(known)

    def map_routes(self, routes: Sequence[Route]) -> None:
        """Name new routes, and ask for their hidden words. Raises StoreError."""
        with self._lock:
            self._remember(routes)
        self._reveals.add_routes(routes)

    def learn(self, words: Mapping[int, str]) -> None:
        """Name anew the routes in which these words were hidden. Raises StoreError."""
        routes = self._select_routes("hasAny(segment_hash, {hashes:Array(UInt64)})", {"hashes": list(words)})
        with self._lock:
            self._mapping.learn_words(words)
            self._remember(routes)

    def list_endpoints(self) -> dict[int, str]:
        """Endpoint ids by route id."""
        with self._lock:
            return dict(self._endpoints)

    def _remember(self, routes: Sequence[Route]) -> None:
        if routes:
            records = self._mapping.map_routes(routes)
            self._endpoints.update((record.route_id, record.endpoint_id) for record in records)
            self.changes += 1

    def _select_routes(self, condition: str, parameters: dict[str, Any]) -> list[Route]:
        rows = self._store.query(
            "SELECT route_id, cluster, namespace, workload, workload_kind, host_name, port, host, method, "
            "segment_kind, segment_text, segment_hash, segment_length, has_trailing_slash "
            f"FROM routes FINAL WHERE {condition} LIMIT 100000",
            parameters,
        )
        return [_read_route(row) for row in rows]


def _read_route(row: tuple[Any, ...]) -> Route:
    cluster, namespace, workload, kind, host_name, port = row[1:7]
    return Route(
        route_id=int(row[0]),
        service=Service(
            cluster=cluster,
            namespace=namespace,
            workload=workload,
            workload_kind=kind,
            host_name=host_name,
            port=port,
        ),
        host=row[7],
        method=row[8],
        segments=tuple(Segment(*parts) for parts in zip(*row[9:13], strict=True)),
        has_trailing_slash=bool(row[13]),
    )


def compose_collector(settings: CollectorSettings) -> Collector:
    """Open everything in order; each step's error is one sentence (StoreError, KeyFileError, OSError, RuntimeError,
    ValueError).
    """
    check_protobuf()
    directory = settings.data_dir
    lock = lock_directory(directory)
    clock = time.time
    keys = load_installation_keys(directory / KEYS_FILE, clock())
    sensor_token = _find_token(settings, settings.sensor_token_file, SENSOR_TOKEN_FILE)
    api_token = _find_token(settings, settings.api_token_file, API_TOKEN_FILE)
    webhook = _compose_webhook(settings)
    wal_directory = directory / "wal"
    wal = Wal(
        wal_directory, readers=(STORE_READER, DETECTORS), essential=STORE_READER, limit_bytes=settings.wal_limit_bytes
    )
    store = _open_store(settings)
    reveals = RevealBook()
    naming = Naming(store, EndpointMapping(writer=store, clock=clock), reveals)
    writer = StoreWriter(
        reader=WalReader(wal_directory, STORE_READER),
        store=store,
        log_id=wal.id,
        find_durable=lambda: wal.position,
        map_endpoints=naming.map_routes,
    )
    sensors = SensorRegistry(clock)
    sensors.load(_load_sensors(store))
    # The desk tells the detectors what a person expects, and the detectors tell the desk: the one made first asks by
    # name.
    made: list[DetectorProcess] = []
    desk = AlertDesk(
        table=AlertTable(store),
        lifecycle=Lifecycle(new_id=lambda: uuid.uuid4().hex),
        clock=clock,
        notify=webhook.notify if webhook else _ignore,
        expect=lambda alert: made[0].expect(alert),
    )
    detectors = DetectorProcess(
        wal_directory=wal_directory,
        checkpoint_path=directory / "detectors.checkpoint",
        take=desk.take_signals,
        consumer_order=settings.consumer_order,
    )
    made.append(detectors)
    return Collector(
        settings=settings,
        version=version("apidae"),
        lock=lock,
        wal=wal,
        store=store,
        writer=writer,
        sensors=sensors,
        reveals=reveals,
        keys=keys,
        sensor_token=sensor_token,
        api_token=api_token,
        desk=desk,
        detectors=detectors,
        webhook=webhook,
        naming=naming,
    )


def _find_token(settings: CollectorSettings, given: Path | None, own: str) -> Token | None:
    """The operator's where a file is set, else our own; None without authentication. Raises KeyFileError."""
    if settings.no_auth:
        return None
    return load_token(settings.data_dir / own) if given is None else read_token(given)


def _open_store(settings: CollectorSettings) -> ClickHouseStore:
    if settings.store_url is None:
        return EmbeddedStore(settings.data_dir / "store", settings.store_memory_bytes)
    return open_server(settings.store_url.get_secret_value(), settings.store_cluster)


def _compose_webhook(settings: CollectorSettings) -> Webhook | None:
    if settings.webhook_url is None:
        return None
    secret = load_token(settings.data_dir / WEBHOOK_SECRET_FILE)
    try:
        destination = WebhookSettings(url=settings.webhook_url.get_secret_value(), secret=secret.value)
    except ValueError as error:
        raise ValueError(f"webhook_url: {error}") from None
    return Webhook(destination, clock=time.time)


def _load_sensors(store: ClickHouseStore) -> list[SensorStatus]:
    names = [column.name for column in fields(SensorStatus)]
    rows = store.query(f"SELECT {', '.join(names)} FROM sensors FINAL")
    return [SensorStatus(**dict(zip(names, row, strict=True))) for row in rows]


def _ignore(alert: Alert) -> None:
    """Without a webhook alerts go to the API only."""
