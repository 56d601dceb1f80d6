"""Words for changes: facts that are reported together in, one report out. Pure."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from collector.alerting.alert import AlertKind, Place, Report, Severity
from collector.alerting.lifecycle import CHANGE_SECONDS
from collector.alerting.wording import name_endpoint
from collector.core.kinds import Sensitivity
from collector.detection.changes.rules import INSIDE, SESSIONS, STABLE_SECONDS, Fact, SeenEndpoint

NAMED_MAX: Final = 10
# Many who are one consumer here.
_UNNAMED: Final = {INSIDE: "A caller inside without a name", SESSIONS: "Somebody with a session"}


def report_endpoints(facts: Sequence[Fact], observed: Mapping[str, SeenEndpoint], since: float, now: float) -> Report:
    """New endpoints of one service, those told today before first; `since`: when the service was seen first."""
    service = _name(facts[0].scope)
    names, count = _list(facts), len(facts)
    is_open = [fact.label for fact in facts if (seen := observed.get(fact.subject)) is not None and seen.is_open]
    title = f"{service} answers at {names[0]}, which is new" if count == 1 else f"{service} has {count:,} new endpoints"
    why = (
        f"{count:,} seen first from {_day(min(fact.first_seen for fact in facts))} on, where no new one was expected: "
        f"the service is known since {_day(since)} (OWASP API9:2023). {_sentence(names, count)}"
    )
    if is_open:
        why += f" Personal data for callers without credentials: {', '.join(is_open[:NAMED_MAX])}."
    return _report(
        AlertKind.NEW_ENDPOINT,
        facts,
        now,
        title=title,
        why=why,
        severity=Severity.MEDIUM if is_open else Severity.LOW,
        endpoint_id=facts[0].anchor,
    )


def report_data(facts: Sequence[Fact], now: float) -> Report:
    """Classes of data that endpoints of one service began to return."""
    names = [f"{fact.detail} data at {fact.label}" for fact in facts[:NAMED_MAX]]
    count, endpoints = len(facts), len({fact.subject for fact in facts})
    where = name_endpoint(facts[0].label, Place(service=_name(facts[0].scope)))
    title = f"{where} returns {facts[0].detail} data, which is new"
    if count > 1:
        who = f"{endpoints:,} endpoints of {_name(facts[0].scope)} return" if endpoints > 1 else f"{where} returns"
        title = f"{who} data of new classes, such as {names[0]}"
    why = (
        f"Responses of {_name(facts[0].scope)} hold it from {_day(min(fact.first_seen for fact in facts))} on, where "
        "none was expected: those read for a day and more before held none (OWASP API3:2023). "
        f"{_sentence(names, count)}"
    )
    return _report(
        AlertKind.NEW_DATA_CLASS,
        facts,
        now,
        title=title,
        why=why,
        severity=Severity.MEDIUM,
        endpoint_id=facts[0].anchor,
    )


def report_hosts(facts: Sequence[Fact], now: float) -> Report:
    """Hosts outside that one workload began to call."""
    workload = facts[0].subject.partition(":")[2]
    names, count = _list(facts), len(facts)
    others = f" and {count - 1:,} other host{'s' if count > 2 else ''}" if count > 1 else ""
    title = f"{workload} calls {names[0]}{others} for the first time"
    why = (
        f"First called {_day(min(fact.first_seen for fact in facts))}, where none but the hosts known so far were "
        f"expected of a workload that is known for a day and more (OWASP API10:2023). {_sentence(names, count)}"
    )
    return _report(
        AlertKind.NEW_THIRD_PARTY,
        facts,
        now,
        title=title,
        why=why,
        severity=Severity.MEDIUM,
        consumer=facts[0].subject,
    )


def report_consumer(fact: Fact, seen: SeenEndpoint, known_count: int, now: float) -> Report:
    """Somebody else reads what few read. `known_count`: consumers it had."""
    who = _UNNAMED.get(fact.detail, fact.detail)
    classes = ", ".join(sorted(seen.classes))
    known = "its known consumer was" if known_count == 1 else f"its {known_count:,} known consumers were"
    why = (
        f"{who} was answered 2xx from {_day(fact.first_seen)} on, where only {known} expected: none came in "
        f"{STABLE_SECONDS / 86_400:.0f} days. Responses hold {classes} data (OWASP API5:2023)."
    )
    return _report(
        AlertKind.NEW_CONSUMER,
        [fact],
        now,
        title=f"{who} reads {_name_endpoint(seen)} for the first time",
        why=why,
        severity=Severity.MEDIUM,
        endpoint_id=seen.id,
        consumer="" if fact.detail in _UNNAMED else fact.detail,
    )


def report_login(seen: SeenEndpoint, now: float) -> Report:
    """A login that went, in the words of its finding."""
    assert seen.login_gone is not None
    return Report(
        kind=AlertKind.MISSING_AUTHENTICATION,
        severity=Severity.HIGH,
        title=f"{_name_endpoint(seen)} answers without credentials, which it had asked for",
        why=f"{seen.login_gone.why} Expected were credentials on nearly all (OWASP {seen.login_gone.owasp}).",
        calm_seconds=CHANGE_SECONDS,
        window_start=seen.login_gone.changed_at,
        window_end=now,
        endpoint_id=seen.id,
        risk=seen.login_gone.owasp,
        advice=seen.login_gone.advice,
        measure=1.0,
    )


def _report(
    kind: AlertKind,
    facts: Sequence[Fact],
    now: float,
    *,
    title: str,
    why: str,
    severity: Severity,
    endpoint_id: str = "",
    consumer: str = "",
) -> Report:
    return Report(
        kind=kind,
        severity=severity,
        title=title,
        why=f"{why} {kind.row.advice}",
        calm_seconds=CHANGE_SECONDS,
        window_start=min(fact.first_seen for fact in facts),
        window_end=now,
        endpoint_id=endpoint_id,
        consumer=consumer,
        risk=kind.row.owasp,
        advice=kind.row.advice,
        measure=float(len(facts)),
        quietest=Sensitivity.PARANOID if severity is Severity.LOW else Sensitivity.NORMAL,
    )


def _list(facts: Sequence[Fact]) -> list[str]:
    return [fact.label for fact in facts[:NAMED_MAX]]


def _sentence(names: Sequence[str], count: int) -> str:
    more = f", and {count - len(names):,} more" if count > len(names) else ""
    return f"New: {', '.join(names)}{more}."


def _name_endpoint(seen: SeenEndpoint) -> str:
    return name_endpoint(seen.label, Place(service=seen.service, host=seen.host))


def _name(scope: str) -> str:
    return scope.partition("|")[2]


def _day(time: float) -> str:
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M UTC")
