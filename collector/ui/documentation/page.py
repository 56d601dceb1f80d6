"""The documentation of this version at `/docs`: alerts, findings and messages link to their pages here, so that they
work without the internet and say what this version does."""

from typing import Final

from fastapi import APIRouter, Request, Response
from markupsafe import Markup

from collector.api.problem import Problem
from collector.ui.documentation.markdown import PATH, find_page
from collector.ui.site import Page, Site

_NAME_SHOWN_MAX: Final = 80


def add_routes(router: APIRouter, site: Site) -> None:
    """Its routes."""

    @router.get(PATH)
    def show_docs(request: Request) -> Response:
        return show(request, "")

    @router.get(PATH + "/{name:path}")
    def show_page(request: Request, name: str) -> Response:
        return show(request, name)

    def show(request: Request, name: str) -> Response:
        page = find_page(name)
        if page is None:
            raise Problem(404, f"There is no page {name[:_NAME_SHOWN_MAX]!r} of the documentation; {PATH} lists them.")
        return site.render(request, "documentation/page.html", {"page": page, "text": Markup(page.html)})


PAGE = Page(add_routes=add_routes, path=PATH, title="Docs", group="Installation", key="b")
