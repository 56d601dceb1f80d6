"""One incident with its alerts and its timeline."""

from fastapi import APIRouter, Request, Response

from collector.api.problem import Problem
from collector.ui.site import Page, Site


def add_routes(router: APIRouter, site: Site) -> None:
    """Its route."""
    alerts = site.services.alerts

    @router.get("/incidents/{incident_id}")
    def show_incident(request: Request, incident_id: str) -> Response:
        incident = alerts.get_incident(incident_id)
        if incident is None:
            raise Problem(404, f"There is no incident {incident_id!r}; go back and reload.")
        values = {
            "incident": incident,
            "alerts": alerts.list_incident_alerts(incident_id),
            "entries": alerts.list_entries(incident_id),
        }
        return site.render(request, "incidents/incident.html", values)


PAGE = Page(add_routes=add_routes)
