"""Words of alerts: a title and one or two clear sentences of a signal, its severity and advice, as one `Report`.

The reader has not read how the detectors work. There are words for volume, for abuse, and for errors and latency.
"""

from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any, Final

from collector.alerting.alert import (
    NOWHERE,
    AbuseSignal,
    AlertKind,
    AlertSignal,
    Basis,
    Confidence,
    Direction,
    HealthMeasure,
    HealthSignal,
    Place,
    Report,
    Severity,
    Signal,
    calm_after_count,
    calm_after_window,
)
from collector.core.kinds import METADATA_CONTACTED, Sensitivity, explain_evidence, louder
from collector.core.rates import RATE_SECONDS_MIN, word_rate

NOVEL_SHARE_HIGH: Final = 0.8  # Of the calls went to objects never touched before: what a scraper does.
NOVEL_OBJECTS_HIGH: Final = 40
_LASTING_SECONDS: Final = 300  # A pace in windows of this length lasts.
_READING_METHODS: Final = frozenset(("GET", "PROPFIND", "QUERY", "REPORT", "SEARCH"))
_RATIO_MEDIUM: Final = 3.0  # Times the expected calls of an endpoint.
_SHARE_MEDIUM: Final = 0.2  # Of the calls fail.
_TIMES_HIGH: Final = 3  # The limit of a GraphQL request.
_RISE_MEDIUM: Final = 3.0  # Times as long.
_SOURCES_NAMED: Final = 5
# Details of calls of functions.
REFUSED: Final = "refused"
ANSWERED: Final = "answered; until then staff alone was let in"
# Of paths that are looked for.
MISSING: Final = "that do not exist"
MISSING_OR_CLOSED: Final = "that do not exist or ask everybody for a login"
_BASES: Final = {
    Basis.PRIOR: "the limit for callers that nobody has seen before",
    Basis.PEERS: "what the endpoint's other consumers do",
    Basis.ENDPOINT: "what all callers of the endpoint did together",
    Basis.HISTORY: "its own past",
    Basis.SEASON: "what is usual for it at this time of day",
}
_ABUSE_BASES: Final = {
    Basis.PRIOR: "the limit for callers that nobody knows",
    Basis.PEERS: "what nearly all of its peers stay below",
    Basis.ENDPOINT: "twice what all callers of the endpoint together took before",
    Basis.HISTORY: "what it did on past days",
    Basis.SEASON: "what it did on past days",
}
# Of a caller that calls more: more than what.
_MORE: Final = {
    Basis.PRIOR: "more than a caller that nobody knows may",
    Basis.PEERS: "far more than its other callers do",
    Basis.ENDPOINT: "more than all its callers together did before",
    Basis.HISTORY: "far more than it did before",
    Basis.SEASON: "far more than usual at this time of day",
}
_FAILURES: Final = {
    HealthMeasure.SERVER_ERRORS: "server errors (5xx, or the RPC's)",
    HealthMeasure.CLIENT_ERRORS: "client errors (4xx but 401, 403, 404, 405, 410 and 429, of several callers)",
}
_HEALTH_ADVICE: Final = {
    HealthMeasure.SERVER_ERRORS: "See the service's logs, what it depends on, and whether a release explains it.",
    HealthMeasure.CLIENT_ERRORS: "See whether a release of the service or of its clients changed what a request needs.",
    HealthMeasure.LATENCY: "See the service's load, what it depends on, and whether a release explains it.",
}
_NOTICE: Final = " Confidence is low: the baseline is not known yet. It accuses nobody."


def report_signal(signal: Signal, place: Place = NOWHERE) -> Report:
    """A detector's signal as a report; `place` is where its endpoint is served."""
    match signal:
        case AbuseSignal():
            report = _report_abuse(signal, place)
        case HealthSignal():
            report = _report_health(signal, place)
        case AlertSignal():
            report = _report_volume(signal, place)
    report = replace(report, **asdict(place))
    if len(report.nodes) != 1 or not report.other_nodes:
        return report
    others = ", ".join(report.other_nodes)
    alone = f" Only the sensor of {report.nodes[0]} saw it, though {others} saw calls of the service too."
    return replace(report, why=report.why + alone)


def name_endpoint(label: str, place: Place) -> str:
    """`GET shop.example/orders/{id} of shop/orders:8080`, as far as it is known."""
    method, _, path = label.partition(" ")
    named = f"{method} {place.host}{path}" if path else label
    return f"{named} of {place.service}" if place.service else named


def name_holder(report: Report, label: str, held_by: str) -> Report:
    """The same report with who held the address that it accuses: in a few characters, and in full."""
    accused = f"{report.consumer} ({label})"
    why = f"{report.why} The address was held by {held_by}."
    return replace(report, title=report.title.replace(report.consumer, accused, 1), why=why, held_by=held_by)


def format_span(seconds: int) -> str:
    """`10 s`, `5 min`, `1 h`."""
    if seconds % 3600 == 0:
        return f"{seconds // 3600} h"
    return f"{seconds // 60} min" if seconds % 60 == 0 else f"{seconds} s"


def format_minute(time: float) -> str:
    """`2026-11-29 14:03 UTC`."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%d %H:%M UTC")


def format_time(time: int) -> str:
    """`14:03:20 UTC`; the alert carries the date."""
    second = time % 86_400
    return f"{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d} UTC"


def _copy(signal: Signal) -> dict[str, Any]:
    """What a report takes from its signal as it is."""
    names = ("kind", "endpoint_id", "route_ids", "calls", "loss_ratio", "nodes", "other_nodes")
    return {name: getattr(signal, name) for name in names}


def _name_loss(ratio: float, consequence: str = "") -> str:
    return f" Of its calls {ratio:.1%} were lost by sensors or only estimated{consequence}." if ratio > 0 else ""


def _rate_confidence(signal: AbuseSignal | AlertSignal) -> Confidence:
    """That objects come in order needs no peers to be odd; of a notice too little is known all the same."""
    if signal.is_notice:
        return Confidence.LOW
    return Confidence.MEDIUM if signal.basis is Basis.PRIOR and not signal.walk else Confidence.HIGH


# Volume


def _report_volume(signal: AlertSignal, place: Place) -> Report:
    is_above = signal.direction is Direction.ABOVE
    # By the installation's threshold. A scrape is sent at every level and in spite of the budget, a notice never at
    # `quiet`: in the first hour whoever is busy looks like one. So does a script that runs for seconds, which only
    # `paranoid` is sent.
    is_brief = signal.is_notice and is_above and signal.window_seconds < _LASTING_SECONDS and not _reads_records(signal)
    is_sure = is_above and bool(signal.consumer) and is_scrape(signal.calls, signal.novel_objects) and not is_brief
    quietest = Sensitivity.QUIET if is_sure else signal.quietest
    if signal.is_notice:
        quietest = louder(quietest, Sensitivity.PARANOID if is_brief else Sensitivity.NORMAL)
    return Report(
        **_copy(signal),
        severity=grade_signal(signal),
        is_sure=is_sure,
        title=_title_volume(signal, place),
        why=_explain_volume(signal, place),
        advice=_advise_volume(signal),
        calm_seconds=calm_after_window(signal.window_seconds),
        window_start=signal.window_start,
        window_end=signal.window_start + signal.window_seconds,
        is_above=is_above,
        consumer=signal.consumer,
        observed_rate=signal.observed_rate,
        expected_rate=signal.expected_rate,
        threshold_rate=signal.threshold_rate,
        score=signal.score,
        confidence=_rate_confidence(signal),
        risk=signal.kind.row.owasp if is_above else "",
        measure=signal.observed_rate,
        measure_limit=signal.threshold_rate,
        quietest=quietest,
    )


def _reads_records(signal: AlertSignal) -> bool:
    """Whether a caller reads one object after the other at one endpoint: one that writes as many sets something up."""
    method = signal.endpoint_label.partition(" ")[0]
    return method in _READING_METHODS and is_scrape(signal.calls, signal.novel_objects)


def grade_signal(signal: AlertSignal) -> Severity:
    """How soon to look: a consumer taking many new objects is high (a notice of it medium, as its confidence has it), a
    rise medium, a drop or a mild rise low; of a service a drop is medium, a rise low."""
    is_below = signal.direction is Direction.BELOW
    if signal.kind is AlertKind.VOLUME_SERVICE:
        return Severity.MEDIUM if is_below else Severity.LOW
    if is_below:
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


def _name_target(signal: AlertSignal, place: Place) -> str:
    """What is called."""
    if signal.kind is AlertKind.VOLUME_SERVICE:
        return place.service or signal.service or "one service"
    return name_endpoint(signal.endpoint_label, place) if signal.endpoint_label else "the API"


def _title_volume(signal: AlertSignal, place: Place) -> str:
    """Without figures of the window, which goes on; those are in the explanation."""
    target, is_above = _name_target(signal, place), signal.direction is Direction.ABOVE
    if not signal.consumer:
        return f"{target} is called far {'more' if is_above else 'less'} than usual"
    if not is_above:
        return f"{signal.consumer} calls {target} far less than usual"
    if not is_scrape(signal.calls, signal.novel_objects):
        return f"{signal.consumer} calls {target} {_MORE[signal.basis]}"
    order = " in order" if signal.walk else ""
    if _reads_records(signal) or not signal.endpoint_label:
        return f"{signal.consumer} reads one object after the other{order} at {target}"
    return f"{signal.consumer} goes through one object after the other{order} at {target}"


def _advise_volume(signal: AlertSignal) -> str:
    if signal.direction is Direction.BELOW:
        if signal.consumer:
            return "See whether the caller still runs, and reaches the service."
        return "See whether the service and those who call it still run."
    if signal.consumer:
        return "Ask the caller's owner whether this is meant; limit or block the caller if it is not."
    return "See which consumers call it more, and whether a release explains it."


def _explain_volume(signal: AlertSignal, place: Place) -> str:
    """Observed, expected, why, the window, the loss."""
    who, verb = (signal.consumer, "made") if signal.consumer else (_name_target(signal, place), "had")
    if signal.endpoints:
        who += f" ({signal.endpoints} endpoints together)"
    window = f"the {format_span(signal.window_seconds)} from {format_time(signal.window_start)}"
    if signal.seconds != signal.window_seconds:
        window = f"{signal.seconds} s of {window}"
    sentence = (
        f"{who} {verb} {signal.calls:,} calls in {window}{_compare(signal)}, compared with {_BASES[signal.basis]}."
    )
    if signal.consumer and signal.novel_objects:
        sentence += f" {signal.novel_objects:,} of its calls went to objects it had not touched before."
    if signal.walk:
        sentence += f" In order: {signal.walk}."
    sentence += _name_loss(signal.loss_ratio, ", so the limit was widened")
    return sentence + _NOTICE if signal.is_notice else sentence


def _compare(signal: AlertSignal) -> str:
    """With what was expected and the limit: as rates, or as calls of the whole window while little of it has passed."""
    if signal.seconds < RATE_SECONDS_MIN:
        expected, limit = (rate * signal.window_seconds for rate in (signal.expected_rate, signal.threshold_rate))
        return f", where {expected:,.0f} were expected in all of it and {limit:,.0f} is the limit"
    over = "" if signal.seconds == signal.window_seconds else " over all of it"
    return (
        f" ({word_rate(signal.observed_rate)}), where{over} {word_rate(signal.expected_rate)} was expected and "
        f"{word_rate(signal.threshold_rate)} is the limit"
    )


# Abuse


def _report_abuse(signal: AbuseSignal, place: Place) -> Report:
    """Without rates, which are of calls: what was counted is in the words."""
    row = signal.kind.row
    where = name_endpoint(signal.endpoint_label, place) if signal.endpoint_label else "the API"
    title = row.title.format(count=_name_count(signal), where=where, detail=signal.detail)
    if signal.walk:
        title += ", in order"
    return Report(
        **_copy(signal),
        severity=_grade_abuse(signal),
        title=f"{signal.consumer or 'A group of callers'} {title}",
        why=_explain_abuse(signal),
        calm_seconds=calm_after_count(signal.seconds),
        window_start=signal.time - signal.seconds,
        window_end=signal.time,
        consumer=signal.consumer,
        score=1 - 0.5 ** (signal.count / max(signal.ceiling, 1)),
        confidence=_rate_confidence(signal),
        risk=row.owasp,
        advice=row.advice,
        measure=float(signal.count),
        measure_limit=float(signal.ceiling),
        quietest=louder(signal.quietest, Sensitivity.NORMAL) if signal.is_notice else signal.quietest,
        # No endpoint is meant to give its callers the credentials of its cloud.
        is_sure=signal.confirmation == explain_evidence(METADATA_CONTACTED),
    )


def _name_count(signal: AbuseSignal) -> str:
    return f"{'≈ ' if signal.is_estimate else ''}{signal.count:,}"


def _grade_abuse(signal: AbuseSignal) -> Severity:
    """A notice is low. A group of callers is less sure, for it may be a campaign; so is a caller that is let in among
    staff, which may be new there. Scanners send payloads to every service, and are high where one worked."""
    if signal.is_notice:
        return Severity.LOW
    is_crowd = signal.kind is AlertKind.ENUMERATION and not signal.consumer
    is_tried = signal.kind in (AlertKind.INJECTION, AlertKind.SSRF) and not signal.confirmation
    is_unseen = signal.kind is AlertKind.MASS_ASSIGNMENT and not signal.confirmation
    is_mild = signal.kind is AlertKind.QUERY_COST and signal.count < _TIMES_HIGH * signal.ceiling
    is_let_in = signal.kind is AlertKind.BFLA and signal.detail == ANSWERED
    return Severity.MEDIUM if is_crowd or is_tried or is_unseen or is_mild or is_let_in else signal.kind.row.severity


def _explain_abuse(signal: AbuseSignal) -> str:
    """Observed, the ceiling and where it comes from, the risk, what to do, the loss."""
    row = signal.kind.row
    what = f"{row.unit} ({signal.detail})" if signal.detail else row.unit
    risk = f" (OWASP {row.owasp})" if row.owasp else ""
    sentence = (
        f"{_name_count(signal)} {what} in the {format_span(signal.seconds)} up to {format_time(signal.time)}, where "
        f"{signal.ceiling:,} is the most by {_ABUSE_BASES[signal.basis]}{risk}. "
    )
    if signal.walk:
        sentence += f"In order: {signal.walk}. "
    if signal.confirmation:
        sentence += f"One of them worked, it seems: {signal.confirmation}. "
    sentence += row.advice
    if not signal.consumer:
        sentence += " The alert's evidence says what the callers share."
    if signal.sources and not signal.consumer:
        named = ", ".join(source.partition(":")[2] for source in signal.sources[:_SOURCES_NAMED])
        sentence += f" The busiest addresses: {named}."
    if signal.is_notice:
        sentence += _NOTICE
    return sentence + _name_loss(signal.loss_ratio, ", so there were probably more")


# Errors and latency


def _report_health(signal: HealthSignal, place: Place) -> Report:
    """Without rates, which are of calls, and of no consumer."""
    is_latency, is_many = signal.measure is HealthMeasure.LATENCY, signal.endpoints > 1
    is_medium = signal.observed >= (_RISE_MEDIUM * signal.expected if is_latency else _SHARE_MEDIUM)
    place = replace(place, service=place.service or signal.service or "one service")
    where = (
        f"{signal.endpoints} endpoints of {place.service}" if is_many else name_endpoint(signal.endpoint_label, place)
    )
    change = f"take{'' if is_many else 's'} far longer" if is_latency else f"fail{'' if is_many else 's'} far more"
    return Report(
        **_copy(signal),
        severity=Severity.MEDIUM if is_medium else signal.kind.row.severity,
        title=f"{where} {change} than usual",
        why=_explain_health(signal),
        advice=_HEALTH_ADVICE[signal.measure],
        calm_seconds=calm_after_window(signal.window_seconds),
        window_start=signal.window_start,
        window_end=signal.window_start + signal.window_seconds,
        score=signal.score,
        measure=signal.observed,
        measure_limit=signal.threshold,
        quietest=signal.quietest,
    )


def _explain_health(signal: HealthSignal) -> str:
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
            f"{errors:,} of {signal.calls:,} calls ({signal.observed:.1%}) were {_FAILURES[signal.measure]} {window}, "
            f"where {signal.expected:.1%} was expected and {signal.threshold:.1%} is the limit"
        )
    sentence += ", compared with its own past."
    if signal.endpoints > 1:
        sentence += f" The worst of the {signal.endpoints} endpoints: {signal.endpoint_label}."
    return sentence + _name_loss(signal.loss_ratio)


def _format_duration(microseconds: float) -> str:
    return f"{microseconds / 1e6:,.1f} s" if microseconds >= 1e6 else f"{microseconds / 1e3:,.1f} ms"
