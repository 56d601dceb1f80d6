"""The types of alerting: the table of alert kinds, reports and alerts, and the signals that detectors send.

`AlertKind` has one row a kind. To add a kind, see docs/internals/development.md.

An `Observation` has what was observed, what was expected, and why it was reported. The lifecycle makes alerts of
reports. A signal is one subject in one window that
differed from its expectation. Signals cross a process boundary. So they are frozen msgspec structs, encoded as
MessagePack, without pickle of foreign types.
"""

from dataclasses import asdict, dataclass, fields, replace
from enum import Enum, StrEnum, auto
from typing import Any, Final

import msgspec

from collector.core.kinds import Sensitivity
from collector.core.rates import compute_rate


class Severity(StrEnum):
    """How soon a person should look."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"

    @property
    def rank(self) -> int:
        """Graver ones are higher."""
        return list(Severity).index(self)


class KindGroup(Enum):
    """What raises a kind of alert, which says when its alerts close (docs/use/alerts.md)."""

    VOLUME = auto()  # Reported in each window: closes after three windows.
    HEALTH = auto()  # As volume.
    ABUSE = auto()  # Counted over a horizon: closes after it.
    RISK = auto()  # Closes after a day.
    CHANGE = auto()  # Reported once: closes after a day.
    SELF = auto()  # Apidae itself: closes when the cause is gone.


class Subject(Enum):
    """What a kind of alert is about."""

    ENDPOINT = auto()
    SERVICE = auto()  # All its endpoints; the alert names one of them.
    PAIR = auto()  # One consumer at one endpoint.
    CONSUMER = auto()  # Over all endpoints; one that the alert names is an example.
    ADDRESS = auto()  # Whoever the consumers of its calls are.
    NODE = auto()
    COLLECTOR = auto()


@dataclass(frozen=True, slots=True)
class KindRow:
    """What is so of all alerts of one kind. `{count}`, `{where}` and `{detail}` of a title are filled in."""

    name: str  # As stored and shown, and of its page in docs/alerts.
    group: KindGroup
    subject: Subject
    owasp: str = ""  # Empty where no category fits.
    specificity: int = 0  # Of several kinds that belong to one alert the most specific names it.
    severity: Severity = Severity.HIGH  # Unless what was seen says otherwise.
    reads_objects: bool = False  # Evidence says whether the calls were answered.
    # What a person calls a false alarm is what the endpoint is for: it is so of all its callers.
    is_of_design: bool = False
    title: str = ""  # After the name of who did it.
    unit: str = ""  # What was counted, after its number.
    advice: str = ""  # What to do, one sentence.

    def in_words(self, title: str = "", unit: str = "", advice: str = "") -> "KindRow":
        """The row with its words."""
        return replace(self, title=title, unit=unit, advice=advice)

    @property
    def is_detected(self) -> bool:
        """Detectors report it: such alerts count against the daily budget, and those of one event are one alert."""
        return self.group not in (KindGroup.RISK, KindGroup.SELF)

    @property
    def is_once(self) -> bool:
        """Each report is of something else: what a person says of one allows no other."""
        return self.group is KindGroup.CHANGE

    @property
    def is_windowed(self) -> bool:
        """It is reported in every window while it lasts."""
        return self.group in (KindGroup.VOLUME, KindGroup.HEALTH)

    @property
    def can_block(self) -> bool:
        """It names a client that can be stopped; others, of an endpoint or of Apidae itself, name nobody."""
        return self.group in (KindGroup.VOLUME, KindGroup.ABUSE) and self.subject in _CLIENTS


_CLIENTS: Final = (Subject.PAIR, Subject.CONSUMER, Subject.ADDRESS)


class AlertKind(StrEnum):
    """The table of alert kinds, one row each."""

    _value_: str
    row: KindRow

    def __new__(cls, row: Any) -> "AlertKind":
        """A member is the name of its row. (Any, for type checkers read this as the look-up by name too.)"""
        kind = str.__new__(cls, row.name)
        kind._value_, kind.row = row.name, row
        return kind

    @property
    def runbook(self) -> str:
        """The path of its page of the documentation on this collector (collector/ui/documentation)."""
        return f"/docs/alerts/{self.value}"

    # One endpoint is called far more (or less) than it was.
    VOLUME_ENDPOINT = KindRow("volume_endpoint", KindGroup.VOLUME, Subject.ENDPOINT, severity=Severity.MEDIUM)
    # All endpoints of a service together are called far more (or less) than they were.
    VOLUME_SERVICE = KindRow("volume_service", KindGroup.VOLUME, Subject.SERVICE, "API4:2023", severity=Severity.LOW)
    # One consumer calls far more than it did or its peers do, or falls silent.
    VOLUME_CONSUMER = KindRow(
        "volume_consumer", KindGroup.VOLUME, Subject.CONSUMER, "API4:2023", 1, severity=Severity.MEDIUM
    )
    # One consumer at one endpoint.
    VOLUME_PAIR = KindRow("volume_pair", KindGroup.VOLUME, Subject.PAIR, "API4:2023", 2, severity=Severity.MEDIUM)
    # More calls of an endpoint, or of a service, fail than did.
    ERRORS = KindRow("errors", KindGroup.HEALTH, Subject.ENDPOINT, severity=Severity.LOW).in_words(
        unit="share of calls that fail"
    )
    # Calls of an endpoint, or of a service, take longer than they did.
    LATENCY = KindRow("latency", KindGroup.HEALTH, Subject.ENDPOINT, severity=Severity.LOW).in_words(
        unit="microseconds a call, geometric mean"
    )
    # A consumer takes many different objects of one endpoint.
    ENUMERATION = KindRow("enumeration", KindGroup.ABUSE, Subject.PAIR, "API1:2023", 5, reads_objects=True).in_words(
        title="reads {count} different objects of {where}",
        unit="objects it had not touched before",
        advice="Check that the caller may see these objects; revoke its credential if not.",
    )
    # A consumer takes many records at a time.
    MASS_EXPORT = KindRow("mass_export", KindGroup.ABUSE, Subject.PAIR, "API6:2023", 5, reads_objects=True).in_words(
        title="takes {count} records of {where}",
        unit="records that its calls returned",
        advice="Check that the caller may export; limit how many records a page may hold.",
    )
    # A consumer reads objects of many others.
    BOLA = KindRow("bola", KindGroup.ABUSE, Subject.CONSUMER, "API1:2023", 6, reads_objects=True).in_words(
        title="reads objects of {count} others, such as {where}",
        unit="others whose objects it read: owners who alone read them until then, and objects that nobody had read",
        advice="Check that the API asks whose an object is before it answers.",
    )
    # Logins are tried and refused.
    CREDENTIAL_STUFFING = KindRow("credential_stuffing", KindGroup.ABUSE, Subject.ADDRESS, "API2:2023", 4).in_words(
        title="was refused {count} logins at {where}",
        unit="refused logins",
        advice="Block the addresses, and look at logins from them that succeeded.",
    )
    # One-time codes are tried and refused.
    CODE_GUESSING = KindRow("code_guessing", KindGroup.ABUSE, Subject.ADDRESS, "API2:2023", 4).in_words(
        title="guessed {count} codes at {where}",
        unit="refused codes",
        advice="Limit the attempts of an account and make its code invalid.",
    )
    # A credential is used from many networks.
    CREDENTIAL_SHARING = KindRow("credential_sharing", KindGroup.ABUSE, Subject.CONSUMER, "API2:2023", 4).in_words(
        title="calls from {count} new networks",
        unit="networks (/24, /48) it had not come from before",
        advice="Revoke the credential unless its owner knows these places.",
    )
    # An address uses one credential after the other.
    CREDENTIAL_ROTATION = KindRow("credential_rotation", KindGroup.ABUSE, Subject.ADDRESS, "API2:2023", 4).in_words(
        title="goes through {count} credentials, one after the other",
        unit="credentials or sessions, each new to the address, used for a short time and dropped before the next",
        advice="Limit calls by address and account, not by credential alone; revoke these, and find out where "
        "they come from: logins of the same account, or a leak.",
    )
    # A consumer goes on past the server's limit.
    RESOURCE_EXHAUSTION = KindRow("resource_exhaustion", KindGroup.ABUSE, Subject.CONSUMER, "API4:2023", 3).in_words(
        title="goes on after {count} calls were turned away",
        unit="calls answered 429 or 503",
        advice="Block the caller, or ask its owner to heed Retry-After.",
    )
    # A consumer takes most of what an endpoint gives.
    RESOURCE_CONSUMPTION = KindRow("resource_consumption", KindGroup.ABUSE, Subject.PAIR, "API4:2023", 3).in_words(
        title="takes most of what {where} gives",
        unit="ordinary calls' worth",
        advice="Limit what one caller may take in calls, time and bytes; block it if nobody knows it.",
    )
    # A consumer sends GraphQL requests that ask for far more than others do.
    QUERY_COST = KindRow("query_cost", KindGroup.ABUSE, Subject.PAIR, "API4:2023", 4).in_words(
        title="asks for too much in one GraphQL call: {count} {detail} at {where}",
        unit="in one GraphQL call",
        advice="Limit depth, aliases and batches in the server; block the caller if nobody knows it.",
    )
    # A consumer asks a GraphQL service for its schema.
    INTROSPECTION = KindRow(
        "introspection", KindGroup.ABUSE, Subject.PAIR, "API8:2023", 2, severity=Severity.LOW
    ).in_words(
        title="asks {where} for its schema, as hardly anybody does",
        unit="caller who asks for the schema",
        advice="Ask whether a developer's tool did it; switch introspection off where clients do not need it.",
    )
    # An agent calls the same tools of an MCP server again and again.
    TOOL_LOOP = KindRow("tool_loop", KindGroup.ABUSE, Subject.PAIR, "LLM10:2025", 4, severity=Severity.MEDIUM).in_words(
        title="repeats the same calls of tools at {where}, {count} times",
        unit="repeated calls of tools",
        advice="End the agent's run, and limit how many calls one may make.",
    )
    # An agent calls many tools that it did not call before.
    TOOL_FAN_OUT = KindRow(
        "tool_fan_out", KindGroup.ABUSE, Subject.PAIR, "LLM06:2025", 4, severity=Severity.MEDIUM
    ).in_words(
        title="calls {count} tools that are new to it, those of {where} among them",
        unit="tools it had not called before",
        advice="See who gave the agent this task, and allow it only the tools that its work needs.",
    )
    # A consumer tries functions its peers do not call.
    BFLA = KindRow("bfla", KindGroup.ABUSE, Subject.CONSUMER, "API5:2023", 4, reads_objects=True).in_words(
        title="calls functions that others like it do not, such as {where}",
        unit="calls of functions that hardly anybody else calls",
        advice="Look at what it called and was not refused; check that the API asks who may call these.",
    )
    # A consumer sends payloads of attacks.
    INJECTION = KindRow("injection", KindGroup.ABUSE, Subject.CONSUMER, "A03:2021", 7).in_words(
        title="sends payloads of attacks ({detail}) to {where}",
        unit="different payloads of attacks",
        advice="Block the caller, and look at what its calls that were not refused returned.",
    )
    # A consumer has the server call hosts that it names.
    SSRF = KindRow("ssrf", KindGroup.ABUSE, Subject.CONSUMER, "API7:2023", 8, is_of_design=True).in_words(
        title="has {where} call hosts that it should not",
        unit="different payloads that name a host or an address",
        advice="Let the service call listed hosts only; change credentials that it could read there.",
    )
    # A consumer writes fields that no other caller sends.
    MASS_ASSIGNMENT = KindRow("mass_assignment", KindGroup.ABUSE, Subject.PAIR, "API3:2023", 6).in_words(
        title="writes fields at {where} that no other caller sends ({detail})",
        unit="fields that no other caller sends",
        advice="Let the API take listed fields only; undo what the caller changed.",
    )
    # An address looks for what is not there.
    SCANNING = KindRow("scanning", KindGroup.ABUSE, Subject.ADDRESS, "", 3).in_words(
        title="looks for {count} paths {detail}",
        unit="paths it had not asked for before",
        advice="Block the address, and look at what it found.",
    )
    # An address sends requests that sensors cannot read, and is answered.
    UNREAD_TRAFFIC = KindRow(
        "unread_traffic", KindGroup.ABUSE, Subject.ADDRESS, "", 2, severity=Severity.MEDIUM
    ).in_words(
        title="makes at least {count} calls that sensors cannot read ({detail})",
        unit="calls that were answered and that nobody could read",
        advice="See in the server's log what it asked for; block the address if nobody knows why.",
    )
    # Data of people without credentials, from outside.
    UNAUTHENTICATED_SENSITIVE_DATA = KindRow(
        "unauthenticated_sensitive_data", KindGroup.RISK, Subject.ENDPOINT, "API2:2023"
    )
    # A service answers where it did not.
    NEW_ENDPOINT = KindRow(
        "new_endpoint", KindGroup.CHANGE, Subject.ENDPOINT, "API9:2023", 3, severity=Severity.LOW
    ).in_words(advice="See which release brought it, whether a specification has it, and who may call it.")
    # Somebody else reads what few read.
    NEW_CONSUMER = KindRow(
        "new_consumer", KindGroup.CHANGE, Subject.PAIR, "API5:2023", 3, severity=Severity.MEDIUM
    ).in_words(advice="Ask the endpoint's owner whether the caller may read this; revoke its access if not.")
    # An endpoint returns a class of data that it did not.
    NEW_DATA_CLASS = KindRow(
        "new_data_class", KindGroup.CHANGE, Subject.ENDPOINT, "API3:2023", 3, severity=Severity.MEDIUM
    ).in_words(advice="See which release added it, and remove what its callers do not need.")
    # A workload calls a host outside that it did not.
    NEW_THIRD_PARTY = KindRow(
        "new_third_party", KindGroup.CHANGE, Subject.CONSUMER, "API10:2023", 3, severity=Severity.MEDIUM
    ).in_words(advice="See which release or package calls it and what it sends; stop it if nobody knows.")
    # A workload spends far more tokens on a model than on the days before.
    MODEL_SPEND = KindRow(
        "model_spend", KindGroup.CHANGE, Subject.CONSUMER, "LLM10:2025", 3, severity=Severity.MEDIUM
    ).in_words(
        unit="tokens in 24 hours",
        advice="See on the page of models what it sends where; limit the tokens of its key if nobody expects it.",
    )
    # A tool or prompt of an MCP server has another description or schema than before.
    MCP_TOOL_CHANGED = KindRow("mcp_tool_changed", KindGroup.CHANGE, Subject.ENDPOINT, "MCP03:2025", 5).in_words(
        advice="Compare the server's release with the last one; disconnect its clients if nobody knows of the change."
    )
    # A server offers a tool of another one's name.
    MCP_TOOL_SHADOWED = KindRow(
        "mcp_tool_shadowed", KindGroup.CHANGE, Subject.ENDPOINT, "MCP03:2025", 5, severity=Severity.MEDIUM
    ).in_words(advice="See which server clients are meant to use, and rename or remove the other tool.")
    # A server answers that was not known.
    NEW_MCP_SERVER = KindRow(
        "new_mcp_server", KindGroup.CHANGE, Subject.ENDPOINT, "MCP09:2025", 4, severity=Severity.LOW
    ).in_words(advice="See who runs it, which clients use it, and whether they may.")
    # A server that is known lists something new.
    NEW_MCP_TOOL = KindRow(
        "new_mcp_tool", KindGroup.CHANGE, Subject.ENDPOINT, "MCP03:2025", 4, severity=Severity.LOW
    ).in_words(advice="See which release brought it, and what a client can do with it.")
    # An endpoint answers without credentials that had them.
    MISSING_AUTHENTICATION = KindRow("missing_authentication", KindGroup.CHANGE, Subject.ENDPOINT, "API2:2023", 6)
    # An endpoint's risk crossed a level.
    RISK_SCORE = KindRow("risk_score", KindGroup.RISK, Subject.ENDPOINT, severity=Severity.MEDIUM)
    SENSOR_SILENT = KindRow("sensor_silent", KindGroup.SELF, Subject.NODE)
    SENSOR_LOSS = KindRow("sensor_loss", KindGroup.SELF, Subject.NODE, severity=Severity.MEDIUM)
    SENSOR_LAG = KindRow("sensor_lag", KindGroup.SELF, Subject.NODE, severity=Severity.MEDIUM)
    # A sensor speaks for services of other nodes.
    SENSOR_CLAIMS = KindRow("sensor_claims", KindGroup.SELF, Subject.NODE).in_words(
        advice="See who has the node and its certificate; `apidae certificates revoke` ends its stream."
    )
    # A sensor adds more in a day than one node may.
    SENSOR_QUOTA = KindRow("sensor_quota", KindGroup.SELF, Subject.NODE, severity=Severity.MEDIUM).in_words(
        advice="See what the node's services and their callers do, and who has the node's certificate."
    )
    # A sensor's ends soon and was not renewed.
    SENSOR_CERTIFICATE = KindRow("sensor_certificate", KindGroup.SELF, Subject.NODE, severity=Severity.MEDIUM).in_words(
        advice="See in the sensor's log why; `apidae enroll` with a new token gives it another."
    )
    # That of the collector's listeners.
    COLLECTOR_CERTIFICATE = KindRow(
        "collector_certificate", KindGroup.SELF, Subject.COLLECTOR, severity=Severity.MEDIUM
    ).in_words(advice="Renew tls_cert_file, or see in the collector's log why it makes no other.")
    # That of the authority of all of them.
    AUTHORITY_CERTIFICATE = KindRow(
        "authority_certificate", KindGroup.SELF, Subject.COLLECTOR, severity=Severity.MEDIUM
    ).in_words(advice="Run `apidae certificates rotate-authority`, or renew ca_cert_file.")
    # Bytes of the collector's log are not those that were written.
    LOG_DAMAGED = KindRow("log_damaged", KindGroup.SELF, Subject.COLLECTOR).in_words(
        advice="Look at the disk of data_dir and its file system: they changed or lost bytes that they had taken."
    )
    # The same of its tables.
    TABLE_DAMAGED = KindRow("table_damaged", KindGroup.SELF, Subject.COLLECTOR).in_words(
        advice="Look at the disk of data_dir and its file system: they changed or lost bytes that they had taken."
    )
    # The collector's disk has less than its reserve.
    DISK_FULL = KindRow("disk_full", KindGroup.SELF, Subject.COLLECTOR).in_words(
        advice="Make room before the sensors' spools are full: then the oldest rows go."
    )
    # Most sensors' clocks differ from the collector's by more than a day.
    CLOCK_WRONG = KindRow("clock_wrong", KindGroup.SELF, Subject.COLLECTOR).in_words(
        advice="Set the clocks by NTP before the sensors' spools are full: then the oldest rows go."
    )
    # The collector's tables lack what came over a minute ago.
    STORE_BEHIND = KindRow("store_behind", KindGroup.SELF, Subject.COLLECTOR, severity=Severity.MEDIUM).in_words(
        advice="See the collector's log and load; past 2 GiB of log sensors have to send again what they hold."
    )
    # A limit of what the collector keeps in memory.
    LIMIT_REACHED = KindRow("limit_reached", KindGroup.SELF, Subject.COLLECTOR, severity=Severity.MEDIUM).in_words(
        advice="See the limits in /coverage; use a collector for each part of the installation."
    )
    # Less of the HTTP traffic is read than somebody wants.
    COVERAGE_BELOW_TARGET = KindRow(
        "coverage_below_target", KindGroup.SELF, Subject.COLLECTOR, severity=Severity.MEDIUM
    ).in_words(advice="See /coverage for ports that are not read, with the reason of each.")
    # The disk refuses the detectors' state.
    DETECTORS_UNSAVED = KindRow(
        "detectors_unsaved", KindGroup.SELF, Subject.COLLECTOR, severity=Severity.MEDIUM
    ).in_words(advice="Make room on the disk of data_dir, or see why it refuses to write.")

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


class Confidence(StrEnum):
    """How sure the accusation is."""

    LOW = "low"  # A notice: the baseline is not known yet. It accuses nobody.
    MEDIUM = "medium"  # Compared with the limits for callers that nobody knows.
    HIGH = "high"  # Compared with peers or with the subject's own past.

    @property
    def rank(self) -> int:
        """Surer ones are higher."""
        return list(Confidence).index(self)

    @classmethod
    def _missing_(cls, value: object) -> "Confidence | None":
        """Alerts from before there was a confidence have none."""
        return None if value else cls.MEDIUM


# What an observation of so little confidence may be at most: nobody is called at night for a guess.
SEVERITY_MAX: Final = {
    Confidence.LOW: Severity.MEDIUM,
    Confidence.MEDIUM: Severity.HIGH,
    Confidence.HIGH: Severity.HIGH,
}


class Verdict(StrEnum):
    """What somebody found out about an alert."""

    NONE = ""
    FALSE_ALARM = "false_alarm"
    CONFIRMED = "confirmed"


class VerdictReach(StrEnum):
    """Where a verdict holds: nobody raises what others see of a consumer, or allows it more, who does not see it."""

    EVERYWHERE = ""
    NAMESPACE = "namespace"  # That of the alert, or of its endpoint where the alert has none.
    ENDPOINT = "endpoint"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an endpoint is served; empty parts are not known."""

    service: str = ""  # `namespace/workload:port`.
    namespace: str = ""  # Of Kubernetes.
    host: str = ""


NOWHERE: Final = Place()


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What was odd, in words and figures: the part that reports and alerts have in common. Times are unix seconds."""

    kind: AlertKind
    severity: Severity  # At most what the confidence allows (SEVERITY_MAX), whoever makes it or changes it.
    title: str  # One line for a person: who did what where.
    why: str  # One or two sentences: observed against expected, and on what evidence.
    endpoint_id: str = ""  # Empty for consumer and sensor alerts.
    route_ids: tuple[int, ...] = ()
    service: str = ""  # Of the endpoint, or what the alert is about; `namespace/workload:port`.
    namespace: str = ""
    host: str = ""
    consumer: str = ""  # `kind:value` as in /consumers; empty for endpoint and sensor alerts.
    held_by: str = ""  # Of an address: the Pod that held it then.
    node: str = ""  # Sensor alerts.
    nodes: tuple[str, ...] = ()  # Whose sensors saw it, at most the last four.
    other_nodes: tuple[str, ...] = ()  # Whose sensors saw calls of the same service, and nothing of it; at most four.
    window_start: float
    window_end: float
    observed_rate: float = 0.0  # Calls a second over the window.
    expected_rate: float = 0.0
    threshold_rate: float = 0.0
    score: float = 1.0  # 0..1, higher is odder.
    calls: int = 0  # In the window.
    loss_ratio: float = 0.0  # Share of its calls that sensors did not read: lost, or only estimated.
    confidence: Confidence = Confidence.HIGH
    risk: str = ""  # OWASP id, as `API1:2023` or `A03:2021`; empty where no category fits.
    advice: str = ""  # What to do, one sentence.
    measure: float = 0.0  # What was counted: of volume calls a second, else what the kind counts.
    measure_limit: float = 0.0  # The most of it that would have been ordinary; 0 where that is not a number.

    def __post_init__(self) -> None:
        severity = min(self.severity, SEVERITY_MAX[self.confidence], key=lambda one: one.rank)
        object.__setattr__(self, "severity", severity)

    @property
    def subject(self) -> str:
        """`volume_pair|endpoint|consumer|node`: the key of alerts, mutes and expectations."""
        return "|".join((self.kind.value, self.endpoint_id, self.consumer, self.node))

    @property
    def is_within_endpoint(self) -> bool:
        """Whether its subject is of one endpoint, or of no consumer; else it is of whatever a consumer calls."""
        return bool(self.endpoint_id) or not self.consumer

    @property
    def actor(self) -> str:
        """Whose it is: a consumer, or the endpoint or node where none is named."""
        return self.consumer or self.endpoint_id or self.node


@dataclass(frozen=True, slots=True, kw_only=True)
class Report(Observation):
    """One odd observation, whoever made it. The alert closes `calm_seconds` after the last one."""

    calm_seconds: float
    is_above: bool = True
    quietest: Sensitivity = Sensitivity.QUIET  # The level from which on it is sent.
    is_sure: bool = False  # No budget holds it back.


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert(Observation):
    """One alert as stored and shown; a change makes a new one with the same id and a later `updated_at`."""

    id: str  # Stable: the same (kind, subject) that is still open keeps its id.
    state: AlertState
    opened_at: float
    updated_at: float
    closed_at: float | None
    acknowledged_by: str = ""
    acknowledged_at: float | None = None
    incident_id: str = ""  # What else the same actor did belongs to it; that of the first alert.
    verdict: Verdict = Verdict.NONE
    verdict_at: float | None = None
    verdict_by: str = ""
    verdict_reach: VerdictReach = VerdictReach.EVERYWHERE

    @property
    def runbook(self) -> str:
        """That of its kind."""
        return self.kind.runbook


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledAlert(Alert):
    """An alert as people read it: with what they call its consumer, which no table of alerts holds."""

    consumer_label: str = ""
    url: str = ""  # Of its page; empty where nobody said where people reach the collector.
    runbook_url: str = ""  # Of the page of its kind; empty as above.


def label_alert(alert: Alert, label: str, public_url: str = "") -> LabelledAlert:
    """An alert with the label of its consumer, in the title too: `nightly export (address:192.0.2.7) reads ..`, and
    with the addresses of its page and of its kind's."""
    columns = {field.name: getattr(alert, field.name) for field in fields(Alert)}
    if label and alert.consumer:
        columns["title"] = alert.title.replace(alert.consumer, f"{label} ({alert.consumer})", 1)
    urls = (f"{public_url}/alerts/{alert.id}", f"{public_url}{alert.kind.runbook}") if public_url else ("", "")
    return LabelledAlert(**columns, consumer_label=label, url=urls[0], runbook_url=urls[1])


def list_fields(alert: Alert) -> dict[str, Any]:
    """As a receiver gets them: routes as in the API, since a number of 64 bits is rounded by most readers of JSON."""
    return {"consumer_label": "", "url": "", "runbook_url": "", **asdict(alert)} | {
        "route_ids": [f"{one:016x}" for one in alert.route_ids]
    }


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


class _Signal(msgspec.Struct, frozen=True, kw_only=True):
    """What all signals have. Times are unix seconds."""

    kind: AlertKind
    endpoint_id: str  # Of a service the one that names it; empty for what concerns no single endpoint.
    endpoint_label: str  # `GET /items/{id}`; empty where endpoint_id is. Of several endpoints the worst.
    route_ids: tuple[int, ...]
    calls: int  # Of the window; of abuse those that made it too much, of latency those that succeeded.
    loss_ratio: float
    quietest: Sensitivity = Sensitivity.QUIET  # The level from which on it is sent.
    nodes: tuple[str, ...] = ()  # Whose sensors saw it, at most the last four.
    other_nodes: tuple[str, ...] = ()  # Whose sensors saw calls of the same service, and nothing of it.


class AlertSignal(_Signal, frozen=True, kw_only=True, tag=True):
    """One subject in one window, as the detectors judged it. Times are unix seconds, rates calls a second."""

    direction: Direction
    consumer: str  # `kind:value`; empty for an endpoint and a service.
    window_start: int
    window_seconds: int
    expected_rate: float  # Over the whole window, as is the next.
    threshold_rate: float
    score: float  # 0..1, higher is odder.
    excess: float  # How far past the detector's threshold, in its own unit (>= 0): ranks signals of one detector.
    basis: Basis
    novel_objects: int  # Objects of this window that the pair or consumer had not touched before.
    peers: int  # Other consumers of the endpoint that the expectation knows.
    is_notice: bool = False  # The installation is too young to accuse anybody.
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


class AbuseSignal(_Signal, frozen=True, kw_only=True, tag=True):
    """One subject that did too much of what its kind counts (docs/use/alerts.md). Times are unix seconds."""

    consumer: str  # `kind:value`; empty where many took part.
    time: int
    seconds: int  # The horizon over which it was counted; what is older weighs less.
    count: int
    ceiling: int
    basis: Basis
    is_notice: bool  # The installation, or what calls from inside, is too young to accuse anybody.
    sources: tuple[str, ...]  # Addresses that took part, where they are many.
    detail: str = ""  # What was counted, by class.
    confirmation: str = ""  # How a response says that it worked, a clause.
    walk: str = ""  # That its objects came in order, a clause.
    is_estimate: bool = False  # The count: older ones weigh less in it, or hashes of objects met.


class HealthMeasure(StrEnum):
    """What of an endpoint got worse."""

    SERVER_ERRORS = (
        "server_errors"  # Share of calls answered 5xx, or with an RPC status that the server is at fault for.
    )
    CLIENT_ERRORS = "client_errors"  # Share of calls answered 4xx, less those that abuse and missing paths make.
    LATENCY = "latency"  # Geometric mean duration in microseconds.


class HealthSignal(_Signal, frozen=True, kw_only=True, tag=True):
    """Endpoints of one service that fail more, or take longer, than they did in one window. Times are unix seconds;
    `observed`, `expected` and `threshold` are in the unit of the measure, over the calls of those endpoints."""

    measure: HealthMeasure
    service: str
    endpoints: int  # Of the service that were reported within an hour.
    window_start: int
    window_seconds: int
    observed: float
    expected: float
    threshold: float
    score: float  # 0..1, higher is odder.


Signal = AlertSignal | AbuseSignal | HealthSignal


_CALM_SECONDS_MIN: Final = 120
_CALM_WINDOWS: Final = 3
_CALM_SECONDS_ABUSE: Final = 600  # A signal comes at the crossing and when the count grew by half: not in every window.
_CALM_SECONDS_MAX: Final = 3_600


def calm_after_window(seconds: float) -> float:
    """Without a report for this time, an alert that is reported by windows of `seconds` closes."""
    return max(_CALM_SECONDS_MIN, _CALM_WINDOWS * seconds)


def calm_after_count(seconds: float) -> float:
    """The same of what is counted over `seconds`."""
    return max(_CALM_SECONDS_ABUSE, min(seconds, _CALM_SECONDS_MAX))
