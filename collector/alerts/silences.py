"""What is silenced, by whom, why and until when. Pure.

A person silences a subject, on one of its alerts: it is expected until that is undone, or muted until a time. The
newest decision on a subject holds. A known-good rule silences what it matches.

An open alert is silenced if its subject is. An alert that another detector turns into one of another kind is open
again. A closed alert is silenced while the decision that was made on it holds: so each silence is listed with an alert,
where it can be undone.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from enum import StrEnum

from collector.alerts.alert import Alert, AlertState
from collector.alerts.known_good import KnownGood


class SilenceKind(StrEnum):
    """Why nothing is raised."""

    EXPECTED = "expected"  # This is how it should be.
    MUTED = "muted"  # Not now.
    KNOWN_GOOD = "known_good"  # By a rule.


@dataclass(frozen=True, slots=True, kw_only=True)
class Silence:
    """One decision, as far as it holds. Times are unix seconds."""

    kind: SilenceKind
    by: str
    at: float
    reason: str
    until: float | None  # None: until it is undone.
    subject: str = ""  # collector.alerts.report.name_subject; empty for a rule.
    alert_id: str = ""  # Of the alert that it was made on; empty for a rule.
    rule_id: str = ""

    def holds(self, now: float) -> bool:
        """Whether it still counts."""
        return self.until is None or now < self.until


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownAlert(Alert):
    """An alert as people see it: its state is `silenced` where `silence` is there."""

    silence: Silence | None = None


class Silences:
    """The silences of subjects. Not thread-safe."""

    def __init__(self) -> None:
        self._by_subject: dict[str, Silence] = {}

    def restore(self, silences: Iterable[Silence]) -> None:
        """Take up what the store knows."""
        self._by_subject = {silence.subject: silence for silence in silences}

    def add(self, silence: Silence) -> None:
        """The newest decision on a subject; mutes that are over are forgotten."""
        self._by_subject = {one.subject: one for one in self._by_subject.values() if one.holds(silence.at)}
        self._by_subject[silence.subject] = silence

    def lift(self, subject: str) -> None:
        """Nobody is silent about a subject any more."""
        self._by_subject.pop(subject, None)

    def find(self, subject: str, now: float) -> Silence | None:
        """The silence of a subject."""
        silence = self._by_subject.get(subject)
        return silence if silence is not None and silence.holds(now) else None

    def find_made_on(self, alert_id: str, now: float) -> Silence | None:
        """The silence that was made on an alert."""
        return next((one for one in self._by_subject.values() if one.alert_id == alert_id and one.holds(now)), None)

    def list_alerts(self, now: float) -> set[str]:
        """Ids of the alerts that silences were made on which hold."""
        return {silence.alert_id for silence in self._by_subject.values() if silence.holds(now)}

    def erase(self, pattern: re.Pattern[str]) -> None:
        """Forget subjects that a pattern names; in what people wrote of others it is blanked."""
        self._by_subject = {
            subject: replace(silence, reason=pattern.sub("erased", silence.reason))
            for subject, silence in self._by_subject.items()
            if not pattern.search(subject)
        }


def describe_rule(rule: KnownGood) -> Silence:
    """A known-good rule as the silence that it is for the alerts it matches."""
    return Silence(
        kind=SilenceKind.KNOWN_GOOD,
        by=rule.created_by,
        at=rule.created_at,
        reason=rule.note,
        until=rule.expires_at,
        rule_id=rule.id,
    )


def show_alert(alert: Alert, silence: Silence | None) -> ShownAlert:
    """An alert with its silence, if any."""
    columns = {field.name: getattr(alert, field.name) for field in fields(Alert)}
    state = AlertState.SILENCED if silence is not None else alert.state
    return ShownAlert(**columns | {"state": state}, silence=silence)
