"""Computes the risk score of an endpoint, 0 to 100, with every term: what was seen, its weight, what would lower it.
Pure.

    base  = sensitivity x authentication gap x exposure x enumerability x volume x specification
    score = 100 x (1 - (1 - base) x product over open findings of (1 - weight of its severity))

It is a product, because no term is dangerous alone: what nobody can reach, or what holds nothing, is no risk. Findings
add to it as what is known to be wrong. Equal circumstances and weights always give the same score (docs/use/risk.md).

`find_alarms` gives reports for alerts: a score that crossed a level, and data of people that is open to everybody.
"""

import math
from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from collector.alerting.alert import AlertKind, Place, Report, Severity
from collector.alerting.wording import name_endpoint
from collector.inventory.endpoints.bodies import BodySide, DataClass
from collector.inventory.endpoints.exposure import ExposureLevel
from collector.inventory.endpoints.spec_status import SpecStatus
from collector.inventory.naming import name_service
from collector.risk.finding import Circumstances, Finding, FindingState, Weights
from collector.risk.finding import Severity as RuleSeverity

LEAST: Final = "minimal"
_INTEGER_SHARE: Final = 0.5  # Of the served calls name their object by an integer: ids can be guessed.
_STEP_SHARE: Final = 0.2  # Of those are one more or less than the one before: they are in a row.
_RESPONSES: Final = (BodySide.RESPONSE,)
_REQUESTS: Final = (BodySide.REQUEST, BodySide.PATH, BodySide.QUERY, BodySide.HEADER)


class Term(msgspec.Struct, frozen=True):
    """One factor. `score_if_lowered`: what the score would be with the least weight this term can have."""

    name: str
    weight: float
    evidence: str
    lower: str
    owasp: str
    score_if_lowered: int


class Risk(msgspec.Struct, frozen=True):
    """The score and how it comes about; JSON of it is kept with the endpoint."""

    formula: str
    score: int
    level: str
    base: float
    terms: tuple[Term, ...]
    findings: tuple[str, ...]  # Ids of those that count, gravest first.


# The weight of a factor, the least that it can have, and the evidence.
Weighed = tuple[float, float, str]


def score(seen: Circumstances, findings: Sequence[Finding], weights: Weights) -> Risk:
    """The risk of an endpoint with these findings, of which the open ones count. Cost: 30 us."""
    weighed = [(name, lower, owasp, *weigh(seen, weights)) for name, lower, owasp, weigh in _FACTORS]
    counted = _pick_findings(findings, weights)
    left = math.prod(1 - weights.findings[finding.severity] for finding in counted)
    base = math.prod(weight for _, _, _, weight, _, _ in weighed)
    terms = [
        Term(
            name=name,
            weight=round(weight, 4),
            evidence=evidence,
            lower=lower,
            owasp=owasp,
            score_if_lowered=_combine(base / weight * min(least, weight), left),
        )
        for name, lower, owasp, weight, least, evidence in weighed
    ]
    terms.append(_make_term_of_findings(counted, left, _combine(base, 1.0)))
    total = _combine(base, left)
    return Risk(
        formula=weights.version,
        score=total,
        level=name_level(total, weights),
        base=round(base, 4),
        terms=tuple(terms),
        findings=tuple(finding.id for finding in counted),
    )


def name_level(total: int, weights: Weights) -> str:
    """What a score is called."""
    return next((name for name, least in weights.levels.items() if total >= least), LEAST)


def _combine(base: float, left: float) -> int:
    return round(100 * (1 - (1 - base) * left))


def _pick_findings(findings: Sequence[Finding], weights: Weights) -> list[Finding]:
    is_open = [finding for finding in findings if finding.state is FindingState.OPEN]
    return sorted(is_open, key=lambda one: (-weights.findings[one.severity], one.id))[: weights.findings_counted]


def _weigh_sensitivity(seen: Circumstances, weights: Weights) -> Weighed:
    table = weights.sensitivity
    bodies = seen.endpoint.bodies
    answered, asked = seen.classes(*_RESPONSES), seen.classes(*_REQUESTS)
    weighed = {one: table[one] for one in answered}
    for one in asked - answered:
        weighed[one] = table[one] * weights.sensitivity_in_requests
    if weighed:
        strongest = max(weighed.values())
        further = sum(1 for one in weighed if one is not DataClass.TECHNICAL) - 1
        weight = 1 - (1 - strongest) * (1 - weights.sensitivity_of_further_class) ** max(further, 0)
        kinds = sorted({f"{one.kind} ({one.side}, {one.share:.0%} of those read)" for one in seen.data})
        evidence = f"Holds {', '.join(kinds)}."
    elif bodies is None or not (bodies.responses_read or bodies.requests_read):
        weight, evidence = table["unread"], "No body of its calls was read."
    else:
        weight = table["none"]
        evidence = f"Nothing sensitive in {bodies.responses_read} responses and {bodies.requests_read} requests read."
    return weight, table["none"], evidence


def _weigh_authentication(seen: Circumstances, weights: Weights) -> Weighed:
    table, authentication = weights.authentication, seen.endpoint.authentication
    if seen.is_login:
        weight, evidence = table["full"], "People log in here: the secret is in the body."
    elif authentication.coverage is None:
        weight, evidence = table["unknown"], "No 2xx call whose credentials could be seen."
    else:
        weight = table["full"] + (1 - table["full"]) * (1 - authentication.coverage)
        visible = seen.endpoint.status.success - authentication.unseen_calls
        evidence = f"{authentication.coverage:.1%} of {visible:,} 2xx calls carried credentials."
    return weight, table["full"], evidence


def _weigh_exposure(seen: Circumstances, weights: Weights) -> Weighed:
    exposure = seen.endpoint.exposure
    evidence = f"{exposure.level.replace('_', ' ').capitalize()}: {'; '.join(exposure.reasons) or 'nothing known'}."
    return weights.exposure[exposure.level], weights.exposure[ExposureLevel.INTERNAL], evidence


def _weigh_enumerability(seen: Circumstances, weights: Weights) -> Weighed:
    endpoint, table = seen.endpoint, weights.enumerability
    share = endpoint.integer_object_calls / endpoint.calls if endpoint.calls else 0.0
    steps = endpoint.monotonic_steps / endpoint.integer_object_calls if endpoint.integer_object_calls else 0.0
    if share < _INTEGER_SHARE:
        weight, evidence = table["none"], f"{share:.0%} of its calls name their object by an integer."
    else:
        weight = table["monotonic" if steps >= _STEP_SHARE else "integer"]
        evidence = (
            f"{share:.0%} of its calls name their object by an integer, {steps:.0%} of them next to the last one."
        )
    return weight, table["none"], evidence


def _weigh_volume(seen: Circumstances, weights: Weights) -> Weighed:
    table, records = weights.volume, seen.records_per_day
    share = min(1.0, math.log10(max(records, 1.0)) / math.log10(table.records_at_most))
    evidence = f"About {records:,.0f} records a day, {seen.records_per_call:,.1f} a call."
    return table.least + (table.most - table.least) * share, table.least, evidence


_SPEC_EVIDENCE: Final = {
    SpecStatus.NONE: "No description of its service is known.",
    SpecStatus.DOCUMENTED: "Its service's description has it.",
    SpecStatus.SHADOW: "Its service's description does not have it.",
    SpecStatus.ZOMBIE: "It is deprecated, and still called.",
}


def _weigh_spec(seen: Circumstances, weights: Weights) -> Weighed:
    spec = seen.endpoint.spec
    return weights.spec[spec.status], weights.spec[SpecStatus.DOCUMENTED], spec.reason or _SPEC_EVIDENCE[spec.status]


def _make_term_of_findings(counted: Sequence[Finding], left: float, lowered: int) -> Term:
    named = "; ".join(f"{finding.title} ({finding.severity})" for finding in counted)
    return Term(
        name="findings",
        weight=round(1 - left, 4),
        evidence=f"Open: {named}." if named else "None is open.",
        lower="Mend what was found, or say why it is meant so.",
        owasp=counted[0].owasp if counted else "",
        score_if_lowered=lowered,
    )


# Name, what would lower it, OWASP id, and what weighs it.
_FACTORS: Final[tuple[tuple[str, str, str, Callable[[Circumstances, Weights], Weighed]], ...]] = (
    (
        "sensitivity",
        "Return fewer fields: omit, mask or tokenise what callers do not need.",
        "API3:2023",
        _weigh_sensitivity,
    ),
    ("authentication gap", "Refuse calls without credentials.", "API2:2023", _weigh_authentication),
    ("exposure", "Take it off the ingress, or let only known networks in.", "API9:2023", _weigh_exposure),
    ("enumerability", "Name objects by random ids (UUID version 4).", "API1:2023", _weigh_enumerability),
    ("volume", "Page lists, and limit records and calls of each caller.", "API4:2023", _weigh_volume),
    ("specification", "Describe it, or take it away.", "API9:2023", _weigh_spec),
)


# Reported again at each look while it is so; an endpoint that nobody calls any more is calm after a day.
CALM_SECONDS: Final = 86_400.0
_OPEN_DATA: Final = "personal_data_without_authentication"
_ALARMING: Final = ("critical", "high")


def find_alarms(seen: Circumstances, risk: Risk, findings: Sequence[Finding], weights: Weights) -> list[Report]:
    """Reports of one endpoint: at most one. An accepted finding alarms nobody."""
    is_open = [one for one in findings if one.rule == _OPEN_DATA and one.state is FindingState.OPEN]
    gravest = [one for one in findings if risk.findings and one.id == risk.findings[0]]
    service = seen.endpoint.service
    place = Place(service=name_service(service), namespace=service.namespace, host=seen.endpoint.host)
    label = name_endpoint(f"{seen.endpoint.method} {seen.endpoint.template}", place)
    if is_open and is_open[0].severity is RuleSeverity.CRITICAL:
        finding, kind, severity = is_open[0], AlertKind.UNAUTHENTICATED_SENSITIVE_DATA, Severity.HIGH
        title = f"{label} returns personal data to anybody, without credentials"
        why = f"{finding.why} Its risk is {risk.score} of 100."
    elif gravest and risk.level in _ALARMING:  # What a person accepted leaves no finding to act on.
        finding, kind = gravest[0], AlertKind.RISK_SCORE
        severity = Severity.HIGH if risk.level == "critical" else Severity.MEDIUM
        title = f"{label} is a {risk.level} risk"
        why = (
            f"Its risk is {risk.score} of 100, {risk.level} from {weights.levels[risk.level]} on. "
            f"{finding.title}: {finding.why}"
        )
    else:
        return []
    return [
        Report(
            kind=kind,
            severity=severity,
            title=title,
            why=why,
            calm_seconds=CALM_SECONDS,
            window_start=seen.now,
            window_end=seen.now,
            endpoint_id=seen.endpoint.id,
            service=place.service,
            namespace=place.namespace,
            host=place.host,
            score=risk.score / 100,
            calls=seen.endpoint.calls,
            risk=finding.owasp,
            advice=finding.advice,
        )
    ]
