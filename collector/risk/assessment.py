"""Keeps the risk of every endpoint up to date: each minute it assesses those that were called since it last did.

An endpoint that nobody calls keeps its score. In a large installation, a pass assesses PASS_MAX endpoints, those that
waited longest first. How many still wait is a metric.
"""

import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from threading import Lock
from typing import Final

from collector.alerting.alert import Report
from collector.core.errors import ConflictError
from collector.core.limits import Limit
from collector.core.rows import Service
from collector.core.scope import EVERYTHING, use_scope
from collector.inventory.endpoints.endpoint import Endpoint
from collector.inventory.endpoints.endpoints import EndpointInventory
from collector.inventory.endpoints.hops import HOP_ROUTES
from collector.inventory.endpoints.operations import list_recent
from collector.inventory.endpoints.predicates import AUTHENTICATED, JUDGED, NAMES, counted_rows, span_parameters
from collector.inventory.mcp_states import find_answering
from collector.inventory.models.states import read_sums_of
from collector.inventory.query import MINUTE_SECONDS, Rollup, Since, Span, span_since
from collector.risk.finding import (
    SELF,
    Circumstances,
    Finding,
    FindingChange,
    FindingState,
    Past,
    Recent,
    Weights,
    advance,
    decide,
    expire,
    load_weights,
    open_finding,
)
from collector.risk.finding_query import FindingFilters
from collector.risk.formula import LEAST, find_alarms, score
from collector.risk.repository import RiskRecord, RiskTable, is_news, make_record, update_past
from collector.risk.rules import load_rules
from collector.risk.tls import NO_ENDPOINT, WeakTls, assess_services, choices_since_fixed, read_weak_tls
from collector.storage.base import Store
from collector.storage.records import select
from collector.storage.state.store import StateStore
from collector.trust.audit import make_entry
from common.figures import Figure, make_gauges, make_labelled, make_totals

# Assessed in one pass; 5,000 take some seconds.
PASS_MAX: Final = 5_000
# Measured by one statement.
CHUNK: Final = 500
RECENT_SECONDS: Final = 600
# An endpoint is assessed until so long after its last call: schemas, proofs and rows of busy nodes come later than it.
LATE_SECONDS: Final = 300
# What a person marked as fixed is assessed by calls since then, as long as minute rows are kept and so many a pass.
FIXED_LOOK_MAX: Final = 50
FIXED_SECONDS: Final = 86_400
# Alerts that one pass may open or keep open, worst first; the others are counted.
ALARMS_MAX: Final = 20
# Findings that one decision may be about; their endpoints are assessed at once, 5 ms each.
BULK_MAX: Final = 1_000
_RECENT = f"""
WITH {NAMES}
SELECT n.endpoint_id AS id, toUnixTimestamp(max(r.last_seen)) AS last_seen,
    sumIf(r.calls, {JUDGED}) AS judged, sumIf(r.calls, {AUTHENTICATED}) AS authenticated"""


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkDecision:
    """What a person says of many findings: those of `ids`, else those that `filters` match. `expected`: how many they
    were shown. `until` is unix seconds, 0: until the evidence grows."""

    state: FindingState
    note: str
    ids: tuple[str, ...] = ()
    filters: FindingFilters = field(default_factory=FindingFilters)
    expected: int | None = None
    until: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkDecided:
    """A decision that was written: its id undoes it. `unchanged` findings stayed as they were."""

    id: str
    decided: tuple[str, ...]
    unchanged: int


class RiskAssessor:
    """Thread-safe; `look` is called by one thread at a time."""

    def __init__(
        self,
        *,
        store: Store,
        state: StateStore,
        endpoints: EndpointInventory,
        clock: Callable[[], float],
        alarm: Callable[[Sequence[Report]], None],
        weights: Weights | None = None,
        observe: Callable[[Circumstances, Sequence[Finding]], None] = lambda _seen, _findings: None,
    ) -> None:
        """`alarm` takes reports for alerts; `observe` gets every endpoint as it was assessed."""
        self._store = store
        self.table = RiskTable(store, state)  # Where results are kept.
        self._endpoints = endpoints
        self._clock = clock
        self._alarm = alarm
        self._observe = observe
        self._weights = weights if weights is not None else load_weights()
        self._computed: dict[str, float] | None = None  # When each was assessed last.
        self._deciding = Lock()
        self.waiting_count = 0
        self.due_count = 0  # In the last pass.
        self.assessed_count = 0
        self.alarms_dropped_count = 0

    def figures(self) -> tuple[Figure, ...]:
        """For metrics. Raises StoreError."""
        levels, states = self.table.count_levels(), self.table.count_findings()
        text = "Alerts of risk that were not opened: too many at one look."
        by_level = ((level, levels.get(level, 0)) for level in (*self._weights.levels, LEAST))
        by_state = ((state.value, states.get(state, 0)) for state in FindingState)
        return (
            *make_totals([("risk_judged", "Endpoints whose risk was computed.", self.assessed_count)]),
            *make_totals([("risk_alarms_dropped", text, self.alarms_dropped_count)]),
            *make_gauges([("risk_waiting", "Endpoints that wait for their risk to be computed.", self.waiting_count)]),
            *make_labelled("risk_endpoints", "Endpoints by level of risk.", "level", by_level, is_total=False),
            *make_labelled("findings", "Findings of risk by state.", "state", by_state, is_total=False),
        )

    def start(self) -> None:
        """Forget what another process may have changed since."""
        self._computed = None

    def look(self) -> int:
        """One pass; gives how many endpoints were assessed. Blocks. Raises StoreError."""
        now = self._clock()
        if self._computed is None:
            self._refresh_records()
            self._computed = self.table.list_computed()
        recent = self._read_recent(now)
        computed = self._computed
        due = sorted(
            (name for name, (last_seen, _) in recent.items() if last_seen > computed.get(name, 0.0) - LATE_SECONDS),
            key=lambda name: (computed.get(name, 0.0), name),  # Neighbours together: so the store reads less.
        )
        taken, self.due_count = due[:PASS_MAX], len(due)
        self.waiting_count = len(due) - len(taken)
        reports: list[Report] = []
        weak = read_weak_tls(self._store, now)
        with self._deciding:
            self._assess_services(weak, now)
            self._reopen_expired(now)
        for start in range(0, len(taken), CHUNK):
            ids = taken[start : start + CHUNK]
            with self._deciding:
                reports += self._assess(ids, {name: recent[name][1] for name in ids}, weak, now)
        self.assessed_count += len(taken)
        reports.sort(key=lambda report: -report.score)
        self.alarms_dropped_count += max(0, len(reports) - ALARMS_MAX)
        if reports:
            self._alarm(reports[:ALARMS_MAX])
        return len(taken)

    def reassess(self, ids: Sequence[str]) -> None:
        """Some endpoints anew, though nobody called them since. Raises StoreError."""
        now = self._clock()
        weak = read_weak_tls(self._store, now)
        for start in range(0, min(len(ids), PASS_MAX), CHUNK):
            with self._deciding:
                self._assess(list(ids[start : start + CHUNK]), {}, weak, now)

    @property
    def limit(self) -> Limit:
        """Of endpoints that one pass assesses."""
        then = "The others wait for the next minute, those that waited longest first."
        return Limit(name="assessed_endpoints_a_minute", used=self.due_count, maximum=PASS_MAX, then=then)

    def decide(self, finding_id: str, state: FindingState, *, by: str, note: str, until: float = 0.0) -> Finding | None:
        """A person's word on a finding; its endpoint's score follows at once. Raises StoreError."""
        with self._deciding:
            known = self.table.get_finding(finding_id)
            if known is None:
                return None
            states = dict.fromkeys([known.id], state)
            self._save_decided([known], states, action=state, by=by, note=note, until=until)
            return self.table.get_finding(finding_id)

    def decide_all(self, wish: BulkDecision, *, by: str) -> BulkDecided:
        """A person's word on many findings. Those in that state already stay as they are. Raises StoreError,
        ConflictError where there are other or more findings than whoever decides was shown or may decide on."""
        with self._deciding:
            if wish.ids:
                found = self.table.get_findings(wish.ids)
            else:
                found = self.table.select_findings(wish.filters, BULK_MAX + 1)
            if len(found) > BULK_MAX:
                raise ConflictError(f"More than {BULK_MAX:,} findings match; narrow the filters.")
            if wish.expected is not None and wish.expected != len(found):
                raise ConflictError(f"{len(found):,} findings match, not {wish.expected:,}; look at them again.")
            open_to_it = [one for one in found if one.state is not wish.state]
            states = dict.fromkeys((one.id for one in open_to_it), wish.state)
            decision_id = self._save_decided(
                open_to_it, states, action=wish.state, by=by, note=wish.note, until=wish.until
            )
            return BulkDecided(id=decision_id, decided=tuple(states), unchanged=len(found) - len(open_to_it))

    def undo(self, decision_id: str, *, by: str) -> BulkDecided | None:
        """Each finding of a decision gets the state from before it, unless something else was decided since; None where
        there was no such decision. Raises StoreError."""
        with self._deciding:
            decided = self.table.list_decided(decision_id)
            if not decided:
                return None
            found = self.table.get_findings(list(decided))
            still = [one for one in found if one.changed_at == decided[one.id][0].time]
            states = {one.id: decided[one.id][1] for one in still}
            note = f"Undone: {next(iter(decided.values()))[0].note}"
            undone = self._save_decided(still, states, action="undone", by=by, note=note, until=0.0)
            return BulkDecided(id=undone, decided=tuple(states), unchanged=len(decided) - len(still))

    def _save_decided(
        self,
        findings: Sequence[Finding],
        states: Mapping[str, FindingState],
        *,
        action: str,
        by: str,
        note: str,
        until: float,
    ) -> str:
        """Writes a decision on findings, by the lock's holder; gives its id."""
        now, decision_id = self._clock(), uuid.uuid4().hex[:16]
        changed = [decide(one, states[one.id], by, note, now, until=until) for one in findings]
        target = changed[0].id if len(changed) == 1 else decision_id
        before, after = _count_states(findings), _count_states(changed) | {"until": until, "decision": decision_id}
        entry = make_entry(now, by, f"finding.{action}", target, why=note, before=before, after=after)
        changes = [replace(_record_change(one), decision_id=decision_id) for one in changed]
        self.table.save([], changed, changes, decided=[entry])
        endpoints = sorted({one.endpoint_id for one in changed} - {NO_ENDPOINT})
        with use_scope(EVERYTHING):  # Whoever decides sees a part, and the score is for all.
            weak = read_weak_tls(self._store, now) if endpoints else {}
            for start in range(0, len(endpoints), CHUNK):
                self._assess(endpoints[start : start + CHUNK], {}, weak, now)
        return decision_id

    def _reopen_expired(self, now: float) -> None:
        """Decisions whose time is over, also of endpoints that nobody calls."""
        opened = [expire(one, now) for one in self.table.list_expired(now, BULK_MAX)]
        if opened:
            self.table.save([], opened, [_record_change(one) for one in opened])
            self.table.refresh_records(sorted({one.endpoint_id for one in opened} - {NO_ENDPOINT}))

    def _refresh_records(self) -> None:
        """Of an earlier version, or where a process ended between two writes."""
        stale = self.table.list_stale()
        for start in range(0, len(stale), CHUNK):
            with self._deciding:
                self.table.refresh_records(stale[start : start + CHUNK])

    def _read_recent(self, now: float) -> dict[str, tuple[int, Recent]]:
        """Last call and recent credentials of every endpoint that was called lately."""
        start = (int(now) - RECENT_SECONDS) // MINUTE_SECONDS * MINUTE_SECONDS
        span = Span(start=start, end=int(now) + MINUTE_SECONDS, rollup=Rollup.MINUTE)
        counted = f"{counted_rows(span)} AND r.route_id NOT IN ({HOP_ROUTES})"
        rows = select(self._store, f"{_RECENT}{counted}\nGROUP BY n.endpoint_id", span_parameters(span))
        recent = {
            row["id"]: (
                int(row["last_seen"]),
                Recent(visible=int(row["judged"]), authenticated=int(row["authenticated"])),
            )
            for row in rows
        }
        # What operations had lately is not distinguished from what they had before.
        return recent | {name: (last, Recent()) for name, last in list_recent(self._store, start).items()}

    def _assess_services(self, weak: Mapping[Service, WeakTls], now: float) -> None:
        """The findings on services that nobody can read."""
        known = self.table.read_findings([NO_ENDPOINT]).get(NO_ENDPOINT, [])
        changed = assess_services(known, weak, [rule for rule, _ in load_rules()], now)
        if changed:
            self.table.save([], changed, [_record_change(one) for one in changed if one.changed_at == now])

    def _assess(
        self, ids: Sequence[str], recent: Mapping[str, Recent], weak: Mapping[Service, WeakTls], now: float
    ) -> list[Report]:
        """Assess some endpoints and keep the results; gives what is worth an alert."""
        assert self._computed is not None or not recent
        span = span_since(Since.DAY, now)
        measured = self._endpoints.measure(list(ids), span)
        before, findings = self.table.read_pasts(ids), self.table.read_findings(ids)
        servers = find_answering(self._store, ids)
        model_uses = read_sums_of(self._store, ids, span)
        records: list[RiskRecord] = []
        pasts: list[RiskRecord] = []
        changed: list[Finding] = []
        changes: list[FindingChange] = []
        reports: list[Report] = []
        since_fixed = self._measure_since_fixed(findings, now)
        for name, endpoint in measured.items():
            known = before.get(name, Past())
            if self._computed is not None and name in self._computed:
                known = replace(known, computed_at=self._computed[name])  # It is not written at each look.
            past = update_past(known, endpoint, recent.get(name, Recent()), now)
            seen = Circumstances(
                endpoint=endpoint,
                past=past,
                recent=recent.get(name, Recent()),
                now=now,
                seconds=span.seconds,
                weak_tls=heard.choices if (heard := weak.get(endpoint.service)) is not None else (),
                is_mcp_server=name in servers,
                model_uses=model_uses.get(name, ()),
            )
            present, news = self._find(seen, findings.get(name, []), since_fixed)
            changed += news
            changes += [_record_change(one) for one in news if one.changed_at == now]
            risk = score(seen, present, self._weights)
            records.append(make_record(endpoint, past, risk, present, now))
            if is_news(records[-1], before.get(name)):
                pasts.append(records[-1])
            if endpoint.operation is None:  # Who reads of an open path need not read of each of its operations.
                reports += find_alarms(seen, risk, present, self._weights)
                self._observe(seen, present)
            if self._computed is not None:
                self._computed[name] = now
        self.table.save(records, changed, changes, pasts)
        return reports

    def _find(
        self, seen: Circumstances, known: Sequence[Finding], since_fixed: Mapping[str, Endpoint | None]
    ) -> tuple[list[Finding], list[Finding]]:
        """The findings of an endpoint as they are now, and those of them that are to be written."""
        by_rule = {one.rule: one for one in known}
        present: list[Finding] = []
        news: list[Finding] = []
        for rule, find in load_rules():
            if seen.endpoint.operation is not None and not rule.is_of_operation:
                continue
            old = by_rule.get(rule.id)
            current = seen
            if old is not None and old.id in since_fixed:
                endpoint = since_fixed[old.id]
                if endpoint is None:  # Not called since.
                    present.append(old)
                    continue
                current = replace(seen, endpoint=endpoint, weak_tls=choices_since_fixed(seen.weak_tls, old))
            evidence = find(current)
            fresh = open_finding(rule, evidence, seen.endpoint, seen.now) if evidence is not None else None
            advanced = advance(old, fresh, seen.now)
            if advanced is not None:
                present.append(advanced)
                if advanced is not old:
                    news.append(advanced)
        return present, news

    def _measure_since_fixed(self, findings: Mapping[str, Sequence[Finding]], now: float) -> dict[str, Endpoint | None]:
        """Of what a person marked as fixed within the span: the figures of the endpoint since then, by finding."""
        fixed = [
            one
            for several in findings.values()
            for one in several
            if one.state is FindingState.FIXED and one.changed_by != SELF and now - one.changed_at < FIXED_SECONDS
        ]
        found: dict[str, Endpoint | None] = {}
        for number, one in enumerate(sorted(fixed, key=lambda finding: finding.id)):
            if number >= FIXED_LOOK_MAX:
                found[one.id] = None  # Next time.
                continue
            start = (int(one.changed_at) // MINUTE_SECONDS + 1) * MINUTE_SECONDS
            span = Span(start=start, end=int(now) + MINUTE_SECONDS, rollup=Rollup.MINUTE)
            found[one.id] = self._endpoints.measure([one.endpoint_id], span).get(one.endpoint_id)
        return found


def _count_states(findings: Sequence[Finding]) -> dict[str, object]:
    """How many findings are in which state, and which those are, as far as an entry of the audit log has room."""
    states: dict[str, object] = dict(Counter(one.state.value for one in findings))
    return states | {"findings": [one.id for one in findings]}


def _record_change(finding: Finding) -> FindingChange:
    return FindingChange(
        finding_id=finding.id,
        time=finding.changed_at,
        state=finding.state,
        actor=finding.changed_by,
        note=finding.note,
    )
