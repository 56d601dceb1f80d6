"""/calls: calls by minute or hour of one endpoint, one caller, or both, and the evidence of an alert."""

from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from collector.api.base_model import Model, ObjectsModel, Ratio, Time, with_figures
from collector.api.parameters import CallParameters
from collector.api.problem import Problem, show
from collector.core.rates import compute_rate
from collector.inventory.endpoints.bodies import BodySide, DataClass
from collector.inventory.evidence.calls import CallInventory, CallPage, CallQuestion, Resolution
from collector.inventory.evidence.cohort import Crowd, TraitKind, describe_trait
from collector.inventory.evidence.evidence import AlertEvidence
from collector.inventory.evidence.explanation import ExpectedFrom, Explanation
from collector.schemas.kinds import find_fields
from collector.schemas.service import NOTHING_KNOWN, EndpointSchema
from collector.storage.columns import UsedBy


@with_figures(UsedBy.CALLS)
class CallSumsModel(ObjectsModel):
    """What was counted in [start, end)."""

    start: Time
    end: Time
    calls: int
    client_errors: int = Field(description="4xx.")
    errors: int = Field(description="5xx, or no answer.")
    not_read: int = Field(description="Nobody saw how they ended; they are no errors.")
    credentials: int = Field(description="Distinct ones, as `objects`.")
    numeric_calls: int = Field(description="To objects that numbers name.")
    monotonic_steps: int = Field(description="Of these, to the number right after or before the caller's last one.")
    numeric_span: int = Field(description="The most between two numbers within one window of a sensor (10 s).")


class CallPageModel(Model):
    """Rows with calls, oldest first, and the sums of all pages."""

    resolution: Resolution
    resolution_seconds: int
    total: CallSumsModel
    items: tuple[CallSumsModel, ...]
    next_cursor: str | None


class EvidenceRequestModel(Model):
    """The question that gives the same rows."""

    path: str
    parameters: dict[str, str]


class TraitModel(Model):
    """What many of the window's callers have in common. Shares are of calls."""

    kind: TraitKind
    value: str
    calls: int
    consumers: int
    new_consumers: int = Field(description="Of them, without a call in the hour before.")
    share: Ratio
    share_before: Ratio = Field(description="In the hour before the window.")
    sentence: str


class CrowdModel(Model):
    """Who called an endpoint in the window, against the hour before."""

    calls: int
    calls_before: int
    consumers: int
    new_consumers: int = Field(description="Without a call in the hour before.")
    new_calls: int = Field(description="Theirs.")
    traits: tuple[TraitModel, ...] = Field(description="What is shared now and was not before, the most shared first.")


class AlertPointModel(Model):
    """One step of the series."""

    start: Time
    calls: int
    observed: float | None = Field(description="In the unit of the series; null: no call says it.")
    expected: float | None
    limit: float | None


class AlertSeriesModel(Model):
    """Observed against expected, from an hour before the alert to ten minutes after what was seen last."""

    unit: str
    step_seconds: int
    expected_from: ExpectedFrom = Field(
        description="`detector`: the expected value that the alert keeps; `day_before`: the same subject a day earlier."
    )
    points: tuple[AlertPointModel, ...]


class TouchedObjectsModel(Model):
    """Which objects the calls of the window took."""

    objects: int
    is_estimate: bool
    numeric_calls: int = Field(description="To objects that numbers name.")
    steps: int = Field(description="Of these, to the number right after or before the caller's last one.")
    is_in_order: bool
    named: int = Field(description="Distinct objects of the caller in rows of minutes, which name 256 each.")
    known_before: int = Field(description="Of these, taken by the caller in the hour before.")
    of_others: int = Field(description="Of these, taken by others alone in the hour before and since.")
    sentence: str


class FoundDataModel(Model):
    """A kind of sensitive data in sampled calls."""

    kind: str
    data_class: DataClass
    side: BodySide
    calls: int = Field(description="Sampled calls that held it there.")
    share: Ratio = Field(description="Of the calls whose place was read.")
    fields: tuple[str, ...] = Field(
        description="Of the endpoint's bodies, where name or format says so; no value leaves a node."
    )


class ExplanationModel(Model):
    """Why the alert was raised. Calls of the window by value, the ten most frequent."""

    series: AlertSeriesModel
    statuses: dict[str, int] = Field(description="What the calls were answered: `2xx`, `4xx`, `aborted`, `not read`.")
    objects: TouchedObjectsModel | None = Field(description="null where no call named an object.")
    softwares: dict[str, int]
    addresses: dict[str, int]
    workloads: dict[str, int]
    data: tuple[FoundDataModel, ...] = Field(description="Most found first; of a day where data is what it is about.")


class EvidenceModel(Model):
    """The rows behind one alert."""

    alert_id: str
    unit: str = Field(description="Of the next three: `calls a second`, or what the alert's kind counts.")
    observed: float | None = Field(description="null: it is in the alert's words only.")
    expected: float | None
    limit: float | None
    resolution: Resolution | None = Field(description="null where the alert is about no calls.")
    resolution_seconds: int | None
    request: EvidenceRequestModel | None
    window: CallSumsModel | None = Field(description="Sum of all rows that the window of the alert touches.")
    window_calls_per_second: float | None = Field(
        description="Of volume alerts whose window ends where rows do. While it goes on, of the time passed."
    )
    is_aligned: bool = Field(description="The window of the alert begins and ends where rows do.")
    notes: tuple[str, ...] = Field(description="How far the rows go, in sentences.")
    crowd: CrowdModel | None = Field(
        description="On the first page, where an endpoint alone is named and rows are of minutes."
    )
    explanation: ExplanationModel | None = Field(description="On the first page, where the alert is about calls.")
    items: tuple[CallSumsModel, ...] = Field(description="Rows with calls, oldest first.")
    next_cursor: str | None


def view_calls(page: CallPage, resolution: Resolution) -> CallPageModel:
    """A page; no next page is null."""
    return CallPageModel(
        resolution=resolution,
        resolution_seconds=resolution.seconds,
        total=CallSumsModel.model_validate(page.total),
        items=tuple(CallSumsModel.model_validate(item) for item in page.items),
        next_cursor=page.next_cursor or None,
    )


def view_evidence(
    alert_id: str, evidence: AlertEvidence, read_schema: Callable[[], EndpointSchema] = lambda: NOTHING_KNOWN
) -> EvidenceModel:
    """One page of it; the schema of its endpoint is read where data was found."""
    question, page, window = evidence.question, evidence.page, evidence.window
    rate = compute_rate(window.calls, evidence.window_seconds) if window is not None and evidence.is_aligned else None
    return EvidenceModel(
        alert_id=alert_id,
        unit=evidence.unit,
        observed=evidence.observed,
        expected=evidence.expected,
        limit=evidence.limit,
        resolution=question.resolution if question is not None else None,
        resolution_seconds=question.resolution.seconds if question is not None else None,
        request=_write_request(question) if question is not None else None,
        window=CallSumsModel.model_validate(window) if window is not None else None,
        window_calls_per_second=rate,
        is_aligned=evidence.is_aligned,
        notes=evidence.notes,
        crowd=_view_crowd(evidence.crowd) if evidence.crowd is not None else None,
        explanation=_view_explanation(evidence.explanation, read_schema) if evidence.explanation is not None else None,
        items=tuple(CallSumsModel.model_validate(item) for item in page.items) if page is not None else (),
        next_cursor=(page.next_cursor or None) if page is not None else None,
    )


def _view_explanation(explanation: Explanation, read_schema: Callable[[], EndpointSchema]) -> ExplanationModel:
    found = explanation.bodies.data if explanation.bodies is not None else ()
    fields = find_fields(read_schema(), [one.kind for one in found]) if found else {}
    objects = explanation.objects
    return ExplanationModel(
        series=AlertSeriesModel.model_validate(explanation.series),
        statuses=dict(explanation.statuses),
        objects=TouchedObjectsModel(**asdict(objects), sentence=objects.describe()) if objects is not None else None,
        softwares=dict(explanation.softwares),
        addresses=dict(explanation.addresses),
        workloads=dict(explanation.workloads),
        data=tuple(FoundDataModel(**asdict(one), fields=fields.get(one.kind, ())) for one in found),
    )


def _view_crowd(crowd: Crowd) -> CrowdModel:
    """With what is shared in words."""
    own = {name: getattr(crowd, name) for name in CrowdModel.model_fields if name != "traits"}
    traits = tuple(TraitModel(**asdict(trait), sentence=describe_trait(trait)) for trait in crowd.traits)
    return CrowdModel(**own, traits=traits)


def _write_request(question: CallQuestion) -> EvidenceRequestModel:
    """As somebody would ask it."""
    parameters = {
        "endpoint": question.endpoint_id,
        "consumer": question.consumer.id if question.consumer is not None else "",
        "address": question.address,
        "whole_service": "true" if question.whole_service else "",
        "start": _write_time(question.start),
        "end": _write_time(question.end),
        "resolution": question.resolution.value,
    }
    return EvidenceRequestModel(
        path="/api/v1/calls", parameters={name: value for name, value in parameters.items() if value}
    )


def _write_time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def build_call_routes(*, calls: CallInventory) -> APIRouter:
    """Routes that read calls by time."""
    router = APIRouter(prefix="/calls", tags=["inventory"])

    @router.get("", summary="List calls by minute or hour")
    def list_calls(parameters: Annotated[CallParameters, Query()]) -> CallPageModel:
        """Rows with calls of an endpoint, a consumer or an address, or of all that are given at once, as the detectors
        count them: those that a server's sensor saw, proxies aside."""
        if not (parameters.endpoint or parameters.consumer or parameters.address):
            raise Problem(422, "No endpoint, consumer or address is named; name at least one of them.")
        if parameters.software and parameters.resolution is not Resolution.MINUTE:
            raise Problem(422, "Rows of hours know no client software; use the resolution 'minute'.")
        if parameters.end <= parameters.start:
            raise Problem(422, f"The parameter 'end' is {show(str(parameters.end))}; use a time after 'start'.")
        question = parameters.question()
        return view_calls(calls.list_calls(question), question.resolution)

    return router
