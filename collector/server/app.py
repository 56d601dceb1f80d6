"""Composes the collector's HTTP side: /api/v1, the pages, what guards them, and the OpenAPI document.

The document is FastAPI's, with all errors that each operation may answer.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from fastapi import APIRouter, Depends, FastAPI
from fastapi.responses import JSONResponse
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware

from collector.api.access import (
    API_PREFIX,
    HEALTH_PATHS,
    Access,
    LoopbackHost,
    RequestLimits,
    SameSite,
    SecurityHeaders,
)
from collector.api.alerts import build_alert_routes, build_incident_routes
from collector.api.audit import build_audit_routes
from collector.api.backup import build_backup_routes
from collector.api.blocks import build_block_routes, build_ladder_routes
from collector.api.calls import build_call_routes
from collector.api.changes import build_change_routes
from collector.api.config import build_config_routes
from collector.api.consumers import build_consumer_routes
from collector.api.coverage import build_coverage_routes
from collector.api.detection import build_detection_routes
from collector.api.edits import build_edit_routes
from collector.api.endpoints import build_endpoint_routes
from collector.api.erasures import build_erasure_routes
from collector.api.events import build_event_routes
from collector.api.exports import build_export_routes
from collector.api.exposure import build_exposure_routes
from collector.api.forwarding import Forwarding
from collector.api.health import build_health_routes, build_metrics_routes
from collector.api.mcp import build_mcp_routes
from collector.api.metered import build_metered_routes
from collector.api.models import build_model_routes
from collector.api.notifiers import build_notifier_routes
from collector.api.permissions import check_permission
from collector.api.problem import MEDIA_TYPE, ProblemModel, add_problem_handlers
from collector.api.risk import build_risk_routes
from collector.api.schemas import build_schema_routes
from collector.api.sensors import build_sensor_routes
from collector.api.services import Services
from collector.api.specs import build_spec_routes
from collector.api.traffic import build_service_routes, build_traffic_routes
from collector.api.users import build_user_routes
from collector.api.views import build_view_routes
from collector.ui.pages import add_pages

_PROBLEM: Final = "Problem"
_SCHEME: Final = "token"
# By status: what it means, and which operations answer it.
_ANYWHERE: Final[Mapping[int, str]] = {
    408: "The body did not come in time.",
    413: "The body is too long.",
    421: "The Host header names another machine; only without authentication.",
    422: "A parameter or field that does not exist, or whose value cannot be.",
    500: "The collector failed to answer; its log says why.",
    503: "It took too long, the store cannot answer, too many requests are being worked on, or it is not ready.",
}
_BEHIND_THE_TOKEN: Final[Mapping[int, str]] = {
    401: "No token, or the wrong one.",
    403: "The role or the scope of whoever asks does not allow it.",
    429: "Too many wrong tokens came from this address.",
}
_OF_SOMETHING: Final[Mapping[int, str]] = {404: "What is named does not exist."}
_OF_A_CHANGE: Final[Mapping[int, str]] = {
    403: "The role or the scope of whoever asks does not allow it, or a browser says that another site asks.",
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


GZIP_BYTES_MIN = 1_024
# In the event loop: level 9 takes three times as long for 2 % less.
GZIP_LEVEL = 4

DESCRIPTION = """The inventory of every HTTP API that the sensors see: endpoints, consumers, alerts, coverage.

Send the API token as `Authorization: Bearer TOKEN`. Errors are RFC 9457 problem details whose `detail` names the
thing, the value and
the fix. Lists are paged by keyset: ask again with `cursor` set to `next_cursor` until it is null. Unknown query
parameters are refused.
"""


def build_app(services: Services, limits: RequestLimits | None = None) -> FastAPI:
    """The app for one uvicorn worker; more would need more engines, and one process owns the store."""
    app = DescribedApi(
        title="Apidae",
        version=services.settings.version,
        description=DESCRIPTION,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        dependencies=[Depends(check_permission)],
        generate_unique_id_function=lambda route: route.name,
        middleware=[
            Middleware(SecurityHeaders, public_url=services.settings.public_url),
            Middleware(GZipMiddleware, minimum_size=GZIP_BYTES_MIN, compresslevel=GZIP_LEVEL),
            *([Middleware(LoopbackHost)] if services.authenticator.is_open else []),
            Middleware(SameSite),
            Middleware(
                Access,
                authenticator=services.authenticator,
                budgets=services.budgets,
                limits=limits or RequestLimits(),
            ),
            Middleware(Forwarding, peers=services.peers),
        ],
    )
    add_problem_handlers(app)
    health = build_health_routes(
        version=services.settings.version, readiness=services.readiness, storage=services.storage
    )
    measured = build_metrics_routes(metrics=services.metrics)
    inside = APIRouter()
    if services.settings.is_answering:
        features = tuple(_build_routes(services))
        for router in (*features, build_export_routes(features, services.exports), _build_openapi_route(app)):
            inside.include_router(router)
    inside.include_router(measured)
    app.include_router(inside, prefix=API_PREFIX)
    app.include_router(health, prefix=API_PREFIX)
    # Where orchestrators and Prometheus look unless configured otherwise.
    app.include_router(health, include_in_schema=False)
    app.include_router(measured, include_in_schema=False)
    if services.settings.is_answering:
        add_pages(app, services)
    return app


def _build_routes(services: Services) -> Iterator[APIRouter]:
    """Those of each feature."""
    store, clock, endpoints, schemas = services.store, services.clock, services.endpoints, services.schemas
    yield build_endpoint_routes(endpoints=endpoints, clock=clock)
    yield build_exposure_routes(
        endpoints=endpoints, exposures=services.exposures, clusters=services.clusters, clock=clock
    )
    yield build_call_routes(calls=services.calls)
    yield build_traffic_routes(traffic=services.traffic, service_map=services.map, clock=clock)
    yield build_consumer_routes(
        consumers=services.consumers, finder=services.finder, labels=services.labels, clock=clock
    )
    yield build_alert_routes(alerts=services.alerts, evidence=services.evidence, schemas=services.schemas, clock=clock)
    yield build_incident_routes(alerts=services.alerts, evidence=services.evidence)
    if services.detection is not None:
        detection, verdicts = services.detection
        yield build_detection_routes(detection=detection, verdicts=verdicts, clock=clock)
    yield build_notifier_routes(notifiers=services.notifiers, audit=services.audit, clock=clock)
    if services.responder is not None:
        yield build_block_routes(
            responder=services.responder,
            approval_token=services.approval_token,
            exports=services.settings.exports,
            export_log=services.exports,
        )
        yield build_ladder_routes(responder=services.responder)
    yield build_coverage_routes(
        coverage=services.coverage,
        targets=services.coverage_targets,
        limits=services.limits,
        progress=services.progress,
        clock=clock,
    )
    yield build_schema_routes(endpoints=endpoints, schemas=schemas, reader=store, exports=services.exports, clock=clock)
    yield build_mcp_routes(servers=services.mcp, clock=clock)
    yield build_model_routes(models=services.models, prices=services.model_prices, clock=clock)
    yield build_service_routes(services=services.services, service_map=services.map, clock=clock)
    yield build_spec_routes(
        table=services.spec_table,
        assessor=services.spec_assessor,
        reporter=services.spec_reporter,
        changes=services.spec_changes,
        clock=clock,
    )
    if services.editor is not None:
        yield build_edit_routes(editor=services.editor)
    if services.erase is not None:
        yield build_erasure_routes(erase=services.erase)
    if services.backup is not None:
        yield build_backup_routes(
            backup=services.backup,
            token=services.backup_token,
            budgets=services.budgets,
            exports=services.exports,
            clock=clock,
        )
    yield build_change_routes(reader=services.reader, retired=services.retired, clock=clock)
    yield build_view_routes(views=services.views)
    yield build_metered_routes(metered=services.metered)
    yield build_sensor_routes(sensors=services.sensors, version=services.settings.version)
    yield build_config_routes(settings=services.configuration)
    yield build_audit_routes(audit=services.audit, clock=clock)
    yield build_user_routes(
        authenticator=services.authenticator,
        bindings=services.bindings,
        clock=clock,
        has_login=services.login is not None,
    )
    yield build_event_routes(events=services.events, authenticator=services.authenticator)
    if services.risks is not None:
        yield build_risk_routes(risks=services.risks, clock=clock)


def _build_openapi_route(app: FastAPI) -> APIRouter:
    """The description of the API, behind the token like everything that names a version."""
    router = APIRouter()

    @router.get("/openapi.json", include_in_schema=False)
    def get_openapi() -> JSONResponse:
        return JSONResponse(app.openapi())

    return router
