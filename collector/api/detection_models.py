"""Detection as clients see it: the level and what each would have told, known-good rules, decisions."""

from typing import Annotated

from pydantic import Field

from collector.alerts.alert import AlertKind, Verdict
from collector.alerts.known_good import SECONDS_DEFAULT, SECONDS_MAX
from collector.api.base_model import Model, Time
from collector.api.parameters import NOTE_CHARACTERS_MAX, ActionBody, Text, Word
from collector.inventory.consumer import CONSUMER_VALUE_CHARACTERS_MAX
from collector.sensitivity import Sensitivity

_Name = Annotated[Text, Field(max_length=CONSUMER_VALUE_CHARACTERS_MAX)]


class PreviewModel(Model):
    """What one level would have told of what was reported lately."""

    level: Sensitivity
    budget_a_day: float = Field(description="Of alerts below high severity.")
    alerts_a_day: float = Field(description="That would have opened, those of high severity among them.")
    high_a_day: float = Field(description="Of those, of high severity: no budget holds them back.")
    suppressed_a_day: float = Field(description="Past the budget: counted, not told.")


class SensitivityModel(Model):
    """The level, where it comes from, and what each level would have told here."""

    level: Sensitivity
    configured: Sensitivity = Field(description="The setting `sensitivity`.")
    changed_at: Time | None = Field(description="When another level was chosen at run time; null: the setting holds.")
    changed_by: str
    history_seconds: float = Field(description="How far back the previews reach, 14 days at the most.")
    previews: tuple[PreviewModel, ...]


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
    reports: int = Field(description="Reports of detectors that it kept from being told in the last 30 days.")
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
