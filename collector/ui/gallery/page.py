"""The components that pages are made of, each shown once: a page for whoever builds pages."""

from typing import Final

from fastapi import APIRouter, Request, Response

from collector.ui.components.tables import Control, Heading
from collector.ui.site import Page, Site

_HEADINGS: Final = (
    Heading(name="Endpoint", title="Sort by path", link="#tables", aria_sort="", style="wide"),
    Heading(name="Calls", title="Sort by calls", link="#tables", aria_sort="descending", style="number"),
)
_CONTROLS: Final = (
    Control(name="q", title="Search", value="orders", choices=()),
    Control(name="method", title="Method", value="GET", choices=(("GET", "GET"), ("POST", "POST"))),
    Control(name="namespace", title="", value="shop", choices=()),
)


def add_routes(router: APIRouter, site: Site) -> None:
    """Its route."""

    @router.get("/components")
    def show_components(request: Request) -> Response:
        return site.render(request, "gallery/components.html", {"headings": _HEADINGS, "controls": _CONTROLS})


PAGE = Page(add_routes=add_routes)
