"""The sensors: one on each node, what each says of itself, and what to do where one has a trouble."""

from fastapi import APIRouter, Request, Response

from collector.api.problem import Problem
from collector.inventory.sensors import find_troubles
from collector.ui.site import Page, Site

PATH = "/sensors"


def add_routes(router: APIRouter, site: Site) -> None:
    """The list and one sensor."""
    services, version = site.services, site.services.settings.version

    @router.get(PATH)
    def show_sensors(request: Request) -> Response:
        rows = [(sensor, find_troubles(sensor, version)) for sensor in services.sensors.list_sensors()]
        rows.sort(key=lambda row: -len(row[1]))  # Those with a trouble first, then by node.
        return site.render(request, "sensors/sensors.html", {"rows": rows})

    @router.get(PATH + "/{node}")
    def show_sensor(request: Request, node: str) -> Response:
        sensor = services.sensors.get_sensor(node)
        if sensor is None:
            raise Problem(404, f"There is no sensor on a node {node!r}; the list of sensors has all.")
        coverage = services.coverage.read_coverage()
        values = {
            "sensor": sensor,
            "troubles": find_troubles(sensor, version),
            "losses": [loss for loss in coverage.losses if loss.node == node],
            "covered": next((one for one in coverage.nodes if one.node == node), None),
        }
        return site.render(request, "sensors/sensor.html", values)


PAGE = Page(add_routes=add_routes, path=PATH, title="Sensors", group="Installation", key="s")
