"""Validates what clients ask for, once: query parameters and bodies become the domain's questions.

Unknown names are refused.
"""

import re
from datetime import MAXYEAR, MINYEAR, UTC, date, datetime
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, AwareDatetime, BeforeValidator, ConfigDict, Field, Strict

from collector.inventory.consumers.consumer import CONSUMER_VALUE_CHARACTERS_MAX, parse_consumer
from collector.inventory.evidence.calls import CallQuestion, Resolution
from collector.inventory.filters import LIMIT_MAX, CursorWord, Limit, Parameters, SpanParameters, Text
from collector.trust.principal import NO_CREDENTIAL, find_principal

DateT = TypeVar("DateT", bound=date)
ItemT = TypeVar("ItemT")

MUTE_SECONDS_MAX = 90 * 86_400  # Longer than that is `expected`.
ACTOR_CHARACTERS_MAX = 200
NOTE_CHARACTERS_MAX = 1_000
# What the store takes for a time ends early in 2106.
YEAR_MIN, YEAR_MAX = 1970, 2105
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}\Z")
_DATE_AND_TIME = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]")


def _check_date(value: Any) -> Any:
    """pydantic takes a number for a day, too, or for seconds."""
    if isinstance(value, str) and not _DATE.match(value):
        raise ValueError("use a date like 2026-10-01")
    return value


def _check_date_and_time(value: Any) -> Any:
    if isinstance(value, str) and not _DATE_AND_TIME.match(value):
        raise ValueError("use a time like 2026-11-26T15:00:00Z")
    return value


def _check_year(value: DateT) -> DateT:
    day = value.astimezone(UTC) if isinstance(value, datetime) and MINYEAR < value.year < MAXYEAR else value
    if not YEAR_MIN <= day.year <= YEAR_MAX:
        raise ValueError(f"use a year from {YEAR_MIN} to {YEAR_MAX}")
    return value


AskedDay = Annotated[date, BeforeValidator(_check_date), AfterValidator(_check_year)]
AskedTime = Annotated[AwareDatetime, BeforeValidator(_check_date_and_time), AfterValidator(_check_year)]
# Of bodies, which are strict: JSON writes a word as a string, and several values as a list.
Word = Annotated[ItemT, Strict(False)]
Items = Annotated[tuple[ItemT, ...], Strict(False)]


class CallParameters(Parameters):
    """Whose calls, from when to when, and the page."""

    endpoint: Text = Field(default="", max_length=CONSUMER_VALUE_CHARACTERS_MAX, description="An endpoint's id.")
    consumer: Text = Field(default="", max_length=CONSUMER_VALUE_CHARACTERS_MAX + 20, description="`kind:value`.")
    address: Text = Field(
        default="", max_length=60, description="Where calls came from, whoever the consumer is.", examples=["192.0.2.1"]
    )
    whole_service: bool = Field(default=False, description="All endpoints of the endpoint's service.")
    software: Text = Field(
        default="",
        max_length=CONSUMER_VALUE_CHARACTERS_MAX,
        description="Client software, as the evidence of an alert and `calls_by_software` of a consumer name it; by "
        "minute only.",
        examples=["python-requests 5c2e91d0"],
    )
    start: AskedTime = Field(description="From the row that holds this time.", examples=["2026-11-26T15:00:00Z"])
    end: AskedTime = Field(description="To the row before this time.", examples=["2026-11-26T16:00:00Z"])
    resolution: Resolution = Field(
        default=Resolution.MINUTE, description="How long a row is: minutes are kept for 48 h, hours for 90 days."
    )
    limit: Limit = LIMIT_MAX
    cursor: CursorWord = ""

    def question(self) -> CallQuestion:
        """As the inventory takes it. Raises ConsumerError."""
        seconds = self.resolution.seconds
        return CallQuestion(
            start=int(self.start.timestamp()) // seconds * seconds,
            end=-(-int(self.end.timestamp()) // seconds) * seconds,
            resolution=self.resolution,
            endpoint_id=self.endpoint,
            consumer=parse_consumer(self.consumer) if self.consumer else None,
            address=self.address,
            whole_service=self.whole_service,
            software=self.software,
            limit=self.limit,
            cursor=self.cursor,
        )


class EvidenceParameters(Parameters):
    """The page."""

    limit: Limit = LIMIT_MAX
    cursor: CursorWord = ""


class CoverageHistoryParameters(SpanParameters):
    """Of which node, and how far back."""

    node: Text = Field(default="", max_length=300, description="Exactly this node; default all.")


class NoParameters(Parameters):
    """For routes that take none."""


def name_actor(asked_by: str = "", credential: str = "") -> str:
    """Who does what the current request asks for, as kept: its principal, or the name of a stronger credential that it
    shows; behind it in whose name, which is only said."""
    principal = find_principal()
    actor = credential or (NO_CREDENTIAL if principal is None else principal.actor)
    return f"{actor}, asked by {asked_by}" if asked_by else actor


class Body(Parameters):
    """JSON as it is: `true` is no number, and `"1"` is none."""

    model_config = ConfigDict(strict=True)


class ActionBody(Body):
    """What somebody does. Who that is says the credential."""

    asked_by: Text = Field(
        default="",
        max_length=ACTOR_CHARACTERS_MAX,
        description="In whose name, as free text; it is kept behind the name of the credential.",
        examples=["ada"],
    )

    @property
    def by(self) -> str:
        """Who acts, as kept."""
        return name_actor(self.asked_by)


class SilenceBody(ActionBody):
    """Why nobody is to hear of it."""

    reason: Text = Field(default="", max_length=NOTE_CHARACTERS_MAX, description="Why, for the others.")


class MuteBody(SilenceBody):
    """Mute until an expiry."""

    seconds: int = Field(
        ge=60, le=MUTE_SECONDS_MAX, description="How long to stay silent about this subject.", examples=[3_600]
    )
