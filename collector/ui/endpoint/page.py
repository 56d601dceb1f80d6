"""One endpoint, and the edits of its template."""

from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from collector.alerting.alert import AlertState
from collector.inventory.filters import SpanParameters
from collector.inventory.query import QuestionError, Since, span_since
from collector.inventory.traffic.series import SeriesQuery
from collector.ui.components.series import draw_traffic, split_status
from collector.ui.endpoint.sections import add_edit_actions, read_edits, read_risk, read_schema
from collector.ui.site import Page, Site

ALERTS_SHOWN = 3  # The others are in the list of alerts.
EXPOSURE_CHANGES_SHOWN = 10
RELATED_MAX = 500  # Newest alerts among which an endpoint's own are looked for.


def add_routes(router: APIRouter, site: Site) -> None:
    """Its routes."""
    services = site.services

    def show(request: Request, endpoint_id: str, complaint: str = "") -> Response:
        """`complaint`: what was wrong with an edit."""
        query = {name: value for name, value in request.query_params.items() if value}
        now = services.clock()
        try:
            asked = SpanParameters.model_validate(query)
            span = asked.find_span(now)
        except (ValidationError, QuestionError):
            asked, span = SpanParameters(), span_since(Since.DAY, now)
        detail = services.endpoints.get_endpoint(endpoint_id, span)
        values: dict[str, Any] = {"since": asked.since, "spans": tuple(Since), "endpoint_id": endpoint_id}
        if detail is None:
            return site.render(request, "endpoint/missing.html", values, status=404)
        newest = services.alerts.list_alerts(state=None, kind=None, limit=RELATED_MAX, after=None)
        ids = {endpoint_id, detail.endpoint.id}
        related = [alert for alert in newest if alert.endpoint_id in ids]
        values |= {
            "detail": detail,
            "endpoint": detail.endpoint,
            "exposure_changes": services.exposures.list_changes(detail.endpoint.service)[:EXPOSURE_CHANGES_SHOWN],
            **read_schema(services.reader, services.schemas, detail.endpoint),
            **read_risk(services.risks, detail.endpoint.id),
            **read_edits(services.editor, detail.endpoint, complaint),
            "shares": split_status(detail.endpoint.status),
            "charts": draw_traffic(
                services.traffic.read_series(SeriesQuery(endpoint=detail.endpoint.id, **asked.model_dump()), now)
            ),
            "operations": services.endpoints.list_operations(detail.endpoint, span),
            "alerts_shown": ALERTS_SHOWN,
            "alerts": [alert for state in AlertState for alert in related if alert.state is state],
        }
        return site.render(request, "endpoint/endpoint.html", values, status=422 if complaint else 200)

    @router.get("/endpoints/{endpoint_id}")
    def show_endpoint(request: Request, endpoint_id: str) -> Response:
        return show(request, endpoint_id)

    if services.editor is not None:
        add_edit_actions(router, services.editor, show)


PAGE = Page(add_routes=add_routes)
