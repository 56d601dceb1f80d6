"""The sensors: one on each node, and what each says of itself."""

from fastapi import APIRouter, Request, Response

from collector.ui.site import Page, Site

PATH = "/sensors"


def add_routes(router: APIRouter, site: Site) -> None:
    """Its route."""

    @router.get(PATH)
    def show_sensors(request: Request) -> Response:
        return site.render(request, "sensors/sensors.html", {"sensors": site.services.sensors.list_sensors()})


PAGE = Page(add_routes=add_routes, path=PATH, title="Sensors", group="Installation", key="s")
