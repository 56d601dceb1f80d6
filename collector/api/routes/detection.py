"""/detection: how much is told, what is known to be good, who decided so; and verdicts on alerts."""

from collections.abc import Callable
from typing import Annotated, Protocol

from fastapi import APIRouter, Query

from collector.alerts.alert import Alert, Verdict
from collector.alerts.detection import Detection
from collector.alerts.detection_table import RuleHits
from collector.alerts.known_good import KnownGood
from collector.api.alert_models import AlertModel
from collector.api.detection_models import (
    DecisionListModel,
    DecisionModel,
    KnownGoodBody,
    KnownGoodListModel,
    KnownGoodModel,
    SensitivityBody,
    SensitivityModel,
    VerdictBody,
)
from collector.api.parameters import ActionBody, NoParameters
from collector.api.problem import Problem, show


class VerdictTaker(Protocol):
    """The alert desk, as far as these routes use it."""

    def give_verdict(self, alert_id: str, *, by: str, verdict: Verdict) -> Alert | None:
        """The alert as it is after; None where there is none."""
        ...


def build_detection_routes(*, detection: Detection, verdicts: VerdictTaker, clock: Callable[[], float]) -> APIRouter:
    """Routes that tell of detection and set it."""
    router = APIRouter(tags=["detection"])

    @router.get("/detection/sensitivity", summary="Show the level, and what each level would have told")
    def get_sensitivity(_: Annotated[NoParameters, Query()]) -> SensitivityModel:
        """Computed from what the detectors reported in the last 14 days at the most."""
        return SensitivityModel.model_validate(detection.describe())

    @router.post("/detection/sensitivity", summary="Choose the level")
    def set_sensitivity(body: SensitivityBody) -> SensitivityModel:
        """From now on, over restarts, until the setting itself is changed."""
        detection.choose(body.level, by=body.by)
        return SensitivityModel.model_validate(detection.describe())

    @router.get("/detection/known-good", summary="List known-good rules")
    def list_known_good(_: Annotated[NoParameters, Query()]) -> KnownGoodListModel:
        """Rules, newest first, with what each kept from being told."""
        return KnownGoodListModel(items=tuple(_view(rule, hits, clock()) for rule, hits in detection.list_rules()))

    @router.post("/detection/known-good", summary="Add a known-good rule")
    def add_known_good(body: KnownGoodBody) -> KnownGoodModel:
        """What it names raises no alert until it expires; it is counted."""
        try:
            rule = detection.add_rule(
                by=body.by,
                note=body.note,
                seconds=body.seconds,
                consumer=body.consumer,
                network=body.network,
                workload=body.workload,
                endpoint_id=body.endpoint_id,
                kind=body.kind.value if body.kind is not None else "",
            )
        except ValueError as error:
            raise Problem(422, f"{str(error)[:1].upper()}{str(error)[1:]}.") from None
        return _view(rule, None, clock())

    @router.post("/detection/known-good/{rule_id}/end", summary="End a known-good rule")
    def end_known_good(rule_id: str, body: ActionBody) -> KnownGoodModel:
        """Its subjects are told again."""
        return _view(detection.end_rule(rule_id, by=body.by), None, clock())

    @router.get("/detection/decisions", summary="List who changed what")
    def list_decisions(_: Annotated[NoParameters, Query()]) -> DecisionListModel:
        """Changes of the level and of rules, newest first."""
        return DecisionListModel(items=tuple(DecisionModel.model_validate(one) for one in detection.list_decisions()))

    @router.post("/alerts/{alert_id}/verdict", summary="Say what an alert was")
    def give_verdict(alert_id: str, body: VerdictBody) -> AlertModel:
        """`false_alarm`: its subject raises nothing more up to 1.5 times this. `confirmed`: for 7 days what this
        consumer does is told at every level, one severity higher. Empty takes either back."""
        alert = verdicts.give_verdict(alert_id, by=body.by, verdict=body.verdict)
        if alert is None:
            raise Problem(404, f"There is no alert {show(alert_id)}; look it up in /api/v1/alerts.")
        return AlertModel.model_validate(alert)

    return router


def _view(rule: KnownGood, hits: RuleHits | None, now: float) -> KnownGoodModel:
    names = [name for name in KnownGoodModel.model_fields if hasattr(rule, name)]
    return KnownGoodModel.model_validate(
        {name: getattr(rule, name) for name in names}
        | {
            "is_in_force": rule.holds(now),
            "reports": hits.reports if hits else 0,
            "subjects": hits.subjects if hits else 0,
            "last_at": hits.last_at if hits else None,
        }
    )
