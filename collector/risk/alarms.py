"""What is worth an alert: a score that crossed a level, and data of people open to everybody. Judgements in, reports
for the alert desk out. Pure."""

from collections.abc import Sequence
from typing import Final

from collector.alerts.alert import AlertKind, Severity
from collector.alerts.report import Report
from collector.inventory.endpoint import Endpoint
from collector.risk.circumstances import Circumstances
from collector.risk.finding import Finding, FindingState
from collector.risk.formula import Risk
from collector.risk.weights import Weights

# Told again at each look while it is so; an endpoint that nobody calls any more is calm after a day.
CALM_SECONDS: Final = 86_400.0
_OPEN_DATA: Final = "personal_data_without_authentication"
_ALARMING: Final = ("critical", "high")


def find_alarms(seen: Circumstances, risk: Risk, findings: Sequence[Finding], weights: Weights) -> list[Report]:
    """Reports of one endpoint: at most one. An accepted finding alarms nobody."""
    open_data = next(
        (one for one in findings if one.rule == _OPEN_DATA and one.state is FindingState.OPEN and seen.is_external),
        None,
    )
    label = f"{seen.endpoint.method} {seen.endpoint.template}"
    if open_data is not None:
        return [
            _report(
                seen.endpoint,
                kind=AlertKind.OPEN_DATA,
                severity=Severity.HIGH,
                title=f"{label} gives personal data to anybody",
                why=f"{open_data.why} Its risk is {risk.score} of 100.",
                risk=open_data.owasp,
                advice=open_data.advice,
                score=risk.score,
                now=seen.now,
            )
        ]
    gravest = next((one for one in findings if risk.findings and one.id == risk.findings[0]), None)
    if risk.level not in _ALARMING or gravest is None:  # What a person accepted leaves no finding to act on.
        return []
    why = f"Its risk is {risk.score} of 100, {risk.level} from {weights.levels[risk.level]} on."
    return [
        _report(
            seen.endpoint,
            kind=AlertKind.RISK_SCORE,
            severity=Severity.HIGH if risk.level == "critical" else Severity.MEDIUM,
            title=f"{label} is a {risk.level} risk",
            why=f"{why} {gravest.title}: {gravest.why}",
            risk=gravest.owasp,
            advice=gravest.advice,
            score=risk.score,
            now=seen.now,
        )
    ]


def _report(
    endpoint: Endpoint,
    *,
    kind: AlertKind,
    severity: Severity,
    title: str,
    why: str,
    risk: str,
    advice: str,
    score: int,
    now: float,
) -> Report:
    return Report(
        kind=kind,
        severity=severity,
        title=title,
        why=why,
        calm_seconds=CALM_SECONDS,
        window_start=now,
        window_end=now,
        endpoint_id=endpoint.id,
        score=score / 100,
        calls=endpoint.calls,
        risk=risk,
        advice=advice,
    )
