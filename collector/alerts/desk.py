"""The alert desk: one thread-safe place where reports come in and people answer; keeps the store and the webhook up
to date."""

import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace

from collector.alerts.alert import Alert, AlertKind, AlertState, Verdict
from collector.alerts.delivery import is_named
from collector.alerts.detection import Detection
from collector.alerts.incident import Happening, Incident, IncidentEntry, write_entry
from collector.alerts.lifecycle import BUDGET_SECONDS_MAX, FLAP_SECONDS, VERSION_SECONDS, Lifecycle
from collector.alerts.report import Report, name_subject, report_signal
from collector.alerts.repository import AlertAction, AlertTable, Place, Silence
from collector.alerts.sieve import Outcome
from collector.alerts.signal import Signal

_UNWRITTEN_MAX = 10_000  # Entries of timelines that wait for a store that is away; the oldest go.


class AlertDesk:
    """What the API calls AlertRepository, and where signals and sensor reports arrive. Writes before it returns;
    raises StoreError."""

    def __init__(
        self,
        *,
        table: AlertTable,
        lifecycle: Lifecycle,
        clock: Callable[[], float],
        notify: Callable[[Alert], None],
        expect: Callable[[Alert], None],
        detection: Detection,
    ) -> None:
        """`detection` says what of the detectors' reports is told; `notify` queues an alert for the notifiers; `expect`
        teaches the detectors. None of these blocks for long. `clock`: unix seconds."""
        self._table = table
        self._lifecycle = lifecycle
        self._clock = clock
        self._notify = notify
        self._expect = expect
        self._detection = detection
        self._lock = threading.RLock()
        # What the store did not take, which goes with the next.
        self._unsaved: dict[str, Alert] = {}
        self._unwritten: list[IncidentEntry] = []

    @property
    def suppressed_count(self) -> int:
        """Alerts held back by the daily budget."""
        return self._lifecycle.suppressed_count

    def restore(self) -> None:
        """Take up open and recent alerts after a start."""
        now = self._clock()
        muted, expected = self._table.list_silences()
        with self._lock:
            since = now - max(BUDGET_SECONDS_MAX, FLAP_SECONDS)
            self._lifecycle.restore(self._table.list_restorable(since), muted, expected)
        self._detection.restore(self._table.list_judged())

    def take_signals(self, signals: Sequence[Signal]) -> None:
        """Signals of the detectors, in order: what the level, known good and verdicts leave of them."""
        self.take_found([report_signal(signal) for signal in signals])

    def take_found(self, reports: Sequence[Report]) -> None:
        """The same of what was found elsewhere than in the detectors' process."""
        with self._lock:
            judged = self._detection.sift(list(reports), self._lifecycle.is_open)
        self.take_reports([one.report for one in judged if one.outcome is Outcome.TOLD])

    def take_reports(self, reports: Sequence[Report]) -> None:
        """Reports of anyone, in order; also closes what is calm."""
        with self._lock:
            now = self._clock()
            changed = [self._lifecycle.take(report, now) for report in reports]
            self._keep([alert for alert in changed if alert is not None] + self._lifecycle.advance(now), now)

    def erase(self, pattern: re.Pattern[str]) -> int:
        """Forget all that names a consumer by this pattern, how many open and recent alerts that were; the tables are
        another's."""
        with self._lock:
            count = self._lifecycle.erase(pattern)
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
        self, *, state: AlertState | None, kind: AlertKind | None, limit: int, after: Place | None
    ) -> Sequence[Alert]:
        """At most `limit` alerts by (opened_at, id) descending."""
        return self._table.list(state=state, kind=kind, limit=limit, after=after)

    def get_alert(self, alert_id: str) -> Alert | None:
        """One alert."""
        return self._table.get(alert_id)

    def list_incidents(self, *, state: AlertState | None, limit: int, after: Place | None) -> Sequence[Incident]:
        """At most `limit` incidents by (opened_at, id) descending."""
        return self._table.list_incidents(state=state, limit=limit, after=after)

    def get_incident(self, incident_id: str) -> Incident | None:
        """One incident."""
        return self._table.get_incident(incident_id)

    def list_entries(self, incident_id: str) -> Sequence[IncidentEntry]:
        """The timeline of an incident, oldest first."""
        return self._table.list_entries(incident_id)

    def list_incident_alerts(self, incident_id: str) -> Sequence[Alert]:
        """Its alerts, newest first."""
        return self._table.list_incident_alerts(incident_id)

    def acknowledge(self, alert_id: str, *, by: str) -> Alert | None:
        """Someone looks into it."""
        now = self._clock()
        return self._decide(alert_id, "acknowledge", by, {"acknowledged_by": by, "acknowledged_at": now})

    def mute(self, alert_id: str, *, by: str, until: float) -> Alert | None:
        """Tell nobody about its subject until a time; it is still recorded."""
        return self._decide(alert_id, "mute", by, {"muted_until": until})

    def mark_expected(self, alert_id: str, *, by: str, is_expected: bool) -> Alert | None:
        """This is how it should be: the detectors learn it, and the subject raises nothing more until taken back."""
        alert = self._decide(alert_id, "expect" if is_expected else "unexpect", by, {"is_expected": is_expected})
        if alert is not None and is_expected:
            self._expect(alert)
        return alert

    def give_verdict(self, alert_id: str, *, by: str, verdict: Verdict) -> Alert | None:
        """Somebody found out what it was, or takes that back."""
        at = self._clock() if verdict else None
        change: dict[str, object] = {"verdict": verdict, "verdict_at": at, "verdict_by": by if verdict else ""}
        # What detection makes of it in one step with it: verdicts take effect in the order in which they are kept.
        with self._lock:
            alert = self._decide(alert_id, verdict.value or "no_verdict", by, change)
            if alert is not None and verdict:
                self._detection.note_verdict(alert)
            elif alert is not None:
                self._detection.restore_verdicts(self._table.list_judged())
            return alert

    def _decide(self, alert_id: str, action: str, by: str, change: dict[str, object]) -> Alert | None:
        with self._lock:
            found = self._unsaved.get(alert_id) or self._table.get(alert_id)
            if found is None:
                return None
            now = self._clock()
            # A version must be newer than the one it replaces, even where the clock stands still.
            alert: Alert = replace(found, updated_at=max(now, found.updated_at + VERSION_SECONDS), **change)  # type: ignore[arg-type]
            until = alert.muted_until if action == "mute" else None
            silence = None
            if action in ("mute", "expect", "unexpect"):
                subject = name_subject(alert.kind, alert.endpoint_id, alert.consumer, alert.node)
                silence = Silence(
                    subject=subject,
                    updated_at=alert.updated_at,
                    muted_until=alert.muted_until,
                    is_expected=alert.is_expected,
                    actor=by,
                )
            self._table.record(AlertAction(alert_id=alert_id, time=now, action=action, actor=by, until=until), silence)
            self._table.save([alert])
            self._table.write_entries([write_entry(alert, Happening(action), now, why=f"By {by}.")])
            self._lifecycle.change(alert)
            if alert_id in self._unsaved:
                self._unsaved[alert_id] = alert  # Nobody was told yet.
            return alert

    def _keep(self, alerts: list[Alert], now: float) -> None:
        self._unwritten = [*self._unwritten, *self._lifecycle.take_entries()][-_UNWRITTEN_MAX:]
        self._unsaved |= {alert.id: alert for alert in alerts}
        if self._unwritten:
            self._table.write_entries(self._unwritten)
            self._unwritten = []
        if not self._unsaved:
            return
        newest = list(self._unsaved.values())
        self._table.save(newest)
        self._unsaved = {}
        for alert in newest:
            if not self._lifecycle.is_muted(alert, now):
                self._notify(alert)
