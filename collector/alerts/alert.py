"""The alert: one thing a person should look at, with what was observed, what was expected, and why it was raised."""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


class AlertKind(StrEnum):
    """What raised it."""

    VOLUME_ENDPOINT = "volume_endpoint"  # One endpoint is called far more (or less) than it was.
    VOLUME_SERVICE = (
        "volume_service"  # All endpoints of a service together are called far more (or less) than they were.
    )
    VOLUME_CONSUMER = "volume_consumer"  # One consumer calls far more than it did or its peers do, or falls silent.
    VOLUME_PAIR = "volume_pair"  # One consumer at one endpoint.
    ERRORS = "errors"  # More calls of an endpoint, or of a service, fail than did.
    LATENCY = "latency"  # Calls of an endpoint, or of a service, take longer than they did.
    ENUMERATION = "enumeration"  # A consumer takes many different objects of one endpoint (API1:2023).
    BULK_READING = "bulk_reading"  # A consumer takes many records at a time (API6:2023).
    OBJECT_PROBING = "object_probing"  # A consumer reads objects of many others (API1:2023).
    CREDENTIAL_STUFFING = "credential_stuffing"  # Logins are tried and refused (API2:2023).
    CODE_GUESSING = "code_guessing"  # One-time codes are tried and refused (API2:2023).
    CREDENTIAL_SHARING = "credential_sharing"  # A credential is used from many networks (API2:2023).
    CREDENTIAL_ROTATION = "credential_rotation"  # An address uses one credential after the other (API2:2023).
    RESOURCE_EXHAUSTION = "resource_exhaustion"  # A consumer goes on past the server's limit (API4:2023).
    RESOURCE_CONSUMPTION = "resource_consumption"  # A consumer takes most of what an endpoint gives (API4:2023).
    FUNCTION_PROBING = "function_probing"  # A consumer tries functions its peers do not call (API5:2023).
    INJECTION = "injection"  # A consumer sends payloads of attacks (API8:2023).
    SCANNING = "scanning"  # An address looks for what is not there (API9:2023).
    OPEN_DATA = "open_data"  # Data of people without credentials, from outside (API2:2023).
    NEW_ENDPOINT = "new_endpoint"  # A service answers where it did not (API9:2023).
    NEW_CONSUMER = "new_consumer"  # Somebody else reads what few read (API5:2023).
    NEW_DATA_CLASS = "new_data_class"  # An endpoint returns a class of data that it did not (API3:2023).
    NEW_THIRD_PARTY = "new_third_party"  # A workload calls a host outside that it did not (API10:2023).
    LOGIN_MISSING = "login_missing"  # An endpoint answers without credentials that had them (API2:2023).
    RISK_SCORE = "risk_score"  # An endpoint's risk crossed a level.
    SENSOR_SILENT = "sensor_silent"
    SENSOR_LOSS = "sensor_loss"
    SENSOR_LAG = "sensor_lag"
    SENSOR_CERTIFICATE = "sensor_certificate"  # A sensor's ends soon and was not renewed.
    COLLECTOR_CERTIFICATE = "collector_certificate"  # That of the collector's listeners.
    AUTHORITY_CERTIFICATE = "authority_certificate"  # That of the authority of all of them.
    LOG_DAMAGED = "log_damaged"  # Bytes of the collector's log are not those that were written.
    DISK_FULL = "disk_full"  # The collector's disk has less than its reserve.
    STORE_BEHIND = "store_behind"  # The collector's tables lack what came over a minute ago.


class AlertState(StrEnum):
    """Where it stands in its life."""

    OPEN = "open"
    SILENCED = "silenced"  # A person wants to hear nothing of it (collector/alerts/silences.py); never stored.
    CLOSED = "closed"


class Severity(StrEnum):
    """How soon a person should look."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


class Confidence(StrEnum):
    """How sure the accusation is."""

    LOW = "low"  # A notice: too little is known yet of what is ordinary here. It accuses nobody.
    MEDIUM = "medium"  # Judged by what is ordinary for those nobody knows.
    HIGH = "high"  # Judged by peers or by the subject's own past.


class Verdict(StrEnum):
    """What somebody found out about an alert."""

    NONE = ""
    FALSE_ALARM = "false_alarm"
    CONFIRMED = "confirmed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert:
    """One alert as stored and shown; a change makes a new one with the same id and a later `updated_at`. Times are
    unix seconds."""

    id: str  # Stable: the same (kind, subject) that is still open keeps its id.
    kind: AlertKind
    state: AlertState
    severity: Severity
    title: str  # One line for a person: who did what where.
    why: str  # One or two sentences: observed against expected, and on what evidence.
    endpoint_id: str  # Empty for consumer and sensor alerts.
    route_ids: tuple[int, ...]
    consumer: str  # `kind:value` as in /consumers; empty for endpoint and sensor alerts.
    node: str  # Sensor alerts.
    opened_at: float
    updated_at: float
    closed_at: float | None
    window_start: float
    window_end: float
    observed_rate: float  # Calls a second over the window.
    expected_rate: float
    threshold_rate: float
    score: float  # 0..1, higher is odder.
    calls: int  # In the window.
    loss_ratio: float  # What share of their calls the sensors that see it lost.
    acknowledged_by: str = ""
    acknowledged_at: float | None = None
    confidence: Confidence = Confidence.MEDIUM
    risk: str = ""  # OWASP API Security Top 10, as `API1:2023`; empty where it is none of them.
    advice: str = ""  # What to do, one sentence.
    incident_id: str = ""  # What else the same actor did belongs to it; that of the first alert.
    measure: float = 0.0  # What was counted: of volume calls a second, else what the kind counts.
    measure_limit: float = 0.0  # The most of it that would have been ordinary; 0 where that is not a number.
    verdict: Verdict = Verdict.NONE
    verdict_at: float | None = None
    verdict_by: str = ""


def list_fields(alert: Alert) -> dict[str, Any]:
    """As a receiver gets them: routes as in the API, since a number of 64 bits is rounded by most readers of JSON."""
    return asdict(alert) | {"route_ids": [f"{one:016x}" for one in alert.route_ids]}
