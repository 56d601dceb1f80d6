"""The sensors: one on each node, what each says of itself, and what to do where one has a trouble."""

from fastapi import APIRouter, Request, Response

from collector.api.problem import Problem
from collector.inventory.filters import Page as ListPage
from collector.inventory.sensors import Sensor, SensorQuery, find_troubles
from collector.ui.components.tables import link_to, read_list
from collector.ui.site import Page, Site

PATH = "/sensors"


def add_routes(router: APIRouter, site: Site) -> None:
    """The list and one sensor."""
    services, version = site.services, site.services.settings.version

    @router.get(PATH)
    def show_sensors(request: Request) -> Response:
        asked = dict(request.query_params)

        def read(query: SensorQuery) -> ListPage[Sensor]:
            """Those with a trouble first, then by node."""
            return services.sensors.list_page(query, lambda sensor: -len(find_troubles(sensor, version)))

        query, page, complaint = read_list(SensorQuery, asked, read)
        values = {
            "rows": [(sensor, find_troubles(sensor, version)) for sensor in page.items],
            "total": page.total,
            "first_link": PATH if query.cursor else "",
            "next_link": link_to(PATH, asked, cursor=page.next_cursor) if page.next_cursor else "",
            "complaint": complaint,
        }
        return site.render(request, "sensors/sensors.html", values, status=422 if complaint else 200)

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
