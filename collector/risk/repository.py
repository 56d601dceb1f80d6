"""Risks and findings: reads them by endpoint, lists them by page, keeps them. Raises StoreError.

Findings, who decided them and what the next pass compares with (`Past`) are in the state. A `RiskRecord` is an
endpoint's score with its explanation, in the store with the rows that it is computed of. It also has what lists of
endpoints ask of the state: the exposure, and `open_rules`, the rules and severities of open findings. This copy is
written after the state, and the first pass of a process brings it up to date.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Select, delete, func, insert
from sqlalchemy import select as select_rows

from collector.alerting.pending import Write
from collector.core.feature import Feature, Job, Role
from collector.inventory.endpoints.endpoint import FULL_COVERAGE, Endpoint
from collector.inventory.filters import Page
from collector.inventory.naming import name_service
from collector.inventory.query import Cursor
from collector.risk.finding import Finding, FindingChange, FindingState, Past, Recent, Rule
from collector.risk.finding_query import (
    FindingFilters,
    FindingGroup,
    FindingGroupQuery,
    FindingQuery,
    count_by_service,
    group_findings,
    measure_gravity,
    narrow_findings,
    page_findings,
    page_groups,
    place_group,
)
from collector.risk.formula import Risk
from collector.risk.rules import load_rules
from collector.storage.base import Store
from collector.storage.records import read_record, select
from collector.storage.state.erasing import blank_texts
from collector.storage.state.imports import OldRows
from collector.storage.state.store import StateStore, read_row, upsert
from collector.storage.state.tables.findings import ENDPOINT_PASTS, FINDING_CHANGES, FINDINGS
from collector.storage.tables.layout import HOUR_RETENTION_DAYS
from collector.trust.audit import AuditEntry, add_entries

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
    open_rules: tuple[str, ...] = ()

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
        **_count_open(findings),
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


def _count_open(findings: Iterable[Finding]) -> dict[str, Any]:
    """What the record of an endpoint has of its findings."""
    still = [one for one in findings if one.state is FindingState.OPEN]
    names = {one.rule for one in still} | {one.severity.value for one in still}
    return {"open_findings": len(still), "open_rules": tuple(sorted(names))}


def is_news(past: Past, before: Past | None) -> bool:
    """Whether what was kept before says something else, or is old."""
    return (
        before is None
        or (past.exposure, past.exposure_before, past.exposure_since, past.score)
        != (before.exposure, before.exposure_before, before.exposure_since, before.score)
        or past.authenticated_at - before.authenticated_at >= _HABIT_SECONDS
        or past.computed_at - before.computed_at >= _PAST_SECONDS
    )


CHANGES_MAX = 200
_HABIT_SECONDS: Final = 3_600.0  # Between two times at which credentials were the habit that are written.
_PAST_SECONDS: Final = 86_400.0  # A past is written this often at least.
_KEPT_SECONDS: Final = 400 * 86_400.0  # A finding after it was seen last, and a change of one.
_EXPIRE_SECONDS: Final = 3_600.0
_PAST_KEPT_SECONDS: Final = HOUR_RETENTION_DAYS * 86_400.0
_RISK_COLUMNS = ", ".join(field.name for field in fields(RiskRecord))
_PAST_COLUMNS: Final = [column.name for column in ENDPOINT_PASTS.columns]


class RiskTable:
    """The findings and pasts of the state, and the records of the store."""

    def __init__(self, store: Store, state: StateStore) -> None:
        self._store, self._state = store, state
        self._write: Write = state.write

    def write_by(self, write: Write) -> None:
        """Write by these transactions from here on: those of the holder of a lease."""
        self._write = write

    def read_risks(self, ids: Sequence[str]) -> dict[str, RiskRecord]:
        """What is kept of some endpoints."""
        rows = select(
            self._store,
            f"SELECT {_RISK_COLUMNS} FROM endpoint_risks FINAL WHERE endpoint_id IN {{ids:Array(String)}}",
            {"ids": list(ids)},
        )
        return {row["endpoint_id"]: read_record(RiskRecord, row) for row in rows}

    def read_pasts(self, ids: Sequence[str]) -> dict[str, Past]:
        """What the next pass compares some endpoints with."""
        with self._state.read() as connection:
            rows = connection.execute(select_rows(ENDPOINT_PASTS).where(ENDPOINT_PASTS.c.endpoint_id.in_(ids)))
            return {row.endpoint_id: read_row(Past, row) for row in rows}

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
        with self._state.read() as connection:
            counted = select_rows(FINDINGS.c.state, func.count().label("findings")).group_by(FINDINGS.c.state)
            return {row.state: row.findings for row in connection.execute(counted)}

    def count_open(self, rule: str) -> int:
        """Open findings of a rule."""
        is_asked = (FINDINGS.c.rule == rule, FINDINGS.c.state == FindingState.OPEN)
        with self._state.read() as connection:
            return int(connection.execute(select_rows(func.count()).where(*is_asked)).scalar_one())

    def read_findings(self, ids: Sequence[str]) -> dict[str, list[Finding]]:
        """The findings of some endpoints, by endpoint."""
        found: dict[str, list[Finding]] = defaultdict(list)
        for one in self._read(select_rows(FINDINGS).where(FINDINGS.c.endpoint_id.in_(ids)).order_by(FINDINGS.c.id)):
            found[one.endpoint_id].append(one)
        return found

    def get_finding(self, finding_id: str) -> Finding | None:
        """One finding."""
        return next(iter(self.get_findings([finding_id])), None)

    def list_changes(self, finding_id: str) -> list[FindingChange]:
        """Who changed its state and why, newest first."""
        own = select_rows(FINDING_CHANGES).where(FINDING_CHANGES.c.finding_id == finding_id)
        newest = own.order_by(FINDING_CHANGES.c.time.desc(), FINDING_CHANGES.c.number.desc()).limit(CHANGES_MAX)
        with self._state.read() as connection:
            return [read_row(FindingChange, row) for row in connection.execute(newest)]

    def list_findings(self, query: FindingQuery) -> Page[Finding]:
        """One page; raises CursorError when the cursor is not of this query."""
        page = page_findings(query)
        with self._state.read() as connection:
            rows = connection.execute(page).all()
            counted = select_rows(func.count()).select_from(FINDINGS).where(*narrow_findings(query))
            total = int(connection.execute(counted).scalar_one())
        shown, next_cursor = query.cut(rows, lambda last: Cursor(value=last.sort_value, id=last.id))
        return Page(items=tuple(read_row(Finding, row) for row in shown), next_cursor=next_cursor, total=total)

    def list_groups(self, query: FindingGroupQuery) -> Page[FindingGroup]:
        """One page of rules; raises CursorError when the cursor is not of this query."""
        with self._state.read() as connection:
            rows = connection.execute(count_by_service(query)).all()
        groups = group_findings(rows, self._find_words)
        shown, next_cursor = query.cut(page_groups(query, groups), lambda last: place_group(query, last))
        return Page(items=tuple(shown), next_cursor=next_cursor, total=len(groups))

    def select_findings(self, filters: FindingFilters, limit: int) -> list[Finding]:
        """All that the filters match, up to a limit."""
        asked = select_rows(FINDINGS).where(*narrow_findings(filters))
        return self._read(asked.order_by(FINDINGS.c.id).limit(limit))

    def get_findings(self, ids: Sequence[str]) -> list[Finding]:
        """Those of these ids that there are."""
        return self._read(select_rows(FINDINGS).where(FINDINGS.c.id.in_(ids)).order_by(FINDINGS.c.id))

    def list_expired(self, now: float, limit: int) -> list[Finding]:
        """Findings whose decision is over."""
        is_over = (FINDINGS.c.decided_until > 0, FINDINGS.c.decided_until <= now)
        is_decided = FINDINGS.c.state.in_((FindingState.ACCEPTED.value, FindingState.FALSE_POSITIVE.value))
        return self._read(select_rows(FINDINGS).where(*is_over, is_decided).limit(limit))

    def list_decided(self, decision_id: str) -> dict[str, tuple[FindingChange, FindingState]]:
        """The changes of one decision by finding, each with the state before it."""
        changes = FINDING_CHANGES.c
        decided = select_rows(changes.finding_id).where(changes.decision_id == decision_id)
        history = select_rows(FINDING_CHANGES).where(changes.finding_id.in_(decided))
        before: dict[str, FindingState] = {}
        found: dict[str, tuple[FindingChange, FindingState]] = {}
        with self._state.read() as connection:
            for row in connection.execute(history.order_by(changes.finding_id, changes.time, changes.number)):
                change = read_row(FindingChange, row)
                if change.decision_id == decision_id:
                    found[change.finding_id] = change, before.get(change.finding_id, FindingState.OPEN)
                before[change.finding_id] = change.state
        return found

    def save(
        self,
        risks: Sequence[RiskRecord],
        findings: Sequence[Finding],
        changes: Sequence[FindingChange],
        pasts: Sequence[RiskRecord] = (),
        decided: Sequence[AuditEntry] = (),
    ) -> None:
        """Keep risks, the findings as they are now, what changed of them, the pasts of these endpoints, and what
        people decided of it."""
        if findings or changes or pasts:
            with self._write() as connection:
                save_findings(connection, findings)
                save_changes(connection, changes)
                upsert(connection, ENDPOINT_PASTS, [_write_past(one) for one in pasts])
                add_entries(connection, decided)
        self._store.insert_records("endpoint_risks", risks)

    def list_stale(self) -> list[str]:
        """Endpoints whose record has other open findings than the state."""
        is_open = (FINDINGS.c.state == FindingState.OPEN, FINDINGS.c.endpoint_id != "")
        names: dict[str, set[str]] = defaultdict(set)
        with self._state.read() as connection:
            asked = select_rows(FINDINGS.c.endpoint_id, FINDINGS.c.rule, FINDINGS.c.severity).where(*is_open)
            for endpoint_id, *words in connection.execute(asked):
                names[endpoint_id].update(words)
        rows = select(self._store, "SELECT endpoint_id, open_rules, open_findings FROM endpoint_risks FINAL")
        return [
            row["endpoint_id"]
            for row in rows
            if set(row["open_rules"]) != names.get(row["endpoint_id"], set())
            or bool(row["open_findings"]) != (row["endpoint_id"] in names)
        ]

    def refresh_records(self, ids: Sequence[str]) -> None:
        """Have the records of some endpoints name the findings that are open."""
        findings = self.read_findings(ids)
        records = self.read_risks(ids).values()
        self._store.insert_records(
            "endpoint_risks", [replace(one, **_count_open(findings.get(one.endpoint_id, ()))) for one in records]
        )

    def make_feature(self, clock: Callable[[], float]) -> Feature:
        """What the collector repeats."""
        jobs = (Job(works=(lambda: self.expire(clock()),), seconds=_EXPIRE_SECONDS),)
        return Feature(name="kept findings", role=Role.JOBS, jobs=jobs)

    def expire(self, now: float) -> None:
        """Delete what is past its retention."""
        with self._write() as connection:
            connection.execute(delete(FINDINGS).where(FINDINGS.c.last_seen < now - _KEPT_SECONDS))
            connection.execute(delete(FINDING_CHANGES).where(FINDING_CHANGES.c.time < now - _KEPT_SECONDS))
            is_old = ENDPOINT_PASTS.c.computed_at < now - _PAST_KEPT_SECONDS
            connection.execute(delete(ENDPOINT_PASTS).where(is_old))

    def erase(self, pattern: re.Pattern[str]) -> dict[str, int]:
        """Blank a consumer in texts; rows by table."""
        with self._write() as connection:
            return {
                FINDINGS.name: blank_texts(connection, FINDINGS, "why", pattern)
                + blank_texts(connection, FINDINGS, "note", pattern),
                FINDING_CHANGES.name: blank_texts(connection, FINDING_CHANGES, "note", pattern),
            }

    def _find_words(self, rule: str) -> Rule | Finding:
        """The rule, or a finding of one that only an earlier version has."""
        known = next((one for one, _ in load_rules() if one.id == rule), None)
        return known or self._read(select_rows(FINDINGS).where(FINDINGS.c.rule == rule).limit(1))[0]

    def _read(self, statement: Select[Any]) -> list[Finding]:
        with self._state.read() as connection:
            return [read_row(Finding, row) for row in connection.execute(statement)]


def save_findings(connection: Connection, findings: Sequence[Finding]) -> None:
    """As they are now."""
    upsert(connection, FINDINGS, [_write_finding(finding) for finding in findings])


def save_changes(connection: Connection, changes: Sequence[FindingChange]) -> None:
    """Append."""
    if changes:
        connection.execute(insert(FINDING_CHANGES), [asdict(change) for change in changes])


def import_findings(connection: Connection, rows: OldRows) -> None:
    """What an earlier version kept in ClickHouse. Raises StoreError."""
    for findings in rows.read("findings", lambda row: read_record(Finding, row)):
        save_findings(connection, findings)
    for changes in rows.read("finding_changes", lambda row: read_record(FindingChange, row)):
        save_changes(connection, changes)
    for pasts in rows.read("endpoint_risks", lambda row: {name: row[name] for name in _PAST_COLUMNS}):
        upsert(connection, ENDPOINT_PASTS, pasts)


def _write_finding(finding: Finding) -> Mapping[str, Any]:
    place = f"{finding.method} {finding.host}{finding.url_template} {finding.service} {finding.title}"
    return {**asdict(finding), "gravity": measure_gravity(finding), "searched": place.casefold()}


def _write_past(record: RiskRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in _PAST_COLUMNS}
