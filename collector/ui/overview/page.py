"""The overview: what needs somebody now, what is new, and where to look."""

from fastapi import APIRouter, Request, Response

from collector.alerting.alert import AlertState, Severity
from collector.alerting.repository import AlertSort
from collector.api.services import Services
from collector.inventory.endpoints.endpoint import Endpoint
from collector.inventory.endpoints.filters import EndpointQuery, EndpointSort, OperationView
from collector.inventory.filters import Page as ListPage
from collector.inventory.query import Since
from collector.inventory.sensors import SensorState
from collector.inventory.traffic.series import SeriesQuery
from collector.ui.components.series import draw_traffic
from collector.ui.components.tables import link_to, list_trouble
from collector.ui.site import Page, Site

ALERTS_SHOWN = 5
ENDPOINTS_SHOWN = 5
NEW_SINCE = "yesterday"
# "Which endpoints return personal data without authentication and are reachable from outside?"
LEAKS = {"data": "response:personal", "auth": "none", "exposure": "external"}


def _list(services: Services, **asked: object) -> ListPage[Endpoint]:
    query = EndpointQuery.model_validate({"operations": OperationView.EXCLUDE, **asked})
    return services.endpoints.list_endpoints(query, query.find_span(services.clock()))


def add_routes(router: APIRouter, site: Site) -> None:
    """Its route."""
    services = site.services

    @router.get("/")
    def show_overview(request: Request) -> Response:
        asked = request.query_params.get("since", "")
        since = Since(asked) if asked in set(Since) else Since.DAY
        counts = services.alerts.count_open()
        sensors = services.sensors.list_sensors()
        new = _list(services, first_seen_since=NEW_SINCE, sort=EndpointSort.FIRST_SEEN, limit=ENDPOINTS_SHOWN)
        values = {
            "since": since,
            "span_links": [(one.value, link_to("/", {}, since=one.value), one is since) for one in Since],
            "severities": [(one.value, counts.get(one, 0)) for one in reversed(Severity) if counts.get(one)],
            "open_alerts": sum(counts.values()),
            "alerts": services.alerts.list_alerts(state=AlertState.OPEN, sort=AlertSort.SEVERITY, limit=ALERTS_SHOWN),
            "charts": draw_traffic(services.traffic.read_series(SeriesQuery(since=since), services.clock())),
            "risky": _list(services, sort=EndpointSort.RISK, risk_min=1, limit=ENDPOINTS_SHOWN).items,
            "new": new,
            "new_link": link_to("/endpoints", {}, first_seen_since=NEW_SINCE, sort="first_seen"),
            "leaks": _list(services, **LEAKS, limit=1).total,
            "leaks_link": link_to("/endpoints", {}, **LEAKS),
            "sensors": sensors,
            "capturing": sum(sensor.state is SensorState.CAPTURING for sensor in sensors),
            "covered": services.coverage.read_coverage().cluster,
            "lost_calls": sum(sensor.lost_calls for sensor in sensors),
            "trouble": list_trouble(sensors, services.storage().trouble),
        }
        return site.render(request, "overview/overview.html", values)


PAGE = Page(add_routes=add_routes, path="/", title="Overview", key="o")
