"""Alerts in words: one title and one clear sentence or two of a signal, for a person who has not read how the
detectors work."""

from collector.alerts.alert import AlertKind, Severity
from collector.alerts.signal import AlertSignal, Basis, Direction
from collector.rates import RATE_SECONDS_MIN, word_rate

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
