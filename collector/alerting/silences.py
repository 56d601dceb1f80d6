"""Silences and known-good rules: what raises no alert, by whom, why and until when. Pure.

A person silences a subject on one of its alerts: as expected until that is undone, or muted until a time. The newest
decision on a subject holds.

An open alert is silenced if its subject is. If another detector turns it into an alert of another kind, it is open
again. A closed alert is silenced while the decision made on it holds. So each silence is listed with an alert, where it
can be undone.

A `KnownGood` rule names a consumer, a range of addresses, a workload, an endpoint or a detector's kind. All that it
names must match. What it matches raises no alert until a time, and is counted.
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Final

from collector.alerting.alert import Alert, AlertKind, AlertState, LabelledAlert, Report, label_alert

RULES_MAX: Final = 1_000  # At once.
SECONDS_MAX: Final = 400 * 86_400
SECONDS_DEFAULT: Final = 30 * 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownGood:
    """A row of `known_good`. Times are unix seconds. Raises ValueError with one sentence."""

    id: str
    note: str
    consumer: str = ""  # `kind:value`, as in /consumers.
    network: str = ""  # Of consumers named by their address: 198.51.100.0/24.
    workload: str = ""  # Of consumers named by workload; `*` and `?` stand for anything.
    endpoint_id: str = ""
    kind: str = ""  # AlertKind.
    created_at: float
    created_by: str
    expires_at: float
    ended_at: float | None = None
    ended_by: str = ""
    updated_at: float

    def __post_init__(self) -> None:
        if not (self.consumer or self.network or self.workload or self.endpoint_id or self.kind):
            raise ValueError("the rule names nothing; give consumer, network, workload, endpoint_id or kind")
        if self.network:
            try:
                ipaddress.ip_network(self.network)
            except ValueError as error:
                raise ValueError(f"network is {self.network!r} ({error}); use a form like 198.51.100.0/24") from None
        if self.kind and self.kind not in set(AlertKind):
            raise ValueError(f"kind is {self.kind!r}; use one of {', '.join(AlertKind)}")

    def holds(self, now: float) -> bool:
        """Whether it still counts."""
        return self.ended_at is None and now < self.expires_at

    def matches(self, report: Report | Alert) -> bool:
        """Whether all it names is so."""
        kind, _, value = report.consumer.partition(":")
        return (
            (not self.consumer or report.consumer == self.consumer)
            and (not self.network or (kind == "address" and _is_within(value, self.network)))
            and (not self.workload or (kind == "workload" and fnmatchcase(value, self.workload)))
            and (not self.endpoint_id or report.endpoint_id == self.endpoint_id)
            and (not self.kind or report.kind.value == self.kind)
        )


def _is_within(address: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(address) in ipaddress.ip_network(network)
    except ValueError:
        return False


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
    subject: str = ""  # collector.alerting.wording.name_subject; empty for a rule.
    alert_id: str = ""  # Of the alert that it was made on; empty for a rule.
    rule_id: str = ""

    def holds(self, now: float) -> bool:
        """Whether it still counts."""
        return self.until is None or now < self.until


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownAlert(LabelledAlert):
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


def show_alert(alert: Alert, silence: Silence | None, label: str = "") -> ShownAlert:
    """An alert with its silence and the label of its consumer, if any."""
    labelled = label_alert(alert, label)
    columns = {field.name: getattr(labelled, field.name) for field in fields(LabelledAlert)}
    state = AlertState.SILENCED if silence is not None else alert.state
    return ShownAlert(**columns | {"state": state}, silence=silence)
