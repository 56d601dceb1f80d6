"""/detection: the level with a preview of each, known-good rules, decisions, and verdicts on alerts."""

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import Field

from collector.alerting.alert import AlertKind, Verdict
from collector.alerting.detection import Detection, RuleHits
from collector.alerting.service import AlertService
from collector.alerting.silences import SECONDS_DEFAULT, SECONDS_MAX, KnownGood
from collector.api.alerts import AlertModel, require_alert
from collector.api.base_model import Model, Time
from collector.api.parameters import NOTE_CHARACTERS_MAX, ActionBody, NoParameters, Word
from collector.api.problem import Problem
from collector.core.kinds import Sensitivity
from collector.inventory.consumers.consumer import CONSUMER_VALUE_CHARACTERS_MAX
from collector.inventory.filters import Text

_Name = Annotated[Text, Field(max_length=CONSUMER_VALUE_CHARACTERS_MAX)]


class LevelPreviewModel(Model):
    """What one level would have sent of what was reported lately."""

    level: Sensitivity
    budget_a_day: float = Field(description="Of alerts below high severity.")
    alerts_a_day: float = Field(description="That would have opened, those of high severity among them.")
    high_a_day: float = Field(description="Of those, of high severity: no budget holds them back.")
    suppressed_a_day: float = Field(description="Past the budget: counted, not sent.")


class SensitivityModel(Model):
    """The level, where it comes from, and what each level would have sent here."""

    level: Sensitivity
    configured: Sensitivity = Field(description="The setting `sensitivity`.")
    changed_at: Time | None = Field(description="When another level was chosen at run time; null: the setting holds.")
    changed_by: str
    history_seconds: float = Field(description="How far back the previews reach, 14 days at the most.")
    previews: tuple[LevelPreviewModel, ...]


class SensitivityBody(ActionBody):
    """The level to use from now on."""

    level: Word[Sensitivity]


class KnownGoodModel(Model):
    """A rule: what it names raises no alert until it expires."""

    id: str
    note: str
    consumer: str
    network: str
    workload: str
    endpoint_id: str
    kind: str
    created_at: Time
    created_by: str
    expires_at: Time
    ended_at: Time | None
    ended_by: str
    is_in_force: bool
    reports: int = Field(description="Reports of detectors that it suppressed in the last 30 days.")
    subjects: int = Field(description="Of so many different subjects.")
    last_at: Time | None


class KnownGoodListModel(Model):
    """Rules, newest first."""

    items: tuple[KnownGoodModel, ...]


class KnownGoodBody(ActionBody):
    """A new rule: all that it names must hold."""

    note: Text = Field(min_length=1, max_length=NOTE_CHARACTERS_MAX, description="Why, for the others.")
    consumer: _Name = Field(default="", description="`kind:value`, as in /consumers.")
    network: _Name = Field(default="", description="Of consumers named by address.", examples=["198.51.100.0/24"])
    workload: _Name = Field(default="", description="Of consumers named by workload; * and ? stand for anything.")
    endpoint_id: _Name = ""
    kind: Word[AlertKind] | None = None
    seconds: int = Field(default=SECONDS_DEFAULT, ge=60, le=SECONDS_MAX, description="Until it expires.")


class VerdictBody(ActionBody):
    """What somebody found out about an alert; empty takes it back."""

    verdict: Word[Verdict]
    note: Text = Field(default="", max_length=NOTE_CHARACTERS_MAX, description="What it was, for the others.")


class DecisionModel(Model):
    """Who changed what of the detection."""

    time: Time
    actor: str
    action: str
    subject: str
    note: str


class DecisionListModel(Model):
    """The newest 500 of 400 days."""

    items: tuple[DecisionModel, ...]


def build_detection_routes(*, detection: Detection, verdicts: AlertService, clock: Callable[[], float]) -> APIRouter:
    """Routes that show detection and set it."""
    router = APIRouter(tags=["detection"])

    @router.get("/detection/sensitivity", summary="Show the level, and what each level would have sent")
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
        """Rules, newest first, with what each suppressed."""
        return KnownGoodListModel(items=tuple(_view(rule, hits, clock()) for rule, hits in detection.list_rules()))

    @router.post("/detection/known-good", summary="Add a known-good rule")
    def add_known_good(body: KnownGoodBody) -> KnownGoodModel:
        """What it names raises no alert until it expires; it is counted."""
        try:
            rule = detection.add_rule(by=body.by, **{**body.model_dump(exclude={"asked_by"}), "kind": body.kind or ""})
        except ValueError as error:
            raise Problem(422, f"{str(error)[:1].upper()}{str(error)[1:]}.") from None
        return _view(rule, None, clock())

    @router.post("/detection/known-good/{rule_id}/end", summary="End a known-good rule")
    def end_known_good(rule_id: str, body: ActionBody) -> KnownGoodModel:
        """Its subjects raise alerts again."""
        return _view(detection.end_rule(rule_id, by=body.by), None, clock())

    @router.get("/detection/decisions", summary="List who changed what")
    def list_decisions(_: Annotated[NoParameters, Query()]) -> DecisionListModel:
        """Changes of the level and of rules, newest first."""
        return DecisionListModel(items=tuple(DecisionModel.model_validate(one) for one in detection.list_decisions()))

    @router.post("/alerts/{alert_id}/verdict", summary="Say what an alert was")
    def give_verdict(alert_id: str, body: VerdictBody) -> AlertModel:
        """`false_alarm`: its subject raises nothing more up to 1.5 times this. `confirmed`: for 7 days what this
        consumer does is sent at every level, one severity higher. Empty takes either back."""
        alert = verdicts.give_verdict(alert_id, by=body.by, verdict=body.verdict, note=body.note)
        return AlertModel.model_validate(require_alert(alert, alert_id))

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
