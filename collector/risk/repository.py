"""Risks and findings in the store: reads them by endpoint, lists them by page, appends versions. Raises StoreError.

A `RiskRecord` is an endpoint's score with its explanation, and what the next pass compares with.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Final

import msgspec

from collector.inventory.endpoints.endpoint import FULL_COVERAGE, Endpoint
from collector.inventory.filters import Page
from collector.inventory.naming import name_service
from collector.inventory.query import Cursor
from collector.risk.finding import Finding, FindingChange, FindingState, Past, Recent
from collector.risk.finding_query import (
    COLUMNS,
    FindingFilters,
    FindingGroup,
    FindingGroupQuery,
    FindingQuery,
    page_findings,
    page_groups,
    select_findings,
)
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
    )


CHANGES_MAX = 200
_RISK_COLUMNS = ", ".join(field.name for field in fields(RiskRecord))
_OF_ENDPOINTS = f"SELECT {COLUMNS} FROM findings FINAL WHERE endpoint_id IN {{ids:Array(String)}} ORDER BY id"
# The table lies by endpoint: which one it is, is found in two columns.
_BY_IDS = f"""
SELECT {COLUMNS} FROM findings FINAL
WHERE endpoint_id IN (SELECT endpoint_id FROM findings WHERE id IN {{ids:Array(String)}})
    AND id IN {{ids:Array(String)}}
ORDER BY id"""


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
        return next(iter(self.get_findings([finding_id])), None)

    def list_changes(self, finding_id: str) -> list[FindingChange]:
        """Who changed its state and why, newest first."""
        rows = select(
            self._store,
            "SELECT finding_id, time, state, actor, note, decision_id FROM finding_changes "
            f"WHERE finding_id = {{id:String}} ORDER BY time DESC LIMIT {CHANGES_MAX}",
            {"id": finding_id},
        )
        return [read_record(FindingChange, row) for row in rows]

    def list_findings(self, query: FindingQuery) -> Page[Finding]:
        """One page; raises CursorError when the cursor is not of this query."""
        rows = select(self._store, *page_findings(query))
        shown, next_cursor = query.cut(rows, lambda last: Cursor(value=last["sort_value"], id=last["id"]))
        items = tuple(read_record(Finding, row) for row in shown)
        return Page(items=items, next_cursor=next_cursor, total=int(rows[0]["total"]) if rows else 0)

    def list_groups(self, query: FindingGroupQuery) -> Page[FindingGroup]:
        """One page of rules; raises CursorError when the cursor is not of this query."""
        rows = select(self._store, *page_groups(query))
        shown, next_cursor = query.cut(rows, lambda last: Cursor(value=last["sort_value"], id=last["rule"]))
        items = tuple(read_record(FindingGroup, row, severity=row["worst"]) for row in shown)
        return Page(items=items, next_cursor=next_cursor, total=int(rows[0]["total"]) if rows else 0)

    def select_findings(self, filters: FindingFilters, limit: int) -> list[Finding]:
        """All that the filters match, up to a limit."""
        source, parameters = select_findings(filters)
        rows = select(
            self._store, f"SELECT {COLUMNS} {source} ORDER BY id LIMIT {{most:UInt32}}", {**parameters, "most": limit}
        )
        return [read_record(Finding, row) for row in rows]

    def get_findings(self, ids: Sequence[str]) -> list[Finding]:
        """Those of these ids that there are."""
        rows = select(self._store, _BY_IDS, {"ids": list(ids)})
        return [read_record(Finding, row) for row in rows]

    def list_expired(self, now: float, limit: int) -> list[Finding]:
        """Findings whose decision is over."""
        where = "state IN ('accepted', 'false_positive') AND decided_until > 0 AND decided_until <= {now:Float64}"
        rows = select(
            self._store,
            f"SELECT {COLUMNS} FROM findings FINAL WHERE {where} LIMIT {{most:UInt32}}",
            {"now": now, "most": limit},
        )
        return [read_record(Finding, row) for row in rows]

    def list_decided(self, decision_id: str) -> dict[str, tuple[FindingChange, FindingState]]:
        """The changes of one decision by finding, each with the state before it."""
        rows = select(
            self._store,
            "SELECT finding_id, time, state, actor, note, decision_id FROM finding_changes WHERE finding_id IN "
            "(SELECT finding_id FROM finding_changes WHERE decision_id = {id:String}) ORDER BY finding_id, time",
            {"id": decision_id},
        )
        before: dict[str, FindingState] = {}
        found: dict[str, tuple[FindingChange, FindingState]] = {}
        for row in rows:
            change = read_record(FindingChange, row)
            if change.decision_id == decision_id:
                found[change.finding_id] = change, before.get(change.finding_id, FindingState.OPEN)
            before[change.finding_id] = change.state
        return found

    def save(self, risks: Sequence[RiskRecord], findings: Sequence[Finding], changes: Sequence[FindingChange]) -> None:
        """Append versions."""
        self._store.insert_records("findings", findings)
        self._store.insert_records("finding_changes", changes)
        self._store.insert_records("endpoint_risks", risks)
