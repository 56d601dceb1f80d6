"""Makes the collector's objects once: log, store, writer, alerts, detectors, receiver, web application.

Only this module and `collector/server/run.py` know all packages. Everything is made here, but nothing runs yet.
"""

import logging
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

from collector.alerting.alert import Alert, Report, label_alert
from collector.alerting.detection import Detection, DetectionTable, import_decisions, import_level
from collector.alerting.imports import import_alerts
from collector.alerting.lifecycle import Lifecycle
from collector.alerting.notifiers.build import build_notifiers
from collector.alerting.notifiers.http import check_otlp, read_headers
from collector.alerting.pending import PendingReports, WriteAlso
from collector.alerting.repository import EXPIRE_SECONDS, AlertTable
from collector.alerting.service import AlertService
from collector.api.forwarding import Peers
from collector.api.services import ApiSettings, Metrics, Readiness, Services, Storage
from collector.backup.restore import check_finished
from collector.backup.snapshot import Backup
from collector.core.budget import BudgetBook
from collector.core.config import CollectorSettings, find_setup
from collector.core.destinations import OtlpIntegration
from collector.core.feature import Feature, Job, KeptFigures, Role
from collector.core.keys import (
    API_TOKEN_FILE,
    APPROVAL_TOKEN_FILE,
    BACKUP_TOKEN_FILE,
    SENSOR_TOKEN_FILE,
    WEBHOOK_SECRET_FILE,
    Token,
    read_token,
)
from collector.core.limits import Limit
from collector.core.rates import Interval
from collector.detection.changes.detector import ChangeDetector, FactTable, import_facts
from collector.detection.changes.mcp import McpWatch
from collector.detection.changes.model_spend import ModelSpendWatch
from collector.detection.changes.rules import StoredCallers
from collector.detection.messages import SignalBatch
from collector.detection.process import DetectorProcess
from collector.detection.requests import DetectorRequests
from collector.erasure import Eraser, TableEraser
from collector.inventory.changes import RetiredEndpoints, import_retired
from collector.inventory.consumers.labels import LabelBook, import_labels
from collector.inventory.consumers.sums import ConsumerSums
from collector.inventory.coverage.reader import CoverageInventory
from collector.inventory.coverage.targets import CoverageTargets
from collector.inventory.credentials import CarrierProof
from collector.inventory.endpoints.endpoints import EndpointInventory
from collector.inventory.endpoints.figure_sums import FigureSums
from collector.inventory.endpoints.places import Places
from collector.inventory.endpoints.predicates import ConsumerSql
from collector.inventory.endpoints.route_sums import RouteSums
from collector.inventory.endpoints.shared_hidden import SharedHidden
from collector.inventory.kept_sums import SumsKeeper
from collector.inventory.mcp import McpInventory
from collector.inventory.partners import PartnerNetworks
from collector.inventory.sensors import SensorInventory
from collector.inventory.templates.catalogue import Catalogue
from collector.inventory.templates.editor import TemplateEditor
from collector.inventory.templates.table import TemplateTable, import_templates
from collector.inventory.traffic.meter import CallMeter
from collector.inventory.traffic.metered import MeteredEndpoints
from collector.inventory.views import ViewTable, import_views
from collector.kubernetes.watcher import ClusterWatcher, list_watch_figures
from collector.log.open import DIRECTORY, LogPlace, open_log
from collector.receiver.attachments import AttachmentLog
from collector.receiver.convert import check_protobuf
from collector.receiver.own_traffic import open_process_mark
from collector.receiver.policy import NO_CLUSTER
from collector.receiver.reports import RevealBook, RevealedWord
from collector.receiver.sensor_table import SensorTable, import_sensors
from collector.receiver.sensors import SensorRegistry
from collector.receiver.witness import WitnessBook
from collector.receiver.writer import StoreWriter
from collector.response.alert_actions import AlertActions
from collector.response.block_store import BlockStore
from collector.response.holders import Holders
from collector.response.imports import drop_imported, import_response
from collector.response.integrations import compose_integrations, make_exports
from collector.response.ladder import Ladder, LadderStep
from collector.response.policy_table import PolicyTable
from collector.response.preview import Previewer
from collector.response.reports import BlockReports
from collector.response.responder import Responder
from collector.risk.assessment import RiskAssessor
from collector.risk.repository import import_findings
from collector.server.otlp import OTLP_METRICS_PATH, OtlpExporter
from collector.server.reports import ReportQueue
from collector.server.tenure import open_tenure
from collector.specs.assessment import SpecAssessor
from collector.specs.table import SpecTable, import_specs
from collector.storage.base import Store, StoreError
from collector.storage.clickhouse import TABLES, ClickHouseStore
from collector.storage.damage import PartCheck
from collector.storage.disk import DiskCap, keep_reserve, measure_bytes
from collector.storage.embedded import STORE_DIRECTORY, find_retention, locate_tables, lock_directory, open_store
from collector.storage.recent import RecentAnswers
from collector.storage.replay import complete_insert
from collector.storage.state.copying import MOVED_NAME
from collector.storage.state.imports import drop_old_tables, import_file, import_once
from collector.storage.state.moving import check_moved
from collector.storage.state.store import open_state
from collector.trust.audit import AuditLog
from collector.trust.imports import import_files
from collector.trust.installation_keys import InstallationKeyTable
from collector.trust.oidc import KEY_NAME, OidcLogin, make_ticket_key, read_client_secret
from collector.trust.secrets import SecretTable, load_token, open_state_key
from common.figures import Figure, list_figures, make_gauges
from common.keyed_hash import hash_value
from common.kubernetes.reflector import is_in_cluster
from common.settings import KubernetesUse, list_effective

CHECKPOINT_FILE = "detectors.checkpoint"
# Between two looks at risk, API descriptions and changes: each reads all endpoints that were called.
RISK_SECONDS = 60.0
UNANSWERED_SECONDS = 600.0  # The age of alerts that are looked at again after a start.
RISK_ROUNDS_AT_REST = 5  # So many are one while nothing is written.

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """Each None where it is not taken."""

    sensor: Token | None
    api: Token | None
    approval: Token | None  # The second person's.
    backup: Token


class RestWatch:
    """Skips works while no table is written that they read: a round of them takes 200 ms of an empty store. They are
    done now and then all the same, for what they find goes by the time, too."""

    def __init__(self, store: Store, seconds: float) -> None:
        """`seconds`: between two rounds at rest."""
        self._store = store
        self._tables = tuple(table.name for table in TABLES)
        self._writes = -1
        self._interval = Interval(seconds)
        self._is_due = True

    def look(self) -> None:
        """Begin a round."""
        writes = self._store.count_writes(self._tables)
        self._is_due = self._interval.take() or writes != self._writes
        self._writes = writes

    def skip(self, work: Callable[[], object]) -> Callable[[], None]:
        """The work, which is not done in a round at rest."""

        def do() -> None:
            if self._is_due:
                work()

        return do


class Collector:
    """What `collector/server/run.py` starts and stops. `features` are all but writer and detectors."""

    def __init__(self, settings: CollectorSettings, url: str = "", *, clock: Callable[[], float] = time.time) -> None:
        """Open everything in order; each step's error is one sentence (StoreError, KeyFileError, OSError, RuntimeError,
        ValueError). `url`: where other collectors reach this one. `clock`: the present in unix seconds.
        """
        check_protobuf()
        self.settings = settings
        self._is_embedded = settings.store_url is None
        self.version = version("apidae")
        self._directory = directory = settings.data_dir
        self.disk = keep_reserve(directory, settings.disk_reserve_bytes)
        self._lock = lock_directory(directory)
        check_finished(directory)
        self._clock = clock
        self._whole = threading.Lock()  # Of who reads or changes everything that is kept: a backup, an erasure.
        self._open_state()
        self.tenure = open_tenure(self.state, settings.roles, url)
        self.name = urlsplit(url).netloc if self.state.is_shared else ""  # Of this one among several.
        self.keys = self.installation_keys.load(clock())
        # Before anything listens or connects.
        self.process_mark = open_process_mark(self.keys[0])
        if self.process_mark is not None:
            self.process_mark.watch_connections()
        self.tokens = _find_tokens(settings, self._load_own_token)
        self._login = self._compose_login()
        self._open_store()
        self.budgets = BudgetBook()
        self.sensors = SensorRegistry(clock, SensorTable(self.state))
        self.sensors.exchange()
        self.reports = ReportQueue(self.store, self.disk, self.catalogue)
        audit = self._audit = AuditLog(self.state)
        self.attachments = AttachmentLog(audit)
        self.policy = PolicyTable(self.state, settings.consumer_order)
        self._clusters = _compose_clusters(settings, self.store, self._reveal_words)
        self._holders = Holders(self._clusters, self.store)
        self._block_reports = BlockReports(self.state, clock)
        self.responder = Responder(
            store=BlockStore(self.state, self.policy),
            policy=self.policy,
            audit=audit,
            reports=self._block_reports,
            ladder=Ladder(self.state),
            previewer=Previewer(self.store, self._holders, self.sensors.list_clusters),
            holders=self._holders,
            find_clusters=self._find_clusters,
            clock=clock,
            limits=settings.blocks,
            requires_second_approval=settings.require_second_approval,
        )
        self._exporters = tuple(self._compose_exporters())
        self.integrations = compose_integrations(
            settings.integrations,
            self.responder,
            audit,
            cluster=settings.cluster,
            load_secret=self._load_secret,
            clock=clock,
        )
        self._notifiers = build_notifiers(
            settings.notifiers,
            state=self.state,
            cluster=settings.cluster,
            load_secret=self._load_secret,
            version=self.version,
            time_zone=settings.time_zone,
            clock=clock,
        )
        self._alert_actions = AlertActions(self._act_on_alerts, self._list_unanswered)
        self._compose_detection()
        self._compose_risks()
        self.witnesses = WitnessBook(self.find_placement, clock)
        self.witnesses.load(self.store.query("SELECT DISTINCT node, route_id FROM schemas"))
        known = SensorInventory(clock=clock, list_statuses=self.sensors.list_statuses)
        coverage = CoverageInventory(reader=self.store, sensors=known)
        self._proof = CarrierProof(store=self.store, clock=clock, reassess=self._risks.reassess)
        self._retired = RetiredEndpoints(store=self.store, state=self.state, clock=clock)
        self.features = tuple(self._list_features(coverage))

    def _list_features(self, coverage: CoverageInventory) -> Iterator[Feature]:
        """Alerts first, for all others may report."""
        clock, settings = self._clock, self.settings
        yield Feature(name="log and state", figures=self._list_own_figures, limits=self._list_own_limits)
        yield Feature(name="tables", figures=KeptFigures(self._list_table_figures))
        yield self.alert_service.feature
        yield self._alert_table.make_feature(clock, settings.retention.alert_days)
        yield self._detection.feature
        yield Feature(
            name="facts of changes",
            role=Role.JOBS,
            jobs=(Job(works=(lambda: self._facts.expire(clock()),), seconds=EXPIRE_SECONDS),),
        )
        yield self._risks.table.make_feature(clock)
        yield self._notifiers.feature
        if self.state.is_shared:
            yield self._detector_requests.feature
        yield self.integrations.feature
        yield self._alert_actions.feature
        yield self._block_reports.feature
        yield self.responder.feature
        yield self._audit.make_feature(clock, settings.retention.audit_days)
        yield from (watcher.feature for watcher in self._clusters)
        yield Feature(name="clusters", figures=lambda: list_watch_figures(self._clusters))
        yield self.sensors.feature
        yield self.reports.feature
        yield self.attachments.feature
        yield self.witnesses.feature
        yield self.catalogue.feature
        if self.state.is_shared:
            yield Feature(name="names of other collectors", jobs=(Job(works=(self.catalogue.follow,)),))
        yield self._retired.feature
        risk_figures = KeptFigures(self._risks.figures)
        rest = RestWatch(self.store, RISK_SECONDS * RISK_ROUNDS_AT_REST)
        # What is a credential and API descriptions come before the risk, and what changed comes after it.
        yield Feature(
            name="risk",
            role=Role.JOBS,
            start=self._begin_risks,
            jobs=(
                Job(
                    works=(
                        rest.look,
                        rest.skip(self._proof.update),
                        self._specs.look,  # It reads files, too.
                        rest.skip(self._risks.look),
                        rest.skip(self._changes.look),
                        rest.skip(self.mcp_watch.look),
                        rest.skip(self.spend_watch.look),
                    ),
                    seconds=RISK_SECONDS,
                ),
            ),
            figures=lambda: (
                *risk_figures(),
                *self._changes.figures(),
                *self.mcp_watch.figures(),
                *self.spend_watch.figures(),
            ),
            limits=lambda: (self._risks.limit,),
        )
        yield Feature(name="coverage", figures=KeptFigures(coverage.figures))
        targets = CoverageTargets(state=self.state, reader=self.store, clock=clock)
        yield targets.make_feature(self.alert_service.take_reports, self.alert_service.settle)
        yield self.metered.make_feature(self.meter)
        yield from (exporter.feature for exporter in self._exporters)
        yield from (sums.feature for sums in self._kept_sums)
        if self._is_embedded:
            yield DiskCap(self.store, settings.disk_limit_bytes, self._forget_sums).feature
            yield self.parts.feature

    def _erase_state(self, consumer: str, pattern: re.Pattern[str]) -> dict[str, int]:
        """Take a consumer out of the state, and with it what earlier versions kept."""
        counts = self._alert_table.erase(consumer, pattern) | self._detection_table.erase(consumer, pattern)
        counts |= self._facts.erase(consumer) | self._risks.table.erase(pattern)
        counts |= self.labels.erase(consumer, pattern) | ViewTable(self.state, self._clock).erase(pattern)
        counts |= self.metered.erase(pattern)
        self.state.scrub()
        (self._directory / MOVED_NAME).unlink(missing_ok=True)
        drop_old_tables(self.store)
        drop_imported(self._directory)
        return counts

    def _forget_sums(self) -> None:
        for sums in self._kept_sums:
            sums.erase()
        self._recent.forget()
        self._hidden.forget()

    @property
    def _kept_sums(self) -> list[SumsKeeper]:
        return [sums for sums in (self._sums, self._route_sums, self._figure_sums) if sums is not None]

    def _act_on_alerts(self, alerts: Sequence[Alert]) -> list[Alert]:
        """Under a budget, for it asks the store; without an end, for nobody waits for it."""
        with self.budgets.open():
            return self.responder.take_alerts(alerts)

    def _list_unanswered(self) -> list[Alert]:
        """Young open alerts, to which whoever answered alerts before may have had no time to answer."""
        now = self._clock()
        return [alert for alert in self._alert_table.list_restorable(now) if alert.opened_at > now - UNANSWERED_SECONDS]

    def find_placement(self, cluster: str, node: str, namespace: str, workload: str) -> bool | None:
        """Whether a workload has or had Pods on a node; None where no watch of its cluster knows."""
        for watcher in self._clusters:
            if watcher.cluster == cluster:
                return watcher.find_placement(node, namespace, workload)
        return None

    def _reveal_words(self, words: Sequence[str]) -> None:
        """Show words that a watched cluster's routes have in their paths, wherever calls have them."""
        now = datetime.fromtimestamp(int(self._clock()), UTC)
        self.reports.add_words(
            [
                RevealedWord(hash=hash_value(key.secret, word.encode()), text=word, key_id=key.key_id, time=now)
                for key in self.keys
                for word in words
            ]
        )

    def set_node_addresses(self, cluster: str, node: str, addresses: frozenset[str]) -> None:
        """What the sensor of a node says of the node's network."""
        for watcher in self._clusters:
            if watcher.cluster == cluster:
                watcher.set_node_addresses(node, addresses)

    def _load_secret(self) -> str:
        return self._load_own_token(WEBHOOK_SECRET_FILE).value

    def _load_own_token(self, file: str) -> Token:
        return load_token(self.secrets, self._directory / file, self._clock())

    def _compose_login(self) -> OidcLogin | None:
        """At the OpenID provider of the settings."""
        oidc = self.settings.oidc
        if not oidc.issuer:
            return None
        return OidcLogin(
            oidc,
            public_url=self.settings.public_url,
            ticket_key=self.secrets.find_or_make(KEY_NAME, make_ticket_key, self._clock()),
            secret=read_client_secret(oidc),
        )

    def _open_state(self) -> None:
        """The state, and what it keeps secret."""
        url = self.settings.state_url
        self.state = open_state(self._directory, None if url is None else url.get_secret_value())
        check_moved(self.state, self._directory)
        key = open_state_key(self.settings, self.state)
        self.installation_keys = InstallationKeyTable(self.state, key)
        self.secrets = SecretTable(self.state, key)
        import_files(self._directory, self.state, keys=self.installation_keys, secrets=self.secrets, now=self._clock())

    def _place_log(self) -> LogPlace:
        urls = (self.settings.log_url, self.settings.state_url)
        log_url, state_url = ("" if url is None else url.get_secret_value() for url in urls)
        return LogPlace(directory=self._directory / DIRECTORY, url=log_url, state_url=state_url)

    def _open_store(self) -> None:
        """The log, the tables behind it, and the names of endpoints."""
        self.log = open_log(
            self._place_log(),
            self.state,
            find_shortage=self.disk.find_shortage,
            write=partial(self.tenure.write, Role.WRITER),
        )
        self.store = open_store(self.settings, self.disk)
        self.store.drop_clones()  # Of a backup that a crash cut off.
        self.parts = PartCheck(
            store=self.store, pause=lambda: self.writer.pause(), retention=self.store.layout.retention
        )
        if self._is_embedded:
            self.parts.check_small()  # Before anything reads the tables.
        import_once(self.state, self.store, "alerts", import_alerts, self._clock())
        import_once(self.state, self.store, "decisions on detection", import_decisions, self._clock())
        import_once(self.state, self.store, "known facts", import_facts, self._clock())
        damage = "the setting `sensitivity` then holds."
        import_file(self.state, self._directory / "sensitivity.json", import_level, self._clock(), damage=damage)
        import_once(self.state, self.store, "findings", import_findings, self._clock())
        import_once(self.state, self.store, "API descriptions", import_specs, self._clock())
        import_response(self.state, self._directory, self._clock())
        import_once(self.state, self.store, "views", import_views, self._clock())
        import_once(self.state, self.store, "labels", import_labels, self._clock())
        import_once(self.state, self.store, "templates", import_templates, self._clock())
        import_once(self.state, self.store, "retired endpoints", import_retired, self._clock())
        import_once(self.state, self.store, "sensors", import_sensors, self._clock())
        self.labels = LabelBook(self.state, self._clock)
        who = ConsumerSql(self.settings.consumer_order)
        # A server may be older than what the sums are read by.
        self._sums = ConsumerSums(store=self.store, who=who, clock=self._clock) if self._is_embedded else None
        self._route_sums = RouteSums(store=self.store, clock=self._clock) if self._is_embedded else None
        partners = PartnerNetworks(self.settings.partner_networks)
        self._figure_sums = (
            FigureSums(store=self.store, who=who, partners=partners, clock=self._clock) if self._is_embedded else None
        )
        self._hidden = SharedHidden(self.store)
        self._recent = RecentAnswers(
            self.store, lambda: any(sums.has_any for sums in self._kept_sums), share=self._hidden.share
        )
        self.reveals = RevealBook()
        self._templates = TemplateTable(self.state, self.store)
        self.catalogue = Catalogue(self.store, self._templates, self.reveals)
        tables = locate_tables(self._directory / STORE_DIRECTORY)
        self.meter = CallMeter(self.catalogue.find_service, self._clock)
        self.writer = StoreWriter(
            store=self.store,
            log_id=self.log.id,
            map_endpoints=self.catalogue.map_routes,
            find_shortage=self.disk.find_shortage,
            complete=partial(complete_insert, self.store, tables) if self._is_embedded else lambda _: 0,
            on_stored=self.meter.add,
        )

    def _compose_detection(self) -> None:
        """Detectors and alerts: each sends to the other."""
        self._detection_table = DetectionTable(self.store, self.state)
        self._detection = Detection(
            table=self._detection_table,
            configured=self.settings.sensitivity,
            clock=self._clock,
            new_id=lambda: uuid.uuid4().hex,
        )
        self.pending = PendingReports(self.state)
        places = Places(self.store)
        self._alert_table = AlertTable(
            self.state, places.list_routes, begin=lambda: partial(self.tenure.write, Role.JOBS)
        )
        self.alert_service = AlertService(
            table=self._alert_table,
            lifecycle=Lifecycle(new_id=lambda: uuid.uuid4().hex, find_budget=lambda: self._detection.budget),
            detection=self._detection,
            clock=self._clock,
            prepare=self._prepare_notifications,
            notify=self._answer,
            name_holder=self._name_holder,
            find_place=places.find,
            find_label=self._find_label,
            expect=lambda alert: self._detector_requests.expect(alert),
            pending=self.pending,
        )
        self.detectors = DetectorProcess(
            log=self._place_log(),
            checkpoint_path=self._directory / CHECKPOINT_FILE,
            take=self.take_signals,
            consumer_order=self.settings.consumer_order,
            time_zone=self.settings.time_zone,
        )

        self._detector_requests = DetectorRequests(
            self.state,
            self.detectors,
            lambda: not self.state.is_shared or self.tenure.has(Role.DETECT),
            lambda: self.tenure.is_done(Role.DETECT),
        )

    def take_signals(self, batch: SignalBatch) -> None:
        """What detectors found, on its way to alerts. Raises StoreError."""
        self.writer.hurry()  # Who reads the alert wants the calls that led to it.
        write = partial(self.tenure.write, Role.DETECT)
        self.pending.add_signals(f"{self.log.id}/{batch.series}", batch.first, batch.signals, write)
        if self.tenure.has(Role.JOBS):  # Else whoever does them looks within a second.
            self.alert_service.take_pending()

    def _find_clusters(self, nodes: Sequence[str]) -> tuple[str, ...]:
        return tuple(sorted(cluster or NO_CLUSTER for cluster in self.sensors.find_clusters(nodes)))

    def _name_holder(self, report: Report) -> Report:
        """With who held the address that it accuses, in the clusters of the nodes that saw it."""
        return self._holders.name_accused(report, self._find_clusters(report.nodes), self._clock())

    def _prepare_notifications(self, alerts: Sequence[Alert]) -> WriteAlso:
        sent = [alert for alert in alerts if self._is_notified(alert)]
        labelled = [label_alert(alert, self._find_label(alert.consumer), self.settings.public_url) for alert in sent]
        return partial(self._notifiers.add, alerts=labelled)

    def _answer(self, alert: Alert) -> None:
        self._notifiers.wake()
        self._alert_actions.take(alert)

    def _is_notified(self, alert: Alert) -> bool:
        """Also where the ladder cannot be read: better one notification too many."""
        try:
            return self.responder.ladder.find(alert.kind).step is not LadderStep.OBSERVE
        except StoreError:
            return True

    def _find_label(self, consumer: str) -> str:
        """What people call a consumer; nobody is notified later because that cannot be read."""
        try:
            return self.labels.find_name(consumer)
        except StoreError:
            return ""

    def _begin_risks(self) -> None:
        """As the process that does the jobs: one that was succeeded writes nothing any more."""
        for table in (self._facts, self._risks.table):
            table.write_by(partial(self.tenure.write, Role.JOBS))
        self._risks.start()

    def _compose_exporters(self) -> Iterator[OtlpExporter]:
        """Where metrics are sent. Raises ValueError with one sentence that names the setting."""
        for number, one in enumerate(self.settings.integrations):
            if not isinstance(one, OtlpIntegration):
                continue
            try:
                headers = read_headers(one.headers.get_secret_value() if one.headers is not None else "")
                url = check_otlp(one.url, is_with_headers=bool(headers), path=OTLP_METRICS_PATH)
            except ValueError as error:
                raise ValueError(f"integrations[{number}], {one.kind}: {error}") from None
            yield OtlpExporter(url=url, headers=headers, meter=self.meter, version=self.version, clock=self._clock)

    def _compose_risks(self) -> None:
        """What is computed of endpoints: descriptions, risk, changes."""
        store, clock, who = self.store, self._clock, ConsumerSql(self.settings.consumer_order)
        self._facts = FactTable(self.state)
        self._changes = ChangeDetector(
            facts=self._facts,
            callers=StoredCallers(store, who),
            clock=clock,
            report=self.alert_service.take_found,
        )
        self._specs = SpecAssessor(store=store, table=SpecTable(self.state, clock), paths=self.settings.spec_paths)
        partners = PartnerNetworks(self.settings.partner_networks)
        endpoints = EndpointInventory(
            reader=store, who=who, partners=partners, sums=self._route_sums, figure_sums=self._figure_sums
        )
        servers = McpInventory(reader=store, endpoints=endpoints, order=self.settings.consumer_order)
        self.mcp_watch = McpWatch(servers=servers, facts=self._facts, clock=clock, report=self.alert_service.take_found)
        self.spend_watch = ModelSpendWatch(reader=store, clock=clock, report=self.alert_service.take_found)
        self.metered = MeteredEndpoints(state=self.state, reader=store, endpoints=endpoints, clock=clock)
        self._risks = RiskAssessor(
            store=store,
            state=self.state,
            endpoints=endpoints,
            clock=clock,
            alarm=self.alert_service.take_reports,
            observe=self._changes.note,
        )

    def build_services(
        self,
        readiness: Readiness,
        metrics: Metrics,
        storage: Storage,
        grpc_port: int | None = None,
        peers: Peers | None = None,
    ) -> Services:
        """What the API and the pages use. `grpc_port`: of the listener for sensors."""
        settings, tokens = self.settings, self.tokens
        eraser = Eraser(
            log=self.log,
            writer=self.writer,
            store=self.store,
            tables=TableEraser(self.store, self.store.layout),
            erase_detected=self._detector_requests.erase,
            erase_state=self._erase_state,
            alert_service=self.alert_service,
            responder=self.responder,
            notified=self._notifiers.erase,
            forget=self._forget_sums,
            lock=self._whole,
        )
        backup = Backup(
            directory=self._directory,
            store=self.store,
            state=self.state,
            writer=self.writer,
            log=self.log,
            version=self.version,
            clock=self._clock,
            lock=self._whole,
            find_holder=self.tenure.find_holder,
            is_log_shared=settings.log_url is not None,
        )
        return Services(
            store=self.store,
            state=self.state,
            registry=self.sensors,
            alerts=self.alert_service,
            settings=ApiSettings(
                token=tokens.api.value if tokens.api else None,
                version=self.version,
                consumer_order=settings.consumer_order,
                partner_networks=settings.partner_networks,
                retention=find_retention(settings),
                exports=make_exports(settings.integrations, settings.cluster),
                public_url=settings.public_url,
                is_answering=Role.API in settings.roles,
            ),
            clock=self._clock,
            readiness=readiness,
            metrics=metrics,
            storage=storage,
            limits=self.list_limits,
            progress=self.detectors.read_progress,
            clusters=lambda: [watcher.status for watcher in self._clusters],
            notifiers=self._notifiers.members,
            responder=self.responder,
            approval_token=tokens.approval.value if tokens.approval else None,
            specs=self._specs,
            risks=self._risks,
            detection=(self._detection, self.alert_service),
            editor=TemplateEditor(store=self.store, table=self._templates, names=self.catalogue, clock=self._clock),
            erase=eraser.erase,
            backup=backup,
            backup_token=tokens.backup.value,
            label_book=self.labels,
            recent=self._recent,
            sums=self._sums,
            route_sums=self._route_sums,
            figure_sums=self._figure_sums,
            list_keys=self.installation_keys.list_all,
            budgets=self.budgets,
            configuration=list_effective(settings),
            sensor_setup=find_setup(settings, grpc_port),
            peers=peers or Peers(),
            login=self._login,
        )

    def list_limits(self) -> list[Limit]:
        """What is bounded in memory, and how much of it is in use."""
        return [*self.detectors.list_limits(), *(limit for one in self.features for limit in one.limits())]

    def _list_own_limits(self) -> tuple[Limit, ...]:
        return self.reveals.limit, self.log.limit

    def _list_own_figures(self) -> Iterator[Figure]:
        """Of log and state. Raises StoreError."""
        yield from make_gauges(
            (
                ("wal_bytes", "Bytes of the log of batches.", self.log.measure_bytes()),
                ("disk_free_bytes", "Free bytes of the disk with the log and the tables.", self.disk.measure_free()),
                ("disk_reserve_bytes", "Free bytes below which the log takes nothing.", self.disk.reserve_bytes),
                (
                    "store_lag_seconds",
                    "Age of the oldest batch that is not in the tables yet.",
                    self.writer.measure_lag(time.time()),
                ),
                ("state_bytes", "Bytes of the database with the state.", self.state.measure_bytes()),
            )
        )
        yield from list_figures(self.budgets.counts, "http_")

    def _list_table_figures(self) -> tuple[Figure, ...]:
        """Raises StoreError."""
        size = measure_bytes(self.store) if self._is_embedded else 0
        return make_gauges([("store_bytes", "Bytes of the tables; 0 of a store that is not embedded.", size)])

    def close(self) -> None:
        """Release log, store and lock. Blocks."""
        self.state.close()
        self.store.close()
        self.log.close()
        self._lock.close()


def _compose_clusters(
    settings: CollectorSettings, store: ClickHouseStore, on_words: Callable[[Sequence[str]], None]
) -> tuple[ClusterWatcher, ...]:
    """A watch for each cluster that is to be watched."""
    if settings.kubernetes is KubernetesUse.OFF:
        return ()
    watched: list[tuple[str, Path | None]] = []
    if settings.kubernetes is KubernetesUse.ON or is_in_cluster():
        watched.append((settings.cluster, None))
    for other in settings.other_clusters:
        name, _, file = other.partition("=")
        watched.append((name, Path(file)))
    return tuple(
        ClusterWatcher(cluster=name, kubeconfig=file, store=store, on_words=on_words) for name, file in watched
    )


def _find_tokens(settings: CollectorSettings, load_own: Callable[[str], Token]) -> Tokens:
    def find(given: Path | None, own: str) -> Token | None:
        """The operator's where a file is set, else our own; None without authentication. Raises KeyFileError."""
        if settings.no_auth:
            return None
        return load_own(own) if given is None else read_token(given)

    return Tokens(
        sensor=find(settings.sensor_token_file, SENSOR_TOKEN_FILE) if settings.takes_tokens else None,
        api=find(settings.api_token_file, API_TOKEN_FILE),
        approval=load_own(APPROVAL_TOKEN_FILE) if settings.require_second_approval else None,
        backup=load_own(BACKUP_TOKEN_FILE),
    )
