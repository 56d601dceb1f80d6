"""The alert service: the one thread-safe place where reports arrive and people's decisions are made.

It writes every change to the state before it returns, and queues it for the notifiers. Of several processes the holder
of the lease `jobs` does this. What it knows is in the state, so another one takes over with `restore`. Signals and
reports of other processes wait in the state (collector/alerting/pending.py).
"""

import logging
import re
import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import groupby
from types import NoneType
from typing import Any, Unpack

from collector.alerting.alert import (
    NOWHERE,
    Alert,
    AlertKind,
    AlertState,
    Place,
    Report,
    Severity,
    Signal,
    Verdict,
    VerdictReach,
)
from collector.alerting.detection import Detection
from collector.alerting.filter import ReportOutcome
from collector.alerting.lifecycle import (
    BUDGET_SECONDS_MAX,
    FLAP_SECONDS,
    Happening,
    Incident,
    IncidentEntry,
    Lifecycle,
    write_entry,
)
from collector.alerting.notifiers.outbox import is_named
from collector.alerting.pending import TAKEN_MAX, Pending, PendingReports, Settled, WriteAlso
from collector.alerting.repository import AlertFilters, AlertPlace, AlertTable
from collector.alerting.silences import ShownAlert, Silence, SilenceKind, Silences, describe_rule, show_alert
from collector.alerting.wording import report_signal
from collector.core.errors import ConflictError
from collector.core.feature import Feature, Job, Role
from collector.core.scope import EVERYTHING, find_scope, use_scope
from collector.storage.base import StoreError
from collector.trust.audit import make_entry
from common.figures import make_totals

logger = logging.getLogger(__name__)

_UNWRITTEN_MAX = 10_000  # Entries of timelines that wait for a store that is away; the oldest go.


class AlertService:
    """What the API and the page use, and where reports arrive. Writes before it returns; raises StoreError."""

    def __init__(
        self,
        *,
        table: AlertTable,
        lifecycle: Lifecycle,
        clock: Callable[[], float],
        notify: Callable[[Alert], None],
        prepare: Callable[[Sequence[Alert]], WriteAlso] = lambda alerts: lambda connection: None,
        expect: Callable[[Alert], None],
        detection: Detection,
        name_holder: Callable[[Report], Report] = lambda report: report,
        find_place: Callable[[str, Sequence[int]], Place] = lambda endpoint_id, route_ids: NOWHERE,
        find_label: Callable[[str], str] = lambda consumer: "",
        pending: PendingReports | None = None,
    ) -> None:
        """`name_holder` says who held an address that a report accuses; `find_place` where an endpoint is served;
        `find_label` what people call a consumer. `detection` filters what detectors report. `prepare` gives what lets
        alerts wait for the notifiers, in the transaction that keeps them, and `notify` is called with each after it;
        `expect` gives an alert to the detectors. None of these blocks for long. `pending` has what other threads and
        processes found. `clock`: unix seconds."""
        self._table = table
        self._lifecycle = lifecycle
        self._clock = clock
        self._notify = notify
        self._prepare = prepare
        self._expect = expect
        self._detection = detection
        self._name_holder = name_holder
        self._find_place = find_place
        self._find_label = find_label
        self._lock = threading.RLock()
        self._silences = Silences()
        # What the store did not take, which goes with the next.
        self._unsaved: dict[str, Alert] = {}
        self._unwritten: list[IncidentEntry] = []
        self._pending = pending
        self._taken: set[int] = set()  # Numbers of pending reports that are in alerts, and not deleted yet.
        self._pending_writes = -1
        self._is_begun = False  # As the holder of the lease.
        self._loaded_writes = -1

    @property
    def suppressed_count(self) -> int:
        """Alerts held back by the daily budget."""
        return self._lifecycle.suppressed_count

    @property
    def feature(self) -> Feature:
        """What the collector starts and shows."""
        text = "Alerts beyond the budget of alerts a day that were not opened."
        return Feature(
            name="alerts",
            role=Role.JOBS,
            start=self.restore,
            jobs=(Job(works=(self.look,)),),
            figures=lambda: make_totals([("alerts_suppressed", text, self.suppressed_count)]),
        )

    def restore(self) -> None:
        """Take over from the state: open and recent alerts, silences, rules, verdicts. What an earlier holder of the
        lease had in memory alone is in no alert, and comes again."""
        with self._lock:
            self._table.begin()  # First: what the previous holder still writes is there then, or is refused.
            self._is_begun = True
            self._unsaved, self._unwritten, self._taken, self._pending_writes = {}, [], set(), -1
            self._load()
        self._detection.restore(self._table.list_with_verdict())

    def _load(self) -> None:
        now = self._clock()
        since = now - max(BUDGET_SECONDS_MAX, FLAP_SECONDS)
        with use_scope(EVERYTHING):
            self._silences.restore(self._table.list_silences(now))
            self._lifecycle.restore(self._table.list_restorable(since))

    def _catch_up(self) -> None:
        """In a process that does not make alerts: know what the holder of the lease wrote."""
        if self._is_begun:
            return
        writes = self._table.count_writes()
        with self._lock:
            if writes != self._loaded_writes and not self._is_begun:
                self._load()
                self._loaded_writes = writes

    def look(self) -> None:
        """Take what other processes found, where there is something new, and add the services of new alerts."""
        self._add_places()
        if self._pending is None:
            return
        writes = self._pending.count_writes()
        if writes != self._pending_writes:
            self.take_pending()
            self._pending_writes = writes

    def _add_places(self) -> None:
        """Add where new alerts are, of calls that were reported before their endpoints were in the tables. Nobody is
        notified of that."""
        with self._lock:
            now = self._clock()
            placed = self._lifecycle.place(self._find_place, now)
            if placed:
                self._keep(placed, now, quiet={alert.id for alert in placed} - set(self._unsaved))

    def take_pending(self) -> None:
        """Make alerts of all signals and reports that wait, in their order."""
        while self._pending is not None:
            with self._lock:
                rows = [row for row in self._pending.list() if row.number not in self._taken]
                for kind, group in groupby(rows, lambda row: type(row.content)):
                    self._take_rows(kind, list(group))
                self._keep([], self._clock())
            if len(rows) < TAKEN_MAX:
                return

    def _take_rows(self, kind: type, rows: Sequence[Pending]) -> None:
        """Rows of one kind, with the lock held."""
        contents: list[Any] = [row.content for row in rows]
        numbers = {row.number for row in rows}
        try:
            if kind is Report:
                self._take(contents, numbers)
            elif kind is Settled:
                self._taken |= numbers
                for one in contents:
                    self.settle(one.kind, one.node)
            elif kind is not NoneType:
                self._take_signals(contents, numbers)
            else:
                self._taken |= numbers
                logger.error("%d reports of another version cannot be read; no alert is made of them.", len(rows))
        except StoreError:
            raise
        except Exception:  # A fault of ours: it would fail again.
            self._taken |= numbers
            logger.exception("No alert could be made of %d reports", len(rows))

    def take_signals(self, signals: Sequence[Signal]) -> None:
        """Signals of the detectors, in order: what the level, known good and verdicts leave of them."""
        self._take_signals(signals)

    def _take_signals(self, signals: Sequence[Signal], numbers: Collection[int] = ()) -> None:
        self.take_found(
            [report_signal(signal, self._find_place(signal.endpoint_id, signal.route_ids)) for signal in signals],
            numbers,
        )

    def take_found(self, reports: Sequence[Report], numbers: Collection[int] = ()) -> None:
        """The same of what was found elsewhere than in the detectors' process. `numbers` are those that they had while
        they were pending."""
        placed = [self._place(report) for report in reports]
        with self._lock:
            filtered = self._detection.filter_reports(placed, self._lifecycle.is_open)
        self._take([self._name_holder(one.report) for one in filtered if one.outcome is ReportOutcome.SENT], numbers)

    def _place(self, report: Report) -> Report:
        """With where its endpoint is served, unless it says so."""
        if report.service or not report.endpoint_id:
            return report
        return replace(report, **asdict(self._find_place(report.endpoint_id, report.route_ids)))

    def take_reports(self, reports: Sequence[Report]) -> None:
        """Reports of anyone, in order; also closes what is calm."""
        self._take(reports)

    def _take(self, reports: Sequence[Report], numbers: Collection[int] = ()) -> None:
        with self._lock:
            self._taken |= set(numbers)
            now = self._clock()
            taken = [report for report in reports if not self._is_expected(report, now)]
            changed = [self._lifecycle.take(report, now) for report in taken]
            self._keep([alert for alert in changed if alert is not None] + self._lifecycle.advance(now), now)

    def erase(self, pattern: re.Pattern[str]) -> int:
        """Forget all that names a consumer by this pattern, how many open and recent alerts that were; the tables are
        another's."""
        self.take_pending()
        with self._lock:
            count = self._lifecycle.erase(pattern)
            self._silences.erase(pattern)
            self._unsaved = {one: alert for one, alert in self._unsaved.items() if not is_named(alert, pattern)}
            self._unwritten = [one for one in self._unwritten if not pattern.search(f"{one.title} {one.why}")]
        self._detection.erase(pattern)
        return count

    def settle(self, kind: AlertKind, node: str) -> None:
        """A sensor healed: close its alert."""
        with self._lock:
            now = self._clock()
            alert = self._lifecycle.settle(kind, node, now)
            self._keep([alert] if alert is not None else [], now)

    def list_alerts(
        self, *, limit: int, after: AlertPlace | None = None, **asked: Unpack[AlertFilters]
    ) -> Sequence[ShownAlert]:
        """At most `limit` alerts, newest first unless another order is asked for."""
        return self._show(self._table.list(limit=limit, after=after, silenced=self._list_silenced(), **asked))

    def count_alerts(self, **asked: Unpack[AlertFilters]) -> Mapping[tuple[AlertState, Severity], int]:
        """How many alerts there are, by state and severity."""
        return self._table.count(silenced=self._list_silenced(), **asked)

    def count_open(self) -> Mapping[Severity, int]:
        """Alerts that are open and not silenced, by severity."""
        if not find_scope().is_all:
            found = self.count_alerts(state=AlertState.OPEN)
            return Counter({severity: count for (_, severity), count in found.items()})
        self._catch_up()
        now = self._clock()
        with self._lock:
            shown = [alert for alert in self._lifecycle.open_alerts if self._find_silence(alert, now) is None]
        return Counter(alert.severity for alert in shown)

    def get_alert(self, alert_id: str) -> ShownAlert | None:
        """One alert."""
        alert = self._table.get(alert_id)
        return self._show([alert])[0] if alert is not None else None

    def list_incidents(self, *, state: AlertState | None, limit: int, after: AlertPlace | None) -> Sequence[Incident]:
        """At most `limit` incidents by (opened_at, id) descending."""
        return self._table.list_incidents(state=state, limit=limit, after=after, silenced=self._list_silenced())

    def get_incident(self, incident_id: str) -> Incident | None:
        """One incident."""
        return self._table.get_incident(incident_id, silenced=self._list_silenced())

    def list_entries(self, incident_id: str) -> Sequence[IncidentEntry]:
        """The timeline of an incident, oldest first."""
        return self._table.list_entries(incident_id)

    def list_incident_alerts(self, incident_id: str) -> Sequence[ShownAlert]:
        """Its alerts, newest first."""
        return self._show(self._table.list_incident_alerts(incident_id))

    def acknowledge(self, alert_id: str, *, by: str) -> ShownAlert | None:
        """Someone looks into it."""
        now = self._clock()
        return self._decide(alert_id, Happening.ACKNOWLEDGED, by, {"acknowledged_by": by, "acknowledged_at": now})

    def mute(self, alert_id: str, *, by: str, until: float, reason: str = "") -> ShownAlert | None:
        """Notify nobody of its subject until a time; it is still recorded."""
        return self._silence(alert_id, SilenceKind.MUTED, by=by, until=until, reason=reason)

    def mark_expected(self, alert_id: str, *, by: str, reason: str = "") -> ShownAlert | None:
        """This is how it should be: the detectors learn it, and the subject raises nothing more until it is undone."""
        alert = self._silence(alert_id, SilenceKind.EXPECTED, by=by, until=None, reason=reason)
        if alert is not None:
            self._expect(alert)
        return alert

    def unsilence(self, alert_id: str, *, by: str) -> ShownAlert | None:
        """Undo what silences its subject. Raises ConflictError where nothing does, or a known-good rule."""
        with self._lock:
            alert = self._find_own(alert_id)
            if alert is None:
                return None
            now = self._clock()
            silence = self._find_silence(alert, now) or self._silences.find_made_on(alert_id, now)
            if silence is None:
                raise ConflictError(f"Alert {alert_id} is not silenced; there is nothing to undo.")
            if silence.rule_id:
                raise ConflictError(
                    f"Alert {alert_id} is silenced by the known-good rule {silence.rule_id}; end that rule instead."
                )
            happening = Happening.UNMUTED if silence.kind is SilenceKind.MUTED else Happening.UNEXPECTED
            self._record(alert, happening, by, now, before=_show_silence(silence), lifted=silence.subject)
            self._silences.lift(silence.subject)
            return self._show_one(alert, now)

    def give_verdict(self, alert_id: str, *, by: str, verdict: Verdict, note: str = "") -> ShownAlert | None:
        """Somebody found out what it was, or takes that back. Raises ConflictError where that holds for others, whom
        they do not see."""
        at = self._clock() if verdict else None
        change: dict[str, object] = {"verdict": verdict, "verdict_at": at, "verdict_by": by if verdict else ""}
        change["verdict_reach"] = _find_reach() if verdict else VerdictReach.EVERYWHERE
        # What detection makes of it in one step with it: verdicts take effect in the order in which they are kept.
        with self._lock:
            found, scope = self._find(alert_id), find_scope()
            is_wide = found is not None and found.verdict and found.verdict_reach is VerdictReach.EVERYWHERE
            if found is not None and is_wide and not scope.is_all:
                raise ConflictError(
                    f"Alert {alert_id} has the verdict {found.verdict} by {found.verdict_by}, which holds everywhere, "
                    f"and you see only {scope.word()}; ask somebody who sees everything."
                )
            alert = self._decide(alert_id, Happening(verdict.value or "no_verdict"), by, change, note)
            if alert is not None and verdict:
                self._detection.note_verdict(alert)
            elif alert is not None:
                with use_scope(EVERYTHING):
                    self._detection.restore_verdicts(self._table.list_with_verdict())
            return alert

    def _find_own(self, alert_id: str) -> Alert | None:
        """An alert whose subject whoever asks may silence, and have raise alerts again. Raises ConflictError where it
        is of parts that they do not see: what somebody does at no endpoint in particular."""
        alert, scope = self._find(alert_id), find_scope()
        if alert is not None and not scope.is_all and not alert.is_within_endpoint:
            raise ConflictError(
                f"Alert {alert_id} is about {alert.consumer} wherever it calls, and you see only {scope.word()}; give "
                "a verdict, or ask somebody who sees everything."
            )
        return alert

    def _find(self, alert_id: str) -> Alert | None:
        found = self._table.get(alert_id)  # Where it is in the scope of whoever asks.
        return self._unsaved.get(alert_id, found) if found is not None or find_scope().is_all else None

    def _decide(
        self, alert_id: str, happening: Happening, by: str, change: Mapping[str, object], reason: str = ""
    ) -> ShownAlert | None:
        """Changes columns of an alert."""
        with self._lock:
            found = self._find(alert_id)
            if found is None:
                return None
            now = self._clock()
            alert: Alert = replace(found, updated_at=now, **change)  # type: ignore[arg-type]
            before = {name: getattr(found, name) for name in change}
            self._record(alert, happening, by, now, reason, before=before, after=change, alerts=[alert])
            self._lifecycle.change(alert)
            if alert_id in self._unsaved:
                self._unsaved[alert_id] = alert  # It is still to be notified of.
            return self._show_one(alert, now)

    def _silence(
        self, alert_id: str, kind: SilenceKind, *, by: str, until: float | None, reason: str
    ) -> ShownAlert | None:
        with self._lock:
            alert = self._find_own(alert_id)
            if alert is None:
                return None
            now = self._clock()
            silence = Silence(
                kind=kind,
                by=by,
                at=now,
                reason=reason,
                until=until,
                subject=alert.subject,
                alert_id=alert_id,
            )
            happening = Happening.MUTED if kind is SilenceKind.MUTED else Happening.EXPECTED
            old = self._silences.find(alert.subject, now)
            before = None if old is None else _show_silence(old)
            self._record(
                alert, happening, by, now, reason, before=before, after=_show_silence(silence), silence=silence
            )
            self._silences.add(silence)
            return self._show_one(alert, now)

    def _record(
        self,
        alert: Alert,
        happening: Happening,
        by: str,
        now: float,
        reason: str = "",
        *,
        before: Mapping[str, object] | None = None,
        after: Mapping[str, object] | None = None,
        alerts: Sequence[Alert] = (),
        silence: Silence | None = None,
        lifted: str = "",
    ) -> None:
        """What somebody decided, with what it changes (AlertTable.write), in the audit log and in the incident's
        timeline."""
        entry = write_entry(alert, happening, now, why=f"By {by}: {reason}" if reason else f"By {by}.")
        decided = make_entry(now, by, f"alert.{happening}", alert.id, why=reason, before=before, after=after)
        self._table.write(alerts=alerts, entries=[entry], silence=silence, lifted=lifted, decided=[decided])

    # What is silenced: here alone

    def _find_silence(self, alert: Alert, now: float) -> Silence | None:
        """What silences an alert, with the lock held."""
        if alert.state is AlertState.CLOSED:
            return self._silences.find_made_on(alert.id, now)
        silence = self._silences.find(alert.subject, now)
        if silence is not None:
            return silence
        rule = self._detection.find_rule(alert)
        return describe_rule(rule) if rule is not None else None

    def _list_silenced(self) -> set[str]:
        """Ids of all alerts that are silenced now: of open ones, and of closed ones that silences were made on."""
        self._catch_up()
        now = self._clock()
        with self._lock:
            open_alerts = self._lifecycle.open_alerts
            silenced = {alert.id for alert in open_alerts if self._find_silence(alert, now) is not None}
            return silenced | (self._silences.list_alerts(now) - {alert.id for alert in open_alerts})

    def _show(self, alerts: Sequence[Alert]) -> list[ShownAlert]:
        self._catch_up()
        now = self._clock()
        with self._lock:
            return [self._show_one(alert, now) for alert in alerts]

    def _show_one(self, alert: Alert, now: float) -> ShownAlert:
        """With the lock held."""
        return show_alert(alert, self._find_silence(alert, now), self._find_label(alert.consumer))

    def _is_expected(self, report: Report, now: float) -> bool:
        silence = self._silences.find(report.subject, now)
        return silence is not None and silence.kind is SilenceKind.EXPECTED

    def _must_notify(self, alert: Alert, now: float) -> bool:
        """Of what is silenced only the end, and only where its beginning was notified of."""
        if alert.state is AlertState.OPEN:
            return self._find_silence(alert, now) is None
        silence = self._silences.find(alert.subject, now)
        return silence is None or silence.kind is not SilenceKind.MUTED

    def _keep(self, alerts: list[Alert], now: float, quiet: Collection[str] = ()) -> None:
        """`quiet`: ids of those that nobody is notified of."""
        self._unwritten = [*self._unwritten, *self._lifecycle.take_entries()][-_UNWRITTEN_MAX:]
        self._unsaved |= {alert.id: alert for alert in alerts}
        newest = list(self._unsaved.values())
        if newest or self._unwritten or self._taken:
            notable = [alert for alert in newest if alert.id not in quiet and self._must_notify(alert, now)]
            also = self._prepare(notable)
            self._table.write(alerts=newest, entries=self._unwritten, taken=self._taken, also=also)
            self._unsaved, self._unwritten, self._taken = {}, [], set()
            for alert in notable:
                self._notify(alert)


def _show_silence(silence: Silence) -> dict[str, object]:
    return {"silence": silence.kind, "by": silence.by, "until": silence.until}


def _find_reach() -> VerdictReach:
    """Of a verdict of whoever asks. A namespace does not name its cluster, an endpoint is of one."""
    scope = find_scope()
    if scope.is_all:
        return VerdictReach.EVERYWHERE
    return VerdictReach.NAMESPACE if scope.is_by_namespace else VerdictReach.ENDPOINT
