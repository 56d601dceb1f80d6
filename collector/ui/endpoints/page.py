"""The list of endpoints. Where a query is refused, a sentence above an empty table says why."""

from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response

from collector.inventory.endpoints.filters import EndpointQuery
from collector.inventory.query import Since
from collector.inventory.sensors import SensorState
from collector.ui.components.series import split_status
from collector.ui.components.tables import ENDPOINT_COLUMNS, build_list_values, link_to, read_list
from collector.ui.components.tools import build_tools
from collector.ui.site import Page, Site

PATH = "/endpoints"


def add_routes(router: APIRouter, site: Site) -> None:
    """Its route."""
    services = site.services

    @router.get(PATH)
    def show_endpoints(request: Request) -> Response:
        asked = {name: value for name, value in request.query_params.items() if value}
        query, page, complaint = read_list(
            EndpointQuery,
            asked,
            lambda query: services.endpoints.list_endpoints(query, query.find_span(services.clock())),
        )
        sensors = services.sensors.list_sensors()
        values = {
            **build_list_values(query, page, ENDPOINT_COLUMNS, PATH, asked),
            "rows": [(endpoint, split_status(endpoint.status)) for endpoint in page.items],
            "here": link_to(PATH, asked, cursor=query.cursor),
            "sensors": sensors,
            "capturing": sum(sensor.state is SensorState.CAPTURING for sensor in sensors),
            "spans": tuple(Since),
            "tools": build_tools(services.views, "endpoints", {} if complaint else asked, page.total),
            "span_query": urlencode([(name, asked[name]) for name in ("since", "start", "end") if name in asked]),
            "shown_span": query.word_span(),
            "complaint": complaint,
        }
        return site.render(request, "endpoints/list.html", values, status=422 if complaint else 200)


PAGE = Page(add_routes=add_routes, path=PATH, title="Endpoints", group="Inventory", key="e")
