"""/endpoints: the inventory, with what API descriptions say of an endpoint.

The pydantic models read the domain's dataclasses by attribute and have the descriptions that OpenAPI shows. Times are
RFC 3339 in UTC. A keyed hash is 16 hex digits. It compares within an installation and reveals nothing beyond it.
"""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from collector.api.base_model import (
    HolderModel,
    Model,
    ObjectsModel,
    Ratio,
    ServiceModel,
    Time,
    with_figures,
)
from collector.api.exposure import ExposureModel
from collector.api.risk import RiskScoreModel
from collector.api.specs import EndpointSpecModel
from collector.core.kinds import Protocol
from collector.inventory.endpoints.bodies import BodySide, DataClass, RecordsBasis
from collector.inventory.endpoints.endpoint import AuthenticationLevel, EndpointDetail, SeenAt, Streaming, Tier
from collector.inventory.endpoints.endpoints import EndpointInventory
from collector.inventory.endpoints.filters import EndpointQuery
from collector.inventory.filters import SpanParameters
from collector.storage.columns import UsedBy


class StatusModel(Model):
    """Calls by class of status code."""

    informational: int = Field(serialization_alias="1xx")
    success: int = Field(serialization_alias="2xx")
    redirection: int = Field(serialization_alias="3xx")
    client_error: int = Field(serialization_alias="4xx")
    server_error: int = Field(serialization_alias="5xx")
    aborted: int = Field(description="Ended before a response head.")
    not_read: int = Field(description="Nobody saw how they ended: in no other figure here, and in no error rate.")


class PercentilesModel(Model):
    """From histograms whose buckets are 9 % wide: within 4.4 % of the true value."""

    p50: float
    p95: float
    p99: float


class AuthenticationModel(Model):
    """Credentials seen on the calls."""

    coverage: Ratio | None = Field(
        description="Share of the 2xx calls that carried credentials, of those that could be judged; null without any. "
        "A possible credential counts once calls without it are refused."
    )
    unseen_calls: int = Field(
        description="2xx calls of which nobody could see whether they carried credentials; they are in no other figure."
    )
    level: AuthenticationLevel
    kinds: dict[str, int] = Field(
        description="2xx calls by kind of credential; `none` carried nothing, `possible_credential` a value that looks "
        "random under a name that does not say what it is.",
        examples=[{"bearer_jwt": 91}],
    )
    carriers: dict[str, int] = Field(
        description="2xx calls by where their credentials were, most first, at most 20; without any, where possible "
        "ones were.",
        examples=[{"header authorization bearer": 91}],
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
    """What the bodies of sampled calls hold (docs/internals/bodies.md). Values never leave the node."""

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


class EndpointOperationModel(Model):
    """What an endpoint is that shares its path with others, by samples of its parent's calls."""

    parent_id: str = Field(description="The endpoint whose calls these are; its figures hold them too.")
    protocol: str = Field(description="graphql, json_rpc, mcp, soap or action.", examples=["graphql"])
    kind: str = Field(description="query, mutation, subscription; method; tool, prompt, resource; action.")
    name: str = Field(examples=["ListOrders"])
    sampled_calls: int
    sampled_errors: int = Field(description="Of those, failed by their status or by what the answer says.")
    samples: int = Field(description="Requests to its parent that its samples stand for.")


@with_figures(UsedBy.ENDPOINTS)
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
    is_estimated: bool = Field(
        description="Of operations calls, statuses and bytes are estimates from samples; of others some calls were not "
        "seen and are estimated (`status.not_read`): of a process over TLS that makes more than are read."
    )
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
    latency_ms: PercentilesModel | None = Field(
        description="From the first request byte to the last response byte; without streams."
    )
    latency_max_ms: float | None = Field(description="Null of an operation, as all latencies.")
    time_to_first_byte_ms: float | None = Field(description="Mean, streams included.")
    response_size_bytes: PercentilesModel | None
    authentication: AuthenticationModel
    consumers: int = Field(description="Distinct consumers; within 2 % above a few thousand.")
    tier: Tier = Field(
        description="`confirmed`: answered 2xx. `unconfirmed`: never did. `probed`: nothing but 4xx, like a scanner's."
    )
    seen_at: SeenAt = Field(description="`client`: outbound or third party, no sensor saw the server.")
    is_proxied: bool
    is_lossy: bool = Field(description="Of some calls bytes were lost, or how they ended (`status.not_read`).")
    has_unknown_fields: bool = Field(
        description="Of some calls parts of the head were not known: their HTTP/2 connection was joined late."
    )
    has_ambiguous_requests: bool = Field(
        description="Of some requests two programs may disagree where they end: signs of smuggling."
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


class EndpointConsumerModel(ObjectsModel):
    """One consumer of an endpoint."""

    id: str = Field(examples=["principal:00c0ffee00c0ffee"])
    calls: int
    errors: int = Field(description="5xx and aborted calls.")
    not_read: int = Field(description="Nobody saw how they ended; they are no errors.")
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
    status_codes: dict[str, int] = Field(examples=[{"200": 91, "404": 2, "aborted": 1, "not read": 3}])
    routes: tuple[EndpointRouteModel, ...]


def build_endpoint_routes(*, endpoints: EndpointInventory, clock: Callable[[], float]) -> APIRouter:
    """Routes that read the inventory of endpoints."""
    router = APIRouter(prefix="/endpoints", tags=["inventory"])

    @router.get("", summary="List endpoints")
    def list_endpoints(query: Annotated[EndpointQuery, Query()]) -> EndpointPageModel:
        """Every endpoint called within the span. A call seen at both ends counts once: at its server, if a sensor
        watches it."""
        return EndpointPageModel.model_validate(endpoints.list_endpoints(query, query.find_span(clock())))

    @router.get("/{endpoint_id}", summary="Show one endpoint")
    def get_endpoint(endpoint_id: str, parameters: Annotated[SpanParameters, Query()]) -> EndpointDetailModel:
        """One endpoint with its time series, busiest consumers, status codes and the routes behind it."""
        return view_endpoint_detail(endpoints.find_endpoint(endpoint_id, parameters, clock()))

    return router


def view_endpoint_detail(detail: EndpointDetail) -> EndpointDetailModel:
    """The endpoint's own fields and its history side by side."""
    fields = dict(EndpointModel.model_validate(detail.endpoint))
    history = {name: getattr(detail, name) for name in EndpointDetailModel.model_fields if name not in fields}
    return EndpointDetailModel.model_validate({**fields, **history})
