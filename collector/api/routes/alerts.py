"""/alerts: what a person should look at, and what people decided about it."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query

from collector.alerts.alert import Alert
from collector.api.alert_models import AlertModel, AlertPageModel
from collector.api.alerts import AlertRepository
from collector.api.call_models import EvidenceModel, view_evidence
from collector.api.parameters import (
    ActionBody,
    AlertParameters,
    EvidenceParameters,
    MuteBody,
    NoParameters,
    SilenceBody,
)
from collector.api.problem import Problem, refuse_cursor, show
from collector.api.routes.paging import read_page
from collector.inventory.cursor import CursorError
from collector.inventory.evidence import EvidenceReader


def build_alert_routes(*, alerts: AlertRepository, evidence: EvidenceReader, clock: Callable[[], float]) -> APIRouter:
    """Routes that read and answer alerts."""
    router = APIRouter(prefix="/alerts", tags=["alerts"])

    @router.get("", summary="List alerts")
    def list_alerts(parameters: Annotated[AlertParameters, Query()]) -> AlertPageModel:
        """Alerts, newest first."""
        shown, next_cursor = read_page(
            parameters.cursor,
            parameters.limit,
            ("alerts", parameters.state or "", parameters.kind or ""),
            lambda limit, after: alerts.list_alerts(
                state=parameters.state, kind=parameters.kind, limit=limit, after=after
            ),
        )
        return AlertPageModel(items=tuple(AlertModel.model_validate(alert) for alert in shown), next_cursor=next_cursor)

    @router.get("/{alert_id}", summary="Show one alert")
    def get_alert(alert_id: str, _: Annotated[NoParameters, Query()]) -> AlertModel:
        """One alert as it is now."""
        return _view(alerts.get_alert(alert_id), alert_id)

    @router.get("/{alert_id}/evidence", summary="Show the rows behind an alert")
    def get_evidence(alert_id: str, parameters: Annotated[EvidenceParameters, Query()]) -> EvidenceModel:
        """Calls of the alert's subject by minute, or by hour where minutes are gone, from an hour before it opened to
        ten minutes after what was seen last, and the question to `/api/v1/calls` that gives the same."""
        alert = alerts.get_alert(alert_id)
        if alert is None:
            raise _refuse(alert_id)
        try:
            found = evidence.read(alert, limit=parameters.limit, cursor=parameters.cursor)
        except CursorError as error:
            raise refuse_cursor(parameters.cursor, error) from error
        return view_evidence(alert_id, found)

    @router.post("/{alert_id}/acknowledge", summary="Acknowledge an alert")
    def acknowledge_alert(alert_id: str, body: ActionBody) -> AlertModel:
        """Say that someone looks into it; it stays open until its cause is gone."""
        return _view(alerts.acknowledge(alert_id, by=body.by), alert_id)

    @router.post("/{alert_id}/mute", summary="Mute an alert's subject")
    def mute_alert(alert_id: str, body: MuteBody) -> AlertModel:
        """Raise nothing more about this subject for some time; what happens meanwhile is still recorded."""
        muted = alerts.mute(alert_id, by=body.by, until=clock() + body.seconds, reason=body.reason)
        return _view(muted, alert_id)

    @router.post("/{alert_id}/expected", summary="Mark an alert as expected")
    def expect_alert(alert_id: str, body: SilenceBody) -> AlertModel:
        """Say that this is how it should be: the subject raises nothing more of this kind until that is undone."""
        return _view(alerts.mark_expected(alert_id, by=body.by, reason=body.reason), alert_id)

    @router.post("/{alert_id}/unsilence", summary="Undo a mute or an expectation")
    def unsilence_alert(alert_id: str, body: ActionBody) -> AlertModel:
        """The subject raises alerts again; 409 where it is not silenced, or by a known-good rule."""
        return _view(alerts.unsilence(alert_id, by=body.by), alert_id)

    return router


def _view(alert: Alert | None, alert_id: str) -> AlertModel:
    if alert is None:
        raise _refuse(alert_id)
    return AlertModel.model_validate(alert)


def _refuse(alert_id: str) -> Problem:
    return Problem(404, f"There is no alert {show(alert_id)}; look it up in /api/v1/alerts.")
