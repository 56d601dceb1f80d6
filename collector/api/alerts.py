"""/alerts and /incidents: what a person should look at, what people decided about it, and what one actor did.

It has the routes and their pydantic models. Lists are pages.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from collector.alerting.alert import Alert, AlertKind, AlertState, Confidence, Severity, Verdict
from collector.alerting.lifecycle import Happening, Incident
from collector.alerting.repository import AlertPlace
from collector.alerting.service import AlertService
from collector.alerting.silences import ShownAlert, SilenceKind
from collector.api.base_model import HexId, Model, Time
from collector.api.calls import EvidenceModel, view_evidence
from collector.api.lists import AlertQuery, AlertSelection, IncidentQuery
from collector.api.parameters import (
    ActionBody,
    EvidenceParameters,
    MuteBody,
    NoParameters,
    SilenceBody,
)
from collector.api.problem import Problem, show
from collector.inventory.endpoints.bodies import BodySide, DataClass
from collector.inventory.evidence.evidence import EvidenceReader
from collector.inventory.query import Cursor
from collector.schemas.service import SchemaInventory


class SilenceModel(Model):
    """Who silenced an alert's subject, why and until when."""

    kind: SilenceKind
    by: str
    at: Time
    reason: str
    until: Time | None = Field(description="null: until it is undone.")
    rule_id: str = Field(description="Of the known-good rule; empty where it is none.")


class AlertModel(Model):
    """One thing a person should look at."""

    id: str
    kind: AlertKind
    state: AlertState = Field(description="`silenced`: a person wants to hear nothing of it, see `silence`.")
    severity: Severity
    title: str
    why: str = Field(description="Observed against expected, and on what evidence.")
    endpoint_id: str
    route_ids: tuple[HexId, ...] = Field(description="What was called there, at most 64; good for /endpoints/{id}.")
    service: str = Field(description="Of the endpoint, `namespace/workload:port`; empty where it is not known.")
    namespace: str = Field(description="Of the service, in Kubernetes.")
    host: str = Field(description="That the endpoint is called by.")
    consumer: str
    consumer_label: str = Field(default="", description="What people call `consumer`; empty where nobody named it.")
    held_by: str = Field(description="Who held the address of `consumer` then, where a cluster's API server said so.")
    node: str = Field(description="Of a sensor's own alert.")
    nodes: tuple[str, ...] = Field(description="Whose sensors saw it: the last, at most four.")
    other_nodes: tuple[str, ...] = Field(
        description="Whose sensors saw calls of the same service, and nothing of it; at most four."
    )
    opened_at: Time
    updated_at: Time
    closed_at: Time | None
    window_start: Time
    window_end: Time
    observed_rate: float = Field(description="Calls a second over the window; 0 where something else was counted.")
    expected_rate: float
    threshold_rate: float
    score: float = Field(description="0..1, higher is odder.")
    calls: int
    loss_ratio: float = Field(
        description="Share of its calls that sensors did not read: lost, or only estimated. Of its own service and way."
    )
    confidence: Confidence = Field(description="`low` is a notice, which accuses nobody.")
    risk: str = Field(description="OWASP id, as API1:2023 or A03:2021; empty where no category fits.")
    advice: str = Field(description="What to do.")
    runbook: str = Field(
        description="Path on this collector of the page that explains the kind.", examples=["/docs/alerts/bola"]
    )
    incident_id: str = Field(description="What the same actor did belongs to one incident.")
    measure: float = Field(description="What was counted: of volume calls a second, else what the kind counts.")
    measure_limit: float = Field(description="The most of it that is ordinary; 0 where that is not a number.")
    verdict: Verdict = Field(description="What somebody found out; empty where nobody has.")
    verdict_at: Time | None
    verdict_by: str
    acknowledged_by: str
    acknowledged_at: Time | None
    silence: SilenceModel | None = Field(default=None, description="What silences it; null where nothing does.")


class AlertPageModel(Model):
    """One page of alerts."""

    items: tuple[AlertModel, ...]
    next_cursor: str | None


class AlertCountsModel(Model):
    """How many alerts have one state."""

    state: AlertState
    total: int
    high: int
    medium: int
    low: int


class AlertSummaryModel(Model):
    """How many alerts there are, by state and severity."""

    items: tuple[AlertCountsModel, ...] = Field(description="Open, silenced, closed; each is always there.")


def read_alerts(query: AlertQuery, alerts: AlertService, now: float) -> tuple[Sequence[ShownAlert], str | None]:
    """One page and the cursor of the next; None where it is the last. Raises CursorError."""
    found = alerts.list_alerts(limit=query.limit + 1, after=query.read_place(), **query.list_asked(now))
    return query.cut(
        found, lambda last: query.write_place(AlertPlace(opened_at=last.opened_at, id=last.id, severity=last.severity))
    )


def read_incidents(query: IncidentQuery, alerts: AlertService) -> tuple[Sequence[Incident], str | None]:
    """The same of incidents."""
    after = query.read_cursor(float)
    place = None if after is None else AlertPlace(opened_at=float(after.value), id=after.id)
    found = alerts.list_incidents(state=query.state, limit=query.limit + 1, after=place)
    return query.cut(found, lambda last: Cursor(value=last.opened_at, id=last.id))


def view_counts(counts: Mapping[tuple[AlertState, Severity], int]) -> AlertSummaryModel:
    """Counts by state and severity."""
    by_state = {
        state: {severity.value: counts.get((state, severity), 0) for severity in Severity} for state in AlertState
    }
    return AlertSummaryModel(
        items=tuple(AlertCountsModel(state=state, total=sum(own.values()), **own) for state, own in by_state.items())
    )


AFFECTED_ALERTS_MAX = 10


class IncidentModel(Model):
    """All that one actor did, alert after alert."""

    id: str
    actor: str = Field(description="`kind:value` of a consumer; an endpoint's id or a node where none is named.")
    state: AlertState
    severity: Severity = Field(description="The gravest of its alerts.")
    title: str
    kinds: tuple[AlertKind, ...]
    risks: tuple[str, ...] = Field(description="OWASP ids that its alerts are evidence for.")
    alerts: int
    opened_at: Time
    updated_at: Time


class IncidentEntryModel(Model):
    """One entry of a timeline."""

    time: Time
    alert_id: str
    happening: Happening
    kind: AlertKind
    severity: Severity
    title: str
    why: str


class IncidentPageModel(Model):
    """One page of incidents, newest first."""

    items: tuple[IncidentModel, ...]
    next_cursor: str | None


class AffectedDataModel(Model):
    """A kind of sensitive data in sampled calls of the incident's alerts."""

    endpoint_id: str = Field(description="Of the alert; empty where it is about several.")
    service: str
    kind: str
    data_class: DataClass
    side: BodySide
    calls: int = Field(description="Sampled calls that held it there.")


class IncidentDetailModel(Model):
    """One incident whole."""

    incident: IncidentModel
    alerts: tuple[AlertModel, ...] = Field(description="Newest first.")
    data: tuple[AffectedDataModel, ...] = Field(
        description=f"What the calls of its newest {AFFECTED_ALERTS_MAX} alerts held, in requests and responses."
    )
    timeline: tuple[IncidentEntryModel, ...] = Field(description="Oldest first.")


def build_alert_routes(
    *, alerts: AlertService, evidence: EvidenceReader, schemas: SchemaInventory, clock: Callable[[], float]
) -> APIRouter:
    """Routes that read and answer alerts."""
    router = APIRouter(prefix="/alerts", tags=["alerts"])

    @router.get("", summary="List alerts")
    def list_alerts(query: Annotated[AlertQuery, Query()]) -> AlertPageModel:
        """Alerts, newest or gravest first."""
        shown, next_cursor = read_alerts(query, alerts, clock())
        return AlertPageModel(items=tuple(AlertModel.model_validate(alert) for alert in shown), next_cursor=next_cursor)

    @router.get("/summary", summary="Count alerts")
    def count_alerts(selection: Annotated[AlertSelection, Query()]) -> AlertSummaryModel:
        """How many alerts are open, silenced and closed, by severity."""
        return view_counts(alerts.count_alerts(**selection.list_asked(clock())))

    @router.get("/{alert_id}", summary="Show one alert")
    def get_alert(alert_id: str, _: Annotated[NoParameters, Query()]) -> AlertModel:
        """One alert as it is now."""
        return _view(alerts.get_alert(alert_id), alert_id)

    @router.get("/{alert_id}/evidence", summary="Show the rows behind an alert")
    def get_evidence(alert_id: str, parameters: Annotated[EvidenceParameters, Query()]) -> EvidenceModel:
        """Why it was raised: observed against expected over time, what the calls were answered, which objects they
        took, which kinds of data they held, and by which software and addresses they came.

        Below are the calls of the alert's subject by minute, or by hour where minutes are gone, from an hour before it
        opened to ten minutes after what was seen last, and the question to `/api/v1/calls` that gives the same."""
        alert = require_alert(alerts.get_alert(alert_id), alert_id)
        found = evidence.read(alert, limit=parameters.limit, cursor=parameters.cursor)
        return view_evidence(alert_id, found, lambda: schemas.read(alert.endpoint_id))

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
    return AlertModel.model_validate(require_alert(alert, alert_id))


def require_alert(alert: Alert | None, alert_id: str) -> Alert:
    """The alert. Raises Problem where there is none."""
    if alert is None:
        raise Problem(404, f"There is no alert {show(alert_id)}; look it up in /api/v1/alerts.")
    return alert


def view_incident(incident: Incident, alerts: AlertService, evidence: EvidenceReader) -> IncidentDetailModel:
    """One incident whole."""
    own = alerts.list_incident_alerts(incident.id)
    return IncidentDetailModel(
        incident=IncidentModel.model_validate(incident),
        alerts=tuple(AlertModel.model_validate(alert) for alert in own),
        data=tuple(_list_data(own, evidence)),
        timeline=tuple(IncidentEntryModel.model_validate(entry) for entry in alerts.list_entries(incident.id)),
    )


def _list_data(alerts: Sequence[ShownAlert], evidence: EvidenceReader) -> Iterator[AffectedDataModel]:
    """Of alerts about the same calls once."""
    seen: set[tuple[str, str]] = set()
    for alert in alerts[:AFFECTED_ALERTS_MAX]:
        bodies = evidence.read_bodies(alert) if (alert.endpoint_id, alert.consumer) not in seen else None
        seen.add((alert.endpoint_id, alert.consumer))
        for one in bodies.data if bodies is not None else ():
            yield AffectedDataModel(
                endpoint_id=alert.endpoint_id,
                service=alert.service,
                kind=one.kind,
                data_class=one.data_class,
                side=one.side,
                calls=one.calls,
            )


def build_incident_routes(*, alerts: AlertService, evidence: EvidenceReader) -> APIRouter:
    """Routes that read incidents."""
    router = APIRouter(prefix="/incidents", tags=["alerts"])

    @router.get("", summary="List incidents")
    def list_incidents(query: Annotated[IncidentQuery, Query()]) -> IncidentPageModel:
        """Incidents, newest first."""
        shown, next_cursor = read_incidents(query, alerts)
        items = tuple(IncidentModel.model_validate(incident) for incident in shown)
        return IncidentPageModel(items=items, next_cursor=next_cursor)

    @router.get("/{incident_id}", summary="Show one incident")
    def get_incident(incident_id: str, _: Annotated[NoParameters, Query()]) -> IncidentDetailModel:
        """One incident with its alerts and its timeline."""
        found = alerts.get_incident(incident_id)
        if found is None:
            raise Problem(404, f"There is no incident {show(incident_id)}; look it up in /api/v1/incidents.")
        return view_incident(found, alerts, evidence)

    return router
