"""All pages, in the order of the navigation, and the files that they load.

Pages are plain links and forms. Scripts only make them smoother.
"""

from pathlib import Path
from typing import Final

from fastapi import APIRouter, FastAPI, Response
from fastapi.responses import FileResponse

from collector.api.problem import Problem
from collector.api.services import Services
from collector.ui.account.page import PAGE as ACCOUNT
from collector.ui.alerts.page import PAGE as ALERTS
from collector.ui.audit.page import PAGE as AUDIT
from collector.ui.changes.page import PAGE as CHANGES
from collector.ui.consumers.page import PAGE as CONSUMERS
from collector.ui.coverage.page import PAGE as COVERAGE
from collector.ui.detection.page import PAGE as DETECTION
from collector.ui.documentation.page import PAGE as DOCS
from collector.ui.endpoint.page import PAGE as ENDPOINT
from collector.ui.endpoints.page import PAGE as ENDPOINTS
from collector.ui.findings.page import PAGE as FINDINGS
from collector.ui.gallery.page import PAGE as GALLERY
from collector.ui.incidents.page import PAGE as INCIDENTS
from collector.ui.map.page import PAGE as MAP
from collector.ui.mcp.page import PAGE as MCP
from collector.ui.models.page import PAGE as MODELS
from collector.ui.overview.page import PAGE as OVERVIEW
from collector.ui.response.page import PAGE as RESPONSE
from collector.ui.sensors.page import PAGE as SENSORS
from collector.ui.services.page import PAGE as SERVICES
from collector.ui.session.page import PAGE as SESSION
from collector.ui.settings.page import PAGE as SETTINGS
from collector.ui.site import Page, Site
from collector.ui.specs.page import PAGE as SPECS
from collector.ui.views.page import PAGE as VIEWS

STATIC = Path(__file__).parent / "static"
STATIC_FILES = {"apidae.css": "text/css", "apidae.js": "text/javascript", "apidae.svg": "image/svg+xml"}
CACHE = {"cache-control": "public, max-age=3600"}

PAGES: Final[tuple[Page, ...]] = (
    OVERVIEW,
    ENDPOINTS,
    ENDPOINT,
    SERVICES,
    CONSUMERS,
    MCP,
    MODELS,
    MAP,
    SPECS,
    CHANGES,
    ALERTS,
    INCIDENTS,
    FINDINGS,
    RESPONSE,
    COVERAGE,
    SENSORS,
    DETECTION,
    SETTINGS,
    AUDIT,
    DOCS,
    VIEWS,
    ACCOUNT,
    SESSION,
    GALLERY,
)


def add_pages(app: FastAPI, services: Services) -> None:
    """The routes of all pages, and the page of a problem. Reads block, so they run in threads."""
    site = Site(services, PAGES)
    app.state.render_problem = site.render_problem
    router = APIRouter()
    for page in site.pages:
        page.add_routes(router, site)
    _add_static(router, services.settings.htmx_path)
    app.include_router(router, include_in_schema=False)


def _add_static(router: APIRouter, htmx_path: Path) -> None:
    """Our own files, and htmx from where the operating system's package keeps it."""

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
