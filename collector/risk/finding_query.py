"""What lists of findings can be asked, one by one and grouped by rule, and how the state answers."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from operator import gt, lt
from typing import Annotated, Any, Final

from pydantic import AfterValidator, Field
from sqlalchemy import Column, ColumnElement, Row, Select, case, func, or_, select, tuple_

from collector.inventory.endpoints.exposure import ExposureLevel
from collector.inventory.filters import (
    SEARCH_CHARACTERS_MAX,
    SEARCH_WORDS_MAX,
    Filter,
    ListQuery,
    Order,
    SortedQuery,
    Text,
)
from collector.inventory.query import Cursor
from collector.risk.finding import Finding, FindingState, Rule, Severity
from collector.storage.state.tables.findings import ENDPOINT_PASTS, FINDINGS

SERVICES_SHOWN: Final = 10
_RANKS: Final = {severity: len(Severity) - place for place, severity in enumerate(Severity)}
_RANK_STEP: Final = 1e11  # More than any time in unix seconds.


def measure_gravity(finding: Finding) -> float:
    """What sorts findings by severity, and those of one severity by what changed last."""
    return _RANKS[finding.severity] * _RANK_STEP + finding.changed_at


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

    q: Annotated[Text, Filter(None, title="Search")] = Field(
        default="",
        max_length=SEARCH_CHARACTERS_MAX,
        description="Words that must all occur in method, host, template, service or title.",
    )
    state: Annotated[FindingState | None, Filter(None, title="State")] = Field(
        default=None, description="Default: all."
    )
    severity: Annotated[Severity | None, Filter(None, title="Severity")] = Field(
        default=None, description="Exactly this severity."
    )
    rule: Annotated[Text, Filter(None)] = Field(default="", max_length=80, description="Exactly this rule.")
    owasp: Annotated[Text, Filter(None)] = Field(
        default="", max_length=20, description="Exactly this OWASP id.", examples=["API2:2023"]
    )
    service: Annotated[Text, Filter(None, title="Service", is_folded=True)] = Field(
        default="", max_length=300, description="A service as listed, with or without its port."
    )
    namespace: Annotated[Text, Filter(None, title="Namespace", is_folded=True)] = Field(
        default="", max_length=63, description="Exactly this namespace of Kubernetes."
    )
    method: Annotated[Text, AfterValidator(str.upper), Filter(None)] = Field(
        default="", max_length=40, description="Exactly this method.", examples=["GET"]
    )
    exposure: Annotated[ExposureLevel | None, Filter(None, title="Exposure")] = Field(
        default=None, description="From where the endpoint can be reached."
    )
    risk_min: Annotated[int | None, Filter(None)] = Field(
        default=None, ge=0, le=100, description="Only of endpoints with this score or more."
    )
    endpoint_id: Annotated[Text, Filter(None)] = Field(default="", max_length=80, description="An endpoint's id.")


class FindingQuery(FindingFilters, SortedQuery):
    """Filters, sort and page of the list of findings."""

    sort: FindingSort = FindingSort.SEVERITY
    order: Order | None = Field(default=None, description="Default: the worst or the newest first.")


class FindingGroupQuery(FindingFilters, SortedQuery):
    """The same of the list of rules that findings are of."""

    sort: FindingGroupSort = FindingGroupSort.SEVERITY
    order: Order | None = Field(default=None, description="Default: the worst or the most first.")


_SORTS: Final[Mapping[FindingSort, Column[Any]]] = {
    FindingSort.SEVERITY: FINDINGS.c.gravity,
    FindingSort.CHANGED: FINDINGS.c.changed_at,
    FindingSort.FIRST_SEEN: FINDINGS.c.first_seen,
    FindingSort.LAST_SEEN: FINDINGS.c.last_seen,
}


def _of_risk(condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """On the endpoint of a finding, by what is kept of its risk."""
    return FINDINGS.c.endpoint_id.in_(select(ENDPOINT_PASTS.c.endpoint_id).where(condition))


def _begins_with(column: Column[Any], text: str) -> ColumnElement[bool]:
    return func.substr(column, 1, len(text)) == text


# By the name of a filter.
_CONDITIONS: Final[Mapping[str, Callable[[Any], ColumnElement[bool]]]] = {
    **{name: FINDINGS.c[name].__eq__ for name in ("state", "severity", "rule", "owasp", "method", "endpoint_id")},
    "service": lambda value: or_(FINDINGS.c.service == value, _begins_with(FINDINGS.c.service, f"{value}:")),
    "namespace": lambda value: _begins_with(FINDINGS.c.service, f"{value}/"),
    "exposure": lambda value: _of_risk(ENDPOINT_PASTS.c.exposure == value),
    "risk_min": lambda value: _of_risk(ENDPOINT_PASTS.c.score >= value),
}


def narrow_findings(query: FindingFilters) -> list[ColumnElement[bool]]:
    """The conditions on findings that a query is about."""
    asked = {name: getattr(query, name) for name in query.list_filters()}
    words = str(asked.pop("q")).casefold().split()[:SEARCH_WORDS_MAX]
    return [
        *(FINDINGS.c.searched.contains(word, autoescape=True) for word in words),
        *(_CONDITIONS[name](value) for name, value in asked.items() if value not in ("", None)),
    ]


def page_findings(query: FindingQuery) -> Select[Any]:
    """One page and one more, with `sort_value`. Raises CursorError."""
    value = _SORTS[query.sort]
    place = tuple_(value, FINDINGS.c.id)
    after = query.read_cursor(float)
    statement = select(FINDINGS, value.label("sort_value")).where(*narrow_findings(query))
    is_ascending = query.direction is Order.ASCENDING
    if after is not None:
        statement = statement.where((gt if is_ascending else lt)(place, tuple_(after.value, after.id)))
    order = [column.asc() if is_ascending else column.desc() for column in (value, FINDINGS.c.id)]
    return statement.order_by(*order).limit(query.limit + 1)


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


def count_by_service(query: FindingGroupQuery) -> Select[Any]:
    """How many findings there are by rule, state, severity and service."""
    keys = (FINDINGS.c.rule, FINDINGS.c.state, FINDINGS.c.severity, FINDINGS.c.service)
    return (
        select(
            *keys,
            func.count().label("findings"),
            func.sum(case((FINDINGS.c.endpoint_id != "", 1), else_=0)).label("endpoints"),
            func.min(FINDINGS.c.first_seen).label("first_seen"),
            func.max(FINDINGS.c.last_seen).label("last_seen"),
        )
        .where(*narrow_findings(query))
        .group_by(*keys)
    )


def group_findings(rows: Iterable[Row[Any]], find_words: Callable[[str], Rule | Finding]) -> list[FindingGroup]:
    """The rules, from rows of `count_by_service`. An endpoint has one finding of a rule. `find_words`: what has the
    words of a rule."""
    by_rule: dict[str, list[Row[Any]]] = {}
    for row in rows:
        by_rule.setdefault(row.rule, []).append(row)
    return [_group_rule(find_words(rule), rule, own) for rule, own in by_rule.items()]


def _group_rule(words: Rule | Finding, rule: str, rows: Sequence[Row[Any]]) -> FindingGroup:
    by_severity, by_state = Counter[str](), Counter[str]()
    for row in rows:
        by_severity[row.severity] += row.findings
        by_state[row.state] += row.findings
    services = sorted({row.service for row in rows})
    return FindingGroup(
        rule=rule,
        title=words.title,
        severity=next(one for one in Severity if by_severity[one]),
        owasp=words.owasp,
        advice=words.advice,
        findings=by_severity.total(),
        by_severity={one.value: by_severity[one] for one in Severity},
        by_state={one.value: by_state[one] for one in FindingState},
        endpoints=sum(row.endpoints for row in rows),
        services=tuple(services[:SERVICES_SHOWN]),
        services_total=len(services),
        first_seen=min(row.first_seen for row in rows),
        last_seen=max(row.last_seen for row in rows),
    )


def place_group(query: FindingGroupQuery, group: FindingGroup) -> Cursor:
    """Where it stands in the list."""
    by_severity = query.sort is FindingGroupSort.SEVERITY
    return Cursor(value=float(group.findings) + by_severity * _RANKS[group.severity] * _RANK_STEP, id=group.rule)


def page_groups(query: FindingGroupQuery, groups: Sequence[FindingGroup]) -> list[FindingGroup]:
    """One page and one more. Raises CursorError."""
    after = query.read_cursor(float)
    is_ascending = query.direction is Order.ASCENDING
    placed = [((place.value, place.id), group) for group in groups for place in (place_group(query, group),)]
    if after is not None:
        placed = [one for one in placed if (gt if is_ascending else lt)(one[0], (after.value, after.id))]
    placed.sort(key=lambda one: one[0], reverse=not is_ascending)
    return [group for _, group in placed[: query.limit + 1]]
