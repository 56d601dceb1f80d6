"""Errors and latency in words: a title and a clear sentence or two of a signal, and how soon to look."""

from collector.alerts.alert import AlertKind, Severity
from collector.alerts.signal import HealthMeasure, HealthSignal
from collector.alerts.wording import format_span, format_time

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
