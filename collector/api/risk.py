"""/endpoints/{id}/risk and /findings: why an endpoint is a risk, what rules found, and what people decide."""

from collections.abc import Callable
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from pydantic import Field, Strict, create_model

from collector.api.base_model import Model, OptionalTime, Time
from collector.api.parameters import NOTE_CHARACTERS_MAX, ActionBody, Body, Items, NoParameters, Word
from collector.api.problem import Problem, show
from collector.inventory.filters import Text, list_members
from collector.risk.assessment import BULK_MAX, BulkDecision, RiskAssessor
from collector.risk.finding import FindingState, Severity
from collector.risk.finding_query import SERVICES_SHOWN, FindingFilters, FindingGroupQuery, FindingQuery

DECISION_SECONDS_MAX: Final = 400 * 86_400
ENDING: Final = (FindingState.ACCEPTED, FindingState.FALSE_POSITIVE)


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
    runbook: str = Field(
        description="Path on this collector of the page that explains the rule.",
        examples=["/docs/findings/jwt_unsigned"],
    )
    signs: tuple[str, ...] = Field(description="What the evidence rests on; one more opens an accepted finding again.")
    first_seen: Time
    last_seen: Time
    changed_at: Time = Field(description="When its state last changed.")
    changed_by: str = Field(description="`apidae`, or who a person said they are.")
    note: str = Field(description="Why.")
    decided_until: OptionalTime = Field(description="When a decision ends and the finding opens again; null: never.")
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
    """One page of findings."""

    items: tuple[FindingModel, ...]
    next_cursor: str | None
    total: int


class FindingGroupModel(Model):
    """All findings of one rule."""

    rule: str
    title: str
    severity: Severity = Field(description="The worst of them.")
    owasp: str
    advice: str
    findings: int
    by_severity: dict[str, int]
    by_state: dict[str, int]
    endpoints: int
    services: tuple[str, ...] = Field(description=f"At most {SERVICES_SHOWN}, by name.")
    services_total: int
    first_seen: Time
    last_seen: Time


class FindingGroupPageModel(Model):
    """One page of rules with findings."""

    items: tuple[FindingGroupModel, ...]
    next_cursor: str | None
    total: int


class FindingChangeModel(Model):
    """One change of a finding's state."""

    time: Time
    state: FindingState
    actor: str
    note: str
    decision_id: str = Field(description="Undoes it; empty where no person decided it.")


class FindingDetailModel(Model):
    """One finding with its history, newest first."""

    finding: FindingModel
    changes: tuple[FindingChangeModel, ...]


class Decision(ActionBody):
    """What a person says of a finding."""

    state: Word[FindingState]
    note: Text = Field(min_length=1, max_length=NOTE_CHARACTERS_MAX, description="Why.")
    seconds: int | None = Field(
        default=None,
        ge=60,
        le=DECISION_SECONDS_MAX,
        description="How long it holds; then the finding opens again. Default: until the evidence grows.",
    )


def _make_filters_body() -> type[Body]:
    """The filters of the list as a body: strict JSON, with words as strings."""
    fields: dict[str, Any] = {
        name: (Annotated[info.annotation, *info.metadata, Strict(not list_members(info))], Field(default=info.default))
        for name, (info, _) in FindingFilters.list_filters().items()
    }
    return create_model("FiltersBody", __base__=Body, __module__=__name__, __doc__="Which findings.", **fields)


FiltersBody = _make_filters_body()


class BulkDecisionBody(Decision):
    """What a person says of many findings: name `ids`, or `filters` with at least one of them."""

    ids: Items[Text] = Field(default=(), max_length=BULK_MAX)
    filters: FiltersBody | None = None  # type: ignore[valid-type]
    expected: int | None = Field(
        default=None, ge=0, description="How many findings you were shown; 409 where it is another number."
    )


class BulkDecidedModel(Model):
    """A decision that was written."""

    id: str = Field(description="Undoes it.")
    decided: tuple[str, ...] = Field(description="Ids of the findings that changed.")
    unchanged: int = Field(description="That were in that state already or, of an undo, were decided on since.")


def build_risk_routes(*, risks: RiskAssessor, clock: Callable[[], float]) -> APIRouter:
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
        """Findings, the worst first."""
        return FindingPageModel.model_validate(table.list_findings(query))

    @router.get("/findings/groups", summary="List findings by rule")
    def list_groups(query: Annotated[FindingGroupQuery, Query()]) -> FindingGroupPageModel:
        """One line for each rule with its findings, the worst first."""
        return FindingGroupPageModel.model_validate(table.list_groups(query))

    @router.post("/findings/decisions", summary="Decide on many findings")
    def decide_all(body: BulkDecisionBody) -> BulkDecidedModel:
        """The same word on each of the findings, with one reason. Each finding has a change of its own in its history,
        and the id of the decision undoes all of them."""
        return BulkDecidedModel.model_validate(risks.decide_all(_read_wish(body, clock()), by=body.by))

    @router.post("/findings/decisions/{decision_id}/undo", summary="Undo a decision on findings")
    def undo_decision(decision_id: str, body: ActionBody) -> BulkDecidedModel:
        """Each finding gets the state from before the decision, unless something else was decided since."""
        undone = risks.undo(decision_id, by=body.by)
        if undone is None:
            raise Problem(
                404,
                f"There is no decision {show(decision_id)}; the changes in /api/v1/findings/ID name theirs.",
            )
        return BulkDecidedModel.model_validate(undone)

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
        finding = risks.decide(
            finding_id, decision.state, by=decision.by, note=decision.note, until=_find_end(decision, clock())
        )
        if finding is None:
            raise _refuse(finding_id)
        return FindingModel.model_validate(finding)

    return router


def _find_end(decision: Decision, now: float) -> float:
    """Until when it holds; 0 where it has no end. Only what keeps a finding from being open ends."""
    if decision.seconds is None:
        return 0.0
    if decision.state not in ENDING:
        raise Problem(422, f"The field 'seconds' is of {' and '.join(ENDING)} alone; send it without.")
    return now + decision.seconds


def _read_wish(body: BulkDecisionBody, now: float) -> BulkDecision:
    asked: dict[str, Any] = body.filters.model_dump() if body.filters is not None else {}
    chosen = {name: value for name, value in asked.items() if value}
    if bool(body.ids) == bool(chosen):
        raise Problem(422, "Name the findings by 'ids' or by 'filters' with at least one filter; send one of both.")
    return BulkDecision(
        state=body.state,
        note=body.note,
        ids=tuple(dict.fromkeys(body.ids)),
        filters=FindingFilters(**chosen),
        expected=body.expected,
        until=_find_end(body, now),
    )


def _refuse(finding_id: str) -> Problem:
    return Problem(404, f"There is no finding {show(finding_id)}; look it up in /api/v1/findings.")
