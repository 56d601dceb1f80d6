"""The list of services, and one service: traffic, callers, what it calls, endpoints, documents."""

from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from collector.api.problem import Problem, describe_validation
from collector.inventory.endpoints.filters import EndpointQuery, OperationView
from collector.inventory.filters import SpanParameters
from collector.inventory.query import Since
from collector.inventory.services.services import ServiceQuery, ServiceSort
from collector.inventory.traffic.series import SeriesQuery
from collector.ui.components.clients import link_client, name_client
from collector.ui.components.series import draw_traffic
from collector.ui.components.tables import Column, build_list_values, link_to, read_list
from collector.ui.components.tools import build_tools
from collector.ui.site import Page, Site

PATH = "/services"
COLUMNS = (
    Column(ServiceSort.SERVICE, "Service", "Sort by name", "wide"),
    Column(ServiceSort.ENDPOINTS, "Endpoints", "Sort by endpoints that were called"),
    Column(ServiceSort.RISK, "Risk", "Sort by the risk of the riskiest endpoint"),
    Column(ServiceSort.FINDINGS, "Findings", "Sort by open findings"),
    Column(ServiceSort.CALLS, "Calls", "Sort by calls"),
    Column(ServiceSort.ERRORS, "Errors", "Sort by server errors and aborted calls"),
    Column(ServiceSort.P95, "p95", "Sort by the 95th percentile of time to the last byte"),
    Column(ServiceSort.LAST_SEEN, "Last seen", "Sort by the last call", "number optional"),
)
ENDPOINTS_SHOWN = 20


def add_routes(router: APIRouter, site: Site) -> None:
    """Its routes."""
    services = site.services

    @router.get(PATH)
    def show_services(request: Request) -> Response:
        asked = {name: value for name, value in request.query_params.items() if value}
        query, page, complaint = read_list(
            ServiceQuery, asked, lambda query: services.services.list_services(query, query.find_span(services.clock()))
        )
        values = {
            **build_list_values(query, page, COLUMNS, PATH, asked),
            "here": link_to(PATH, asked, cursor=query.cursor),
            "tools": build_tools(services.views, "services", {} if complaint else asked, page.total),
            "spans": tuple(Since),
            "complaint": complaint,
        }
        return site.render(request, "services/list.html", values, status=422 if complaint else 200)

    @router.get(PATH + "/{name:path}")
    def show_service(request: Request, name: str) -> Response:
        asked = {key: value for key, value in request.query_params.items() if value}
        now = services.clock()
        try:
            parameters = SpanParameters.model_validate(asked)
        except ValidationError as error:
            located = [{**detail, "loc": ("query", *detail["loc"])} for detail in error.errors()]
            raise Problem(422, describe_validation(located, list(SpanParameters.model_fields))) from None
        span = {"since": parameters.since, "start": parameters.start, "end": parameters.end}
        service = services.services.get_service(name, parameters.find_span(now))
        path = f"{PATH}/{quote(name)}"
        values: dict[str, Any] = {
            "name": name,
            "service": service,
            "since": parameters.since,
            "span_links": [(one.value, link_to(path, {}, since=one.value), one is parameters.since) for one in Since],
        }
        if service is None:
            return site.render(request, "services/missing.html", values, status=404)
        query = EndpointQuery(service=service.service, operations=OperationView.EXCLUDE, limit=ENDPOINTS_SHOWN, **span)
        callers, callees = services.map.read_around(service.service, service.label, parameters, now)
        document = f"/api/v1/services/{quote(service.service)}"
        values |= {
            "charts": draw_traffic(services.traffic.read_series(SeriesQuery(service=service.service, **span), now)),
            "callers": [(edge, name_client(edge), link_client(edge)) for edge in callers],
            "callees": [(edge, edge.service, f"{PATH}/{quote(edge.service)}") for edge in callees],
            "endpoints": services.endpoints.list_endpoints(query, query.find_span(now)),
            "endpoints_link": link_to("/endpoints", {}, service=service.service, since=parameters.since.value),
            "findings_link": link_to("/findings", {}, q=service.service),
            "map_link": link_to("/map", {}, service=service.service, since=parameters.since.value),
            "alerts_link": link_to("/alerts", {}, service=service.service),
            "openapi_link": f"{document}/openapi.json",
            "postman_link": f"{document}/postman.json",
            "specs": [
                one for one in services.spec_reporter.list_specs() if one.service in (service.service, service.workload)
            ],
        }
        return site.render(request, "services/service.html", values)


PAGE = Page(add_routes=add_routes, path=PATH, title="Services", group="Inventory", key="v")
