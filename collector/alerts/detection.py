"""How detection is set now, thread-safe: the level, known-good rules, and what each level would have told.

The level is the setting's, until somebody chooses another one at run time: that is kept in a file and holds over
restarts, until the setting itself is changed.
"""

import json
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from collector.alerts.alert import Alert
from collector.alerts.detection_table import Decision, DetectionTable, RuleHits
from collector.alerts.known_good import RULES_MAX, KnownGood
from collector.alerts.past import DAY_SECONDS, Preview, keep_report, preview_levels
from collector.alerts.report import Report
from collector.alerts.sieve import Judged, Outcome, Sieve
from collector.errors import ConflictError, UnknownError
from collector.sensitivity import PLANS, Sensitivity
from common.figures import Figure, make_labelled, make_totals

FILE_NAME: Final = "sensitivity.json"
PREVIEW_SECONDS: Final = 14 * DAY_SECONDS
REPORTS_A_MINUTE: Final = 600  # Kept for previews; further ones are counted.


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """The level, where it comes from, and what each level would have told."""

    level: Sensitivity
    configured: Sensitivity
    changed_at: float | None  # None: it is the setting's.
    changed_by: str
    history_seconds: float
    previews: tuple[Preview, ...]


class Detection:
    """See the module. Methods that read or write the store raise StoreError, those that write the file OSError."""

    def __init__(
        self,
        *,
        table: DetectionTable,
        path: Path,
        configured: Sensitivity,
        clock: Callable[[], float],
        new_id: Callable[[], str],
        write: Callable[[Path, bytes], None],
    ) -> None:
        """`path` is the file of a level chosen at run time, which `write` replaces as a whole; raises ValueError where
        it is damaged."""
        self._table, self._path, self._configured = table, path, configured
        self._clock, self._new_id, self._write = clock, new_id, write
        self._lock = threading.Lock()
        # One decision of a person at a time, from what it rests on to what is kept. Reports are judged meanwhile.
        self._deciding = threading.Lock()
        self._changed_at, self._changed_by = None, ""  # type: tuple[float | None, str]
        self._sieve = Sieve(self._load())
        self._minute, self._in_minute = 0, 0
        self.unkept_count = 0

    @property
    def budget(self) -> float:
        """Alerts below high severity a day."""
        return PLANS[self._sieve.level].alerts_a_day

    def restore(self, judged: tuple[Alert, ...]) -> None:
        """Take up rules, and the verdicts of `judged`, after a start."""
        rules = self._table.list_rules_in_force(self._clock())
        with self._lock:
            self._sieve.restore(rules, judged)

    def restore_verdicts(self, judged: tuple[Alert, ...]) -> None:
        """Take up the verdicts of `judged` alone: one was taken back, and what was said of others of its subject or
        consumer holds as if it had not been said."""
        with self._lock:
            self._sieve.restore_verdicts(judged)

    def figures(self) -> tuple[Figure, ...]:
        """For metrics: reports by what became of them."""
        told = ((outcome.value, self.counts[outcome]) for outcome in Outcome)
        unkept = (
            "reports_unkept",
            "Reports that previews of levels leave out: too many came in a minute.",
            self.unkept_count,
        )
        return (
            *make_labelled("reports", "Reports of detectors, by what became of them.", "outcome", told),
            *make_totals([unkept]),
        )

    @property
    def counts(self) -> Mapping[Outcome, int]:
        """Reports by what became of them."""
        return self._sieve.counts

    def sift(self, reports: list[Report], is_open: Callable[[Report], bool]) -> list[Judged]:
        """What becomes of detectors' reports; keeps them for previews."""
        now = self._clock()
        with self._lock:
            judged = [self._sieve.judge(report, now, is_open=is_open(report)) for report in reports]
            kept = judged[: self._take_room(len(judged), now)]
        if kept:
            self._table.write_reports([keep_report(one, now) for one in kept])
        return judged

    def note_verdict(self, alert: Alert) -> None:
        """What somebody said of an alert."""
        with self._lock:
            self._sieve.note_verdict(alert)

    def erase(self, pattern: re.Pattern[str]) -> None:
        """Forget what holds of a consumer that a pattern names; the tables are another's."""
        with self._deciding, self._lock:
            self._sieve.erase(pattern)

    def describe(self) -> Standing:
        """Where it stands, with previews."""
        now = self._clock()
        past = self._table.list_reports(now - PREVIEW_SECONDS)
        span = now - past[0].time if past else 0.0
        return Standing(
            level=self._sieve.level,
            configured=self._configured,
            changed_at=self._changed_at,
            changed_by=self._changed_by,
            history_seconds=span,
            # Of less than a day nobody can say how many a day it makes.
            previews=preview_levels(past, max(span, DAY_SECONDS)),
        )

    def choose(self, level: Sensitivity, *, by: str) -> None:
        """Change the level at once."""
        with self._deciding:
            now = self._clock()
            kept = {"level": level.value, "configured": self._configured.value, "at": now, "by": by}
            self._write(self._path, json.dumps(kept).encode())
            self._table.write_decision(Decision(time=now, actor=by, action="sensitivity", subject=level.value, note=""))
            with self._lock:
                self._sieve.level, self._changed_at, self._changed_by = level, now, by

    def list_rules(self) -> tuple[tuple[KnownGood, RuleHits | None], ...]:
        """Every rule of the last 400 days, newest first, with what it kept from being told."""
        hits = self._table.count_hits()
        return tuple((rule, hits.get(rule.id)) for rule in self._table.list_rules())

    def find_rule(self, alert: Alert) -> KnownGood | None:
        """A known-good rule in force that an alert's subject matches."""
        now = self._clock()
        with self._lock:
            rules = tuple(self._sieve.rules.values())
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
            with self._lock:
                in_force = sum(one.holds(now) for one in self._sieve.rules.values())
            if in_force >= RULES_MAX:
                raise ConflictError(f"There are {in_force} rules in force; end some, the limit is {RULES_MAX}.")
            self._keep_rule(rule, "known_good", by)
        return rule

    def end_rule(self, rule_id: str, *, by: str) -> KnownGood:
        """No longer. Raises UnknownError, and ConflictError where it is not in force any more."""
        with self._deciding:
            now = self._clock()
            with self._lock:
                rule = self._sieve.rules.get(rule_id)
            if rule is None or not rule.holds(now):
                if any(one.id == rule_id for one in self._table.list_rules()):
                    raise ConflictError(f"Rule {rule_id} is not in force any more; it was ended, or it expired.")
                raise UnknownError(f"There is no rule {rule_id[:80]!r}; look it up in /api/v1/detection/known-good.")
            ended = replace(rule, ended_at=now, ended_by=by, updated_at=max(now, rule.updated_at + 1e-5))
            self._keep_rule(ended, "end_known_good", by)
        return ended

    def list_decisions(self) -> tuple[Decision, ...]:
        """Who changed what, newest first."""
        return self._table.list_decisions()

    def _keep_rule(self, rule: KnownGood, action: str, by: str) -> None:
        self._table.save_rule(rule)
        decision = Decision(time=rule.updated_at, actor=by, action=action, subject=rule.id, note=rule.note)
        self._table.write_decision(decision)
        with self._lock:
            kept = {**self._sieve.rules, rule.id: rule}
            self._sieve.rules = {one.id: one for one in kept.values() if one.holds(rule.updated_at)}

    def _take_room(self, wanted: int, now: float) -> int:
        minute = int(now // 60)
        if minute != self._minute:
            self._minute, self._in_minute = minute, 0
        room = max(0, min(wanted, REPORTS_A_MINUTE - self._in_minute))
        self._in_minute += room
        self.unkept_count += wanted - room
        return room

    def _load(self) -> Sensitivity:
        if not self._path.exists():
            return self._configured
        try:
            kept = json.loads(self._path.read_text())
            level, configured = Sensitivity(kept["level"]), Sensitivity(kept["configured"])
            at, by = float(kept["at"]), str(kept["by"])
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"{self._path} is damaged; remove it: the setting `sensitivity` then holds.") from None
        if configured is not self._configured:
            return self._configured
        self._changed_at, self._changed_by = at, by
        return level
