"""The overview: what needs somebody now, what is new, and where to look."""

from fastapi import APIRouter, Request, Response

from collector.alerting.alert import AlertState, Severity
from collector.alerting.repository import AlertSort
from collector.core.moments import read_moment
from collector.inventory.highlights import list_new, list_riskiest
from collector.inventory.query import Since
from collector.inventory.sensors import SensorState, find_troubles
from collector.inventory.traffic.series import SeriesQuery
from collector.ui.components.series import draw_traffic
from collector.ui.components.tables import link_to
from collector.ui.site import Page, Site

ALERTS_SHOWN = 5
ENDPOINTS_SHOWN = 5
SENSORS_SHOWN = 3
NEW_SINCE = "yesterday"
# "Which endpoints return personal data without authentication and are reachable from outside?"
LEAK_RULE = "personal_data_without_authentication"
LEAKS = {"data": "response:personal", "auth": "none", "exposure": "external"}


def add_routes(router: APIRouter, site: Site) -> None:
    """Its route."""
    services = site.services

    @router.get("/")
    def show_overview(request: Request) -> Response:
        asked = request.query_params.get("since", "")
        since = Since(asked) if asked in set(Since) else Since.DAY
        counts = services.alerts.count_open()
        sensors = services.sensors.list_sensors()
        version = services.settings.version
        troubled = [(sensor, found) for sensor in sensors if (found := find_troubles(sensor, version))]
        now = services.clock()
        values = {
            "since": since,
            "span_links": [(one.value, link_to("/", {}, since=one.value), one is since) for one in Since],
            "severities": [(one.value, counts.get(one, 0)) for one in reversed(Severity) if counts.get(one)],
            "open_alerts": sum(counts.values()),
            "alerts": services.alerts.list_alerts(state=AlertState.OPEN, sort=AlertSort.SEVERITY, limit=ALERTS_SHOWN),
            "charts": draw_traffic(services.traffic.read_series(SeriesQuery(since=since), now)),
            "risky": list_riskiest(services.reader, ENDPOINTS_SHOWN),
            "new": list_new(services.reader, read_moment(NEW_SINCE, now), ENDPOINTS_SHOWN),
            "new_link": link_to("/endpoints", {}, first_seen_since=NEW_SINCE, sort="first_seen"),
            "leaks": services.risks.table.count_open(LEAK_RULE) if services.risks is not None else 0,
            "leak_rule": LEAK_RULE,
            "leaks_link": link_to("/endpoints", {}, **LEAKS),
            "sensors": sensors,
            "capturing": sum(sensor.state is SensorState.CAPTURING for sensor in sensors),
            "covered": services.coverage.read_coverage().cluster,
            "lost_calls": sum(sensor.lost_calls for sensor in sensors),
            "troubled": troubled[:SENSORS_SHOWN],
            "troubled_more": len(troubled[SENSORS_SHOWN:]),
        }
        return site.render(request, "overview/overview.html", values)


PAGE = Page(add_routes=add_routes, path="/", title="Overview", key="o")
