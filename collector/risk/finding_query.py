"""What lists of findings can be asked, one by one and grouped by rule, and the SQL of both."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field

from collector.inventory.endpoints.exposure import ExposureLevel
from collector.inventory.filters import (
    SEARCH_CHARACTERS_MAX,
    Filter,
    ListQuery,
    Order,
    SortedQuery,
    Text,
    match_words,
)
from collector.risk.finding import Finding, FindingState, Severity

SERVICES_SHOWN: Final = 10
COLUMNS: Final = ", ".join(field.name for field in fields(Finding))
_SEARCHED: Final = "concat(method, ' ', host, url_template, ' ', service, ' ', title)"
_RANKS: Final = {severity: len(Severity) - place for place, severity in enumerate(Severity)}
_RANK: Final = f"multiIf({', '.join(f'severity = {one.value!r}, {rank}' for one, rank in _RANKS.items())}, 0)"
_RANK_STEP: Final = 1e11  # More than any time in unix seconds.


def _of_risk(condition: str) -> str:
    """On the endpoint of a finding, by what is kept of its risk."""
    return f"endpoint_id IN (SELECT endpoint_id FROM endpoint_risks FINAL WHERE {condition})"


_IS_EXPOSED: Final = _of_risk("exposure = {exposure:String}")


class FindingSort(StrEnum):
    """What findings may be sorted by."""

    SEVERITY = "severity"  # The worst first, and of these what changed last.
    CHANGED = "changed"
    FIRST_SEEN = "first_seen"
    LAST_SEEN = "last_seen"


class FindingGroupSort(StrEnum):
    """What groups may be sorted by."""

    SEVERITY = "severity"  # The worst first, and of these the one with most findings.
    FINDINGS = "findings"


class FindingFilters(ListQuery):
    """Which findings."""

    q: Annotated[Text, Filter(match_words(_SEARCHED), title="Search")] = Field(
        default="",
        max_length=SEARCH_CHARACTERS_MAX,
        description="Words that must all occur in method, host, template, service or title.",
    )
    state: Annotated[FindingState | None, Filter("state = {state:String}", title="State")] = Field(
        default=None, description="Default: all."
    )
    severity: Annotated[Severity | None, Filter("severity = {severity:String}", title="Severity")] = Field(
        default=None, description="Exactly this severity."
    )
    rule: Annotated[Text, Filter("rule = {rule:String}")] = Field(
        default="", max_length=80, description="Exactly this rule."
    )
    owasp: Annotated[Text, Filter("owasp = {owasp:String}")] = Field(
        default="", max_length=20, description="Exactly this OWASP id.", examples=["API2:2023"]
    )
    service: Annotated[
        Text,
        Filter(
            "(service = {service:String} OR splitByChar(':', service)[1] = {service:String})",
            title="Service",
            is_folded=True,
        ),
    ] = Field(default="", max_length=300, description="A service as listed, with or without its port.")
    namespace: Annotated[
        Text, Filter("startsWith(service, concat({namespace:String}, '/'))", title="Namespace", is_folded=True)
    ] = Field(default="", max_length=63, description="Exactly this namespace of Kubernetes.")
    method: Annotated[Text, AfterValidator(str.upper), Filter("method = {method:String}")] = Field(
        default="", max_length=40, description="Exactly this method.", examples=["GET"]
    )
    exposure: Annotated[ExposureLevel | None, Filter(_IS_EXPOSED, title="Exposure")] = Field(
        default=None, description="From where the endpoint can be reached."
    )
    risk_min: Annotated[int | None, Filter(_of_risk("score >= {risk_min:UInt8}"))] = Field(
        default=None, ge=0, le=100, description="Only of endpoints with this score or more."
    )
    endpoint_id: Annotated[Text, Filter("endpoint_id = {endpoint_id:String}")] = Field(
        default="", max_length=80, description="An endpoint's id."
    )


class FindingQuery(FindingFilters, SortedQuery):
    """Filters, sort and page of the list of findings."""

    sort: FindingSort = FindingSort.SEVERITY
    order: Order | None = Field(default=None, description="Default: the worst or the newest first.")


class FindingGroupQuery(FindingFilters, SortedQuery):
    """The same of the list of rules that findings are of."""

    sort: FindingGroupSort = FindingGroupSort.SEVERITY
    order: Order | None = Field(default=None, description="Default: the worst or the most first.")


_SORTS: Final[Mapping[FindingSort, str]] = {
    FindingSort.SEVERITY: f"{_RANK} * {_RANK_STEP} + changed_at",
    FindingSort.CHANGED: "changed_at",
    FindingSort.FIRST_SEEN: "first_seen",
    FindingSort.LAST_SEEN: "last_seen",
}
_GROUP_SORTS: Final[Mapping[FindingGroupSort, str]] = {
    FindingGroupSort.SEVERITY: f"toFloat64(max({_RANK})) * {_RANK_STEP} + count()",
    FindingGroupSort.FINDINGS: "toFloat64(count())",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FindingGroup:
    """All findings of one rule: `severity` is the worst of them. Times are unix seconds."""

    rule: str
    title: str
    severity: Severity
    owasp: str
    advice: str
    findings: int
    by_severity: dict[str, int]
    by_state: dict[str, int]
    endpoints: int
    services: tuple[str, ...]  # The first by name.
    services_total: int
    first_seen: float
    last_seen: float


def select_findings(query: FindingFilters) -> tuple[str, dict[str, Any]]:
    """`FROM .. WHERE ..` of the findings that a query is about."""
    conditions, parameters = ["true"], dict[str, Any]()
    for one in query.build_conditions():
        conditions.append(one.sql)
        parameters |= one.parameters
    return f"FROM findings FINAL WHERE {' AND '.join(conditions)}", parameters


def page_findings(query: FindingQuery) -> tuple[str, dict[str, Any]]:
    """One page and one more, with `sort_value` and `total`."""
    source, parameters = select_findings(query)
    page, more = query.page(query.read_cursor(float), float)
    return (
        f"SELECT * FROM (SELECT {COLUMNS}, toFloat64({_SORTS[query.sort]}) AS sort_value, count() OVER () AS total "
        f"{source}) {page}",
        parameters | more,
    )


def page_groups(query: FindingGroupQuery) -> tuple[str, dict[str, Any]]:
    """The same by rule, with words as they were written last."""
    source, parameters = select_findings(query)
    page, more = query.page(query.read_cursor(float), float, key="rule")
    severities = ", ".join(f"'{one.value}', countIf(severity = '{one.value}')" for one in Severity)
    states = ", ".join(f"'{one.value}', countIf(state = '{one.value}')" for one in FindingState)
    return (
        f"""
SELECT *, count() OVER () AS total FROM (
    SELECT rule, argMax(title, updated_at) AS title, argMax(owasp, updated_at) AS owasp,
        argMax(advice, updated_at) AS advice, argMax(severity, {_RANK}) AS worst, count() AS findings,
        map({severities}) AS by_severity, map({states}) AS by_state,
        uniqExactIf(endpoint_id, endpoint_id != '') AS endpoints,
        arraySlice(arraySort(groupUniqArray(service)), 1, {SERVICES_SHOWN}) AS services,
        uniqExact(service) AS services_total, min(first_seen) AS first_seen, max(last_seen) AS last_seen,
        {_GROUP_SORTS[query.sort]} AS sort_value
    FROM (SELECT * {source})
    GROUP BY rule
) {page}""",
        parameters | more,
    )
