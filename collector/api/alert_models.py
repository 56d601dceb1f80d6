"""What the API answers about alerts, as pydantic models."""

from pydantic import Field

from collector.alerts.alert import AlertKind, AlertState, Confidence, Severity, Verdict
from collector.alerts.silences import SilenceKind
from collector.api.base_model import HexId, Model, Time


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
    consumer: str
    node: str
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
        description="What share of their calls the sensors that see it lost; apart for calls in the clear and over TLS."
    )
    confidence: Confidence = Field(description="`low` is a notice, which accuses nobody.")
    risk: str = Field(description="OWASP API Security Top 10 id, as API1:2023; empty where it is none of them.")
    advice: str = Field(description="What to do.")
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
    """One page of alerts, newest first."""

    items: tuple[AlertModel, ...]
    next_cursor: str | None
