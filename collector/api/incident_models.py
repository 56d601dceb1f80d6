"""What the API answers about incidents."""

from pydantic import Field

from collector.alerts.alert import AlertKind, AlertState, Severity
from collector.alerts.incident import Happening
from collector.api.alert_models import AlertModel
from collector.api.base_model import Model, Time


class IncidentModel(Model):
    """All that one actor did, alert after alert."""

    id: str
    actor: str = Field(description="`kind:value` of a consumer; an endpoint's id or a node where none is named.")
    state: AlertState
    severity: Severity = Field(description="The gravest of its alerts.")
    title: str
    kinds: tuple[AlertKind, ...]
    risks: tuple[str, ...] = Field(description="OWASP API Security Top 10 ids that its alerts are evidence for.")
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


class IncidentDetailModel(Model):
    """One incident whole."""

    incident: IncidentModel
    alerts: tuple[AlertModel, ...] = Field(description="Newest first.")
    timeline: tuple[IncidentEntryModel, ...] = Field(description="Oldest first.")
