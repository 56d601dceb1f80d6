"""The list of calls to models: who asks which, what is sent to them, and what that costs."""

from typing import Any
from urllib.parse import urlencode

from fastapi import APIRouter, Request, Response

from collector.inventory.models.models import ModelPage, ModelQuery, ModelSort, ModelTotals
from collector.inventory.query import Since
from collector.ui.components.tables import Column, build_list_values, read_list
from collector.ui.site import Page, Site

PATH = "/models"
EXPORT = "/api/v1/exports/models"
COLUMNS = (
    Column(ModelSort.CALLS, "Calls", "Sort by calls"),
    Column(ModelSort.ERRORS, "Errors", "Sort by calls that failed"),
    Column(ModelSort.TOKENS, "Tokens", "Sort by tokens of prompts and answers"),
    Column(ModelSort.COST, "Cost", "Sort by cost"),
    Column(ModelSort.LAST_SEEN, "Last seen", "Sort by the last call", "number optional"),
)


def add_routes(router: APIRouter, site: Site) -> None:
    """Its routes."""
    services = site.services

    @router.get(PATH)
    def show_models(request: Request) -> Response:
        asked = {name: value for name, value in request.query_params.items() if value}
        query, page, complaint = read_list(
            ModelQuery, asked, lambda query: services.models.list_models(query, query.find_span(services.clock()))
        )
        prices = services.model_prices.read()
        headings = COLUMNS if prices.prices else tuple(one for one in COLUMNS if one.sort is not ModelSort.COST)
        filters = urlencode({} if complaint else {name: value for name, value in asked.items() if name != "cursor"})
        values: dict[str, Any] = {
            **build_list_values(query, page, headings, PATH, asked),
            "totals": page.totals if isinstance(page, ModelPage) else ModelTotals(),
            "has_prices": bool(prices.prices),
            "currency": prices.currency,
            "spans": tuple(Since),
            "export_link": f"{EXPORT}.csv?{filters}",
            "complaint": complaint,
        }
        return site.render(request, "models/list.html", values, status=422 if complaint else 200)


PAGE = Page(add_routes=add_routes, path=PATH, title="Models", group="Inventory", key="n")
