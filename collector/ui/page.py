"""The main pages: the inventory with its alerts on top, one endpoint, one incident, coverage, and the sign-in.

They are plain links and forms. htmx only makes them smoother.
"""

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import FileResponse, RedirectResponse
from pydantic import ValidationError

from collector.alerting.alert import AlertState
from collector.api.access import COOKIE_NAME, SESSION_SECONDS
from collector.api.problem import Problem
from collector.api.services import Services
from collector.inventory.endpoints.endpoint import Endpoint
from collector.inventory.endpoints.filters import METHODS, EndpointQuery
from collector.inventory.filters import Page, SpanParameters
from collector.inventory.query import CursorError, Since, series_span, span_since
from collector.inventory.sensors import SensorState
from collector.ui.alert_page import add_alerts
from collector.ui.chart import draw_calls, draw_latency, split_status
from collector.ui.columns import ENDPOINT_COLUMNS, build_list_values, link_to, list_trouble, word_refusal
from collector.ui.coverage_page import build_coverage_values
from collector.ui.detection_page import add_detection
from collector.ui.endpoint_page import (
    add_edit_actions,
    add_finding_actions,
    read_edits,
    read_risk,
    read_schema,
    read_service_findings,
)
from collector.ui.rendering import build_templates, own_path, read_form, render
from collector.ui.response_page import add_response

STATIC = Path(__file__).parent / "static"
STATIC_FILES = {"apidae.css": "text/css", "apidae.svg": "image/svg+xml"}
CACHE = {"cache-control": "public, max-age=3600"}
ALERTS_SHOWN = 20
EXPOSURE_CHANGES_SHOWN = 10
RELATED_MAX = 500  # Newest alerts among which an endpoint's own are looked for.
THEMES = ("auto", "light", "dark")
THEME_COOKIE = "apidae_theme"


class _Page:
    """Everything the routes share."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.templates = build_templates()

    def values(self, request: Request) -> dict[str, Any]:
        """What every template needs."""
        theme = request.cookies.get(THEME_COOKIE, "auto")
        return {
            "version": self.services.settings.version,
            "now": self.services.clock(),
            "has_htmx": self.services.settings.htmx_path.is_file(),
            "is_open": self.services.authenticator.is_open,
            "methods": METHODS,
            "theme": theme if theme in THEMES else "auto",
            "next_theme": THEMES[(THEMES.index(theme) + 1) % len(THEMES)] if theme in THEMES else "light",
        }

    def show_inventory(self, request: Request) -> Response:
        """The inventory. Where a query is refused, a sentence above an empty table says why."""
        asked = {name: value for name, value in request.query_params.items() if value}
        query, page, complaint = EndpointQuery(), Page[Endpoint](), ""
        try:
            query = EndpointQuery.model_validate(asked)
            page = self.services.endpoints.list_endpoints(query, query.find_span(self.services.clock()))
        except (ValidationError, CursorError) as error:
            complaint = word_refusal(error, EndpointQuery)
        sensors = self.services.sensors.list_sensors()
        values = {
            **self.values(request),
            **build_list_values(query, page, ENDPOINT_COLUMNS, "/", asked),
            "rows": [(endpoint, split_status(endpoint.status)) for endpoint in page.items],
            "here": link_to("/", asked, cursor=query.cursor),
            "alerts": self.services.alerts.list_alerts(
                state=AlertState.OPEN, kind=None, limit=ALERTS_SHOWN, after=None
            ),
            "sensors": sensors,
            "capturing": sum(sensor.state is SensorState.CAPTURING for sensor in sensors),
            "covered": self.services.coverage.read_coverage().cluster,
            "lost_calls": sum(sensor.lost_calls for sensor in sensors),
            "trouble": list_trouble(sensors, self.services.storage().trouble),
            "spans": tuple(Since),
            "complaint": complaint,
        }
        return render(self.templates, "inventory.html", values, status=422 if complaint else 200)

    def show_endpoint(self, request: Request, endpoint_id: str, complaint: str = "") -> Response:
        """One endpoint with its charts; `complaint`: what was wrong with an edit."""
        query = {name: value for name, value in request.query_params.items() if value}
        try:
            since = SpanParameters.model_validate(query).since
        except ValidationError:
            since = Since.DAY
        span = span_since(since, self.services.clock())
        detail = self.services.endpoints.get_endpoint(endpoint_id, span)
        values = {**self.values(request), "since": since, "spans": tuple(Since), "endpoint_id": endpoint_id}
        if detail is None:
            return render(self.templates, "missing.html", values, status=404)
        newest = self.services.alerts.list_alerts(state=None, kind=None, limit=RELATED_MAX, after=None)
        ids = {endpoint_id, detail.endpoint.id}
        related = [alert for alert in newest if alert.endpoint_id in ids]
        values |= {
            "detail": detail,
            "endpoint": detail.endpoint,
            "exposure_changes": self.services.exposures.list_changes(detail.endpoint.service)[:EXPOSURE_CHANGES_SHOWN],
            **read_schema(self.services.store, self.services.schemas, detail.endpoint),
            **read_risk(self.services.risks, detail.endpoint.id),
            **read_edits(self.services.editor, detail.endpoint, complaint),
            "shares": split_status(detail.endpoint.status),
            "calls_chart": draw_calls(detail.series, series_span(span)),
            "latency_chart": draw_latency(detail.series, series_span(span)),
            "operations": self.services.endpoints.list_operations(detail.endpoint, span),
            "alerts": [alert for state in AlertState for alert in related if alert.state is state][:ALERTS_SHOWN],
        }
        return render(self.templates, "endpoint.html", values, status=422 if complaint else 200)

    def show_incident(self, request: Request, incident_id: str) -> Response:
        """One incident with its alerts and its timeline. Raises Problem."""
        incident = self.services.alerts.get_incident(incident_id)
        if incident is None:
            raise Problem(404, f"There is no incident {incident_id!r}; go back and reload.")
        values = {**self.values(request), "incident": incident}
        values["alerts"] = self.services.alerts.list_incident_alerts(incident_id)
        values["entries"] = self.services.alerts.list_entries(incident_id)
        return render(self.templates, "incident.html", values)

    def show_coverage(self, request: Request) -> Response:
        """What is read, what is not and why; a query is refused as in the inventory."""
        query = {name: value for name, value in request.query_params.items() if value}
        values, is_refused = build_coverage_values(self.services.coverage, query, self.services.clock())
        values |= {**self.values(request), **read_service_findings(self.services.risks)}
        return render(self.templates, "coverage.html", values, status=422 if is_refused else 200)


def build_page_routes(services: Services) -> APIRouter:
    """The page's routes. Reads block, so they run in threads."""
    page = _Page(services)
    router = APIRouter()
    _add_reading(router, page)
    _add_actions(router, page)
    _add_session(router, page)
    _add_static(router, services.settings.htmx_path)
    alerts, clock = services.alerts, services.clock
    add_alerts(router, alerts, services.evidence, clock=clock, values=page.values, templates=page.templates)
    if services.responder is not None:
        add_response(
            router,
            responder=services.responder,
            approval_token=services.approval_token,
            find_incident=lambda alert_id: alert.incident_id if (alert := alerts.get_alert(alert_id)) else "",
            templates=page.templates,
            values=page.values,
        )
    if services.detection is not None:
        add_detection(
            router,
            services.detection[0],
            notifiers=services.notifiers,
            clock=clock,
            values=page.values,
            templates=page.templates,
        )
    return router


def _add_reading(router: APIRouter, page: _Page) -> None:
    """The inventory, one endpoint, one incident."""

    @router.get("/")
    def show_inventory(request: Request) -> Response:
        return page.show_inventory(request)

    @router.get("/coverage")
    def show_coverage(request: Request) -> Response:
        return page.show_coverage(request)

    @router.get("/incidents/{incident_id}")
    def show_incident(request: Request, incident_id: str) -> Response:
        return page.show_incident(request, incident_id)

    @router.get("/endpoints/{endpoint_id}")
    def show_endpoint(request: Request, endpoint_id: str) -> Response:
        return page.show_endpoint(request, endpoint_id)


def _add_actions(router: APIRouter, page: _Page) -> None:
    """What the buttons of an endpoint and of a finding do."""
    if page.services.editor is not None:
        add_edit_actions(router, page.services.editor, page.show_endpoint)

    if page.services.risks is not None:
        add_finding_actions(router, page.services.risks)


def _add_session(router: APIRouter, page: _Page) -> None:
    """Sign in, sign out, and the choice of theme."""

    @router.get("/login")
    def show_login(request: Request) -> Response:
        values = {**page.values(request), "complaint": "", "next": own_path(request.query_params.get("next", "/"))}
        return render(page.templates, "login.html", values)

    @router.post("/login")
    async def log_in(request: Request) -> Response:
        form = await read_form(request)
        destination = own_path(form.get("next", "/"))
        if page.services.authenticator.is_open:
            return RedirectResponse(destination, status_code=303)
        session = page.services.authenticator.sign_in(form.get("token", "").strip())
        if session is None:
            sentence = "This is not the API token. The collector keeps it in the file api.token."
            values = {**page.values(request), "complaint": sentence, "next": destination}
            return render(page.templates, "login.html", values, status=401)
        response = RedirectResponse(destination, status_code=303)
        response.set_cookie(
            COOKIE_NAME,
            session,
            max_age=SESSION_SECONDS,
            httponly=True,
            samesite="strict",
            secure=request.url.scheme == "https",
        )
        return response

    @router.post("/logout")
    async def log_out(request: Request) -> Response:
        page.services.authenticator.sign_out(request)
        response = RedirectResponse("/login", status_code=303)
        response.delete_cookie(COOKIE_NAME, httponly=True, samesite="strict", secure=request.url.scheme == "https")
        return response

    @router.post("/theme")
    async def choose_theme(request: Request) -> Response:
        form = await read_form(request)
        theme = form.get("theme", "auto")
        response = RedirectResponse(own_path(form.get("next", "/")), status_code=303)
        response.set_cookie(THEME_COOKIE, theme if theme in THEMES else "auto", max_age=365 * 86_400, samesite="strict")
        return response


def _add_static(router: APIRouter, htmx_path: Path) -> None:
    """Our own style, and htmx from where the operating system's package keeps it."""

    @router.get("/static/htmx.js")
    def get_htmx() -> Response:
        if not htmx_path.is_file():
            raise Problem(404, f"There is no {htmx_path}; install libjs-htmx. The page works without it.")
        return FileResponse(htmx_path, media_type="text/javascript", headers=CACHE)

    @router.get("/static/{name}")
    def get_static(name: str) -> Response:
        if name not in STATIC_FILES:
            raise Problem(404, "There is no such file; reload the page.")
        return FileResponse(STATIC / name, media_type=STATIC_FILES[name], headers=CACHE)
