"""The list of endpoints: its filters and their SQL, and what it is sorted by.

Conditions on names are over alias `n`, those on figures over alias `m` of merged figures (list_query.py).
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

from pydantic import AfterValidator, Field

from collector.core.kinds import BITS, Protocol
from collector.inventory.endpoints.endpoint import FULL_COVERAGE, AuthenticationLevel, Tier
from collector.inventory.endpoints.operations import NUMBERS
from collector.inventory.endpoints.peers import condition_on_label
from collector.inventory.endpoints.spec_status import OF_NO_STATUS, OF_STATUS, SpecStatus
from collector.inventory.filters import (
    SEARCH_CHARACTERS_MAX,
    Condition,
    Filter,
    Order,
    SortedQuery,
    SpanParameters,
    Text,
    match_words,
)

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")  # Offered on the page.
AUTHENTICATIONS: tuple[str, ...] = (*(level.value for level in AuthenticationLevel), *NUMBERS)
COVERAGE = "(m.authenticated / m.evaluated)"
_SEARCHED = (
    "concat(n.method, ' ', n.host, n.url_template, ' ', n.service, ' ', n.namespace, '/', n.workload, ' ', n.operation)"
)
_TIERS = "multiIf(m.success > 0, 'confirmed', m.client_error = m.calls, 'probed', 'unconfirmed')"
_LEVELS: Mapping[str, str] = {
    AuthenticationLevel.NONE: "m.evaluated > 0 AND m.authenticated = 0",
    AuthenticationLevel.PARTIAL: f"{COVERAGE} > 0 AND {COVERAGE} < {FULL_COVERAGE}",
    AuthenticationLevel.FULL: f"m.evaluated > 0 AND {COVERAGE} >= {FULL_COVERAGE}",
    AuthenticationLevel.UNKNOWN: "m.evaluated = 0",
}


class EndpointSort(StrEnum):
    """What endpoints may be sorted by."""

    CALLS = "calls"
    LAST_SEEN = "last_seen"
    FIRST_SEEN = "first_seen"
    TEMPLATE = "template"
    P95 = "p95"
    ERRORS = "errors"
    AUTHENTICATION = "authentication"
    CONSUMERS = "consumers"
    RISK = "risk"


class OperationView(StrEnum):
    """Whether operations that share one path are listed beside their endpoint, which has all of their calls."""

    INCLUDE = "include"
    EXCLUDE = "exclude"
    ONLY = "only"


def _check_authentication(value: str) -> str:
    if value and value not in AUTHENTICATIONS:
        raise ValueError(f"use one of {', '.join(AUTHENTICATIONS)}")
    return value


def _has_label(label: str) -> Condition:
    sql, parameters = condition_on_label(label)
    return Condition(sql=sql, parameters=parameters)


def _has_spec_status(status: SpecStatus) -> Condition:
    return Condition(sql=OF_NO_STATUS if status is SpecStatus.NONE else OF_STATUS, parameters={"spec": status.value})


def _has_authentication(value: str) -> Condition:
    if value in _LEVELS:
        return Condition(sql=_LEVELS[value], columns=("evaluated", "authenticated"))
    return Condition(
        sql="bitAnd(m.authentication, {bits:UInt32}) != 0",
        parameters={"bits": 1 << NUMBERS[value]},
        columns=("authentication",),
    )


def _speaks(protocol: Protocol) -> Condition:
    return Condition(
        sql="bitAnd(m.protocols, {protocol:UInt32}) != 0",
        parameters={"protocol": BITS[protocol]},
        columns=("protocols",),
    )


class EndpointQuery(SortedQuery, SpanParameters):
    """Filters, sort and page of the list of endpoints."""

    ASCENDING = frozenset({EndpointSort.TEMPLATE, EndpointSort.AUTHENTICATION})

    q: Annotated[Text, Filter(match_words(_SEARCHED), title="Search")] = Field(
        default="",
        max_length=SEARCH_CHARACTERS_MAX,
        description="Words that must all occur in method, host, template or service; case does not matter.",
        examples=["orders"],
    )
    method: Annotated[
        Text, AfterValidator(str.upper), Filter("n.method = {method:String}", title="Method", choices=METHODS)
    ] = Field(default="", max_length=40, description="Exactly this method.", examples=["GET"])
    service: Annotated[Text, Filter("(n.service = {service:String} OR n.workload = {service:String})")] = Field(
        default="", max_length=300, description="A service as listed, or the name of a workload."
    )
    host: Annotated[Text, AfterValidator(str.lower), Filter("n.host = {host:String}")] = Field(
        default="", max_length=300, description="Exactly this host."
    )
    namespace: Annotated[Text, Filter("n.namespace = {namespace:String}")] = Field(
        default="", max_length=63, description="Exactly this namespace of Kubernetes."
    )
    label: Annotated[Text, Filter(_has_label)] = Field(
        default="",
        max_length=400,
        description="Label of the workload, or attribute of the container's image; `key=value` or a key.",
        examples=["app.kubernetes.io/part-of=shop"],
    )
    tier: Annotated[
        Tier | None, Filter(f"{_TIERS} = {{tier:String}}", columns=("success", "client_error"), title="Tier")
    ] = Field(default=None, description="How sure it is that the endpoint exists.")
    protocol: Annotated[Protocol | None, Filter(_speaks, title="Protocol")] = Field(
        default=None, description="Spoken by some of the calls."
    )
    auth: Annotated[
        str,
        AfterValidator(_check_authentication),
        Filter(_has_authentication, title="Credentials", choices=AUTHENTICATIONS),
    ] = Field(
        default="",
        description="A level of coverage (none, partial, full, unknown) or a kind of credential.",
        examples=["none"],
    )
    spec: Annotated[SpecStatus | None, Filter(_has_spec_status, title="Described")] = Field(
        default=None, description="What API descriptions say of it."
    )
    operation: Annotated[Text, Filter("n.operation = {operation:String}")] = Field(
        default="",
        max_length=300,
        description="Exactly this GraphQL operation, JSON-RPC method, MCP tool, SOAP or other action.",
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
