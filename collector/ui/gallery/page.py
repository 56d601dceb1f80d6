"""The components that pages are made of, each shown once: a page for whoever builds pages."""

from typing import Final

from fastapi import APIRouter, Request, Response

from collector.inventory.query import HOUR_SECONDS, MINUTE_SECONDS
from collector.ui.components.chart import Band, Chart, Look, Series, Shape, draw
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


_DAY: Final = 1_700_006_400  # Midnight.


def _draw_charts() -> tuple[Chart, ...]:
    status = draw(
        "Calls by class of status",
        [
            Series(name="2xx", values=[40, 60, 90, 70, 65, 80], look=Look.SUCCESS),
            Series(name="4xx", values=[2, 0, 5, 3, 2, 9], look=Look.CLIENT_ERROR),
            Series(name="5xx or aborted", values=[0, 0, 12, 0, 1, 0], look=Look.SERVER_ERROR),
        ],
        start=_DAY,
        step=4 * HOUR_SECONDS,
        unit="calls",
        shape=Shape.STACKED,
    )
    expected = draw(
        "Observed against expected",
        [
            Series(name="observed", values=[3, 4, None, 6, 21, 24], look=Look.OBSERVED),
            Series(name="threshold", values=[15] * 6, look=Look.THRESHOLD),
        ],
        start=_DAY,
        step=5 * MINUTE_SECONDS,
        unit="calls in 5 min",
        band=Band(name="expected", low=[2, 2, 3, 3, 3, 3], high=[6, 6, 7, 8, 8, 8]),
    )
    return status, expected


def add_routes(router: APIRouter, site: Site) -> None:
    """Its route."""

    @router.get("/components")
    def show_components(request: Request) -> Response:
        return site.render(
            request,
            "gallery/components.html",
            {"headings": _HEADINGS, "controls": _CONTROLS, "charts": _draw_charts()},
        )


PAGE = Page(add_routes=add_routes)
