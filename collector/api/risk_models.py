"""What the API answers about risk and findings, as pydantic models."""

from pydantic import Field

from collector.api.base_model import Model, OptionalTime, Time
from collector.risk.finding import FindingState
from collector.risk.rule import Severity


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
