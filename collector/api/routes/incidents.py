"""/incidents: what one actor did, alert after alert, with a timeline."""

from typing import Annotated

from fastapi import APIRouter, Query

from collector.api.alert_models import AlertModel
from collector.api.alerts import AlertRepository
from collector.api.incident_models import (
    IncidentDetailModel,
    IncidentEntryModel,
    IncidentModel,
    IncidentPageModel,
)
from collector.api.parameters import IncidentParameters, NoParameters
from collector.api.problem import Problem, show
from collector.api.routes.paging import read_page


def build_incident_routes(*, alerts: AlertRepository) -> APIRouter:
    """Routes that read incidents."""
    router = APIRouter(prefix="/incidents", tags=["alerts"])

    @router.get("", summary="List incidents")
    def list_incidents(parameters: Annotated[IncidentParameters, Query()]) -> IncidentPageModel:
        """Incidents, newest first."""
        shown, next_cursor = read_page(
            parameters.cursor,
            parameters.limit,
            ("incidents", parameters.state or ""),
            lambda limit, after: alerts.list_incidents(state=parameters.state, limit=limit, after=after),
        )
        items = tuple(IncidentModel.model_validate(incident) for incident in shown)
        return IncidentPageModel(items=items, next_cursor=next_cursor)

    @router.get("/{incident_id}", summary="Show one incident")
    def get_incident(incident_id: str, _: Annotated[NoParameters, Query()]) -> IncidentDetailModel:
        """One incident with its alerts and its timeline."""
        found = alerts.get_incident(incident_id)
        if found is None:
            raise Problem(404, f"There is no incident {show(incident_id)}; look it up in /api/v1/incidents.")
        return IncidentDetailModel(
            incident=IncidentModel.model_validate(found),
            alerts=tuple(AlertModel.model_validate(alert) for alert in alerts.list_incident_alerts(incident_id)),
            timeline=tuple(IncidentEntryModel.model_validate(entry) for entry in alerts.list_entries(incident_id)),
        )

    return router
