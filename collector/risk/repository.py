"""Risks and findings in the store: reads them by endpoint, lists them by page, appends versions. Raises StoreError.

A `RiskRecord` is an endpoint's score with its explanation, and what the next pass compares with.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Final

import msgspec
from pydantic import Field

from collector.inventory.endpoints.endpoint import FULL_COVERAGE, Endpoint
from collector.inventory.filters import SEARCH_CHARACTERS_MAX, Filter, ListQuery, Page, Text, match_words
from collector.inventory.naming import name_service
from collector.inventory.query import Cursor
from collector.risk.finding import Finding, FindingChange, FindingState, Past, Recent, Severity
from collector.risk.formula import Risk
from collector.storage.base import Store
from collector.storage.records import read_record, select

# An exposure that lasted so long was how it is; one of minutes is of a service that nobody had called yet.
SETTLED_SECONDS: Final = 3_600.0
# 2xx calls whose credentials could be seen before `nearly all carry credentials` is a habit.
HABIT_CALLS_MIN: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskRecord(Past):
    """A row of `endpoint_risks`, which is the past of the next pass. Times are unix seconds."""

    endpoint_id: str
    formula: str
    level: str
    open_findings: int
    method: str
    host: str
    url_template: str
    service: str
    explanation: str
    data: tuple[str, ...] = ()  # What its calls hold, as collector.inventory.endpoints.bodies.Bodies.places.

    @property
    def risk(self) -> Risk:
        """The explanation."""
        return msgspec.json.decode(self.explanation, type=Risk)


def update_past(past: Past, endpoint: Endpoint, recent: Recent, now: float) -> Past:
    """What is remembered from now on: since when the exposure is what it is, and when credentials were the habit."""
    level = endpoint.exposure.level.value
    before, since = past.exposure_before, past.exposure_since
    if level != past.exposure:
        has_lasted = bool(past.exposure) and now - past.exposure_since >= SETTLED_SECONDS
        before = past.exposure if has_lasted else ""
        # Facts say when they changed; of calls it is when this was looked at.
        since = float(endpoint.exposure.since) if endpoint.exposure.since > past.computed_at > 0 else now
    coverage, visible = endpoint.authentication.coverage, endpoint.status.success - endpoint.authentication.unseen_calls
    is_habit = coverage is not None and coverage >= FULL_COVERAGE and visible >= HABIT_CALLS_MIN
    if recent.visible:
        is_habit = is_habit and recent.authenticated >= FULL_COVERAGE * recent.visible
    return Past(
        exposure=level,
        exposure_before=before,
        exposure_since=since,
        authenticated_at=now if is_habit else past.authenticated_at,
        score=past.score,
        computed_at=past.computed_at,
    )


def make_record(endpoint: Endpoint, past: Past, risk: Risk, findings: list[Finding], now: float) -> RiskRecord:
    """The row of one endpoint."""
    return RiskRecord(
        endpoint_id=endpoint.id,
        computed_at=now,
        formula=risk.formula,
        score=risk.score,
        level=risk.level,
        open_findings=sum(finding.state is FindingState.OPEN for finding in findings),
        exposure=past.exposure,
        exposure_before=past.exposure_before,
        exposure_since=past.exposure_since,
        authenticated_at=past.authenticated_at,
        method=endpoint.method,
        host=endpoint.host,
        url_template=endpoint.path,
        service=name_service(endpoint.service),
        explanation=msgspec.json.encode(risk).decode(),
        data=endpoint.bodies.places if endpoint.bodies is not None else (),
    )


CHANGES_MAX = 200
_RISK_COLUMNS = ", ".join(field.name for field in fields(RiskRecord))
_FINDING_COLUMNS = ", ".join(field.name for field in fields(Finding))
_OF_ENDPOINTS = f"SELECT {_FINDING_COLUMNS} FROM findings FINAL WHERE endpoint_id IN {{ids:Array(String)}} ORDER BY id"
# The table lies by endpoint: which one it is, is found in two columns.
_BY_ID = f"""
SELECT {_FINDING_COLUMNS} FROM findings FINAL
WHERE endpoint_id IN (SELECT endpoint_id FROM findings WHERE id = {{id:String}}) AND id = {{id:String}}"""
_SEARCHED = "concat(method, ' ', host, url_template, ' ', service)"


class FindingQuery(ListQuery):
    """Filters and page of the list of findings."""

    state: Annotated[FindingState | None, Filter("state = {state:String}")] = Field(
        default=None, description="Default: all."
    )
    severity: Annotated[Severity | None, Filter("severity = {severity:String}")] = Field(
        default=None, description="Exactly this severity."
    )
    rule: Annotated[Text, Filter("rule = {rule:String}")] = Field(
        default="", max_length=80, description="Exactly this rule."
    )
    endpoint_id: Annotated[Text, Filter("endpoint_id = {endpoint_id:String}")] = Field(
        default="", max_length=80, description="An endpoint's id."
    )
    q: Annotated[Text, Filter(match_words(_SEARCHED))] = Field(
        default="", max_length=SEARCH_CHARACTERS_MAX, description="Words that must all occur."
    )


class RiskTable:
    """The three tables of collector/storage/tables/decisions.py."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def read_risks(self, ids: Sequence[str]) -> dict[str, RiskRecord]:
        """What is kept of some endpoints."""
        rows = select(
            self._store,
            f"SELECT {_RISK_COLUMNS} FROM endpoint_risks FINAL WHERE endpoint_id IN {{ids:Array(String)}}",
            {"ids": list(ids)},
        )
        return {row["endpoint_id"]: read_record(RiskRecord, row) for row in rows}

    def list_computed(self) -> dict[str, float]:
        """When each endpoint was assessed last, by id."""
        rows = select(self._store, "SELECT endpoint_id, computed_at FROM endpoint_risks FINAL")
        return {row["endpoint_id"]: float(row["computed_at"]) for row in rows}

    def count_levels(self) -> dict[str, int]:
        """Endpoints by level."""
        rows = select(self._store, "SELECT level, count() AS endpoints FROM endpoint_risks FINAL GROUP BY level", {})
        return {row["level"]: int(row["endpoints"]) for row in rows}

    def count_findings(self) -> dict[str, int]:
        """Findings by state."""
        rows = select(self._store, "SELECT state, count() AS findings FROM findings FINAL GROUP BY state", {})
        return {row["state"]: int(row["findings"]) for row in rows}

    def read_findings(self, ids: Sequence[str]) -> dict[str, list[Finding]]:
        """The findings of some endpoints, by endpoint."""
        found: dict[str, list[Finding]] = defaultdict(list)
        for row in select(self._store, _OF_ENDPOINTS, {"ids": list(ids)}):
            found[row["endpoint_id"]].append(read_record(Finding, row))
        return found

    def get_finding(self, finding_id: str) -> Finding | None:
        """One finding."""
        rows = select(self._store, _BY_ID, {"id": finding_id})
        return read_record(Finding, rows[0]) if rows else None

    def list_changes(self, finding_id: str) -> list[FindingChange]:
        """Who changed its state and why, newest first."""
        rows = select(
            self._store,
            "SELECT finding_id, time, state, actor, note FROM finding_changes WHERE finding_id = {id:String} "
            f"ORDER BY time DESC LIMIT {CHANGES_MAX}",
            {"id": finding_id},
        )
        return [read_record(FindingChange, row) for row in rows]

    def list_findings(self, query: FindingQuery) -> Page[Finding]:
        """One page, changed last first; raises CursorError when the cursor is not of this query."""
        conditions, parameters = ["true"], dict[str, Any](limit=query.limit + 1)
        for one in query.build_conditions():
            conditions.append(one.sql)
            parameters |= one.parameters
        after = query.read_cursor(float)
        if after is not None:
            conditions.append("(changed_at, id) < ({after:Float64}, {after_id:String})")
            parameters |= {"after": after.value, "after_id": after.id}
        rows = select(
            self._store,
            f"SELECT {_FINDING_COLUMNS} FROM findings FINAL WHERE {' AND '.join(conditions)} "
            "ORDER BY changed_at DESC, id DESC LIMIT {limit:UInt32}",
            parameters,
        )
        shown, next_cursor = query.cut(rows, lambda last: Cursor(value=last["changed_at"], id=last["id"]))
        return Page(items=tuple(read_record(Finding, row) for row in shown), next_cursor=next_cursor)

    def save(self, risks: Sequence[RiskRecord], findings: Sequence[Finding], changes: Sequence[FindingChange]) -> None:
        """Append versions."""
        self._store.insert_records("findings", findings)
        self._store.insert_records("finding_changes", changes)
        self._store.insert_records("endpoint_risks", risks)
