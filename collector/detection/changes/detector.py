"""Watches for changes: takes what the risk job saw, keeps in the state what exists, and reports what is new.

A restart neither repeats nor forgets. What was reported is a fact in the state, and the facts of a look are written
after its reports are taken. If the collector ends between the two, the same reports are made again, and the alert
lifecycle recognises their subjects.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from threading import Lock
from typing import Any, Final

from sqlalchemy import Connection, Select, delete, or_, select

from collector.alerting.alert import Report, Severity
from collector.alerting.pending import Write
from collector.detection.changes.rules import (
    CONSUMERS_MAX,
    DAY_SECONDS,
    LEARNING_SECONDS,
    OPEN,
    REFRESH_SECONDS,
    Baseline,
    Caller,
    Fact,
    FactKind,
    SeenEndpoint,
    StoredCallers,
    find_endpoint_changes,
    find_new_consumers,
    find_new_hosts,
    read_endpoint,
)
from collector.detection.changes.wording import (
    report_consumer,
    report_data,
    report_endpoints,
    report_hosts,
    report_login,
)
from collector.risk.finding import Circumstances, Finding
from collector.storage.records import read_record
from collector.storage.state.imports import OldRows
from collector.storage.state.store import StateStore, read_row, upsert
from collector.storage.state.tables.changes import CHANGE_FACTS
from common.figures import Figure, make_gauges, make_totals

TOLD_MAX: Final = 5_000  # Facts of one day that alerts are made of.
_KEPT_SECONDS: Final = 180 * DAY_SECONDS  # After it was seen last; long past the rows of calls.


class FactTable:
    """What is known to exist, in the state. Methods raise StoreError."""

    def __init__(self, state: StateStore) -> None:
        self._state = state
        self._write: Write = state.write

    def write_by(self, write: Write) -> None:
        """Write by these transactions from here on: those of the holder of a lease."""
        self._write = write

    def read(self, subjects: Sequence[str]) -> list[Fact]:
        """All facts of these subjects."""
        return self._select(select(CHANGE_FACTS).where(CHANGE_FACTS.c.subject.in_(subjects))) if subjects else []

    def read_told(self, kind: FactKind, scopes: Sequence[str], since: float) -> list[Fact]:
        """What was reported after `since`, oldest first."""
        if not scopes:
            return []
        facts = CHANGE_FACTS.c
        told = select(CHANGE_FACTS).where(facts.kind == kind, facts.told_at > since, facts.scope.in_(scopes))
        return self._select(told.order_by(facts.told_at, facts.first_seen, facts.subject, facts.detail).limit(TOLD_MAX))

    def save(self, facts: Sequence[Fact], gone: Sequence[Fact] = ()) -> None:
        """Keep facts as they are now, without those that are gone."""
        columns = CHANGE_FACTS.c
        with self._write() as connection:
            for fact in gone:
                own = columns.kind == fact.kind, columns.subject == fact.subject, columns.detail == fact.detail
                connection.execute(delete(CHANGE_FACTS).where(*own))
            save_facts(connection, facts)

    def expire(self, now: float) -> None:
        """Delete what was not seen for long."""
        with self._write() as connection:
            connection.execute(delete(CHANGE_FACTS).where(CHANGE_FACTS.c.seen_at < now - _KEPT_SECONDS))

    def erase(self, consumer: str) -> dict[str, int]:
        """Delete what is of a consumer; rows by table."""
        is_own = or_(CHANGE_FACTS.c.detail == consumer, CHANGE_FACTS.c.subject == consumer)
        with self._write() as connection:
            return {CHANGE_FACTS.name: connection.execute(delete(CHANGE_FACTS).where(is_own)).rowcount}

    def _select(self, statement: Select[Any]) -> list[Fact]:
        with self._state.read() as connection:
            return [read_row(Fact, row) for row in connection.execute(statement)]


def save_facts(connection: Connection, facts: Sequence[Fact]) -> None:
    """The newest of each subject, kind and detail."""
    upsert(connection, CHANGE_FACTS, [asdict(fact) for fact in facts])


def import_facts(connection: Connection, rows: OldRows) -> None:
    """Those that an earlier version kept in ClickHouse. Raises StoreError."""
    for facts in rows.read("change_facts", lambda row: read_record(Fact, row)):
        save_facts(connection, facts)


ENDPOINTS_MAX: Final = 10_000  # That wait for a look; further ones are counted.
ASKED_MAX: Final = 200  # Endpoints of which one look asks who called.
ASK_SECONDS: Final = 600.0  # How often that is asked of one.
REPORTS_MAX: Final = 20  # Of one look, gravest first; further ones are counted.
_SUBJECTS: Final = 1_000  # Of one statement.
_GRAVITY: Final = {Severity.HIGH: 0, Severity.MEDIUM: 1, Severity.LOW: 2}


@dataclass(slots=True)
class _Look:
    """One look as it goes: facts to keep, and those of them that are news."""

    now: float
    is_learning: bool
    known: Baseline
    observed: dict[str, SeenEndpoint]
    facts: list[Fact] = field(default_factory=list)
    news: dict[tuple[FactKind, str], list[Fact]] = field(default_factory=lambda: defaultdict(list))

    def add(self, facts: Iterable[Fact]) -> None:
        for fact in facts:
            self.known.add(fact)
            if fact.told_at == self.now:
                self.news[fact.kind, fact.scope].append(fact)
            else:
                self.facts.append(fact)


class ChangeDetector:
    """`note` may be called by any thread, `look` by one at a time."""

    def __init__(
        self,
        *,
        facts: FactTable,
        callers: StoredCallers,
        clock: Callable[[], float],
        report: Callable[[Sequence[Report]], None],
    ) -> None:
        """`clock`: unix seconds; `report` takes reports for the alerts."""
        self._facts, self._callers = facts, callers
        self._clock, self._send = clock, report
        self._lock = Lock()
        self._seen: dict[str, SeenEndpoint] = {}
        self._asking: dict[str, SeenEndpoint] = {}  # Of which it is still to be asked who called.
        self._asked_at: dict[str, float] = {}
        self.dropped_count = 0  # Endpoints not looked at and reports not told, for there were too many.

    def note(self, seen: Circumstances, findings: Sequence[Finding]) -> None:
        """An endpoint as the risk job assessed it; the newest holds."""
        self.note_endpoint(read_endpoint(seen, findings))

    def note_endpoint(self, seen: SeenEndpoint) -> None:
        """The same as it is judged here."""
        with self._lock:
            if seen.id in self._seen or len(self._seen) < ENDPOINTS_MAX:
                self._seen[seen.id] = seen
            else:
                self.dropped_count += 1

    def figures(self) -> tuple[Figure, ...]:
        """For metrics."""
        waiting = ("changes_waiting", "Endpoints of which it is still to be asked who called.", len(self._asking))
        text = "Endpoints not looked at for changes, and changes not reported: there were too many."
        return (*make_gauges([waiting]), *make_totals([("changes_dropped", text, self.dropped_count)]))

    def look(self) -> int:
        """Judge what was seen since; gives how many reports were told. Blocks. Raises StoreError, and what was seen is
        judged at the next look then."""
        now = self._clock()
        with self._lock:
            observed = dict(self._seen)
        look = _Look(now, self._is_learning(now), Baseline(), dict(observed))
        self._read(look, {name for one in observed.values() for name in (one.id, one.scope)})
        for seen in observed.values():
            look.add(find_endpoint_changes(seen, look.known, now, is_learning=look.is_learning))
            self._plan_question(look, seen)
        look.observed |= self._asking
        asked = self._ask(look)
        reports = sorted(self._report(look), key=lambda report: _GRAVITY[report.severity])
        self.dropped_count += max(0, len(reports) - REPORTS_MAX)
        if reports:
            self._send(reports[:REPORTS_MAX])
        if look.facts:
            self._facts.save(look.facts)
        self._forget(observed, asked, now)
        return len(reports[:REPORTS_MAX])

    def _is_learning(self, now: float) -> bool:
        start = next(iter(self._facts.read([""])), None)
        if start is None:
            start = Fact(kind=FactKind.START, subject="", first_seen=now, seen_at=now)
            self._facts.save([start])
        elif now - start.seen_at >= REFRESH_SECONDS:
            start = replace(start, seen_at=now)
            self._facts.save([start])
        return now - start.first_seen < LEARNING_SECONDS

    def _read(self, look: _Look, subjects: Iterable[str]) -> None:
        wanted = sorted(subjects)
        for start in range(0, len(wanted), _SUBJECTS):
            for fact in self._facts.read(wanted[start : start + _SUBJECTS]):
                look.known.add(fact)

    def _plan_question(self, look: _Look, seen: SeenEndpoint) -> None:
        """Whether it matters who calls: servers of others, and sensitive data that few read."""
        if not seen.is_third_party and not seen.classes:
            return
        is_open = seen.consumers > CONSUMERS_MAX or OPEN in look.known.of(FactKind.CONSUMER, seen.id)
        if is_open and not seen.is_third_party:
            look.add(find_new_consumers(seen, (), look.known, look.now, is_learning=look.is_learning))
        elif seen.id in self._asking or len(self._asking) < ENDPOINTS_MAX:
            self._asking[seen.id] = seen
        else:
            self.dropped_count += 1

    def _ask(self, look: _Look) -> list[str]:
        """Who called: of those that wait, the first that were not asked about lately."""
        due = [
            one for one in self._asking.values() if look.now - self._asked_at.get(one.id, -ASK_SECONDS) >= ASK_SECONDS
        ][:ASKED_MAX]
        ours, others = [one for one in due if not one.is_third_party], [one for one in due if one.is_third_party]
        self._read(look, {one.id for one in ours})
        by_endpoint: dict[str, list[Caller]] = defaultdict(list)
        for caller in self._callers.read_consumers([one.id for one in ours], look.now, CONSUMERS_MAX + 1):
            by_endpoint[caller.endpoint_id].append(caller)
        for seen in ours:
            found = by_endpoint[seen.id]
            look.add(find_new_consumers(seen, found, look.known, look.now, is_learning=look.is_learning))
        self._ask_outbound(look, others)
        return [one.id for one in due]

    def _ask_outbound(self, look: _Look, others: Sequence[SeenEndpoint]) -> None:
        by_workload: dict[str, list[SeenEndpoint]] = defaultdict(list)
        for caller in self._callers.read_workloads([one.id for one in others], look.now, CONSUMERS_MAX * 10):
            by_workload[caller.name].append(look.observed[caller.endpoint_id])
        self._read(look, by_workload)
        services = self._callers.find_services(sorted(by_workload))
        for workload, hosts in sorted(by_workload.items()):
            base = float(services.get(workload, look.now))
            look.add(find_new_hosts(workload, hosts, base, look.known, look.now, is_learning=look.is_learning))

    def _report(self, look: _Look) -> list[Report]:
        """Of what is news; its facts get the anchor of their alert."""
        reports: list[Report] = []
        for kind in (FactKind.ENDPOINT, FactKind.DATA, FactKind.OUTBOUND):
            scopes = [scope for found, scope in look.news if found is kind]
            told: dict[str, list[Fact]] = defaultdict(list)
            for fact in self._facts.read_told(kind, scopes, look.now - DAY_SECONDS) if scopes else ():
                told[fact.scope].append(fact)
            for scope in scopes:
                before = _find_group(told[scope])
                fresh = sorted(look.news[kind, scope], key=lambda fact: (fact.first_seen, fact.subject, fact.detail))
                anchor = before[0].anchor if before else _name_anchor(fresh[0])
                fresh = [replace(fact, anchor=anchor) for fact in fresh]
                look.facts += fresh
                reports.append(_write(look, kind, [*before, *fresh]))
        for (kind, _), facts in look.news.items():
            if kind not in (FactKind.LOGIN, FactKind.CONSUMER):
                continue
            look.facts += facts
            reports += [_write(look, kind, [fact]) for fact in facts]
        return reports

    def _forget(self, observed: Mapping[str, SeenEndpoint], asked: Sequence[str], now: float) -> None:
        with self._lock:
            for name, seen in observed.items():
                if self._seen.get(name) is seen:
                    del self._seen[name]
        for name in asked:
            del self._asking[name]
        self._asked_at = {name: at for name, at in self._asked_at.items() if now - at < ASK_SECONDS}
        self._asked_at |= dict.fromkeys(asked, now)


def _name_anchor(fact: Fact) -> str:
    return fact.detail if fact.kind is FactKind.OUTBOUND else fact.subject


def _find_group(told: Sequence[Fact]) -> list[Fact]:
    """What the newest alert of the last day tells of that began within it: a day's news are one alert."""
    began = [fact.anchor for fact in told if _name_anchor(fact) == fact.anchor]
    return [fact for fact in told if fact.anchor == began[-1]] if began else []


def _write(look: _Look, kind: FactKind, facts: Sequence[Fact]) -> Report:
    if kind is FactKind.ENDPOINT:
        service = look.known.find(FactKind.SERVICE, facts[0].scope)
        since = service.first_seen if service is not None else look.now
        return report_endpoints(facts, look.observed, since, look.now)
    if kind is FactKind.DATA:
        return report_data(facts, look.now)
    if kind is FactKind.OUTBOUND:
        return report_hosts(facts, look.now)
    seen = look.observed[facts[0].subject]
    if kind is FactKind.LOGIN:
        return report_login(seen, look.now)
    known = look.known.of(FactKind.CONSUMER, seen.id)
    count = sum(not fact.told_at for name, fact in known.items() if name != OPEN)
    return report_consumer(facts[0], seen, count, look.now)
