"""The composition of the collector's HTTP side: /api/v1, the page, and what guards them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.responses import JSONResponse
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware

from collector.alerts.delivery import Notifier
from collector.alerts.detection import Detection
from collector.alerts.storage import StorageState
from collector.api.access import API_PREFIX, Access, RequestLimits
from collector.api.alerts import AlertRepository
from collector.api.authenticate import Authenticator
from collector.api.description import DescribedApi
from collector.api.guard import LoopbackHost, SameSite, SecurityHeaders
from collector.api.problem import add_problem_handlers
from collector.api.routes.alerts import build_alert_routes
from collector.api.routes.blocks import build_block_routes, build_ladder_routes
from collector.api.routes.calls import build_call_routes
from collector.api.routes.changes import build_change_routes
from collector.api.routes.consumers import build_consumer_routes
from collector.api.routes.coverage import build_coverage_routes
from collector.api.routes.detection import VerdictTaker, build_detection_routes
from collector.api.routes.edits import build_edit_routes
from collector.api.routes.endpoints import build_endpoint_routes
from collector.api.routes.erasures import build_erasure_routes
from collector.api.routes.exposure import Clusters, build_exposure_routes
from collector.api.routes.health import Metrics, Readiness, Storage, build_health_routes, build_metrics_routes
from collector.api.routes.incidents import build_incident_routes
from collector.api.routes.notifiers import build_notifier_routes
from collector.api.routes.risk import build_risk_routes
from collector.api.routes.schemas import build_schema_routes
from collector.api.routes.specs import build_spec_routes
from collector.api.routes.watch import build_watch_routes
from collector.erasure.eraser import Eraser
from collector.inventory.calls import CallInventory
from collector.inventory.consumers import ConsumerInventory
from collector.inventory.counted import ConsumerSql
from collector.inventory.coverage_reader import CoverageInventory
from collector.inventory.editor import TemplateEditor
from collector.inventory.endpoints import EndpointInventory
from collector.inventory.evidence import EvidenceReader
from collector.inventory.exposures import ExposureInventory
from collector.inventory.partners import PartnerNetworks
from collector.inventory.tombstones import Graveyard
from collector.inventory.watch import Watch
from collector.respond.export import ExportSettings
from collector.respond.responder import Responder
from collector.risk.keeper import RiskKeeper
from collector.rows import CONSUMER_ORDER, ConsumerColumn
from collector.schemas.reader import SchemaInventory
from collector.specs.keeper import SpecKeeper
from collector.specs.report import SpecReporter
from collector.specs.table import SpecTable, Store
from collector.ui.page import build_page_routes
from collector.ui.schema_view import SchemaSource

HTMX_PATH = Path("/usr/share/javascript/htmx/htmx.min.js")  # Debian and Ubuntu: libjs-htmx.
GZIP_BYTES_MIN = 1_024

DESCRIPTION = """The inventory of every HTTP API that the sensors see: endpoints, consumers, alerts, coverage.

Send the API token as `Authorization: Bearer TOKEN`. Errors are RFC 9457 problem details whose `detail` names the
thing, the value and
the fix. Lists are paged by keyset: ask again with `cursor` set to `next_cursor` until it is null. Unknown query
parameters are refused.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """How the HTTP side behaves. `token` None turns authentication off: the caller has made sure that it listens on
    loopback only."""

    token: str | None
    version: str
    consumer_order: tuple[ConsumerColumn, ...] = CONSUMER_ORDER
    partner_networks: tuple[str, ...] = ()
    htmx_path: Path = HTMX_PATH
    exports: ExportSettings = field(default_factory=ExportSettings)

    def __repr__(self) -> str:
        """Without the token."""
        return f"ApiSettings(version={self.version!r}, has_token={self.token is not None})"


def build_app(
    *,
    store: Store,
    alerts: AlertRepository,
    settings: ApiSettings,
    clock: Callable[[], float],
    readiness: Readiness,
    metrics: Metrics,
    storage: Storage = StorageState,
    clusters: Clusters = lambda: (),
    notifiers: Sequence[Notifier] = (),
    responder: Responder | None = None,
    approval_token: str | None = None,
    specs: SpecKeeper | None = None,
    risks: RiskKeeper | None = None,
    detection: tuple[Detection, VerdictTaker] | None = None,
    editor: TemplateEditor | None = None,
    eraser: Eraser | None = None,
    limits: RequestLimits | None = None,
) -> FastAPI:
    """The app for one uvicorn worker; more would need more engines, and one process owns the store.

    `clock` gives unix seconds. `readiness` gives an empty string or one sentence why not; it may block. `metrics`
    gives the Prometheus text, `storage` the state of the collector's own log, disk and tables. `clusters` tells of the
    watches of Kubernetes clusters; `notifiers` are where alerts go; without a `responder` nobody is blocked, and
    `approval_token` is the second person's. `specs` judges endpoints by their descriptions, and is one of its own where
    none is given; without `risks` nothing is told of risk. `detection` is how it is set, and who takes verdicts:
    without it there are no such routes. Without an `editor` no template can be edited, without an `eraser` nobody
    erased.
    """
    who = ConsumerSql(settings.consumer_order)
    endpoints = EndpointInventory(reader=store, who=who, partners=PartnerNetworks(settings.partner_networks))
    consumers = ConsumerInventory(reader=store, who=who)
    calls = CallInventory(reader=store, who=who)
    evidence = EvidenceReader(calls=calls, clock=clock)
    watch = Watch(reader=store, clock=clock)
    coverage = CoverageInventory(reader=store, watch=watch)
    exposures = ExposureInventory(reader=store)
    schemas = SchemaInventory(reader=store)
    authenticator = Authenticator(token=settings.token, clock=clock)
    app = DescribedApi(
        title="Apidae",
        version=settings.version,
        description=DESCRIPTION,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
        middleware=[
            Middleware(SecurityHeaders),
            Middleware(GZipMiddleware, minimum_size=GZIP_BYTES_MIN),
            *([Middleware(LoopbackHost)] if authenticator.is_open else []),
            Middleware(SameSite),
            Middleware(Access, authenticator=authenticator, limits=limits or RequestLimits()),
        ],
    )
    add_problem_handlers(app)
    health = build_health_routes(version=settings.version, readiness=readiness, storage=storage)
    measured = build_metrics_routes(metrics=metrics)
    inside = APIRouter()
    inside.include_router(build_endpoint_routes(endpoints=endpoints, clock=clock))
    inside.include_router(
        build_exposure_routes(endpoints=endpoints, exposures=exposures, clusters=clusters, clock=clock)
    )
    inside.include_router(build_call_routes(calls=calls))
    inside.include_router(build_consumer_routes(consumers=consumers, clock=clock))
    inside.include_router(build_alert_routes(alerts=alerts, evidence=evidence, clock=clock))
    inside.include_router(build_incident_routes(alerts=alerts))
    if detection is not None:
        inside.include_router(build_detection_routes(detection=detection[0], verdicts=detection[1], clock=clock))
    inside.include_router(build_notifier_routes(notifiers=notifiers, clock=clock))
    if responder is not None:
        inside.include_router(
            build_block_routes(responder=responder, approval_token=approval_token, exports=settings.exports)
        )
        inside.include_router(build_ladder_routes(responder=responder))
    inside.include_router(build_coverage_routes(coverage=coverage, clock=clock))
    inside.include_router(build_schema_routes(endpoints=endpoints, schemas=schemas, reader=store, clock=clock))
    table = SpecTable(store, clock)
    keeper = specs or SpecKeeper(store=store, table=table, paths=(), clock=clock)
    reporter = SpecReporter(store=store, table=table, schemas=schemas, fits=lambda: keeper.fits)
    inside.include_router(build_spec_routes(table=table, keeper=keeper, reporter=reporter))
    if editor is not None:
        inside.include_router(build_edit_routes(editor=editor))
    if eraser is not None:
        inside.include_router(build_erasure_routes(eraser=eraser))
    inside.include_router(build_change_routes(reader=store, graveyard=Graveyard(store=store, clock=clock)))
    inside.include_router(build_watch_routes(watch=watch))
    if risks is not None:
        inside.include_router(build_risk_routes(risks=risks))
    inside.include_router(measured)
    inside.include_router(_build_openapi_route(app))
    app.include_router(inside, prefix=API_PREFIX)
    app.include_router(health, prefix=API_PREFIX)
    # Where orchestrators and Prometheus look unless told otherwise.
    app.include_router(health, include_in_schema=False)
    app.include_router(measured, include_in_schema=False)
    app.include_router(
        build_page_routes(
            endpoints=endpoints,
            consumers=consumers,
            watch=watch,
            coverage=coverage,
            exposures=exposures,
            schemas=SchemaSource(reader=store, schemas=schemas),
            alerts=alerts,
            evidence=evidence,
            risks=risks,
            authenticator=authenticator,
            version=settings.version,
            storage=storage,
            htmx_path=settings.htmx_path,
            clock=clock,
            responder=responder,
            approval_token=approval_token,
            detection=detection[0] if detection is not None else None,
            notifiers=notifiers,
            editor=editor,
        ),
        include_in_schema=False,
    )
    return app


def _build_openapi_route(app: FastAPI) -> APIRouter:
    """The description of the API, behind the token like everything that names a version."""
    router = APIRouter()

    @router.get("/openapi.json", include_in_schema=False)
    def get_openapi() -> JSONResponse:
        return JSONResponse(app.openapi())

    return router
