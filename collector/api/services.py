"""What the routes of the API and the pages use: inventories of one store, and parts that may be switched off."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from collector.alerting.detection import Detection
from collector.alerting.notifiers.delivery import Notifier
from collector.alerting.self_monitoring import StorageState
from collector.alerting.service import AlertService
from collector.api.authenticator import Authenticator
from collector.api.events import TABLES, EventHub, Topic, list_fingerprints
from collector.api.export_log import ExportLog
from collector.api.forwarding import Peers
from collector.backup.snapshot import Backup
from collector.core.budget import BudgetBook
from collector.core.config import SensorSetup
from collector.core.keys import InstallationKey
from collector.core.limits import DetectionProgress, Limit
from collector.inventory.changes import RetiredEndpoints
from collector.inventory.consumers.consumer import ConsumerName
from collector.inventory.consumers.consumers import ConsumerInventory
from collector.inventory.consumers.identify import ConsumerFinder
from collector.inventory.consumers.labels import LabelBook
from collector.inventory.consumers.sums import ConsumerSums
from collector.inventory.coverage.reader import CoverageInventory
from collector.inventory.coverage.targets import CoverageTargets
from collector.inventory.endpoints.endpoints import EndpointInventory
from collector.inventory.endpoints.exposure_list import ExposureInventory
from collector.inventory.endpoints.figure_sums import FigureSums
from collector.inventory.endpoints.predicates import ConsumerSql
from collector.inventory.endpoints.route_sums import RouteSums
from collector.inventory.evidence.calls import CallInventory
from collector.inventory.evidence.evidence import EvidenceReader
from collector.inventory.evidence.explanation import ExplanationReader
from collector.inventory.mcp import McpInventory
from collector.inventory.models.models import ModelInventory
from collector.inventory.models.prices import ModelPrices
from collector.inventory.partners import PartnerNetworks
from collector.inventory.sensors import SensorInventory
from collector.inventory.services.services import ServiceInventory
from collector.inventory.templates.editor import TemplateEditor
from collector.inventory.traffic.map import MapInventory
from collector.inventory.traffic.metered import MeteredEndpoints
from collector.inventory.traffic.series import TrafficInventory
from collector.inventory.views import ViewTable
from collector.kubernetes.watcher import ClusterStatus
from collector.receiver.sensor_status import SensorStatus
from collector.receiver.sensor_table import read_statuses
from collector.receiver.sensors import SensorRegistry
from collector.response.deny_lists import ExportSettings
from collector.response.responder import Erasing, Responder
from collector.risk.assessment import RiskAssessor
from collector.schemas.service import SchemaInventory
from collector.specs.assessment import SpecAssessor
from collector.specs.change import SpecChanges
from collector.specs.report import SpecReporter
from collector.specs.table import SpecTable
from collector.storage.base import Store
from collector.storage.recent import RecentAnswers
from collector.storage.records import Reader
from collector.storage.state.store import StateStore
from collector.storage.tables.layout import Retention
from collector.trust.audit import AuditLog
from collector.trust.bindings import BindingTable
from collector.trust.oidc import OidcLogin
from collector.trust.sessions import SessionTable
from collector.trust.tokens import TokenTable
from common.consumer_order import CONSUMER_ORDER, ConsumerColumn
from common.settings import EffectiveSetting

Metrics = Callable[[str], tuple[bytes, str]]  # Of the header field Accept: the text and its media type.
Readiness = Callable[[], str]  # Empty when ready, else one sentence why not.
Storage = Callable[[], StorageState]
Clusters = Callable[[], Sequence[ClusterStatus]]
Erase = Callable[[ConsumerName, Erasing], object]  # Gives what an ErasureModel shows.
HTMX_PATH = Path("/usr/share/javascript/htmx/htmx.min.js")  # Debian and Ubuntu: libjs-htmx.


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """How the HTTP side behaves. `token` None turns authentication off: the caller has made sure that it listens on
    loopback only."""

    token: str | None
    version: str
    consumer_order: tuple[ConsumerColumn, ...] = CONSUMER_ORDER
    partner_networks: tuple[str, ...] = ()
    retention: Retention = field(default_factory=Retention)
    htmx_path: Path = HTMX_PATH
    exports: ExportSettings = field(default_factory=ExportSettings)
    public_url: str = ""  # Where people reach the pages.
    is_answering: bool = True  # Else there are health and metrics alone: the process has no role `api`.

    def __repr__(self) -> str:
        """Without the token."""
        return f"ApiSettings(version={self.version!r}, has_token={self.token is not None})"


@dataclass(kw_only=True)
class Services:
    """`clock` gives unix seconds. `readiness` gives an empty string or one sentence why not; it may block. `metrics`
    gives the Prometheus text, `storage` the state of the collector's own log, disk and tables. A part that is None is
    switched off, and its routes do not exist. `approval_token` is the second person's. `list_keys` gives the
    installation's keys, the newest first. `peers` are the other collectors.
    """

    store: Store
    state: StateStore
    alerts: AlertService
    settings: ApiSettings
    clock: Callable[[], float]
    readiness: Readiness
    metrics: Metrics
    storage: Storage = StorageState
    limits: Callable[[], Sequence[Limit]] = tuple
    progress: Callable[[], DetectionProgress] = DetectionProgress
    clusters: Clusters = lambda: ()
    notifiers: Sequence[Notifier] = ()
    responder: Responder | None = None
    approval_token: str | None = None
    specs: SpecAssessor | None = None
    risks: RiskAssessor | None = None
    detection: tuple[Detection, AlertService] | None = None
    editor: TemplateEditor | None = None
    erase: Erase | None = None
    backup: Backup | None = None
    backup_token: str = field(default="", repr=False)
    label_book: LabelBook | None = None
    recent: RecentAnswers | None = None
    sums: ConsumerSums | None = None
    route_sums: RouteSums | None = None
    figure_sums: FigureSums | None = None
    list_keys: Callable[[], Sequence[InstallationKey]] = tuple
    budgets: BudgetBook = field(default_factory=BudgetBook)
    configuration: Sequence[EffectiveSetting] = ()
    sensor_setup: SensorSetup | None = None
    registry: SensorRegistry | None = None  # Of a process that receives from the sensors.
    peers: Peers = field(default_factory=Peers)
    login: OidcLogin | None = None  # At an OpenID provider.

    def __post_init__(self) -> None:
        who = ConsumerSql(self.settings.consumer_order)
        self.reader: Reader = self.recent or self.store
        partners = PartnerNetworks(self.settings.partner_networks)
        self.endpoints = EndpointInventory(
            reader=self.reader, who=who, partners=partners, sums=self.route_sums, figure_sums=self.figure_sums
        )
        self.labels = self.label_book or LabelBook(self.state, self.clock)
        self.consumers = ConsumerInventory(reader=self.reader, who=who, labels=self.labels, sums=self.sums)
        self.finder = ConsumerFinder(reader=self.store, consumers=self.consumers, list_keys=self.list_keys)
        self.services = ServiceInventory(reader=self.reader, who=who, sums=self.route_sums)
        self.map = MapInventory(reader=self.reader, partners=partners)
        self.traffic = TrafficInventory(reader=self.reader, who=who, retention=self.settings.retention)
        self.calls = CallInventory(reader=self.reader, who=who, retention=self.settings.retention)
        explanations = ExplanationReader(reader=self.store, calls=self.calls)
        self.evidence = EvidenceReader(calls=self.calls, explanations=explanations, clock=self.clock)
        registry = self.registry
        self.sensors = SensorInventory(
            clock=self.clock, list_statuses=registry.list_statuses if registry is not None else self._read_statuses
        )
        self.coverage = CoverageInventory(reader=self.reader, sensors=self.sensors)
        self.coverage_targets = CoverageTargets(state=self.state, reader=self.store, clock=self.clock)
        self.exposures = ExposureInventory(reader=self.reader)
        self.schemas = SchemaInventory(reader=self.reader)
        self.mcp = McpInventory(reader=self.reader, endpoints=self.endpoints, order=self.settings.consumer_order)
        self.model_prices = ModelPrices(state=self.state, clock=self.clock)
        self.models = ModelInventory(
            reader=self.reader,
            endpoints=self.endpoints,
            read_prices=self.model_prices.read,
            order=self.settings.consumer_order,
        )
        self.retired = RetiredEndpoints(store=self.store, state=self.state, clock=self.clock)
        self.views = ViewTable(self.state, self.clock)
        self.metered = MeteredEndpoints(state=self.state, reader=self.store, endpoints=self.endpoints, clock=self.clock)
        self.spec_table = SpecTable(self.state, self.clock)
        self.spec_assessor = self.specs or SpecAssessor(store=self.store, table=self.spec_table, paths=())
        self.spec_reporter = SpecReporter(
            store=self.store, table=self.spec_table, schemas=self.schemas, fits=lambda: self.spec_assessor.fits
        )
        self.spec_changes = SpecChanges(
            store=self.store,
            table=self.spec_table,
            read_seen=self.spec_reporter.read_seen,
            consumers=self.consumers,
            fits=lambda: self.spec_assessor.fits,
        )
        sessions = SessionTable(self.state, self.clock)
        self.authenticator = Authenticator(
            token=self.settings.token,
            clock=self.clock,
            sessions=sessions,
            tokens=TokenTable(self.state, self.clock, sessions.look),
            issuer="" if self.login is None else self.login.issuer,
        )
        self.bindings = BindingTable(self.state, self.clock, sessions.look)
        self.audit = AuditLog(self.state)
        self.exports = ExportLog(self.audit, self.clock)
        fingerprints = list_fingerprints(self._count_writes)
        if (responder := self.responder) is not None:
            fingerprints[Topic.BLOCKS] = lambda: tuple((block.id, block.state) for block in responder.list_blocks())
        if registry is not None:
            fingerprints[Topic.SENSORS] = lambda: (registry.changes, self.store.count_writes(TABLES[Topic.SENSORS]))
        self.events = EventHub(fingerprints)

    def _read_statuses(self) -> Sequence[SensorStatus]:
        return () if self.state is None else read_statuses(self.state)

    def _count_writes(self, tables: Sequence[str]) -> int:
        return self.store.count_writes(tables) + self.state.count_writes(tables)
