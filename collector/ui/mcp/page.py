"""The list of servers of the Model Context Protocol, and one server: what it offers, and who uses it."""

from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from collector.api.problem import Problem, describe_validation
from collector.inventory.filters import SpanParameters
from collector.inventory.mcp import McpServerQuery
from collector.inventory.query import Since
from collector.ui.components.tables import build_controls, link_to, read_list
from collector.ui.site import Page, Site

PATH = "/mcp"
EXPORT = "/api/v1/exports/mcp/servers"
TOOLS_EXPORT = "/api/v1/exports/mcp/tools"
CONSUMERS_SHOWN = 3  # Of one tool; all of them are in the second table.


def add_routes(router: APIRouter, site: Site) -> None:
    """Its routes."""
    services = site.services

    @router.get(PATH)
    def show_mcp_servers(request: Request) -> Response:
        asked = {name: value for name, value in request.query_params.items() if value}
        query, page, complaint = read_list(
            McpServerQuery, asked, lambda query: services.mcp.list_servers(query, query.find_span(services.clock()))
        )
        controls = build_controls(query, PATH, asked)
        filters = urlencode({} if complaint else {name: value for name, value in asked.items() if name != "cursor"})
        values: dict[str, Any] = {
            "query": query,
            "page": page,
            "controls": controls,
            "is_filtered": any(control.value for control in controls),
            "clear_link": link_to(PATH, {}, since=query.since.value),
            "spans": tuple(Since),
            "first_link": link_to(PATH, asked) if query.cursor else "",
            "next_link": link_to(PATH, asked, cursor=page.next_cursor) if page.next_cursor else "",
            "export_link": f"{EXPORT}.csv?{filters}",
            "tools_link": f"{TOOLS_EXPORT}.csv?since={query.since.value}",
            "complaint": complaint,
        }
        return site.render(request, "mcp/list.html", values, status=422 if complaint else 200)

    @router.get(PATH + "/{server_id}")
    def show_mcp_server(request: Request, server_id: str) -> Response:
        asked = {name: value for name, value in request.query_params.items() if value}
        try:
            parameters = SpanParameters.model_validate(asked)
        except ValidationError as error:
            located = [{**detail, "loc": ("query", *detail["loc"])} for detail in error.errors()]
            raise Problem(422, describe_validation(located, list(SpanParameters.model_fields))) from None
        path = f"{PATH}/{server_id}"
        values = {
            "server": services.mcp.find_server(server_id, parameters, services.clock()),
            "since": parameters.since,
            "consumers_shown": CONSUMERS_SHOWN,
            "span_links": [(one.value, link_to(path, {}, since=one.value), one is parameters.since) for one in Since],
        }
        return site.render(request, "mcp/server.html", values)


PAGE = Page(add_routes=add_routes, path=PATH, title="MCP servers", group="Inventory", key="k")
