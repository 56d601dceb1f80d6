"""What the lifecycle takes: one observation that a subject is in an odd state now, whoever made it."""

from dataclasses import dataclass, replace

from collector.alerts.abuse import advise_abuse, explain_abuse, grade_abuse, name_risk, title_abuse
from collector.alerts.alert import AlertKind, Confidence, Severity
from collector.alerts.health import advise_health, explain_health, grade_health, title_health
from collector.alerts.signal import AbuseSignal, AlertSignal, Basis, Direction, HealthSignal, Signal
from collector.alerts.wording import advise_signal, explain_signal, grade_signal, title_signal
from collector.sensitivity import Sensitivity, louder

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
