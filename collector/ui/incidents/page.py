"""Incidents: the list, and one with its alerts, its timeline and the data that it touched, to read or to print."""

from fastapi import APIRouter, Request, Response
from pydantic import ValidationError

from collector.alerting.alert import AlertState
from collector.api.alerts import read_incidents, view_incident
from collector.api.lists import IncidentQuery
from collector.api.problem import Problem
from collector.inventory.query import CursorError
from collector.ui.components.tables import link_to, word_refusal
from collector.ui.site import Page, Site

PATH = "/incidents"


def add_routes(router: APIRouter, site: Site) -> None:
    """Its routes."""
    services = site.services
    alerts = services.alerts

    @router.get(PATH)
    def show_incidents(request: Request) -> Response:
        asked = {name: value for name, value in request.query_params.items() if value}
        query, complaint = IncidentQuery(state=AlertState.OPEN), ""
        try:
            query = IncidentQuery.model_validate({"state": AlertState.OPEN, **asked})
            found, next_cursor = read_incidents(query, alerts)
        except (ValidationError, CursorError) as error:
            complaint, found, next_cursor = word_refusal(error, IncidentQuery), (), None
        values = {
            "query": query,
            "incidents": found,
            "complaint": complaint,
            "tabs": [
                (state.value.capitalize(), link_to(PATH, asked, state=state), state is query.state)
                for state in AlertState
            ],
            "next_link": link_to(PATH, asked, cursor=next_cursor) if next_cursor else "",
            "first_link": link_to(PATH, asked) if query.cursor else "",
        }
        return site.render(request, "incidents/list.html", values, status=422 if complaint else 200)

    @router.get(PATH + "/{incident_id}")
    def show_incident(request: Request, incident_id: str) -> Response:
        incident = alerts.get_incident(incident_id)
        if incident is None:
            raise Problem(404, f"There is no incident {incident_id!r}; go back and reload.")
        shown = view_incident(incident, alerts, services.evidence)
        values = {
            "incident": incident,
            "alerts": alerts.list_incident_alerts(incident_id),
            "data": shown.data,
            "entries": alerts.list_entries(incident_id),
            "is_blockable": any(alert.kind.row.can_block for alert in shown.alerts),
        }
        return site.render(request, "incidents/incident.html", values)


PAGE = Page(add_routes=add_routes, path=PATH, title="Incidents", group="Security", key="i")
