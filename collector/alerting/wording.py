"""Words of alerts: a title and one or two clear sentences of a signal, its severity and advice, as one `Report`.

The reader has not read how the detectors work. There are words for volume, for abuse, and for errors and latency. A
`Report` is what the lifecycle takes, whoever made it: a subject differs from its expectation now.
"""

from dataclasses import dataclass, replace
from typing import Final

from collector.alerting.alert import (
    AbuseSignal,
    AlertKind,
    AlertSignal,
    Basis,
    Confidence,
    Direction,
    HealthMeasure,
    HealthSignal,
    Severity,
    Signal,
)
from collector.core.kinds import Sensitivity, louder
from collector.core.rates import RATE_SECONDS_MIN, word_rate

_BASES = {
    Basis.PRIOR: "what is ordinary for a caller nobody has seen before",
    Basis.PEERS: "what the endpoint's other consumers do",
    Basis.ENDPOINT: "what all callers of the endpoint did together",
    Basis.HISTORY: "what was usual for it so far",
    Basis.SEASON: "what is usual for it at this time of day",
}

NOVEL_SHARE_HIGH = (
    0.8  # Of the calls went to objects never touched before: what a scraper does and an ordinary client does not.
)
NOVEL_OBJECTS_HIGH = 40
_RATIO_MEDIUM = 3.0


def grade_signal(signal: AlertSignal) -> Severity:
    """How soon to look: a consumer taking many new objects is high, a rise medium, a drop or a mild rise low; of a
    service a drop is medium, a rise low."""
    if signal.kind is AlertKind.VOLUME_SERVICE:
        return Severity.MEDIUM if signal.direction is Direction.BELOW else Severity.LOW
    if signal.direction is Direction.BELOW:
        return Severity.LOW
    if signal.consumer and is_scrape(signal.calls, signal.novel_objects):
        return Severity.HIGH
    if signal.is_notice:
        return Severity.LOW
    if signal.kind is AlertKind.VOLUME_ENDPOINT and signal.observed_rate < _RATIO_MEDIUM * signal.expected_rate:
        return Severity.LOW
    return Severity.MEDIUM


def is_scrape(calls: float, novel_objects: float) -> bool:
    """Whether nearly every call of a window took another new object: never held back by rank or budget."""
    return novel_objects >= max(NOVEL_OBJECTS_HIGH, NOVEL_SHARE_HIGH * calls)


def title_signal(signal: AlertSignal) -> str:
    """One line: who does what where."""
    if not signal.consumer:
        change = "more" if signal.direction is Direction.ABOVE else "less"
        return f"{_name_subject(signal)} is called far {change} than usual"
    where = signal.endpoint_label or "the API"
    if signal.direction is Direction.BELOW:
        return f"{signal.consumer} calls {where} far less than usual"
    if signal.seconds < RATE_SECONDS_MIN:
        return f"{signal.consumer} calls {where} {signal.calls:,} times in {signal.seconds} s"
    return f"{signal.consumer} calls {where} {word_rate(signal.observed_rate)}"


def advise_signal(signal: AlertSignal) -> str:
    """What to do, one sentence."""
    if signal.consumer and signal.direction is Direction.BELOW:
        return "See whether the caller still runs, and reaches the service."
    if signal.consumer:
        return "Ask the caller's owner whether this is meant; limit or block the caller if it is not."
    if signal.direction is Direction.BELOW:
        return "See whether the service and those who call it still run."
    return "See which consumers call it more, and whether a release explains it."


def explain_signal(signal: AlertSignal) -> str:
    """Observed, expected, why, the window, the loss."""
    who = signal.consumer or _name_subject(signal)
    if signal.endpoints:
        who += f" ({signal.endpoints} endpoints together)"
    verb = "made" if signal.consumer else "had"
    made = f"{who} {verb} {signal.calls:,} calls in {_name_window(signal)}"
    sentence = f"{made}{_compare(signal)}, judged by {_BASES[signal.basis]}."
    if signal.consumer and signal.novel_objects:
        sentence += f" {signal.novel_objects:,} of its calls went to objects it had not touched before."
    if signal.walk:
        sentence += f" In order: {signal.walk}."
    if signal.loss_ratio > 0:
        sentence += f" The sensors that see it lost {signal.loss_ratio:.1%} of their calls, so the limit was widened."
    if signal.is_notice:
        sentence += " A notice only: too little is known yet of what is ordinary here."
    return sentence


def _name_window(signal: AlertSignal) -> str:
    window = f"the {format_span(signal.window_seconds)} from {format_time(signal.window_start)}"
    return window if _is_whole(signal) else f"{signal.seconds} s of {window}"


def _is_whole(signal: AlertSignal) -> bool:
    return signal.seconds == signal.window_seconds


def _compare(signal: AlertSignal) -> str:
    """With what was expected and the limit: as rates, or as calls of the whole window while little of it has passed."""
    if signal.seconds < RATE_SECONDS_MIN:
        expected, limit = (rate * signal.window_seconds for rate in (signal.expected_rate, signal.threshold_rate))
        return f", where {expected:,.0f} were expected in all of it and {limit:,.0f} is the limit"
    over = "" if _is_whole(signal) else " over all of it"
    return (
        f" ({word_rate(signal.observed_rate)}), where{over} {word_rate(signal.expected_rate)} was expected and "
        f"{word_rate(signal.threshold_rate)} is the limit"
    )


def _name_subject(signal: AlertSignal) -> str:
    """Of what no consumer is named."""
    if signal.kind is AlertKind.VOLUME_SERVICE:
        return signal.service or "one service"
    return signal.endpoint_label


def format_span(seconds: int) -> str:
    """`10 s`, `5 min`, `1 h`."""
    if seconds % 3600 == 0:
        return f"{seconds // 3600} h"
    return f"{seconds // 60} min" if seconds % 60 == 0 else f"{seconds} s"


def format_time(time: int) -> str:
    """`14:03:20 UTC`; the alert carries the date."""
    second = time % 86_400
    return f"{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d} UTC"


_ABUSE_BASES = {
    Basis.PRIOR: "what is ordinary for one nobody knows",
    Basis.PEERS: "what nearly all of its peers stay below",
    Basis.ENDPOINT: "twice what all callers of the endpoint together took before",
    Basis.HISTORY: "what it did on past days",
    Basis.SEASON: "what it did on past days",
}
_SOURCES_NAMED = 5
REFUSED: Final = "refused"  # Detail of calls of functions.
ANSWERED: Final = "answered; until then staff alone was let in"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Words:
    """Of one kind. `{count}`, `{where}` and `{detail}` are filled in."""

    title: str
    count: str  # What was counted, after its number.
    risk: str  # OWASP id; empty where no category fits.
    advice: str


_WORDS = {
    AlertKind.ENUMERATION: _Words(
        title="reads {count} different objects of {where}",
        count="objects it had not touched before",
        risk="API1:2023",
        advice="Check that the caller may see these objects; revoke its credential if not.",
    ),
    AlertKind.MASS_EXPORT: _Words(
        title="takes {count} records of {where}",
        count="records that its calls returned",
        risk="API6:2023",
        advice="Check that the caller may export; limit how many records a page may hold.",
    ),
    AlertKind.BOLA: _Words(
        title="reads objects of {count} others, such as {where}",
        count="others whose objects it read: owners who alone read them until then, and objects that nobody had read",
        risk="API1:2023",
        advice="Check that the API asks whose an object is before it answers.",
    ),
    AlertKind.CREDENTIAL_STUFFING: _Words(
        title="was refused {count} logins at {where}",
        count="refused logins",
        risk="API2:2023",
        advice="Block the addresses, and look at logins from them that succeeded.",
    ),
    AlertKind.CODE_GUESSING: _Words(
        title="guessed {count} codes at {where}",
        count="refused codes",
        risk="API2:2023",
        advice="Limit the attempts of an account and make its code invalid.",
    ),
    AlertKind.CREDENTIAL_SHARING: _Words(
        title="calls from {count} new networks",
        count="networks (/24, /48) it had not come from before",
        risk="API2:2023",
        advice="Revoke the credential unless its owner knows these places.",
    ),
    AlertKind.CREDENTIAL_ROTATION: _Words(
        title="goes through {count} credentials, one after the other",
        count="credentials or sessions, each new to the address, used for a short time and dropped before the next",
        risk="API2:2023",
        advice="Limit calls by address and account, not by credential alone; revoke these, and find out where they "
        "come from: logins of the same account, or a leak.",
    ),
    AlertKind.RESOURCE_EXHAUSTION: _Words(
        title="goes on after {count} calls were turned away",
        count="calls answered 429 or 503",
        risk="API4:2023",
        advice="Block the caller, or ask its owner to heed Retry-After.",
    ),
    AlertKind.RESOURCE_CONSUMPTION: _Words(
        title="takes most of what {where} gives",
        count="ordinary calls' worth",
        risk="API4:2023",
        advice="Limit what one caller may take in calls, time and bytes; block it if nobody knows it.",
    ),
    AlertKind.BFLA: _Words(
        title="calls functions that others like it do not, such as {where}",
        count="calls of functions that hardly anybody else calls",
        risk="API5:2023",
        advice="Look at what it called and was not refused; check that the API asks who may call these.",
    ),
    AlertKind.INJECTION: _Words(
        title="sends payloads of attacks ({detail}) to {where}",
        count="different payloads of attacks",
        risk="A03:2021",
        advice="Block the caller, and look at what its calls that were not refused returned.",
    ),
    AlertKind.SCANNING: _Words(
        title="looks for {count} paths that do not exist",
        count="paths it had not asked for before, none of which exists",
        risk="",
        advice="Block the address, and look at what it found.",
    ),
}


def grade_abuse(signal: AbuseSignal) -> Severity:
    """A notice is low, one subject high. Less sure is a crowd, of which nobody may have told us, and who is let in
    among staff, for it may be new there; scanners send payloads to every service, and are high where one worked."""
    if signal.is_notice:
        return Severity.LOW
    is_crowd = signal.kind is AlertKind.ENUMERATION and not signal.consumer
    is_tried = signal.kind is AlertKind.INJECTION and not signal.confirmation
    is_let_in = signal.kind is AlertKind.BFLA and signal.detail == ANSWERED
    return Severity.MEDIUM if is_crowd or is_tried or is_let_in else Severity.HIGH


def title_abuse(signal: AbuseSignal) -> str:
    """One line: who does what where."""
    words = _WORDS[signal.kind]
    who = signal.consumer or "A crowd of callers"
    title = words.title.format(
        count=f"{signal.count:,}", where=signal.endpoint_label or "the API", detail=signal.detail
    )
    return f"{who} {title}"


def name_risk(kind: AlertKind) -> str:
    """The OWASP id of what a kind is evidence for."""
    return _WORDS[kind].risk


def name_counted(kind: AlertKind) -> str:
    """What a kind counts, after its number; empty where it is none of abuse."""
    return _WORDS[kind].count if kind in _WORDS else ""


def advise_abuse(kind: AlertKind) -> str:
    """What to do, one sentence."""
    return _WORDS[kind].advice


def explain_abuse(signal: AbuseSignal) -> str:
    """Observed, the ceiling and where it comes from, the risk, what to do, the loss."""
    words = _WORDS[signal.kind]
    what = f"{words.count} ({signal.detail})" if signal.detail else words.count
    risk = f" (OWASP {words.risk})" if words.risk else ""
    sentence = (
        f"{signal.count:,} {what} in the {format_span(signal.seconds)} up to {format_time(signal.time)}, where "
        f"{signal.ceiling:,} is the most by {_ABUSE_BASES[signal.basis]}{risk}. "
    )
    if signal.walk:
        sentence += f"In order: {signal.walk}. "
    if signal.confirmation:
        sentence += f"One of them worked, it seems: {signal.confirmation}. "
    sentence += words.advice
    if not signal.consumer:
        sentence += " The alert's evidence says what the callers share."
    if signal.sources and not signal.consumer:
        named = ", ".join(source.partition(":")[2] for source in signal.sources[:_SOURCES_NAMED])
        sentence += f" The busiest addresses: {named}."
    if signal.is_notice:
        sentence += " A notice only: too little is known yet of what is ordinary here."
    if signal.loss_ratio > 0:
        sentence += (
            f" The sensors that see it lost {signal.loss_ratio:.1%} of their calls, so there were probably more."
        )
    return sentence


UNITS = {AlertKind.ERRORS: "share of calls that fail", AlertKind.LATENCY: "microseconds a call, geometric mean"}
_SHARE_MEDIUM = 0.2  # Of the calls fail.
_RISE_MEDIUM = 3.0  # Times as long.
_WHAT = {
    HealthMeasure.SERVER_ERRORS: "server errors (5xx, or the RPC's)",
    HealthMeasure.CLIENT_ERRORS: "client errors (4xx but 401, 403, 404, 405, 410 and 429, of several callers)",
}
_ADVICE = {
    HealthMeasure.SERVER_ERRORS: "See the service's logs, what it depends on, and whether a release explains it.",
    HealthMeasure.CLIENT_ERRORS: "See whether a release of the service or of its clients changed what a request needs.",
    HealthMeasure.LATENCY: "See the service's load, what it depends on, and whether a release explains it.",
}


def grade_health(signal: HealthSignal) -> Severity:
    """Medium where a fifth of the calls fail or they take three times as long; else low. It accuses nobody."""
    if signal.measure is HealthMeasure.LATENCY:
        return Severity.MEDIUM if signal.observed >= _RISE_MEDIUM * signal.expected else Severity.LOW
    return Severity.MEDIUM if signal.observed >= _SHARE_MEDIUM else Severity.LOW


def title_health(signal: HealthSignal) -> str:
    """One line: what got worse where."""
    where, is_many = _name_place(signal), signal.endpoints > 1
    if signal.measure is HealthMeasure.LATENCY:
        return f"{where} {'take' if is_many else 'takes'} far longer than usual"
    return f"{where} {'fail' if is_many else 'fails'} far more than usual"


def advise_health(signal: HealthSignal) -> str:
    """What to do, one sentence."""
    return _ADVICE[signal.measure]


def explain_health(signal: HealthSignal) -> str:
    """Observed, expected, the limit, the window, the loss."""
    window = f"in the {format_span(signal.window_seconds)} from {format_time(signal.window_start)}"
    if signal.measure is HealthMeasure.LATENCY:
        sentence = (
            f"{signal.calls:,} calls took {_format_duration(signal.observed)} {window} (geometric mean), where "
            f"{_format_duration(signal.expected)} was expected and {_format_duration(signal.threshold)} is the limit"
        )
    else:
        errors = round(signal.observed * signal.calls)
        sentence = (
            f"{errors:,} of {signal.calls:,} calls ({signal.observed:.1%}) were {_WHAT[signal.measure]} {window}, "
            f"where {signal.expected:.1%} was expected and {signal.threshold:.1%} is the limit"
        )
    sentence += ", judged by what was usual for it so far."
    if signal.endpoints > 1:
        sentence += f" The worst of the {signal.endpoints} endpoints: {signal.endpoint_label}."
    if signal.loss_ratio > 0:
        sentence += f" The sensors that see it lost {signal.loss_ratio:.1%} of their calls."
    return sentence


def _name_place(signal: HealthSignal) -> str:
    service = signal.service or "one service"
    if signal.endpoints > 1:
        return f"{signal.endpoints} endpoints of {service}"
    return f"{signal.endpoint_label} of {service}"


def _format_duration(microseconds: float) -> str:
    if microseconds >= 1e6:
        return f"{microseconds / 1e6:,.1f} s"
    return f"{microseconds / 1e3:,.1f} ms"


_CALM_SECONDS_MIN = 120
_CALM_WINDOWS = 3
_CALM_SECONDS_ABUSE = 600  # A signal comes at the crossing and when the count grew by half: not in every window.
_CALM_SECONDS_MAX = 3_600
RISK_VOLUME = "API4:2023"  # Of a caller who takes more than its share, and of a service that gives more than its usual.


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One odd observation; the alert closes `calm_seconds` after the last one. Times are unix seconds."""

    kind: AlertKind
    severity: Severity
    title: str
    why: str
    calm_seconds: float
    window_start: float
    window_end: float
    is_above: bool = True
    endpoint_id: str = ""
    route_ids: tuple[int, ...] = ()
    consumer: str = ""
    node: str = ""
    observed_rate: float = 0.0
    expected_rate: float = 0.0
    threshold_rate: float = 0.0
    score: float = 1.0
    calls: int = 0
    loss_ratio: float = 0.0
    confidence: Confidence = Confidence.HIGH
    risk: str = ""
    advice: str = ""
    measure: float = 0.0  # What was counted: of volume calls a second, else what the kind counts.
    measure_limit: float = 0.0  # The most of it that would have been ordinary; 0 where that is not a number.
    quietest: Sensitivity = Sensitivity.QUIET  # The level from which on it is told.
    is_sure: bool = False  # No budget holds it back.

    @property
    def subject(self) -> str:
        """Kind and what it is about: the key of alerts, mutes and expectations."""
        return name_subject(self.kind, self.endpoint_id, self.consumer, self.node)


def name_subject(kind: AlertKind, endpoint_id: str, consumer: str, node: str) -> str:
    """`volume_pair|endpoint|consumer|node`."""
    return "|".join((kind.value, endpoint_id, consumer, node))


def calm_after_window(seconds: float) -> float:
    """Without a report for so long, an alert told by windows of so many seconds closes."""
    return max(_CALM_SECONDS_MIN, _CALM_WINDOWS * seconds)


def calm_after_count(seconds: float) -> float:
    """The same of what is counted over so many seconds."""
    return max(_CALM_SECONDS_ABUSE, min(seconds, _CALM_SECONDS_MAX))


def report_signal(signal: Signal) -> Report:
    """A detector's signal as a report."""
    match signal:
        case AbuseSignal():
            return _report_abuse(signal)
        case HealthSignal():
            return _report_health(signal)
        case AlertSignal():
            return _report_volume(signal)


def _report_abuse(signal: AbuseSignal) -> Report:
    """Without rates, which are of calls: what was counted is in the words."""
    return Report(
        kind=signal.kind,
        severity=grade_abuse(signal),
        title=title_abuse(signal),
        why=explain_abuse(signal),
        calm_seconds=calm_after_count(signal.seconds),
        window_start=signal.time - signal.seconds,
        window_end=signal.time,
        endpoint_id=signal.endpoint_id,
        route_ids=signal.route_ids,
        consumer=signal.consumer,
        score=1 - 0.5 ** (signal.count / max(signal.ceiling, 1)),
        calls=signal.calls,
        loss_ratio=signal.loss_ratio,
        confidence=_rate_confidence(signal),
        risk=name_risk(signal.kind),
        advice=advise_abuse(signal.kind),
        measure=float(signal.count),
        measure_limit=float(signal.ceiling),
        quietest=louder(signal.quietest, Sensitivity.NORMAL) if signal.is_notice else signal.quietest,
    )


def _report_health(signal: HealthSignal) -> Report:
    """Without rates, which are of calls, and of no consumer."""
    return _report_window(
        signal,
        severity=grade_health(signal),
        title=title_health(signal),
        why=explain_health(signal),
        advice=advise_health(signal),
        measure=signal.observed,
        measure_limit=signal.threshold,
        quietest=signal.quietest,
    )


def _rate_confidence(signal: AbuseSignal | AlertSignal) -> Confidence:
    """That objects come in order needs no peers to be odd; of a notice too little is known all the same."""
    if signal.is_notice:
        return Confidence.LOW
    return Confidence.MEDIUM if signal.basis is Basis.PRIOR and not signal.walk else Confidence.HIGH


def _find_quietest(signal: AlertSignal) -> Sensitivity:
    """Of volume: by the installation's bar; a scrape is told at every level, a notice at none that is quiet: in the
    first hour whoever is busy looks like one."""
    quietest = Sensitivity.QUIET if grade_signal(signal) is Severity.HIGH else signal.quietest
    return louder(quietest, Sensitivity.NORMAL) if signal.is_notice else quietest


def _is_taking(signal: AlertSignal) -> bool:
    is_above = signal.direction is Direction.ABOVE
    return is_above and (bool(signal.consumer) or signal.kind is AlertKind.VOLUME_SERVICE)


def _report_volume(signal: AlertSignal) -> Report:
    report = _report_window(
        signal,
        severity=grade_signal(signal),
        title=title_signal(signal),
        why=explain_signal(signal),
        advice=advise_signal(signal),
        measure=signal.observed_rate,
        measure_limit=signal.threshold_rate,
        quietest=_find_quietest(signal),
    )
    return replace(
        report,
        is_above=signal.direction is Direction.ABOVE,
        consumer=signal.consumer,
        observed_rate=signal.observed_rate,
        expected_rate=signal.expected_rate,
        threshold_rate=signal.threshold_rate,
        confidence=_rate_confidence(signal),
        risk=RISK_VOLUME if _is_taking(signal) else "",
    )


def _report_window(
    signal: AlertSignal | HealthSignal,
    *,
    severity: Severity,
    title: str,
    why: str,
    advice: str,
    measure: float,
    measure_limit: float,
    quietest: Sensitivity,
) -> Report:
    """What was odd in one window, which ended."""
    return Report(
        kind=signal.kind,
        severity=severity,
        title=title,
        why=why,
        advice=advice,
        calm_seconds=calm_after_window(signal.window_seconds),
        window_start=signal.window_start,
        window_end=signal.window_start + signal.window_seconds,
        endpoint_id=signal.endpoint_id,
        route_ids=signal.route_ids,
        score=signal.score,
        calls=signal.calls,
        loss_ratio=signal.loss_ratio,
        measure=measure,
        measure_limit=measure_limit,
        quietest=quietest,
    )
