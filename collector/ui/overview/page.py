"""The overview: what needs somebody now, and where to look."""

from fastapi import APIRouter, Request, Response

from collector.alerting.alert import AlertState
from collector.inventory.sensors import SensorState
from collector.ui.components.tables import list_trouble
from collector.ui.site import Page, Site

ALERTS_SHOWN = 20


def add_routes(router: APIRouter, site: Site) -> None:
    """Its route."""
    services = site.services

    @router.get("/")
    def show_overview(request: Request) -> Response:
        sensors = services.sensors.list_sensors()
        values = {
            "alerts": services.alerts.list_alerts(state=AlertState.OPEN, kind=None, limit=ALERTS_SHOWN, after=None),
            "sensors": sensors,
            "capturing": sum(sensor.state is SensorState.CAPTURING for sensor in sensors),
            "covered": services.coverage.read_coverage().cluster,
            "lost_calls": sum(sensor.lost_calls for sensor in sensors),
            "trouble": list_trouble(sensors, services.storage().trouble),
        }
        return site.render(request, "overview/overview.html", values)


PAGE = Page(add_routes=add_routes, path="/", title="Overview", key="o")
