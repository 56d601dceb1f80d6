"""Validates what clients ask for, once: query parameters and bodies become the domain's questions.

Unknown names are refused.
"""

import re
from datetime import MAXYEAR, MINYEAR, UTC, date, datetime
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, Strict

from collector.alerting.alert import AlertKind, AlertState
from collector.api.problem import Problem, show
from collector.core.kinds import Protocol
from collector.inventory.consumers.consumer import CONSUMER_VALUE_CHARACTERS_MAX, ConsumerKind, parse_consumer
from collector.inventory.consumers.consumers import ConsumerQuestion, ConsumerSort
from collector.inventory.coverage.coverage import (
    PORT_NATURAL_ORDER,
    CoverageRole,
    PortProtocol,
    PortQuestion,
    PortSort,
    Reading,
)
from collector.inventory.endpoints.endpoint import AuthenticationLevel, EndpointDetail, Tier
from collector.inventory.endpoints.endpoints import EndpointInventory
from collector.inventory.endpoints.exposure import ExposureLevel
from collector.inventory.endpoints.exposure_list import ExposureQuestion
from collector.inventory.endpoints.operations import NUMBERS
from collector.inventory.endpoints.question import (
    LIMIT_DEFAULT,
    LIMIT_MAX,
    NATURAL_ORDER,
    SEARCH_CHARACTERS_MAX,
    EndpointQuestion,
    EndpointSort,
    OperationView,
    Order,
)
from collector.inventory.endpoints.spec_status import SpecStatus
from collector.inventory.evidence.calls import CallQuestion, Resolution
from collector.inventory.query import CURSOR_CHARACTERS_MAX, Since, span_since

DateT = TypeVar("DateT", bound=date)
ItemT = TypeVar("ItemT")

MUTE_SECONDS_MAX = 90 * 86_400  # Longer than that is `expected`.
ACTOR_CHARACTERS_MAX = 200
NOTE_CHARACTERS_MAX = 1_000
# What the store takes for a time ends early in 2106.
YEAR_MIN, YEAR_MAX = 1970, 2105
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}\Z")
_DATE_AND_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]")
AUTHENTICATIONS: tuple[str, ...] = (*(level.value for level in AuthenticationLevel), *NUMBERS)


def _check_authentication(value: str) -> str:
    if value and value not in AUTHENTICATIONS:
        raise ValueError(f"use one of {', '.join(AUTHENTICATIONS)}")
    return value


def _check_text(value: str) -> str:
    if not value.isprintable():
        raise ValueError("use printable characters only")
    return value


def _check_date(value: Any) -> Any:
    """pydantic takes a number for a day, too, or for seconds."""
    if isinstance(value, str) and not _DATE.match(value):
        raise ValueError("use a date like 2026-10-01")
    return value


def _check_date_and_time(value: Any) -> Any:
    if isinstance(value, str) and not _DATE_AND_TIME.match(value):
        raise ValueError("use a time like 2026-11-26T15:00:00Z")
    return value


def _check_year(value: DateT) -> DateT:
    day = value.astimezone(UTC) if isinstance(value, datetime) and MINYEAR < value.year < MAXYEAR else value
    if not YEAR_MIN <= day.year <= YEAR_MAX:
        raise ValueError(f"use a year from {YEAR_MIN} to {YEAR_MAX}")
    return value


Text = Annotated[str, AfterValidator(_check_text)]
AskedDay = Annotated[date, BeforeValidator(_check_date), AfterValidator(_check_year)]
AskedTime = Annotated[AwareDatetime, BeforeValidator(_check_date_and_time), AfterValidator(_check_year)]
# Of bodies, which are strict: JSON writes a word as a string, and several values as a list.
Word = Annotated[ItemT, Strict(False)]
Items = Annotated[tuple[ItemT, ...], Strict(False)]
Limit = Annotated[int, Field(ge=1, le=LIMIT_MAX, description="Items of one page.")]
CursorWord = Annotated[str, Field(max_length=CURSOR_CHARACTERS_MAX, description="`next_cursor` of the page before.")]


class Parameters(BaseModel):
    """Refuses names it does not know."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=False)


class SpanParameters(Parameters):
    """How far back to look."""

    since: Since = Field(default=Since.DAY, description="How far back to look; beyond 48 h by the hour.")


class EndpointParameters(SpanParameters):
    """Filters, sort and page of the list of endpoints."""

    q: Text = Field(
        default="",
        max_length=SEARCH_CHARACTERS_MAX,
        description="Words that must all occur in method, host, template or service; case does not matter.",
        examples=["orders"],
    )
    method: Text = Field(default="", max_length=40, description="Exactly this method.", examples=["GET"])
    service: Text = Field(default="", max_length=300, description="A service as listed, or the name of a workload.")
    host: Text = Field(default="", max_length=300, description="Exactly this host.")
    namespace: Text = Field(default="", max_length=63, description="Exactly this namespace of Kubernetes.")
    label: Text = Field(
        default="",
        max_length=400,
        description="Label of the workload, or attribute of the container's image; `key=value` or a key.",
        examples=["app.kubernetes.io/part-of=shop"],
    )
    tier: Tier | None = Field(default=None, description="How sure it is that the endpoint exists.")
    auth: Annotated[str, AfterValidator(_check_authentication)] = Field(
        default="",
        description="A level of coverage (none, partial, full, unknown) or a kind of credential.",
        examples=["none"],
    )
    protocol: Protocol | None = Field(default=None, description="Spoken by some of the calls.")
    spec: SpecStatus | None = Field(default=None, description="What API descriptions say of it.")
    operation: Text = Field(
        default="",
        max_length=300,
        description="Exactly this GraphQL operation, JSON-RPC method, MCP tool or SOAP action.",
        examples=["ListOrders"],
    )
    operations: OperationView = Field(
        default=OperationView.INCLUDE,
        description="Operations that share one path: beside their endpoint, not at all, or alone. Their calls are "
        "estimates, and calls of their endpoint too: who adds up leaves them out.",
    )
    sort: EndpointSort = EndpointSort.CALLS
    order: Order | None = Field(
        default=None, description="Default: names A to Z, coverage least first, all else most first."
    )
    limit: Limit = LIMIT_DEFAULT
    cursor: CursorWord = ""

    def question(self, now: float) -> EndpointQuestion:
        """As the inventory takes it."""
        return EndpointQuestion(
            span=span_since(self.since, now),
            since=self.since.value,
            search=self.q,
            method=self.method.upper(),
            service=self.service,
            host=self.host.lower(),
            namespace=self.namespace,
            label=self.label,
            tier=self.tier,
            authentication=self.auth,
            protocol=self.protocol,
            spec=self.spec,
            operation=self.operation,
            operations=self.operations,
            sort=self.sort,
            order=self.order or NATURAL_ORDER[self.sort],
            limit=self.limit,
            cursor=self.cursor,
        )


class ConsumerParameters(SpanParameters):
    """Filters, sort and page of the list of consumers."""

    q: Text = Field(default="", max_length=SEARCH_CHARACTERS_MAX, description="Part of the consumer's `kind:value`.")
    kind: ConsumerKind | None = Field(default=None, description="What names the consumer.")
    endpoint: Text = Field(
        default="", max_length=CONSUMER_VALUE_CHARACTERS_MAX, description="Only callers of this endpoint id."
    )
    sort: ConsumerSort = ConsumerSort.CALLS
    order: Order = Order.DESCENDING
    limit: Limit = LIMIT_DEFAULT
    cursor: CursorWord = ""

    def question(self, now: float) -> ConsumerQuestion:
        """As the inventory takes it."""
        return ConsumerQuestion(
            span=span_since(self.since, now),
            since=self.since.value,
            search=self.q,
            kind=self.kind,
            endpoint_id=self.endpoint,
            sort=self.sort,
            order=self.order,
            limit=self.limit,
            cursor=self.cursor,
        )


class CallParameters(Parameters):
    """Whose calls, from when to when, and the page."""

    endpoint: Text = Field(default="", max_length=CONSUMER_VALUE_CHARACTERS_MAX, description="An endpoint's id.")
    consumer: Text = Field(default="", max_length=CONSUMER_VALUE_CHARACTERS_MAX + 20, description="`kind:value`.")
    address: Text = Field(
        default="", max_length=60, description="Where calls came from, whoever the consumer is.", examples=["192.0.2.1"]
    )
    whole_service: bool = Field(default=False, description="All endpoints of the endpoint's service.")
    software: Text = Field(
        default="",
        max_length=CONSUMER_VALUE_CHARACTERS_MAX,
        description="Client software, as the evidence of an alert and `calls_by_software` of a consumer name it; by "
        "minute only.",
        examples=["python-requests 5c2e91d0"],
    )
    start: AskedTime = Field(description="From the row that holds this time.", examples=["2026-11-26T15:00:00Z"])
    end: AskedTime = Field(description="To the row before this time.", examples=["2026-11-26T16:00:00Z"])
    resolution: Resolution = Field(
        default=Resolution.MINUTE, description="How long a row is: minutes are kept for 48 h, hours for 90 days."
    )
    limit: Limit = LIMIT_MAX
    cursor: CursorWord = ""

    def question(self) -> CallQuestion:
        """As the inventory takes it. Raises ConsumerError."""
        seconds = self.resolution.seconds
        return CallQuestion(
            start=int(self.start.timestamp()) // seconds * seconds,
            end=-(-int(self.end.timestamp()) // seconds) * seconds,
            resolution=self.resolution,
            endpoint_id=self.endpoint,
            consumer=parse_consumer(self.consumer) if self.consumer else None,
            address=self.address,
            whole_service=self.whole_service,
            software=self.software,
            limit=self.limit,
            cursor=self.cursor,
        )


class EvidenceParameters(Parameters):
    """The page."""

    limit: Limit = LIMIT_MAX
    cursor: CursorWord = ""


class PortParameters(Parameters):
    """Filters, sort and page of the list of ports."""

    q: Text = Field(
        default="",
        max_length=SEARCH_CHARACTERS_MAX,
        description="Words that must all occur in node, service, port, address, reason or what handshakes said.",
    )
    node: Text = Field(default="", max_length=300, description="Exactly this node.")
    service: Text = Field(default="", max_length=300, description="A workload, or `workload:port`.")
    protocol: PortProtocol | None = None
    reading: Reading | None = Field(default=None, description="Whether its calls are in the inventory.")
    role: CoverageRole | None = None
    http_like: bool | None = Field(default=None, description="Whether it counts to the share that is read.")
    sort: PortSort = PortSort.BYTES
    order: Order | None = Field(default=None, description="Default: names and ports A to Z, all else most first.")
    limit: Limit = LIMIT_DEFAULT
    cursor: CursorWord = ""

    def question(self) -> PortQuestion:
        """As the inventory takes it."""
        return PortQuestion(
            search=self.q,
            node=self.node,
            service=self.service,
            protocol=self.protocol,
            reading=self.reading,
            role=self.role,
            is_http_like=self.http_like,
            sort=self.sort,
            order=self.order or PORT_NATURAL_ORDER[self.sort],
            limit=self.limit,
            cursor=self.cursor,
        )


class CoverageHistoryParameters(SpanParameters):
    """Of which node, and how far back."""

    node: Text = Field(default="", max_length=300, description="Exactly this node; default all.")


class ExposureParameters(Parameters):
    """Filters and page of the list of exposures."""

    q: Text = Field(
        default="",
        max_length=SEARCH_CHARACTERS_MAX,
        description="Words that must all occur in cluster, namespace or workload.",
    )
    level: ExposureLevel | None = Field(default=None, description="external or internal; default both.")
    limit: Limit = LIMIT_DEFAULT
    cursor: CursorWord = ""

    def question(self) -> ExposureQuestion:
        """As the inventory takes it."""
        return ExposureQuestion(search=self.q, level=self.level, limit=self.limit, cursor=self.cursor)


class AlertParameters(Parameters):
    """Filters and page of the list of alerts."""

    state: AlertState | None = Field(default=None, description="open, silenced or closed; default all.")
    kind: AlertKind | None = None
    limit: Limit = LIMIT_DEFAULT
    cursor: CursorWord = ""


class IncidentParameters(Parameters):
    """Filter and page of the list of incidents."""

    state: AlertState | None = Field(default=None, description="open, silenced or closed; default all.")
    limit: Limit = LIMIT_DEFAULT
    cursor: CursorWord = ""


class NoParameters(Parameters):
    """For routes that take none."""


class Body(Parameters):
    """JSON as it is: `true` is no number, and `"1"` is none."""

    model_config = ConfigDict(strict=True)


class ActionBody(Body):
    """Who acts on an alert."""

    by: Text = Field(
        default="api", min_length=1, max_length=ACTOR_CHARACTERS_MAX, description="Who did it, for the others."
    )


class SilenceBody(ActionBody):
    """Why nobody is to hear of it."""

    reason: Text = Field(default="", max_length=NOTE_CHARACTERS_MAX, description="Why, for the others.")


class MuteBody(SilenceBody):
    """Mute until an expiry."""

    seconds: int = Field(
        ge=60, le=MUTE_SECONDS_MAX, description="How long to stay silent about this subject.", examples=[3_600]
    )


def find_endpoint(
    endpoints: EndpointInventory, endpoint_id: str, parameters: SpanParameters, now: float
) -> EndpointDetail:
    """The endpoint, or the refusal of an id that no call had."""
    detail = endpoints.get_endpoint(endpoint_id, span_since(parameters.since, now))
    if detail is None:
        raise Problem(
            404,
            f"No call to an endpoint {show(endpoint_id)} in the last {parameters.since}; "
            "look it up in /api/v1/endpoints or ask with a longer since.",
        )
    return detail
