"""The list of endpoints: its filters and their SQL, and what it is sorted by.

Conditions on names are over alias `n`, those on figures over alias `m` of merged figures (list_query.py), and those on
what the last assessment of risk found over alias `k`. Exposure is of the last day before it, whatever the span: one row
an endpoint answers, where calls and facts of Kubernetes would have to be read anew.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from functools import partial
from typing import Annotated

from pydantic import AfterValidator, Field

from collector.core.kinds import ABORTED, BITS, Protocol
from collector.core.moments import MOMENT_CHARACTERS_MAX, MOMENT_FORMS
from collector.inventory.endpoints.bodies import (
    ANY_DATA,
    PERSONAL,
    PERSONAL_DATA,
    BodySide,
    DataClass,
    list_codes,
    list_kinds,
)
from collector.inventory.endpoints.endpoint import FULL_COVERAGE, AuthenticationLevel, Tier
from collector.inventory.endpoints.exposure import ExposureLevel
from collector.inventory.endpoints.hops import HopView
from collector.inventory.endpoints.operations import NUMBERS
from collector.inventory.endpoints.peers import condition_on_label
from collector.inventory.endpoints.spec_status import OF_NO_STATUS, OF_STATUS, SpecStatus
from collector.inventory.filters import (
    SEARCH_CHARACTERS_MAX,
    Condition,
    Filter,
    Moment,
    Order,
    Parameters,
    SortedQuery,
    SpanParameters,
    Text,
    match_words,
)

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS")  # Offered on the page.
AUTHENTICATIONS: tuple[str, ...] = (*(level.value for level in AuthenticationLevel), *NUMBERS)
# Offered on the page; `finding` takes each rule too.
DATA_CHOICES = (
    *(PERSONAL_DATA, f"{BodySide.RESPONSE}:{PERSONAL_DATA}", ANY_DATA),
    *(one.value for one in DataClass),
    *list_kinds(ANY_DATA),
)
FINDING_CHOICES = ("any", "critical", "high", "medium", "low")
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


# Of `status`: those that a person asks for; any other code is good too.
STATUSES = ("2xx", "3xx", "4xx", "5xx", "aborted")
_STATUS_CODE = re.compile(r"[1-5](xx|[0-9]{2})\Z")
# Summaries of routes count these two; of any other, the rows of calls are read.
_SUMMED_STATUSES = {"2xx": "success", "4xx": "client_error"}
_RISKS = "n.endpoint_id IN (SELECT k.endpoint_id FROM endpoint_risks AS k FINAL WHERE {conditions})"
_FOUND = "({finding:String} = 'any' AND k.open_findings > 0 OR has(k.open_rules, {finding:String}))"


_more = partial(Filter, is_folded=True)  # A control behind "More filters".


def _check_status(value: str) -> str:
    if value and value != "aborted" and not _STATUS_CODE.match(value):
        raise ValueError(f"use one of {', '.join(STATUSES)}, or a status code")
    return value


def _has_status(value: str) -> Condition:
    if value in _SUMMED_STATUSES:
        figure = _SUMMED_STATUSES[value]
        return Condition(sql=f"m.{figure} > 0", columns=(figure,))
    code = ABORTED if value == "aborted" else int(value.replace("x", "0"))
    last = code + 99 if value.endswith("xx") else code
    parameters = {"status_from": code, "status_to": last}
    return Condition(sql="m.status > 0", parameters=parameters, columns=("status",))


def check_data(value: str) -> str:
    """The same, where it names data. Raises ValueError."""
    place, _, name = value.rpartition(":")
    if value and (not list_kinds(name) or (place and place not in set(BodySide))):
        raise ValueError(
            f"use {ANY_DATA}, {PERSONAL_DATA}, a class ({', '.join(DataClass)}) or a kind such as ssn; behind a place "
            f"({', '.join(BodySide)}) and a colon only what was found there"
        )
    return value


def _holds_data(value: str) -> Condition:
    place, _, name = value.rpartition(":")
    codes = list_codes(name, BodySide(place) if place else None)
    return Condition(sql="hasAny(m.data, {data:Array(UInt16)})", parameters={"data": list(codes)}, columns=("data",))


def _is_exposed(level: ExposureLevel) -> Condition:
    if level is ExposureLevel.UNKNOWN:  # As those are that were not assessed yet.
        known = "SELECT endpoint_id FROM endpoint_risks FINAL WHERE exposure != {exposure:String}"
        return Condition(sql=f"n.endpoint_id NOT IN ({known})", parameters={"exposure": level.value})
    return Condition(sql="k.exposure = {exposure:String}", parameters={"exposure": level.value}, within=_RISKS)


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


class EndpointTraits(Parameters):
    """What an endpoint is, over names by the alias `n` that have its id, service and workload."""

    method: Annotated[
        Text,
        AfterValidator(str.upper),
        _more("n.method = {method:String}", title="Method", choices=METHODS),
    ] = Field(default="", max_length=40, description="Exactly this method.", examples=["GET"])
    service: Annotated[
        Text, _more("(n.service = {service:String} OR n.workload = {service:String})", title="Service")
    ] = Field(default="", max_length=300, description="A service as listed, or the name of a workload.")
    namespace: Annotated[Text, _more("n.namespace = {namespace:String}", title="Namespace")] = Field(
        default="", max_length=63, description="Exactly this namespace of Kubernetes."
    )
    label: Annotated[Text, _more(_has_label, title="Label")] = Field(
        default="",
        max_length=400,
        description="Label of the workload, or attribute of the container's image; `key=value` or a key.",
        examples=["app.kubernetes.io/part-of=shop"],
    )
    data: Annotated[Text, AfterValidator(check_data), Filter(_holds_data, title="Data", choices=DATA_CHOICES)] = Field(
        default="",
        max_length=80,
        description=f"Sensitive data found in calls of the span: `{ANY_DATA}`, `{PERSONAL_DATA}` "
        f"({', '.join(one for one in DataClass if one in PERSONAL)}), a class or a kind. A place before it counts only "
        "what was found there: `response:personal` is returned.",
        examples=[PERSONAL_DATA, "response:personal", "ssn"],
    )
    exposure: Annotated[ExposureLevel | None, Filter(_is_exposed, title="Reachable from")] = Field(
        default=None, description="From where it was reached on the last day: `external` is from outside."
    )
    risk_min: Annotated[int | None, _more("k.score >= {risk_min:UInt8}", title="Risk from", within=_RISKS)] = Field(
        default=None, ge=0, le=100, description="A risk of at least this score, 0 to 100.", examples=[70]
    )
    finding: Annotated[Text, _more(_FOUND, within=_RISKS, title="Open finding", choices=FINDING_CHOICES)] = Field(
        default="",
        max_length=80,
        description="An open finding: `any`, one of a severity (critical, high, medium, low), or of a rule, as "
        "docs/use/risk.md lists them.",
        examples=["any", "personal_data_without_authentication"],
    )


class EndpointQuery(SortedQuery, SpanParameters, EndpointTraits):
    """Filters, sort and page of the list of endpoints."""

    ASCENDING = frozenset({EndpointSort.TEMPLATE, EndpointSort.AUTHENTICATION})

    q: Annotated[Text, Filter(match_words(_SEARCHED), title="Search")] = Field(
        default="",
        max_length=SEARCH_CHARACTERS_MAX,
        description="Words that must all occur in method, host, template or service; case does not matter.",
        examples=["orders"],
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
    status: Annotated[Text, AfterValidator(_check_status), _more(_has_status, title="Status", choices=STATUSES)] = (
        Field(
            default="",
            max_length=7,
            description="Some calls ended so: a class, `aborted` (no answer), or a status code.",
            examples=["5xx", "429"],
        )
    )
    host: Annotated[Text, AfterValidator(str.lower), Filter("n.host = {host:String}")] = Field(
        default="", max_length=300, description="Exactly this host."
    )
    tier: Annotated[
        Tier | None,
        _more(f"{_TIERS} = {{tier:String}}", columns=("success", "client_error"), title="Tier"),
    ] = Field(default=None, description="How sure it is that the endpoint exists.")
    protocol: Annotated[Protocol | None, _more(_speaks, title="Protocol")] = Field(
        default=None, description="Protocol of some of the calls."
    )
    spec: Annotated[SpecStatus | None, _more(_has_spec_status, title="Described")] = Field(
        default=None, description="What API descriptions say of it."
    )
    operation: Annotated[Text, Filter("n.operation = {operation:String}")] = Field(
        default="",
        max_length=300,
        description="Exactly this GraphQL operation, JSON-RPC method, MCP tool, SOAP or other action.",
        examples=["ListOrders"],
    )
    first_seen_since: Annotated[
        Moment,
        Filter(
            "m.first_seen >= {first_seen_since:UInt32}",
            columns=("first_seen",),
            title="New since",
            is_folded=True,
            is_moment=True,
        ),
    ] = Field(
        default="",
        max_length=MOMENT_CHARACTERS_MAX,
        description=f"First called at this time or later: {MOMENT_FORMS}.",
        examples=["yesterday"],
    )
    last_seen_since: Annotated[
        Moment,
        Filter(
            "m.last_seen >= {last_seen_since:UInt32}",
            columns=("last_seen",),
            title="Seen since",
            is_folded=True,
            is_moment=True,
        ),
    ] = Field(default="", max_length=MOMENT_CHARACTERS_MAX, description="Last called at this time or later.")
    last_seen_before: Annotated[
        Moment,
        Filter(
            "m.last_seen < {last_seen_before:UInt32}",
            columns=("last_seen",),
            title="Silent since",
            is_folded=True,
            is_moment=True,
        ),
    ] = Field(
        default="",
        max_length=MOMENT_CHARACTERS_MAX,
        description="Called in the span, but no more since this time.",
        examples=["7d"],
    )
    operations: OperationView = Field(
        default=OperationView.INCLUDE,
        description="Operations that share one path: beside their endpoint, not at all, or alone. Their calls are "
        "estimates, and calls of their endpoint too: who adds up leaves them out.",
    )
    hops: HopView = Field(
        default=HopView.EXCLUDE,
        description="Endpoints of a proxy in front of an application that has the same ones: beside them, not at all, "
        "or alone. A call through proxies is one call: who adds up leaves them out.",
    )
    sort: EndpointSort = EndpointSort.CALLS
    order: Order | None = Field(
        default=None, description="Default: names A to Z, coverage least first, all else most first."
    )
