"""The endpoint as people see it: {service, host, method, template} with what was measured of it in a span of time.

Percentiles come from exponential histograms of the wire. Bucket i of scale 3 covers (2^(i/8), 2^((i+1)/8)], so a merge
adds counts. The geometric middle of a bucket is at most 4.4 % from any value in it (OpenTelemetry data model,
"Exponential histogram"; native Prometheus schema 3).

`read_risks` reads the risk of endpoints as last computed (collector/risk).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import ceil

from collector.core.kinds import Protocol
from collector.core.rows import Service
from collector.inventory.endpoints.bodies import Bodies
from collector.inventory.endpoints.exposure import Exposure
from collector.inventory.endpoints.peers import DeployedWorkload, Holder
from collector.inventory.endpoints.spec_status import NO_SPEC, EndpointSpec
from collector.storage.records import Reader, select

BUCKETS_PER_DOUBLING = 8  # Scale 3.
QUANTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Percentiles:
    """p50, p95 and p99 in the unit of the histogram."""

    p50: float
    p95: float
    p99: float

    def scaled(self, factor: float) -> "Percentiles":
        """The same percentiles in another unit, e.g. microseconds * 0.001 = milliseconds."""
        return Percentiles(p50=self.p50 * factor, p95=self.p95 * factor, p99=self.p99 * factor)


def bucket_value(bucket: int) -> float:
    return float(2.0 ** ((bucket + 0.5) / BUCKETS_PER_DOUBLING))


def compute_quantiles(
    buckets: Sequence[int], counts: Sequence[int], quantiles: Sequence[float]
) -> tuple[float, ...] | None:
    """Values at `quantiles` (each 0 < q <= 1, nearest rank) of a histogram with ascending `buckets` and their `counts`.

    None where nothing was counted. Cost: one pass over the buckets a quantile.
    """
    total = sum(counts)
    if total == 0:
        return None
    values = []
    for quantile in quantiles:
        rank = min(total, max(1, ceil(quantile * total)))
        seen = 0
        for bucket, count in zip(buckets, counts, strict=True):
            seen += count
            if seen >= rank:
                values.append(bucket_value(bucket))
                break
    return tuple(values)


def compute_percentiles(buckets: Sequence[int], counts: Sequence[int]) -> Percentiles | None:
    """p50, p95, p99 of one histogram, or None where nothing was counted."""
    values = compute_quantiles(buckets, counts, QUANTILES)
    return None if values is None else Percentiles(p50=values[0], p95=values[1], p99=values[2])


_SCORES = """
SELECT endpoint_id, score, level, open_findings FROM endpoint_risks FINAL
WHERE endpoint_id IN {ids:Array(String)}"""


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskScore:
    """0 to 100, and what that is called."""

    score: int
    level: str
    open_findings: int


def read_risks(reader: Reader, ids: Iterable[str]) -> dict[str, RiskScore]:
    """By endpoint id; one statement, none without ids. Raises StoreError."""
    asked = list(ids)
    return {
        row["endpoint_id"]: RiskScore(
            score=int(row["score"]), level=row["level"], open_findings=int(row["open_findings"])
        )
        for row in (select(reader, _SCORES, {"ids": asked}) if asked else ())
    }


WORKLOAD_KINDS: dict[int, str] = {0: "unknown", 1: "systemd_unit", 2: "container", 3: "process", 4: "kubernetes"}


class Tier(StrEnum):
    """How sure we are that the endpoint exists."""

    CONFIRMED = "confirmed"  # Answered 2xx at least once in the span.
    UNCONFIRMED = "unconfirmed"  # Never a 2xx, but not only client errors: redirects, server errors, aborted, not read.
    PROBED = "probed"  # Nothing but 4xx: what a scanner guesses leaves.


class SeenAt(StrEnum):
    """Which end of the connection the counted calls were seen at."""

    SERVER = "server"
    CLIENT = "client"  # Outbound or third party: no sensor saw the server.
    BOTH = "both"


class AuthenticationLevel(StrEnum):
    """How much of the successful traffic carried credentials."""

    NONE = "none"  # 0 % of the 2xx calls.
    PARTIAL = "partial"
    FULL = "full"  # At least FULL_COVERAGE of them.
    UNKNOWN = "unknown"  # No 2xx call to judge by, or none that could be judged.


FULL_COVERAGE = 0.95  # Above it the rest is health checks and expired sessions; docs/reference/api.md.


def decide_level(coverage: float | None) -> AuthenticationLevel:
    """A coverage as one word; None is of no call whose credentials could be seen."""
    if coverage is None:
        return AuthenticationLevel.UNKNOWN
    if coverage >= FULL_COVERAGE:
        return AuthenticationLevel.FULL
    return AuthenticationLevel.PARTIAL if coverage > 0 else AuthenticationLevel.NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusMix:
    """Calls by class of status code, or of the status that an RPC's own is mapped to. `aborted` ended before a response
    head; of those `not_read` nobody saw how they ended."""

    informational: int
    success: int
    redirection: int
    client_error: int
    server_error: int
    aborted: int
    not_read: int

    @property
    def errors(self) -> int:
        """Server errors and aborted calls: what the service, not its client, got wrong."""
        return self.server_error + self.aborted

    @property
    def answered(self) -> int:
        return self.informational + self.success + self.redirection + self.client_error + self.server_error

    @property
    def error_ratio(self) -> float | None:
        """Errors of the calls that were read; None where none was."""
        read = self.answered + self.aborted
        return self.errors / read if read else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Authentication:
    """Credentials on 2xx calls: a refused call proves nothing of what is accepted. `coverage` is the share of those
    that could be judged that carried some, None without any; `kinds` counts them, most first, a call with two
    credentials under both. Of `unseen_calls` nobody could see whether they carried some: only counted, their heads
    beyond the budget, or HTTP/2 joined late."""

    coverage: float | None
    kinds: dict[str, int]
    unseen_calls: int
    weaknesses: dict[str, int] = field(default_factory=dict)  # Calls by what is weak about their credentials.
    carriers: dict[str, int] = field(default_factory=dict)  # Calls by where their credentials were.

    @property
    def level(self) -> AuthenticationLevel:
        return decide_level(self.coverage)


class Streaming(StrEnum):
    """How many messages go each way, by the widest call: a lower bound, for a stream may hold one message or none."""

    UNKNOWN = "unknown"  # The messages of no call were counted.
    UNARY = "unary"
    CLIENT = "client_streaming"
    SERVER = "server_streaming"
    BIDIRECTIONAL = "bidirectional_streaming"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rpc:
    """What an endpoint is as a method of an RPC; the names are OpenTelemetry's."""

    system_name: str  # `grpc`, also over gRPC-Web, or `connectrpc`.
    service: str  # With its package; empty where the path does not end in the two names.
    method: str  # As rpc.method: `service/method`, fully qualified.
    streaming: Streaming
    # Ends by name of the status; of a call that was counted before it ended, also the end that came later.
    status_codes: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Messages:
    """Messages each way of the RPCs and WebSockets of which they are known."""

    calls: int
    request: int
    response: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """Streams that ended: WebSockets, server-sent events, streaming RPCs. Their durations are in no latency."""

    calls: int
    open_seconds: float  # Mean.


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointOperation:
    """What an endpoint is that shares its path with others: a GraphQL operation, a JSON-RPC method, an MCP tool, prompt
    or method, a SOAP action. Of `samples` requests to its parent, `sampled_calls` asked for it; answers to
    `sampled_errors` of these said that it failed, by their status or in their body."""

    parent_id: str  # The endpoint whose calls these are.
    protocol: str  # graphql, json_rpc, mcp, soap, action.
    kind: str  # query, mutation, subscription; method; tool, prompt, resource; action.
    name: str
    sampled_calls: int
    sampled_errors: int
    samples: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One row of the inventory. Times are unix seconds, sizes bytes, latencies milliseconds to the last response
    byte."""

    id: str
    service: Service
    host: str
    method: str
    template: str
    calls: int
    calls_per_second: float  # Since the start of the span or its first call, whichever is later.
    first_seen: int  # Ever, within retention.
    last_seen: int
    status: StatusMix
    protocols: tuple[Protocol, ...]
    rpc: Rpc | None
    streams: Streams | None
    messages: Messages | None
    bodies: Bodies | None
    figures: Mapping[str, int]  # By column: those that collector/storage/columns.py says are shown of endpoints.
    latency_ms: Percentiles | None
    latency_max_ms: float | None  # None of an operation.
    time_to_first_byte_ms: float | None  # Mean, of streams too.
    response_size_bytes: Percentiles | None
    authentication: Authentication
    consumers: int
    tier: Tier
    seen_at: SeenAt
    is_proxied: bool  # Some calls were seen at a proxy in front of it.
    is_lossy: bool  # Some calls had lost bytes or truncated heads.
    has_estimates: bool  # Some calls were not seen, and follow from what else was.
    has_unknown_fields: bool  # Of some calls parts of the head were not known: HTTP/2 joined late.
    has_ambiguous_requests: bool  # Programs may disagree where some requests end: signs of smuggling.
    is_inferred: bool  # Path, method or status of some calls follow from other evidence than their own bytes.
    protocol_versions: tuple[str, ...]
    request_content_types: tuple[str, ...]
    response_content_types: tuple[str, ...]
    exposure: Exposure
    # Who was at the address called, of an endpoint that is known by its address only (seen at the client).
    called: tuple[Holder, ...]
    spec: EndpointSpec = NO_SPEC
    kubernetes: DeployedWorkload | None = None  # What was deployed; None where it is not known, or of no Kubernetes.
    # Of a service that is a container on a plain host; empty where it is none or not known.
    container_image_name: str = ""
    container_image_tags: tuple[str, ...] = ()
    container_image_repo_digests: tuple[str, ...] = ()
    integer_object_calls: int = 0  # Calls whose object is an integer, and steps of one between a consumer's objects.
    monotonic_steps: int = 0
    limited_calls: int = 0  # Answered 429.
    risk: RiskScore | None = None  # None where none was computed yet.
    # Of one that shares its path: then its figures are estimates by its samples, and its parent has its calls too.
    operation: EndpointOperation | None = None

    @property
    def path_id(self) -> str:
        """The id of the endpoint whose routes these are: of an operation its parent's."""
        return self.id if self.operation is None else self.operation.parent_id

    @property
    def path(self) -> str:
        """Its template, and what of it an operation is: `/graphql PayOrder`."""
        return self.template if self.operation is None else f"{self.template} {self.operation.name}"

    @property
    def kind(self) -> str:
        """What it is in two words: `graphql mutation`, `grpc method`; `http` of a method and path alone."""
        if self.operation is not None:
            return f"{self.operation.protocol} {self.operation.kind}"
        return f"{self.rpc.system_name} method" if self.rpc is not None and self.rpc.method else "http"

    @property
    def is_estimated(self) -> bool:
        return self.operation is not None or self.has_estimates


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesPoint:
    time: int
    calls: int
    errors: int
    p95_ms: float | None
    request_bytes: int
    response_bytes: int
    consumers: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointConsumer:
    """One consumer at one endpoint. `objects` are distinct ones, estimated where they are many."""

    id: str
    calls: int
    errors: int
    not_read: int
    objects: int
    first_seen: int
    last_seen: int
    holders: tuple[Holder, ...] = ()  # Of an address, while it called.


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointRoute:
    """One route behind an endpoint: its immutable id and the shape its calls had."""

    id: str  # 16 hex digits.
    method: str
    host: str
    shape: str
    calls: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointDetail:
    """An endpoint with its time series, its busiest consumers, its status codes and the routes behind it."""

    endpoint: Endpoint
    series_step_seconds: int
    series: tuple[SeriesPoint, ...]
    top_consumers: tuple[EndpointConsumer, ...]
    status_codes: dict[str, int]
    routes: tuple[EndpointRoute, ...]


def decide_tier(status: StatusMix) -> Tier:
    """Confirmed by one 2xx; probed where every call was a client error; else unconfirmed."""
    if status.success:
        return Tier.CONFIRMED
    others = status.informational + status.redirection + status.server_error + status.aborted + status.not_read
    return Tier.PROBED if status.client_error and not others else Tier.UNCONFIRMED
