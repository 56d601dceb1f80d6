"""/endpoints/{id}/risk and /findings: why an endpoint is a risk, what rules found, and what people decide."""

from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from collector.api.base_model import Model, OptionalTime, Time
from collector.api.parameters import NOTE_CHARACTERS_MAX, ActionBody, NoParameters, Word
from collector.api.problem import Problem, show
from collector.inventory.filters import Text
from collector.risk.assessment import RiskAssessor
from collector.risk.finding import FindingState, Severity
from collector.risk.repository import FindingQuery


class RiskScoreModel(Model):
    """The risk of an endpoint in short."""

    score: int = Field(description="0 to 100.", examples=[72])
    level: str = Field(description="critical, high, medium, low or minimal.", examples=["high"])
    open_findings: int


class TermModel(Model):
    """One factor of the score."""

    name: str = Field(examples=["exposure"])
    weight: float = Field(description="What it multiplies the base by; of findings, what they add on top.")
    evidence: str = Field(description="What was seen.")
    lower: str = Field(description="What would lower it.")
    owasp: str = Field(description="OWASP API Security Top 10, 2023.", examples=["API2:2023"])
    score_if_lowered: int = Field(description="The score with the least weight this term can have.")


class FindingModel(Model):
    """One rule that one endpoint breaks, or a service whose calls nobody can read."""

    id: str
    endpoint_id: str = Field(description="Empty for a service; then method, host and url_template are so too.")
    rule: str = Field(examples=["personal_data_without_authentication"])
    severity: Severity
    owasp: str = Field(examples=["API2:2023"])
    state: FindingState
    title: str
    why: str = Field(description="The evidence in a sentence, without any value.")
    advice: str
    signs: tuple[str, ...] = Field(description="What the evidence rests on; one more opens an accepted finding again.")
    first_seen: Time
    last_seen: Time
    changed_at: Time = Field(description="When its state last changed.")
    changed_by: str = Field(description="`apidae`, or who a person said they are.")
    note: str = Field(description="Why.")
    is_reopened: bool
    method: str
    host: str
    url_template: str
    service: str


class EndpointRiskModel(Model):
    """Why an endpoint has its score."""

    endpoint_id: str
    formula: str = Field(description="Version of the weights.")
    score: int
    level: str
    base: float = Field(description="Product of the terms but for findings.")
    terms: tuple[TermModel, ...]
    findings: tuple[FindingModel, ...]
    exposure: str
    exposure_since: OptionalTime = Field(description="When it became what it is; null: not known.")
    computed_at: Time


class FindingPageModel(Model):
    """One page of findings, changed last first."""

    items: tuple[FindingModel, ...]
    next_cursor: str | None


class FindingChangeModel(Model):
    """One change of a finding's state."""

    time: Time
    state: FindingState
    actor: str
    note: str


class FindingDetailModel(Model):
    """One finding with its history, newest first."""

    finding: FindingModel
    changes: tuple[FindingChangeModel, ...]


class Decision(ActionBody):
    """What a person says of a finding."""

    state: Word[FindingState]
    note: Text = Field(min_length=1, max_length=NOTE_CHARACTERS_MAX, description="Why.")


def build_risk_routes(*, risks: RiskAssessor) -> APIRouter:
    """Routes that read risks, and that take decisions on findings."""
    router = APIRouter(tags=["risk"])
    table = risks.table

    @router.get("/endpoints/{endpoint_id}/risk", summary="Explain the risk of one endpoint")
    def get_risk(endpoint_id: str, _: Annotated[NoParameters, Query()]) -> EndpointRiskModel:
        """Every term of the score with its evidence and what would lower it, and the endpoint's findings."""
        record = table.read_risks([endpoint_id]).get(endpoint_id)
        if record is None:
            raise Problem(
                404,
                f"The risk of an endpoint {show(endpoint_id)} was not computed yet; it is a minute after its first "
                "call. Look the endpoint up in /api/v1/endpoints.",
            )
        risk = record.risk
        found = table.read_findings([endpoint_id]).get(endpoint_id, [])
        return EndpointRiskModel(
            endpoint_id=endpoint_id,
            formula=risk.formula,
            score=risk.score,
            level=risk.level,
            base=risk.base,
            terms=tuple(TermModel.model_validate(term) for term in risk.terms),
            findings=tuple(FindingModel.model_validate(one) for one in found),
            exposure=record.exposure,
            exposure_since=record.exposure_since,
            computed_at=record.computed_at,
        )

    @router.get("/findings", summary="List findings")
    def list_findings(query: Annotated[FindingQuery, Query()]) -> FindingPageModel:
        """Findings, changed last first."""
        return FindingPageModel.model_validate(table.list_findings(query))

    @router.get("/findings/{finding_id}", summary="Show one finding")
    def get_finding(finding_id: str, _: Annotated[NoParameters, Query()]) -> FindingDetailModel:
        """One finding, and who decided what about it."""
        finding = table.get_finding(finding_id)
        if finding is None:
            raise _refuse(finding_id)
        return FindingDetailModel(
            finding=FindingModel.model_validate(finding),
            changes=tuple(FindingChangeModel.model_validate(one) for one in table.list_changes(finding_id)),
        )

    @router.post("/findings/{finding_id}/state", summary="Decide on one finding")
    def decide(finding_id: str, decision: Decision) -> FindingModel:
        """Accepted and false positives stay so until the evidence grows; what is fixed opens again when calls after
        this moment show it."""
        finding = risks.decide(finding_id, decision.state, by=decision.by, note=decision.note)
        if finding is None:
            raise _refuse(finding_id)
        return FindingModel.model_validate(finding)

    return router


def _refuse(finding_id: str) -> Problem:
    return Problem(404, f"There is no finding {show(finding_id)}; look it up in /api/v1/findings.")
