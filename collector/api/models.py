"""What the API answers, as pydantic models: the domain's dataclasses by attribute, with the descriptions that
OpenAPI shows.

Times are RFC 3339 in UTC. A keyed hash is 16 hex digits: it compares within an installation and says nothing outside
it.
"""

from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from collector.alerts.alert import AlertKind, AlertState, Confidence, Severity, Verdict
from collector.api.base_model import Model, OptionalTime, Ratio, Time
from collector.api.endpoint_spec_model import EndpointSpecModel
from collector.api.exposure_models import ExposureModel, HolderModel
from collector.api.risk_models import RiskScoreModel
from collector.inventory.bodies import BodySide, DataClass, RecordsBasis
from collector.inventory.consumer import ConsumerKind
from collector.inventory.endpoint import WORKLOAD_KINDS, AuthenticationLevel, SeenAt, Streaming, Tier
from collector.inventory.sensor import SensorState
from collector.protocols import Protocol


def _read_workload_kind(value: Any) -> Any:
    """The wire's number as a name."""
    return WORKLOAD_KINDS.get(value, "unknown") if isinstance(value, int) else value


class ServiceModel(Model):
    """What serves: (cluster, namespace, workload, port), or on a plain host (host, unit or container or executable,
    port)."""

    cluster: str
    namespace: str
    workload: str = Field(examples=["orders.service"])
    workload_kind: Annotated[str, BeforeValidator(_read_workload_kind)] = Field(examples=["systemd_unit"])
    host_name: str = Field(examples=["node-1"])
    port: int = Field(examples=[8080])


class StatusModel(Model):
    """Calls by class of status code."""

    informational: int = Field(serialization_alias="1xx")
    success: int = Field(serialization_alias="2xx")
    redirection: int = Field(serialization_alias="3xx")
    client_error: int = Field(serialization_alias="4xx")
    server_error: int = Field(serialization_alias="5xx")
    aborted: int = Field(description="Ended before a response head.")


class PercentilesModel(Model):
    """From histograms whose buckets are 9 % wide: within 4.4 % of the true value."""

    p50: float
    p95: float
    p99: float


class AuthenticationModel(Model):
    """Credentials seen on the calls."""

    coverage: Ratio | None = Field(
        description="Share of the 2xx calls that carried credentials, of those that could be judged; null without any."
    )
    unseen_calls: int = Field(
        description="2xx calls of which nobody could see whether they carried credentials; they are in no other figure."
    )
    level: AuthenticationLevel
    kinds: dict[str, int] = Field(
        description="2xx calls by kind of credential; `none` carried nothing.", examples=[{"bearer_jwt": 91}]
    )
    weaknesses: dict[str, int] = Field(
        description="2xx calls by what is weak about their credentials.", examples=[{"jwt_no_expiry": 4}]
    )


class RpcModel(Model):
    """The method of an RPC, with OpenTelemetry's names (rpc.system.name, rpc.method)."""

    system_name: str = Field(examples=["grpc"])
    service: str = Field(description="With its package.", examples=["shop.v1.Orders"])
    method: str = Field(description="Fully qualified.", examples=["shop.v1.Orders/Get"])
    streaming: Streaming = Field(description="By the messages of the widest call: a lower bound.")
    status_codes: dict[str, int] = Field(
        description="Calls by the RPC's own status, rpc.response.status_code.", examples=[{"OK": 91, "NOT_FOUND": 2}]
    )


class MessagesModel(Model):
    """Messages of RPCs and WebSockets, of the calls of which they are known."""

    calls: int
    request: int
    response: int


class StreamsModel(Model):
    """WebSockets, server-sent events and streaming RPCs that ended."""

    calls: int
    open_seconds: float = Field(description="Mean time from the request to the end.")


class DataFoundModel(Model):
    """One kind of data in bodies."""

    kind: str = Field(examples=["email"])
    data_class: DataClass
    side: BodySide
    calls: int = Field(description="Sampled calls that held it there.")
    share: Ratio = Field(description="Of the calls whose place was read.")


class BodiesModel(Model):
    """What the bodies of sampled calls hold (docs/bodies.md). Values never leave the node."""

    requests_read: int = Field(description="Calls whose request body was read.")
    responses_read: int
    records_returned: int = Field(description="Records in responses, of all calls of which they are known.")
    records_measured: int = Field(description="Of those, counted in bodies; the others follow from sizes.")
    records_basis: RecordsBasis
    data_classes: tuple[DataClass, ...]
    data: tuple[DataFoundModel, ...]
    heads_read: int = Field(description="Calls whose path, query and headers were read.")
    encrypted_heads: int = Field(description="Of those, over TLS at the service, or in front of it as a header says.")


class WorkloadModel(Model):
    """What was deployed, as the sensors of its nodes told it last."""

    kind: str = Field(examples=["Deployment"])
    labels: dict[str, str] = Field(examples=[{"app.kubernetes.io/part-of": "shop"}])
    zones: tuple[str, ...]
    nodes: tuple[str, ...]


ATTACKS = "Calls whose request held the payload of an attack, as far as heads and bodies came up (docs/detection.md)."
ATTACKS_CONFIRMED = "Answers to such calls that say that the payload worked."


class EndpointOperationModel(Model):
    """What an endpoint is that shares its path with others, by samples of its parent's calls."""

    parent_id: str = Field(description="The endpoint whose calls these are; its figures hold them too.")
    protocol: str = Field(description="graphql, json_rpc, mcp or soap.", examples=["graphql"])
    kind: str = Field(description="query, mutation, subscription; method; tool, prompt, resource; action.")
    name: str = Field(examples=["ListOrders"])
    sampled_calls: int
    sampled_errors: int = Field(description="Of those, failed by their status or by what the answer says.")
    samples: int = Field(description="Requests to its parent that were looked at.")


class EndpointModel(Model):
    """One endpoint of the inventory, over the span that was asked for."""

    id: str = Field(description="Stable name of the endpoint in this API.")
    service: ServiceModel
    host: str = Field(examples=["shop.example"])
    method: str = Field(examples=["GET"])
    template: str = Field(description="The inferred url.template.", examples=["/orders/{order_id}"])
    kind: str = Field(description="`http`, or `grpc method`, `graphql mutation`, `mcp tool` ..", examples=["http"])
    operation: EndpointOperationModel | None = Field(
        description="Of one that shares its path; its calls are part of its parent's, so do not add both up."
    )
    is_estimated: bool = Field(description="Calls, statuses and bytes are estimates from samples: of operations.")
    calls: int
    calls_per_second: float = Field(description="Over the span, or since the first call where that is later.")
    first_seen: Time = Field(description="Within retention, not only within the span.")
    last_seen: Time
    status: StatusModel = Field(description="Of RPCs by their own status, mapped as google.rpc.Code is to HTTP.")
    protocols: tuple[Protocol, ...]
    rpc: RpcModel | None
    streams: StreamsModel | None
    messages: MessagesModel | None
    bodies: BodiesModel | None = Field(description="Null where no body was read.")
    attacks: int = Field(description=ATTACKS)
    attacks_confirmed: int = Field(description=ATTACKS_CONFIRMED)
    latency_ms: PercentilesModel | None = Field(
        description="From the first request byte to the last response byte; without streams."
    )
    latency_max_ms: float | None = Field(description="Null of an operation, as all latencies.")
    time_to_first_byte_ms: float | None = Field(description="Mean, streams included.")
    request_bytes: int = Field(description="Heads and bodies as on the wire.")
    response_bytes: int
    response_size_bytes: PercentilesModel | None
    authentication: AuthenticationModel
    consumers: int = Field(description="Distinct consumers; within 2 % above a few thousand.")
    tier: Tier = Field(
        description="`confirmed`: answered 2xx. `unconfirmed`: never did. `probed`: nothing but 4xx, like a scanner's."
    )
    seen_at: SeenAt = Field(description="`client`: outbound or third party, no sensor saw the server.")
    is_proxied: bool
    is_lossy: bool
    has_unknown_fields: bool = Field(
        description="Of some calls parts of the head were not known: their HTTP/2 connection was joined late."
    )
    is_inferred: bool = Field(description="Some calls were named by other evidence than their own bytes.")
    protocol_versions: tuple[str, ...]
    request_content_types: tuple[str, ...]
    response_content_types: tuple[str, ...]
    exposure: ExposureModel
    spec: EndpointSpecModel = Field(description="What API descriptions say of it.")
    kubernetes: WorkloadModel | None = Field(description="Null where the service is of no Kubernetes workload.")
    container_image_name: str = Field(
        description="Image of a container on a plain host (OpenTelemetry's container.image.name); empty where unknown.",
        examples=["docker.io/library/nginx"],
    )
    container_image_tags: tuple[str, ...] = Field(examples=[["1.27"]])
    container_image_repo_digests: tuple[str, ...] = Field(description="`name@sha256:..`, where the runtime knows it.")
    called: tuple[HolderModel, ...] = Field(
        description="Of an endpoint known by its address only: who was there, one unless it was given away meanwhile."
    )
    integer_object_calls: int = Field(description="Calls that name their object by an integer.")
    monotonic_steps: int = Field(description="Of those, one more or less than the caller's one before.")
    limited_calls: int = Field(description="Calls answered 429.")
    risk: RiskScoreModel | None = Field(description="Null: not computed yet; it is a minute after its first call.")


class EndpointPageModel(Model):
    """One page of endpoints."""

    items: tuple[EndpointModel, ...]
    next_cursor: str | None = Field(
        description="Ask again with this as `cursor`, and the same other parameters; null on the last page."
    )
    total: int = Field(description="Endpoints that match, on all pages.")


class SeriesPointModel(Model):
    """One step of a time series; steps without calls are absent."""

    time: Time
    calls: int
    errors: int = Field(description="5xx and aborted calls.")
    p95_ms: float | None
    request_bytes: int
    response_bytes: int
    consumers: int


class EndpointConsumerModel(Model):
    """One consumer of an endpoint."""

    id: str = Field(examples=["principal:00c0ffee00c0ffee"])
    calls: int
    errors: int
    objects: int = Field(description="Distinct objects: values of the template's parameters.")
    first_seen: Time
    last_seen: Time
    holders: tuple[HolderModel, ...] = Field(description="Who held an address while it called.")


class EndpointRouteModel(Model):
    """One route behind an endpoint."""

    id: str
    method: str
    host: str
    shape: str = Field(examples=["/orders/{integer}"])
    calls: int


class EndpointDetailModel(EndpointModel):
    """One endpoint with its history."""

    series_step_seconds: int
    series: tuple[SeriesPointModel, ...]
    top_consumers: tuple[EndpointConsumerModel, ...]
    status_codes: dict[str, int] = Field(examples=[{"200": 91, "404": 2, "aborted": 1}])
    routes: tuple[EndpointRouteModel, ...]


class ConsumerModel(Model):
    """One consumer over all endpoints."""

    id: str = Field(description="`kind:value`.", examples=["address:192.0.2.7"])
    kind: ConsumerKind
    value: str = Field(description="Keyed hash of a principal or credential; else the address or workload itself.")
    principal_kind: str = Field(
        description="Where a principal's name came from; empty for other kinds.", examples=["jwt_subject"]
    )
    key_id: int = Field(
        description="Installation key that a principal or credential was hashed under; 0 for other kinds. After a "
        "rotation of the key the same caller is another consumer."
    )
    endpoints: int
    calls: int
    calls_per_second: float
    errors: int
    denied: int = Field(description="Answered 401 or 403.")
    objects: int = Field(description="Distinct objects touched.")
    addresses: int = Field(description="Distinct client addresses it came from.")
    attacks: int = Field(description=ATTACKS)
    attacks_confirmed: int = Field(description=ATTACKS_CONFIRMED)
    request_bytes: int
    response_bytes: int
    first_seen: Time
    last_seen: Time
    holders: tuple[HolderModel, ...] = Field(
        description="Who held an address while it called; one unless it was given away meanwhile."
    )


class CallerModel(Model):
    """Calls from one Pod, node or Service; `holder` null: from addresses that several held at the time, or nobody."""

    holder: HolderModel | None
    addresses: tuple[str, ...]
    calls: int


class ConsumerPageModel(Model):
    """One page of consumers."""

    items: tuple[ConsumerModel, ...]
    next_cursor: str | None
    total: int


class ConsumerEndpointModel(Model):
    """One endpoint that a consumer touched."""

    endpoint_id: str
    method: str
    host: str
    template: str
    calls: int
    errors: int
    objects: int
    first_seen: Time
    last_seen: Time


class ConsumerDetailModel(ConsumerModel):
    """One consumer with what it touched and where it came from."""

    touched: tuple[ConsumerEndpointModel, ...]
    calls_by_address: dict[str, int]
    calls_by_workload: dict[str, int]
    callers: tuple[CallerModel, ...] = Field(description="Who called by what Kubernetes knows; empty without it.")


class AlertModel(Model):
    """One thing a person should look at."""

    id: str
    kind: AlertKind
    state: AlertState
    severity: Severity
    title: str
    why: str = Field(description="Observed against expected, and on what evidence.")
    endpoint_id: str
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
    loss_ratio: float = Field(description="Of the sensors' calls in the window that were lost.")
    confidence: Confidence = Field(description="`low` is a notice, which accuses nobody.")
    risk: str = Field(description="OWASP API Security Top 10 id, as API1:2023; empty where it is none of them.")
    advice: str = Field(description="What to do.")
    incident_id: str = Field(description="What the same actor did belongs to one incident.")
    measure: float = Field(description="What was counted: of volume calls a second, else what the kind counts.")
    verdict: Verdict = Field(description="What somebody found out; empty where nobody has.")
    verdict_at: Time | None
    verdict_by: str
    acknowledged_by: str
    acknowledged_at: Time | None
    muted_until: Time | None
    is_expected: bool


class AlertPageModel(Model):
    """One page of alerts, newest first."""

    items: tuple[AlertModel, ...]
    next_cursor: str | None


class StageCountModel(Model):
    """One stage's account: seen = used + dropped."""

    stage: str
    seen: int
    used: int
    dropped: dict[str, int]
    is_balanced: bool


class SensorModel(Model):
    """One sensor and its last report."""

    node: str
    cluster: str
    boot_id: str
    state: SensorState
    version: str
    kernel_release: str
    key_id: int = Field(description="Newest installation key it holds; 0 before its first contact.")
    policy_epoch: int = Field(description="Of the policy it holds; it rises with every change.")
    policy_refusal: str = Field(description="Why it refused a newer policy; empty where it did not.")
    is_connected: bool
    certificate_not_after: OptionalTime = Field(
        description="When the certificate that it connected with last expires; null where it came by token."
    )
    certificate_left_days: float | None = Field(description="Until then; below 0 where it has expired.")
    first_seen: Time
    last_report_at: Time
    lag_ms: int = Field(description="Age of the oldest row not yet acknowledged.")
    spool_bytes: int
    memory_bytes: int
    cpu_seconds: float
    seen_calls: int = Field(description="Calls that entered its first stage since its start, lost ones included.")
    lost_calls: int = Field(description="Of those, what any stage dropped.")
    loss_ratio: Ratio = Field(description="lost_calls of seen_calls.")
    stages: tuple[StageCountModel, ...]
    reason: str


class SensorListModel(Model):
    """All sensors, by node."""

    items: tuple[SensorModel, ...]


class HealthModel(Model):
    """Whether the collector can do its work."""

    status: str = Field(examples=["ok"])
    version: str


class ProblemModel(Model):
    """RFC 9457 problem details."""

    type: str = Field(examples=["about:blank"])
    title: str = Field(examples=["Unprocessable request"])
    status: int = Field(examples=[422])
    detail: str = Field(examples=["The parameter 'limit' is '0'; use 1 or more."])
