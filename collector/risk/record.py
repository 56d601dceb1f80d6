"""What is kept of an endpoint's risk: the score with its explanation, and what the next look compares with. Pure."""

from dataclasses import dataclass
from typing import Final

import msgspec

from collector.inventory.endpoint import FULL_COVERAGE, Endpoint, name_service
from collector.risk.circumstances import Past, Recent
from collector.risk.finding import Finding, FindingState
from collector.risk.formula import Risk

# An exposure that lasted so long was how it is; one of minutes is of a service that nobody had called yet.
SETTLED_SECONDS: Final = 3_600.0
# 2xx calls that could be judged before `nearly all carry credentials` is a habit.
HABIT_CALLS_MIN: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class RiskRecord:
    """A row of `endpoint_risks`. Times are unix seconds."""

    endpoint_id: str
    computed_at: float
    formula: str
    score: int
    level: str
    open_findings: int
    exposure: str
    exposure_before: str
    exposure_since: float
    authenticated_at: float
    method: str
    host: str
    url_template: str
    service: str
    explanation: str

    @property
    def risk(self) -> Risk:
        """The explanation."""
        return msgspec.json.decode(self.explanation, type=Risk)


def update_past(past: Past, endpoint: Endpoint, recent: Recent, now: float) -> Past:
    """What is remembered from now on: since when the exposure is what it is, and when credentials were the habit."""
    level = endpoint.exposure.level.value
    before, since = past.exposure_before, past.exposure_since
    if level != past.exposure:
        has_lasted = bool(past.exposure) and now - past.exposure_since >= SETTLED_SECONDS
        before = past.exposure if has_lasted else ""
        # Facts say when they changed; of calls it is when this was looked at.
        since = float(endpoint.exposure.since) if endpoint.exposure.since > past.computed_at > 0 else now
    coverage, judged = endpoint.authentication.coverage, endpoint.status.success - endpoint.authentication.unseen_calls
    is_habit = coverage is not None and coverage >= FULL_COVERAGE and judged >= HABIT_CALLS_MIN
    if recent.judged:
        is_habit = is_habit and recent.authenticated >= FULL_COVERAGE * recent.judged
    return Past(
        exposure=level,
        exposure_before=before,
        exposure_since=since,
        authenticated_at=now if is_habit else past.authenticated_at,
        score=past.score,
        computed_at=past.computed_at,
    )


def make_record(endpoint: Endpoint, past: Past, risk: Risk, findings: list[Finding], now: float) -> RiskRecord:
    """The row of one endpoint."""
    return RiskRecord(
        endpoint_id=endpoint.id,
        computed_at=now,
        formula=risk.formula,
        score=risk.score,
        level=risk.level,
        open_findings=sum(finding.state is FindingState.OPEN for finding in findings),
        exposure=past.exposure,
        exposure_before=past.exposure_before,
        exposure_since=past.exposure_since,
        authenticated_at=past.authenticated_at,
        method=endpoint.method,
        host=endpoint.host,
        url_template=endpoint.path,
        service=name_service(endpoint.service),
        explanation=msgspec.json.encode(risk).decode(),
    )
