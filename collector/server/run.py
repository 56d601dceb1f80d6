"""The life of the collector: starts everything, reports that it is ready, runs until a signal, and ends cleanly.

It is one process with one event loop (gRPC and HTTP) and two threads that block (the store's writer, the detectors'
pipe). The detectors' own process is spawned, because a fork of the embedded store would hang.

`Housekeeping` does the periodic work: tables, keys, certificates, silent sensors, storage, and the disk cap.
"""

import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from collector.alerting.self_monitoring import ExpiryWatch, SilenceWatch, StorageState, StorageWatch
from collector.core.config import CollectorSettings, join_address
from collector.core.keys import API_TOKEN_FILE, KEYS_FILE, SENSOR_TOKEN_FILE, load_installation_keys
from collector.core.rates import Interval
from collector.receiver.commit import GroupCommit
from collector.receiver.own_traffic import OwnTraffic, describe_own_traffic
from collector.receiver.policy import load_policy, put_blocks
from collector.receiver.service import CollectorService
from collector.receiver.stream import IngestContext
from collector.receiver.writer import run_writer
from collector.response.integrations import make_exports
from collector.server.app import ApiSettings, build_app
from collector.server.compose import APPROVAL_TOKEN_FILE, Collector, compose_collector
from collector.server.grpc_server import Entrance
from collector.server.http_server import HttpServer
from collector.server.listeners import allow_open_files, bind, check_certificate
from collector.server.metrics import Metrics, list_collector_figures
from collector.storage.base import StoreError
from collector.storage.disk import enforce_cap
from collector.trust.authority import SENSOR_CERTIFICATE_SECONDS
from common.figures import Figure, list_figures, make_totals, total
from common.settings import split_address

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
        ingest: CollectorService,
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
        self._expiry = ExpiryWatch(SENSOR_CERTIFICATE_SECONDS)
        self._keys = collector.keys
        self.evicted_rows = 0

    async def run(self) -> None:
        """Each second: sensors, ports and words into the store, silent sensors and the storage's state into alerts,
        another key to the sensors. Each minute: disk cap, old segments. Each ten seconds, new routes among their
        siblings. As often as risk is judged, API descriptions before it and what changed after it.
        """
        collector = self._collector
        cap, group = Interval(CAP_SECONDS), Interval(GROUP_SECONDS)
        risk = Interval(RISK_SECONDS)
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
            if self._keys != self._ingest.context.keys:
                self._ingest.change_keys(self._keys)
            if group.take():
                await self._do(partial(collector.catalogue.group, is_all=group_all.take()))
            if bury.take():
                await self._do(collector.retired.update)
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
                self._collector.alert_service.take_reports(findings.reports)
            for kind, node in findings.healed:
                self._collector.alert_service.settle(kind, node)

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


GRACE_SECONDS = 3.0
# The writer's pause: with the sensors' second for a new route, a call is in the inventory within 2 s.
WRITE_INTERVAL_SECONDS = 0.5
# Between two looks at risk, API descriptions and changes: each reads all endpoints that were called.
RISK_SECONDS = 60.0
_POLL_SECONDS = 0.5
# Of a policy that the disk did not take: until it does, no sensor knows of a block or of its end.
POLICY_AGAIN_SECONDS = 1.0
POLICY_FILE = "policy.json"
LOG_AGAIN_SECONDS = 60.0  # Of an error that comes again.


async def run_collector(settings: CollectorSettings) -> None:
    """Run until SIGTERM, SIGINT or SIGHUP. Before it is ready it raises StartError, StoreError, KeyFileError, OSError,
    or ValueError."""
    check_certificate(settings)
    allow_open_files()
    http_socket = bind(settings.http_listen, "http_listen")
    try:
        collector = await asyncio.to_thread(compose_collector, settings)
    except BaseException:
        http_socket.close()
        raise
    try:
        entrance = await asyncio.to_thread(Entrance, settings, collector.sensor_token)
        try:
            await _Life(collector, entrance, http_socket).run()
        finally:
            entrance.close()
    finally:
        http_socket.close()
        await asyncio.to_thread(collector.close)


@dataclass(slots=True)
class ErrorCounts:
    """What failed in the collector's own threads and tasks; the log has each once a minute."""

    wal_errors: int = total("Writes of the log that the disk refused.")
    writer_errors: int = total("Attempts to write the tables that failed; each is repeated.")
    detector_errors: int = total("Errors while signals of detectors were taken; what the store refused is taken again.")
    housekeeping_errors: int = total("Rounds of housekeeping that failed; the next one begins anew.")
    policy_errors: int = total("Times that the disk did not take a changed policy; it is tried again every second.")


class _Life:
    """The running parts of one collector."""

    def __init__(self, collector: Collector, entrance: Entrance, http_socket: socket.socket) -> None:
        self._collector = collector
        self._entrance = entrance
        self._settings = collector.settings
        self._http_socket = http_socket
        self._stop = asyncio.Event()
        self._is_ending = threading.Event()
        self._http: HttpServer | None = None
        self._errors = ErrorCounts()
        self._logged_errors: dict[str, tuple[str, float]] = {}  # By name: the sentence and when it was logged last.
        self._is_writer_failing = False
        self._commit = GroupCommit(collector.wal, on_error=lambda error: self._count("wal_errors", error))
        self._ingest = CollectorService(
            IngestContext(
                commit=self._commit,
                sensors=collector.sensors,
                keys=tuple(collector.keys),
                policy=load_policy(self._settings.data_dir / POLICY_FILE, self._settings.consumer_order),
                admission=entrance.admission,
                authorities=lambda: entrance.authorities,
                own_traffic=self._describe_own_traffic,
                clock=time.time,
                reveals=collector.reveals,
                on_coverage=collector.add_coverage,
                on_workloads=collector.add_workloads,
                on_former_names=collector.add_former_names,
                on_revealed=collector.add_words,
                on_schemas=collector.schemas.add,
                on_enforcement=collector.responder.take_report,
            )
        )
        self._housekeeping = Housekeeping(
            collector=collector,
            entrance=entrance,
            ingest=self._ingest,
            storage=self._read_storage,
            on_error=partial(self._count, "housekeeping_errors"),
        )

    async def run(self) -> None:
        collector = self._collector
        await asyncio.to_thread(collector.writer.learn_routes)
        await asyncio.to_thread(collector.alert_service.restore)
        grpc_port = await self._entrance.start(self._ingest)
        threads = [
            threading.Thread(target=self._write, name="writer"),
            threading.Thread(target=self._detect, name="detectors"),
        ]
        for thread in threads:
            thread.start()
        collector.notifiers.start()
        collector.alert_actions.start()
        collector.integrations.start()
        for cluster in collector.clusters:
            cluster.start()
        commit = asyncio.create_task(self._commit.run())
        housekeeping = asyncio.create_task(self._housekeeping.run())
        server = self._http = self._build_http()
        http = asyncio.create_task(server.serve(sockets=[self._http_socket]))
        loop = asyncio.get_running_loop()
        self._tell_blocks()

        def tell_soon() -> None:
            loop.call_soon_threadsafe(self._tell_blocks)

        collector.responder.on_change(tell_soon)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.add_signal_handler(number, self._stop.set)
        try:
            while not server.started and not http.done():
                await asyncio.sleep(0.01)
            self._announce(grpc_port)
            stopped = asyncio.create_task(self._stop.wait())
            await asyncio.wait({stopped, http, commit, housekeeping}, return_when=asyncio.FIRST_COMPLETED)
            stopped.cancel()
        finally:
            await self._entrance.stop(GRACE_SECONDS)
            self._commit.stop()
            server.should_exit = True
            housekeeping.cancel()
            await asyncio.gather(commit, http, housekeeping, return_exceptions=True)
            self._is_ending.set()
            for cluster in collector.clusters:
                await asyncio.to_thread(cluster.stop)
            for thread in threads:
                await asyncio.to_thread(thread.join)
            with contextlib.suppress(StoreError):
                await asyncio.to_thread(collector.flush_reports)
            await asyncio.to_thread(collector.alert_actions.stop)
            await asyncio.to_thread(collector.integrations.stop)
            await asyncio.to_thread(collector.notifiers.stop)

    def _tell_blocks(self) -> None:
        """What is blocked has changed: another policy. In the loop."""
        blocks = self._collector.responder.orders()
        if blocks == self._ingest.context.policy.blocks:
            return
        try:
            policy = put_blocks(self._settings.data_dir / POLICY_FILE, self._ingest.context.policy, blocks)
        except OSError as error:
            self._count("policy_errors", error)
            asyncio.get_running_loop().call_later(POLICY_AGAIN_SECONDS, self._tell_blocks)
            return
        self._ingest.change_policy(policy)

    def _describe_own_traffic(self) -> OwnTraffic:
        host, port = self._http_socket.getsockname()[:2]
        tls = self._entrance.terminator_address
        return describe_own_traffic(self._collector.process_mark, [(host, port), *([tls] if tls is not None else [])])

    def _build_http(self) -> HttpServer:
        collector, settings = self._collector, self._settings
        metrics = Metrics(self._list_figures)
        app = build_app(
            store=collector.store,
            alerts=collector.alert_service,
            settings=ApiSettings(
                token=collector.api_token.value if collector.api_token else None,
                version=collector.version,
                consumer_order=settings.consumer_order,
                partner_networks=settings.partner_networks,
                exports=make_exports(settings.integrations, settings.cluster),
            ),
            clock=time.time,
            readiness=lambda: "The collector is stopping." if self._stop.is_set() else "",
            storage=self._read_storage,
            metrics=metrics.render,
            notifiers=collector.notifiers.members,
            responder=collector.responder,
            approval_token=collector.approval_token.value if collector.approval_token else None,
            specs=collector.specs,
            risks=collector.risks,
            detection=(collector.detection, collector.alert_service),
            editor=collector.editor,
            eraser=collector.eraser,
            clusters=lambda: [watcher.status for watcher in collector.clusters],
        )
        files = self._entrance.server_files if settings.is_http_secure else None
        server = HttpServer(app, files=files, grace_seconds=GRACE_SECONDS)
        if server.context is not None:
            self._entrance.keep_current(server.context)
        return server

    def _announce(self, grpc_port: int) -> None:
        """Tokens made by this start, once, on standard error: themselves on a terminal, where a person reads them; else
        their files, for a log is kept and sent on. Then the one line that programs wait for."""
        is_read_by_person = sys.stdout.isatty() and sys.stderr.isatty()
        collector, settings = self._collector, self._settings
        for token, file, what in (
            (collector.sensor_token, SENSOR_TOKEN_FILE, "Sensor"),
            (collector.api_token, API_TOKEN_FILE, "API"),
            (collector.approval_token, APPROVAL_TOKEN_FILE, "Approval"),
        ):
            if token is not None and token.is_new:
                shown = f": {token.value}" if is_read_by_person else "."
                place = settings.data_dir / file
                print(f"{what} token, made now and kept in {place}{shown}", file=sys.stderr, flush=True)
        event = {
            "event": "ready",
            "grpc": join_address(split_address(settings.grpc_listen)[0], grpc_port),
            "http": join_address(split_address(settings.http_listen)[0], self._http_socket.getsockname()[1]),
            "pid": os.getpid(),
            "version": collector.version,
        }
        print(json.dumps(event), flush=True)

    def _write(self) -> None:
        """The store writer's thread."""

        def fail(error: Exception) -> None:
            self._is_writer_failing = True
            self._count("writer_errors", error)

        def succeed() -> None:
            self._is_writer_failing = False

        run_writer(
            self._collector.writer,
            is_stopping=self._is_ending,
            on_error=fail,
            on_drained=succeed,
            interval_seconds=WRITE_INTERVAL_SECONDS,
        )

    def _detect(self) -> None:
        """The detectors' thread: takes signals, and hands over the mapping when it changed."""
        detectors, catalogue = self._collector.detectors, self._collector.catalogue
        told = 0
        while not self._is_ending.is_set():
            try:
                if catalogue.changes != told:  # Before the first start, too.
                    told = catalogue.changes
                    detectors.map_routes(catalogue.list_endpoints())
                detectors.poll(_POLL_SECONDS)
            except Exception as error:
                self._count("detector_errors", error)
                self._is_ending.wait(_POLL_SECONDS)
        detectors.stop()

    def _read_storage(self) -> StorageState:
        """Of log, disk and tables. Any thread."""
        collector = self._collector
        log = collector.writer.log_counts
        return StorageState(
            damaged_bytes=log.damaged_bytes,
            lost_batches=log.lost_batches,
            recovered_batches=log.recovered_batches,
            shortage=collector.disk.find_shortage(),
            is_failing=self._is_writer_failing,
            lag_seconds=collector.writer.measure_lag(time.time()),
        )

    def _count(self, name: str, error: Exception) -> None:
        """Count an error; in the log it is once a minute for as long as it stays the same."""
        setattr(self._errors, name, getattr(self._errors, name) + 1)
        sentence, now = _first_line(error), time.monotonic()
        known, logged_at = self._logged_errors.get(name, ("", 0.0))
        if sentence != known or now - logged_at >= LOG_AGAIN_SECONDS:
            self._logged_errors[name] = sentence, now
            logger.error("%s: %s", name.replace("_", " "), sentence)

    def _list_figures(self) -> tuple[Figure, ...]:
        return (
            *self._ingest.figures(),
            *self._entrance.figures(),
            *(self._http.figures() if self._http is not None else ()),
            *list_figures(self._errors),
            *make_totals([("evicted_rows", "Rows that the disk cap removed.", self._housekeeping.evicted_rows)]),
            *list_collector_figures(self._collector),
        )


def _first_line(error: BaseException) -> str:
    return str(error).split("\n", 1)[0] or type(error).__name__
