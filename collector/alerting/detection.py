"""The settings of detection at run time, thread-safe: the level, known-good rules, and a preview of each level.

The level is that of the settings, until somebody chooses another one at run time. That one is kept until the setting
itself is changed. Another collector may change level and rules, so they are looked at before they are used.

`DetectionTable` keeps level, known-good rules and decisions in the state, and reports in ClickHouse. Its methods raise
StoreError. `preview_levels` computes
how many alerts a day each level would have raised: the same alert lifecycle on the same reports. Pure.
"""

import re
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import count
from typing import Final

import msgspec
from sqlalchemy import Connection, delete, insert, select

from collector.alerting.alert import Alert, AlertKind, Report, Severity
from collector.alerting.filter import FilteredReport, ReportFilter, ReportOutcome
from collector.alerting.lifecycle import Lifecycle
from collector.alerting.silences import RULES_MAX, KnownGood
from collector.core.errors import ConflictError, UnknownError
from collector.core.feature import Feature, Job, Role
from collector.core.kinds import LEVELS, PLANS, Sensitivity, is_sent_at
from collector.storage.base import Store
from collector.storage.records import read_record, select_records
from collector.storage.state.cache import StateCache
from collector.storage.state.erasing import blank_texts
from collector.storage.state.imports import OldRows
from collector.storage.state.store import StateStore, read_row, upsert
from collector.storage.state.tables.alerts import DETECTION_DECISIONS, KNOWN_GOOD, SENSITIVITY
from collector.trust.audit import AuditEntry, add_entries, make_entry
from common.figures import Figure, make_labelled, make_totals
from common.token_bucket import TokenBucket

DAY_SECONDS: Final = 86_400.0
EXPIRE_SECONDS: Final = 3_600.0  # Between two looks for what is too old.
_LOOK_SECONDS: Final = 1.0  # Alerts are looked at that often, about.
# What rules and verdicts took out would be taken out at every level.
_COUNTED: Final = frozenset({ReportOutcome.SENT, ReportOutcome.TOO_QUIET})


@dataclass(frozen=True, slots=True, kw_only=True)
class PastReport:
    """A row of `detector_reports`: a report without its words. Times are unix seconds."""

    time: float
    kind: AlertKind
    severity: Severity
    quietest: Sensitivity
    endpoint_id: str
    consumer: str
    is_above: bool
    window_end: float
    calm_seconds: float
    measure: float
    is_sure: bool
    outcome: ReportOutcome
    rule_id: str


_REPORTED: Final = [field.name for field in fields(PastReport) if field.name not in ("time", "outcome", "rule_id")]


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelPreview:
    """What one level would have sent."""

    level: Sensitivity
    budget_a_day: float  # Of alerts below high severity.
    alerts_a_day: float
    high_a_day: float  # Of those, of high severity: no budget holds them back.
    suppressed_a_day: float  # Past the budget.


def keep_report(filtered: FilteredReport, now: float) -> PastReport:
    """The row of a report."""
    columns = {name: getattr(filtered.report, name) for name in _REPORTED}
    return PastReport(time=now, outcome=filtered.outcome, rule_id=filtered.rule_id, **columns)


def preview_levels(past: Sequence[PastReport], span_seconds: float) -> tuple[LevelPreview, ...]:
    """Of each level, over reports in order of time from `span_seconds`."""
    return tuple(_preview(level, past, max(span_seconds, 1.0) / DAY_SECONDS) for level in LEVELS)


def _preview(level: Sensitivity, past: Sequence[PastReport], days: float) -> LevelPreview:
    numbers = count()
    plan = PLANS[level]
    lifecycle = Lifecycle(new_id=lambda: str(next(numbers)), find_budget=lambda: plan.alerts_a_day)
    gravest: dict[str, Severity] = {}
    for row in past:
        if row.outcome not in _COUNTED:
            continue
        while lifecycle.next_close_at <= row.time - _LOOK_SECONDS:  # As time went by, not when somebody spoke again.
            lifecycle.advance(lifecycle.next_close_at + _LOOK_SECONDS)
        report = _rebuild(row)
        if not is_sent_at(row.quietest, level) and not lifecycle.is_open(report):
            continue
        alert = lifecycle.take(report, row.time)
        if alert is not None:
            gravest[alert.id] = alert.severity
        lifecycle.take_entries()
    return LevelPreview(
        level=level,
        budget_a_day=plan.alerts_a_day,
        alerts_a_day=len(gravest) / days,
        high_a_day=sum(severity is Severity.HIGH for severity in gravest.values()) / days,
        suppressed_a_day=lifecycle.suppressed_count / days,
    )


def _rebuild(row: PastReport) -> Report:
    known = {name: getattr(row, name) for name in _REPORTED}
    return Report(title="", why="", window_start=row.window_end, **known)


REPORTS_READ_MAX: Final = 100_000  # The newest, of which a preview is made.
DECISIONS_READ_MAX: Final = 500
DECISION_RETENTION_SECONDS: Final = 400 * DAY_SECONDS  # Of rules after they expired.
DECISIONS_MAX: Final = 100_000  # Kept, however young.


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectionDecision:
    """A row of `detection_decisions`: who changed what of the detection, and when (unix seconds)."""

    time: float
    actor: str
    action: str  # sensitivity, known_good or end_known_good.
    subject: str  # The level, or a rule's id.
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleHits:
    """What a rule suppressed, within the retention of reports."""

    rule_id: str
    reports: int
    subjects: int
    last_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ChosenLevel:
    """The row of `sensitivity`: who chose which level at `at` (unix seconds), while the setting said `configured`."""

    level: Sensitivity
    configured: Sensitivity
    at: float
    by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What people decided: the level, and the newest rules that nobody ended; some may have expired."""

    level: ChosenLevel | None
    rules: tuple[KnownGood, ...]


class DetectionTable:
    """Reads and writes them."""

    def __init__(self, store: Store, state: StateStore) -> None:
        self._store, self._state = store, state
        self._decided = StateCache(state, (SENSITIVITY.name, KNOWN_GOOD.name), _read_decided)

    def write_reports(self, reports: Sequence[PastReport]) -> None:
        """Append."""
        self._store.insert_records("detector_reports", reports)

    def list_reports(self, since: float) -> tuple[PastReport, ...]:
        """Those from `since` (unix seconds) on, oldest first; of many the newest."""
        source = "detector_reports WHERE time >= {since:Float64} ORDER BY time DESC"
        return select_records(self._store, PastReport, source, {"since": since}, limit=REPORTS_READ_MAX)[::-1]

    def count_hits(self) -> dict[str, RuleHits]:
        """By rule."""
        hits = """(
            SELECT rule_id, count() AS reports, uniqExact(kind, endpoint_id, consumer) AS subjects, max(time) AS last_at
            FROM detector_reports WHERE rule_id != '' GROUP BY rule_id
        )"""
        return {one.rule_id: one for one in select_records(self._store, RuleHits, hits)}

    def write_decision(
        self,
        decision: DetectionDecision,
        entry: AuditEntry,
        *,
        rule: KnownGood | None = None,
        level: ChosenLevel | None = None,
    ) -> None:
        """Keep a decision with its entry in the audit log, and the rule that it makes or ends, or the level: all or
        none."""
        with self._state.write() as connection:
            connection.execute(insert(DETECTION_DECISIONS), [asdict(decision)])
            if level is not None:
                save_level(connection, level)
            if rule is not None:
                upsert(connection, KNOWN_GOOD, [asdict(rule)])
            add_entries(connection, [entry])

    def list_rules(self) -> tuple[KnownGood, ...]:
        """The newest first; of many the newest."""
        newest = select(KNOWN_GOOD).order_by(KNOWN_GOOD.c.created_at.desc(), KNOWN_GOOD.c.id)
        with self._state.read() as connection:
            return tuple(read_row(KnownGood, row) for row in connection.execute(newest.limit(2 * RULES_MAX)))

    def read_decided(self) -> Decided:
        """As it is now; one short question where nothing changed."""
        return self._decided.read()

    def list_decisions(self) -> tuple[DetectionDecision, ...]:
        """The newest first."""
        newest = select(DETECTION_DECISIONS).order_by(
            DETECTION_DECISIONS.c.time.desc(), DETECTION_DECISIONS.c.number.desc()
        )
        with self._state.read() as connection:
            rows = connection.execute(newest.limit(DECISIONS_READ_MAX)).all()
        return tuple(read_row(DetectionDecision, row) for row in rows)

    def expire(self, now: float) -> None:
        """Delete what is past its retention, and the oldest beyond what is kept at most."""
        before = now - DECISION_RETENTION_SECONDS
        rules = select(KNOWN_GOOD.c.id).order_by(KNOWN_GOOD.c.expires_at.desc()).offset(DECISIONS_MAX)
        numbers = select(DETECTION_DECISIONS.c.number).order_by(DETECTION_DECISIONS.c.number.desc())
        with self._state.write() as connection:
            connection.execute(delete(KNOWN_GOOD).where(KNOWN_GOOD.c.expires_at < before))
            connection.execute(delete(KNOWN_GOOD).where(KNOWN_GOOD.c.id.in_(rules)))
            connection.execute(delete(DETECTION_DECISIONS).where(DETECTION_DECISIONS.c.time < before))
            older = DETECTION_DECISIONS.c.number.in_(numbers.offset(DECISIONS_MAX))
            connection.execute(delete(DETECTION_DECISIONS).where(older))

    def erase(self, consumer: str, pattern: re.Pattern[str]) -> dict[str, int]:
        """Delete rules of a consumer, and blank its name by the pattern in notes; rows by table."""
        with self._state.write() as connection:
            gone = connection.execute(delete(KNOWN_GOOD).where(KNOWN_GOOD.c.consumer == consumer)).rowcount
            return {
                KNOWN_GOOD.name: gone + blank_texts(connection, KNOWN_GOOD, "note", pattern),
                DETECTION_DECISIONS.name: blank_texts(connection, DETECTION_DECISIONS, "note", pattern),
            }


def _show_rule(rule: KnownGood) -> dict[str, object]:
    names = ("consumer", "network", "workload", "endpoint_id", "kind")
    return {name: value for name in names if (value := getattr(rule, name))} | {"expires_at": rule.expires_at}


def save_level(connection: Connection, level: ChosenLevel) -> None:
    """Instead of the one before."""
    upsert(connection, SENSITIVITY, [{"id": 1, **asdict(level)}])


def _read_decided(connection: Connection) -> Decided:
    level = connection.execute(select(SENSITIVITY)).first()
    open_ones = select(KNOWN_GOOD).where(KNOWN_GOOD.c.ended_at.is_(None))
    # Of as many as may be in force at once, those that expire last.
    newest = open_ones.order_by(KNOWN_GOOD.c.expires_at.desc(), KNOWN_GOOD.c.id).limit(RULES_MAX)
    return Decided(
        level=None if level is None else read_row(ChosenLevel, level),
        rules=tuple(read_row(KnownGood, row) for row in connection.execute(newest)),
    )


def import_level(connection: Connection, content: bytes) -> int:
    """The level in `sensitivity.json` of an earlier version. Raises ValueError."""
    save_level(connection, msgspec.json.decode(content, type=ChosenLevel))
    return 1


def import_decisions(connection: Connection, rows: OldRows) -> None:
    """Rules and decisions that an earlier version kept in ClickHouse. Raises StoreError."""
    for rules in rows.read("known_good", lambda row: read_record(KnownGood, row)):
        upsert(connection, KNOWN_GOOD, [asdict(rule) for rule in rules])
    for decisions in rows.read("detection_decisions", lambda row: read_record(DetectionDecision, row)):
        connection.execute(insert(DETECTION_DECISIONS), [asdict(decision) for decision in decisions])


PREVIEW_SECONDS: Final = 14 * DAY_SECONDS
REPORTS_A_MINUTE: Final = 600  # Kept for previews; further ones are counted.


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelState:
    """The level, where it comes from, and what each level would have sent."""

    level: Sensitivity
    configured: Sensitivity
    changed_at: float | None  # None: it is the setting's.
    changed_by: str
    history_seconds: float
    previews: tuple[LevelPreview, ...]


class Detection:
    """Level, rules and previews. Methods raise StoreError."""

    def __init__(
        self,
        *,
        table: DetectionTable,
        configured: Sensitivity,
        clock: Callable[[], float],
        new_id: Callable[[], str],
    ) -> None:
        """Raises StoreError."""
        self._table, self._configured = table, configured
        self._clock, self._new_id = clock, new_id
        self._lock = threading.Lock()
        # One decision of a person at a time, from what it rests on to what is kept. Reports are filtered meanwhile.
        self._deciding = threading.Lock()
        self._filter = ReportFilter(configured)
        self._decided: Decided | None = None  # What the filter was set by.
        self._look()
        self._room = TokenBucket(REPORTS_A_MINUTE / 60, REPORTS_A_MINUTE, clock)
        self.unkept_count = 0

    @property
    def budget(self) -> float:
        """Alerts below high severity a day."""
        return PLANS[self._filter.level].alerts_a_day

    def restore(self, alerts: tuple[Alert, ...]) -> None:
        """Take up what people decided, and the verdicts on `alerts`, after a start."""
        self._look()
        self.restore_verdicts(alerts)

    def restore_verdicts(self, alerts: tuple[Alert, ...]) -> None:
        """Take up the verdicts on `alerts` alone: one was taken back, and what was said of others of its subject or
        consumer holds as if it had not been said."""
        with self._lock:
            self._filter.restore_verdicts(alerts)

    @property
    def feature(self) -> Feature:
        """What the collector repeats and shows."""
        return Feature(
            name="decisions on detection",
            role=Role.JOBS,
            jobs=(Job(works=(lambda: self._table.expire(self._clock()),), seconds=EXPIRE_SECONDS),),
            figures=self.figures,
        )

    def figures(self) -> tuple[Figure, ...]:
        """For metrics: reports by what became of them."""
        labelled = ((outcome.value, self.counts[outcome]) for outcome in ReportOutcome)
        unkept = (
            "reports_unkept",
            "Reports that previews of levels omit: too many came in a minute.",
            self.unkept_count,
        )
        return (
            *make_labelled("reports", "Reports of detectors, by what became of them.", "outcome", labelled),
            *make_totals([unkept]),
        )

    @property
    def counts(self) -> Mapping[ReportOutcome, int]:
        """Reports by what became of them."""
        return self._filter.counts

    def filter_reports(self, reports: list[Report], is_open: Callable[[Report], bool]) -> list[FilteredReport]:
        """What becomes of detectors' reports; keeps them for previews."""
        now = self._clock()
        self._look()
        with self._lock:
            filtered = [self._filter.apply(report, now, is_open=is_open(report)) for report in reports]
            kept = filtered[: self._take_room(len(filtered))]
        if kept:
            self._table.write_reports([keep_report(one, now) for one in kept])
        return filtered

    def note_verdict(self, alert: Alert) -> None:
        """What somebody said of an alert."""
        with self._lock:
            self._filter.note_verdict(alert)

    def erase(self, pattern: re.Pattern[str]) -> None:
        """Forget what holds of a consumer that a pattern names; the tables are another's."""
        with self._deciding, self._lock:
            self._filter.erase(pattern)

    def describe(self) -> LevelState:
        """Where it stands, with previews."""
        now = self._clock()
        chosen = self._look()
        past = self._table.list_reports(now - PREVIEW_SECONDS)
        span = now - past[0].time if past else 0.0
        return LevelState(
            level=self._filter.level,
            configured=self._configured,
            changed_at=None if chosen is None else chosen.at,
            changed_by="" if chosen is None else chosen.by,
            history_seconds=span,
            # Of less than a day nobody can say how many a day it makes.
            previews=preview_levels(past, max(span, DAY_SECONDS)),
        )

    def choose(self, level: Sensitivity, *, by: str) -> None:
        """Change the level at once."""
        with self._deciding:
            now = self._clock()
            self._look()
            before, after = {"level": self._filter.level}, {"level": level}
            self._table.write_decision(
                DetectionDecision(time=now, actor=by, action="sensitivity", subject=level.value, note=""),
                make_entry(now, by, "sensitivity.changed", "sensitivity", before=before, after=after),
                level=ChosenLevel(level=level, configured=self._configured, at=now, by=by),
            )
            self._look()

    def list_rules(self) -> tuple[tuple[KnownGood, RuleHits | None], ...]:
        """Every rule of the last 400 days, newest first, with what each suppressed."""
        hits = self._table.count_hits()
        return tuple((rule, hits.get(rule.id)) for rule in self._table.list_rules())

    def find_rule(self, alert: Alert) -> KnownGood | None:
        """A known-good rule in force that an alert's subject matches."""
        now = self._clock()
        self._look()
        with self._lock:
            rules = tuple(self._filter.rules.values())
        return next((rule for rule in rules if rule.holds(now) and rule.matches(alert)), None)

    def add_rule(
        self, *, by: str, note: str, seconds: float, consumer: str, network: str, workload: str, endpoint_id: str,
        kind: str,
    ) -> KnownGood:  # fmt: skip
        """A new rule. Raises ValueError with one sentence, ConflictError where there are too many."""
        now = self._clock()
        rule = KnownGood(
            id=self._new_id(),
            note=note,
            consumer=consumer,
            network=network,
            workload=workload,
            endpoint_id=endpoint_id,
            kind=kind,
            created_at=now,
            created_by=by,
            expires_at=now + seconds,
            updated_at=now,
        )
        with self._deciding:
            self._look()
            with self._lock:
                in_force = sum(one.holds(now) for one in self._filter.rules.values())
            if in_force >= RULES_MAX:
                raise ConflictError(f"There are {in_force} rules in force; end some, the limit is {RULES_MAX}.")
            self._keep_rule(rule, "known_good", by, before=None)
        return rule

    def end_rule(self, rule_id: str, *, by: str) -> KnownGood:
        """No longer. Raises UnknownError, and ConflictError where it is not in force any more."""
        with self._deciding:
            now = self._clock()
            self._look()
            with self._lock:
                rule = self._filter.rules.get(rule_id)
            if rule is None or not rule.holds(now):
                if any(one.id == rule_id for one in self._table.list_rules()):
                    raise ConflictError(f"Rule {rule_id} is not in force any more; it was ended, or it expired.")
                raise UnknownError(f"There is no rule {rule_id[:80]!r}; look it up in /api/v1/detection/known-good.")
            ended = replace(rule, ended_at=now, ended_by=by, updated_at=now)
            self._keep_rule(ended, "end_known_good", by, before=rule)
        return ended

    def list_decisions(self) -> tuple[DetectionDecision, ...]:
        """Who changed what, newest first."""
        return self._table.list_decisions()

    def _keep_rule(self, rule: KnownGood, action: str, by: str, *, before: KnownGood | None) -> None:
        now = rule.updated_at
        decision = DetectionDecision(time=now, actor=by, action=action, subject=rule.id, note=rule.note)
        if before is None:
            entry = make_entry(now, by, "known-good.added", rule.id, why=rule.note, after=_show_rule(rule))
        else:
            entry = make_entry(now, by, "known-good.ended", rule.id, why=rule.note, before=_show_rule(before))
        self._table.write_decision(decision, entry, rule=rule)
        self._look()

    def _take_room(self, wanted: int) -> int:
        room = min(wanted, int(self._room.tokens))
        self._room.spend(room)
        self.unkept_count += wanted - room
        return room

    def _look(self) -> ChosenLevel | None:
        """Have the filter do what people decided; the level that somebody chose, if it still holds."""
        decided = self._table.read_decided()
        chosen = decided.level
        if chosen is not None and chosen.configured is not self._configured:
            chosen = None
        with self._lock:
            if decided is not self._decided:
                self._decided = decided
                self._filter.level = self._configured if chosen is None else chosen.level
                now = self._clock()
                self._filter.rules = {rule.id: rule for rule in decided.rules if rule.holds(now)}
        return chosen
