"""The types of alerting: the alert that people see, and the signals that detectors send.

An `Alert` has what was observed, what was expected, and why it was raised. A signal is one subject in one window that
differed from its expectation. Signals cross a process boundary. So they are frozen msgspec structs, encoded as
MessagePack, without pickle of foreign types.
"""

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Final

import msgspec

from collector.core.kinds import Sensitivity
from collector.core.rates import compute_rate


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
    MASS_EXPORT = "mass_export"  # A consumer takes many records at a time (API6:2023).
    BOLA = "bola"  # A consumer reads objects of many others (API1:2023).
    CREDENTIAL_STUFFING = "credential_stuffing"  # Logins are tried and refused (API2:2023).
    CODE_GUESSING = "code_guessing"  # One-time codes are tried and refused (API2:2023).
    CREDENTIAL_SHARING = "credential_sharing"  # A credential is used from many networks (API2:2023).
    CREDENTIAL_ROTATION = "credential_rotation"  # An address uses one credential after the other (API2:2023).
    RESOURCE_EXHAUSTION = "resource_exhaustion"  # A consumer goes on past the server's limit (API4:2023).
    RESOURCE_CONSUMPTION = "resource_consumption"  # A consumer takes most of what an endpoint gives (API4:2023).
    BFLA = "bfla"  # A consumer tries functions its peers do not call (API5:2023).
    INJECTION = "injection"  # A consumer sends payloads of attacks (A03:2021).
    SCANNING = "scanning"  # An address looks for what is not there.
    UNAUTHENTICATED_SENSITIVE_DATA = (
        "unauthenticated_sensitive_data"  # Data of people without credentials, from outside (API2:2023).
    )
    NEW_ENDPOINT = "new_endpoint"  # A service answers where it did not (API9:2023).
    NEW_CONSUMER = "new_consumer"  # Somebody else reads what few read (API5:2023).
    NEW_DATA_CLASS = "new_data_class"  # An endpoint returns a class of data that it did not (API3:2023).
    NEW_THIRD_PARTY = "new_third_party"  # A workload calls a host outside that it did not (API10:2023).
    MISSING_AUTHENTICATION = (
        "missing_authentication"  # An endpoint answers without credentials that had them (API2:2023).
    )
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

    @classmethod
    def _missing_(cls, value: object) -> "AlertKind | None":
        """Alerts, rules and ladders that were stored before 0.2 have other names."""
        return _NAMES_BEFORE_0_2.get(str(value))


_NAMES_BEFORE_0_2: Final = {
    "bulk_reading": AlertKind.MASS_EXPORT,
    "object_probing": AlertKind.BOLA,
    "function_probing": AlertKind.BFLA,
    "open_data": AlertKind.UNAUTHENTICATED_SENSITIVE_DATA,
    "login_missing": AlertKind.MISSING_AUTHENTICATION,
}


class AlertState(StrEnum):
    """Where it stands in its life."""

    OPEN = "open"
    SILENCED = "silenced"  # A person wants to hear nothing of it (collector/alerting/silences.py); never stored.
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
    risk: str = ""  # OWASP id, as `API1:2023` or `A03:2021`; empty where no category fits.
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


class Direction(StrEnum):
    """Which way the observation left the expectation."""

    ABOVE = "above"
    BELOW = "below"


class Basis(StrEnum):
    """What the expectation rests on, weakest first."""

    PRIOR = "prior"  # Nothing seen yet: the stated prior of docs/internals/detection.md.
    PEERS = "peers"  # What the other consumers of the endpoint do.
    ENDPOINT = "endpoint"  # What all consumers of the endpoint did together.
    HISTORY = "history"  # What the subject itself did.
    SEASON = "season"  # Its own history at this time of day.


class AlertSignal(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """One subject in one window, as the detectors judged it. Times are unix seconds, rates calls a second."""

    kind: AlertKind
    direction: Direction
    endpoint_id: str  # Empty for a consumer over all endpoints; of a service the one that names it.
    endpoint_label: str  # `GET /items/{id}`; empty where endpoint_id is.
    route_ids: tuple[int, ...]
    consumer: str  # `kind:value`; empty for an endpoint and a service.
    window_start: int
    window_seconds: int
    calls: int
    expected_rate: float  # Over the whole window, as is the next.
    threshold_rate: float
    score: float  # 0..1, higher is odder.
    excess: float  # How far past the detector's threshold, in its own unit (>= 0): ranks signals of one detector.
    basis: Basis
    novel_objects: int  # Objects of this window that the pair or consumer had not touched before.
    peers: int  # Other consumers of the endpoint that the expectation knows.
    loss_ratio: float
    is_notice: bool = False  # The installation is too young to accuse anybody.
    quietest: Sensitivity = Sensitivity.QUIET  # The level whose bar it passes.
    walk: str = ""  # That a pair's objects came in order, a clause.
    service: str = ""  # `namespace/workload:port`, where it is about all endpoints of one;
    endpoints: int = 0  # which are so many.
    elapsed_seconds: int = 0  # From the first call to the window's end or until now; 0: all of it.

    @property
    def seconds(self) -> int:
        """In which the calls were made, of those of the window."""
        return self.elapsed_seconds or self.window_seconds

    @property
    def observed_rate(self) -> float:
        """Calls a second of that time."""
        return compute_rate(self.calls, self.seconds)

    @property
    def subject(self) -> tuple[str, str, str]:
        """What stays the same while the alert is open."""
        return (self.kind.value, self.endpoint_id, self.consumer)


class AbuseSignal(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """One subject that did too much of what its kind counts (docs/use/alerts.md). Times are unix seconds."""

    kind: AlertKind
    endpoint_id: str  # Empty for what concerns no single endpoint.
    endpoint_label: str
    route_ids: tuple[int, ...]
    consumer: str  # `kind:value`; empty where many took part.
    time: int
    seconds: int  # The horizon over which it was counted; what is older weighs less.
    count: int
    ceiling: int
    calls: int  # Of the rows that made it too much.
    basis: Basis
    is_notice: bool  # The installation, or what calls from inside, is too young to accuse anybody.
    sources: tuple[str, ...]  # Addresses that took part, where they are many.
    loss_ratio: float
    detail: str = ""  # What was counted, by class.
    confirmation: str = ""  # How a response says that it worked, a clause.
    walk: str = ""  # That its objects came in order, a clause.
    quietest: Sensitivity = Sensitivity.QUIET  # The level from which on it is told.


class HealthMeasure(StrEnum):
    """What of an endpoint got worse."""

    SERVER_ERRORS = (
        "server_errors"  # Share of calls answered 5xx, or with an RPC status that the server is at fault for.
    )
    CLIENT_ERRORS = "client_errors"  # Share of calls answered 4xx, less those that abuse and missing paths make.
    LATENCY = "latency"  # Geometric mean duration in microseconds.


class HealthSignal(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Endpoints of one service that fail more, or take longer, than they did in one window. Times are unix seconds;
    `observed`, `expected` and `threshold` are in the unit of the measure, over the calls of those endpoints."""

    kind: AlertKind
    measure: HealthMeasure
    endpoint_id: str  # Of the endpoint that names what goes on at the service, while it lasts.
    endpoint_label: str  # Of the worst.
    route_ids: tuple[int, ...]
    service: str
    endpoints: int  # Of the service that were told within an hour.
    window_start: int
    window_seconds: int
    calls: int  # Of latency, those that succeeded.
    observed: float
    expected: float
    threshold: float
    score: float  # 0..1, higher is odder.
    loss_ratio: float
    quietest: Sensitivity = Sensitivity.QUIET  # The level whose bar it passes.


Signal = AlertSignal | AbuseSignal | HealthSignal
