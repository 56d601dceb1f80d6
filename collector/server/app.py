"""Composes the collector's HTTP side: /api/v1, the pages, what guards them, and the OpenAPI document.

The document is FastAPI's, with all errors that each operation may answer.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from fastapi.responses import JSONResponse
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware

from collector.alerting.detection import Detection
from collector.alerting.notifiers.delivery import Notifier
from collector.alerting.self_monitoring import StorageState
from collector.alerting.service import AlertService
from collector.api.access import (
    API_PREFIX,
    HEALTH_PATHS,
    Access,
    Authenticator,
    LoopbackHost,
    RequestLimits,
    SameSite,
    SecurityHeaders,
)
from collector.api.alerts import build_alert_routes, build_incident_routes
from collector.api.blocks import build_block_routes, build_ladder_routes
from collector.api.calls import build_call_routes
from collector.api.changes import build_change_routes
from collector.api.consumers import build_consumer_routes
from collector.api.coverage import build_coverage_routes
from collector.api.detection import build_detection_routes
from collector.api.edits import build_edit_routes
from collector.api.endpoints import build_endpoint_routes
from collector.api.erasures import build_erasure_routes
from collector.api.exposure import Clusters, build_exposure_routes
from collector.api.health import Metrics, Readiness, Storage, build_health_routes, build_metrics_routes
from collector.api.notifiers import build_notifier_routes
from collector.api.problem import MEDIA_TYPE, ProblemModel, add_problem_handlers
from collector.api.risk import build_risk_routes
from collector.api.schemas import build_schema_routes
from collector.api.sensors import build_watch_routes
from collector.api.specs import build_spec_routes
from collector.erasure import Eraser
from collector.inventory.changes import RetiredEndpoints
from collector.inventory.consumers.consumers import ConsumerInventory
from collector.inventory.coverage.reader import CoverageInventory
from collector.inventory.endpoints.endpoints import EndpointInventory
from collector.inventory.endpoints.exposure_list import ExposureInventory
from collector.inventory.endpoints.predicates import ConsumerSql
from collector.inventory.evidence.calls import CallInventory
from collector.inventory.evidence.evidence import EvidenceReader
from collector.inventory.partners import PartnerNetworks
from collector.inventory.sensors import Watch
from collector.inventory.templates.editor import TemplateEditor
from collector.response.deny_lists import ExportSettings
from collector.response.responder import Responder
from collector.risk.assessment import RiskAssessor
from collector.schemas.service import SchemaInventory
from collector.specs.assessment import SpecAssessor
from collector.specs.report import SpecReporter
from collector.specs.table import SpecTable
from collector.storage.base import Store
from collector.ui.endpoint_page import SchemaSource
from collector.ui.page import build_page_routes
from common.settings import CONSUMER_ORDER, ConsumerColumn

_PROBLEM: Final = "Problem"
_SCHEME: Final = "token"
# By status: what it means, and which operations answer it.
_ANYWHERE: Final[Mapping[int, str]] = {
    408: "The body did not come in time.",
    413: "The body is too long.",
    421: "The Host header names another machine; only without authentication.",
    422: "A parameter or field that does not exist, or whose value cannot be.",
    500: "The collector failed to answer; its log says why.",
    503: "The store cannot answer, too many requests are being worked on, or it is not ready.",
}
_BEHIND_THE_TOKEN: Final[Mapping[int, str]] = {401: "No token, or the wrong one."}
_OF_SOMETHING: Final[Mapping[int, str]] = {404: "What is named does not exist."}
_OF_A_CHANGE: Final[Mapping[int, str]] = {
    403: "A browser says that another site asks.",
    404: "What is named does not exist.",
    409: "What is named is in another state than this needs.",
    415: "The body is not application/json.",
}


class DescribedApi(FastAPI):
    """An application whose description is complete."""

    def openapi(self) -> dict[str, Any]:
        """The document; made once."""
        if self.openapi_schema is None:
            self.openapi_schema = _describe_problems(super().openapi())
        return self.openapi_schema


def _describe_problems(document: dict[str, Any]) -> dict[str, Any]:
    components = document["components"]
    components["schemas"][_PROBLEM] = ProblemModel.model_json_schema()
    components["securitySchemes"] = {_SCHEME: {"type": "http", "scheme": "bearer"}}
    # FastAPI's form of a 422, which no operation answers.
    for name in ("HTTPValidationError", "ValidationError"):
        components["schemas"].pop(name, None)
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            answers = dict(_ANYWHERE)
            if path not in HEALTH_PATHS:
                answers |= _BEHIND_THE_TOKEN
                operation["security"] = [{_SCHEME: []}]
            if "{" in path:
                answers |= _OF_SOMETHING
            if method != "get":
                answers |= _OF_A_CHANGE
            described = {str(status): _refer(meaning) for status, meaning in sorted(answers.items())}
            operation["responses"] = {**operation["responses"], **described}
    return document


def _refer(meaning: str) -> dict[str, Any]:
    return {
        "description": meaning,
        "content": {MEDIA_TYPE: {"schema": {"$ref": f"#/components/schemas/{_PROBLEM}"}}},
    }


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
    alerts: AlertService,
    settings: ApiSettings,
    clock: Callable[[], float],
    readiness: Readiness,
    metrics: Metrics,
    storage: Storage = StorageState,
    clusters: Clusters = lambda: (),
    notifiers: Sequence[Notifier] = (),
    responder: Responder | None = None,
    approval_token: str | None = None,
    specs: SpecAssessor | None = None,
    risks: RiskAssessor | None = None,
    detection: tuple[Detection, AlertService] | None = None,
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
    assessor = specs or SpecAssessor(store=store, table=table, paths=(), clock=clock)
    reporter = SpecReporter(store=store, table=table, schemas=schemas, fits=lambda: assessor.fits)
    inside.include_router(build_spec_routes(table=table, assessor=assessor, reporter=reporter))
    if editor is not None:
        inside.include_router(build_edit_routes(editor=editor))
    if eraser is not None:
        inside.include_router(build_erasure_routes(eraser=eraser))
    inside.include_router(build_change_routes(reader=store, retired=RetiredEndpoints(store=store, clock=clock)))
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
